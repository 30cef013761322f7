//! Blobs of a registry as readers: a task fetches ahead while the caller reads.

use super::{Name, RegistryError};
use crate::image::ImageError;
use crate::image::source::Blobs;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::{Client, Reference};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Chunks that are fetched ahead, each what one read of the connection gave.
const AHEAD: usize = 64;

pub struct Remote {
    pub runtime: Arc<tokio::runtime::Runtime>,
    pub client: Client,
    pub reference: Reference,
    pub name: Name,
    pub timeout: u64,
}

impl Blobs for Remote {
    fn open(&self, name: &str) -> io::Result<Option<(Box<dyn Read + '_>, u64)>> {
        let digits = name.strip_prefix("blobs/sha256/").unwrap_or_default();
        let digest = format!("sha256:{digits}");
        // Whoever reads may itself be a task that waits, where no other runtime may be waited for: all is
        // done by tasks of this one, and heard of by channels.
        let (tell, told) = sync_channel(1);
        let (send, chunks) = sync_channel::<io::Result<Bytes>>(AHEAD);
        let (client, reference) = (self.client.clone(), self.reference.clone());
        self.runtime.spawn(async move {
            let mut fetched = match client.pull_blob_stream(&reference, digest.as_str()).await {
                Ok(fetched) => fetched,
                Err(e) => {
                    let _ = tell.send(Err(e));
                    return;
                }
            };
            let _ = tell.send(Ok(fetched.content_length.unwrap_or_default()));
            while let Some(chunk) = fetched.stream.next().await {
                let broken = chunk.is_err();
                // The reader may be slow, and this thread has the connection too.
                if tokio::task::block_in_place(|| send.send(chunk)).is_err() || broken {
                    return;
                }
            }
        });
        let size = match told.recv() {
            Ok(Ok(size)) => size,
            Ok(Err(e)) => {
                let error = ImageError::from(self.name.failed(self.timeout, e));
                return Err(error.into());
            }
            Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let stream = Stream {
            chunks,
            current: Bytes::new(),
            name: self.name.clone(),
            timeout: self.timeout,
        };
        Ok(Some((Box::new(stream), size)))
    }
}

struct Stream {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
    name: Name,
    timeout: u64,
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.recv() {
                Ok(Ok(chunk)) => self.current = chunk,
                Ok(Err(e)) => {
                    return Err(ImageError::from(broken(&self.name, self.timeout, e)).into());
                }
                Err(_) => return Ok(0),
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// The library wraps what it met into an error of reading.
fn broken(name: &Name, timeout: u64, error: io::Error) -> RegistryError {
    use oci_client::errors::{DigestError, OciDistributionError as E};
    let inner = error.into_inner();
    match inner.map(|e| e.downcast::<DigestError>()) {
        Some(Ok(digest)) => name.failed(timeout, E::DigestError(*digest)),
        Some(Err(other)) => name.broke_off(timeout, &*other),
        None => RegistryError::new(
            "the image broke off on its way",
            "nothing was kept; try again",
        ),
    }
}
