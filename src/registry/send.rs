//! Blobs and manifests on their way to a registry. Of what it answers only what is needed is read.

use super::RegistryError;
use super::get::Getter;
use crate::image::types::MANIFEST;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::errors::OciDistributionError as E;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Response, StatusCode, Url};
use std::fs::File;
use std::io::{self, Seek};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::io::ReaderStream;

/// Bytes read of a layer at a time.
const CHUNK: usize = 64 << 10;
/// How often it is looked whether bytes still go out.
const LOOK: Duration = Duration::from_millis(200);

/// A blob's bytes, as often as they are wanted.
pub enum Source {
    Bytes(Bytes),
    File(File),
}

/// When bytes were last taken.
type Moved = Arc<Mutex<Instant>>;

impl Source {
    fn body(&self, moved: &Moved) -> io::Result<Body> {
        let file = match self {
            Source::Bytes(bytes) => return Ok(Body::from(bytes.clone())),
            Source::File(file) => file,
        };
        let mut file = file.try_clone()?;
        file.rewind()?;
        let moved = moved.clone();
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK);
        Ok(Body::wrap_stream(chunks.inspect(move |_| {
            *moved.lock() = Instant::now();
        })))
    }
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

    pub async fn put_blob(
        &self,
        digest: &str,
        size: u64,
        source: Source,
    ) -> Result<(), RegistryError> {
        let begin = self.url("blobs/uploads/");
        let response = self.send(|| self.http.post(&begin).header(CONTENT_LENGTH, 0));
        let response = self.accepted(&begin, response.await?).await?;
        let mut to = self.upload_place(&begin, &response)?;
        to.query_pairs_mut().append_pair("digest", digest);
        let moved = Arc::new(Mutex::new(Instant::now()));
        let body = source
            .body(&moved)
            .map_err(|e| RegistryError::host("read the layer that was put aside", &e))?;
        let client = self.uploads.as_ref().unwrap_or(&self.http);
        let request = client
            .put(to.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(body);
        // The registry may name an address of somebody else's, which gets no token.
        let own = Url::parse(&begin).is_ok_and(|begin| begin.origin() == to.origin());
        let request = match own {
            true => self.shown.lock().on(request),
            false => request,
        };
        let response = tokio::select! {
            response = request.send() => response,
            () = self.still(&moved) => return Err(self.name.silent(self.timeout)),
        };
        let response = response.map_err(|e| self.failed(E::RequestError(e)))?;
        self.accepted(&begin, response).await.map(drop)
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
    fn upload_place(&self, asked: &str, response: &Response) -> Result<Url, RegistryError> {
        let odd = |why: &str| {
            let host = self.name.host();
            RegistryError::new(
                format!("the registry {host} {why}"),
                "is it a registry of images? its own log says more",
            )
        };
        let said = response.headers().get(LOCATION);
        let said = said.and_then(|said| said.to_str().ok());
        let url = said.and_then(|said| Url::parse(asked).ok()?.join(said).ok());
        let url = url.ok_or_else(|| odd("does not say where a layer is to be sent"))?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.plain => Ok(url),
            _ => Err(odd(
                "has TLS, and wants a layer sent to where there is none",
            )),
        }
    }

    /// Ends when nothing was taken for too long.
    async fn still(&self, moved: &Moved) {
        let patience = Duration::from_secs(self.timeout);
        while moved.lock().elapsed() < patience {
            tokio::time::sleep(LOOK.min(patience)).await;
        }
    }
}
