//! Archives over the control socket: the only bodies that are not JSON.

use super::routes::own_tree;
use super::{Counted, Peer, transfers};
use crate::control::api::ArchiveDone;
use crate::daemon::archive::{self, ArchiveError, check, out, step, work::WorkSink};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::ingest::IngestSink;
use crate::daemon::state::{Daemon, digest};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Chunks in flight between the socket and the blocking side.
pub(super) const QUEUE: usize = 8;

type Chunks = mpsc::Receiver<std::io::Result<Bytes>>;

/// A request body, read from a blocking thread.
pub(super) struct BodyReader {
    chunks: Chunks,
    current: Bytes,
    whole: oneshot::Receiver<Whole>,
}

/// What a body was, once all of it has passed.
struct Whole {
    bytes: u64,
    sha256: [u8; 32],
}

impl BodyReader {
    /// After the last byte was read.
    fn whole(self) -> Outcome<Whole> {
        let whole = self.whole.blocking_recv();
        whole.map_err(|e| Fail::internal("the archive ended in the middle", &e))
    }
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// How long more is read, and left, of a body that was refused.
const LINGER: Duration = Duration::from_secs(30);

/// The digest is taken here, beside the thread that takes the archive apart and hashes
/// its files.
pub(super) fn reader(body: Body, patience: Option<Duration>) -> BodyReader {
    let (send, chunks) = mpsc::channel(QUEUE);
    let (tell, whole) = oneshot::channel();
    tokio::spawn(async move {
        let mut stream = body.into_data_stream();
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        loop {
            let next = match patience {
                None => Ok(stream.next().await),
                Some(patience) => tokio::time::timeout(patience, stream.next()).await,
            };
            let chunk = match next {
                Ok(None) => break,
                Ok(Some(chunk)) => chunk,
                Err(_) => Err(axum::Error::new("nothing came of it for too long")),
            };
            let broken = chunk.is_err();
            if let Ok(chunk) = &chunk {
                hash.update(chunk);
                bytes += chunk.len() as u64;
            }
            let sent = send.send(chunk.map_err(std::io::Error::other)).await;
            if broken {
                return;
            }
            if sent.is_err() {
                // Refused: the answer is on its way, and who still sends would hear of a closed connection instead.
                let rest = async { while let Some(Ok(_)) = stream.next().await {} };
                let _ = tokio::time::timeout(LINGER, rest).await;
                return;
            }
        }
        let sha256 = hash.finalize().into();
        let _ = tell.send(Whole { bytes, sha256 });
    });
    BodyReader {
        chunks,
        current: Bytes::new(),
        whole,
    }
}

fn refused(e: ArchiveError) -> Fail {
    let whole = "it has to be a complete tar archive, plain or compressed with gzip, zstd or xz";
    match &e {
        ArchiveError::Store { .. } => Fail::internal("cannot take the archive", &e),
        ArchiveError::Read(io) => {
            Fail::bad(format!("the archive cannot be read: {}", bounded(io))).hint(whole)
        }
        ArchiveError::NotTar | ArchiveError::Unended => {
            Fail::bad(format!("cannot take the archive: {e}")).hint(whole)
        }
        ArchiveError::Device { .. } => Fail::bad(format!("cannot take the archive: {e}"))
            .hint("where it is meant to be there: `pocker import --trusted`"),
        other => Fail::bad(format!("cannot take the archive: {other}"))
            .hint("nothing of it was kept; `tar -C ROOT -c .` makes one that can be taken"),
    }
}

/// A parser's words may quote the archive.
fn bounded(error: &std::io::Error) -> String {
    const MOST: usize = 200;
    let text = error.to_string();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().map(plain).take(MOST).collect();
    if text.chars().count() > MOST {
        shown.push('…');
    }
    shown
}

pub(super) async fn on_blocking<T: Send + 'static>(
    daemon: Arc<Daemon>,
    call: impl FnOnce(&Daemon) -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let counted = Counted::new(daemon.clone());
    let place = transfers::place().await?;
    let done = tokio::task::spawn_blocking(move || {
        let _held = (counted, place);
        call(&daemon)
    });
    done.await
        .map_err(|e| Fail::internal("the call ended in the middle", &e))?
}

/// How an archive is taken.
#[derive(Deserialize)]
pub struct Taking {
    clamp: Option<i64>,
    /// By the strict rules for what others made.
    #[serde(default)]
    outside: bool,
}

/// `PUT /v1/archive`: a new sealed tree.
pub async fn ingest(
    State(d): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Query(q): Query<Taking>,
    body: Body,
) -> Outcome<Json<ArchiveDone>> {
    let body = reader(body, peer.patience());
    sealed(d, q, body, |stream, sink| archive::read(stream, sink)).await
}

/// `PUT /v1/layers`: a new sealed tree of an image's layers, framed (`control::layers`).
pub async fn layers(
    State(d): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Query(q): Query<Taking>,
    body: Body,
) -> Outcome<Json<ArchiveDone>> {
    let body = reader(body, peer.patience());
    sealed(d, q, body, archive::layers::read).await
}

async fn sealed(
    daemon: Arc<Daemon>,
    how: Taking,
    mut stream: BodyReader,
    read: impl FnOnce(&mut dyn Read, &mut IngestSink) -> Result<u64, ArchiveError> + Send + 'static,
) -> Outcome<Json<ArchiveDone>> {
    let done = on_blocking(daemon, move |d| {
        let mut sink = IngestSink::new(&d.store, how.outside);
        let entries = read(&mut stream, &mut sink).map_err(refused)?;
        let whole = stream.whole()?;
        let done = sink.finish(how.clamp).map_err(refused)?;
        let snapshot = done.snapshot;
        // Nothing refers to the tree yet: its builder is about to.
        d.hold(done.tree);
        Ok(ArchiveDone {
            snapshot: Some(snapshot.to_string()),
            entries,
            bytes: whole.bytes,
            sha256: hex::encode(whole.sha256),
        })
    });
    done.await.map(Json)
}

#[derive(Deserialize)]
pub struct Dest {
    /// The directory, hexadecimal: a path is bytes.
    dest: String,
}

/// `PUT /v1/trees/{id}/archive?dest=HEX`: onto a work tree.
pub async fn apply(
    State(d): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<u64>,
    Query(q): Query<Dest>,
    body: Body,
) -> Outcome<Json<ArchiveDone>> {
    let mut stream = reader(body, peer.patience());
    let done = on_blocking(d, move |d| {
        own_tree(d, peer, id)?;
        let dest = hex::decode(&q.dest).map_err(|_| Fail::bad("dest is not hexadecimal"))?;
        let tree = d.works.get(id);
        let tree = tree.map_err(|_| Fail::not_found(format!("there is no work tree {id}")))?;
        let mut sink = WorkSink::new(tree, &dest).map_err(refused)?;
        let entries = archive::read(&mut stream, &mut sink).map_err(refused)?;
        sink.finish().map_err(refused)?;
        let whole = stream.whole()?;
        Ok(ArchiveDone {
            snapshot: None,
            entries,
            bytes: whole.bytes,
            sha256: hex::encode(whole.sha256),
        })
    });
    done.await.map(Json)
}

/// What a blocking writer puts into a response body.
pub(super) struct BodyWriter {
    chunks: mpsc::Sender<std::io::Result<Bytes>>,
    buffer: Vec<u8>,
}

/// Bytes gathered before they go out.
const CHUNK: usize = 256 << 10;

impl BodyWriter {
    pub(super) fn new(chunks: mpsc::Sender<std::io::Result<Bytes>>) -> BodyWriter {
        BodyWriter {
            chunks,
            buffer: Vec::with_capacity(CHUNK),
        }
    }

    fn send(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(CHUNK);
        let chunk = std::mem::replace(&mut self.buffer, next).into();
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.chunks.blocking_send(Ok(chunk)).map_err(gone)
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.send()
    }
}

/// What of a tree is wanted: all of it, or as a layer of an image what it has beside the tree `below`.
#[derive(Deserialize)]
pub struct Part {
    #[serde(default)]
    layer: bool,
    below: Option<String>,
}

/// `GET /v1/snapshots/{digest}/tar`.
pub async fn tar(
    State(d): State<Arc<Daemon>>,
    Path(snapshot): Path<String>,
    Query(part): Query<Part>,
) -> Outcome<Body> {
    let (tree, below) = on_blocking(d.clone(), move |d| {
        let open = |text: &str| {
            let tree = d.store.sealed(&digest(text)?);
            tree.map_err(|e| Fail::internal("cannot open the tree", &e))
        };
        let tree = open(&snapshot)?;
        let below = part.below.as_deref().map(open).transpose()?;
        let (what, checked) = match part.layer {
            true => ("image", check::layer(&tree, below.as_deref())),
            false => ("archive", check::archive(&tree)),
        };
        checked.map_err(|e| {
            Fail::bad(format!("cannot make an {what} of the tree: {e}")).hint(match e {
                ArchiveError::Long { .. } if below.is_some() => "with --squash all steps are one layer, which does not name what is gone",
                ArchiveError::Entry { .. } if part.layer => "`pocker export --format tar` has no such names",
                _ => "nothing was written; `pocker cp NAME:/DIR -` takes a part of it, `pocker sync` a whole pocker",
            })
        })?;
        Ok((tree, below))
    })
    .await?;
    let (send, mut chunks) = mpsc::channel(QUEUE);
    let held = (Counted::new(d), transfers::place().await?);
    tokio::task::spawn_blocking(move || {
        let _held = held;
        let mut writer = BodyWriter::new(send.clone());
        let written = match part.layer {
            true => step::write(&tree, below.as_deref(), &mut writer),
            false => out::write(&*tree, &mut writer),
        };
        let written = written.and_then(|()| writer.flush().map_err(ArchiveError::Read));
        if let Err(e) = written {
            tracing::warn!("an export ended early: {e}");
            // The reader sees a broken body, not a short archive.
            let _ = send.blocking_send(Err(std::io::Error::other(e.to_string())));
        }
    });
    let stream = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    Ok(Body::from_stream(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a body that does not come, or does in time.
    async fn read(patience: Option<Duration>, comes: bool) -> std::io::Result<usize> {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("some"))]);
        let body = match comes {
            true => Body::from_stream(first),
            false => Body::from_stream(first.chain(futures_util::stream::pending())),
        };
        let mut reader = reader(body, patience);
        let all = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        all.await.expect("it ends")
    }

    #[tokio::test]
    async fn a_body_of_which_nothing_comes_is_given_up() {
        let moment = Some(Duration::from_millis(20));
        assert!(read(moment, false).await.is_err());
        assert_eq!(read(None, true).await.expect("whole"), 4);
        assert_eq!(read(Some(Duration::MAX), true).await.expect("whole"), 4);
    }
}
