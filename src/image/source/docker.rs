//! What `docker save` wrote before it wrote layouts, and other tools write as docker-archive.

use super::{Blobs, Image, json, oci, small};
use crate::image::check;
use crate::image::types::{Config, Saved};
use std::io;

const LIST: &str = "manifest.json";

pub fn open(blobs: Box<dyn Blobs>, tag: Option<&str>) -> io::Result<Image> {
    let all: Vec<Saved> = json(LIST, &small(&*blobs, LIST, None)?)?;
    let wanted = |saved: &&Saved| match tag {
        Some(tag) => saved.repo_tags.iter().any(|name| oci::named(name, tag)),
        None => true,
    };
    let mut found = all.iter().filter(wanted);
    let saved = match (found.next(), found.next()) {
        (Some(one), None) => one,
        _ => {
            let names = all.iter().flat_map(|saved| &saved.repo_tags);
            return Err(oci::choose(names.map(String::as_str), tag).into());
        }
    };
    let bytes = small(&*blobs, &saved.config, None)?;
    // It has the digest for its name, wherever it lies.
    let file = saved.config.rsplit('/').next().unwrap_or_default();
    let named = format!("sha256:{}", file.trim_end_matches(".json"));
    if check::digits(&named).is_ok() {
        check::bytes("the configuration", &bytes, &named)?;
    }
    let config: Config = json(&saved.config, &bytes)?;
    Ok(Image::new(blobs, config, saved.layers.clone())?)
}
