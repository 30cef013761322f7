//! What is asked of a registry, with the tokens that it wants, and answers that are bounded before they are
//! in memory, which those of `oci-client`'s own calls are not.

use super::token::Shown;
use super::{Login, Name, RegistryError};
use crate::image::check;
use crate::image::source::JSON_MAX;
use crate::image::types::{DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST};
use bytes::{Bytes, BytesMut};
use oci_client::Reference;
use oci_client::errors::{DigestError, OciDistributionError as E};
use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use std::sync::Arc;

/// Of what a registry says where it refuses.
const SAID_MAX: u64 = 64 << 10;

pub struct Getter {
    pub http: reqwest::Client,
    /// For bytes that go out, where that may be.
    pub uploads: Option<reqwest::Client>,
    pub login: Option<Login>,
    pub reference: Reference,
    pub plain: bool,
    pub name: Name,
    pub timeout: u64,
    pub shown: Mutex<Shown>,
    /// A repository beside the image's own that a token is to be good for.
    pub also: Mutex<Option<String>>,
}

impl Getter {
    pub fn url(&self, what: &str) -> String {
        let (host, repository) = (self.reference.resolve_registry(), self.name.repository());
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{host}/v2/{repository}/{what}")
    }

    /// Whatever is answered, once it is known who asks; its body is not read yet.
    pub async fn send(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let shown = self.shown.lock().clone();
        let response = shown.on(request()).send().await;
        let response = response.map_err(|e| self.failed(E::RequestError(e)))?;
        let Some(now) = self.more_to_show(&response, &shown).await? else {
            return Ok(response);
        };
        let response = now.on(request()).send().await;
        response.map_err(|e| self.failed(E::RequestError(e)))
    }

    /// What the registry wants to be shown where it refused an answer to `shown`, if that is anything else.
    pub async fn more_to_show(
        &self,
        response: &Response,
        shown: &Shown,
    ) -> Result<Option<Shown>, RegistryError> {
        // Whom it sends to may not ask for its password.
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(response.url()) {
            return Ok(None);
        }
        // It has none yet, or one that has expired; a password does not.
        let now = self.show(response.headers()).await?;
        if matches!(now, Shown::Login(_)) && now == *shown {
            return Ok(None);
        }
        *self.shown.lock() = now.clone();
        Ok(Some(now))
    }

    /// Whether it is the registry's own address.
    pub fn is_own(&self, url: &Url) -> bool {
        Url::parse(&self.url("")).is_ok_and(|own| own.origin() == url.origin())
    }

    /// An answer of 200, whose body is not read yet.
    async fn ask(&self, mut method: Method, what: &str) -> Result<Response, RegistryError> {
        let url = self.url(what);
        let accepted = [MANIFEST, DOCKER_MANIFEST, INDEX, DOCKER_LIST].join(", ");
        loop {
            let request = || {
                let request = self.http.request(method.clone(), &url);
                request.header(hyper::header::ACCEPT, &accepted)
            };
            let response = self.send(request).await?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                // Not every registry knows it, and no answer to it says why it is refused.
                StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED
                    if method == Method::HEAD =>
                {
                    method = Method::GET;
                }
                status => return Err(self.refused(url, status, response).await),
            }
        }
    }

    pub fn failed(&self, error: E) -> RegistryError {
        self.name.failed(self.timeout, error)
    }

    pub async fn refused(
        &self,
        url: String,
        status: StatusCode,
        response: Response,
    ) -> RegistryError {
        // What breaks off, or is too long, says nothing.
        let body = self.body(response, SAID_MAX).await.unwrap_or_default();
        let envelope = serde_json::from_slice(&body).ok();
        self.failed(match (status, envelope) {
            (StatusCode::UNAUTHORIZED, _) => E::UnauthorizedError { url },
            (_, Some(envelope)) if status.is_client_error() => E::RegistryError { envelope, url },
            _ => E::ServerError {
                code: status.as_u16(),
                message: String::from_utf8_lossy(&body).into_owned(),
                url,
            },
        })
    }

    pub async fn body(&self, mut response: Response, most: u64) -> Result<Bytes, RegistryError> {
        let long = || {
            let host = self.name.host();
            RegistryError::new(
                format!("the registry {host} gave more than {most} bytes where JSON was asked for"),
                "no image has that much to say: it is no registry, or made to fill memory",
            )
        };
        let mut all = BytesMut::new();
        if response.content_length().is_some_and(|says| says > most) {
            return Err(long());
        }
        while let Some(chunk) = self.chunk(&mut response).await? {
            if (all.len() + chunk.len()) as u64 > most {
                return Err(long());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    pub async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, RegistryError> {
        let chunk = response.chunk().await;
        chunk.map_err(|e| self.name.broke_off(self.timeout, &e))
    }

    /// What the tag means now.
    pub async fn digest(&self, tag: &str) -> Result<String, RegistryError> {
        let what = format!("manifests/{tag}");
        let response = self.ask(Method::HEAD, &what).await?;
        let said = response.headers().get("docker-content-digest");
        if let Some(digest) = said.and_then(|digest| digest.to_str().ok()) {
            check::digits(digest)?;
            return Ok(digest.to_owned());
        }
        let response = self.ask(Method::GET, &what).await?;
        Ok(check::of(&self.body(response, JSON_MAX).await?))
    }

    /// A manifest or index, which is that of its digest.
    pub async fn manifest(&self, digest: &str) -> Result<Bytes, RegistryError> {
        check::digits(digest)?;
        let what = format!("manifests/{digest}");
        let response = self.ask(Method::GET, &what).await?;
        let bytes = self.body(response, JSON_MAX).await?;
        match check::of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(self.differs(digest, found)),
        }
    }

    /// A blob's bytes as they come; whoever takes them checks them.
    pub async fn blob(&self, digest: &str) -> Result<Response, RegistryError> {
        self.ask(Method::GET, &format!("blobs/{digest}")).await
    }

    pub fn differs(&self, expected: &str, actual: String) -> RegistryError {
        let expected = expected.to_owned();
        self.failed(E::DigestError(DigestError::VerificationError {
            expected,
            actual,
        }))
    }
}

/// Shared by what reads an image's layers.
pub type Shared = Arc<Getter>;
