//! One connection: many calls under way, as few system calls as can be.

use crate::wire::{self, Fh, Put, Reader};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Read at once.
const READ: usize = 4 << 20;

/// What to ask and what to make of the answers; `slot` is one of the calls under way.
pub trait Load {
    /// Appends the slot's next call with that xid; false where there is none.
    fn next(&mut self, slot: usize, xid: u32, out: &mut Vec<u8>) -> bool;
    /// The reply's results; an error ends up in the count of errors.
    fn reply(&mut self, slot: usize, results: Option<Reader<'_>>) -> Result<(), ()>;
}

pub struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The next call's xid but for its slot: an xid that another run had from this port would
    /// be a retransmission of its call.
    xid: u32,
}

/// Slots have the xid's low bits.
const SLOTS: u32 = 64;

fn some_xid() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.unwrap_or_default().as_micros() as u32).wrapping_mul(SLOTS)
}

fn bad(why: String) -> io::Error {
    io::Error::other(why)
}

/// From a port below 1024, as root's clients do.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::*;
    for port in (600..1023u16).rev() {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let _ = setsockopt(&fd, sockopt::ReuseAddr, &true);
        let from = SockaddrIn::new(127, 0, 0, 1, port);
        if bind(fd.as_raw_fd(), &from).is_err() {
            continue;
        }
        let SocketAddr::V4(to) = to else {
            return Err(bad("an IPv4 address is wanted".into()));
        };
        match nix::sys::socket::connect(fd.as_raw_fd(), &SockaddrIn::from(to)) {
            Ok(()) => return Ok(TcpStream::from(fd)),
            Err(nix::errno::Errno::EADDRNOTAVAIL | nix::errno::Errno::EADDRINUSE) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(bad("no port below 1024 is free".into()))
}

impl Link {
    /// A call that is not answered in `lost` ends the run.
    pub fn new(to: SocketAddr, lost: Duration) -> io::Result<Link> {
        let stream = connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(lost))?;
        Ok(Link {
            stream,
            buffer: vec![0; READ],
            start: 0,
            end: 0,
            xid: some_xid(),
        })
    }

    /// The next reply's place in the buffer.
    fn record(&mut self) -> io::Result<Option<(usize, usize)>> {
        let here = &self.buffer[self.start..self.end];
        let Some(mark) = here.first_chunk::<4>() else {
            return Ok(None);
        };
        let mark = u32::from_be_bytes(*mark);
        let len = (mark & 0x7fff_ffff) as usize;
        if mark >> 31 == 0 || len + 4 > READ {
            return Err(bad(format!("a reply with the mark {mark:#x}")));
        }
        if here.len() < 4 + len {
            return Ok(None);
        }
        let at = self.start + 4;
        self.start = at + len;
        Ok(Some((at, at + len)))
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == READ || self.start > READ / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.end += n;
                Ok(())
            }
        }
    }

    /// Keeps `depth` calls under way until the load has no more, or until none of those under
    /// way is answered: they count as errors then. Calls and errors.
    pub fn run(&mut self, depth: usize, load: &mut dyn Load) -> io::Result<(u64, u64)> {
        let mut out = Vec::with_capacity(1 << 20);
        self.xid = some_xid();
        let (mut under_way, mut calls, mut errors) = (0u64, 0, 0);
        for slot in 0..depth {
            under_way += u64::from(load.next(slot, self.xid + slot as u32, &mut out));
        }
        while under_way > 0 {
            let lost = match self.stream.write_all(&out) {
                Ok(()) => self.fill().err(),
                Err(e) => Some(e),
            };
            out.clear();
            if let Some(e) = lost {
                eprintln!("pocker-load: {under_way} calls were not answered: {e}");
                return Ok((calls + under_way, errors + under_way));
            }
            while let Some((from, to)) = self.record()? {
                let record = &self.buffer[from..to];
                let xid = wire::xid(record);
                let slot = (xid % SLOTS) as usize;
                calls += 1;
                if load.reply(slot, wire::results(record)).is_err() {
                    errors += 1;
                }
                if !load.next(slot, xid.wrapping_add(SLOTS), &mut out) {
                    under_way -= 1;
                }
            }
        }
        Ok((calls, errors))
    }

    /// One call and its results.
    pub fn ask<T>(
        &mut self,
        program: (u32, u32),
        procedure: u32,
        args: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(Reader<'_>) -> Option<T>,
    ) -> io::Result<T> {
        let mut out = Vec::new();
        self.xid = some_xid();
        wire::call(&mut out, self.xid, program, procedure, args);
        self.stream.write_all(&out)?;
        loop {
            if let Some((from, to)) = self.record()? {
                let answer = wire::results(&self.buffer[from..to]).and_then(read);
                return answer
                    .ok_or_else(|| bad(format!("procedure {procedure} of {} failed", program.0)));
            }
            self.fill()?;
        }
    }

    pub fn mount(&mut self, path: &str) -> io::Result<Fh> {
        self.ask(
            wire::MOUNT,
            1,
            |out| out.opaque(path.as_bytes()),
            |mut r| (r.u32() == 0).then(|| r.opaque().to_vec()),
        )
        .map_err(|e| bad(format!("mount {path}: {e}")))
    }

    pub fn lookup(&mut self, dir: &Fh, name: &[u8]) -> io::Result<Fh> {
        let args = |out: &mut Vec<u8>| {
            out.opaque(dir);
            out.opaque(name);
        };
        self.ask(wire::NFS, 3, args, |mut r| {
            (r.u32() == 0).then(|| r.opaque().to_vec())
        })
        .map_err(|e| bad(format!("look up {}: {e}", String::from_utf8_lossy(name))))
    }

    pub fn mkdir(&mut self, dir: &Fh, name: &[u8]) -> io::Result<Fh> {
        let args = |out: &mut Vec<u8>| {
            out.opaque(dir);
            out.opaque(name);
            wire::sattr(out, 0o755);
        };
        self.ask(wire::NFS, 9, args, |mut r| {
            (r.u32() == 0 && r.u32() == 1).then(|| r.opaque().to_vec())
        })
        .map_err(|e| bad(format!("make {}: {e}", String::from_utf8_lossy(name))))
    }
}
