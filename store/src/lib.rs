//! Content-addressed trees: blobs, directories, snapshots, work trees, steps.
//! [`store`] says what is on disk.

mod backup;
mod batch;
pub mod blob;
mod cache;
pub mod diff;
mod error;
pub mod failpoint;
pub mod fsck;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gc;
mod index;
mod ingest;
mod layers;
mod lock;
pub mod object;
mod objects;
mod patience;
mod pins;
mod places;
mod quarantine;
mod sealed;
mod sizes;
mod store;
pub mod sync;
mod sys;
pub mod tree;
mod trees;
pub mod types;
pub mod upgrade;
mod usage;
pub mod work;

pub use backup::{Backup, BackupOptions, Restored, WITHIN as BACKUPS_WITHIN, restore};
pub use batch::{Batch, Committed};
pub use blob::{BlobStore, PackReport, Take, Upstream, UpstreamUse, Verified};
pub use cache::CacheUse;
pub use error::StoreError;
pub use fsck::{FsckOptions, FsckPhase, FsckProgress, FsckReport};
pub use gc::{GcOptions, GcReport, GcRoots};
pub use index::{IdAndBytes, Pinned, Pocker, Step};
pub use ingest::{DEPTH_MAX, Ingest, IngestDone, IngestError, IngestLimits, Special};
pub use layers::LayerId;
pub use lock::{closed, hold, make_folder};
pub use patience::{may_wait, without_waiting};
pub use sealed::{NameRef, SealedTree};
pub use sizes::{HeldSizes, Sizes};
pub use store::{FsSpace, ORDINALS, OpenOptions, Store};
pub use usage::Usage;

#[cfg(test)]
mod tests;
