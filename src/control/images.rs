//! Archives and images that others made, to sealed trees; what is noted of layers that were made of these.

use super::api::ArchiveDone;
use super::client::{Client, ClientError};
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Repositories that are noted of a layer.
pub const REPOSITORIES_MAX: usize = 8;

/// A layer that was made before, so that a registry can be asked for it without making it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Of its compressed bytes, and how many these are.
    pub digest: String,
    pub size: u64,
    /// Of its plain bytes.
    pub diff_id: String,
    /// HOST/NAME of where it was pushed, the last first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
}

/// Which layer is meant: what makes `tree` of the tree `below`, or of nothing, in that form.
#[derive(Clone, Copy, Debug)]
pub struct LayerOf<'a> {
    pub tree: &'a str,
    pub below: Option<&'a str>,
    pub form: &'a str,
}

impl LayerOf<'_> {
    fn path(&self) -> String {
        let below = self.below.map(|below| format!("&below={below}"));
        let below = below.unwrap_or_default();
        format!("/v1/layers/{}?form={}{below}", self.tree, self.form)
    }
}

impl Client {
    /// As [`Client::ingest`], by the rules for what others made; unless they are `trusted`.
    pub fn ingest_outside(
        &self,
        archive: &mut dyn Read,
        trusted: bool,
    ) -> Result<ArchiveDone, ClientError> {
        self.upload(&format!("/v1/archive?outside={}", !trusted), archive)
    }

    /// Streams the layers of an image ([`Framing`](super::layers::Framing)) into a new sealed tree.
    pub fn ingest_layers(
        &self,
        layers: &mut dyn Read,
        clamp: Option<i64>,
        trusted: bool,
    ) -> Result<ArchiveDone, ClientError> {
        let clamp = clamp
            .map(|secs| format!("&clamp={secs}"))
            .unwrap_or_default();
        self.upload(&format!("/v1/layers?outside={}{clamp}", !trusted), layers)
    }

    pub fn noted_layer(&self, of: &LayerOf<'_>) -> Result<Option<Noted>, ClientError> {
        self.get(&of.path())
    }

    pub fn note_layer(&self, of: &LayerOf<'_>, noted: &Noted) -> Result<(), ClientError> {
        self.call(Method::PUT, &of.path(), Some(noted))
    }
}
