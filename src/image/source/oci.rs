//! An OCI image layout: index, manifest, configuration, each by its digest.

use super::{Blobs, Image, json, small};
use crate::image::error::quoted;
use crate::image::types::{
    Config, DOCKER_LIST, Descriptor, INDEX, Index, Manifest, Platform, REF_NAME,
};
use crate::image::{ImageError, check};
use std::io;

/// Indexes in indexes.
const DEPTH_MAX: usize = 4;
/// What containerd and docker call the annotation with the whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Where a layout has the blob of a digest.
pub fn path(digest: &str) -> Result<String, ImageError> {
    Ok(format!("blobs/sha256/{}", check::digits(digest)?))
}

pub fn open(blobs: Box<dyn Blobs>, tag: Option<&str>) -> io::Result<Image> {
    let index: Index = json("index.json", &small(&*blobs, "index.json", None)?)?;
    let chosen = by_tag(&index.manifests, tag)?.clone();
    from_descriptor(blobs, chosen)
}

/// The image that a descriptor leads to, through indexes to this host's platform.
pub fn from_descriptor(blobs: Box<dyn Blobs>, mut at: Descriptor) -> io::Result<Image> {
    for _ in 0..DEPTH_MAX {
        let name = path(&at.digest)?;
        let bytes = small(&*blobs, &name, Some(&at.digest))?;
        if is_index(&at.media_type, &bytes) {
            let index: Index = json(&name, &bytes)?;
            at = by_platform(&index.manifests)?.clone();
            continue;
        }
        let manifest: Manifest = json(&name, &bytes)?;
        return from_manifest(blobs, &manifest);
    }
    Err(ImageError::new(
        "the image is an index of indexes without an end",
        "make it again",
    )
    .into())
}

/// By its type, or where that was left out by what it has.
pub fn is_index(media_type: &str, bytes: &[u8]) -> bool {
    match media_type {
        INDEX | DOCKER_LIST => true,
        "" => serde_json::from_slice::<Manifest>(bytes).is_err(),
        _ => false,
    }
}

pub fn from_manifest(blobs: Box<dyn Blobs>, manifest: &Manifest) -> io::Result<Image> {
    let name = path(&manifest.config.digest)?;
    let config: Config = json(
        &name,
        &small(&*blobs, &name, Some(&manifest.config.digest))?,
    )?;
    let layers = manifest.layers.iter().map(|layer| path(&layer.digest));
    Ok(Image::new(
        blobs,
        config,
        layers.collect::<Result<_, _>>()?,
    )?)
}

fn tags(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let get = |key| descriptor.annotations.get(key).map(String::as_str);
    [get(REF_NAME), get(IMAGE_NAME)].into_iter().flatten()
}

fn by_tag<'a>(all: &'a [Descriptor], tag: Option<&str>) -> Result<&'a Descriptor, ImageError> {
    let wanted = |d: &&Descriptor| match tag {
        Some(tag) => tags(d).any(|name| named(name, tag)),
        None => true,
    };
    let mut found = all.iter().filter(wanted);
    match (found.next(), found.next(), tag) {
        (Some(one), None, _) => Ok(one),
        (Some(one), Some(_), Some(_)) => Ok(one),
        (None, _, None) => Err(ImageError::new(
            "the layout holds no image",
            "it has an empty index.json: make it again",
        )),
        (_, _, tag) => Err(choose(all.iter().flat_map(tags), tag)),
    }
}

/// Whether a name is the one asked for: `TAG`, or `NAME:TAG`.
pub fn named(name: &str, tag: &str) -> bool {
    name == tag || name.rsplit_once(':').is_some_and(|(_, own)| own == tag)
}

/// Several images, or none of that tag.
pub fn choose<'a>(tags: impl Iterator<Item = &'a str>, tag: Option<&str>) -> ImageError {
    let mut known: Vec<String> = tags.map(quoted).collect();
    known.sort();
    known.dedup();
    known.truncate(10);
    let message = match tag {
        Some(tag) => format!("it has no image with the tag {}", quoted(tag)),
        None => "it holds several images".to_owned(),
    };
    let hint = match known.is_empty() {
        true => "none of its images has a tag: leave --tag out".to_owned(),
        false => format!("--tag takes one of: {}", known.join(", ")),
    };
    ImageError::new(message, hint)
}

pub fn by_platform(all: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let here = Platform::here();
    let platform = |d: &Descriptor| d.platform.clone().unwrap_or_default();
    if let Some(found) = all.iter().find(|d| platform(d) == here) {
        return Ok(found);
    }
    let mut known: Vec<String> = all
        .iter()
        .map(|d| quoted(&platform(d).to_string()))
        .collect();
    known.dedup();
    known.truncate(10);
    Err(ImageError::new(
        format!("the image has nothing for {here}"),
        format!("it is made for: {}", known.join(", ")),
    ))
}
