//! `work.db` and `volumes.db`: their schema and their rows.

use super::WorkInfo;
use super::codec;
use super::durability::Durability;
use super::journal::{Journal, Mark};
use super::node::Node as Inode;
use super::quota::Limits;
use super::replies::REPLIES;
use crate::StoreError;
use crate::quarantine::Quarantine;
use crate::types::{Changed, Node, OnceKey};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};

/// Moves with each change of schema or row. Another one of `work.db` is thrown away like
/// another boot's; for `volumes.db` the way from each older one must be here.
const FORMAT: u32 = 5;
/// Of volumes; what is new in the one after it is in rows that are written from then on: how long
/// a content is that is a row.
const OLDER: u32 = 4;
/// As others see it.
pub(crate) const VOLUMES_FORMAT: i64 = FORMAT as i64;
/// Pages (of 4 KiB) in the log before a writer copies them back: with synchronous=OFF that
/// is a copy in memory, so neither long nor often.
const CHECKPOINT_PAGES: u32 = 2000;
/// One for each statement below, and some for the manager.
const STATEMENTS: usize = 32;

const SCHEMA: &str = "
CREATE TABLE about(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tree(id INTEGER PRIMARY KEY, base BLOB, class INTEGER NOT NULL, label BLOB NOT NULL,
    secs INTEGER NOT NULL, nanos INTEGER NOT NULL, reserved INTEGER NOT NULL);
CREATE TABLE node(tree INTEGER, node INTEGER, data BLOB, PRIMARY KEY(tree, node)) WITHOUT ROWID;
CREATE TABLE content(tree INTEGER, node INTEGER, data BLOB NOT NULL, PRIMARY KEY(tree, node));
CREATE TABLE present(tree INTEGER, node INTEGER, chunk INTEGER, bits BLOB NOT NULL,
    PRIMARY KEY(tree, node, chunk)) WITHOUT ROWID;
CREATE TABLE added(tree INTEGER, dir INTEGER, seq INTEGER, name BLOB NOT NULL, node INTEGER NOT NULL,
    PRIMARY KEY(tree, dir, seq)) WITHOUT ROWID;
CREATE TABLE whiteout(tree INTEGER, dir INTEGER, name BLOB, PRIMARY KEY(tree, dir, name)) WITHOUT ROWID;
CREATE TABLE reply(tree INTEGER, slot INTEGER, seq INTEGER NOT NULL, key BLOB NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY(tree, slot)) WITHOUT ROWID;
";

/// The tables whose rows belong to a tree, and the rest of their keys.
pub(super) const TREE_TABLES: [(&str, &str); 6] = [
    ("node", "node"),
    ("content", "node"),
    ("present", "node, chunk"),
    ("added", "dir, seq"),
    ("whiteout", "dir, name"),
    ("reply", "slot"),
];

/// Table, tree, and where in it.
pub(super) type RowKey = (u8, u64, u64, u64);

/// One change of one row. Data is a node's row (no bytes: a base node that is gone).
#[derive(Debug, PartialEq)]
pub(super) enum Row {
    Node {
        tree: u64,
        node: Node,
        data: Vec<u8>,
    },
    NodeGone {
        tree: u64,
        node: Node,
    },
    Content {
        tree: u64,
        node: Node,
        data: Vec<u8>,
    },
    ContentGone {
        tree: u64,
        node: Node,
    },
    Present {
        tree: u64,
        node: Node,
        chunk: usize,
        bits: Vec<u8>,
    },
    PresentGone {
        tree: u64,
        node: Node,
    },
    Added {
        tree: u64,
        dir: Node,
        seq: u64,
        name: Box<[u8]>,
        node: Node,
    },
    AddedGone {
        tree: u64,
        dir: Node,
        seq: u64,
    },
    Whiteout {
        tree: u64,
        dir: Node,
        name: Vec<u8>,
    },
    WhiteoutsGone {
        tree: u64,
        dir: Node,
    },
    Reserved {
        tree: u64,
        reserved: Node,
    },
    Reply {
        tree: u64,
        seq: u64,
        key: OnceKey,
        data: Vec<u8>,
    },
}

impl Row {
    pub fn node(tree: u64, number: Node, node: &Inode) -> Row {
        Row::Node {
            tree,
            node: number,
            data: codec::encode_node(node),
        }
    }

    /// See [`codec::encode_held`].
    pub fn held(tree: u64, number: Node, node: &Inode) -> Row {
        Row::Node {
            tree,
            node: number,
            data: codec::encode_held(node),
        }
    }

    pub fn tree(&self) -> u64 {
        match self {
            Row::Node { tree, .. }
            | Row::NodeGone { tree, .. }
            | Row::Content { tree, .. }
            | Row::ContentGone { tree, .. }
            | Row::Present { tree, .. }
            | Row::PresentGone { tree, .. }
            | Row::Added { tree, .. }
            | Row::AddedGone { tree, .. }
            | Row::Whiteout { tree, .. }
            | Row::WhiteoutsGone { tree, .. }
            | Row::Reserved { tree, .. }
            | Row::Reply { tree, .. } => *tree,
        }
    }

    /// The one place that this row decides as a whole, whatever was there; none for those
    /// that remove a range of rows, or whose place is a name.
    pub fn key(&self) -> Option<RowKey> {
        match self {
            Row::Node { tree, node, .. } | Row::NodeGone { tree, node } => {
                Some((0, *tree, *node, 0))
            }
            Row::Content { tree, node, .. } | Row::ContentGone { tree, node } => {
                Some((1, *tree, *node, 0))
            }
            Row::Present {
                tree, node, chunk, ..
            } => Some((2, *tree, *node, *chunk as u64)),
            Row::Added { tree, dir, seq, .. } | Row::AddedGone { tree, dir, seq } => {
                Some((3, *tree, *dir, *seq))
            }
            Row::Reserved { tree, .. } => Some((4, *tree, 0, 0)),
            Row::Reply { tree, seq, .. } => Some((5, *tree, *seq % REPLIES as u64, 0)),
            Row::PresentGone { .. } | Row::Whiteout { .. } | Row::WhiteoutsGone { .. } => None,
        }
    }

    pub fn reply(tree: u64, seq: u64, key: OnceKey, outcome: &Changed) -> Row {
        Row::Reply {
            tree,
            seq,
            key,
            data: codec::encode_changed(outcome),
        }
    }

    pub fn write(&self, conn: &Connection) -> rusqlite::Result<()> {
        let n = |v: &u64| *v as i64;
        let run = |sql: &str, p: &[&dyn rusqlite::ToSql]| {
            conn.prepare_cached(sql)?.execute(p).map(|_| ())
        };
        match self {
            Row::Node { tree, node, data } => run(
                "INSERT OR REPLACE INTO node VALUES(?1, ?2, ?3)",
                params![n(tree), n(node), data],
            ),
            Row::NodeGone { tree, node } => run(
                "DELETE FROM node WHERE tree = ?1 AND node = ?2",
                params![n(tree), n(node)],
            ),
            Row::Content { tree, node, data } => run(
                "INSERT OR REPLACE INTO content VALUES(?1, ?2, ?3)",
                params![n(tree), n(node), data],
            ),
            Row::ContentGone { tree, node } => run(
                "DELETE FROM content WHERE tree = ?1 AND node = ?2",
                params![n(tree), n(node)],
            ),
            Row::Present {
                tree,
                node,
                chunk,
                bits,
            } => run(
                "INSERT OR REPLACE INTO present VALUES(?1, ?2, ?3, ?4)",
                params![n(tree), n(node), *chunk as i64, bits],
            ),
            Row::PresentGone { tree, node } => run(
                "DELETE FROM present WHERE tree = ?1 AND node = ?2",
                params![n(tree), n(node)],
            ),
            Row::Added {
                tree,
                dir,
                seq,
                name,
                node,
            } => run(
                "INSERT OR REPLACE INTO added VALUES(?1, ?2, ?3, ?4, ?5)",
                params![n(tree), n(dir), n(seq), &name[..], n(node)],
            ),
            Row::AddedGone { tree, dir, seq } => run(
                "DELETE FROM added WHERE tree = ?1 AND dir = ?2 AND seq = ?3",
                params![n(tree), n(dir), n(seq)],
            ),
            Row::Whiteout { tree, dir, name } => run(
                "INSERT OR REPLACE INTO whiteout VALUES(?1, ?2, ?3)",
                params![n(tree), n(dir), name],
            ),
            Row::WhiteoutsGone { tree, dir } => run(
                "DELETE FROM whiteout WHERE tree = ?1 AND dir = ?2",
                params![n(tree), n(dir)],
            ),
            Row::Reserved { tree, reserved } => run(
                "UPDATE tree SET reserved = ?2 WHERE id = ?1",
                params![n(tree), n(reserved)],
            ),
            Row::Reply {
                tree,
                seq,
                key,
                data,
            } => run(
                "INSERT OR REPLACE INTO reply VALUES(?1, ?2, ?3, ?4, ?5)",
                params![n(tree), n(&(seq % REPLIES as u64)), n(seq), &key[..], data],
            ),
        }
    }
}

/// The database. One of trees that live for a boot is thrown away when it is of another boot
/// or format, as a machine that went down may have kept any part of it; one of volumes never.
pub(super) fn open(
    path: &Path,
    durability: Durability,
    boot: &[u8],
) -> Result<Connection, StoreError> {
    match durability {
        Durability::Boot => of_boot(path, boot),
        Durability::Disk => lasting(path),
    }
    .map_err(|e| match e {
        Bad::Sql(e) => StoreError::db("open", path, e),
        Bad::Io(e) => e,
        Bad::Newer(found) => StoreError::Newer {
            path: path.to_owned(),
            found: i64::from(found),
            known: i64::from(FORMAT),
        },
    })
}

enum Bad {
    Sql(rusqlite::Error),
    Io(StoreError),
    Newer(u32),
}

impl From<rusqlite::Error> for Bad {
    fn from(e: rusqlite::Error) -> Bad {
        Bad::Sql(e)
    }
}

fn of_boot(path: &Path, boot: &[u8]) -> Result<Connection, Bad> {
    let durability = Durability::Boot;
    if path.exists() {
        let opened = connect(path, durability);
        match opened.and_then(|conn| Ok((about(&conn)? == Some(boot.to_vec()), conn))) {
            Ok((true, conn)) => return Ok(conn),
            Ok((false, _)) => {
                tracing::info!("work.db is of another boot: its trees are gone");
                for file in files(path) {
                    let _ = std::fs::remove_file(file);
                }
            }
            Err(e) if is_damage(&e) => set_aside(path, &e).map_err(Bad::Io)?,
            // What cannot be read now may be the next time.
            Err(e) => return Err(e.into()),
        }
    }
    let mut conn = connect(path, durability)?;
    create(&mut conn, boot)?;
    Ok(conn)
}

/// The database's files and those of its journal.
fn files(path: &Path) -> Vec<PathBuf> {
    let database = ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    });
    let journal = Journal::paths(path.parent().unwrap_or(path), Durability::Boot);
    database.into_iter().chain(journal).collect()
}

/// The file is not what it was, however often it is read.
fn is_damage(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    match e.sqlite_error_code() {
        Some(code) => matches!(code, DatabaseCorrupt | NotADatabase | Unknown),
        None => true,
    }
}

/// A damaged database of trees that live for a boot is kept, but not used.
fn set_aside(path: &Path, e: &rusqlite::Error) -> Result<(), StoreError> {
    let store = path.parent().unwrap_or(path);
    tracing::error!(
        error = %e,
        "{} is damaged: its trees are gone, and it is kept in {}/quarantine",
        path.display(),
        store.display()
    );
    let quarantine = Quarantine::of(store);
    for file in files(path).iter().filter(|file| file.exists()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        quarantine.take(&name, file)?;
    }
    Ok(())
}

fn lasting(path: &Path) -> Result<Connection, Bad> {
    let mut conn = connect(path, Durability::Disk)?;
    match format(&conn)? {
        // New, or the machine went down before its first transaction.
        0 => create(&mut conn, b"any")?,
        FORMAT => {}
        // An older program is not to open what it would not understand.
        OLDER => conn.pragma_update(None, "user_version", FORMAT)?,
        found => return Err(Bad::Newer(found)),
    }
    Ok(conn)
}

fn create(conn: &mut Connection, boot: &[u8]) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.execute("INSERT INTO about VALUES('boot', ?1)", [boot])?;
    tx.pragma_update(None, "user_version", FORMAT)?;
    tx.commit()
}

fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", resting(durability))?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // A transaction that finds the disk full still holds its rows in memory.
    conn.pragma_update(None, "cache_spill", false)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// Whether the tree was last loaded on this boot of the machine.
pub(super) fn loaded_on(conn: &Connection, tree: u64, boot: &[u8]) -> rusqlite::Result<bool> {
    let read = "SELECT value FROM about WHERE key = 'loaded ' || ?1";
    let last: Option<Vec<u8>> = conn
        .query_row(read, [tree as i64], |r| r.get(0))
        .optional()?;
    Ok(last.as_deref() == Some(boot))
}

pub(super) fn set_loaded(conn: &Connection, tree: u64, boot: &[u8]) -> rusqlite::Result<()> {
    let write = "INSERT OR REPLACE INTO about VALUES('loaded ' || ?1, ?2)";
    conn.execute(write, params![tree as i64, boot]).map(drop)
}

pub(super) fn put_tree(conn: &Connection, info: &WorkInfo) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO tree VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0)")?
        .execute(params![
            info.id as i64,
            info.base.map(|d| d.0.to_vec()),
            info.class as i64,
            info.label,
            info.created.secs,
            info.created.nanos,
        ])
        .map(drop)
}

/// What the tree may hold of its own. Among what is known of trees, as few have limits.
pub(super) fn set_limits(conn: &Connection, tree: u64, limits: Limits) -> rusqlite::Result<()> {
    for (key, limit) in [("bytes", limits.bytes), ("names", limits.names)] {
        if let Some(limit) = limit {
            let write = "INSERT OR REPLACE INTO about VALUES('limit ' || ?1 || ' ' || ?2, ?3)";
            conn.execute(write, params![key, tree as i64, limit.to_le_bytes()])?;
        }
    }
    Ok(())
}

pub(super) fn limits(conn: &Connection, tree: u64) -> rusqlite::Result<Limits> {
    let mut read =
        conn.prepare_cached("SELECT value FROM about WHERE key = 'limit ' || ?1 || ' ' || ?2")?;
    let mut limit = |key: &str| {
        let found = read.query_row(params![key, tree as i64], |r| r.get::<_, [u8; 8]>(0));
        Ok::<_, rusqlite::Error>(found.optional()?.map(u64::from_le_bytes))
    };
    Ok(Limits {
        bytes: limit("bytes")?,
        names: limit("names")?,
    })
}

pub(super) fn drop_limits(conn: &Connection, tree: u64) -> rusqlite::Result<()> {
    let write = "DELETE FROM about WHERE key IN ('limit bytes ' || ?1, 'limit names ' || ?1)";
    conn.prepare_cached(write)?.execute([tree as i64]).map(drop)
}

/// How durable a transaction is where nobody says otherwise.
pub(super) fn resting(durability: Durability) -> &'static str {
    match durability {
        Durability::Boot => "OFF",
        Durability::Disk => "FULL",
    }
}

/// How far the database has the journal.
pub(super) fn applied(conn: &Connection) -> rusqlite::Result<Mark> {
    let read = "SELECT value FROM about WHERE key = 'applied'";
    let bytes = conn
        .query_row(read, [], |r| r.get::<_, [u8; 16]>(0))
        .optional()?;
    let [generation, offset] = bytes.map_or([0; 2], |b| {
        let word = |at: usize| {
            b[at..at + 8]
                .iter()
                .rev()
                .fold(0, |n, b| n << 8 | u64::from(*b))
        };
        [word(0), word(8)]
    });
    Ok(Mark { generation, offset })
}

pub(super) fn set_applied(conn: &Connection, mark: Mark) -> rusqlite::Result<()> {
    let bytes = [mark.generation.to_le_bytes(), mark.offset.to_le_bytes()].concat();
    conn.prepare_cached("INSERT OR REPLACE INTO about VALUES('applied', ?1)")?
        .execute([bytes])
        .map(drop)
}

/// The boot the database is of, if its format is ours.
fn about(conn: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    if format(conn)? != FORMAT {
        return Ok(None);
    }
    conn.query_row("SELECT value FROM about WHERE key = 'boot'", [], |r| {
        r.get(0)
    })
    .map(Some)
}

fn format(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA user_version", [], |r| r.get(0))
}
