//! The index over the pages of a large directory.
//!
//! After the prefix: pages u32, zero u32, entries u64, subdirectories u64, nodes u64, bytes
//! u64; then per page a row of 64 bytes: digest, entries before u64, nodes before u64, bytes
//! u64, subdirectories u32, offset u32 of its first name from the object's start; then the first
//! names, each a length u8 and its bytes, back to back to the end.

use super::page::search;
use super::record::name_ok;
use super::wire::{self, Cursor, Malformed, u32_at, u64_at};
use super::{Counts, limits};
use crate::types::Digest;

const HEADER: usize = wire::PREFIX + 8 + 4 * 8;
const ROW: usize = 32 + 3 * 8 + 2 * 4;
const OBJECT: &str = "directory index";

/// What an index says of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef {
    pub digest: Digest,
    /// Of this page alone.
    pub counts: Counts,
    pub first: Vec<u8>,
}

/// Validated bytes of an index.
#[derive(Debug)]
pub struct DirIndex {
    bytes: Box<[u8]>,
    pages: usize,
    counts: Counts,
}

impl DirIndex {
    pub fn parse(bytes: Vec<u8>) -> Result<DirIndex, Malformed> {
        if wire::kind_of(&bytes)? != wire::INDEX {
            return Err(Malformed::new(OBJECT, 5, "kind is not index"));
        }
        let mut c = Cursor::new(OBJECT, &bytes, wire::PREFIX);
        let (pages, zero) = (c.u32()? as usize, c.u32()?);
        let total = Counts {
            entries: c.u64()?,
            subdirs: c.u64()?,
            nodes: c.u64()?,
            bytes: c.u64()?,
        };
        if !(2..=limits::PAGES).contains(&pages) || zero != 0 {
            return c.fail("number of pages out of range");
        }
        let mut rows = Cursor::new(OBJECT, c.take(pages * ROW)?, 0);
        check_rows(&mut rows, &mut c, pages, &total)?;
        c.end()?;
        Ok(DirIndex {
            bytes: bytes.into_boxed_slice(),
            pages,
            counts: total,
        })
    }

    /// The bytes for `pages`, which must be at least two.
    pub(super) fn encode(pages: &[PageRef]) -> (Vec<u8>, Counts) {
        let mut sum = Counts::default();
        let mut rows = Vec::with_capacity(pages.len() * ROW);
        let mut names = Vec::new();
        let names_at = HEADER + pages.len() * ROW;
        for page in pages {
            rows.extend_from_slice(&page.digest.0);
            for n in [sum.entries, sum.nodes, page.counts.bytes] {
                rows.extend_from_slice(&n.to_le_bytes());
            }
            rows.extend_from_slice(&(page.counts.subdirs as u32).to_le_bytes());
            rows.extend_from_slice(&((names_at + names.len()) as u32).to_le_bytes());
            names.push(page.first.len() as u8);
            names.extend_from_slice(&page.first);
            sum.entries += page.counts.entries;
            sum.nodes += page.counts.nodes;
            sum.bytes += page.counts.bytes;
            sum.subdirs += page.counts.subdirs;
        }
        let mut out = Vec::with_capacity(names_at + names.len());
        wire::prefix(&mut out, wire::INDEX);
        out.extend_from_slice(&(pages.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for n in [sum.entries, sum.subdirs, sum.nodes, sum.bytes] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&rows);
        out.extend_from_slice(&names);
        (out, sum)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Number of pages.
    pub fn len(&self) -> usize {
        self.pages
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of the encoding.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn row(&self, page: usize) -> &[u8] {
        let at = HEADER + page * ROW;
        &self.bytes[at..at + ROW]
    }

    pub fn digest(&self, page: usize) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(&self.row(page)[..32]);
        Digest(out)
    }

    /// Entries in the pages before `page`; all where it is the number of pages.
    pub fn entries_before(&self, page: usize) -> u64 {
        if page >= self.pages {
            return self.counts.entries;
        }
        u64_at(self.row(page), 32)
    }

    /// Nodes in the pages before `page`; all where it is the number of pages.
    pub fn nodes_before(&self, page: usize) -> u64 {
        if page >= self.pages {
            return self.counts.nodes;
        }
        u64_at(self.row(page), 40)
    }

    pub fn first_name(&self, page: usize) -> &[u8] {
        let at = u32_at(self.row(page), 60) as usize;
        &self.bytes[at + 1..at + 1 + usize::from(self.bytes[at])]
    }

    /// What this index says of `page`, which must be below [`DirIndex::len`].
    pub fn page(&self, page: usize) -> PageRef {
        let row = self.row(page);
        PageRef {
            digest: self.digest(page),
            counts: Counts {
                nodes: self.nodes_before(page + 1) - self.nodes_before(page),
                bytes: u64_at(row, 48),
                entries: self.entries_before(page + 1) - self.entries_before(page),
                subdirs: u64::from(u32_at(row, 56)),
            },
            first: self.first_name(page).to_vec(),
        }
    }

    /// The page that holds `name` if any does.
    pub fn page_of_name(&self, name: &[u8]) -> usize {
        match search(self.pages, |p| self.first_name(p).cmp(name)) {
            Ok(page) => page,
            Err(next) => next.saturating_sub(1),
        }
    }

    /// The page that holds entry number `index`; `None` past the end.
    pub fn page_of_index(&self, index: u64) -> Option<usize> {
        self.page_by(index, self.counts.entries, |p| self.entries_before(p))
    }

    /// The page that holds the node `before` nodes after the directory's first.
    pub fn page_of_node(&self, before: u64) -> Option<usize> {
        self.page_by(before, self.counts.nodes, |p| self.nodes_before(p))
    }

    fn page_by(&self, want: u64, end: u64, before: impl Fn(usize) -> u64) -> Option<usize> {
        if want >= end {
            return None;
        }
        match search(self.pages, |p| before(p).cmp(&want)) {
            Ok(page) => Some(page),
            Err(next) => next.checked_sub(1),
        }
    }
}

/// Checks rows and first names against each other and against the totals.
fn check_rows(
    rows: &mut Cursor<'_>,
    names: &mut Cursor<'_>,
    pages: usize,
    total: &Counts,
) -> Result<(), Malformed> {
    let mut sum = Counts::default();
    let (mut entries, mut nodes) = (0, 0);
    let mut last: &[u8] = b"";
    for page in 0..pages {
        rows.digest()?;
        (entries, nodes) = (rows.u64()?, rows.u64()?);
        sum.bytes = match sum.bytes.checked_add(rows.u64()?) {
            Some(bytes) => bytes,
            None => return rows.fail("bytes overflow"),
        };
        sum.subdirs += u64::from(rows.u32()?);
        let offset = rows.u32()? as usize;
        if page == 0 && (entries, nodes) != (0, 0) {
            return rows.fail("first page does not start at nothing");
        }
        if page > 0 {
            check_span(rows, &sum, entries, nodes)?;
        }
        (sum.entries, sum.nodes) = (entries, nodes);
        if offset != names.at {
            return names.fail("offset of a first name is not where it stands");
        }
        let len = usize::from(names.u8()?);
        let name = names.take(len)?;
        if !name_ok(name) || name <= last {
            return names.fail("first names bad or not sorted");
        }
        last = name;
    }
    (sum.entries, sum.nodes) = (entries, nodes);
    check_span(rows, &sum, total.entries, total.nodes)?;
    if sum.bytes != total.bytes || sum.subdirs != total.subdirs || total.subdirs > total.entries {
        return rows.fail("totals contradict the pages");
    }
    Ok(())
}

/// One page's entries and nodes, from what is before it and before the next.
fn check_span(rows: &Cursor<'_>, sum: &Counts, entries: u64, nodes: u64) -> Result<(), Malformed> {
    let (Some(e), Some(n)) = (
        entries.checked_sub(sum.entries),
        nodes.checked_sub(sum.nodes),
    ) else {
        return rows.fail("counts run backwards");
    };
    if e == 0 || e > limits::PAGE_ENTRIES as u64 || n < e || nodes >= limits::NODES {
        return rows.fail("a page's counts are out of range");
    }
    Ok(())
}
