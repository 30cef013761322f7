//! Work trees: writable clones of snapshots.
//!
//! What changed lives in memory ([`state`]) and, written through before any answer, as
//! rows: at once in a journal ([`journal`]), then in `work.db` ([`rows`], [`writer`]); large files are under `staging/` ([`staged`]).
//! The database and its trees are good for one boot of the machine; volumes are trees of the
//! same kind in a database of their own that survives it ([`durability`]). A seal ([`seal`])
//! turns a work tree into a snapshot.

mod area;
mod attrs;
mod backup;
mod base;
mod blocks;
mod check;
mod clock;
mod codec;
mod complete;
mod data;
mod differs;
mod durability;
mod entries;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod group;
mod growth;
mod hidden;
mod journal;
mod lasting;
mod load;
mod names;
mod node;
mod nodes;
mod perm;
mod quota;
mod read;
mod rename;
mod replies;
mod row_codec;
mod rows;
mod seal;
mod small;
mod snap;
mod staged;
mod state;
mod sweep;
mod sys;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod tx;
mod works;
mod writer;
mod xattrs;

pub(crate) use check::{BlobUse, Delta};
pub use durability::{Durability, SyncStats};
pub use names::{LINK_MAX, NAME_MAX, TARGET_MAX};
pub use perm::allowed;
pub use quota::{Held, Limits};
pub use replies::REPLIES;
pub(crate) use rows::VOLUMES_FORMAT;
pub use seal::{SealOptions, Sealed};
pub use snap::Snapshot;
pub use staged::MAX_FILE;
pub(crate) use sys::reflink;
pub use tree::WorkTree;
pub use works::{WorkClass, WorkInfo, WorkUse, Works};
pub use xattrs::{XATTR_NAME_MAX, XATTR_TOTAL_MAX, XattrHow};

/// At a tree's root: where the FUSE helper keeps unlinked files that are still open. Looked
/// up like any name, but never listed and never sealed.
pub const HIDDEN: &[u8] = b".pocker-hidden";
