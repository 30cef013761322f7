//! FROM an image of a registry: by the digest that its tag has now, which is part of the step's key.
//! What the image says of how to start is kept with the step, so that a build whose steps are
//! there asks the registry for that digest alone, and one with a pinned digest for nothing.

use super::key;
use super::plan::{Action, Base, Planned, State};
use super::tools::{Event, Images, Phase, Progress, Workshop};
use super::{BuildError, BuildRequest};
use crate::control::api::RunConfig;
use crate::image::ImageError;
use crate::image::command::to_run;
use crate::image::source::Image;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a step of an image is known by.
#[derive(Debug)]
pub struct ImageStep {
    pub key: String,
    pub instruction: String,
    pub upstream: String,
}

/// Kept with the step.
#[derive(Serialize, Deserialize)]
struct Upstream {
    digest: String,
    config: RunConfig,
}

fn upstream(digest: &str, config: &RunConfig) -> String {
    let kept = Upstream {
        digest: digest.to_owned(),
        config: config.clone(),
    };
    serde_json::to_string(&kept).unwrap_or_default()
}

fn planned(name: &str) -> Planned {
    Planned {
        line: 1,
        text: String::new(),
        canonical: format!("FROM {name}"),
        action: Action::Base(Base::Image(name.to_owned())),
        state: State::default(),
    }
}

/// The step that `FROM name` makes, where `name` has that digest.
pub fn image_step(name: &str, digest: &str, config: &RunConfig) -> ImageStep {
    let step = planned(name);
    ImageStep {
        key: key::step_key(None, &step, Some(digest), None),
        instruction: step.canonical,
        upstream: upstream(digest, config),
    }
}

/// An image that is the base of a build.
pub(super) struct Found {
    pub digest: String,
    /// RUN is the Pockerfile's own.
    pub config: RunConfig,
    pub upstream: String,
}

fn failed(line: u32, name: &str, e: ImageError) -> BuildError {
    BuildError::Image {
        line,
        name: name.to_owned(),
        why: e.message,
        hint: e.hint,
    }
}

/// From the step, if it is there; else from the registry.
pub(super) fn find(
    request: &BuildRequest<'_>,
    workshop: &dyn Workshop,
    images: &dyn Images,
    line: u32,
    name: &str,
) -> Result<Found, BuildError> {
    let digest = images.resolve(name).map_err(|e| failed(line, name, e))?;
    let step = planned(name);
    let key = key::step_key(None, &step, Some(&digest), request.source_date_epoch);
    let kept = match request.no_cache {
        true => None,
        false => workshop.step(&key)?.and_then(|info| info.upstream),
    };
    let kept: Option<Upstream> = kept.and_then(|text| serde_json::from_str(&text).ok());
    let config = match kept {
        Some(kept) => kept.config,
        None => {
            let image = images
                .open(name, &digest)
                .map_err(|e| failed(line, name, e))?;
            to_run(&image.config.config)
        }
    };
    let upstream = upstream(&digest, &config);
    Ok(Found {
        digest,
        config,
        upstream,
    })
}

/// The image's tree, sealed.
pub(super) fn fetch(
    request: &BuildRequest<'_>,
    workshop: &dyn Workshop,
    images: &dyn Images,
    progress: &mut dyn Progress,
    step: (u32, &str, &str),
) -> Result<Option<String>, BuildError> {
    let (line, name, digest) = step;
    let image: Image = images
        .open(name, digest)
        .map_err(|e| failed(line, name, e))?;
    let mut failure = None;
    let mut stream = Watched {
        stream: image.framing(),
        progress,
        cancelled: request.cancelled,
        failure: &mut failure,
        done: 0,
    };
    let done = workshop.ingest_layers(&mut stream, request.source_date_epoch, false);
    if request.cancelled.load(Ordering::Relaxed) {
        return Err(BuildError::Cancelled);
    }
    match (done, failure) {
        (Ok(done), _) => Ok(done.snapshot),
        (Err(_), Some(e)) => Err(failed(line, name, e)),
        (Err(e), None) => Err(e),
    }
}

/// Counted, interruptible, and it remembers why it broke.
struct Watched<'a, R> {
    stream: R,
    progress: &'a mut dyn Progress,
    cancelled: &'a AtomicBool,
    failure: &'a mut Option<ImageError>,
    done: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.stream.read(out).inspect_err(|e| {
            *self.failure = ImageError::inside(e).cloned();
        })?;
        self.done += n as u64;
        self.progress.event(Event::Bytes {
            phase: Phase::Ingest,
            done: self.done,
            total: None,
        });
        Ok(n)
    }
}
