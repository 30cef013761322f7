//! Calls with a deadline before a kernel client is pointed at a server: NULL (RFC 5531, RFC 1813 §3.3.0),
//! for some wait for ever on a dead port, and MNT (§5.2.1) for those that are given the root's handle.

use crate::helper::Server;
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
};
use pocker_nfs::proto::{MOUNT_PROGRAM, MOUNT_V3, NFS_PROGRAM, NFS_V3};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a local server may take to answer before it counts as gone.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// The longest reply that makes sense: mark, header, a verifier of at most 400 bytes
/// (RFC 5531 §8.2), and for MNT a handle of at most 64 and a few flavours.
const REPLY_MAX: usize = 1024;

/// Longest handle (RFC 1813 §2.4, NFS3_FHSIZE).
const HANDLE_MAX: usize = 64;

/// The ports of rresvport(3).
const RESERVED: std::ops::Range<u16> = 600..1024;

const XID: u32 = 0x706f_636b;

/// Sends NFSv3's NULL to a TCP server from its network namespace and waits for
/// an accepted reply.
pub(crate) fn null_call(server: &Server) -> io::Result<()> {
    let Server::Tcp { addr, netns } = server else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a TCP server",
        ));
    };
    let addr = *addr;
    in_netns(netns.as_deref(), move || ping(addr, DEADLINE))?
}

/// Asks a TCP server of this network namespace for an export's root: its handle.
pub(crate) fn root_handle(server: &Server, export: &[u8]) -> io::Result<Vec<u8>> {
    match server {
        Server::Tcp { addr, netns: None } => mnt(*addr, export, DEADLINE),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a TCP server of this host",
        )),
    }
}

fn mnt(addr: SocketAddr, export: &[u8], deadline: Duration) -> io::Result<Vec<u8>> {
    let reply = call(addr, &mnt_record(export), deadline)?;
    match handle(&reply) {
        Some(Ok(handle)) => Ok(handle),
        // mountstat3 has errno's numbers for what can happen here (RFC 1813 §5.1.5).
        Some(Err(status)) => Err(match i32::try_from(status) {
            Ok(errno @ 1..=63) => Errno::from_raw(errno).into(),
            _ => not_nfs("it refused the export"),
        }),
        None => Err(not_nfs("the reply to MNT is not one")),
    }
}

/// Runs `work` in a network namespace and comes back. Only the calling thread moves; one
/// of its own would not do, as a process that has unshared its PID namespace can make
/// none (clone(2), CLONE_THREAD). It keeps its mount namespace.
pub(crate) fn in_netns<T>(netns: Option<&Path>, work: impl FnOnce() -> T) -> io::Result<T> {
    let Some(netns) = netns else {
        return Ok(work());
    };
    let away = sys::Away::to(netns)?;
    let done = work();
    away.back()?;
    Ok(done)
}

fn ping(addr: SocketAddr, deadline: Duration) -> io::Result<()> {
    call(addr, &null_record(), deadline).map(drop)
}

/// The results of an accepted reply to the record of one call, all of it one fragment.
fn call(addr: SocketAddr, record: &[u8], deadline: Duration) -> io::Result<Vec<u8>> {
    let start = Instant::now();
    let mut stream = connect(addr, start + deadline)?;
    stream.set_write_timeout(Some(deadline))?;
    stream.write_all(record)?;
    let mut reply = [0; REPLY_MAX];
    let mut have = 0;
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let n = stream.read(&mut reply[have..])?;
        have += n;
        if n == 0 || have == REPLY_MAX {
            return Err(not_nfs("the reply is not one"));
        }
        if let Some(outcome) = accepted(&reply[..have]) {
            return outcome;
        }
    }
}

/// Connects from a port that only root may use, as kernel clients do and servers demand;
/// from any other where this is not root. A port that nothing listens on is refused at once.
fn connect(addr: SocketAddr, until: Instant) -> io::Result<TcpStream> {
    let (family, any): (_, IpAddr) = match addr {
        SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
    };
    for port in RESERVED.rev() {
        let socket = socket::socket(family, SockType::Stream, SockFlag::empty(), None)?;
        match socket::bind(socket.as_raw_fd(), &*raw(SocketAddr::new(any, port))) {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => continue,
            Err(Errno::EACCES) => break,
            Err(e) => return Err(e.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        match connected(&stream, addr, until) {
            Ok(()) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            // The pair of ports still is in TIME_WAIT.
            Err(Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => continue,
            Err(e) => return Err(e.into()),
        }
    }
    let left = until.saturating_duration_since(Instant::now());
    TcpStream::connect_timeout(&addr, left.max(Duration::from_millis(1)))
}

/// A host that drops what it is sent would hold a blocking connect(2) for minutes.
fn connected(stream: &TcpStream, addr: SocketAddr, until: Instant) -> nix::Result<()> {
    match socket::connect(stream.as_raw_fd(), &*raw(addr)) {
        Err(Errno::EINPROGRESS | Errno::EINTR) => {}
        done => return done,
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut asked = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut asked, wait) {
            // Less than a millisecond is left, or none.
            Ok(0) if left < Duration::from_millis(1) => return Err(Errno::ETIMEDOUT),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(e) => return Err(e),
        }
    }
    match socket::getsockopt(stream, socket::sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(Errno::from_raw(error)),
    }
}

fn raw(addr: SocketAddr) -> Box<dyn SockaddrLike> {
    match addr {
        SocketAddr::V4(addr) => Box::new(SockaddrIn::from(addr)),
        SocketAddr::V6(addr) => Box::new(SockaddrIn6::from(addr)),
    }
}

/// A record of one fragment: xid, CALL, RPC 2, NFS 3, procedure 0, AUTH_NONE twice.
fn null_record() -> Vec<u8> {
    record(&[XID, 0, 2, NFS_PROGRAM, NFS_V3, 0, 0, 0, 0, 0], &[])
}

/// MNT, as root: AUTH_SYS of five words (stamp, no name, uid, gid, no groups).
fn mnt_record(export: &[u8]) -> Vec<u8> {
    let head = [XID, 0, 2, MOUNT_PROGRAM, MOUNT_V3, 1, 1, 20];
    let who = [0, 0, 0, 0, 0, 0, 0, export.len() as u32];
    let mut words = head.to_vec();
    words.extend(who);
    record(&words, export)
}

fn record(words: &[u32], bytes: &[u8]) -> Vec<u8> {
    let padded = bytes.len().next_multiple_of(4);
    let mark = 0x8000_0000 | ((4 * words.len() + padded) as u32);
    let mut out: Vec<u8> = std::iter::once(mark)
        .chain(words.iter().copied())
        .flat_map(u32::to_be_bytes)
        .collect();
    out.extend_from_slice(bytes);
    out.resize(4 + 4 * words.len() + padded, 0);
    out
}

fn word(bytes: &[u8], i: usize) -> Option<u32> {
    let bytes = bytes.get(4 * i..4 * i + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The results where the reply is MSG_ACCEPTED and SUCCESS; `None` while it is incomplete.
fn accepted(reply: &[u8]) -> Option<io::Result<Vec<u8>>> {
    let word = |i| word(reply, i);
    // Mark, xid, REPLY, reply_stat, verifier's flavour and length, then accept_stat.
    let (mark, xid, kind, stat) = (word(0)?, word(1)?, word(2)?, word(3)?);
    if (xid, kind, stat) != (XID, 1, 0) {
        return Some(Err(not_nfs("it refused the call")));
    }
    let verifier = usize::try_from(word(5)?).ok()?.div_ceil(4);
    if verifier > 100 {
        return Some(Err(not_nfs("the reply is not one")));
    }
    if word(6 + verifier)? != 0 {
        return Some(Err(not_nfs("it does not serve NFS version 3")));
    }
    let end = 4 + (mark & 0x7fff_ffff) as usize;
    if end > REPLY_MAX {
        return Some(Err(not_nfs("the reply is not one")));
    }
    let results = reply.get(..end)?.get(4 * (7 + verifier)..);
    Some(Ok(results.unwrap_or_default().to_vec()))
}

/// What MNT answers: a handle, or a status. `None`: neither.
fn handle(results: &[u8]) -> Option<Result<Vec<u8>, u32>> {
    match word(results, 0)? {
        0 => {
            let len = usize::try_from(word(results, 1)?).ok()?;
            let fits = (1..=HANDLE_MAX).contains(&len);
            fits.then(|| results.get(8..8 + len))?
                .map(|bytes| Ok(bytes.to_vec()))
        }
        status => Some(Err(status)),
    }
}

fn not_nfs(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("what answers there is not our server: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn words(list: &[u32]) -> Vec<u8> {
        list.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    /// Serves one connection with `reply`, and pings it.
    fn ping_with(reply: Vec<u8>) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut call = [0; 44];
            peer.read_exact(&mut call).unwrap();
            assert_eq!(&call[..], &null_record()[..]);
            peer.write_all(&reply).unwrap();
        });
        let outcome = ping(addr, Duration::from_secs(10));
        server.join().unwrap();
        outcome
    }

    #[test]
    fn an_nfs_server_answers() {
        ping_with(words(&[0x8000_0018, XID, 1, 0, 0, 0, 0])).unwrap();
        ping_with(words(&[0x8000_001c, XID, 1, 0, 1, 4, 77, 0])).unwrap();
    }

    #[test]
    fn what_is_not_one_is_refused() {
        for reply in [
            words(&[0x8000_0018, XID, 1, 0, 0, 0, 1]),
            words(&[0x8000_0018, XID, 1, 1, 0, 0, 0]),
            words(&[0x8000_0018, XID, 1, 0, 0, u32::MAX, 0]),
            b"HTTP/1.1 400 Bad Request\r\n\r\n and more".to_vec(),
            words(&[0x8000_0018, XID]),
        ] {
            let error = ping_with(reply.clone()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{reply:?}");
        }
    }

    fn mnt_with(results: &[u32]) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut reply = vec![
            0x8000_0000 | (24 + 4 * results.len() as u32),
            XID,
            1,
            0,
            0,
            0,
            0,
        ];
        reply.extend(results);
        let reply = words(&reply);
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut call = [0; 4 + 16 * 4 + 8];
            peer.read_exact(&mut call).unwrap();
            assert_eq!(&call[68..], b"/run/a\0\0");
            // In two pieces: the handle comes later than its length.
            peer.write_all(&reply[..36.min(reply.len())]).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            peer.write_all(&reply[36.min(reply.len())..]).unwrap();
        });
        let outcome = mnt(addr, b"/run/a", Duration::from_secs(10));
        server.join().unwrap();
        outcome
    }

    #[test]
    fn an_exports_root_is_asked_for() {
        let handle = mnt_with(&[0, 8, 0x0102_0304, 0x0506_0708, 1, 1]).unwrap();
        assert_eq!(handle, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn an_export_that_is_not_there_is_the_servers_word() {
        let error = mnt_with(&[2]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        for bad in [
            &[0][..],
            &[0, 0],
            &[0, 65, 1, 1],
            &[0, 8, 1],
            &[0, u32::MAX],
        ] {
            let error = mnt_with(bad).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
    }

    #[test]
    fn a_closed_port_is_an_error_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let error = ping(addr, DEADLINE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
