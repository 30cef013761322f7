//! The control socket between a session and its helper process: one record of
//! JSON a message, descriptors beside it. It carries no secret.
//!
//! A session sends one [`Hello`], then a [`Mount`] for each mount with three
//! descriptors: the opened `/dev/fuse`, a stream on which the helper answers with one
//! [`Answer`], and the PID namespace of who mounts. As each answer comes on a stream of its own, a
//! session may be used on both sides of a fork.

use crate::helper::{Cache, HostTls, Phase, RestartCommand, Server};
use crate::sys;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The longest message: an export path of 4 KiB, in JSON at most five bytes a byte,
/// fits many times, as does a restart command.
const MESSAGE_MAX: usize = 128 << 10;

/// The most descriptors a message brings.
pub(crate) const FDS_MAX: usize = 3;

/// Which server, and how to restart it. Paths and arguments are bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    Unix {
        path: Vec<u8>,
        restart: Option<Vec<Vec<u8>>>,
    },
    Tcp {
        addr: SocketAddr,
        netns: Option<Vec<u8>>,
        restart: Option<Vec<Vec<u8>>>,
    },
    Host {
        name: String,
        port: u16,
        tls: Option<WireTls>,
        restart: Option<Vec<Vec<u8>>>,
    },
}

impl Hello {
    pub(crate) fn new(server: &Server, restart: Option<&RestartCommand>) -> Hello {
        let bytes = |list: &RestartCommand| {
            let argv = list.argv.iter();
            argv.map(|a| a.as_bytes().to_vec()).collect()
        };
        let restart = restart.map(bytes);
        match server {
            Server::Unix(path) => Hello::Unix {
                path: path.as_os_str().as_bytes().to_vec(),
                restart,
            },
            Server::Tcp { addr, netns } => Hello::Tcp {
                addr: *addr,
                netns: netns.as_ref().map(|p| p.as_os_str().as_bytes().to_vec()),
                restart,
            },
            Server::Host { name, port, tls } => Hello::Host {
                name: name.clone(),
                port: *port,
                tls: tls.as_ref().map(WireTls::new),
                restart,
            },
        }
    }

    pub(crate) fn into_parts(self) -> (Server, Option<RestartCommand>) {
        let path = |bytes: Vec<u8>| OsString::from_vec(bytes).into();
        let (server, restart) = match self {
            Hello::Unix {
                path: bytes,
                restart,
            } => (Server::Unix(path(bytes)), restart),
            Hello::Tcp {
                addr,
                netns,
                restart,
            } => {
                let netns = netns.map(path);
                (Server::Tcp { addr, netns }, restart)
            }
            Hello::Host {
                name,
                port,
                tls,
                restart,
            } => {
                let tls = tls.map(WireTls::into_tls);
                (Server::Host { name, port, tls }, restart)
            }
        };
        let restart = restart.map(|argv| RestartCommand {
            argv: argv.into_iter().map(OsString::from_vec).collect(),
        });
        (server, restart)
    }
}

/// [`HostTls`], with its files' names: none of them holds a secret here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireTls {
    ca: Vec<u8>,
    shown: Option<(Vec<u8>, Vec<u8>)>,
    required: bool,
}

impl WireTls {
    fn new(tls: &HostTls) -> WireTls {
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        WireTls {
            ca: bytes(&tls.ca),
            shown: tls.shown.as_ref().map(|(c, k)| (bytes(c), bytes(k))),
            required: tls.required,
        }
    }

    fn into_tls(self) -> HostTls {
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        HostTls {
            ca: path(self.ca),
            shown: self.shown.map(|(c, k)| (path(c), path(k))),
            required: self.required,
        }
    }
}

/// What a session asks for after its [`Hello`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Mount(Mount),
    /// Whoever reads our errors may wait for the end of them.
    Quiet,
}

/// One mount to serve.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub export: Vec<u8>,
    pub cache: Cache,
    pub read_only: bool,
    pub outlives: bool,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Serving,
    Failed {
        phase: WirePhase,
        errno: Option<i32>,
        text: String,
    },
}

/// The phases that can fail in the helper.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum WirePhase {
    Helper,
    Server,
    Export,
    Device,
}

impl From<WirePhase> for Phase {
    fn from(phase: WirePhase) -> Phase {
        match phase {
            WirePhase::Helper => Phase::Helper,
            WirePhase::Server => Phase::Server,
            WirePhase::Export => Phase::Export,
            WirePhase::Device => Phase::Device,
        }
    }
}

/// A connected pair that keeps message boundaries, closed on exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message with its descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[RawFd],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message to the mount helper is too long",
        ));
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let iov = [IoSlice::new(&bytes)];
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &iov,
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one message with its descriptors; `None` once the other side is closed.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = control {
            fds.extend(list.into_iter().map(sys::own_received));
        }
    }
    let (len, cut) = (message.bytes, message.flags);
    if len == 0 {
        return Ok(None);
    }
    if cut.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message to the mount helper was cut short",
        ));
    }
    Ok(Some((serde_json::from_slice(&bytes[..len])?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_brings_its_descriptors() {
        let (a, b) = pair().unwrap();
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mount = Mount {
            export: b"/run/\xff\"\\".to_vec(),
            cache: Cache::Exclusive,
            read_only: true,
            outlives: true,
        };
        send(a.as_fd(), &mount, &[far.as_raw_fd()]).unwrap();
        drop((a, far));
        let (got, fds): (Mount, _) = receive(b.as_fd()).unwrap().unwrap();
        assert_eq!(got.export, mount.export);
        assert_eq!((got.cache, got.read_only), (Cache::Exclusive, true));
        assert_eq!(fds.len(), 1);
        near.write_all(b"x").unwrap();
        drop(fds);
        // The only other end went with the received descriptor.
        assert!(near.write_all(b"x").is_err());
        assert!(receive::<Mount>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn hello_keeps_paths_that_are_not_utf8() {
        let server = Server::Unix(OsString::from_vec(b"/run/\xfe".to_vec()).into());
        let restart = RestartCommand {
            argv: vec!["pocker".into(), OsString::from_vec(b"\xff".to_vec())],
        };
        let json = serde_json::to_vec(&Hello::new(&server, Some(&restart))).unwrap();
        let hello: Hello = serde_json::from_slice(&json).unwrap();
        assert_eq!(hello.into_parts(), (server, Some(restart)));
        let file = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec()));
        let server = Server::Host {
            name: "store.example".into(),
            port: 2049,
            tls: Some(HostTls {
                ca: file(b"/ca\xff"),
                shown: Some((file(b"/cert\xfe"), file(b"/key\xfd"))),
                required: true,
            }),
        };
        let json = serde_json::to_vec(&Hello::new(&server, None)).unwrap();
        let hello: Hello = serde_json::from_slice(&json).unwrap();
        assert_eq!(hello.into_parts(), (server, None));
    }

    #[test]
    fn junk_is_an_error_and_the_longest_export_fits() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &"junk", &[]).unwrap();
        assert!(receive::<Mount>(b.as_fd()).is_err());
        let longest = Mount {
            export: vec![0xff; pocker_nfs::proto::PATH_MAX],
            cache: Cache::Sealed,
            read_only: true,
            outlives: true,
        };
        send(a.as_fd(), &longest, &[]).unwrap();
        let (got, _) = receive::<Mount>(b.as_fd()).unwrap().unwrap();
        assert_eq!(got.export, longest.export);
    }
}
