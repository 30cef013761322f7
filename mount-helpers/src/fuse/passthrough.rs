//! Large files that the kernel reads by itself (FUSE passthrough): the server gives a
//! descriptor of the file in its store, and what is read through the mount is read from there:
//! no READ, and one copy in the page cache for whoever reads it, from whichever mount.
//!
//! All opens of a file that are open together must be of one kind, and with one backing
//! file (linux/fuse.h, FOPEN_PASSTHROUGH): the first of them decides.

use crate::sys;
use fuser::{BackingId, FileHandle, FopenFlags, ReplyOpen};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use parking_lot::Mutex;
use pocker_nfs::descriptors;
use pocker_nfs::vfs::Fh;
use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Mutex as Turn, OnceCell};

/// From this size on a file is large. Below it a descriptor costs more than reading does.
const LARGE: u64 = 256 << 10;

/// Files open at once that have a backing file; each holds one open in the kernel.
const BACKED_MAX: usize = 4096;

/// How long the server may take for a descriptor. Who opens can be answered without one.
const DEADLINE: Duration = Duration::from_secs(2);

/// The handle of an open that is counted here.
pub(crate) const COUNTED: FileHandle = FileHandle(1);

/// How the kernel reads a file while it is open: `None`: by asking for it.
type How = Arc<OnceCell<Option<BackingId>>>;

pub(crate) struct Passthrough {
    server: Descriptors,
    open: Mutex<HashMap<u64, (usize, How)>>,
    /// The kernel will not do it here: no privilege, or a store on a stacked file system.
    refused: AtomicBool,
}

impl Passthrough {
    /// `nfs`: the server's RPC socket.
    pub(crate) fn new(nfs: &Path) -> Passthrough {
        Passthrough {
            server: Descriptors::new(nfs),
            open: Mutex::default(),
            refused: AtomicBool::new(false),
        }
    }

    /// Whether an open of a file is worth being asked for.
    pub(crate) fn usable(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn large(size: u64) -> bool {
        size >= LARGE
    }

    /// Answers the open of a large file, of which `fh` is the server's handle.
    pub(crate) async fn open(&self, ino: u64, fh: &Fh, reply: ReplyOpen) {
        let Some(how) = self.count(ino) else {
            return reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        };
        let backing = how.get_or_init(|| self.backing(ino, fh, &reply)).await;
        match backing {
            Some(backing) => reply.opened_passthrough(COUNTED, FopenFlags::empty(), backing),
            None => reply.opened(COUNTED, FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn count(&self, ino: u64) -> Option<How> {
        let mut open = self.open.lock();
        if open.len() >= BACKED_MAX && !open.contains_key(&ino) {
            return None;
        }
        let (opens, how) = open.entry(ino).or_default();
        *opens += 1;
        Some(how.clone())
    }

    /// One counted open was closed. The kernel has let go of the backing file by now.
    pub(crate) fn release(&self, ino: u64) {
        let mut open = self.open.lock();
        if let Some((opens, _)) = open.get_mut(&ino) {
            *opens -= 1;
            if *opens == 0 {
                open.remove(&ino);
            }
        }
    }

    async fn backing(&self, ino: u64, fh: &Fh, reply: &ReplyOpen) -> Option<BackingId> {
        let file = match self.server.get(fh).await {
            Ok(file) => file?,
            Err(cause) => {
                tracing::debug!(ino, %cause, "no descriptor: read by READs");
                return None;
            }
        };
        match reply.open_backing(&file) {
            Ok(backing) => Some(backing),
            Err(cause) => {
                tracing::info!(%cause, "the kernel reads no file by itself here");
                self.refused.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

/// The server's descriptors: one connection, made again when it broke.
struct Descriptors {
    path: PathBuf,
    stream: Turn<Option<UnixStream>>,
}

impl Descriptors {
    fn new(nfs: &Path) -> Descriptors {
        Descriptors {
            path: descriptors::beside(nfs),
            stream: Turn::new(None),
        }
    }

    /// A descriptor of a file; `None`: the server has it in no file, or gives none.
    async fn get(&self, fh: &Fh) -> io::Result<Option<OwnedFd>> {
        let mut place = self.stream.lock().await;
        let asking = async {
            if let Some(stream) = place.as_mut()
                && let Ok(answer) = ask(stream, fh).await
            {
                return Ok(answer);
            }
            // The server was started again, or this is the first time.
            *place = None;
            let mut stream = UnixStream::connect(&self.path).await?;
            let answer = ask(&mut stream, fh).await?;
            *place = Some(stream);
            Ok(answer)
        };
        match tokio::time::timeout(DEADLINE, asking).await {
            Ok(done) => done,
            Err(_) => {
                // Its answer would be taken for the next one's.
                *place = None;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

async fn ask(stream: &mut UnixStream, fh: &Fh) -> io::Result<Option<OwnedFd>> {
    stream.write_all(&descriptors::request(fh)).await?;
    let (status, file) = stream
        .async_io(Interest::READABLE, || receive(stream.as_raw_fd()))
        .await?;
    Ok(if status == 0 { file } else { None })
}

/// An answer's status and descriptor.
fn receive(socket: RawFd) -> io::Result<(u32, Option<OwnedFd>)> {
    let mut bytes = [0; descriptors::ANSWER];
    let mut space = nix::cmsg_space!(RawFd);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut iov, Some(&mut space), flags)?;
    let mut file = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                file = Some(sys::own_received(fd));
            }
        }
    }
    let len = message.bytes;
    if len == bytes.len() {
        Ok((u32::from_be_bytes(bytes), file))
    } else {
        // The end of the connection, or something that is no answer.
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
