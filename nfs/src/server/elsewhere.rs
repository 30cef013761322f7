//! Calls on some handles are answered by another process of this program: a call's whole record goes there over a
//! socket that nobody else has, and the whole reply comes back ([`crate::vfs::Vfs::elsewhere`]).
//!
//! One call at a time on a socket, so their number bounds how many are under way. A question is a head and the record;
//! an answer is the reply with its record mark, which is a mark of no bytes where there is nothing to be answered.

use super::call::{Clock, Place, Session, answer};
use super::connection::Service;
use crate::rpc::{LAST_FRAGMENT, RECORD_MAX};
use crate::vfs::{Elsewhere, Peer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// The record's length, the client's identity, and the most bytes that it takes.
const HEAD: usize = 4 + CLIENT + 4;
const CLIENT: usize = 16;
const MARK: usize = 4;
/// The longest reply: a READ's data and what goes with it, or names in XDR.
const REPLY_MAX: usize = RECORD_MAX;
/// Of the sockets one in so many is one share's at most.
const SHARE: usize = 4;
/// Memory that a socket keeps while nobody asks.
const KEPT: usize = 64 << 10;
/// How long it keeps more, in milliseconds.
const REST: u16 = 1000;

/// The asking side.
pub struct Channels {
    all: Vec<UnixStream>,
    ends: Mutex<Ends>,
    freed: Condvar,
}

struct Ends {
    idle: Vec<usize>,
    /// Those in use too.
    whole: usize,
    /// How many each share has in use.
    shares: HashMap<u64, usize>,
}

impl Channels {
    pub fn new(all: Vec<UnixStream>) -> Channels {
        let ends = Ends {
            idle: (0..all.len()).collect(),
            whole: all.len(),
            shares: HashMap::new(),
        };
        Channels {
            all,
            ends: Mutex::new(ends),
            freed: Condvar::new(),
        }
    }

    /// Nobody is answered from here on, nor waits.
    pub fn close(&self) {
        let mut ends = self.ends.lock();
        (ends.idle, ends.whole) = (Vec::new(), 0);
        for end in &self.all {
            let _ = end.shutdown(Shutdown::Both);
        }
        self.freed.notify_all();
    }

    /// What waits for a slow disk leaves some to the others.
    fn take(&self, of: u64) -> io::Result<usize> {
        let share = (self.all.len() / SHARE).max(1);
        let mut ends = self.ends.lock();
        loop {
            if ends.whole == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let has = ends.shares.get(&of).copied().unwrap_or(0);
            if has < share
                && let Some(end) = ends.idle.pop()
            {
                ends.shares.insert(of, has + 1);
                return Ok(end);
            }
            self.freed.wait(&mut ends);
        }
    }

    /// One that broke stands somewhere in a message, and is of no use.
    fn give(&self, of: u64, end: usize, whole: bool) {
        let mut ends = self.ends.lock();
        match ends.shares.get_mut(&of) {
            Some(has) if *has > 1 => *has -= 1,
            _ => drop(ends.shares.remove(&of)),
        }
        match whole {
            // It may be closed meanwhile.
            true if ends.whole > 0 => ends.idle.push(end),
            true => {}
            false => ends.whole = ends.whole.saturating_sub(1),
        }
        // Who waits may have all of its share, and another not.
        self.freed.notify_all();
    }
}

impl Elsewhere for Channels {
    fn ask(
        &self,
        share: u64,
        client: &[u8; CLIENT],
        transfer: u32,
        record: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let end = self.take(share)?;
        let before = out.len();
        let done = exchange(&self.all[end], client, transfer, record, out);
        if done.is_err() {
            out.truncate(before);
        }
        self.give(share, end, done.is_ok());
        done
    }
}

fn exchange(
    mut end: &UnixStream,
    client: &[u8; CLIENT],
    transfer: u32,
    record: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let length = u32::try_from(record.len()).map_err(io::Error::other)?;
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&length.to_be_bytes());
    head[4..4 + CLIENT].copy_from_slice(client);
    head[4 + CLIENT..].copy_from_slice(&transfer.to_be_bytes());
    end.write_all(&head)?;
    end.write_all(record)?;
    let mut mark = [0; MARK];
    end.read_exact(&mut mark)?;
    let length = (u32::from_be_bytes(mark) & !LAST_FRAGMENT) as usize;
    if length > REPLY_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    fill(end, length, out)
}

/// Appends as much, which was bounded.
fn fill(end: impl Read, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
    out.reserve(length);
    let got = end.take(length as u64).read_to_end(out)?;
    match got == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The answering side, on a thread of its own: until the other one is gone. Who asks was judged there, and is believed.
pub fn serve_elsewhere(service: &Service, mut end: UnixStream) -> io::Result<()> {
    let mut session = Session::new(Peer::Memory);
    let mut service = service.clone();
    let (mut record, mut out) = (Vec::new(), Vec::new());
    loop {
        rest(&end, &mut record, &mut out);
        let mut head = [0; HEAD];
        match end.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| head[at + i]));
        session.client.copy_from_slice(&head[4..4 + CLIENT]);
        let (length, transfer) = (word(0) as usize, word(4 + CLIENT));
        if length > RECORD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if service.transfer != transfer {
            service = service.transferring(transfer);
        }
        record.clear();
        out.clear();
        fill(&mut end, length, &mut record)?;
        let mut clock = Clock::start();
        answer(
            &service,
            &session,
            &record,
            Place::Thread,
            &mut clock,
            &mut out,
        );
        if out.is_empty() {
            out.extend_from_slice(&[0; MARK]);
        }
        end.write_all(&out)?;
    }
}

/// Gives back what large calls took, once none comes for a while.
fn rest(end: &UnixStream, record: &mut Vec<u8>, out: &mut Vec<u8>) {
    if record.capacity().max(out.capacity()) <= KEPT {
        return;
    }
    let mut fds = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(REST)).is_ok_and(|ready| ready == 0) {
        (*record, *out) = (Vec::new(), Vec::new());
    }
}
