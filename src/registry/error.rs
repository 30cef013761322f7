//! Why a registry did not give or take an image.

use super::Name;
use crate::image::ImageError;
use oci_client::errors::{DigestError, OciDistributionError as E};
use std::error::Error;

/// Most of what a registry says that a message repeats.
const QUOTED: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    pub message: String,
    pub hint: String,
}

impl RegistryError {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> RegistryError {
        RegistryError {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// This host, not the registry.
    pub fn host(tried: &str, error: &std::io::Error) -> RegistryError {
        RegistryError::new(
            format!("cannot {tried}: {error}"),
            "`pocker doctor` says what this host can do",
        )
    }
}

impl From<ImageError> for RegistryError {
    fn from(e: ImageError) -> RegistryError {
        RegistryError::new(e.message, e.hint)
    }
}

impl From<RegistryError> for ImageError {
    fn from(e: RegistryError) -> ImageError {
        ImageError::new(e.message, e.hint)
    }
}

/// The innermost cause says what happened; what is around it says so at length.
fn cause(error: &dyn Error) -> String {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    short(&at.to_string())
}

fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(QUOTED).collect()
}

impl Name {
    /// An error of the library, said in the words of what was wanted.
    pub fn failed(&self, timeout: u64, error: E) -> RegistryError {
        let host = self.host();
        match &error {
            E::RequestError(e) => match e.status().map(|status| status.as_u16()) {
                Some(401 | 403) => self.unauthorized(),
                Some(404) => self.absent(),
                _ => self.broke_off(timeout, e),
            },
            E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => self.unauthorized(),
            E::ServerError {
                code: 401 | 403, ..
            } => self.unauthorized(),
            E::ServerError { code: 404, .. } | E::ImageManifestNotFoundError(_) => self.absent(),
            E::ServerError { code: 429, .. } => RegistryError::new(
                format!("the registry {host} wants fewer requests"),
                "wait a while, or log in: those who did may ask more often",
            ),
            // As Go's servers have it.
            E::ServerError { message, .. } if message.contains("to an HTTPS server") => {
                RegistryError::new(
                    format!("the registry {host} speaks TLS, and was spoken to without"),
                    "--ca FILE names its certificate; leave --plain-http out",
                )
            }
            E::ServerError { code, message, .. } => RegistryError::new(
                format!(
                    "the registry {host} failed (HTTP {code}): {}",
                    short(message)
                ),
                "its own log says why; try again later",
            ),
            E::RegistryError { envelope, .. } => self.said(envelope),
            E::DigestError(DigestError::VerificationError { expected, actual }) => {
                RegistryError::new(
                    format!(
                        "the registry {host} gave {} for {}",
                        short(actual),
                        short(expected)
                    ),
                    "it was changed on its way or in the registry: nothing was kept",
                )
            }
            E::IoError(e) => RegistryError::new(
                format!("the image broke off on its way: {e}"),
                "nothing was kept; try again",
            ),
            other => RegistryError::new(
                format!(
                    "the registry {host} is not understood: {}",
                    short(&other.to_string())
                ),
                "is it a registry of images? its own log says more",
            ),
        }
    }

    fn said(&self, envelope: &oci_client::errors::OciEnvelope) -> RegistryError {
        use oci_client::errors::OciErrorCode as C;
        let code = envelope.errors.first().map(|e| &e.code);
        match code {
            Some(
                C::ManifestUnknown
                | C::NameUnknown
                | C::NotFound
                | C::BlobUnknown
                | C::ManifestBlobUnknown,
            ) => self.absent(),
            Some(C::Unauthorized | C::Denied) => self.unauthorized(),
            _ => {
                let text: Vec<&str> = envelope.errors.iter().map(|e| e.message.as_str()).collect();
                RegistryError::new(
                    format!(
                        "the registry {} refused: {}",
                        self.host(),
                        short(&text.join("; "))
                    ),
                    "its own log says why",
                )
            }
        }
    }

    fn absent(&self) -> RegistryError {
        RegistryError::new(
            format!(
                "the registry {} has no {}",
                self.host(),
                short(&self.to_string())
            ),
            "see that its name and tag are right; some registries say so of what they do not show to everybody",
        )
    }

    fn unauthorized(&self) -> RegistryError {
        let host = self.host();
        RegistryError::new(
            format!(
                "the registry {host} wants a password for {}, and takes none that is known here",
                self.repository()
            ),
            format!(
                "log in with `podman login {host}` or `docker login {host}`: what they keep is read"
            ),
        )
    }

    pub fn silent(&self, timeout: u64) -> RegistryError {
        RegistryError::new(
            format!("the registry {} said nothing for {timeout} s", self.host()),
            "try again; --timeout SECONDS waits longer",
        )
    }

    /// A request that came to no answer, or to no end. What the HTTP client says of it has a type that
    /// is none of ours: it is told by its causes.
    pub fn broke_off(&self, timeout: u64, error: &(dyn Error + 'static)) -> RegistryError {
        let host = self.host();
        let mut texts = Vec::new();
        let mut next: Option<&dyn Error> = Some(error);
        while let Some(error) = next {
            texts.push(error.to_string().to_lowercase());
            next = error.source();
        }
        let says = |what: &str| texts.iter().any(|text| text.contains(what));
        if says("timed out") || says("timeout") {
            return self.silent(timeout);
        }
        let why = cause(error);
        match says("(connect)") || says("dns error") || says("certificate") {
            true => RegistryError::new(
                format!("cannot reach the registry {host}: {why}"),
                "is it up, and its name right? one without TLS needs --plain-http, one with a certificate of its own --ca FILE",
            ),
            false => RegistryError::new(
                format!("the registry {host} broke off: {why}"),
                "nothing was kept; try again",
            ),
        }
    }
}
