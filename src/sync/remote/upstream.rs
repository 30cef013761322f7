//! An object store as a server's upstream: what is not here is fetched when it is first read.

use super::error::{About, Said};
use super::{PACKED_MAX, Remote};
use parking_lot::Mutex;
use pocker_store::sync::{SyncError, Want};
use pocker_store::types::Digest;
use pocker_store::{StoreError, Take, Upstream};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Read with what is asked for, to either side of it: things of one directory lie together.
const REACH: u64 = 128 << 10;
/// For so long after it did not answer it is not asked again: else all readers would wait.
const PAUSE: Duration = Duration::from_secs(2);
/// For so long after it had no such thing it is not asked for that one.
pub(super) const MISSED: Duration = Duration::from_secs(5);
/// For so long it is not asked for one that it did not give, or not whole: others may be had in the meantime.
pub(super) const FAILED: Duration = Duration::from_secs(1);
/// Of what it does not have or give.
pub(super) const MISSES_MAX: usize = 4096;

pub struct Fetcher {
    remote: Remote,
    /// When it failed, and why.
    down: Mutex<Option<(Instant, String)>>,
    misses: Mutex<Misses>,
}

/// What it was found not to have or give, until when that is believed, and what was said. Bounded: a tree
/// may name anything.
#[derive(Default)]
pub(super) struct Misses(HashMap<Digest, (Instant, Box<str>)>);

impl Misses {
    pub(super) fn why(&self, digest: &Digest, now: Instant) -> Option<&str> {
        let (until, why) = self.0.get(digest)?;
        (now < *until).then_some(why)
    }

    pub(super) fn add(&mut self, digest: Digest, now: Instant, believed: Duration, why: &str) {
        if self.0.len() >= MISSES_MAX {
            self.0.retain(|_, (until, _)| now < *until);
        }
        // Asked for again where there is no room: that costs a request, and no more.
        if self.0.len() < MISSES_MAX {
            let why = why.chars().take(WHY_MAX).collect();
            self.0.insert(digest, (now + believed, why));
        }
    }
}

impl Fetcher {
    /// Asks nothing yet: a server starts whether its upstream answers or not.
    pub fn open(url: &str, deadline: Duration) -> Result<Fetcher, SyncError> {
        let mut remote = Remote::open(url, false)?;
        remote.deadline = Some(deadline);
        Ok(Fetcher::over(remote))
    }

    pub(super) fn over(remote: Remote) -> Fetcher {
        Fetcher {
            remote,
            down: Mutex::new(None),
            misses: Mutex::default(),
        }
    }

    fn give(&self, want: &Want, take: Take<'_>) -> Result<(), Failed> {
        let mut each = |given: &Want, bytes: &mut dyn std::io::Read| {
            // What the store says of it is the store's: it goes through as it is.
            take(given, bytes).map_err(|e| SyncError::because("taken", e))
        };
        if want.limit() > PACKED_MAX {
            self.remote.give_large(want, &mut each)?;
            return Ok(());
        }
        let thing = (want.digest, true);
        let mut place = self.remote.places.read().find(&thing);
        if place.is_none() {
            let packs: Vec<Digest> = self.remote.all_packs()?;
            self.remote.learn(packs, false)?;
            place = self.remote.places.read().find(&thing);
        }
        let place = place.ok_or(Failed::Unknown)?;
        let near: Vec<_> = {
            let places = self.remote.places.read();
            let near = places.near(&place, REACH).iter();
            let small = |place: &super::pack::Place| place.plain <= pocker_store::blob::SMALL;
            let blobs = near.filter(|((_, blob), place)| *blob && small(place));
            blobs
                .map(|((digest, _), place)| (Want::blob(*digest, place.plain), *place))
                .collect()
        };
        // What was asked for first: the others matter to nobody yet.
        let asked = (*want, place);
        let others = near.into_iter().filter(|(n, _)| n.digest != want.digest);
        let all: Vec<_> = std::iter::once(asked).chain(others).collect();
        self.remote.give_packed(&all, &mut each)?;
        Ok(())
    }
}

/// The store could not take it. That it could not be read is the upstream's.
fn is_own(e: &SyncError) -> bool {
    let own = e
        .cause
        .as_ref()
        .and_then(|c| c.downcast_ref::<StoreError>());
    own.is_some_and(|own| !matches!(own, StoreError::Input(_)))
}

/// Other bytes came than were asked for.
fn is_damage(e: &StoreError, asked: &Digest) -> bool {
    match e {
        StoreError::Differs { digest, .. }
        | StoreError::BlobSize { digest, .. }
        | StoreError::Corrupt { digest, .. } => digest == asked,
        _ => false,
    }
}

const NOT_THERE: &str = "it does not have it";
/// Of why something was not given.
const WHY_MAX: usize = 1000;

enum Failed {
    Sync(SyncError),
    Unknown,
}

impl From<SyncError> for Failed {
    fn from(e: SyncError) -> Failed {
        Failed::Sync(e)
    }
}

/// An error and its causes on one line.
fn line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl Upstream for Fetcher {
    fn fetch(&self, want: &Want, take: Take<'_>) -> Result<(), StoreError> {
        let digest = want.digest;
        let failed = |why| Err(StoreError::Upstream { digest, why });
        if let Some((since, why)) = &*self.down.lock()
            && since.elapsed() < PAUSE
        {
            return failed(why.clone());
        }
        if let Some(why) = self.misses.lock().why(&digest, Instant::now()) {
            return failed(why.to_owned());
        }
        let missed = |believed, why: &str| {
            let mut misses = self.misses.lock();
            misses.add(digest, Instant::now(), believed, why);
        };
        match self.give(want, take) {
            Ok(()) => Ok(()),
            Err(Failed::Unknown) => {
                missed(MISSED, NOT_THERE);
                failed(NOT_THERE.to_owned())
            }
            Err(Failed::Sync(e)) if is_own(&e) => {
                let own = e
                    .cause
                    .and_then(|cause| cause.downcast::<StoreError>().ok());
                let Some(own) = own else {
                    return failed("it could not be taken".to_owned());
                };
                if is_damage(&own, &digest) {
                    missed(FAILED, &line(&*own));
                }
                Err(*own)
            }
            Err(Failed::Sync(e)) => {
                let why = line(&e);
                match Said::inside(&e).map(|said| said.about) {
                    Some(About::Missing) => missed(MISSED, NOT_THERE),
                    Some(About::Place) => *self.down.lock() = Some((Instant::now(), why.clone())),
                    // What is damaged is so for itself.
                    Some(About::Object) | None => missed(FAILED, &why),
                }
                failed(why)
            }
        }
    }
}
