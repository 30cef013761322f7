//! One connection: records in, calls to the file system, replies out.
//!
//! A call holds a slot and its share of the connection's memory from before it runs
//! until its reply is written, so a peer that reads slowly holds back its own calls
//! and nothing else: no thread waits for it, and what it can pile up here is bounded.

use super::call::{self, Route, Session};
use super::counters::Counters;
use crate::rpc::{RECORD_MAX, read_record};
use crate::vfs::{Peer, Vfs};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

/// Replies gathered into one write.
const GATHER: usize = 256 << 10;
/// Read from the socket at once.
const READ_AHEAD: usize = 64 << 10;
/// Memory is counted in units of this many bytes.
const UNIT: usize = 4 << 10;

/// What one connection may have and take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls being worked on or answered but not yet written; more wait in the socket.
    pub in_flight: usize,
    /// Bytes of their records and replies, by what the calls ask for; at least one call
    /// goes on whatever it asks.
    pub held: usize,
    /// How long a peer may take for the rest of a record it has begun, and to accept a
    /// batch of replies, before it is cut off. Between records it may be silent for ever,
    /// as an idle mount is.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            in_flight: 64,
            held: 16 << 20,
            stalled: Duration::from_secs(300),
        }
    }
}

/// What all connections of a server share.
#[derive(Clone)]
pub struct Service {
    pub vfs: Arc<dyn Vfs>,
    pub counters: Arc<Counters>,
    pub limits: Limits,
}

impl Service {
    pub fn new(vfs: Arc<dyn Vfs>) -> Service {
        Service {
            vfs,
            counters: Arc::default(),
            limits: Limits::default(),
        }
    }
}

/// A call's slot and memory, given back when this is dropped.
struct Held {
    _slot: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

/// One reply on its way out. Empty where the record could not be answered.
struct Reply {
    bytes: Vec<u8>,
    _held: Held,
}

/// Where the calls of one connection get what they hold.
struct Room {
    slots: Arc<Semaphore>,
    units: Arc<Semaphore>,
    most: usize,
}

impl Room {
    fn new(limits: &Limits) -> Room {
        let most = (limits.held / UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Room {
            slots: Arc::new(Semaphore::new(limits.in_flight.max(1))),
            units: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Waits for a slot; `None` never happens, as the semaphores are never closed.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().acquire_owned().await.ok()
    }

    async fn hold(&self, slot: OwnedSemaphorePermit, bytes: usize) -> Option<Held> {
        // Clamped to `most`, which fits in u32.
        let units = bytes.div_ceil(UNIT).clamp(1, self.most) as u32;
        let room = self.units.clone().acquire_many_owned(units).await.ok()?;
        Some(Held {
            _slot: slot,
            _room: room,
        })
    }
}

/// Serves one connection until it ends, misbehaves, or `stop` becomes true: then the
/// calls in hand are answered first.
pub async fn serve_connection<S>(
    service: Service,
    stream: S,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let limits = service.limits;
    let (read, write) = tokio::io::split(stream);
    let mut read = BufReader::with_capacity(READ_AHEAD, read);
    // Every reply holds a slot, so the queue is never full.
    let (replies, queue) = mpsc::channel(limits.in_flight.max(1));
    let mut writer = tokio::spawn(write_replies(write, queue, limits.stalled));
    let room = Room::new(&limits);
    let mut session = Session::new(peer);
    let outcome = loop {
        let Some(slot) = room.slot().await else {
            break Ok(());
        };
        let record = tokio::select! {
            record = next_record(&mut read, limits.stalled) => record,
            _ = stop.wait_for(|stop| *stop) => break Ok(()),
            // The writer ends first only when the peer stopped reading.
            _ = &mut writer => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let record = match record {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        };
        let plan = call::plan(&*service.vfs, &session, &record);
        if let Some(instance) = plan.instance {
            session.client = instance;
        }
        let Some(held) = room.hold(slot, plan.bytes).await else {
            break Ok(());
        };
        let (service, session, replies) = (service.clone(), session.clone(), replies.clone());
        let run = move || {
            let bytes = call::answer(&service, &session, &record);
            // Fails only where the connection is gone; the client will ask again.
            let _ = replies.try_send(Reply { bytes, _held: held });
        };
        match plan.route {
            Route::Inline => run(),
            Route::Blocking => drop(tokio::task::spawn_blocking(run)),
        }
    };
    drop(replies);
    // Ends when the last call in hand has been answered and written.
    let written = writer.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    outcome.and(written)
}

/// The next record, however long it takes to begin; `None` at the end of the stream.
async fn next_record(
    read: &mut BufReader<impl AsyncRead + Unpin>,
    stalled: Duration,
) -> io::Result<Option<Vec<u8>>> {
    if read.fill_buf().await?.is_empty() {
        return Ok(None);
    }
    let mut record = Vec::new();
    let whole = timeout(stalled, read_record(read, &mut record, RECORD_MAX));
    let whole = whole
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the rest of a record never came"))?;
    Ok(whole?.then_some(record))
}

async fn write_replies<W: AsyncWrite + Unpin>(
    mut write: W,
    mut queue: mpsc::Receiver<Reply>,
    stalled: Duration,
) -> io::Result<()> {
    let mut held = Vec::new();
    while let Some(first) = queue.recv().await {
        let mut batch = first.bytes;
        held.push(first._held);
        while batch.len() < GATHER {
            let Ok(more) = queue.try_recv() else { break };
            batch.extend_from_slice(&more.bytes);
            held.push(more._held);
        }
        timeout(stalled, write.write_all(&batch))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "replies are not read"))??;
        held.clear();
    }
    write.shutdown().await
}
