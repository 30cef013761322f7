//! The aide: a process of the server that keeps the rights which the serving one gives up ([`super::privileges`]).
//!
//! It is forked before anything is served, knows nothing of the store, and does eight things when it is asked over
//! sockets that nobody else has: it unmounts what pocker mounted and nothing else, says whether a process shares
//! this one's namespaces, when one started that /proc hides from the server, opens the listener for the kernel's
//! client, once, in the network made for it, ends a run, says what a run is called and whether a process
//! is at the other end of a connection, and removes the server's sockets. It ends with the server, and the server leaves when it has ended.

use super::ServeOptions;
use super::sys::{self, Unmounted};
use super::tied::{self, Says};
use crate::life::Runs;
use crate::sys::process;
use crate::sys::{Attempt, Fault};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockType, UnixAddr, recv, recvmsg, send, sendmsg,
};
use nix::unistd::{UnlinkatFlags, unlinkat};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A path of any length that the kernel takes, and the word before it.
const ASK_MAX: usize = 4096 + 8;
const UNMOUNT: u8 = b'u';
const SHARES: u8 = b's';
const START: u8 = b't';
const LISTEN: u8 = b'l';
const END: u8 = b'e';
const CALLED: u8 = b'c';
const PROCESS: u8 = b'p';
const REMOVE: u8 = b'r';

/// What it removes: the server's sockets, where the network's place is.
const SOCKETS: [&str; 3] = ["control.sock", "nfs.sock", "files.sock"];

static AIDE: OnceLock<Aide> = OnceLock::new();

struct Aide {
    /// One question at a time on each. What is asked here is answered at once.
    quick: Mutex<OwnedFd>,
    /// An unmount may wait for a disk.
    slow: Mutex<OwnedFd>,
    /// `quick` once more, to be told of its other end's.
    watched: OwnedFd,
    /// It lives no longer than this is open.
    _tie: OwnedFd,
}

/// What it may be asked to open, once, said before it is trusted more than its asker. The directory is opened by
/// then: its path may lead elsewhere later.
struct Network {
    sockets: PathBuf,
    dir: File,
    name: OsString,
    port: u16,
    opened: AtomicBool,
}

impl Network {
    fn new(pin: &Path, port: u16) -> io::Result<Network> {
        let (Some(dir), Some(name)) = (pin.parent(), pin.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(Network {
            sockets: dir.to_owned(),
            dir: File::open(dir)?,
            name: name.to_owned(),
            port,
            opened: AtomicBool::new(false),
        })
    }

    fn listener(&self) -> io::Result<TcpListener> {
        match self.opened.swap(true, Ordering::SeqCst) {
            true => Err(Errno::EPERM.into()),
            false => sys::private_listener(&self.dir, &self.name, self.port),
        }
    }
}

/// Starts it. The caller has one thread, and nothing yet that the aide should not have.
pub fn start(pin: &Path, port: u16) -> Result<(), Fault> {
    let network = match Network::new(pin, port) {
        Ok(network) => network,
        Err(e) => return Err(Fault::new(format!("open where {} is: {e}", pin.display()))),
    };
    let (quick, quickly) = tied::sockets(SockType::SeqPacket)?;
    let (slow, slowly) = tied::sockets(SockType::SeqPacket)?;
    let watched = nix::unistd::dup(&quick).attempt("duplicate a socket")?;
    let keep = [&quickly as &dyn AsRawFd, &slowly, &network.dir].map(AsRawFd::as_raw_fd);
    let tie = tied::start(&keep, Says::Nothing, || {
        attend(&quickly, &slowly, &network);
    })?;
    let aide = Aide {
        quick: Mutex::new(quick),
        slow: Mutex::new(slow),
        watched,
        _tie: tie,
    };
    let _ = AIDE.set(aide);
    crate::control::sys::ask_of_hidden(hidden_start);
    Ok(())
}

fn attend(quick: &OwnedFd, slow: &OwnedFd, network: &Network) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let answers = std::panic::AssertUnwindSafe(|| answer_all(slow, network));
            let _ = std::panic::catch_unwind(answers);
            process::exit_now(0)
        });
        answer_all(quick, network);
        // Whatever the other one waits for.
        process::exit_now(0)
    })
}

/// As long as there is somebody who asks.
fn answer_all(socket: &OwnedFd, network: &Network) {
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

/// What it says where it does what was asked.
#[derive(Default)]
struct Said {
    value: u64,
    fd: Option<OwnedFd>,
    /// As long as a question, at most.
    text: String,
}

impl From<u64> for Said {
    fn from(value: u64) -> Said {
        Said {
            value,
            ..Said::default()
        }
    }
}

/// An answer is an errno, a number, perhaps a text, and perhaps a descriptor: of a process that pledges, that takes more.
fn answer(socket: &OwnedFd, asked: &[u8], network: &Network) -> nix::Result<()> {
    let done = act(asked, network);
    let (errno, said) = match done {
        Ok(said) => (0, said),
        Err(errno) => (errno as i32, Said::default()),
    };
    let Said { value, fd, text } = said;
    let mut bytes = errno.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&value.to_ne_bytes());
    bytes.extend_from_slice(text.as_bytes());
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

fn act(asked: &[u8], network: &Network) -> Result<Said, Errno> {
    let (word, rest) = asked.split_first().ok_or(Errno::EINVAL)?;
    let text = std::str::from_utf8(rest).map_err(|_| Errno::EINVAL)?;
    let two = || text.split_once(' ').ok_or(Errno::EINVAL);
    match *word {
        UNMOUNT => {
            // Whoever took the server over does not unmount the host's own.
            match sys::unmount_ours(Path::new(text)).map_err(|e| errno(&e))? {
                Unmounted::Done | Unmounted::Nothing => Ok(Said::default()),
                Unmounted::NotOurs => Err(Errno::EPERM),
            }
        }
        SHARES => {
            let (kind, pid) = two()?;
            let pid = number(pid)?;
            let known = matches!(kind, "mnt" | "pid");
            let shares = known && sys::shares_namespace(pid, kind);
            Ok(u64::from(shares).into())
        }
        START => {
            let start = crate::control::sys::process_start(number(text)?);
            start.map(Said::from).ok_or(Errno::ESRCH)
        }
        LISTEN => Ok(Said {
            fd: Some(network.listener().map_err(|e| errno(&e))?.into()),
            ..Said::default()
        }),
        PROCESS => {
            let (peer, port) = two()?;
            let is = sys::is_a_process(number(peer)?, number(port)?);
            is.map(|is| u64::from(is).into()).map_err(|e| errno(&e))
        }
        CALLED => {
            let called = Runs::called(&network.sockets, number(text)?);
            let text = called.ok_or(Errno::ESRCH)?;
            Ok(Said {
                text,
                ..Said::default()
            })
        }
        END => {
            let (signal, pid) = two()?;
            let (signal, pid) = (number(signal)?, number::<u32>(pid)?);
            let ends = [Signal::SIGTERM, Signal::SIGKILL].contains(&signal);
            // What records say is root's word. Whoever took the server over ends runs, and nothing else.
            match ends && Runs::called(&network.sockets, pid).is_some() {
                true => sys::signal(pid, signal).map(|()| Said::default()),
                false => Err(Errno::EPERM),
            }
        }
        REMOVE => {
            for socket in SOCKETS {
                let _ = unlinkat(&network.dir, socket, UnlinkatFlags::NoRemoveDir);
            }
            Ok(Said::default())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// None: there is no aide, so this process has its rights itself.
fn ask(word: u8, text: &str) -> Option<Result<Said, Errno>> {
    let aide = AIDE.get()?;
    let mut bytes = vec![word];
    bytes.extend_from_slice(text.as_bytes());
    if bytes.len() > ASK_MAX {
        return Some(Err(Errno::ENAMETOOLONG));
    }
    let socket = match word {
        SHARES | START | PROCESS | REMOVE => aide.quick.lock(),
        _ => aide.slow.lock(),
    };
    Some(exchange(&socket, &bytes))
}

fn exchange(socket: &OwnedFd, bytes: &[u8]) -> Result<Said, Errno> {
    let raw = socket.as_raw_fd();
    send(raw, bytes, MsgFlags::MSG_NOSIGNAL)?;
    let mut buffer = [0u8; ASK_MAX];
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
    // It was killed.
    let (done, rest) = buffer[..length].split_first_chunk().ok_or(Errno::EPIPE)?;
    match i32::from_ne_bytes(*done) {
        0 => {}
        errno => return Err(Errno::from_raw(errno)),
    }
    let (value, text) = rest.split_first_chunk().ok_or(Errno::EPROTO)?;
    Ok(Said {
        value: u64::from_ne_bytes(*value),
        fd: fds.pop(),
        text: String::from_utf8_lossy(text).into_owned(),
    })
}

/// Until it has ended; for ever where there is none.
pub async fn ended() {
    match AIDE.get() {
        Some(aide) => tied::hung_up("aide", &aide.watched).await,
        None => std::future::pending().await,
    }
}

/// When a process started that /proc does not show to the server.
fn hidden_start(pid: u32) -> Option<u64> {
    match ask(START, &pid.to_string())? {
        Ok(said) => Some(said.value),
        // To take everybody for gone would drop what they have.
        Err(Errno::EPIPE | Errno::ECONNRESET) => {
            tracing::error!("the server's aide was killed: leaving at once");
            process::exit_now(1)
        }
        Err(_) => None,
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
        Some(done) => done.is_ok_and(|said| said.value == 1),
        None => sys::shares_namespace(pid, kind),
    }
}

/// Sends a signal that ends a run; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if sys::signal(pid, signal) == Err(Errno::EPERM) {
        // A server that is no root.
        let _ = ask(END, &format!("{} {pid}", signal.as_str()));
    }
}

/// What people call the run that this process supervises.
pub fn called(options: &ServeOptions, supervisor: u32) -> Option<String> {
    if options.user.is_none() {
        return Runs::called(&options.socket_dir, supervisor);
    }
    Some(ask(CALLED, &supervisor.to_string())?.ok()?.text)
}

/// Whether the connection from there to this host's port is the kernel's, as no process is at its other end.
pub fn is_kernels(peer: SocketAddr, port: u16) -> Option<bool> {
    let SocketAddr::V4(peer) = peer else {
        return Some(false);
    };
    let is_a_process = match ask(PROCESS, &format!("{peer} {port}")) {
        Some(done) => done.map(|said| said.value == 1).map_err(io::Error::from),
        None => sys::is_a_process(peer, port),
    };
    match is_a_process {
        Ok(is) => Some(!is),
        Err(e) => {
            tracing::warn!("whose a connection of this host is cannot be told: {e}");
            None
        }
    }
}

/// Removes the server's sockets.
pub fn remove_sockets(options: &ServeOptions) {
    if options.user.is_some() {
        let _ = ask(REMOVE, "");
        return;
    }
    for socket in SOCKETS {
        let _ = std::fs::remove_file(options.socket_dir.join(socket));
    }
}

/// The listener of the kernel's client, in a network of its own where the system has such.
pub fn private_listener(pin: &Path, port: u16) -> io::Result<TcpListener> {
    match sys::PRIVATE_NETNS.then(|| ask(LISTEN, "")).flatten() {
        Some(done) => match done?.fd {
            Some(fd) => Ok(fd.into()),
            None => Err(io::Error::other("no listener came")),
        },
        None => Network::new(pin, port)?.listener(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_it_is_for_and_nothing_else() {
        let (server, aide) = tied::sockets(SockType::SeqPacket).expect("sockets");
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep");
        let mut child = child.arg("100").spawn().expect("started");
        let start = crate::control::sys::process_start(me).expect("it runs");
        let asked = [
            // The root is the host's own, and so is /proc.
            (UNMOUNT, "/".to_owned(), Err(Errno::EPERM)),
            (UNMOUNT, "/proc".to_owned(), Err(Errno::EPERM)),
            (UNMOUNT, "/nothing/is/mounted here".to_owned(), Ok(0)),
            (SHARES, format!("mnt {}", std::process::id()), Ok(1)),
            (SHARES, format!("net {}", std::process::id()), Ok(0)),
            (SHARES, "mnt 0".to_owned(), Ok(0)),
            (SHARES, "mnt".to_owned(), Err(Errno::EINVAL)),
            (START, me.to_string(), Ok(start)),
            (START, u32::MAX.to_string(), Err(Errno::ESRCH)),
            (START, "self".to_owned(), Err(Errno::EINVAL)),
            // No run's.
            (END, format!("SIGTERM {}", child.id()), Err(Errno::EPERM)),
            (END, format!("SIGSTOP {me}"), Err(Errno::EPERM)),
            (END, "SIGKILL 1".to_owned(), Err(Errno::EPERM)),
            (END, "SIGKILL -1".to_owned(), Err(Errno::EINVAL)),
            (END, me.to_string(), Err(Errno::EINVAL)),
            (PROCESS, "127.0.0.1:9".to_owned(), Err(Errno::EINVAL)),
            (PROCESS, "::1 9".to_owned(), Err(Errno::EINVAL)),
            (CALLED, "1".to_owned(), Err(Errno::ESRCH)),
            (CALLED, "x".to_owned(), Err(Errno::EINVAL)),
            (REMOVE, String::new(), Ok(0)),
            (b'x', String::new(), Err(Errno::EINVAL)),
        ];
        let dir = tempfile::tempdir().expect("a directory");
        let pin = dir.path().join("net");
        let network = Network::new(&pin, 2049).expect("a network");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("control.sock"), "").expect("written");
        std::fs::write(at("other"), "").expect("written");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; ASK_MAX];
                while let Ok(length @ 1..) = recv(aide.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                    answer(&aide, &bytes[..length], &network).expect("answered");
                }
            });
            for (word, text, expected) in asked {
                let bytes = [&[word], text.as_bytes()].concat();
                let got = exchange(&server, &bytes).map(|said| said.value);
                assert_eq!(got, expected, "{text}");
            }
            // In a network of its own the port is free, whoever has it here.
            if nix::unistd::geteuid().is_root() && sys::PRIVATE_NETNS {
                let said = exchange(&server, &[LISTEN]).expect("opened");
                let listener = TcpListener::from(said.fd.expect("a listener"));
                assert_eq!(listener.local_addr().expect("an address").port(), 2049);
                // Once: the place is in a directory that others write to.
                let again = exchange(&server, &[LISTEN]).map(drop);
                assert_eq!(again, Err(Errno::EPERM));
                sys::unmount(pin.to_str().expect("text")).expect("unmounted");
            }
            drop(server);
        });
        assert_eq!(child.try_wait().expect("asked"), None, "it lives");
        child.kill().expect("killed");
        child.wait().expect("it ends");
        assert!(!at("control.sock").exists() && at("other").exists());
    }
}
