//! An image into a registry.

use super::send::Source;
use super::{Registry, RegistryError};
use crate::image::check;
use crate::image::write::Made;
use bytes::Bytes;

/// Repositories that are asked for a layer before it is sent.
const MOUNTS_MAX: usize = 3;

impl Registry {
    /// HOST/NAME, as it was written.
    pub fn place(&self) -> String {
        format!("{}/{}", self.name.host(), self.name.repository())
    }

    /// Whether the layer is in the image's repository, or could be put there out of one of `repositories`
    /// ([`Registry::place`]) that had it: registries share what lies in several.
    pub fn has_layer(&self, digest: &str, repositories: &[String]) -> Result<bool, RegistryError> {
        let own = self.name.repository();
        let others = repositories.iter().filter_map(|place| {
            let (host, name) = place.split_once('/')?;
            (host == self.name.host() && name != own).then_some(name)
        });
        self.runtime.block_on(async {
            if self.getter.has_blob(digest).await? {
                return Ok(true);
            }
            for from in others.take(MOUNTS_MAX) {
                if self.getter.mount_blob(digest, from).await? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

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
                if let Some(file) = file {
                    self.blob(&name, size, Source::File(file.into())).await?;
                }
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
