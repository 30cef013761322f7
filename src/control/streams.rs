//! What goes over the control connection as a stream: archives in and out.

use super::api::{ArchiveDone, Status};
use super::client::{Client, ClientError, REPLY_MAX, chunks};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use std::io::Read;
use tokio::sync::mpsc;

/// Bytes read from an archive at a time.
const CHUNK: usize = 256 << 10;

impl Client {
    /// Streams a tar archive into a new sealed tree. Never sent again: the stream is spent.
    pub fn ingest(
        &self,
        archive: &mut dyn Read,
        clamp: Option<i64>,
    ) -> Result<ArchiveDone, ClientError> {
        let query = clamp
            .map(|secs| format!("?clamp={secs}"))
            .unwrap_or_default();
        self.upload(&format!("/v1/archive{query}"), archive)
    }

    /// Streams a tar archive onto a work tree, below `dest`.
    pub fn apply_archive(
        &self,
        tree: u64,
        dest: impl AsRef<[u8]>,
        archive: &mut dyn Read,
    ) -> Result<ArchiveDone, ClientError> {
        let dest = hex::encode(dest);
        self.upload(&format!("/v1/trees/{tree}/archive?dest={dest}"), archive)
    }

    pub(super) fn upload(
        &self,
        path: &str,
        archive: &mut dyn Read,
    ) -> Result<ArchiveDone, ClientError> {
        // It may take longer than a lease that nobody renews.
        self.hold()?;
        // A broken idle connection is found out before the stream is touched.
        let _: Status = self.status()?;
        let (send, receive) = mpsc::channel(4);
        let request = self.request(
            &Method::PUT,
            path,
            Either::Right(StreamBody::new(chunks::Chunks(receive))),
        );
        let mut failed = None;
        let gone = |e: hyper::Error| ClientError::Gone {
            socket: self.endpoint().control_text(),
            source: std::io::Error::other(e),
        };
        let mut slot = self.sender.borrow_mut();
        let Some(sender) = slot.as_mut() else {
            let source = std::io::Error::from(std::io::ErrorKind::NotConnected);
            return Err(ClientError::Gone {
                socket: self.endpoint().control_text(),
                source,
            });
        };
        let outcome = self.runtime.block_on(async {
            sender.ready().await.map_err(gone)?;
            let reply = sender.send_request(request);
            tokio::pin!(reply);
            // Reading blocks this thread, which is all there is: the
            // connection's task runs between the reads.
            let feed = async {
                loop {
                    let mut chunk = vec![0; CHUNK];
                    match archive.read(&mut chunk) {
                        Ok(0) => break,
                        Ok(n) => {
                            chunk.truncate(n);
                            if send.send(Ok(Frame::data(chunk.into()))).await.is_err() {
                                break;
                            }
                            tokio::task::yield_now().await;
                        }
                        Err(e) => {
                            let broken = std::io::Error::new(e.kind(), "archive cut short");
                            let _ = send.send(Err(broken)).await;
                            failed = Some(e);
                            break;
                        }
                    }
                }
                drop(send);
                std::future::pending::<()>().await;
            };
            let response = tokio::select! {
                response = &mut reply => response,
                () = feed => unreachable!("feeding never completes by itself"),
            };
            let response = response.map_err(gone)?;
            let status = response.status();
            let limited = http_body_util::Limited::new(response.into_body(), REPLY_MAX);
            let body = limited
                .collect()
                .await
                .map_err(|e| self.garbled(e.to_string()))?;
            Ok::<_, ClientError>((status, body.to_bytes()))
        });
        drop(slot);
        if let Some(e) = failed {
            self.sender.borrow_mut().take();
            return Err(ClientError::Archive(e));
        }
        let (status, reply) = outcome?;
        self.decode(status, &reply)
    }

    /// Streams a sealed tree as tar into `out`; returns bytes.
    pub fn export_tar(
        &self,
        snapshot: &str,
        out: &mut dyn std::io::Write,
    ) -> Result<u64, ClientError> {
        self.download(&format!("/v1/snapshots/{snapshot}/tar"), out)
    }

    /// Streams a sealed tree as a layer of an image that lies on the tree `below`; of nothing, all of it.
    pub fn export_layer(
        &self,
        snapshot: &str,
        below: Option<&str>,
        out: &mut dyn std::io::Write,
    ) -> Result<u64, ClientError> {
        let below = below.map(|below| format!("&below={below}"));
        let below = below.unwrap_or_default();
        self.download(
            &format!("/v1/snapshots/{snapshot}/tar?layer=true{below}"),
            out,
        )
    }

    /// A reply's body as it comes; returns bytes. Never sent again: what came is spent.
    pub(super) fn download(
        &self,
        path: &str,
        out: &mut dyn std::io::Write,
    ) -> Result<u64, ClientError> {
        self.hold()?;
        let request = self.request(&Method::GET, path, Either::Left(Full::new(Bytes::new())));
        let _: Status = self.status()?;
        let gone = |source| ClientError::Gone {
            socket: self.endpoint().control_text(),
            source,
        };
        let mut slot = self.sender.borrow_mut();
        let Some(sender) = slot.as_mut() else {
            return Err(gone(std::io::Error::from(std::io::ErrorKind::NotConnected)));
        };
        let outcome = self.runtime.block_on(async {
            sender
                .ready()
                .await
                .map_err(|e| gone(std::io::Error::other(e)))?;
            let response = sender
                .send_request(request)
                .await
                .map_err(|e| gone(std::io::Error::other(e)))?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let bytes = http_body_util::Limited::new(body, REPLY_MAX)
                    .collect()
                    .await
                    .map_err(|e| self.garbled(e.to_string()))?;
                return Ok(Err((status, bytes.to_bytes())));
            }
            let mut written = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| gone(std::io::Error::other(e)))?;
                if let Ok(data) = frame.into_data() {
                    out.write_all(&data).map_err(ClientError::Archive)?;
                    written += data.len() as u64;
                }
            }
            Ok(Ok(written))
        });
        drop(slot);
        match outcome {
            Ok(Ok(written)) => Ok(written),
            Ok(Err((status, reply))) => self.decode(status, &reply),
            Err(e) => {
                self.sender.borrow_mut().take();
                Err(e)
            }
        }
    }
}
