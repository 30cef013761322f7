//! An image in a tar file: where each of its files lies.

use super::heads::{Bytes, Heads};
use super::{Blobs, Image, docker, oci};
use crate::image::ImageError;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// So much of a stream is looked at to tell an image from a tree.
pub const PEEK: u64 = 64 << 10;
/// Files of an image: a thousandth is usual.
const FILES_MAX: usize = 100_000;
/// Links from one name to another that are followed.
const LINKS_MAX: usize = 8;

/// Whether a file of that name can be part of an image: of a layout, or of what `docker save` wrote.
fn fits(name: &str) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let first = name.split('/').next().unwrap_or_default();
    let whole = !name.contains('/');
    match first {
        "" | "blobs" => true,
        "oci-layout" | "index.json" | "manifest.json" | "repositories" => whole,
        _ if whole => {
            let stem = first
                .strip_suffix(".json")
                .or_else(|| first.strip_suffix(".tar"));
            hex(stem.unwrap_or(first))
        }
        _ => hex(first),
    }
}

fn name(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    let parts = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    Some(parts.collect::<Vec<_>>().join("/"))
}

/// Whether what begins so may be an image: only names that images have.
pub fn may_be_image(head: &[u8]) -> bool {
    let mut archive = ::tar::Archive::new(head);
    let Ok(entries) = archive.entries() else {
        return false;
    };
    let mut some = false;
    for entry in entries {
        // The peek ends in the middle of one.
        let Ok(entry) = entry else { break };
        match name(&entry.path_bytes()) {
            Some(name) if fits(&name) => some |= !name.is_empty(),
            _ => return false,
        }
    }
    some
}

enum At {
    Data { offset: u64, size: u64 },
    Link(String),
}

/// The files of an image's archive.
pub struct Index(HashMap<String, At>);

/// None where the archive holds one tree: then its rest was not looked at.
pub fn index(bytes: impl Bytes) -> io::Result<Option<Index>> {
    let mut heads = Heads::new(bytes);
    let mut found = HashMap::new();
    while let Some(entry) = heads.next()? {
        let Some(name) = name(&entry.name).filter(|name| fits(name)) else {
            return Ok(None);
        };
        let at = if entry.kind.is_file() {
            At::Data {
                offset: entry.offset,
                size: entry.size,
            }
        } else if let Some(target) = entry.link {
            match String::from_utf8(target) {
                // A symlink's target is seen from where it is, a hard link's from the top.
                Ok(target) if entry.kind.is_symlink() => At::Link(beside(&name, &target)),
                Ok(target) => At::Link(beside("", &target)),
                Err(_) => continue,
            }
        } else {
            continue;
        };
        if found.len() == FILES_MAX {
            return Ok(None);
        }
        found.insert(name, at);
    }
    let image = found.contains_key("manifest.json")
        || found.contains_key("oci-layout") && found.contains_key("index.json");
    if image {
        return Ok(Some(Index(found)));
    }
    if found.is_empty() {
        // What cannot be read is left to who reads it as a tree.
        return Ok(None);
    }
    // No tree has such names alone.
    let message = "it begins as an image, and has neither an index nor a list";
    Err(ImageError::new(message, "it is cut short: fetch it again, or make it again").into())
}

fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub struct InTar {
    file: File,
    index: Index,
}

impl Index {
    pub fn with(self, file: File) -> InTar {
        InTar { file, index: self }
    }
}

struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut out[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Blobs for InTar {
    fn open(&self, name: &str) -> io::Result<Option<(Box<dyn Read + '_>, u64)>> {
        let mut name = name;
        for _ in 0..LINKS_MAX {
            match self.index.0.get(name) {
                Some(At::Data { offset, size }) => {
                    let part = Part {
                        file: &self.file,
                        at: *offset,
                        left: *size,
                    };
                    return Ok(Some((Box::new(part), *size)));
                }
                Some(At::Link(target)) => name = target,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// A layout where it is one, as its digests name everything; docker writes both into one archive.
pub fn image(blobs: InTar, tag: Option<&str>) -> io::Result<Image> {
    let has = |name| blobs.index.0.contains_key(name);
    match has("oci-layout") && has("index.json") {
        true => oci::open(Box::new(blobs), tag),
        false => docker::open(Box::new(blobs), tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_from_trees_by_their_names() {
        let hex = "0".repeat(64);
        for image in [
            "blobs",
            "blobs/sha256/x",
            "oci-layout",
            "manifest.json",
            &hex,
            &format!("{hex}/layer.tar"),
            &format!("{hex}.json"),
            &format!("{hex}.tar"),
        ] {
            assert!(fits(image), "{image}");
        }
        for tree in [
            "bin",
            "etc/passwd",
            "index.json/x",
            "x.json",
            "x.tar",
            &hex[1..],
        ] {
            assert!(!fits(tree), "{tree}");
        }
        assert_eq!(beside("a/layer.tar", "../b/layer.tar"), "b/layer.tar");
        assert_eq!(beside("", "./b/../../c"), "c");
    }
}
