//! One connection: records in, calls to the file system, replies out.
//!
//! One task does all of it. A call is first tried right here, where it may not block; most
//! never would, and their replies go out with one write for as many as came with one read.
//! The others run on threads. Such a call holds a slot and its share of the connection's
//! memory from before it runs until its reply is written, so a peer that reads slowly holds
//! back its own calls and nothing else.

use super::Kernels;
use super::call::{self, Answer, Clock, Place, Programs, Session};
use super::counters::Counters;
use super::inbox::Inbox;
use super::mounts::Mounts;
use super::once::Once;
use super::outbox::Outbox;
use super::patience::Patience;
use super::privacy::Privacy;
use super::room::{Held, Pool, Room, SERVER_HELD};
use super::spares::Spares;
use crate::rpc::IO_MAX;
use crate::vfs::{Peer, Vfs};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// Replies that wait to be written before the connection stops to answer more.
const GATHER: usize = 256 << 10;
/// Of these so many may lie there without the connection's holding memory for them.
const LOOSE: usize = 16 << 10;
/// Calls answered before their replies are written: the peer reads them while the next ones
/// are made.
const TURN: usize = 8;

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
    /// The same, for a peer whose calls hold memory of the server for which others wait.
    pub pressed: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            in_flight: 64,
            held: 16 << 20,
            stalled: Duration::from_secs(300),
            pressed: Duration::from_secs(10),
        }
    }
}

/// What all connections of a server share.
#[derive(Clone)]
pub struct Service {
    pub vfs: Arc<dyn Vfs>,
    pub counters: Arc<Counters>,
    pub mounts: Arc<Mounts>,
    pub limits: Limits,
    /// Memory of all calls together.
    pub pool: Arc<Pool>,
    pub(super) spares: Arc<Spares>,
    pub(super) once: Arc<Once>,
    pub(super) programs: Programs,
    pub(super) privacy: Privacy,
    pub(super) kernels: Option<Kernels>,
    /// Most bytes of a READ, a WRITE or a listing.
    pub(super) transfer: u32,
    pub(super) live: Arc<watch::Sender<usize>>,
}

impl Service {
    pub fn new(vfs: Arc<dyn Vfs>) -> Service {
        Service {
            vfs,
            counters: Arc::default(),
            mounts: Arc::default(),
            limits: Limits::default(),
            pool: Arc::new(Pool::new(SERVER_HELD)),
            spares: Arc::default(),
            once: Arc::default(),
            programs: Programs::Nfs,
            privacy: Privacy::None,
            kernels: None,
            transfer: IO_MAX,
            live: Arc::new(watch::Sender::new(0)),
        }
    }

    /// The same service for a listener that answers other programs.
    pub(crate) fn serving(&self, programs: Programs) -> Service {
        Service {
            programs,
            ..self.clone()
        }
    }

    /// The same service for a listener whose clients take replies of so many bytes.
    pub(crate) fn transferring(&self, transfer: u32) -> Service {
        Service {
            transfer: transfer.clamp(4096, IO_MAX),
            ..self.clone()
        }
    }

    /// The same service for a listener that serves of this host's own only kernels.
    pub(super) fn to_kernels(&self, kernels: Option<Kernels>) -> Service {
        Service {
            kernels,
            ..self.clone()
        }
    }

    /// The same service for connections that stand so to TLS.
    pub(super) fn with(&self, privacy: Privacy) -> Service {
        Service {
            privacy,
            ..self.clone()
        }
    }

    /// Connections that are open, on all listeners.
    pub fn connections(&self) -> usize {
        *self.live.borrow()
    }
}

/// What a thread made of a call.
struct Reply {
    bytes: Vec<u8>,
    held: Held,
}

/// What the connection waits for before it goes on with its records.
struct Waiting {
    held: Pin<Box<dyn Future<Output = Held> + Send>>,
    /// So many bytes for a record that is not whole yet; else the call at hand, which must
    /// run on a thread, gets its slot and memory.
    record: Option<usize>,
}

struct Connection<S> {
    service: Service,
    session: Session,
    stream: S,
    place: Place,
    inbox: Inbox,
    outbox: Outbox,
    room: Room,
    waiting: Option<Waiting>,
    /// For small replies that wait to be written.
    gathering: Option<Held>,
    /// Calls on threads.
    running: usize,
    replies: mpsc::Receiver<Reply>,
    reply_to: mpsc::Sender<Reply>,
    patience: Patience,
    /// No more calls are taken.
    closing: bool,
    /// As TLS comes next.
    starting: bool,
    /// Why: what came is no record. The calls before it are answered first.
    failed: Option<io::Error>,
}

/// How a connection ended.
pub(super) enum Ended<S> {
    Over,
    /// All that was said is that TLS is to begin on it.
    StartTls(S),
}

/// Serves one connection until it ends, misbehaves, or `stop` becomes true: then the
/// calls in hand are answered first.
pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    service: Service,
    stream: S,
    peer: Peer,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    converse(service, stream, peer, stop).await.map(drop)
}

/// The same, where what follows may be TLS.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    service: Service,
    stream: S,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) -> io::Result<Ended<S>> {
    let limits = service.limits;
    // Every reply holds a slot, so the queue is never full.
    let (reply_to, replies) = mpsc::channel(limits.in_flight.max(1));
    let mut connection = Connection {
        session: Session::new(peer),
        place: Place::Socket,
        stream,
        inbox: Inbox::new(service.spares.clone()),
        outbox: Outbox::new(service.spares.clone()),
        room: Room::new(&limits, &service.pool),
        service,
        waiting: None,
        gathering: None,
        running: 0,
        replies,
        reply_to,
        patience: Patience::new(limits.stalled, limits.pressed),
        closing: false,
        starting: false,
        failed: None,
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
    if connection.starting {
        return Ok(Ended::StartTls(connection.stream));
    }
    // TLS says goodbye, which nobody may be there to take.
    let goodbye = tokio::io::AsyncWriteExt::shutdown(&mut connection.stream);
    let said = tokio::time::timeout(limits.pressed, goodbye).await;
    said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(Ended::Over)
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
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
            if self.outbox.is_empty() {
                self.gathering = None;
            }
            if self.over() {
                return Poll::Ready(self.failed.take().map_or(Ok(()), Err));
            }
            if !self.closing && self.waiting.is_none() && self.has_room() && !self.find() {
                moved |= match self.closing {
                    true => true,
                    false => {
                        let filled = self.inbox.poll_fill(cx, &mut self.stream);
                        filled.unwrap_or_else(|e| self.fail(e))
                    }
                };
            }
            if moved {
                continue;
            }
            self.inbox.rest();
            self.outbox.rest();
            // Who waits for memory here does not keep us waiting.
            let partial = self.inbox.partial() && !self.closing && self.waiting.is_none();
            let unread = self.unread();
            return match self.patience.poll(cx, partial, unread, &self.room) {
                Poll::Ready(e) => Poll::Ready(Err(e)),
                Poll::Pending => Poll::Pending,
            };
        }
    }

    /// True where a whole record is at hand.
    fn find(&mut self) -> bool {
        !self.closing && self.inbox.find().unwrap_or_else(|e| !self.fail(e))
    }

    /// Ends the connection once what was asked before is answered; true, as that is news.
    fn fail(&mut self, e: io::Error) -> bool {
        self.closing = true;
        self.failed = Some(e);
        true
    }

    /// Everything that was asked is answered, and no more will come.
    fn over(&self) -> bool {
        (self.closing || self.inbox.ended())
            && self.waiting.is_none()
            && self.running == 0
            && self.outbox.is_empty()
    }

    /// More replies may be put beside those that wait to be written.
    fn has_room(&mut self) -> bool {
        let waiting = self.outbox.waiting();
        if waiting >= LOOSE && self.gathering.is_none() {
            self.gathering = self.room.try_hold(GATHER);
        }
        waiting < LOOSE || waiting < GATHER && self.gathering.is_some()
    }

    /// How much the peer has read, where there is something for it to read.
    fn unread(&self) -> Option<u64> {
        (!self.outbox.is_empty()).then_some(self.outbox.written)
    }

    /// Answers the calls that are here; true where one was.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        let mut clock = Clock::start();
        for _ in 0..TURN {
            if self.closing && self.waiting.as_ref().is_some_and(|w| w.record.is_some()) {
                self.waiting = None;
            }
            if let Some(waiting) = &mut self.waiting {
                let Poll::Ready(held) = waiting.held.as_mut().poll(cx) else {
                    return Ok(moved);
                };
                let record = waiting.record;
                self.waiting = None;
                moved = true;
                match record {
                    Some(bytes) => self.inbox.claim(held, bytes),
                    None => self.start(held),
                }
            }
            if self.closing || !self.has_room() {
                return Ok(moved);
            }
            if !self.find() {
                let Some(bytes) = self.inbox.wants() else {
                    return Ok(moved);
                };
                self.wait(bytes, Some(bytes));
                continue;
            }
            moved |= self.answer_one(&mut clock)?;
        }
        Ok(moved)
    }

    fn wait(&mut self, bytes: usize, record: Option<usize>) {
        self.waiting = Some(Waiting {
            held: Box::pin(self.room.hold(bytes, record.is_none())),
            record,
        });
    }

    /// Answers the record at hand, or sees to it that a thread will; true in the first case.
    fn answer_one(&mut self, clock: &mut Clock) -> io::Result<bool> {
        let record = self.inbox.record();
        let mut held = None;
        if let Some(bytes) = call::bulk(record) {
            held = self.room.try_hold(bytes);
            if held.is_none() {
                self.wait_for_thread()?;
                return Ok(false);
            }
            self.outbox.arena.reserve_exact(bytes);
        }
        let (service, out) = (&self.service, &mut self.outbox.arena);
        let before = out.len();
        let answer = call::answer(service, &self.session, record, self.place, clock, out);
        let mut shrink = |bytes| {
            if let Some(held) = &mut held {
                held.shrink(bytes);
            }
        };
        match answer {
            Answer::Whole => {
                shrink(out.len() - before);
                self.outbox.queue(held);
            }
            Answer::Hello(instance) => {
                self.session.client = instance;
                self.outbox.queue(held);
            }
            Answer::StartTls => {
                self.inbox.done();
                // Somebody in between may have put it there, to be taken for what comes over TLS.
                if !self.inbox.is_empty() {
                    self.outbox.arena.truncate(before);
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "something came between the call for TLS and its answer",
                    ));
                }
                self.outbox.queue(held);
                (self.closing, self.starting) = (true, true);
                return Ok(true);
            }
            Answer::Blocked => {
                drop(held);
                self.wait_for_thread()?;
                return Ok(false);
            }
        }
        self.inbox.done();
        self.session.fresh = false;
        self.patience.record_ended();
        Ok(true)
    }

    /// A large record holds what its reply needs already. No client asks with a large record
    /// for a large reply: such a call goes on where it need not wait for others, as two that
    /// wait while they hold something could wait for each other.
    fn wait_for_thread(&mut self) -> io::Result<()> {
        let claimed = self.inbox.claimed();
        let more = call::cost(self.inbox.record()).saturating_sub(claimed);
        if claimed == 0 || more == 0 {
            self.wait(more, None);
            return Ok(());
        }
        let Some(more) = self.room.try_hold(more) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        self.inbox.add(more);
        self.wait(0, None);
        Ok(())
    }

    /// Runs the call at hand on a thread.
    fn start(&mut self, mut held: Held) {
        let (record, claimed) = self.inbox.take();
        if let Some(claimed) = claimed {
            held.add(claimed);
        }
        self.patience.record_ended();
        self.session.fresh = false;
        let (service, session) = (self.service.clone(), self.session.clone());
        let replies = self.reply_to.clone();
        self.running += 1;
        let mut clock = Clock::start();
        let counted = service.counters.on_thread();
        tokio::task::spawn_blocking(move || {
            let _counted = counted;
            let mut bytes = service
                .spares
                .take(held.bytes().saturating_sub(record.len()));
            call::answer(
                &service,
                &session,
                &record,
                Place::Thread,
                &mut clock,
                &mut bytes,
            );
            // From here on only the reply is held.
            let reply = bytes.capacity();
            service.spares.give(record);
            held.shrink(reply);
            // Fails only where the connection is gone; the client will ask again.
            let _ = replies.try_send(Reply { bytes, held });
        });
    }
}
