//! Why the store could not do something.

use crate::object::Malformed;
use crate::types::{Digest, Errno};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{what} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried: "create", "read" …
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what} {path}: the file system is read-only", path = .path.display())]
    ReadOnly { what: &'static str, path: PathBuf },
    #[error("{what} {path}: no space left", path = .path.display())]
    Full { what: &'static str, path: PathBuf },
    #[error("{what} in {path}: {source}", path = .path.display())]
    Db {
        what: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{what} in {path}: another program has it locked", path = .path.display())]
    Locked { what: &'static str, path: PathBuf },
    #[error("{what} in {path}: the file is damaged", path = .path.display())]
    Damaged { what: &'static str, path: PathBuf },
    #[error("store {path} is in use by {}", holder(.pid), path = .path.display())]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error(
        "store {path} is a copy that was made while process {pid} had the original open, so its parts are of different moments",
        path = .path.display()
    )]
    LiveCopy { path: PathBuf, pid: u32 },
    #[error("store {path} is on NFS, where neither its lock nor its database is safe", path = .path.display())]
    OnNfs { path: PathBuf },
    #[error("{path} is not a store: {why}", path = .path.display())]
    NotAStore { path: PathBuf, why: &'static str },
    #[error("store {path} has blobs or volumes, but its index.db is gone or empty", path = .path.display())]
    NoIndex { path: PathBuf },
    #[error("store {path} has format {found}; this program knows up to {known}", path = .path.display())]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("store {path} has the older format {found}; this program has format {known}: `pocker store upgrade` brings it there", path = .path.display())]
    Older {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("store {path} has the format {found}, from which this program knows no way to its own, {known}", path = .path.display())]
    NoWay {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("store {path} uses the feature {feature:?}, which this program does not know", path = .path.display())]
    Feature { path: PathBuf, feature: String },
    #[error("{path} is no place for backups: {why}", path = .path.display())]
    NotABackup { path: PathBuf, why: &'static str },
    #[error("{path} is there already, and is not empty: a store is restored to a new place", path = .path.display())]
    Occupied { path: PathBuf },
    #[error("{path} is where the store would be made, and holds something else", path = .path.display())]
    InTheWay { path: PathBuf },
    #[error("{path}: another restore is at work there", path = .path.display())]
    Restoring { path: PathBuf },
    #[error("object {digest} is damaged: {why}")]
    Corrupt { digest: Digest, why: Malformed },
    #[error("cannot encode an object: {0}")]
    Encode(#[from] Malformed),
    #[error("{kind} {digest} is not in the store")]
    Missing { kind: &'static str, digest: Digest },
    #[error("it is of more than {most} files and directories")]
    TooMany { most: usize },
    #[error("transfers under way are of {most} files and directories together")]
    NoRoom { most: usize },
    #[error("blob {digest} has {found} bytes where {expected} were expected")]
    BlobSize {
        digest: Digest,
        expected: u64,
        found: u64,
    },
    #[error(
        "what came as {digest} has the bytes of {found}: it was damaged on the way, or where it came from"
    )]
    Differs { digest: Digest, found: Digest },
    #[error(
        "blob {digest} is at the upstream, which this server was started without, or which does not know it: `pocker serve --upstream URL`"
    )]
    Away { digest: Digest },
    #[error(
        "blob {digest} has {size} bytes, and the cache of what upstream has may hold {bound}: give --upstream-cache more"
    )]
    NoCache {
        digest: Digest,
        size: u64,
        bound: u64,
    },
    #[error("fetch blob {digest} from upstream: {why}")]
    Upstream { digest: Digest, why: String },
    #[error(
        "the bytes of blob {digest} have rotted: they are those of {found}; `pocker fsck --repair` sets it aside, and the next build of the trees that have it brings it back"
    )]
    Rotted { digest: Digest, found: Digest },
    #[error("a collection, a check or a backup is running already")]
    Collecting,
    #[error("the check was stopped")]
    Stopped,
    #[error("the store has used up all 2^22 snapshot numbers")]
    Ordinals,
    #[error("read the input of a blob: {0}")]
    Input(io::Error),
    #[error("it would have to wait")]
    WouldWait,
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> StoreError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { what, path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full { what, path }
            }
            _ => StoreError::Io { what, path, source },
        }
    }

    pub(crate) fn db(what: &'static str, path: &Path, source: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode;
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { what, path },
            Some(ErrorCode::DiskFull) => StoreError::Full { what, path },
            // What it has where it cannot make or enlarge a log, or the log's index.
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure)
                if crate::sys::is_full(path.parent().unwrap_or(&path)) =>
            {
                StoreError::Full { what, path }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Locked { what, path }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { what, path }
            }
            _ => StoreError::Db { what, path, source },
        }
    }

    /// Of a copy: what the new file is refused is not the old one's.
    pub(crate) fn db_copy(from: &Path, to: &Path, source: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode;
        let new = match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => true,
            Some(ErrorCode::SystemIoFailure) => crate::sys::is_full(to.parent().unwrap_or(to)),
            _ => false,
        };
        match new {
            true => StoreError::db("copy to", to, source),
            false => StoreError::db("copy", from, source),
        }
    }

    pub(crate) fn corrupt(digest: Digest, why: Malformed) -> StoreError {
        StoreError::Corrupt { digest, why }
    }

    /// What a system call would say. The caller logs the error itself: this loses the details.
    pub fn errno(&self) -> Errno {
        match self {
            StoreError::ReadOnly { .. } => Errno::RoFs,
            StoreError::Full { .. } => Errno::NoSpc,
            StoreError::WouldWait => Errno::Again,
            _ => Errno::Io,
        }
    }

    /// Logs the error, as the answer loses the details; answers what a system call would say.
    pub(crate) fn log(self) -> Errno {
        if !matches!(self, StoreError::WouldWait) {
            tracing::error!("{self}");
        }
        self.errno()
    }
}

/// Logs the error, as an errno loses the details.
impl From<StoreError> for Errno {
    fn from(e: StoreError) -> Errno {
        e.log()
    }
}
