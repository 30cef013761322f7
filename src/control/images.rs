//! Archives and images that others made, to sealed trees.

use super::api::ArchiveDone;
use super::client::{Client, ClientError};
use std::io::Read;

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
}
