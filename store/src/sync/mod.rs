//! From one store to another: only what the other lacks, found from the snapshots down.
//!
//! [`transfer`] stands between a [`Source`] and a [`Sink`], which may be a store behind its server or
//! an object store. A sink that has an object has all below it ("whole"), so what it has is not looked
//! into. That holds as objects are sent after what they refer to, and are durable before the next
//! ones, whenever a transfer ends. The name comes last: until then nothing refers to what was sent.

mod receive;
mod room;
mod send;
#[cfg(test)]
mod tests;
mod transfer;

pub use receive::Receipt;
pub use room::Room;
pub use transfer::{Sent, below, transfer};

use crate::object::limits;
use crate::types::Digest;
use crate::{Pocker, Step};
use std::io::Read;

/// An object or a blob, as whoever refers to it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    pub digest: Digest,
    /// The size of a blob; none: an object.
    pub blob: Option<u64>,
}

impl Want {
    pub fn object(digest: Digest) -> Want {
        Want { digest, blob: None }
    }

    pub fn blob(digest: Digest, size: u64) -> Want {
        let blob = Some(size);
        Want { digest, blob }
    }

    /// The most bytes that it may have.
    pub fn limit(&self) -> u64 {
        self.blob.unwrap_or(limits::SNAPSHOT_BYTES as u64)
    }
}

/// A pocker with its steps, first to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub pocker: Pocker,
    pub steps: Vec<Step>,
}

/// What failed, on which side, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{tried}")]
pub struct SyncError {
    pub tried: String,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    pub hint: Option<String>,
}

impl SyncError {
    pub fn new(tried: impl Into<String>) -> SyncError {
        SyncError {
            tried: tried.into(),
            cause: None,
            hint: None,
        }
    }

    pub fn because(
        tried: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> SyncError {
        SyncError {
            cause: Some(cause.into()),
            ..SyncError::new(tried)
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> SyncError {
        SyncError {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Takes the bytes of one thing asked for.
pub type Each<'a> = &'a mut dyn FnMut(&Want, &mut dyn Read) -> Result<(), SyncError>;

/// Where trees come from.
pub trait Source {
    /// Each of `wants` once, in any order. Whoever takes them checks their digests.
    fn fetch(&mut self, wants: &[Want], each: Each<'_>) -> Result<(), SyncError>;
}

/// Where trees go to.
pub trait Sink {
    /// Which of the pocker's steps it wants: those whose keys it has stay as they are.
    fn begin(&mut self, named: &Named) -> Result<Vec<bool>, SyncError>;

    /// Which of these it has not, or of an object not all below it. What it has stays until the end.
    fn lacks(&mut self, wants: &[Want]) -> Result<Vec<bool>, SyncError>;

    /// `bytes` are checked by their reader: it fails at its end where they have another digest or size.
    fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError>;

    /// From here on the pocker is there, with all that it wanted of it.
    fn finish(&mut self, named: &Named) -> Result<(), SyncError>;
}
