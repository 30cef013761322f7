//! A work tree's state from its rows: after a restart, or after a failed commit.

use super::WorkInfo;
use super::area::{Area, failed};
use super::codec::{self, ContentRow};
use super::node::{Content, What};
use super::quota::Quota;
use super::rows::Row;
use super::small::Small;
use super::staged::{Staged, set_mtime};
use super::state::State;
use super::writer::{Link, Writer};
use crate::StoreError;
use crate::blob::SMALL;
use crate::failpoint;
use crate::sealed::SealedTree;
use crate::types::{Errno, Node};
use rusqlite::Connection;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Everything kept for the tree.
pub(super) fn state(
    info: &WorkInfo,
    area: &Area,
    writer: &Writer,
    link: &Link,
    base: Option<Arc<SealedTree>>,
) -> Result<State, Errno> {
    let mut st = State::new(base, info.created);
    let mut staged = Vec::new();
    let boot = area.store.boot_id();
    let mut same_boot = false;
    writer
        .read(|conn| {
            st.epoch = link.epoch.load(Ordering::Acquire);
            staged = rows(conn, info.id, area, &mut st)?;
            same_boot = super::rows::loaded_on(conn, info.id, boot)?;
            Ok(())
        })
        .map_err(Bad::Sql)
        .flatten()
        .map_err(|e| match e {
            // Dropped since its caller found it.
            Bad::Sql(rusqlite::Error::QueryReturnedNoRows) => Errno::Stale,
            e => {
                tracing::error!(tree = info.id, error = %e, "load work tree");
                Errno::Io
            }
        })?;
    let crashed = area.is_disk() && !same_boot;
    let held = attach(area, info.id, &mut st, staged, crashed)?;
    if crashed {
        let noted = writer.with(|conn| super::rows::set_loaded(conn, info.id, boot));
        noted.map_err(|e| super::works::db("note that a volume was loaded", &e))?;
    }
    if !held.is_empty() {
        writer.append(held)?;
    }
    sweep(area, info.id, &st);
    st.quota = Quota::of(info, area);
    if let Some(quota) = &st.quota {
        quota.count(&st);
    }
    Ok(st)
}

/// Why rows could not be read; only ever logged.
#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("read its rows: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("a row is damaged")]
    Row,
}

impl From<Errno> for Bad {
    fn from(_: Errno) -> Bad {
        Bad::Row
    }
}

type Chunks = Vec<(usize, Vec<u8>)>;

/// A staged node: its base and the blocks recorded as present.
struct StagedRow {
    node: Node,
    base: Option<(super::staged::Base, u64)>,
    /// A mutation began to change the file and is not kept: the row's times hold.
    held: bool,
    size: Option<u64>,
    chunks: Chunks,
}

fn rows(conn: &Connection, tree: u64, area: &Area, st: &mut State) -> Result<Vec<StagedRow>, Bad> {
    let id = tree as i64;
    st.reserved = conn.query_row("SELECT reserved FROM tree WHERE id = ?1", [id], |r| {
        r.get::<_, i64>(0)
    })? as u64;
    st.next = st.reserved.max(st.last_base + 1);
    let mut content: HashMap<Node, Small> = HashMap::new();
    each(
        conn,
        "SELECT node, data FROM content WHERE tree = ?1",
        id,
        |r| {
            let bytes: Vec<u8> = r.get(1)?;
            if bytes.len() as u64 > SMALL {
                return Err(Bad::Row);
            }
            let small = Small::new(&area.smalls, bytes);
            content.insert(r.get::<_, i64>(0)? as u64, small);
            Ok(())
        },
    )?;
    let mut chunks: HashMap<Node, Chunks> = HashMap::new();
    each(
        conn,
        "SELECT node, chunk, bits FROM present WHERE tree = ?1",
        id,
        |r| {
            let chunk = (r.get::<_, i64>(1)? as usize, r.get(2)?);
            chunks
                .entry(r.get::<_, i64>(0)? as u64)
                .or_default()
                .push(chunk);
            Ok(())
        },
    )?;
    let mut staged = Vec::new();
    each(
        conn,
        "SELECT node, data FROM node WHERE tree = ?1",
        id,
        |r| {
            let n = r.get::<_, i64>(0)? as u64;
            let data = r.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            if data.is_empty() {
                st.gone.insert(n);
                return Ok(());
            }
            let (mut node, row) = codec::decode_node(data)?;
            match row {
                None => {}
                Some(ContentRow::Blob { digest, size }) => {
                    node.what = What::File(Content::blob(digest, size))
                }
                Some(ContentRow::Inline { size }) => {
                    let mut small = content.remove(&n).unwrap_or_default();
                    if let Some(size) = size.filter(|size| *size != small.len()) {
                        let found = small.len();
                        tracing::error!(tree, node = n, size, found, "a file's content is lost");
                        small = Small::lost(&area.smalls, size);
                    }
                    node.what = What::File(Content::Inline(small));
                }
                Some(ContentRow::Staged { base, size, held }) => staged.push(StagedRow {
                    node: n,
                    base,
                    size,
                    held,
                    chunks: chunks.remove(&n).unwrap_or_default(),
                }),
            }
            st.nodes.insert(n, node);
            Ok(())
        },
    )?;
    names(conn, id, st)?;
    replies(conn, id, st)?;
    Ok(staged)
}

fn names(conn: &Connection, id: i64, st: &mut State) -> Result<(), Bad> {
    each(
        conn,
        "SELECT dir, seq, name, node FROM added WHERE tree = ?1 ORDER BY dir, seq",
        id,
        |r| {
            let name = r.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            let (dir, seq, node): (i64, i64, i64) = (r.get(0)?, r.get(1)?, r.get(3)?);
            let names = st.names.entry(dir as u64).or_default();
            Ok(names.add(seq as u64, name, node as u64)?)
        },
    )?;
    each(
        conn,
        "SELECT dir, name FROM whiteout WHERE tree = ?1",
        id,
        |r| {
            let name = r.get::<_, Vec<u8>>(1)?.into_boxed_slice();
            let dir = r.get::<_, i64>(0)? as u64;
            st.names.entry(dir).or_default().whiteouts.insert(name);
            Ok(())
        },
    )
}

fn replies(conn: &Connection, id: i64, st: &mut State) -> Result<(), Bad> {
    each(
        conn,
        "SELECT seq, key, data FROM reply WHERE tree = ?1 ORDER BY seq",
        id,
        |r| {
            let outcome =
                codec::decode_changed(r.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?;
            st.replies
                .restore(r.get::<_, i64>(0)? as u64, r.get(1)?, outcome);
            Ok(())
        },
    )
}

fn each(
    conn: &Connection,
    sql: &str,
    tree: i64,
    mut f: impl FnMut(&rusqlite::Row) -> Result<(), Bad>,
) -> Result<(), Bad> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([tree])?;
    while let Some(row) = rows.next()? {
        f(row)?;
    }
    Ok(())
}

/// Gives staged nodes their files. The rows of those whose times were held. `crashed`: the machine
/// may have gone down since the tree was loaded last.
fn attach(
    area: &Area,
    tree: u64,
    st: &mut State,
    rows: Vec<StagedRow>,
    crashed: bool,
) -> Result<Vec<Row>, Errno> {
    let mut held = Vec::new();
    for row in rows {
        let key = (tree, row.node);
        let node = st.nodes.get_mut(&row.node).ok_or(Errno::Io)?;
        if crashed && row.base.is_none() && area.is_absent(key) {
            // Its name was never synced, as nothing in it was ever stable.
            tracing::warn!(
                tree,
                node = row.node,
                "the machine went down before a file was stable: it is empty"
            );
            area.create(key)?;
        }
        unshare(area, key)?;
        let times = (node.mtime.into(), node.ctime.into());
        if row.held {
            set_mtime(area, key, &*area.file(key)?, node.mtime.into())?;
        }
        let opened = match row.size {
            Some(size) => Staged::reopen_lasting(area, key, row.base, size, times, &row.chunks),
            None => Staged::reopen(area, key, row.base, times, &row.chunks),
        };
        let staged = opened.map_err(|e| {
            tracing::error!(tree, node = row.node, "a staged file is gone");
            if e == Errno::Stale { Errno::Io } else { e }
        })?;
        node.what = What::File(Content::Staged(Arc::new(staged)));
        if row.held {
            held.push(Row::node(tree, row.node, node));
        }
    }
    Ok(held)
}

/// A seal that a kill cut short may have left the file linked into the blob area,
/// where nothing may change it: the tree gets a copy of its own. So it does of one that a snapshot
/// has, when it is written to.
pub(super) fn unshare(area: &Area, key: super::area::Key) -> Result<(), Errno> {
    let path = area.path(key);
    let copy = path.with_extension("copy");
    let fail = |e: &io::Error| failed("unshare staged file", &path, e);
    let meta = std::fs::metadata(&path).map_err(|e| fail(&e))?;
    if meta.nlink() < 2 {
        return Ok(());
    }
    // Of one that a kill ended.
    let _ = std::fs::remove_file(&copy);
    let run = || -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(&copy)?;
        file.set_modified(meta.modified()?)?;
        if area.is_disk() {
            file.sync_all()?;
        }
        failpoint::hit("unshare.copied")?;
        std::fs::rename(&copy, &path)?;
        area.replaced(key);
        failpoint::hit("unshare.renamed")
    };
    let copied = crate::backup::copy_file(&path, &copy).map_err(|e| match e {
        StoreError::Io { source, .. } => fail(&source),
        e => e.log(),
    });
    let done = copied.and_then(|()| run().map_err(|e| fail(&e)));
    if done.is_err() {
        // Not there any more where the rename was done.
        let _ = std::fs::remove_file(&copy);
    }
    done
}

/// Unlinks files that no row speaks of: made by a transaction that never was, or
/// kept by one that removed them just before a kill.
fn sweep(area: &Area, tree: u64, st: &State) {
    let Ok(dir) = std::fs::read_dir(area.tree_dir(tree)) else {
        return;
    };
    for file in dir.flatten() {
        let name = file.file_name();
        let number = name.to_str().and_then(|n| n.parse::<Node>().ok());
        let used = number
            .and_then(|n| st.nodes.get(&n))
            .is_some_and(|n| n.staged().is_some());
        if used {
            continue;
        }
        match number {
            Some(n) => area.unlink((tree, n)),
            None => {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}
