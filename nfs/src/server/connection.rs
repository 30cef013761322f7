//! One connection: records in, calls to the file system, replies out.
//!
//! One task does all of it. A call is first tried right here, where it may not block; most
//! never would, and their replies go out with one write for as many as came with one read.
//! The others run on threads. Such a call holds a slot and its share of the connection's
//! memory from before it runs until its reply is written, so a peer that reads slowly holds
//! back its own calls and nothing else.

use super::call::{self, Answer, Place, Session};
use super::counters::Counters;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::patience::Patience;
use super::socket::Socket;
use super::spares::Spares;
use crate::vfs::{Peer, Vfs};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Replies that wait to be written before the connection stops to answer more.
const GATHER: usize = 256 << 10;
/// Calls answered before their replies are written: the peer reads them while the next ones
/// are made.
const TURN: usize = 8;
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
    pub(super) spares: Arc<Spares>,
}

impl Service {
    pub fn new(vfs: Arc<dyn Vfs>) -> Service {
        Service {
            vfs,
            counters: Arc::default(),
            limits: Limits::default(),
            spares: Arc::default(),
        }
    }
}

/// A call's slot and memory, given back when this is dropped.
pub(super) struct Held {
    _slot: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

/// What a thread made of a call.
struct Reply {
    bytes: Vec<u8>,
    held: Held,
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

    /// Waits for a slot and so many bytes; `None` never happens, as the semaphores are
    /// never closed.
    fn hold(&self, bytes: usize) -> impl Future<Output = Option<Held>> + Send + 'static {
        // Clamped to `most`, which fits in u32.
        let units = bytes.div_ceil(UNIT).clamp(1, self.most) as u32;
        let (slots, room) = (self.slots.clone(), self.units.clone());
        async move {
            Some(Held {
                _slot: slots.acquire_owned().await.ok()?,
                _room: room.acquire_many_owned(units).await.ok()?,
            })
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = Option<Held>> + Send>>;

struct Connection<S> {
    service: Service,
    session: Session,
    stream: S,
    place: Place,
    inbox: Inbox,
    outbox: Outbox,
    room: Room,
    /// For the call at hand, which must run on a thread.
    waiting: Option<Waiting>,
    /// Calls on threads.
    running: usize,
    replies: mpsc::Receiver<Reply>,
    reply_to: mpsc::Sender<Reply>,
    patience: Patience,
    /// No more calls are taken.
    closing: bool,
}

/// Serves one connection until it ends, misbehaves, or `stop` becomes true: then the
/// calls in hand are answered first.
pub async fn serve_connection<S: Socket>(
    service: Service,
    stream: S,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let limits = service.limits;
    // Every reply holds a slot, so the queue is never full.
    let (reply_to, replies) = mpsc::channel(limits.in_flight.max(1));
    let mut connection = Connection {
        session: Session::new(peer),
        place: Place::Socket {
            spans: stream.sends_files(),
        },
        stream,
        inbox: Inbox::new(service.spares.clone()),
        outbox: Outbox::new(service.spares.clone()),
        service,
        room: Room::new(&limits),
        waiting: None,
        running: 0,
        replies,
        reply_to,
        patience: Patience::new(limits.stalled),
        closing: false,
    };
    // Also when the sender is gone: then nobody is there to serve for.
    let mut stop = Box::pin(async move { stop.wait_for(|stop| *stop).await.is_ok() });
    poll_fn(|cx| {
        if !connection.closing && stop.as_mut().poll(cx).is_ready() {
            connection.closing = true;
        }
        connection.poll(cx)
    })
    .await?;
    tokio::io::AsyncWriteExt::shutdown(&mut connection.stream).await
}

impl<S: Socket> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut moved = false;
            while self.running > 0
                && let Poll::Ready(Some(reply)) = self.replies.poll_recv(cx)
            {
                self.running -= 1;
                self.outbox.push(reply.bytes, reply.held);
                moved = true;
            }
            moved |= self.answer(cx)?;
            moved |= self.outbox.poll_write(cx, &mut self.stream)?;
            if self.over() {
                return Poll::Ready(Ok(()));
            }
            if !self.closing && self.waiting.is_none() && self.has_room() && !self.inbox.find()? {
                moved |= self.inbox.poll_fill(cx, &mut self.stream)?;
            }
            if moved {
                continue;
            }
            self.inbox.rest();
            self.outbox.rest();
            let partial = self.inbox.partial() && !self.closing;
            return match self.patience.poll(cx, partial, self.unread()) {
                Poll::Ready(e) => Poll::Ready(Err(e)),
                Poll::Pending => Poll::Pending,
            };
        }
    }

    /// Everything that was asked is answered, and no more will come.
    fn over(&self) -> bool {
        (self.closing || self.inbox.ended())
            && self.waiting.is_none()
            && self.running == 0
            && self.outbox.is_empty()
    }

    fn has_room(&self) -> bool {
        self.outbox.waiting() < GATHER
    }

    /// How much the peer has read, where there is something for it to read.
    fn unread(&self) -> Option<u64> {
        (!self.outbox.is_empty()).then_some(self.outbox.written)
    }

    /// Answers the calls that are here; true where one was.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        for _ in 0..TURN {
            if let Some(waiting) = &mut self.waiting {
                let Poll::Ready(held) = waiting.as_mut().poll(cx) else {
                    return Ok(moved);
                };
                self.waiting = None;
                moved = true;
                if let Some(held) = held {
                    self.start(held);
                }
            }
            if self.closing || !self.has_room() || !self.inbox.find()? {
                return Ok(moved);
            }
            let record = self.inbox.record();
            let (service, out) = (&self.service, &mut self.outbox.arena);
            let answer = call::answer(service, &self.session, record, self.place, out);
            match answer {
                Answer::Whole => self.outbox.queue(None),
                Answer::Span(at, span) => self.outbox.queue(Some((at, span))),
                Answer::Hello(instance) => {
                    self.session.client = instance;
                    self.outbox.queue(None);
                }
                Answer::Blocked => {
                    let hold = self.room.hold(call::cost(record));
                    self.waiting = Some(Box::pin(hold));
                    continue;
                }
            }
            self.inbox.done();
            self.patience.record_ended();
            moved = true;
        }
        Ok(moved)
    }

    /// Runs the call at hand on a thread.
    fn start(&mut self, held: Held) {
        let record = self.inbox.take();
        self.patience.record_ended();
        let (service, session) = (self.service.clone(), self.session.clone());
        let replies = self.reply_to.clone();
        self.running += 1;
        tokio::task::spawn_blocking(move || {
            let mut bytes = service.spares.take();
            call::answer(&service, &session, &record, Place::Thread, &mut bytes);
            service.spares.give(record);
            // Fails only where the connection is gone; the client will ask again.
            let _ = replies.try_send(Reply { bytes, held });
        });
    }
}
