//! The grafter's side: what it does when it is asked.

use super::Setup;
use super::words::{Answer, Failure, Looked, Word, get, put};
use crate::daemon::export::handle::Codec;
use crate::daemon::export::read_only::ReadOnly;
use crate::daemon::export::{Alone, Grafts, Root};
use crate::daemon::patience::{FINDING, FINDS};
use crate::daemon::privileges;
use crate::sys::process;
use pocker_nfs::server::{Service, serve_elsewhere};
use pocker_nfs::vfs::Vfs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// Until the server is gone. This process has one thread.
pub fn attend(control: UnixStream, ends: Vec<UnixStream>, setup: &Setup) {
    // A file's mode is its maker's affair.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let _ = crate::daemon::sys::raise_descriptors();
    crate::daemon::sys::become_io_flusher();
    let confined = privileges::confine_grafter(&setup.below, &setup.kept);
    let confined = confined.map_err(|fault| io::Error::other(fault.to_string()));
    answer_all(control, ends, setup, confined);
}

/// The same without the process's own.
pub fn answer_all(
    mut control: UnixStream,
    ends: Vec<UnixStream>,
    setup: &Setup,
    confined: io::Result<()>,
) {
    let begun = get(&mut control).and_then(|word| match word {
        Word::Begin { key } => Ok(key),
        _ => Err(io::ErrorKind::InvalidData.into()),
    });
    let Ok(key) = begun else { return };
    let grafts = Grafts::new(Codec::of_grafts(key), setup.kept.clone());
    if setup.portable {
        grafts.be_portable();
    }
    let grafts = Arc::new(grafts);
    let served = confined.and_then(|()| serve(&grafts, ends, setup.read_only));
    let answer = served.map_or_else(failed, |()| Answer::Done);
    if put(&mut control, &answer).is_err() {
        return;
    }
    let mut open = None;
    while let Ok(word) = get(&mut control) {
        let answer = act(word, &grafts, setup, &mut open).unwrap_or_else(failed);
        if put(&mut control, &answer).is_err() {
            return;
        }
    }
}

fn failed(e: io::Error) -> Answer {
    Answer::Failed(Failure::new(&e))
}

/// A thread for each socket, as each call waits for the host's disk.
fn serve(grafts: &Arc<Grafts>, ends: Vec<UnixStream>, read_only: bool) -> io::Result<()> {
    let mut verifier = [0; 8];
    getrandom::fill(&mut verifier).map_err(io::Error::other)?;
    let alone = Alone::new(grafts.clone(), u64::from_ne_bytes(verifier));
    let vfs: Arc<dyn Vfs> = match read_only {
        true => Arc::new(ReadOnly(Arc::new(alone))),
        false => Arc::new(alone),
    };
    let service = Service::new(vfs);
    for end in ends {
        let service = service.clone();
        let thread = std::thread::Builder::new().name("graft".into());
        thread.spawn(move || {
            let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            if let Err(e) = serve_elsewhere(&service, end)
                && !gone.contains(&e.kind())
            {
                // Whoever asks there cannot go on.
                tracing::error!("calls on grafts cannot be answered any more: {e}");
                process::exit_now(1);
            }
        })?;
    }
    Ok(())
}

fn act(
    word: Word,
    grafts: &Arc<Grafts>,
    setup: &Setup,
    open: &mut Option<Root>,
) -> io::Result<Answer> {
    match word {
        // Once.
        Word::Begin { .. } => Err(io::ErrorKind::InvalidInput.into()),
        Word::Look { host } => {
            let below = setup.below.clone();
            let what = host.clone().into_bytes();
            let look = move || Looked::at(Path::new(&host), &below);
            FINDS.within(FINDING, &what, look).map(Answer::Looked)
        }
        Word::Open { host, patience } => {
            let (what, below) = (host.clone().into_bytes(), setup.below.clone());
            let (root, at) = FINDS.within(patience, &what, move || {
                let path = Path::new(&host);
                let root = Root::open(path)?;
                let at = Looked::directory(root.real(path)?, &below);
                Ok((root, at))
            })?;
            // Who asks may be anybody's by now.
            if !at.covered || at.real().starts_with(&setup.kept) {
                return Err(nix::errno::Errno::EACCES.into());
            }
            let mark = root.mark();
            *open = Some(root);
            Ok(Answer::Opened { mark, at })
        }
        Word::Serve { id, read_only } => {
            let root = open.take().ok_or(io::ErrorKind::InvalidInput)?;
            grafts.serve(id, root, read_only)?;
            let all = grafts.clone();
            let root = FINDS.within(FINDING, &id.to_be_bytes(), move || {
                Ok(all.root(id).ok_or(io::ErrorKind::NotFound)?)
            });
            if root.is_err() {
                // Nobody is told of it.
                grafts.remove(&[id]);
            }
            let root = root?.as_bytes().to_vec();
            Ok(Answer::Served { root })
        }
        Word::Expect { id } => {
            grafts.expect(id);
            Ok(Answer::Done)
        }
        Word::Close => {
            *open = None;
            Ok(Answer::Done)
        }
        Word::Remove { ids } => {
            grafts.remove(&ids);
            Ok(Answer::Done)
        }
        Word::Sweep => {
            grafts.sweep();
            Ok(Answer::Done)
        }
    }
}
