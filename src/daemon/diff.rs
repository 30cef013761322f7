//! What differs between two trees, a reply's worth at a time.

use super::fail::{Fail, Outcome};
use super::state::{Daemon, digest};
use crate::control::looking::{Change, DIFF_PAGE, DiffEntry, DiffPage};
use pocker_store::StoreError;
use pocker_store::diff::{self, Difference, Parts};
use pocker_store::types::Kind;

impl Daemon {
    pub fn diff(&self, old: &str, new: &str, skip: usize) -> Outcome<DiffPage> {
        let (mut entries, mut at, mut more) = (Vec::new(), 0, false);
        self.store
            .diff(&digest(old)?, &digest(new)?, &mut |found| {
                at += 1;
                more = entries.len() == DIFF_PAGE;
                if at > skip && !more {
                    entries.push(entry(&found));
                }
                !more
            })
            .map_err(|e| match e {
                StoreError::Missing { .. } => {
                    Fail::not_found("one of the trees is not there (any more)".to_owned())
                }
                e => Fail::internal("cannot compare the trees", &e),
            })?;
        Ok(DiffPage { entries, more })
    }
}

pub fn entry(found: &Difference<'_>) -> DiffEntry {
    let (change, parts) = match found.change {
        diff::Change::Added => (Change::Added, Parts::default()),
        diff::Change::Removed => (Change::Removed, Parts::default()),
        diff::Change::Changed(parts) => (Change::Changed, parts),
    };
    let named = [
        (parts.content, "content"),
        (parts.mode, "mode"),
        (parts.owner, "owner"),
        (parts.mtime, "mtime"),
        (parts.xattrs, "xattrs"),
    ];
    let differ = named.iter().filter(|(differs, _)| *differs);
    DiffEntry {
        path: found.path.to_vec(),
        kind: kind(found.kind).to_owned(),
        change,
        parts: differ.map(|(_, name)| (*name).to_owned()).collect(),
        before: found.sizes.0,
        after: found.sizes.1,
    }
}

pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Char => "char",
        Kind::Block => "block",
    }
}
