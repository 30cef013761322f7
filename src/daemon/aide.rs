//! The aide: a process of the server that keeps the rights which the serving one gives up ([`super::privileges`]).
//!
//! It is forked before anything is served, knows nothing of the store, and does three things when it is asked over
//! a socket that nobody else has: it unmounts what pocker mounted and nothing else, says whether a process shares
//! this one's namespaces, and opens the listener for the kernel's client in the network made for it. It ends with
//! the server.

use super::sys;
use crate::sys::process::{self, Forked};
use crate::sys::{Attempt, Fault, signals};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recv, recvmsg, send, sendmsg, socketpair,
};
use parking_lot::Mutex;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A path of any length that the kernel takes, and the word before it.
const ASK_MAX: usize = 4096 + 8;
const UNMOUNT: u8 = b'u';
const SHARES: u8 = b's';
const LISTEN: u8 = b'l';

static AIDE: OnceLock<Aide> = OnceLock::new();

struct Aide {
    /// One question at a time.
    socket: Mutex<OwnedFd>,
    /// It lives no longer than this is open.
    _tie: OwnedFd,
}

/// What it may be asked to open, said before it is trusted less than its asker.
struct Network {
    pin: PathBuf,
    port: u16,
}

/// Starts it. The caller has one thread, and nothing yet that the aide should not have.
pub fn start(pin: PathBuf, port: u16) -> Result<(), Fault> {
    if process::threads() != 1 {
        return Err(Fault::new("the server has more than one thread already"));
    }
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .attempt("make a socket")?;
    match process::fork_tied().attempt("fork")? {
        Forked::Parent { tie, .. } => {
            let aide = Aide {
                socket: Mutex::new(ours),
                _tie: tie,
            };
            let _ = AIDE.set(aide);
            Ok(())
        }
        Forked::Child { tie } => {
            drop(ours);
            let network = Network { pin, port };
            // Nothing may unwind into the server's code in this process.
            let attend = std::panic::AssertUnwindSafe(|| attend(tie, &theirs, &network));
            let _ = std::panic::catch_unwind(attend);
            process::exit_now(0)
        }
    }
}

fn attend(tie: OwnedFd, socket: &OwnedFd, network: &Network) {
    let tied = tie.as_raw_fd();
    if process::tie_to_parent(tie).is_err() {
        return;
    }
    // A service manager's TERM is for the server, which has things left to ask.
    let _ = signals::block_all();
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    process::forget_arguments(&crate::sys::os::arguments());
    process::forget_environment();
    if let Ok(null) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
    {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    process::close_except(&[tied, socket.as_raw_fd()]);
    let mut asked = [0; ASK_MAX];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut asked, MsgFlags::empty()) {
            // The server is gone.
            Ok(0) => return,
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        if answer(socket, &asked[..length], network).is_err() {
            return;
        }
    }
}

/// An answer is an errno, a byte, and perhaps a descriptor.
fn answer(socket: &OwnedFd, asked: &[u8], network: &Network) -> nix::Result<()> {
    let done = act(asked, network);
    let (errno, value, fd) = match done {
        Ok((value, listener)) => (0, value, listener),
        Err(errno) => (errno as i32, 0, None),
    };
    let mut bytes = errno.to_ne_bytes().to_vec();
    bytes.push(value);
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}

fn act(asked: &[u8], network: &Network) -> Result<(u8, Option<TcpListener>), Errno> {
    let (word, rest) = asked.split_first().ok_or(Errno::EINVAL)?;
    let text = std::str::from_utf8(rest).map_err(|_| Errno::EINVAL)?;
    match *word {
        UNMOUNT => {
            // Whoever took the server over does not unmount the host's own.
            match sys::ours(text.as_bytes()) {
                Ok(Some(true)) => sys::unmount(text).map(|()| (0, None)),
                Ok(Some(false)) => Err(Errno::EPERM),
                // Nothing is mounted there any more.
                Ok(None) => Ok((0, None)),
                Err(e) => Err(errno(&e)),
            }
        }
        SHARES => {
            let (kind, pid) = text.split_once(' ').ok_or(Errno::EINVAL)?;
            let pid = pid.parse().map_err(|_| Errno::EINVAL)?;
            let known = matches!(kind, "mnt" | "pid");
            let shares = known && sys::shares_namespace(pid, kind);
            Ok((shares.into(), None))
        }
        LISTEN => {
            let opened = sys::private_listener(&network.pin, network.port);
            opened
                .map(|listener| (0, Some(listener)))
                .map_err(|e| errno(&e))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// None: there is no aide, so this process has its rights itself.
fn ask(word: u8, text: &str) -> Option<Result<(u8, Option<OwnedFd>), Errno>> {
    let aide = AIDE.get()?;
    let mut bytes = vec![word];
    bytes.extend_from_slice(text.as_bytes());
    if bytes.len() > ASK_MAX {
        return Some(Err(Errno::ENAMETOOLONG));
    }
    let socket = aide.socket.lock();
    Some(exchange(&socket, &bytes))
}

fn exchange(socket: &OwnedFd, bytes: &[u8]) -> Result<(u8, Option<OwnedFd>), Errno> {
    let raw = socket.as_raw_fd();
    send(raw, bytes, MsgFlags::MSG_NOSIGNAL)?;
    let mut buffer = [0u8; 8];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let (length, mut fds) = loop {
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<UnixAddr>(raw, &mut iov, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            message => message?,
        };
        let mut fds = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(got) = part {
                fds.extend(got.into_iter().map(process::own));
            }
        }
        break (message.bytes, fds);
    };
    match buffer[..length].split_first_chunk::<4>() {
        Some((errno, [value])) => match i32::from_ne_bytes(*errno) {
            0 => Ok((*value, fds.pop())),
            errno => Err(Errno::from_raw(errno)),
        },
        // It was killed.
        _ => Err(Errno::EPIPE),
    }
}

/// Unmounts what is mounted of pocker's there.
pub fn unmount(target: &str) -> Result<(), Errno> {
    match ask(UNMOUNT, target) {
        Some(done) => done.map(drop),
        None => sys::unmount(target),
    }
}

/// Whether process `pid` is in the server's namespace of that kind ("mnt", "pid"). False where that is not known.
pub fn shares_namespace(pid: i32, kind: &str) -> bool {
    match ask(SHARES, &format!("{kind} {pid}")) {
        Some(done) => done.is_ok_and(|(shares, _)| shares == 1),
        None => sys::shares_namespace(pid, kind),
    }
}

/// The listener of the kernel's client, in a network of its own where the system has such.
pub fn private_listener(pin: &Path, port: u16) -> io::Result<TcpListener> {
    match sys::PRIVATE_NETNS.then(|| ask(LISTEN, "")).flatten() {
        Some(done) => match done? {
            (_, Some(fd)) => Ok(fd.into()),
            _ => Err(io::Error::other("no listener came")),
        },
        None => sys::private_listener(pin, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_it_is_for_and_nothing_else() {
        let (server, aide) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("sockets");
        let asked = [
            // The root is the host's own, and so is /proc.
            (UNMOUNT, "/".to_owned(), Err(Errno::EPERM)),
            (UNMOUNT, "/proc".to_owned(), Err(Errno::EPERM)),
            (UNMOUNT, "/nothing/is/mounted here".to_owned(), Ok(0)),
            (SHARES, format!("mnt {}", std::process::id()), Ok(1)),
            (SHARES, format!("net {}", std::process::id()), Ok(0)),
            (SHARES, "mnt 0".to_owned(), Ok(0)),
            (SHARES, "mnt".to_owned(), Err(Errno::EINVAL)),
            (b'x', String::new(), Err(Errno::EINVAL)),
        ];
        let dir = tempfile::tempdir().expect("a directory");
        let pin = dir.path().join("net");
        let network = Network {
            pin: pin.clone(),
            port: 2049,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; ASK_MAX];
                while let Ok(length @ 1..) = recv(aide.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                    answer(&aide, &bytes[..length], &network).expect("answered");
                }
            });
            for (word, text, expected) in asked {
                let bytes = [&[word], text.as_bytes()].concat();
                let got = exchange(&server, &bytes).map(|(value, _)| value);
                assert_eq!(got, expected, "{text}");
            }
            // In a network of its own the port is free, whoever has it here.
            if nix::unistd::geteuid().is_root() && sys::PRIVATE_NETNS {
                let (_, fd) = exchange(&server, &[LISTEN]).expect("opened");
                let listener = TcpListener::from(fd.expect("a listener"));
                assert_eq!(listener.local_addr().expect("an address").port(), 2049);
                sys::unmount(pin.to_str().expect("text")).expect("unmounted");
            }
            drop(server);
        });
    }
}
