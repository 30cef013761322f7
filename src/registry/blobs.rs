//! Blobs of a registry as readers: a task fetches ahead while the caller reads.

use super::RegistryError;
use super::get::Shared;
use crate::image::ImageError;
use crate::image::source::Blobs;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Chunks that are fetched ahead, each what one read of the connection gave.
const AHEAD: usize = 64;

pub struct Remote {
    pub runtime: Arc<tokio::runtime::Runtime>,
    pub getter: Shared,
}

impl Blobs for Remote {
    fn open(&self, name: &str) -> io::Result<Option<(Box<dyn Read + '_>, u64)>> {
        let digits = name.strip_prefix("blobs/sha256/").unwrap_or_default();
        let digest = format!("sha256:{digits}");
        // Whoever reads may itself be a task that waits, where no other runtime may be waited for: all is
        // done by tasks of this one, and heard of by channels.
        let (tell, told) = sync_channel(1);
        let (send, chunks) = sync_channel(AHEAD);
        let (getter, asked) = (self.getter.clone(), digest.clone());
        self.runtime.spawn(async move {
            let mut response = match getter.blob(&asked).await {
                Ok(response) => response,
                Err(e) => {
                    let _ = tell.send(Err(e));
                    return;
                }
            };
            let _ = tell.send(Ok(response.content_length().unwrap_or_default()));
            loop {
                let chunk = getter.chunk(&mut response).await;
                let last = !matches!(chunk, Ok(Some(_)));
                // The reader may be slow, and this thread has the connection too.
                if tokio::task::block_in_place(|| send.send(chunk)).is_err() || last {
                    return;
                }
            }
        });
        let size = match told.recv() {
            Ok(Ok(size)) => size,
            Ok(Err(e)) => return Err(ImageError::from(e).into()),
            Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let stream = Stream {
            chunks,
            current: Bytes::new(),
            hash: Some(Sha256::new()),
            digest,
            getter: self.getter.clone(),
        };
        Ok(Some((Box::new(stream), size)))
    }
}

/// Fails at its end where its bytes are not the digest's.
struct Stream {
    chunks: Receiver<Result<Option<Bytes>, RegistryError>>,
    current: Bytes,
    hash: Option<Sha256>,
    digest: String,
    getter: Shared,
}

impl Stream {
    fn end(&mut self) -> io::Result<usize> {
        let Some(hash) = self.hash.take() else {
            return Ok(0);
        };
        match format!("sha256:{}", hex::encode(hash.finalize())) {
            found if found == self.digest => Ok(0),
            found => Err(ImageError::from(self.getter.differs(&self.digest, found)).into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.recv() {
                Ok(Ok(Some(chunk))) => {
                    if let Some(hash) = &mut self.hash {
                        hash.update(&chunk);
                    }
                    self.current = chunk;
                }
                Ok(Err(e)) => return Err(ImageError::from(e).into()),
                Ok(Ok(None)) => return self.end(),
                // Behind its end.
                Err(_) if self.hash.is_none() => return Ok(0),
                Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
