//! `pocker mount`, `umount`, and the mount helper's session for a sandbox.

mod afar;
mod told;
mod view;

use told::ByHand;
use view::View;
pub use view::browse;

use super::args::{Mount, Umount};
use super::config::Settings;
use super::error::CliError;
use super::transfer::{find_step, split_step};
use super::{ls, open, volume};
use crate::control::Client;
use crate::control::api::{Export, MountRecord, MountVolume, NewTree, Purpose, Status, VolumeUse};
use pocker_mount_helpers::{
    Cache, ChooseError, MountError, MountHelper, Request, RestartCommand, Server, Session, bind,
};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

impl From<MountError> for CliError {
    fn from(error: MountError) -> CliError {
        CliError::from_error("cannot mount", &error)
            .hint("`pocker doctor` says what this host can mount and what is missing")
    }
}

impl From<ChooseError> for CliError {
    fn from(error: ChooseError) -> CliError {
        CliError::from_error("cannot mount here", &error)
            .hint("`pocker doctor` says what this host can mount and what is missing")
    }
}

/// The listeners of this host's server, as mount helpers reach them.
pub fn listeners(status: &Status) -> Vec<Server> {
    let mut out = vec![Server::Unix(PathBuf::from(&status.nfs_socket))];
    if let Some(kernel) = &status.kernel
        && let Ok(addr) = kernel.addr.parse()
    {
        out.push(Server::Tcp {
            addr,
            netns: kernel.netns.as_ref().map(PathBuf::from),
        });
    }
    out
}

/// A mount helper at work, and what it leaves to its user.
pub struct Mounting {
    pub session: Box<dyn Session>,
    /// The server was started for a command, so it may be started again.
    pub auto: bool,
    /// The helper does that itself.
    pub restarts: bool,
}

/// The mount helper that was asked for, or the first that works here.
struct Chosen {
    helper: Box<dyn MountHelper>,
    server: Server,
    auto: bool,
}

impl Chosen {
    fn new(settings: &Settings, client: &Client) -> Result<Chosen, CliError> {
        let status = client.status()?;
        let named = settings.mount_helper.as_deref();
        let listeners = match &client.endpoint().remote {
            None => listeners(&status),
            Some(remote) => afar::listeners(settings, &status, remote)?,
        };
        let (helper, server) = pocker_mount_helpers::choose(named, &listeners)?;
        Ok(Chosen {
            helper,
            server,
            // Another host starts its own.
            auto: status.auto && client.endpoint().remote.is_none(),
        })
    }

    /// What is read over it nobody else reads.
    fn private(&self) -> bool {
        matches!(&self.server, Server::Host { tls: Some(tls), .. } if tls.required)
    }

    /// Restarts a server that was started for a command.
    fn session(&self, client: &Client) -> Result<Box<dyn Session>, CliError> {
        let restart = self.auto.then(|| RestartCommand {
            argv: client.endpoint().restart_command(),
        });
        Ok(self.helper.session(&self.server, restart)?)
    }

    fn mount_at(
        &self,
        client: &Client,
        export: &Export,
        target: &Path,
        cache: Cache,
    ) -> Result<(), CliError> {
        let mounted = self.session(client)?.mount(&Request {
            export: export.path.as_bytes(),
            target,
            read_only: export.read_only,
            nosuid: true,
            nodev: true,
            noexec: false,
            cache,
            outlives: true,
        })?;
        mounted.leak();
        Ok(())
    }
}

/// A session with the mount helper for one sandbox.
pub fn session(settings: &Settings, client: &Client) -> Result<Mounting, CliError> {
    let chosen = Chosen::new(settings, client)?;
    Ok(Mounting {
        auto: chosen.auto,
        restarts: chosen.helper.name() == "fuse",
        session: chosen.session(client)?,
    })
}

fn record(client: &Client, dir: &Path, what: &str) -> Result<(), CliError> {
    let target = utf8(dir)?.to_string();
    Ok(client.add_mount(&MountRecord {
        target,
        what: what.to_string(),
        tree: None,
        volume: None,
    })?)
}

fn utf8(dir: &Path) -> Result<&str, CliError> {
    dir.to_str().ok_or_else(|| {
        CliError::usage(format!(
            "{}: a mount point's path has to be UTF-8",
            dir.display()
        ))
    })
}

fn is_mounted(dir: &Path) -> Result<bool, CliError> {
    let mounted = crate::daemon::mounted()
        .map_err(|e| CliError::from_error("cannot list what is mounted", &e))?;
    Ok(mounted.iter().any(|m| m == dir.as_os_str().as_bytes()))
}

pub fn mount(settings: &Settings, args: &Mount) -> Result<(), CliError> {
    let client = open::server(settings)?;
    if let Some(volume) = &args.volume {
        return mount_volume(settings, &client, args, volume);
    }
    let Some(what) = &args.what else {
        return Err(CliError::usage("say what to mount"));
    };
    let (name, step) = split_step(what);
    let pocker = client.pocker(name)?.ok_or_else(|| ls::unknown(name))?;
    let step = find_step(&pocker, step)?;
    let dir = match &args.dir {
        Some(dir) if !args.print => {
            must_be_seen(&client)?;
            Some(mount_point(dir)?)
        }
        _ => None,
    };
    let mut tree = None;
    let export = if args.rw {
        let label = format!("mount of {what}");
        let pid = std::process::id();
        let new = NewTree {
            base: Some(step.snapshot.clone()),
            purpose: Purpose::Mount,
            label,
            pid,
        };
        let made = client.new_tree(&new)?;
        tree = Some(made.id);
        made.export
    } else {
        client.export_of(name, &step.key)?
    };
    if args.print {
        return ByHand::of(&client.status()?, &export).tell(args.json);
    }
    let Some(dir) = dir else {
        return Err(CliError::usage("say where to mount it"));
    };
    let record = MountRecord {
        target: utf8(&dir)?.to_string(),
        what: what.clone(),
        tree,
        volume: None,
    };
    let view = View::of(step.nodes, step.bytes);
    let done = mount_there(settings, &client, (&export, view), &record);
    if let (Err(_), Some(tree)) = (&done, tree) {
        client.drop_tree(tree)?;
    }
    done?;
    told::mounted(args.json, &record, export.read_only)
}

/// A mount that outlives its command is the server's to look after.
pub fn must_be_seen(client: &Client) -> Result<(), CliError> {
    let status = client.status()?;
    if status.sees_mounts {
        return Ok(());
    }
    let why =
        "the server is in another mount namespace and would not see what is mounted in this one";
    Err(CliError::new(why).hint(format!(
        "run it where the server is: nsenter -t {} -m pocker …",
        status.pid
    )))
}

/// A directory that nothing is mounted on.
fn mount_point(dir: &Path) -> Result<PathBuf, CliError> {
    let dir = std::fs::canonicalize(dir).map_err(|e| {
        CliError::from_error(format!("cannot mount on {}", dir.display()), &e)
            .hint(format!("make it first: mkdir -p {}", dir.display()))
    })?;
    if is_mounted(&dir)? {
        return Err(
            CliError::new(format!("something is mounted on {} already", dir.display()))
                .hint(format!("pocker umount {}", dir.display())),
        );
    }
    utf8(&dir)?;
    Ok(dir)
}

fn mount_there(
    settings: &Settings,
    client: &Client,
    (export, view): (&Export, View),
    record: &MountRecord,
) -> Result<(), CliError> {
    let dir = Path::new(&record.target);
    let chosen = Chosen::new(settings, client)?;
    match view::place(export) {
        Some(inside) if chosen.helper.keeps_by_mount() => {
            let _held = view::lock(client)?;
            view::show(view, &chosen, client)?;
            let view = view.dir(client, chosen.private());
            bind(&view.join(inside), dir)?.leak();
        }
        Some(_) => chosen.mount_at(client, export, dir, Cache::Sealed)?,
        None if record.volume.is_some() => {
            // Runs may read it beside this mount.
            chosen.mount_at(client, export, dir, Cache::Shared)?;
        }
        None => chosen.mount_at(client, export, dir, Cache::Exclusive)?,
    }
    client.add_mount(record).map_err(|refused| {
        // Before what it shows is given back: nothing would look after it.
        match crate::daemon::unmount(&record.target) {
            Ok(()) => refused.into(),
            Err(e) => CliError::from(refused).hint(format!(
                "{} stayed mounted ({e}): umount {}",
                record.target, record.target
            )),
        }
    })
}

/// `--volume NAME[:ro] DIR`: the place stands where a pocker's name would.
fn mount_volume(
    settings: &Settings,
    client: &Client,
    args: &Mount,
    volume: &str,
) -> Result<(), CliError> {
    let (name, read_only) = match volume.strip_suffix(":ro") {
        Some(name) => (name, true),
        None => (volume, false),
    };
    crate::build::validate_name(name, &[])?;
    let ask = |target: Option<&str>| {
        let how = MountVolume {
            target: target.map(str::to_string),
            pid: std::process::id(),
            read_only,
        };
        client.mount_volume(name, &how).map_err(volume::refused)
    };
    if args.print {
        return ByHand::of(&client.status()?, &ask(None)?).tell(args.json);
    }
    let Some(dir) = &args.what else {
        return Err(CliError::usage("say where to mount it")
            .hint(format!("pocker mount --volume {volume} DIR")));
    };
    let dir = mount_point(Path::new(dir))?;
    let record = MountRecord {
        target: utf8(&dir)?.to_string(),
        what: format!("volume {volume}"),
        tree: None,
        volume: Some(VolumeUse {
            name: name.to_string(),
            read_only,
        }),
    };
    let export = ask(Some(&record.target))?;
    // No view shows a volume.
    let view = View::of(0, 0);
    let done = mount_there(settings, client, (&export, view), &record);
    if done.is_err() {
        client.remove_mount(&record.target)?;
    }
    done?;
    told::mounted(args.json, &record, export.read_only)
}

pub fn umount(settings: &Settings, args: &Umount) -> Result<(), CliError> {
    let dir = std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone());
    let target = match utf8(&dir)?.trim_end_matches('/') {
        "" => "/",
        target => target,
    };
    let client = open::server(settings)?;
    let mounts = client.mounts()?;
    let views = match client.endpoint().remote {
        Some(_) => view::noted(&client),
        None => Vec::new(),
    };
    let is_view = |target: &str| views.iter().any(|view| view == target);
    let known = |target: &str| is_view(target) || mounts.iter().any(|m| m.target == target);
    // As `mount` took it. Not looked at before it must be: it may be a mount that is dead.
    let real = match known(target) {
        true => None,
        false => std::fs::canonicalize(target).ok(),
    };
    let target = real.as_deref().map_or(Ok(target), utf8)?;
    if !known(target) {
        return Err(CliError::new(format!("pocker mounted nothing on {target}"))
            .hint("umount(8) unmounts what others mounted"));
    }
    must_be_seen(&client)?;
    crate::daemon::unmount(target)
        .map_err(|e| CliError::from_error(format!("cannot unmount {target}"), &e))?;
    if is_view(target) {
        return view::forget(&client, target);
    }
    Ok(client.remove_mount(target)?)
}
