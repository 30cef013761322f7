//! An image into a registry.

use super::{Registry, RegistryError};
use crate::image::check;
use crate::image::types::MANIFEST;
use crate::image::write::Made;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::errors::OciDistributionError;
use std::fs::File;
use tokio_util::io::ReaderStream;

/// Bytes read of a layer at a time.
const CHUNK: usize = 256 << 10;

impl Registry {
    /// What the registry has already is not sent; the tag comes last. The manifest's digest.
    pub fn push(&self, made: Made) -> Result<String, RegistryError> {
        let digest = made.digest();
        let (config, manifest) = (Bytes::from(made.config.clone()), made.manifest.clone());
        let (layer, size) = (made.layer.digest.clone(), made.layer.size);
        let file = made.layer.into_file();
        let file =
            file.map_err(|e| RegistryError::host("read the layer that was put aside", &e))?;
        self.layer(&layer, size, file)?;
        let name = check::of(&config);
        if !self.call(self.client.blob_exists(&self.reference, &name))? {
            let size = config.len() as u64;
            let once = futures_util::stream::once(async move { Ok(config) });
            self.call(
                self.client
                    .push_blob_stream(&self.reference, once, &name, Some(size)),
            )?;
        }
        let kind = hyper::header::HeaderValue::from_static(MANIFEST);
        self.call(
            self.client
                .push_manifest_raw(&self.reference, manifest, kind),
        )?;
        Ok(digest)
    }

    fn layer(&self, digest: &str, size: u64, file: File) -> Result<(), RegistryError> {
        if self.call(self.client.blob_exists(&self.reference, digest))? {
            return Ok(());
        }
        let file = tokio::fs::File::from_std(file);
        let stream = ReaderStream::with_capacity(file, CHUNK);
        let stream = stream.map(|chunk| chunk.map_err(OciDistributionError::IoError));
        self.call(
            self.client
                .push_blob_stream(&self.reference, stream, digest, Some(size)),
        )?;
        Ok(())
    }
}
