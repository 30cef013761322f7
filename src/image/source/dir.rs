//! An OCI image layout in a directory.

use super::{Blobs, Image, oci};
use crate::image::ImageError;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

struct Layout(PathBuf);

impl Blobs for Layout {
    fn open(&self, name: &str) -> io::Result<Option<(Box<dyn Read + '_>, u64)>> {
        let path = self.0.join(name);
        match std::fs::metadata(&path) {
            // Anything else could be waited for for ever.
            Ok(meta) if meta.is_file() => Ok(Some((Box::new(File::open(&path)?), meta.len()))),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

pub fn open(path: &Path, tag: Option<&str>) -> io::Result<Image> {
    let layout = Layout(path.to_owned());
    if layout.open("oci-layout")?.is_none() || layout.open("index.json")?.is_none() {
        let message = "it is a directory, and no OCI image layout";
        let hint = "a directory tree is archived first: `tar -C DIR -c . | pocker import - NAME`";
        return Err(ImageError::new(message, hint).into());
    }
    oci::open(Box::new(layout), tag)
}
