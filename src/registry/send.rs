//! Blobs and manifests on their way to a registry. Of what it answers only what is needed is read.

use super::RegistryError;
use super::get::Getter;
use super::token::Shown;
use crate::image::types::MANIFEST;
use bytes::Bytes;
use oci_client::errors::OciDistributionError as E;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Response, StatusCode, Url};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes read of a layer at a time.
const CHUNK: usize = 64 << 10;
/// How often it is looked whether bytes still go out.
const LOOK: Duration = Duration::from_millis(200);

/// What goes out last may still be in buffers on the way, and the registry puts the whole in its place before
/// it answers: it may then take as many times as long.
const AT_THE_END: u32 = 4;

/// A blob's bytes, as often as they are wanted.
pub enum Source {
    Bytes(Bytes),
    File(Arc<File>),
}

/// When bytes were last taken.
struct Moved {
    last: Instant,
    whole: bool,
}

impl Source {
    fn body(&self, moved: &Arc<Mutex<Moved>>) -> Body {
        let file = match self {
            Source::Bytes(bytes) => return Body::from(bytes.clone()),
            Source::File(file) => file.clone(),
        };
        let moved = moved.clone();
        // Each body by a place of its own in the file: one that was given up may still be read.
        Body::wrap_stream(futures_util::stream::try_unfold(0, move |at| {
            let (file, moved) = (file.clone(), moved.clone());
            async move {
                let chunk = tokio::task::spawn_blocking(move || chunk(&file, at));
                let chunk = chunk.await.map_err(io::Error::other)??;
                let mut moved = moved.lock();
                moved.last = Instant::now();
                moved.whole = chunk.is_empty();
                let next = at + chunk.len() as u64;
                Ok::<_, io::Error>((!moved.whole).then_some((chunk, next)))
            }
        }))
    }
}

fn chunk(file: &File, at: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; CHUNK];
    let n = file.read_at(&mut bytes, at)?;
    bytes.truncate(n);
    Ok(bytes.into())
}

impl Getter {
    /// Whether the registry has it.
    pub async fn has_blob(&self, digest: &str) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let response = self.send(|| self.http.head(&url)).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(self.refused(url, status, response).await),
        }
    }

    /// Asks that the blob be taken out of another repository (distribution specification, "Mounting a
    /// blob from another repository"). False where that may not be, for whatever reason: it is sent then.
    pub async fn mount_blob(&self, digest: &str, from: &str) -> Result<bool, RegistryError> {
        let begin = self.url("blobs/uploads/");
        let query = [("mount", digest), ("from", from)];
        *self.also.lock() = Some(from.to_owned());
        let request = || {
            self.http
                .post(&begin)
                .query(&query)
                .header(CONTENT_LENGTH, 0)
        };
        let response = self.send(request).await;
        *self.also.lock() = None;
        // The other repository may be gone, or be another login's, which refuses more than the mount.
        let Ok(response) = response else {
            return Ok(false);
        };
        if response.status() == StatusCode::ACCEPTED {
            // It has begun an upload instead, of which nothing comes.
            if let Ok(place) = self.upload_place(&response)
                && self.is_own(&place)
            {
                self.send(|| self.http.delete(place.clone())).await.ok();
            }
        }
        Ok(response.status() == StatusCode::CREATED)
    }

    pub async fn put_blob(
        &self,
        digest: &str,
        size: u64,
        source: Source,
    ) -> Result<(), RegistryError> {
        let begin = self.url("blobs/uploads/");
        let (shown, response) = self.put_once(&begin, digest, size, &source).await?;
        // A token may expire while bytes go out.
        let response = match self.more_to_show(&response, &shown).await? {
            Some(_) => self.put_once(&begin, digest, size, &source).await?.1,
            None => response,
        };
        self.accepted(&begin, response).await.map(drop)
    }

    /// Asks where the bytes go, and sends them there: with what, and the answer.
    async fn put_once(
        &self,
        begin: &str,
        digest: &str,
        size: u64,
        source: &Source,
    ) -> Result<(Shown, Response), RegistryError> {
        let response = self.send(|| self.http.post(begin).header(CONTENT_LENGTH, 0));
        let response = self.accepted(begin, response.await?).await?;
        let mut to = self.upload_place(&response)?;
        to.query_pairs_mut().append_pair("digest", digest);
        let moved = Arc::new(Mutex::new(Moved {
            last: Instant::now(),
            whole: false,
        }));
        // The registry may name an address of somebody else's, which gets no token.
        let shown = match self.is_own(&to) {
            true => self.shown.lock().clone(),
            false => Shown::Nothing,
        };
        let client = self.uploads.as_ref().unwrap_or(&self.http);
        let request = client
            .put(to)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(source.body(&moved));
        let response = tokio::select! {
            response = shown.on(request).send() => response,
            waited = self.still(&moved) => return Err(self.name.silent(waited.as_secs())),
        };
        let response = response.map_err(|e| self.failed(E::RequestError(e)))?;
        Ok((shown, response))
    }

    pub async fn put_manifest(&self, tag: &str, manifest: Bytes) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{tag}"));
        let request = || {
            let request = self.http.put(&url).header(CONTENT_TYPE, MANIFEST);
            request.body(manifest.clone())
        };
        let response = self.send(request).await?;
        self.accepted(&url, response).await.map(drop)
    }

    async fn accepted(&self, url: &str, response: Response) -> Result<Response, RegistryError> {
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(self.refused(url.to_owned(), status, response).await),
        }
    }

    /// Where the bytes go: the registry says so.
    fn upload_place(&self, response: &Response) -> Result<Url, RegistryError> {
        let odd = |why: &str| {
            let host = self.name.host();
            RegistryError::new(
                format!("the registry {host} {why}"),
                "is it a registry of images? its own log says more",
            )
        };
        let said = response.headers().get(LOCATION);
        let said = said.and_then(|said| said.to_str().ok());
        // Whoever was asked may have sent on to where it is answered.
        let url = said.and_then(|said| response.url().join(said).ok());
        let url = url.ok_or_else(|| odd("does not say where a layer is to be sent"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.plain => Ok(url),
            _ => Err(odd(
                "has TLS, and wants a layer sent to where there is none",
            )),
        }
    }

    /// Ends when nothing was taken for too long: for how long.
    async fn still(&self, moved: &Mutex<Moved>) -> Duration {
        let patience = Duration::from_secs(self.timeout);
        loop {
            let most = match moved.lock().whole {
                true => patience * AT_THE_END,
                false => patience,
            };
            if moved.lock().last.elapsed() >= most {
                return most;
            }
            tokio::time::sleep(LOOK.min(patience)).await;
        }
    }
}
