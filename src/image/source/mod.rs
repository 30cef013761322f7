//! What an archive file, a stream or a directory turns out to be: one tree, or an image of layers.

mod dir;
mod docker;
mod heads;
pub mod oci;
mod tar;

use super::check::Checked;
use super::error::quoted;
use super::plain::plain;
use super::types::Config;
use super::{ImageError, check};
use crate::control::layers::Framing;
use heads::Aside;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

/// Longest JSON of an image that is read; real ones have a hundredth.
pub const JSON_MAX: u64 = 4 << 20;
/// Most layers: docker itself stops at 127.
const LAYERS_MAX: usize = 1024;

/// The named files of an image.
pub trait Blobs {
    /// One of them, and how long it is; none where there is none of that name.
    fn open(&self, name: &str) -> io::Result<Option<(Box<dyn Read + '_>, u64)>>;
}

pub enum Opened {
    /// One tree, as a plain tar.
    Tree(Box<dyn Read>),
    Image(Box<Image>),
}

/// An image whose configuration was read and verified; its layers are when they are read.
pub struct Image {
    blobs: Box<dyn Blobs>,
    pub config: Config,
    layers: Vec<Layer>,
}

struct Layer {
    name: String,
    /// Of its plain bytes.
    diff_id: String,
}

impl Image {
    /// `layers` name the blobs that the configuration's `diff_ids` are of.
    pub fn new(
        blobs: Box<dyn Blobs>,
        config: Config,
        layers: Vec<String>,
    ) -> Result<Image, ImageError> {
        let diff_ids = &config.rootfs.diff_ids;
        if layers.len() != diff_ids.len() || layers.len() > LAYERS_MAX {
            let (layers, ids) = (layers.len(), diff_ids.len());
            let message = format!("the image has {layers} layers and digests of {ids}");
            return Err(ImageError::new(
                message,
                "it was not written whole: make it again",
            ));
        }
        for id in diff_ids {
            check::digits(id)?;
        }
        let layers = layers.into_iter().zip(diff_ids.iter().cloned());
        let layers = layers
            .map(|(name, diff_id)| Layer { name, diff_id })
            .collect();
        Ok(Image {
            blobs,
            config,
            layers,
        })
    }

    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// All layers as one stream, each verified before it ends.
    pub fn framing(&self) -> Framing<'_> {
        let mut left = self.layers.iter().enumerate();
        Framing::new(Box::new(move || {
            let Some((at, layer)) = left.next() else {
                return Ok(None);
            };
            let (stream, _) = self
                .blobs
                .open(&layer.name)?
                .ok_or_else(|| missing(&layer.name))?;
            let what = format!("layer {} of {}", at + 1, self.layers.len());
            let checked = Checked::new(plain(stream)?, &what, &layer.diff_id)?;
            Ok(Some(Box::new(checked) as Box<dyn Read>))
        }))
    }
}

fn missing(name: &str) -> ImageError {
    ImageError::new(
        format!("the image has no {}", quoted(name)),
        "it was not written whole: make it again, or fetch it again",
    )
}

/// A small file of an image, against its digest where that is known.
pub fn small(blobs: &dyn Blobs, name: &str, digest: Option<&str>) -> io::Result<Vec<u8>> {
    let (stream, size) = blobs.open(name)?.ok_or_else(|| missing(name))?;
    let mut bytes = Vec::new();
    if size <= JSON_MAX {
        stream.take(JSON_MAX + 1).read_to_end(&mut bytes)?;
    }
    if size > JSON_MAX || bytes.len() as u64 > JSON_MAX {
        let message = format!("{} is longer than {JSON_MAX} bytes", quoted(name));
        return Err(ImageError::new(
            message,
            "no image has that much to say: it is damaged, or made to fill memory",
        )
        .into());
    }
    if let Some(digest) = digest {
        check::bytes(&quoted(name), &bytes, digest)?;
    }
    Ok(bytes)
}

pub fn json<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        ImageError::new(
            format!(
                "{} is not what an image has there (line {line}, column {column})",
                quoted(name)
            ),
            "it is damaged, or of another kind: make it again",
        )
    })
}

/// A file, a directory, or standard input for `-`. `tag` chooses where there are several images.
pub fn open(path: &Path, tag: Option<&str>) -> io::Result<Opened> {
    if path.as_os_str() == "-" {
        return stream(Box::new(io::stdin()), tag);
    }
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return dir::open(path, tag).map(|image| Opened::Image(Box::new(image)));
    }
    let mut file = File::open(path)?;
    if !meta.is_file() {
        return stream(Box::new(file), tag);
    }
    let mut head = Vec::new();
    (&mut file)
        .take(super::plain::HEAD as u64)
        .read_to_end(&mut head)?;
    file.rewind()?;
    match super::plain::compression(&head)? {
        super::plain::Compression::None => seekable(file, tag),
        _ => stream(Box::new(file), tag),
    }
}

/// A plain file: an image is read where it lies.
fn seekable(mut file: File, tag: Option<&str>) -> io::Result<Opened> {
    let found = tar::index(&file)?;
    file.rewind()?;
    match found {
        Some(blobs) => Ok(Opened::Image(Box::new(tar::image(blobs.with(file), tag)?))),
        None => Ok(Opened::Tree(Box::new(file))),
    }
}

/// What can be read once only: an image is put aside first, as its parts come in any order. What
/// turns out to be a tree goes on from there.
fn stream(stream: Box<dyn Read>, tag: Option<&str>) -> io::Result<Opened> {
    let mut plain = plain(stream)?;
    let mut head = Vec::new();
    (&mut plain).take(tar::PEEK).read_to_end(&mut head)?;
    let mut whole = io::Cursor::new(head).chain(plain);
    if !tar::may_be_image(whole.get_ref().0.get_ref()) {
        return Ok(Opened::Tree(Box::new(whole)));
    }
    let mut aside = tempfile::tempfile_in(spool())?;
    let found = tar::index(Aside {
        stream: &mut whole,
        file: &aside,
    });
    let found = found.map_err(put_aside)?;
    aside.rewind()?;
    match found {
        Some(blobs) => {
            // A decoder tells at its end whether what it gave was whole.
            io::copy(&mut whole, &mut io::sink())?;
            Ok(Opened::Image(Box::new(tar::image(blobs.with(aside), tag)?)))
        }
        None => Ok(Opened::Tree(Box::new(aside.chain(whole)))),
    }
}

fn put_aside(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::new(
            format!(
                "there is no space left in {} for the image",
                spool().display()
            ),
            "set TMPDIR to a folder with more, or unpack the image to a file first",
        )
        .into(),
        _ => e,
    }
}

/// Where what is large is put aside: not in memory.
pub fn spool() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from("/var/tmp"),
    }
}
