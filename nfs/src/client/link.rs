//! The connection's life: connect, say who this is, send what is outstanding again,
//! carry calls and replies until it breaks, and begin anew.

use super::{ClientLimits, Connect, Health, Outgoing, Stream};
use crate::proto::{POCKER_PROGRAM, POCKER_V1};
use crate::rpc::{finish_record, put_call, read_record, start_record};
use crate::secure::why_refused;
use crate::vfs::Caller;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// First and longest pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// The xid of every connection's HELLO, whose reply nobody waits for.
pub const HELLO_XID: u32 = 0;
/// Calls gathered into one write.
const GATHER: usize = 256 << 10;

/// Calls sent and not answered, in the order in which they were made.
#[derive(Default)]
struct Outstanding {
    next: u64,
    by_order: BTreeMap<u64, (u32, Vec<u8>)>,
    by_xid: HashMap<u32, Waiting>,
    /// Replies that came over this connection.
    answered: u64,
}

struct Waiting {
    order: u64,
    reply: oneshot::Sender<Vec<u8>>,
    _slot: OwnedSemaphorePermit,
}

impl Outstanding {
    fn add(&mut self, call: Outgoing) {
        self.by_order.insert(self.next, (call.xid, call.record));
        let waiting = Waiting {
            order: self.next,
            reply: call.reply,
            _slot: call.slot,
        };
        self.by_xid.insert(call.xid, waiting);
        self.next += 1;
    }

    /// Hands a reply to its caller; one that nobody waits for is dropped.
    fn answer(&mut self, record: Vec<u8>) {
        let Some(xid) = record.first_chunk().map(|b| u32::from_be_bytes(*b)) else {
            return;
        };
        self.answered += 1;
        if let Some(waiting) = self.by_xid.remove(&xid) {
            self.by_order.remove(&waiting.order);
            let _ = waiting.reply.send(record);
        }
    }
}

pub async fn run(
    connect: Arc<dyn Connect>,
    instance: [u8; 16],
    limits: ClientLimits,
    mut queue: mpsc::Receiver<Outgoing>,
    tell: watch::Sender<Health>,
) {
    let mut outstanding = Outstanding::default();
    let mut pause = None;
    loop {
        let reached = reach(&*connect, &mut pause, &mut queue, &mut outstanding, &tell).await;
        let Some(stream) = reached else {
            return;
        };
        tell.send_replace(Health::Connected);
        outstanding.answered = 0;
        let ended = carry(stream, instance, limits, &mut queue, &mut outstanding).await;
        match ended {
            Ok(()) => return,
            Err(e) => tracing::debug!("the connection broke: {e}"),
        }
        // A server that takes connections and answers nothing is as good as away.
        pause = match outstanding.answered {
            0 => longer(pause),
            _ => None,
        };
        tell.send_replace(Health::Away {
            since: Instant::now(),
            attempts: 0,
            refused: None,
        });
    }
}

fn longer(pause: Option<Duration>) -> Option<Duration> {
    Some(pause.map_or(BACKOFF.0, |pause| (pause * 2).min(BACKOFF.1)))
}

/// Connects, after `pause` and then with growing ones, for ever; `None` once every handle of
/// the client is gone.
async fn reach(
    connect: &dyn Connect,
    pause: &mut Option<Duration>,
    queue: &mut mpsc::Receiver<Outgoing>,
    outstanding: &mut Outstanding,
    tell: &watch::Sender<Health>,
) -> Option<Box<dyn Stream>> {
    loop {
        if let Some(pause) = *pause {
            let wake = tokio::time::sleep(pause);
            tokio::pin!(wake);
            loop {
                tokio::select! {
                    () = &mut wake => break,
                    call = queue.recv() => outstanding.add(call?),
                }
            }
        }
        let why = match connect.connect().await {
            Ok(stream) => return Some(stream),
            Err(e) => e,
        };
        tracing::debug!("cannot connect: {why}");
        tell.send_modify(|health| {
            if let Health::Away {
                attempts, refused, ..
            } = health
            {
                *attempts = attempts.saturating_add(1);
                *refused = why_refused(&why);
            }
        });
        *pause = longer(*pause);
    }
}

/// HELLO: the instance id.
fn hello(instance: &[u8; 16], out: &mut Vec<u8>) {
    let start = start_record(out);
    let root = Caller {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    };
    put_call(out, HELLO_XID, POCKER_PROGRAM, POCKER_V1, 1, &root);
    out.extend_from_slice(instance);
    finish_record(out, start);
}

/// `Ok` when the client was dropped, `Err` when the connection broke.
async fn carry(
    stream: Box<dyn Stream>,
    instance: [u8; 16],
    limits: ClientLimits,
    queue: &mut mpsc::Receiver<Outgoing>,
    outstanding: &mut Outstanding,
) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let (records, mut replies) = mpsc::channel(limits.in_flight.max(1));
    let reader = tokio::spawn(read_replies(read, limits.reply_max, records));
    let done = async {
        let mut out = Vec::new();
        hello(&instance, &mut out);
        for (_, record) in outstanding.by_order.values() {
            out.extend_from_slice(record);
        }
        send_all(&mut write, &out, &mut replies, outstanding).await?;
        loop {
            out.clear();
            tokio::select! {
                call = queue.recv() => match call {
                    Some(call) => {
                        out.extend_from_slice(&call.record);
                        outstanding.add(call);
                    }
                    None => return Ok(()),
                },
                reply = replies.recv() => match reply {
                    Some(record) => {
                        outstanding.answer(record);
                        continue;
                    }
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
            }
            while out.len() < GATHER {
                let Ok(call) = queue.try_recv() else { break };
                out.extend_from_slice(&call.record);
                outstanding.add(call);
            }
            send_all(&mut write, &out, &mut replies, outstanding).await?;
        }
    }
    .await;
    reader.abort();
    done
}

/// Writes while replies are taken: a server that waits for its replies to be read
/// would otherwise wait for ever for this end, and this end for it.
async fn send_all(
    write: &mut WriteHalf<Box<dyn Stream>>,
    bytes: &[u8],
    replies: &mut mpsc::Receiver<Vec<u8>>,
    outstanding: &mut Outstanding,
) -> io::Result<()> {
    // TLS keeps what the other side does not take at once.
    let sending = async {
        write.write_all(bytes).await?;
        write.flush().await
    };
    tokio::pin!(sending);
    loop {
        tokio::select! {
            sent = &mut sending => return sent,
            reply = replies.recv() => match reply {
                Some(record) => outstanding.answer(record),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }
}

async fn read_replies(read: ReadHalf<Box<dyn Stream>>, max: usize, records: mpsc::Sender<Vec<u8>>) {
    let mut read = tokio::io::BufReader::with_capacity(64 << 10, read);
    loop {
        let mut record = Vec::new();
        match read_record(&mut read, &mut record, max).await {
            Ok(true) => {
                if records.send(record).await.is_err() {
                    return;
                }
            }
            Ok(false) => return,
            Err(e) => {
                tracing::debug!("reading replies ended: {e}");
                return;
            }
        }
    }
}
