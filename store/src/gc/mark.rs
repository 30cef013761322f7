//! What the roots reach.

use crate::error::StoreError;
use crate::object::{BodyRef, DirObject, Page};
use crate::store::Store;
use crate::types::Digest;
use std::collections::HashSet;

#[derive(Default)]
pub(super) struct Marks {
    snapshots: HashSet<Digest>,
    objects: HashSet<Digest>,
    blobs: HashSet<Digest>,
}

impl Marks {
    pub fn has_snapshot(&self, digest: &Digest) -> bool {
        self.snapshots.contains(digest)
    }

    pub fn has_object(&self, digest: &Digest) -> bool {
        self.objects.contains(digest) || self.snapshots.contains(digest)
    }

    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }

    pub fn blobs(&mut self, blobs: Vec<Digest>) {
        self.blobs.extend(blobs);
    }

    /// A snapshot and all below it. One that the index does not have (a batch has
    /// yet to commit it, or it is gone) reaches nothing.
    pub fn snapshot(&mut self, store: &Store, digest: Digest) -> Result<(), StoreError> {
        if self.snapshots.contains(&digest) || store.index.ordinal(&digest)?.is_none() {
            return Ok(());
        }
        let data = store.objects.snapshot(&digest)?;
        let mut todo = vec![data.root_dir];
        while let Some(dir) = todo.pop() {
            if !self.objects.insert(dir) {
                continue;
            }
            // Not through the cache: a collection would push everything else out of it.
            match store.objects.read_dir(&dir)? {
                DirObject::Page(page) => self.page(&page, &mut todo),
                DirObject::Index(index) => todo.extend((0..index.len()).map(|p| index.digest(p))),
            }
        }
        self.snapshots.insert(digest);
        Ok(())
    }

    fn page(&mut self, page: &Page, todo: &mut Vec<Digest>) {
        for slot in 0..page.len() {
            match page.entry(slot).map(|e| e.body) {
                Some(BodyRef::Dir { digest, .. }) => todo.push(digest),
                Some(BodyRef::File { blob, .. }) => {
                    self.blobs.insert(blob);
                }
                _ => {}
            }
        }
    }
}
