//! RPC by hand: calls byte by byte, and replies as they come.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub const NFS: u32 = 100_003;
pub const MOUNT: u32 = 100_005;
pub const PORTMAP: u32 = 100_000;
pub const POCKER: u32 = 0x2070_6b72;
/// How long a reply may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The last fragment of a record (RFC 5531 §11).
pub const LAST: u32 = 1 << 31;

/// XDR, put together; and where in it the lengths are.
#[derive(Clone, Default)]
pub struct Xdr(pub Vec<u8>, pub Vec<usize>);

impl Xdr {
    pub fn new() -> Xdr {
        Xdr::default()
    }
    pub fn u32(mut self, n: u32) -> Xdr {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
    pub fn u64(self, n: u64) -> Xdr {
        self.u32((n >> 32) as u32).u32(n as u32)
    }
    pub fn words(self, words: &[u32]) -> Xdr {
        words.iter().fold(self, |xdr, word| xdr.u32(*word))
    }
    pub fn opaque(self, bytes: &[u8]) -> Xdr {
        let mut xdr = self;
        xdr.1.push(xdr.0.len());
        xdr = xdr.u32(bytes.len() as u32);
        xdr.0.extend_from_slice(bytes);
        xdr.0.resize(xdr.0.len().next_multiple_of(4), 0);
        xdr
    }
    /// sattr3 that changes nothing.
    pub fn unchanged(self) -> Xdr {
        self.words(&[0; 6])
    }
}

/// AUTH_SYS of root.
pub fn root() -> Xdr {
    Xdr::new().words(&[1, 20, 0, 0, 0, 0, 0])
}

/// A call's record, with those credentials and no verifier.
pub fn call(xid: u32, what: (u32, u32, u32), cred: &Xdr, args: &Xdr) -> Vec<u8> {
    let mut xdr = Xdr::new().words(&[xid, 0, 2, what.0, what.1, what.2]);
    xdr.0.extend_from_slice(&cred.0);
    let mut xdr = xdr.words(&[0, 0]);
    xdr.0.extend_from_slice(&args.0);
    xdr.0
}

/// One fragment that is a whole record.
pub fn marked(record: &[u8]) -> Vec<u8> {
    let mark = LAST | record.len() as u32;
    [&mark.to_be_bytes()[..], record].concat()
}

/// What came back (RFC 5531 §9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Accepted and run: the results.
    Success(Vec<u8>),
    ProgUnavail,
    ProgMismatch(u32, u32),
    ProcUnavail,
    GarbageArgs,
    RpcMismatch(u32, u32),
    AuthError(u32),
}

impl Said {
    /// The status that the results begin with.
    #[track_caller]
    pub fn status(&self) -> u32 {
        match self {
            Said::Success(results) => word(results, 0),
            other => panic!("no results: {other:?}"),
        }
    }
}

#[track_caller]
pub fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at * 4..at * 4 + 4).expect("a word");
    u32::from_be_bytes(word.try_into().expect("four bytes"))
}

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

pub struct Wire {
    stream: Box<dyn Both>,
    xid: u32,
}

/// The next source port that only root may have. Each test has a network of its own, and each
/// address ports of its own.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    100 + NEXT.fetch_add(1, Ordering::Relaxed) % 900
}

/// A connection from that address to the server's port, from a port below 1024.
pub fn connect(from: Ipv4Addr, port: u16, to: u16) -> std::io::Result<TcpStream> {
    use nix::sys::socket::*;
    let kind = SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, kind, None)?;
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(from, port));
    bind(fd.as_raw_fd(), &address)?;
    let server = SockaddrIn::new(127, 0, 0, 1, to);
    nix::sys::socket::connect(fd.as_raw_fd(), &server)?;
    Ok(TcpStream::from(fd))
}

impl Wire {
    #[track_caller]
    pub fn tcp(from: Ipv4Addr) -> Wire {
        Wire::tcp_to(from, super::server::PORT)
    }

    #[track_caller]
    pub fn tcp_to(from: Ipv4Addr, to: u16) -> Wire {
        let stream = loop {
            match connect(from, port(), to) {
                Ok(stream) => break stream,
                Err(e) if e.kind() == ErrorKind::AddrInUse => {}
                Err(e) => panic!("cannot connect: {e}"),
            }
        };
        stream.set_nodelay(true).expect("nodelay");
        Wire::over(stream)
    }

    #[track_caller]
    pub fn over(stream: TcpStream) -> Wire {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Wire {
            stream: Box::new(stream),
            xid: 0x1000,
        }
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Wire {
        let stream = UnixStream::connect(path).expect("the unix socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Wire {
            stream: Box::new(stream),
            xid: 0x2000,
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
    }

    /// As [`Wire::send`], where the server may be gone already.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next record; `None` where the server closed the connection.
    #[track_caller]
    pub fn record(&mut self) -> Option<Vec<u8>> {
        let mut mark = [0; 4];
        match self.stream.read_exact(&mut mark) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return None,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
            Err(e) => panic!("no reply: {e}"),
        }
        let mark = u32::from_be_bytes(mark);
        assert_ne!(mark & LAST, 0, "a reply is one fragment");
        let mut record = vec![0; (mark & !LAST) as usize];
        self.stream.read_exact(&mut record).expect("a whole reply");
        Some(record)
    }

    /// The reply to the call with that xid, which must be the next.
    #[track_caller]
    pub fn reply(&mut self, xid: u32) -> Said {
        let record = self.record().expect("the connection lives");
        assert_eq!(word(&record, 0), xid, "whose reply it is");
        assert_eq!(word(&record, 1), 1, "a reply");
        if word(&record, 2) == 1 {
            return match word(&record, 3) {
                0 => Said::RpcMismatch(word(&record, 4), word(&record, 5)),
                _ => Said::AuthError(word(&record, 4)),
            };
        }
        assert_eq!([word(&record, 3), word(&record, 4)], [0, 0], "no verifier");
        match word(&record, 5) {
            0 => Said::Success(record[24..].to_vec()),
            1 => Said::ProgUnavail,
            2 => Said::ProgMismatch(word(&record, 6), word(&record, 7)),
            3 => Said::ProcUnavail,
            4 => Said::GarbageArgs,
            other => panic!("accept_stat {other}"),
        }
    }

    pub fn xid(&mut self) -> u32 {
        self.xid += 1;
        self.xid
    }

    #[track_caller]
    pub fn ask(&mut self, what: (u32, u32, u32), cred: &Xdr, args: &Xdr) -> Said {
        let xid = self.xid();
        self.send(&marked(&call(xid, what, cred, args)));
        self.reply(xid)
    }

    /// An NFS call of root.
    #[track_caller]
    pub fn nfs(&mut self, procedure: u32, args: &Xdr) -> Said {
        self.ask((NFS, 3, procedure), &root(), args)
    }

    /// NULL is answered: the connection lives.
    #[track_caller]
    pub fn lives(&mut self) {
        assert_eq!(self.nfs(0, &Xdr::new()), Said::Success(Vec::new()));
    }
}
