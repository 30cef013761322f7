//! Entries become pages, pages a directory.
//!
//! Where a directory needs several pages, a page ends before a name whose hash has its
//! low nine bits zero (one in 512), or at [`limits::PAGE_ENTRIES`] or [`limits::PAGE_BYTES`]. So
//! where the cuts are depends on the names alone, one more entry changes one page, and
//! two histories that end in the same entries end in the same digest.

use super::dirindex::{DirIndex, PageRef};
use super::page::{HEADER, Page, ROW, add};
use super::record::{self, EntryRef};
use super::wire::{self, Cursor, Malformed};
use super::{Counts, DirObject, Entry, limits};
use crate::error::StoreError;
use crate::types::Digest;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where objects go, and where those that are reused come from.
pub trait ObjectSink {
    /// Keeps an object; its digest.
    fn put_object(&mut self, bytes: Vec<u8>) -> Result<Digest, StoreError>;
    /// A directory object that is kept already.
    fn dir_object(&mut self, digest: &Digest) -> Result<DirObject, StoreError>;
}

/// Makes a directory of `entries`, which must be sorted by name and unique.
pub fn put_dir<S: ObjectSink>(
    sink: &mut S,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<(Digest, Counts), StoreError> {
    let mut builder = Builder::default();
    for entry in entries {
        builder.entry(sink, &entry)?;
    }
    builder.finish(sink)
}

/// Makes the directory that `base` becomes by `changes`: names with their new entry, or
/// `None` where the name goes. Pages that no change touches are neither read nor written.
pub fn edit_dir<S: ObjectSink>(
    sink: &mut S,
    base: &Digest,
    changes: &BTreeMap<Vec<u8>, Option<Entry>>,
) -> Result<(Digest, Counts), StoreError> {
    let mut builder = Builder::default();
    let mut rest = changes.iter().peekable();
    match sink.dir_object(base)? {
        DirObject::Page(page) => builder.merge(sink, &page, &mut rest, None)?,
        DirObject::Index(index) => {
            for at in 0..index.len() {
                let end = (at + 1 < index.len()).then(|| index.first_name(at + 1));
                let touched = rest
                    .peek()
                    .is_some_and(|(name, _)| end.is_none_or(|end| name.as_slice() < end));
                let page = index.page(at);
                if touched {
                    let page = load(sink, &page)?;
                    builder.merge(sink, &page, &mut rest, end)?;
                } else {
                    builder.page(sink, page)?;
                }
            }
        }
    }
    builder.finish(sink)
}

/// A page of one entry that is kept nowhere.
pub(crate) fn synthetic_page(entry: &Entry) -> Result<Page, Malformed> {
    let mut bytes = Vec::new();
    record::encode(entry, &mut bytes)?;
    let mut chunk = Chunk::default();
    copy(&mut chunk, &bytes)?;
    Page::parse(chunk.bytes())
}

/// A page by its reference, checked against what its index says of it.
fn load<S: ObjectSink>(sink: &mut S, page: &PageRef) -> Result<Arc<Page>, StoreError> {
    match sink.dir_object(&page.digest)? {
        DirObject::Page(p) if p.counts() == page.counts && p.name(0) == page.first => Ok(p),
        _ => Err(StoreError::corrupt(
            page.digest,
            Malformed::new("directory page", 0, "not the page its index names"),
        )),
    }
}

/// A page in the making.
#[derive(Default)]
struct Chunk {
    records: Vec<u8>,
    /// Offset of each record in `records`, and the nodes before it.
    rows: Vec<(u32, u64)>,
    counts: Counts,
    last: Vec<u8>,
}

impl Chunk {
    fn size_with(&self, record: usize) -> usize {
        HEADER + (self.rows.len() + 1) * ROW + self.records.len() + record
    }

    fn size(&self) -> usize {
        HEADER + self.rows.len() * ROW + self.records.len()
    }

    fn push(&mut self, bytes: &[u8], entry: &EntryRef<'_>) -> Result<(), Malformed> {
        let bad = |why| Malformed::new("directory", 0, why);
        if entry.name <= self.last.as_slice() {
            return Err(bad("entries not sorted by name"));
        }
        self.rows
            .push((self.records.len() as u32, self.counts.nodes));
        add(&mut self.counts, entry).ok_or(bad("counts overflow"))?;
        self.records.extend_from_slice(bytes);
        self.last.clear();
        self.last.extend_from_slice(entry.name);
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        wire::prefix(&mut out, wire::PAGE);
        out.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.counts.subdirs as u32).to_le_bytes());
        out.extend_from_slice(&self.counts.nodes.to_le_bytes());
        out.extend_from_slice(&self.counts.bytes.to_le_bytes());
        let start = (HEADER + self.rows.len() * ROW) as u32;
        for (offset, nodes) in &self.rows {
            out.extend_from_slice(&(start + offset).to_le_bytes());
            out.extend_from_slice(&nodes.to_le_bytes());
        }
        out.extend_from_slice(&self.records);
        out
    }

    fn put<S: ObjectSink>(&self, sink: &mut S) -> Result<PageRef, StoreError> {
        let first = record::name_of(&self.records).to_vec();
        let digest = sink.put_object(self.bytes())?;
        Ok(PageRef {
            digest,
            counts: self.counts,
            first,
        })
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.rows.len()).map(|i| {
            let end = self
                .rows
                .get(i + 1)
                .map_or(self.records.len(), |r| r.0 as usize);
            &self.records[self.rows[i].0 as usize..end]
        })
    }
}

enum Done {
    /// Kept in memory while the directory may still fit one page.
    Chunk(Chunk),
    Page(PageRef),
}

#[derive(Default)]
struct Builder {
    done: Vec<Done>,
    /// How many of `done` are pages for certain.
    spilled: usize,
    current: Chunk,
    /// A page taken over whole, as long as what follows leaves it so.
    pending: Option<PageRef>,
    /// Entries so far, and bytes of those that were looked at.
    entries: u64,
    bytes: usize,
    scratch: Vec<u8>,
}

type Changes<'a> =
    std::iter::Peekable<std::collections::btree_map::Iter<'a, Vec<u8>, Option<Entry>>>;

impl Builder {
    fn entry<S: ObjectSink>(&mut self, sink: &mut S, entry: &Entry) -> Result<(), StoreError> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        record::encode(entry, &mut bytes)?;
        let pushed = self.record(sink, &bytes);
        self.scratch = bytes;
        pushed
    }

    /// Takes over one encoded entry.
    fn record<S: ObjectSink>(&mut self, sink: &mut S, bytes: &[u8]) -> Result<(), StoreError> {
        let entry = record::decode(&mut Cursor::new("directory entry", bytes, 0))?;
        self.settle(sink, entry.name)?;
        let chunk = &self.current;
        let full = chunk.rows.len() == limits::PAGE_ENTRIES
            || chunk.size_with(bytes.len()) > limits::PAGE_BYTES;
        if !chunk.rows.is_empty() && (full || cut_before(entry.name)) {
            self.close(sink)?;
        }
        self.current.push(bytes, &entry)?;
        self.entries += 1;
        self.bytes += bytes.len() + ROW;
        Ok(())
    }

    /// Takes over a whole page, unread where the cuts allow it.
    fn page<S: ObjectSink>(&mut self, sink: &mut S, page: PageRef) -> Result<(), StoreError> {
        let cut = cut_before(&page.first);
        self.settle(sink, &page.first)?;
        if !self.current.rows.is_empty() {
            if !cut && self.current.rows.len() != limits::PAGE_ENTRIES {
                return self.reopen(sink, &page);
            }
            self.close(sink)?;
        }
        self.entries += page.counts.entries;
        self.pending = Some(page);
        Ok(())
    }

    /// Decides about the page taken over last, now that `next` is known to follow it.
    fn settle<S: ObjectSink>(&mut self, sink: &mut S, next: &[u8]) -> Result<(), StoreError> {
        let Some(page) = self.pending.take() else {
            return Ok(());
        };
        if cut_before(next) || page.counts.entries == limits::PAGE_ENTRIES as u64 {
            self.done.push(Done::Page(page));
            return Ok(());
        }
        self.entries -= page.counts.entries;
        self.reopen(sink, &page)
    }

    /// Goes through a page entry by entry, as its cuts may no longer hold.
    fn reopen<S: ObjectSink>(&mut self, sink: &mut S, page: &PageRef) -> Result<(), StoreError> {
        let page = load(sink, page)?;
        for slot in 0..page.len() {
            self.record(sink, page.record(slot))?;
        }
        Ok(())
    }

    /// `page`'s entries with `changes` up to the name `end` merged in.
    fn merge<S: ObjectSink>(
        &mut self,
        sink: &mut S,
        page: &Page,
        changes: &mut Changes<'_>,
        end: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        for slot in 0..page.len() {
            let name = page.name(slot);
            let mut replaced = false;
            while let Some((changed, entry)) = changes.next_if(|(n, _)| n.as_slice() <= name) {
                replaced |= changed == name;
                if let Some(entry) = entry {
                    self.entry(sink, entry)?;
                }
            }
            if !replaced {
                self.record(sink, page.record(slot))?;
            }
        }
        while let Some((_, entry)) =
            changes.next_if(|(n, _)| end.is_none_or(|end| n.as_slice() < end))
        {
            if let Some(entry) = entry {
                self.entry(sink, entry)?;
            }
        }
        Ok(())
    }

    fn fits_one(&self) -> bool {
        self.entries <= limits::PAGE_ENTRIES as u64 && HEADER + self.bytes <= limits::PAGE_BYTES
    }

    fn close<S: ObjectSink>(&mut self, sink: &mut S) -> Result<(), StoreError> {
        let chunk = std::mem::take(&mut self.current);
        self.done.push(Done::Chunk(chunk));
        if !self.fits_one() {
            self.spill(sink)?;
        }
        Ok(())
    }

    /// Writes the pages that were held back: the directory needs several for certain.
    fn spill<S: ObjectSink>(&mut self, sink: &mut S) -> Result<(), StoreError> {
        for done in &mut self.done[self.spilled..] {
            if let Done::Chunk(chunk) = done {
                *done = Done::Page(chunk.put(sink)?);
            }
        }
        self.spilled = self.done.len();
        Ok(())
    }

    fn finish<S: ObjectSink>(mut self, sink: &mut S) -> Result<(Digest, Counts), StoreError> {
        if let Some(page) = self.pending.take() {
            self.done.push(Done::Page(page));
        }
        if !self.current.rows.is_empty() {
            let chunk = std::mem::take(&mut self.current);
            self.done.push(Done::Chunk(chunk));
        }
        if let Some(one) = self.as_one(sink)? {
            let counts = one.counts;
            return Ok((sink.put_object(one.bytes())?, counts));
        }
        self.spill(sink)?;
        let pages: Vec<PageRef> = self
            .done
            .into_iter()
            .filter_map(|d| match d {
                Done::Page(page) => Some(page),
                Done::Chunk(_) => None,
            })
            .collect();
        if pages.len() > limits::PAGES {
            return Err(Malformed::new("directory", 0, "too many pages").into());
        }
        let (bytes, counts) = DirIndex::encode(&pages);
        Ok((sink.put_object(bytes)?, counts))
    }

    /// Everything as one page, where it fits.
    fn as_one<S: ObjectSink>(&mut self, sink: &mut S) -> Result<Option<Chunk>, StoreError> {
        let entries: u64 = self.done.iter().map(Done::entries).sum();
        if entries > limits::PAGE_ENTRIES as u64 {
            return Ok(None);
        }
        let mut one = Chunk::default();
        let fits = |one: &Chunk| one.size() <= limits::PAGE_BYTES;
        for done in &self.done {
            match done {
                Done::Chunk(chunk) => {
                    for bytes in chunk.records() {
                        copy(&mut one, bytes)?;
                    }
                }
                Done::Page(page) => {
                    let page = load(sink, page)?;
                    for slot in 0..page.len() {
                        copy(&mut one, page.record(slot))?;
                    }
                }
            }
            if !fits(&one) {
                return Ok(None);
            }
        }
        Ok(Some(one))
    }
}

impl Done {
    fn entries(&self) -> u64 {
        match self {
            Done::Chunk(chunk) => chunk.counts.entries,
            Done::Page(page) => page.counts.entries,
        }
    }
}

fn copy(to: &mut Chunk, bytes: &[u8]) -> Result<(), Malformed> {
    let entry = record::decode(&mut Cursor::new("directory entry", bytes, 0))?;
    to.push(bytes, &entry)
}

/// Names before which a page ends: FNV-1a, its bits mixed, low nine zero. Part of the format.
fn cut_before(name: &[u8]) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash & 0x1ff == 0
}
