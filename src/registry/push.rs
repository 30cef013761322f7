//! An image into a registry.

use super::send::Source;
use super::{Registry, RegistryError};
use crate::image::check;
use crate::image::write::Made;
use bytes::Bytes;

impl Registry {
    /// What the registry has already is not sent; the tag comes last. The manifest's digest.
    pub fn push(&self, made: Made) -> Result<String, RegistryError> {
        let digest = made.digest();
        let (config, manifest) = (made.config.into(), made.manifest.into());
        self.runtime.block_on(async {
            for layer in made.layers {
                let (name, size) = (layer.digest.clone(), layer.size);
                let file = layer.into_file();
                let file =
                    file.map_err(|e| RegistryError::host("read a layer that was put aside", &e))?;
                self.blob(&name, size, Source::File(file.into())).await?;
            }
            self.config_and_tag(config, manifest).await
        })?;
        Ok(digest)
    }

    async fn config_and_tag(&self, config: Bytes, manifest: Bytes) -> Result<(), RegistryError> {
        let (name, size) = (check::of(&config), config.len() as u64);
        self.blob(&name, size, Source::Bytes(config)).await?;
        let tag = self.name.reference().tag().unwrap_or("latest");
        self.getter.put_manifest(tag, manifest).await
    }

    async fn blob(&self, digest: &str, size: u64, source: Source) -> Result<(), RegistryError> {
        match self.getter.has_blob(digest).await? {
            true => Ok(()),
            false => self.getter.put_blob(digest, size, source).await,
        }
    }
}
