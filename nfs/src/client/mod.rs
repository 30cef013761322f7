//! The client: calls pipelined over one connection that is made again for ever.
//!
//! A call that was sent and not answered is sent again, with the same xid and the same
//! bytes, on the next connection: the server's reply cache answers what had run.

mod calls;
mod connect;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz {
    pub use super::replies::{directory, made, results, stable};
}
mod link;
mod replies;
mod starttls;
mod sys;
#[cfg(test)]
mod tests;

pub use crate::secure::Stream;
pub use connect::{Connect, HostConnect, TcpConnect, UnixConnect};
pub use replies::{DirEntry, DirReply, LookupReply, MadeReply, PathConf, ReadReply, WriteReply};
pub use starttls::StartTls;
pub use sys::notice_death;

use crate::proto::nfsstat3;
use crate::rpc::{finish_record, put_call, start_record};
use crate::vfs::Caller;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Whose call it is.
pub type Creds = Caller;

/// What a client may have under way.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Calls sent and not answered; further ones wait.
    pub in_flight: usize,
    /// Longest reply taken, in bytes.
    pub reply_max: usize,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            in_flight: 256,
            reply_max: crate::rpc::RECORD_MAX,
        }
    }
}

/// Why a call has no result.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("NFS status {0:?}")]
    Status(nfsstat3),
    /// mountstat3 (RFC 1813 §5.1.5).
    #[error("MOUNT status {0}")]
    Mount(u32),
    #[error("the server refused the call: {0}")]
    Rpc(&'static str),
    #[error("the reply does not decode")]
    Garbled,
    #[error("the client was shut down")]
    Closed,
}

/// Whether the server is there, and since when.
#[derive(Clone, Debug)]
pub enum Health {
    Connected,
    /// Disconnected since then; attempts that failed meanwhile.
    Away {
        since: Instant,
        attempts: u32,
        /// Why, where trying again is of no use until somebody changes something.
        refused: Option<String>,
    },
}

/// A client; clones share its connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    calls: mpsc::Sender<Outgoing>,
    slots: Arc<Semaphore>,
    xid: AtomicU32,
    health: watch::Receiver<Health>,
}

/// One call on its way: its record and who waits for the reply.
struct Outgoing {
    xid: u32,
    record: Vec<u8>,
    reply: oneshot::Sender<Vec<u8>>,
    /// Held until the reply: a caller that gave up does not make room for another xid.
    slot: OwnedSemaphorePermit,
}

impl Client {
    /// Starts a client on the current runtime. `instance` names it to the server over reconnects.
    pub fn new(connect: Arc<dyn Connect>, instance: [u8; 16], limits: ClientLimits) -> Client {
        let (calls, queue) = mpsc::channel(limits.in_flight.max(1));
        let (tell, health) = watch::channel(Health::Away {
            since: Instant::now(),
            attempts: 0,
            refused: None,
        });
        tokio::spawn(link::run(connect, instance, limits, queue, tell));
        // Another start's xids are unlikely to be these; the reply cache keys on more anyway.
        let seed = u32::from_le_bytes([instance[0], instance[1], instance[2], instance[3]])
            ^ std::process::id().rotate_left(16);
        let shared = Shared {
            calls,
            slots: Arc::new(Semaphore::new(limits.in_flight.max(1))),
            xid: AtomicU32::new(seed),
            health,
        };
        Client {
            shared: Arc::new(shared),
        }
    }

    /// Tells when the server goes and comes back.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.clone()
    }

    /// HELLO has an xid to itself: its reply must never be taken for a call's.
    fn next_xid(&self) -> u32 {
        loop {
            let xid = self.shared.xid.fetch_add(1, Ordering::Relaxed);
            if xid != link::HELLO_XID {
                return xid;
            }
        }
    }

    /// Sends one call and waits for the record that answers it.
    async fn call(
        &self,
        who: &Creds,
        (program, version, procedure): (u32, u32, u32),
        args: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>, ClientError> {
        let closed = |_| ClientError::Closed;
        // At most `in_flight` xids are out, so a counter of 2^32 never meets one of its own.
        let slot = self.shared.slots.clone().acquire_owned().await;
        let slot = slot.map_err(closed)?;
        let xid = self.next_xid();
        let mut record = Vec::with_capacity(256);
        let start = start_record(&mut record);
        put_call(&mut record, xid, program, version, procedure, who);
        args(&mut record);
        finish_record(&mut record, start);
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            xid,
            record,
            reply,
            slot,
        };
        self.shared
            .calls
            .send(outgoing)
            .await
            .map_err(|_| ClientError::Closed)?;
        answer.await.map_err(|_| ClientError::Closed)
    }
}
