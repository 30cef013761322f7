//! A page: up to 1024 entries, each found by binary search over fixed-width offsets.
//!
//! After the prefix: count u32, subdirectories u32, nodes u64, bytes u64; then a table of
//! count × (offset u32 of the record from the page's start, nodes u64 of the entries
//! before it); then the records, back to back to the end.

use super::record::{self, EntryRef};
use super::wire::{self, Cursor, Malformed, u32_at, u64_at};
use super::{Counts, limits};

pub(super) const HEADER: usize = wire::PREFIX + 4 + 4 + 8 + 8;
pub(super) const ROW: usize = 4 + 8;
const OBJECT: &str = "directory page";

/// Validated bytes of one page. Nothing is copied out until asked for.
#[derive(Debug)]
pub struct Page {
    bytes: Box<[u8]>,
    counts: Counts,
}

impl Page {
    /// Checks every record, their order, and the counts.
    pub fn parse(bytes: Vec<u8>) -> Result<Page, Malformed> {
        if wire::kind_of(&bytes)? != wire::PAGE {
            return Err(Malformed::new(OBJECT, 5, "kind is not page"));
        }
        if bytes.len() > limits::PAGE_BYTES {
            return Err(Malformed::new(
                OBJECT,
                bytes.len(),
                "larger than a page may be",
            ));
        }
        let mut c = Cursor::new(OBJECT, &bytes, wire::PREFIX);
        let (count, subdirs) = (c.u32()? as usize, c.u32()?);
        let (nodes, total) = (c.u64()?, c.u64()?);
        if count > limits::PAGE_ENTRIES {
            return c.fail("too many entries");
        }
        let mut table = Cursor::new(OBJECT, c.take(count * ROW)?, 0);
        let mut sum = Counts::default();
        let mut last: &[u8] = b"";
        for _ in 0..count {
            let (offset, before) = (table.u32()? as usize, table.u64()?);
            if offset != c.at || before != sum.nodes {
                return c.fail("table contradicts the records");
            }
            let entry = record::decode(&mut c)?;
            if entry.name <= last {
                return c.fail("names not sorted");
            }
            last = entry.name;
            add(&mut sum, &entry).ok_or(Malformed::new(OBJECT, c.at, "counts overflow"))?;
        }
        c.end()?;
        if sum.nodes != nodes || sum.bytes != total || sum.subdirs != u64::from(subdirs) {
            return c.fail("counts contradict the records");
        }
        Ok(Page {
            bytes: bytes.into_boxed_slice(),
            counts: sum,
        })
    }

    /// Of this page alone.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn len(&self) -> usize {
        self.counts.entries as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the encoding.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn offset(&self, slot: usize) -> usize {
        if slot == self.len() {
            return self.bytes.len();
        }
        u32_at(&self.bytes, HEADER + slot * ROW) as usize
    }

    pub(super) fn record(&self, slot: usize) -> &[u8] {
        &self.bytes[self.offset(slot)..self.offset(slot + 1)]
    }

    /// The name in `slot`, which must be below [`Page::len`].
    pub fn name(&self, slot: usize) -> &[u8] {
        record::name_of(self.record(slot))
    }

    /// The entry in `slot`; `None` past the end.
    pub fn entry(&self, slot: usize) -> Option<EntryRef<'_>> {
        if slot >= self.len() {
            return None;
        }
        record::decode(&mut Cursor::new(OBJECT, self.record(slot), 0)).ok()
    }

    /// Nodes of this page before the entry in `slot`; all of them where slot is the length.
    pub fn nodes_before(&self, slot: usize) -> u64 {
        if slot >= self.len() {
            return self.counts.nodes;
        }
        u64_at(&self.bytes, HEADER + slot * ROW + 4)
    }

    /// The slot of `name`, or where it would stand.
    pub fn find(&self, name: &[u8]) -> Result<usize, usize> {
        search(self.len(), |slot| self.name(slot).cmp(name))
    }

    /// The slot whose entry holds the node `before` nodes after the page's first.
    pub fn slot_of(&self, before: u64) -> Option<usize> {
        if before >= self.counts.nodes {
            return None;
        }
        match search(self.len(), |slot| self.nodes_before(slot).cmp(&before)) {
            Ok(slot) => Some(slot),
            Err(next) => next.checked_sub(1),
        }
    }
}

/// Adds one entry to the counts of its directory.
pub(super) fn add(sum: &mut Counts, entry: &EntryRef<'_>) -> Option<()> {
    sum.entries += 1;
    sum.nodes = sum
        .nodes
        .checked_add(entry.body.nodes())
        .filter(|n| *n < limits::NODES)?;
    sum.bytes = sum.bytes.checked_add(entry.body.bytes())?;
    sum.subdirs += u64::from(entry.body.kind() == crate::types::Kind::Dir);
    Some(())
}

/// Binary search over `0..len`; as `slice::binary_search_by`.
pub(super) fn search(
    len: usize,
    mut cmp: impl FnMut(usize) -> std::cmp::Ordering,
) -> Result<usize, usize> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let mid = low + (high - low) / 2;
        match cmp(mid) {
            std::cmp::Ordering::Less => low = mid + 1,
            std::cmp::Ordering::Greater => high = mid,
            std::cmp::Ordering::Equal => return Ok(mid),
        }
    }
    Err(low)
}
