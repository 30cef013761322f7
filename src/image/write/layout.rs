//! An image into a layout of the host: a new one whole or not at all, one that is there gets it added.

use super::Made;
use crate::image::types::{Descriptor, Index, LAYOUT};
use crate::image::{ImageError, check};
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Longest index that is added to.
const INDEX_MAX: u64 = 4 << 20;

impl Made {
    pub fn write_dir(&mut self, dir: &Path) -> io::Result<()> {
        let free = match fs::read_dir(dir) {
            Ok(mut names) => names.next().is_none(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(e),
        };
        if free {
            return self.new_layout(dir);
        }
        if !dir.join("oci-layout").is_file() {
            let message = format!("{} is there, and is no OCI image layout", dir.display());
            return Err(
                ImageError::new(message, "name a new directory, or a layout to add to").into(),
            );
        }
        self.add_to(dir)
    }

    fn new_layout(&mut self, dir: &Path) -> io::Result<()> {
        let beside = beside(dir);
        let made = tempfile::Builder::new()
            .prefix(".pocker")
            .tempdir_in(beside)?;
        fs::set_permissions(made.path(), Permissions::from_mode(0o755))?;
        self.add_to(made.path())?;
        fs::rename(made.path(), dir)?;
        // It has another name now.
        let _ = made.keep();
        Ok(())
    }

    fn add_to(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        let (config, manifest) = (self.config.clone(), self.manifest.clone());
        for layer in &mut self.layers {
            let (digest, size) = (layer.digest.clone(), layer.size);
            blob(dir, &digest, &mut layer.reader()?.take(size))?;
        }
        blob(dir, &check::of(&config), &mut &config[..])?;
        blob(dir, &check::of(&manifest), &mut &manifest[..])?;
        let index = self.index(known(dir)?)?;
        if !dir.join("oci-layout").exists() {
            put(&dir.join("oci-layout"), &mut LAYOUT.as_bytes())?;
        }
        // What refers to all of it comes last.
        put(&dir.join("index.json"), &mut &index[..])
    }
}

/// The folder that a path is in.
pub fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn known(dir: &Path) -> io::Result<Vec<Descriptor>> {
    let file = match fs::File::open(dir.join("index.json")) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(INDEX_MAX).read_to_end(&mut bytes)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|_| {
        let message = format!("{}/index.json is no index of images", dir.display());
        ImageError::new(message, "name a new directory")
    })?;
    Ok(index.manifests)
}

fn blob(dir: &Path, digest: &str, bytes: &mut dyn Read) -> io::Result<()> {
    let path = dir.join("blobs/sha256").join(check::digits(digest)?);
    match path.exists() {
        true => Ok(()),
        false => put(&path, bytes),
    }
}

/// Whole or not at all.
fn put(path: &Path, bytes: &mut dyn Read) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(beside(path))?;
    io::copy(bytes, &mut file)?;
    file.flush()?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
