//! `pocker push` and `pull`: images to registries and from them.

use super::args::{self, Pull, Push, Reach};
use super::config::Settings;
use super::error::CliError;
use super::image::{Imaged, LATEST, image, is_at};
use super::import::{Base, free_name, install, say, untaken};
use super::transfer::{find_step, split_step};
use super::{ls, open};
use crate::build;
use crate::control::images::Noted;
use crate::image::source::Image;
use crate::image::{ImageError, command};
use crate::registry::{self, Name, Options, Registry, RegistryError};

impl From<RegistryError> for CliError {
    fn from(error: RegistryError) -> CliError {
        CliError::new(error.message).hint(error.hint)
    }
}

/// Registries, as a build asks them: each is spoken to as long as it takes, and no longer, since what
/// comes after forks.
pub struct Registries(pub Options);

impl build::Images for Registries {
    fn resolve(&self, name: &str) -> Result<String, ImageError> {
        let name = Name::parse(name)?;
        match name.digest() {
            Some(digest) => Ok(digest.to_owned()),
            None => Ok(Registry::open(&name, &self.0)?.resolve()?),
        }
    }

    fn open(&self, name: &str, digest: &str) -> Result<Image, ImageError> {
        Ok(Registry::open(&Name::parse(name)?, &self.0)?.image(digest)?)
    }
}

fn options(reach: &Reach) -> Options {
    Options {
        plain_http: reach.plain_http,
        ca: reach.registry_ca.clone(),
        timeout: reach.timeout,
    }
}

pub fn push(settings: &Settings, args: &Push) -> Result<(), CliError> {
    let to = Name::parse(&args.reference)?;
    if to.digest().is_some() {
        return Err(CliError::usage(
            "an image is pushed to a tag; its digest follows from what it holds",
        )
        .hint("write REGISTRY/NAME:TAG"));
    }
    let (name, step) = split_step(&args.what);
    let client = open::server(settings)?;
    let pocker = client.pocker(name)?.ok_or_else(|| ls::unknown(name))?;
    let step = find_step(&pocker, step)?;
    let registry = Registry::open_to_push(&to, &options(&args.reach))?;
    let tag = to.reference().tag().unwrap_or(LATEST);
    // A layer that the registry has is not made again.
    let there = |noted: &Noted| Ok(registry.has_layer(&noted.digest, &noted.repositories)?);
    let (what, aside) = ((tag, args.squash), registry::aside());
    let Imaged { made, of } = image(&client, &pocker, step, what, &aside, there)?;
    let digest = registry.push(made)?;
    is_at(of, &client, &registry.place());
    super::text::out(&format!("{}\n", to.with_digest(&digest)))
}

pub fn pull(settings: &Settings, args: &Pull) -> Result<(), CliError> {
    let from = Name::parse(&args.reference)?;
    let last = from.repository().rsplit('/').next().unwrap_or_default();
    let name = args.name.as_deref().unwrap_or(last);
    build::validate_name(name, &args::command_names())?;
    let client = open::server(settings)?;
    free_name(&client, name, args.force)?;
    let registry = Registry::open(&from, &options(&args.reach))?;
    let digest = registry.resolve()?;
    let image = registry.image(&digest)?;
    let config = command::to_run(&image.config.config);
    let what = from.to_string();
    let done = client.ingest_layers(&mut image.framing(), None, args.trusted);
    let done = done.map_err(|e| untaken(&what, e))?;
    let snapshot = done.snapshot.clone().unwrap_or_default();
    // The step that `FROM` that digest makes, so that a build finds it.
    let step = build::image_step(&from.with_digest(&digest), &digest, &config);
    let base = Base {
        key: step.key,
        instruction: step.instruction,
        upstream: Some(step.upstream),
    };
    install(&client, name, args.force, &snapshot, base, config)?;
    say(settings, name, &done);
    super::text::out(&format!("{}\n", from.with_digest(&digest)))
}
