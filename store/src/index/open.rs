//! Making and opening `index.db`: format, features, pragmas.

use super::checkpoint::Checkpointer;
use super::{Index, STATEMENTS};
use crate::error::StoreError;
use crate::lock::StoreLock;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// The format this program writes and the newest it reads.
pub(crate) const FORMAT: i64 = 1;
/// Features this program knows.
pub(crate) const FEATURES: &[&str] = &[super::promised::FEATURE, PACKED];
/// Large blobs may be in `packed/`.
pub(crate) const PACKED: &str = "packed";
/// As SQLite's `auto_vacuum` numbers it: free pages can be given back.
pub(crate) const AUTO_VACUUM_INCREMENTAL: i64 = 2;
/// SQLite's application_id of an index: "pckr".
const APPLICATION: i64 = 0x7063_6b72;
/// The lock file keeps other processes out, so only our own checkpoints can make anyone wait.
const BUSY: Duration = Duration::from_secs(30);
/// Opening waits for nobody of ours: whoever has the file locked is another program.
const OPENING: Duration = Duration::from_secs(1);
/// Page cache of the writer and of each reader, in KiB (negative: SQLite's convention).
const WRITER_CACHE: i64 = -8192;
const READER_CACHE: i64 = -1024;

impl Index {
    /// Opens the index at `path`; makes it where it is absent and `create` is set.
    pub fn open(path: &Path, create: bool, lock: StoreLock) -> Result<Index, StoreError> {
        if !create && !path.exists() {
            let path = path.parent().unwrap_or(path).to_path_buf();
            return Err(StoreError::NotAStore {
                path,
                why: "it has no index.db",
            });
        }
        let fail = |what| move |e| StoreError::db(what, path, e);
        let mut conn = Connection::open(path).map_err(fail("open the index"))?;
        conn.busy_timeout(OPENING)
            .map_err(fail("configure the index"))?;
        let application = pragma(&conn, "application_id").map_err(fail("read the index"))?;
        let tables: i64 = conn
            .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))
            .map_err(fail("read the index"))?;
        if tables == 0 && holds_something(path) {
            let path = path.parent().unwrap_or(path).to_path_buf();
            return Err(StoreError::NoIndex { path });
        }
        let fresh = tables == 0 && create;
        if !fresh {
            if application != APPLICATION {
                let path = path.parent().unwrap_or(path).to_path_buf();
                return Err(StoreError::NotAStore {
                    path,
                    why: "its index.db is another program's",
                });
            }
            // Before anything that may write to it.
            check(&conn, path)?;
        }
        configure(&conn, WRITER_CACHE, fresh).map_err(fail("configure the index"))?;
        if fresh {
            make(&mut conn)?.map_err(fail("create the index"))?;
        }
        conn.busy_timeout(BUSY)
            .map_err(fail("configure the index"))?;
        Ok(Index {
            path: path.to_path_buf(),
            writer: Mutex::new(conn),
            readers: Mutex::new(Vec::new()),
            pace: Default::default(),
            written: AtomicU64::new(0),
            doubtful: AtomicBool::new(false),
            checkpointer: Checkpointer::start(path)?,
            _lock: lock,
        })
    }
}

/// What a new index would take for waste, and a collection remove.
fn holds_something(index: &Path) -> bool {
    let store = index.parent().unwrap_or(index);
    let files = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let blobs = files(store.join("blobs")).any(|dir| files(dir.path()).next().is_some());
    blobs || store.join("volumes.db").exists()
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, name, |r| r.get(0))
}

fn configure(conn: &Connection, cache: i64, fresh: bool) -> rusqlite::Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // So that collection gives space back. Of a database that is made just now; an older one is
    // as it was made until `pocker store upgrade` writes it anew.
    if fresh {
        conn.pragma_update(None, "auto_vacuum", AUTO_VACUUM_INCREMENTAL)?;
    }
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "cache_size", cache)?;
    conn.pragma_update(None, "trusted_schema", false)
}

/// The empty index of a new store. The outer error is no randomness.
fn make(conn: &mut Connection) -> Result<rusqlite::Result<()>, StoreError> {
    let (mut id, mut secret) = ([0; 16], [0; 32]);
    getrandom::fill(&mut id).map_err(StoreError::Random)?;
    getrandom::fill(&mut secret).map_err(StoreError::Random)?;
    let make = |conn: &mut Connection| {
        let tx = conn.transaction()?;
        tx.execute_batch(include_str!("schema.sql"))?;
        let mut put = tx.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
        put.execute(("store_id", &id[..]))?;
        put.execute(("secret", &secret[..]))?;
        put.execute(("error_epoch", &0_u64.to_le_bytes()[..]))?;
        put.execute(("next_id", &1_u64.to_le_bytes()[..]))?;
        drop(put);
        tx.pragma_update(None, "application_id", APPLICATION)?;
        tx.pragma_update(None, "user_version", FORMAT)?;
        tx.commit()
    };
    Ok(make(conn))
}

/// Refuses what this program would not understand, by name.
fn check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |e| StoreError::db("read the format", path, e);
    let found = pragma(conn, "user_version").map_err(fail)?;
    let store = path.parent().unwrap_or(path).to_path_buf();
    if found > FORMAT {
        return Err(StoreError::Newer {
            path: store,
            found,
            known: FORMAT,
        });
    }
    if found < FORMAT {
        return Err(StoreError::Older {
            path: store,
            found,
            known: FORMAT,
        });
    }
    let mut features = conn
        .prepare("SELECT name FROM feature WHERE incompatible = 1 ORDER BY name")
        .map_err(fail)?;
    let names = features
        .query_map([], |r| r.get::<_, String>(0))
        .map_err(fail)?;
    for name in names {
        let feature = name.map_err(fail)?;
        if !FEATURES.contains(&feature.as_str()) {
            return Err(StoreError::Feature {
                path: store,
                feature,
            });
        }
    }
    let verdict: Option<String> = conn
        .query_row(
            "SELECT value FROM meta WHERE key = 'secret' AND length(value) <> 32",
            [],
            |_| Ok("secret".to_owned()),
        )
        .optional()
        .map_err(fail)?;
    match verdict {
        None => Ok(()),
        Some(_) => Err(StoreError::NotAStore {
            path: store,
            why: "its secret is damaged",
        }),
    }
}

/// A reader of a database that is there, whatever its format is.
pub(crate) fn found(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::NotAStore {
            path: path.parent().unwrap_or(path).to_path_buf(),
            why: "it has no index.db",
        });
    }
    if path.with_extension("db-journal").exists() {
        // Who was killed in the middle of a change left it; readers alone cannot undo that.
        let undo = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|conn| pragma(&conn, "schema_version"));
        undo.map_err(|e| StoreError::db("undo what was begun", path, e))?;
    }
    reader(path)
}

/// An error where the index at `path` cannot be opened, or this program does not know its format.
pub(crate) fn readable(path: &Path) -> Result<(), StoreError> {
    check(&reader(path)?, path)
}

pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(BUSY)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        conn.pragma_update(None, "cache_size", READER_CACHE)?;
        Ok(conn)
    };
    open().map_err(|e| StoreError::db("open a reader of the index", path, e))
}
