//! The grafter: a process of the server that serves directories of the host, and the only one that reaches them.
//!
//! There is one where the server was told which directories may be grafted (`--graft-below`; on OpenBSD always). It is forked
//! before anything is served and keeps root's rights over files, but no file is in its reach save those directories; the
//! process that speaks to clients and holds the store has neither. Calls on grafts come to it whole, as their clients sent
//! them ([`Channels`]); what is to be grafted it is told over a socket of its own. It ends with the server, and
//! the server leaves when it has ended.

mod attend;
#[cfg(test)]
pub mod tests;
mod words;

use super::export::Mark;
use super::tied::{self, Says};
use crate::sys::Fault;
use nix::sys::socket::SockType;
use parking_lot::{Mutex, MutexGuard};
use pocker_nfs::server::Channels;
use pocker_nfs::vfs::Fh;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use words::{Answer, Word, get, put};
pub use words::{Kind, Looked};

/// Calls on grafts that are under way at once: each may wait for a disk. More wait here.
const CALLS: usize = 64;

/// What it is for, said before it is trusted more than its asker.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Directories at or below which grafts may be.
    pub below: Vec<PathBuf>,
    /// Where it keeps where their files are.
    pub kept: PathBuf,
    pub read_only: bool,
    /// As on OpenBSD.
    pub portable: bool,
}

pub struct Grafter {
    control: Mutex<UnixStream>,
    /// `control` once more, to be told of its other end's.
    watched: OwnedFd,
    channels: Channels,
    roots: Mutex<HashMap<u64, Fh>>,
    /// It lives no longer than this is open.
    _tie: Option<OwnedFd>,
}

/// A directory that it has opened; none other is asked for meanwhile.
pub struct Opened<'a> {
    grafter: &'a Grafter,
    control: MutexGuard<'a, UnixStream>,
    pub mark: Mark,
    pub at: Looked,
}

/// The server's ends, and the grafter's.
struct Ends {
    control: UnixStream,
    calls: Vec<UnixStream>,
}

fn ends() -> Result<(Ends, Ends), Fault> {
    let pair = || {
        let (ours, its) = tied::sockets(SockType::Stream)?;
        Ok::<(UnixStream, UnixStream), Fault>((ours.into(), its.into()))
    };
    let (control, its) = pair()?;
    let mut calls = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let (ours, its) = pair()?;
        calls.0.push(ours);
        calls.1.push(its);
    }
    let ours = Ends {
        control,
        calls: calls.0,
    };
    let its = Ends {
        control: its,
        calls: calls.1,
    };
    Ok((ours, its))
}

impl Grafter {
    /// Starts it. The caller has one thread, and nothing yet that it should not have.
    pub fn start(setup: &Setup) -> Result<Grafter, Fault> {
        let (ours, its) = ends()?;
        let its_calls = its.calls.iter().map(AsRawFd::as_raw_fd);
        let keep: Vec<_> = its_calls.chain([its.control.as_raw_fd()]).collect();
        let tie = tied::start(&keep, Says::Log, || {
            attend::attend(its.control, its.calls, setup);
        })?;
        Grafter::with(ours, Some(tie))
    }

    fn with(ours: Ends, tie: Option<OwnedFd>) -> Result<Grafter, Fault> {
        let watched = ours.control.try_clone();
        let watched = watched.map_err(|e| Fault::new(format!("duplicate a socket: {e}")))?;
        Ok(Grafter {
            control: Mutex::new(ours.control),
            watched: watched.into(),
            channels: Channels::new(ours.calls),
            roots: Mutex::default(),
            _tie: tie,
        })
    }

    /// By this key it makes and knows handles.
    pub fn begin(&self, key: [u8; 16]) -> io::Result<()> {
        self.ask(&Word::Begin { key }).map(drop)
    }

    /// Who answers the calls on its handles.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    fn ask(&self, word: &Word) -> io::Result<Answer> {
        exchange(&mut self.control.lock(), word)
    }

    /// No call on a graft is answered any more, nor waits.
    pub fn close(&self) {
        self.channels.close();
        // Who waits for it there holds the lock of `control`.
        let _ =
            nix::sys::socket::shutdown(self.watched.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    pub fn look(&self, host: &str) -> io::Result<Looked> {
        let host = host.to_owned();
        match self.ask(&Word::Look { host })? {
            Answer::Looked(looked) => Ok(looked),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    pub fn open(&self, host: &str, patience: Duration) -> io::Result<Opened<'_>> {
        let host = host.to_owned();
        let mut control = self.control.lock();
        match exchange(&mut control, &Word::Open { host, patience })? {
            Answer::Opened { mark, at } => Ok(Opened {
                grafter: self,
                control,
                mark,
                at,
            }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    pub fn root(&self, id: u64) -> Option<Fh> {
        self.roots.lock().get(&id).copied()
    }

    pub fn remove(&self, ids: &[u64]) {
        let mut roots = self.roots.lock();
        roots.retain(|id, _| !ids.contains(id));
        drop(roots);
        let ids = ids.to_vec();
        if !ids.is_empty()
            && let Err(e) = self.ask(&Word::Remove { ids })
        {
            tracing::warn!("grafts are served on, though nobody has them: {e}");
        }
    }

    pub fn expect(&self, id: u64) {
        if let Err(e) = self.ask(&Word::Expect { id }) {
            tracing::warn!("nobody waits for a graft: {e}");
        }
    }

    pub fn sweep(&self) {
        if let Err(e) = self.ask(&Word::Sweep) {
            tracing::warn!("what is kept for grafts of before stays: {e}");
        }
    }

    /// Until it has ended.
    pub async fn ended(&self) {
        tied::hung_up("grafter", &self.watched).await;
    }
}

/// Makes or checks a folder in one that is the server's too: what it may have put there instead is refused.
pub fn make_kept(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let meta = std::fs::symlink_metadata(dir)?;
    match meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::other("it is no folder of this user's")),
    }
}

impl Opened<'_> {
    /// It is not served after all.
    pub fn close(mut self) {
        let _ = exchange(&mut self.control, &Word::Close);
    }

    /// It is served as graft `id` from here on.
    pub fn serve(mut self, id: u64, read_only: bool) -> io::Result<()> {
        match exchange(&mut self.control, &Word::Serve { id, read_only })? {
            Answer::Served { root } => {
                let root = Fh::new(&root).ok_or(io::ErrorKind::InvalidData)?;
                self.grafter.roots.lock().insert(id, root);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn exchange(control: &mut UnixStream, word: &Word) -> io::Result<Answer> {
    put(control, word)?;
    match get(control)? {
        Answer::Failed(failure) => Err(failure.error()),
        answer => Ok(answer),
    }
}
