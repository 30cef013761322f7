//! An object store as the one that receives.

use super::pack::{Len, THINGS_MAX, Table, Thing};
use super::{Entry, FORMAT, LARGE_MAX, Marker, NamedInfo, PACKED_MAX, Remote};
use crate::sync::squeeze;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use pocker_store::object::digest_of;
use pocker_store::sync::{Named, Sink, SyncError, Want, below};
use pocker_store::types::Digest;
use std::collections::{BTreeSet, HashSet};
use std::io::Read;

/// A pack is put when it has so many bytes.
const PACK_BYTES: usize = 8 << 20;
/// A part of a large blob; S3 takes ten thousand at most, so larger blobs have larger ones.
const PART_BYTES: u64 = 8 << 20;
const PARTS_MAX: u64 = 9_000;
/// Parts under way at once.
const PARTS_AT_ONCE: usize = 4;

/// The pack in the making, and the large blobs that are there.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    things: Vec<(Thing, Len)>,
    inside: HashSet<Thing>,
    rests_on: BTreeSet<Digest>,
    large: Option<HashSet<Digest>>,
}

impl Remote {
    fn write(&self, path: &object_store::path::Path, bytes: Vec<u8>) -> Result<(), SyncError> {
        let put = self.store.put(path, PutPayload::from(bytes));
        let put = self.wait(put).map(drop);
        put.map_err(self.failed(&format!("write {path}")))
    }

    fn flush(&mut self) -> Result<(), SyncError> {
        if self.writer.things.is_empty() {
            return Ok(());
        }
        let large = self.writer.large.take();
        let pack = std::mem::take(&mut self.writer);
        self.writer.large = large;
        let name = digest_of(&pack.bytes);
        let table = Table {
            rests_on: pack.rests_on.into_iter().collect(),
            things: pack.things,
        };
        self.write(&self.by_digest("packs", &name), pack.bytes)?;
        self.write(&self.table_path(&name), table.encode())?;
        self.places.write().add(name, &table);
        Ok(())
    }

    fn large(&mut self) -> Result<&mut HashSet<Digest>, SyncError> {
        if self.writer.large.is_none() {
            let listed = self.list("large", LARGE_MAX, |name| name.parse().ok())?;
            self.bounded("large files", listed.len(), LARGE_MAX)?;
            self.writer.large = Some(listed.into_iter().collect());
        }
        Ok(self.writer.large.get_or_insert_default())
    }

    /// A small thing, into the pack in the making.
    fn pack(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError> {
        let thing = (want.digest, want.blob.is_some());
        if self.writer.inside.contains(&thing) || self.places.read().find(&thing).is_some() {
            return Ok(());
        }
        let mut plain = Vec::new();
        bytes.read_to_end(&mut plain).map_err(|e| {
            SyncError::because(format!("cannot take {} from the source", want.digest), e)
        })?;
        if want.blob.is_none() {
            self.rest_on(&plain)?;
        }
        let squeezed = squeeze::squeezed(&plain);
        let stored = squeezed.as_deref().unwrap_or(&plain);
        let len = |bytes: &[u8]| {
            let len = u32::try_from(bytes.len());
            len.map_err(|_| SyncError::new(format!("{} is too large to be packed", want.digest)))
        };
        let len = Len {
            stored: len(stored)?,
            plain: len(&plain)?,
        };
        self.writer.bytes.extend_from_slice(stored);
        self.writer.things.push((thing, len));
        self.writer.inside.insert(thing);
        match self.writer.bytes.len() >= PACK_BYTES || self.writer.things.len() >= THINGS_MAX {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// The object refers to what other packs have.
    fn rest_on(&mut self, object: &[u8]) -> Result<(), SyncError> {
        let mut wants = Vec::new();
        let objects = below(object, &mut wants)
            .map_err(|e| SyncError::because("what was to be sent is damaged", e))?;
        let blobs = wants.iter().filter(|w| w.limit() <= PACKED_MAX);
        let things = objects.into_iter().map(|d| (d, false));
        for thing in things.chain(blobs.map(|w| (w.digest, true))) {
            if self.writer.inside.contains(&thing) {
                continue;
            }
            let place = self.places.read().find(&thing).ok_or_else(|| {
                SyncError::new(format!(
                    "{} was to be sent before what refers to it",
                    thing.0
                ))
            })?;
            self.writer
                .rests_on
                .insert(self.places.read().pack(place.pack));
        }
        Ok(())
    }

    /// In parts, which become an object at once, when all were right.
    fn put_large(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError> {
        let path = self.by_digest("large", &want.digest);
        let tried = format!("write {path}");
        let part = PART_BYTES.max(want.limit().div_ceil(PARTS_MAX)) as usize;
        let started = self.runtime.block_on(self.store.put_multipart(&path));
        let started = started.map_err(self.failed(&tried))?;
        let mut parts = WriteMultipart::new_with_chunk_size(started, part);
        let mut chunk = vec![0; 256 << 10];
        let ended = loop {
            match bytes.read(&mut chunk) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    // Parts are tasks, which are of a runtime.
                    let sent = self.runtime.block_on(async {
                        parts.write(&chunk[..n]);
                        parts.wait_for_capacity(PARTS_AT_ONCE).await
                    });
                    if let Err(e) = sent {
                        break Err(self.failed(&tried)(e));
                    }
                }
                Err(e) => {
                    let tried = format!("cannot take {} from the source", want.digest);
                    break Err(SyncError::because(tried, e));
                }
            }
        };
        match ended {
            Ok(()) => {
                let done = self.runtime.block_on(parts.finish());
                done.map_err(self.failed(&tried))?;
                self.large()?.insert(want.digest);
                Ok(())
            }
            Err(e) => {
                let _ = self.runtime.block_on(parts.abort());
                Err(e)
            }
        }
    }
}

impl Sink for Remote {
    fn begin(&mut self, named: &Named) -> Result<Vec<bool>, SyncError> {
        if !self.is_ours()? {
            let marker = serde_json::to_vec(&Marker { format: FORMAT }).unwrap_or_default();
            self.write(&self.path(&["pocker-store"]), marker)?;
        }
        let packs = self.all_packs()?;
        self.learn(packs, false)?;
        Ok(vec![true; named.steps.len()])
    }

    fn lacks(&mut self, wants: &[Want]) -> Result<Vec<bool>, SyncError> {
        let lacks = |want: &Want| match want.blob {
            Some(size) if size > PACKED_MAX => Ok(!self.large()?.contains(&want.digest)),
            blob => Ok(self
                .places
                .read()
                .find(&(want.digest, blob.is_some()))
                .is_none()),
        };
        wants.iter().map(lacks).collect()
    }

    fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError> {
        match want.blob {
            Some(size) if size > PACKED_MAX => self.put_large(want, bytes),
            _ => self.pack(want, bytes),
        }
    }

    fn finish(&mut self, named: &Named) -> Result<(), SyncError> {
        self.flush()?;
        let mut packs = BTreeSet::new();
        for step in &named.steps {
            let place = self.places.read().find(&(step.snapshot, false));
            let place = place.ok_or_else(|| SyncError::new("a step's tree was not sent"))?;
            packs.insert(self.places.read().pack(place.pack).to_string());
        }
        let entry = Entry {
            format: FORMAT,
            named: NamedInfo::of(named).map_err(|e| SyncError::because("cannot send it", e))?,
            packs: packs.into_iter().collect(),
        };
        let text = serde_json::to_vec_pretty(&entry).unwrap_or_default();
        self.write(&self.path(&["names", &entry.named.name]), text)
    }
}
