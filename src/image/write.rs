//! A tree as an image, a layer for each step that made something: the same bytes for the same tree and pocker, without a clock.

mod layout;

pub use layout::beside;

use super::types::*;
use super::{check, command};
use crate::control::api::RunConfig;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

/// When it was made, for tools that want to be told: not when, or no two would be the same.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// A few percent larger than 6 makes it, in half the time.
const LEVEL: u32 = 4;
/// Another form where the same tree gives other bytes: what was noted of the old one is then not asked for.
pub const FORM: &str = "gzip.1";

/// Counts and hashes what passes.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Takes a plain tar, and puts it aside as a layer.
pub struct Stager {
    out: GzEncoder<Hashing<BufWriter<File>>>,
    plain: Sha256,
}

impl Stager {
    /// The file has no name, so that it goes with this process.
    pub fn new(dir: &Path) -> io::Result<Stager> {
        let hashing = Hashing {
            out: BufWriter::with_capacity(256 << 10, tempfile::tempfile_in(dir)?),
            hash: Sha256::new(),
            bytes: 0,
        };
        Ok(Stager {
            out: GzEncoder::new(hashing, flate2::Compression::new(LEVEL)),
            plain: Sha256::new(),
        })
    }

    pub fn finish(self) -> io::Result<Layer> {
        let Hashing { out, hash, bytes } = self.out.finish()?;
        Ok(Layer {
            file: Some(out.into_inner().map_err(|e| e.into_error())?),
            digest: format!("sha256:{}", hex::encode(hash.finalize())),
            size: bytes,
            diff_id: format!("sha256:{}", hex::encode(self.plain.finalize())),
        })
    }
}

impl Write for Stager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.plain.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A compressed layer: one that was put aside, or that is where the image goes.
pub struct Layer {
    file: Option<File>,
    pub digest: String,
    pub size: u64,
    pub diff_id: String,
}

impl Layer {
    /// One that need not be sent.
    pub fn there(digest: String, size: u64, diff_id: String) -> Layer {
        Layer {
            file: None,
            digest,
            size,
            diff_id,
        }
    }

    /// From its beginning.
    pub fn reader(&mut self) -> io::Result<&mut File> {
        let absent = || io::Error::other("a layer was not made");
        let file = self.file.as_mut().ok_or_else(absent)?;
        file.rewind()?;
        Ok(file)
    }

    /// None where it is there.
    pub fn into_file(mut self) -> io::Result<Option<File>> {
        if let Some(file) = &mut self.file {
            file.rewind()?;
        }
        Ok(self.file)
    }
}

/// What is written of a pocker beside its files.
pub struct About<'a> {
    pub name: &'a str,
    pub tag: &'a str,
    pub run: &'a RunConfig,
    /// Its instructions, the base's first, and which of them have a layer.
    pub history: &'a [(&'a str, bool)],
}

/// A whole image, ready to be written.
pub struct Made {
    /// The lowest first.
    pub layers: Vec<Layer>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    name: String,
    tag: String,
}

fn json<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: check::of(bytes),
        size: bytes.len() as u64,
        ..Descriptor::default()
    }
}

impl Made {
    pub fn new(layers: Vec<Layer>, about: &About<'_>) -> io::Result<Made> {
        let platform = Platform::here();
        let history = about.history.iter().map(|(said, makes)| History {
            created: Some(CREATED.to_owned()),
            created_by: (*said).to_owned(),
            empty_layer: !makes,
        });
        let config = json(&Config {
            created: Some(CREATED.to_owned()),
            architecture: platform.architecture,
            os: platform.os,
            config: command::to_image(about.run),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            },
            history: history.collect(),
        })?;
        let manifest = json(&Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: descriptor(CONFIG, &config),
            layers: layers
                .iter()
                .map(|layer| Descriptor {
                    media_type: LAYER_GZIP.to_owned(),
                    digest: layer.digest.clone(),
                    size: layer.size,
                    ..Descriptor::default()
                })
                .collect(),
        })?;
        Ok(Made {
            layers,
            config,
            manifest,
            name: about.name.to_owned(),
            tag: about.tag.to_owned(),
        })
    }

    /// Of all layers, as they are sent.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    pub fn digest(&self) -> String {
        check::of(&self.manifest)
    }

    fn entry(&self) -> Descriptor {
        Descriptor {
            platform: Some(Platform::here()),
            annotations: BTreeMap::from([(REF_NAME.to_owned(), self.tag.clone())]),
            ..descriptor(MANIFEST, &self.manifest)
        }
    }

    /// The layout's index, with `others` that it has already.
    fn index(&self, others: Vec<Descriptor>) -> io::Result<Vec<u8>> {
        let other = |d: &Descriptor| d.annotations.get(REF_NAME) != Some(&self.tag);
        let mut manifests: Vec<Descriptor> = others.into_iter().filter(other).collect();
        manifests.push(self.entry());
        json(&Index {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests,
        })
    }

    /// The layout as a tar, and docker's list with it, so that `docker load` takes it too.
    pub fn write_tar(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let path = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let config = path(&check::of(&self.config));
        let layers: Vec<String> = self.layers.iter().map(|l| path(&l.digest)).collect();
        let saved = json(&[Saved {
            config: config.clone(),
            repo_tags: self.repo_tag().into_iter().collect(),
            layers: layers.clone(),
        }])?;
        let index = self.index(Vec::new())?;
        let mut small = BTreeMap::from([
            (config, self.config.clone()),
            (path(&self.digest()), self.manifest.clone()),
            ("index.json".to_owned(), index),
            ("manifest.json".to_owned(), saved),
            ("oci-layout".to_owned(), LAYOUT.as_bytes().to_vec()),
        ]);
        // Their bytes are read from files. Two that are the same are one.
        let mut large = BTreeMap::new();
        for (name, layer) in layers.into_iter().zip(&mut self.layers) {
            small.insert(name.clone(), Vec::new());
            large.insert(name, layer);
        }
        let mut tar = tar::Builder::new(out);
        for dir in ["blobs/", "blobs/sha256/"] {
            tar.append_data(
                &mut header(tar::EntryType::Directory, 0o755, 0),
                dir,
                io::empty(),
            )?;
        }
        for (name, bytes) in small {
            match large.get_mut(&name) {
                Some(layer) => {
                    let size = layer.size;
                    let mut header = header(tar::EntryType::Regular, 0o644, size);
                    tar.append_data(&mut header, name, layer.reader()?.take(size))?;
                }
                None => {
                    let size = bytes.len() as u64;
                    let mut header = header(tar::EntryType::Regular, 0o644, size);
                    tar.append_data(&mut header, name, &bytes[..])?;
                }
            }
        }
        tar.finish()
    }

    /// Such names are lower case.
    fn repo_tag(&self) -> Option<String> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        self.name
            .bytes()
            .all(fits)
            .then(|| format!("{}:{}", self.name, self.tag))
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}
