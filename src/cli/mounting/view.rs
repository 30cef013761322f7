//! The host's one mount of the browse view, from which sealed trees are bound.
//!
//! A FUSE mount keeps for itself what the kernel has read through it. So where mounts are
//! FUSE's, there is one beside the server's sockets, of all steps of all pockers, and
//! every read-only mount of a step is a bind mount of its directory there: what one of them
//! read is not read again by the next.
//!
//! Steps of large files have a second one, where the kernel reads those from the store by
//! itself. It has to ask for each open of a file there, which in the first it never does: a
//! mount is of the one kind or the other, and a tree of small files is better off in the first.

use super::{Chosen, is_mounted, record, utf8};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::control::Client;
use crate::control::api::{BROWSE_VIEW, Export};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use pocker_mount_helpers::{Cache, bind};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The view's export.
const EXPORT: &str = "/chroot";
/// The places at which the store of another host is shown, a line each.
const NOTED: &str = "places";

/// From this mean size of a step's files on, in bytes, opening them is a small part of
/// reading them.
const LARGE: u64 = 1 << 20;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Small,
    Large,
}

impl View {
    /// For a step of so many nodes and bytes in files.
    pub(super) fn of(nodes: u64, bytes: u64) -> View {
        if bytes / nodes.max(1) >= LARGE {
            View::Large
        } else {
            View::Small
        }
    }

    /// Where it is mounted: over TLS apart, so that who wants that is not given what was mounted before
    /// without.
    pub(super) fn dir(self, client: &Client, private: bool) -> PathBuf {
        let name = match (self, private) {
            (View::Small, false) => "view",
            (View::Large, false) => "view.large",
            (View::Small, true) => "view.tls",
            (View::Large, true) => "view.large.tls",
        };
        client.endpoint().view_dir().join(name)
    }

    fn cache(self) -> Cache {
        match self {
            View::Small => Cache::View,
            View::Large => Cache::LargeView,
        }
    }
}

/// Where the view shows an export, if it does.
pub(super) fn place(export: &Export) -> Option<&Path> {
    Path::new(&export.path).strip_prefix(EXPORT).ok()
}

/// Two commands would each find nothing there, and mount.
pub(super) fn lock(client: &Client) -> Result<Flock<File>, CliError> {
    let dir = client.endpoint().view_dir();
    make(&dir)?;
    let lock = dir.join("browse.lock");
    File::create(&lock)
        .and_then(|file| Ok(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e)?))
        .map_err(|e| CliError::from_error(format!("cannot lock {}", lock.display()), &e))
}

/// Mounts it unless it is there. The lock is held.
pub(super) fn show(view: View, chosen: &Chosen, client: &Client) -> Result<(), CliError> {
    let dir = view.dir(client, chosen.private());
    if is_served(&dir)? {
        return Ok(());
    }
    make(&dir)?;
    chosen.mount_at(client, &whole(), &dir, view.cache())?;
    record(client, &dir, BROWSE_VIEW)
}

/// Shows the browse view at its place unless it is there.
pub fn browse(settings: &Settings, client: &Client, at: &Path) -> Result<(), CliError> {
    let _held = lock(client)?;
    // Another host's may be there from before TLS was asked for.
    let chosen = match client.endpoint().remote {
        Some(_) => Some(Chosen::new(settings, client)?),
        None => None,
    };
    if is_served(at)? {
        return match &chosen {
            Some(chosen) if chosen.private() => as_private(&View::Small.dir(client, true), at),
            _ => Ok(()),
        };
    }
    make(at)?;
    let chosen = chosen.map_or_else(|| Chosen::new(settings, client), Ok)?;
    if chosen.helper.keeps_by_mount() {
        show(View::Small, &chosen, client)?;
        bind(&View::Small.dir(client, chosen.private()), at)?.leak();
    } else {
        chosen.mount_at(client, &whole(), at, Cache::View)?;
    }
    note(client, at)?;
    record(client, at, BROWSE_VIEW)
}

/// Whether what is mounted at `at` is what goes over TLS.
fn as_private(view: &Path, at: &Path) -> Result<(), CliError> {
    let device = |dir: &Path| nix::sys::stat::stat(dir).map(|stat| stat.st_dev);
    if is_mounted(view)? && device(view) == device(at) {
        return Ok(());
    }
    Err(CliError::new(format!(
        "{} is mounted without TLS, and NFS is to go over it",
        at.display()
    ))
    .hint(format!("`pocker umount {}`, and try again", at.display())))
}

/// Where this host shows another's store: that one has no record of it.
pub(super) fn noted(client: &Client) -> Vec<String> {
    let text = std::fs::read_to_string(client.endpoint().view_dir().join(NOTED));
    let text = text.unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn note(client: &Client, at: &Path) -> Result<(), CliError> {
    let mut all = noted(client);
    let at = utf8(at)?.to_owned();
    if client.endpoint().remote.is_none() || all.contains(&at) {
        return Ok(());
    }
    all.push(at);
    write(client, &all)
}

fn write(client: &Client, all: &[String]) -> Result<(), CliError> {
    let file = client.endpoint().view_dir().join(NOTED);
    std::fs::write(&file, all.join("\n"))
        .map_err(|e| CliError::from_error(format!("cannot write {}", file.display()), &e))
}

/// The view is shown there no more; the last place takes with it what it was bound from.
pub(super) fn forget(client: &Client, at: &str) -> Result<(), CliError> {
    let _held = lock(client)?;
    let mut all = noted(client);
    all.retain(|place| place != at);
    write(client, &all)?;
    if all.is_empty() {
        let all = [View::Small, View::Large].map(|view| [false, true].map(|tls| (view, tls)));
        for (view, private) in all.into_iter().flatten() {
            let dir = view.dir(client, private);
            if is_mounted(&dir)? {
                // Other mounts of steps keep what they need of it.
                let _ = crate::daemon::unmount(utf8(&dir)?);
            }
        }
    }
    Ok(())
}

fn whole() -> Export {
    Export {
        path: EXPORT.to_string(),
        read_only: true,
    }
}

fn make(dir: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(dir).map_err(|e| {
        CliError::from_error(
            format!("cannot make {} for the browse view", dir.display()),
            &e,
        )
    })
}

/// Whether the view is mounted there. A mount helper that was killed leaves a mount that
/// nobody serves: that one is unmounted.
fn is_served(dir: &Path) -> Result<bool, CliError> {
    if !is_mounted(dir)? {
        return Ok(false);
    }
    // Of all calls the one for which the kernel keeps no answer.
    match nix::sys::statvfs::statvfs(dir) {
        Err(Errno::ENOTCONN) => {
            crate::daemon::unmount(utf8(dir)?).map_err(|e| {
                CliError::from_error(format!("cannot unmount {}", dir.display()), &e)
            })?;
            Ok(false)
        }
        _ => Ok(true),
    }
}
