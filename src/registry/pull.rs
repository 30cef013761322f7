//! An image out of a registry.

use super::blobs::Remote;
use super::{Registry, RegistryError};
use crate::image::source::{Image, oci};
use crate::image::types::{Index, Manifest};
use crate::image::{ImageError, source};

impl Registry {
    /// The digest that the image's tag means now; one that was given is not asked for.
    pub fn resolve(&self) -> Result<String, RegistryError> {
        if let Some(digest) = self.name.digest() {
            return Ok(digest.to_owned());
        }
        let tag = self.name.reference().tag().unwrap_or("latest");
        self.runtime.block_on(self.getter.digest(tag))
    }

    /// The image of that digest: its configuration is here, its layers come when they are read.
    pub fn image(&self, digest: &str) -> Result<Image, RegistryError> {
        let mut digest = digest.to_owned();
        for _ in 0..2 {
            let bytes = self.runtime.block_on(self.getter.manifest(&digest))?;
            if oci::is_index("", &bytes) {
                let index: Index = source::json("the index", &bytes)?;
                digest = oci::by_platform(&index.manifests)?.digest.clone();
                continue;
            }
            let manifest: Manifest = source::json("the manifest", &bytes)?;
            let blobs = Remote {
                runtime: self.runtime.clone(),
                getter: self.getter.clone(),
            };
            let image = oci::from_manifest(Box::new(blobs), &manifest);
            return image.map_err(|e| match ImageError::inside(&e) {
                Some(image) => image.clone().into(),
                None => RegistryError::host("read the image", &e),
            });
        }
        let message = format!("{} is an index of indexes", self.name);
        Err(RegistryError::new(
            message,
            "name the manifest that is meant by its digest",
        ))
    }
}
