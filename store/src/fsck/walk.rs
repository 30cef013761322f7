//! From the snapshots down: every reference leads to something that is as it is said to be.
//!
//! Each object is read once, however many trees share it; each reference to it is
//! compared with what was found.

use super::fault::{Fault, ObjectFault, Repair};
use super::report::Findings;
use super::scan::{Known, Scanned};
use crate::blob::SMALL;
use crate::error::StoreError;
use crate::object::{BodyRef, Counts, DirIndex, DirObject, Page, PageRef, SnapshotData};
use crate::store::Store;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};

type Name = Box<[u8]>;

/// What is remembered of an object that lists entries.
struct Seen {
    counts: Counts,
    /// First and last name of a page that has any.
    names: Option<(Name, Name)>,
    page: bool,
}

/// A reference, and what it says.
struct Ref {
    holder: Digest,
    object: Digest,
    counts: Counts,
    /// As a page of an index: its first name, and the next page's.
    page: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

pub(super) struct Walk<'a> {
    store: &'a Store,
    scanned: &'a mut Scanned,
    pub findings: &'a mut Findings,
    /// `None`: it cannot be read.
    seen: HashMap<Digest, Option<Seen>>,
    snapshots: HashSet<Digest>,
    /// Blobs that are referred to and not there.
    absent: HashSet<Digest>,
    /// Blobs that need not be here: the upstream has them.
    pub promised: HashSet<Digest>,
    /// Blobs that are not listed, but whose file is there.
    loose: Vec<Digest>,
    /// All that the snapshots refer to is known.
    pub complete: bool,
}

impl<'a> Walk<'a> {
    pub fn new(store: &'a Store, scanned: &'a mut Scanned, findings: &'a mut Findings) -> Walk<'a> {
        Walk {
            store,
            scanned,
            findings,
            seen: HashMap::new(),
            snapshots: HashSet::new(),
            absent: HashSet::new(),
            promised: HashSet::new(),
            loose: Vec::new(),
            complete: true,
        }
    }

    /// Blobs that are needed and not listed, and the objects that are referred to.
    pub fn marks(self) -> (Vec<Digest>, HashSet<Digest>) {
        let mut marks = self.snapshots;
        marks.extend(self.seen.into_keys());
        (self.loose, marks)
    }

    /// A snapshot and all below it; what it says, where it can be read.
    pub fn snapshot(&mut self, digest: Digest) -> Result<Option<SnapshotData>, StoreError> {
        self.snapshots.insert(digest);
        let Some(bytes) = self.bytes(&digest)? else {
            return Ok(None);
        };
        let data = match SnapshotData::parse(&bytes) {
            Ok(data) => data,
            Err(why) => {
                self.unreadable(digest, ObjectFault::Malformed(why));
                return Ok(None);
            }
        };
        self.directories(Ref {
            holder: digest,
            object: data.root_dir,
            counts: data.counts,
            page: None,
        })?;
        Ok(Some(data))
    }

    /// `None` where the object is not there or, as the scan has found, not good.
    fn bytes(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        if self.scanned.bad_objects.contains_key(digest) {
            self.complete = false;
            return Ok(None);
        }
        let bytes = self.store.index.object(digest)?;
        if bytes.is_none() {
            self.unreadable(*digest, ObjectFault::Missing);
        }
        Ok(bytes)
    }

    fn unreadable(&mut self, digest: Digest, why: ObjectFault) {
        self.complete = false;
        // Found once, however many refer to it.
        if self
            .scanned
            .bad_objects
            .insert(digest, why.clone())
            .is_none()
        {
            self.findings
                .add(Fault::Object { digest, why }, Repair::None);
        }
    }

    fn directories(&mut self, root: Ref) -> Result<(), StoreError> {
        let mut todo = vec![root];
        while let Some(reference) = todo.pop() {
            if !self.seen.contains_key(&reference.object) {
                let seen = self.read(reference.object, &mut todo)?;
                self.seen.insert(reference.object, seen);
            }
            self.compare(&reference);
        }
        Ok(())
    }

    fn read(&mut self, digest: Digest, todo: &mut Vec<Ref>) -> Result<Option<Seen>, StoreError> {
        let Some(bytes) = self.bytes(&digest)? else {
            return Ok(None);
        };
        Ok(match DirObject::parse(bytes) {
            Ok(DirObject::Page(page)) => Some(self.page(digest, &page, todo)),
            Ok(DirObject::Index(index)) => Some(pages(digest, &index, todo)),
            Err(why) => {
                self.unreadable(digest, ObjectFault::Malformed(why));
                None
            }
        })
    }

    fn page(&mut self, digest: Digest, page: &Page, todo: &mut Vec<Ref>) -> Seen {
        for slot in 0..page.len() {
            match page.entry(slot).map(|e| e.body) {
                Some(BodyRef::Dir {
                    digest: dir,
                    counts,
                }) => todo.push(Ref {
                    holder: digest,
                    object: dir,
                    counts,
                    page: None,
                }),
                Some(BodyRef::File { blob, size }) => self.file(digest, blob, size),
                _ => {}
            }
        }
        let name = |slot| Name::from(page.name(slot));
        Seen {
            counts: page.counts(),
            names: (!page.is_empty()).then(|| (name(0), name(page.len() - 1))),
            page: true,
        }
    }

    /// A file's entry in the directory `dir`.
    fn file(&mut self, dir: Digest, blob: Digest, says: u64) {
        let known = self.scanned.blobs.get_mut(&blob);
        match known.filter(|known| known.small == (says <= SMALL) || known.size != says) {
            None => {
                if !self.promised.contains(&blob) && self.absent.insert(blob) {
                    self.findings.add(missing(blob), Repair::None);
                }
            }
            Some(known) => {
                if !known.used && !known.listed {
                    self.loose.push(blob);
                }
                known.used = true;
                if known.good && known.size != says {
                    let found = known.size;
                    self.findings.add(
                        Fault::Size {
                            dir,
                            blob,
                            says,
                            found,
                        },
                        Repair::None,
                    );
                }
            }
        }
    }

    fn compare(&mut self, reference: &Ref) {
        let Some(Some(seen)) = self.seen.get(&reference.object) else {
            return;
        };
        if seen.counts != reference.counts {
            self.findings.add(
                Fault::Counts {
                    holder: reference.holder,
                    dir: reference.object,
                    says: reference.counts,
                    found: seen.counts,
                },
                Repair::None,
            );
        }
        if let Some(why) = reference.page.as_ref().and_then(|page| seen.unlike(page)) {
            self.findings.add(
                Fault::Page {
                    index: reference.holder,
                    page: reference.object,
                    why,
                },
                Repair::None,
            );
        }
    }
}

impl Seen {
    /// Why this is not the page that an index names.
    fn unlike(&self, (first, next): &(Vec<u8>, Option<Vec<u8>>)) -> Option<&'static str> {
        let Some((own_first, own_last)) = self.names.as_ref().filter(|_| self.page) else {
            return Some("which is no page with entries");
        };
        if **own_first != **first {
            return Some("which begins with another name");
        }
        let reaches = next.as_ref().is_some_and(|next| **own_last >= **next);
        reaches.then_some("which reaches into the next page")
    }
}

fn pages(digest: Digest, index: &DirIndex, todo: &mut Vec<Ref>) -> Seen {
    for at in 0..index.len() {
        let PageRef {
            digest: page,
            counts,
            first,
        } = index.page(at);
        let next = (at + 1 < index.len()).then(|| index.first_name(at + 1).to_vec());
        todo.push(Ref {
            holder: digest,
            object: page,
            counts,
            page: Some((first, next)),
        });
    }
    Seen {
        counts: index.counts(),
        names: None,
        page: false,
    }
}

fn missing(digest: Digest) -> Fault {
    Fault::Blob {
        digest,
        why: super::fault::BlobFault::Missing,
    }
}

/// A blob that a work tree needs is there with this size.
pub(super) fn holds(blobs: &mut HashMap<Digest, Known>, blob: &Digest, size: u64) -> bool {
    match blobs.get_mut(blob) {
        Some(known) => {
            known.used = true;
            known.size == size && known.small == (size <= SMALL)
        }
        None => false,
    }
}
