//! Which handles of a volume may still be used to write. NFS has no leases: a command whose lease is over
//! may have it mounted yet, and must not write behind the back of the one that has it since.
//!
//! A volume that one at a time writes to has a generation. It grows when another lease than before
//! gets the volume; paths and handles to write by carry it, and those of an earlier one are stale. It
//! is on disk before a path of it is given out, so this holds for the next server too. Commands of the
//! server's own host are no leases: their processes are looked at, and what their kernel has not written
//! yet when they end is written to the same handles.

use crate::control::hosts::Id;
use crate::daemon::docs::{self, Doc};
use parking_lot::RwLock;
use pocker_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Who had a volume to write last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Writer {
    volume: u64,
    generation: u64,
    /// None is this host's.
    lease: Option<Id>,
}

impl Doc for Writer {
    const KIND: &'static str = "volume-writer";
    fn key(&self) -> Vec<u8> {
        self.volume.to_be_bytes().to_vec()
    }
}

#[derive(Default)]
pub(super) struct Fences {
    writers: RwLock<HashMap<u64, Writer>>,
}

impl Fences {
    /// As an earlier server left them; those of volumes that are gone are forgotten.
    pub fn open(store: &Store, there: impl Fn(u64) -> bool) -> Result<Fences, StoreError> {
        let (known, gone): (Vec<Writer>, Vec<Writer>) = docs::all::<Writer>(store)?
            .into_iter()
            .partition(|writer| there(writer.volume));
        for writer in gone {
            docs::delete(store, &writer)?;
        }
        let known = known.into_iter().map(|writer| (writer.volume, writer));
        Ok(Fences {
            writers: RwLock::new(known.collect()),
        })
    }

    /// A volume that only this host ever had is in its first one, 0.
    pub fn generation(&self, volume: u64) -> u64 {
        let writers = self.writers.read();
        writers.get(&volume).map_or(0, |writer| writer.generation)
    }

    /// `lease` has the volume from here on: no other that had it writes there any more.
    pub fn give(&self, store: &Store, volume: u64, lease: Option<Id>) -> Result<(), StoreError> {
        let known = self.writers.read().get(&volume).copied();
        if known.and_then(|writer| writer.lease) == lease {
            return Ok(());
        }
        let writer = Writer {
            volume,
            generation: known.map_or(0, |writer| writer.generation) + 1,
            lease,
        };
        docs::save(store, &writer)?;
        self.writers.write().insert(volume, writer);
        Ok(())
    }

    /// The volume is gone.
    pub fn forget(&self, store: &Store, volume: u64) {
        if let Some(writer) = self.writers.write().remove(&volume)
            && let Err(e) = docs::delete(store, &writer)
        {
            // The next server does it.
            tracing::warn!(volume, "cannot forget who wrote to a volume: {e}");
        }
    }
}
