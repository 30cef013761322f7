//! The server engine: connections in, replies out, the file system's work off the
//! socket tasks.

mod call;
mod nfs3;
mod other;
mod readdir;

use crate::rpc::{RECORD_MAX, read_record};
use crate::vfs::{Peer, Vfs};
use call::Session;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};

/// Calls of one connection being worked on; more wait in the socket.
const IN_FLIGHT: usize = 64;
/// Connections of one listener; more are closed at once.
const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take to accept a reply before it is cut off: a reader
/// that never reads would hold its replies for ever.
const STALLED: Duration = Duration::from_secs(300);
/// Replies gathered into one write.
const GATHER: usize = 256 << 10;

/// What a listener asks of its peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// TCP: the source port is below 1024, so root opened it.
    pub reserved_port: bool,
    /// Unix: the peer is root, or who runs the server.
    pub root_peer_only: bool,
}

/// A server and its listeners.
pub struct Server {
    vfs: Arc<dyn Vfs>,
    stop: watch::Sender<bool>,
    live: Arc<AtomicUsize>,
}

impl Server {
    pub fn new(vfs: Arc<dyn Vfs>) -> Server {
        Server {
            vfs,
            stop: watch::Sender::new(false),
            live: Arc::default(),
        }
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub fn listen_unix(&self, listener: UnixListener, options: Options) {
        let (vfs, live, mut stop) = (self.vfs.clone(), self.live.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.changed() => return,
                };
                let Some((stream, _)) = taken(accepted).await else {
                    continue;
                };
                let Ok(cred) = stream.peer_cred() else {
                    continue;
                };
                let own = nix::unistd::geteuid().as_raw();
                if options.root_peer_only && cred.uid() != 0 && cred.uid() != own {
                    tracing::warn!(uid = cred.uid(), "refused a connection that is not root's");
                    continue;
                }
                let peer = Peer::Unix {
                    uid: cred.uid(),
                    gid: cred.gid(),
                    pid: cred.pid(),
                };
                spawn(vfs.clone(), stream, peer, live.clone(), stop.clone());
            }
        });
    }

    pub fn listen_tcp(&self, listener: TcpListener, options: Options) {
        let (vfs, live, mut stop) = (self.vfs.clone(), self.live.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.changed() => return,
                };
                let Some((stream, addr)) = taken(accepted).await else {
                    continue;
                };
                if options.reserved_port && addr.port() >= 1024 {
                    tracing::warn!(%addr, "refused a connection from a port that anybody may use");
                    continue;
                }
                // Replies are whole when they are written: waiting for more gains nothing.
                let _ = stream.set_nodelay(true);
                spawn(
                    vfs.clone(),
                    stream,
                    Peer::Tcp(addr),
                    live.clone(),
                    stop.clone(),
                );
            }
        });
    }

    /// Takes no more calls, finishes those in hand, closes.
    pub async fn shutdown(self, within: Duration) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + within;
        while self.live.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn taken<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(e) => {
            // Out of descriptors, most likely: the loop must not spin.
            tracing::warn!("cannot accept a connection: {e}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn spawn<S>(
    vfs: Arc<dyn Vfs>,
    stream: S,
    peer: Peer,
    live: Arc<AtomicUsize>,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    if live.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
        live.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!("refused a connection: {CONNECTIONS_MAX} are open");
        return;
    }
    tokio::spawn(async move {
        if let Err(e) = serve_connection(vfs, stream, peer.clone(), stop).await {
            tracing::debug!(?peer, "a connection ended: {e}");
        }
        live.fetch_sub(1, Ordering::Relaxed);
    });
}

/// Serves one connection until it ends, misbehaves, or `stop` says so.
pub async fn serve_connection<S>(
    vfs: Arc<dyn Vfs>,
    stream: S,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let mut read = tokio::io::BufReader::with_capacity(64 << 10, read);
    let (replies, queue) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
    let mut writer = tokio::spawn(write_replies(write, queue));
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut session = Session::new(peer);
    let mut record = Vec::new();
    let outcome = loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break Ok(());
        };
        let got = tokio::select! {
            got = read_record(&mut read, &mut record, RECORD_MAX) => got,
            _ = stop.wait_for(|stop| *stop) => break Ok(()),
            // The writer ends first only when the peer stopped reading.
            _ = &mut writer => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        match got {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(e) => break Err(e),
        }
        if let Some(instance) = call::hello(&session, &record) {
            session.client = instance;
        }
        if call::inline(&*vfs, &record) {
            let mut out = Vec::with_capacity(256);
            if call::answer(&*vfs, &session, &record, &mut out) && replies.send(out).await.is_err()
            {
                break Ok(());
            }
            continue;
        }
        let (vfs, session, replies) = (vfs.clone(), session.clone(), replies.clone());
        let record = std::mem::take(&mut record);
        tokio::task::spawn_blocking(move || {
            let mut out = Vec::with_capacity(512);
            if call::answer(&*vfs, &session, &record, &mut out) {
                // A connection that is gone takes its replies along; the client asks again.
                let _ = replies.blocking_send(out);
            }
            drop(slot);
        });
    };
    drop(replies);
    // Replies in hand still go out.
    let _ = writer.await;
    outcome
}

async fn write_replies<W: AsyncWrite + Unpin>(
    mut write: W,
    mut queue: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(mut batch) = queue.recv().await {
        while batch.len() < GATHER {
            match queue.try_recv() {
                Ok(more) => batch.extend_from_slice(&more),
                Err(_) => break,
            }
        }
        tokio::time::timeout(STALLED, write.write_all(&batch))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    write.shutdown().await
}
