//! Removes what dropped trees leave behind: rows in small transactions, so that no
//! mutation waits long, and staged files.

use super::area::Area;
use super::rows::TREE_TABLES;
use super::writer::Writer;
use crate::failpoint;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rows removed in one transaction: a few milliseconds.
const CHUNK: usize = 500;

pub(super) struct Sweeper {
    /// One message a dropped tree.
    ids: Option<Sender<u64>>,
    stop: Arc<AtomicBool>,
    left: Arc<Left>,
    thread: Option<JoinHandle<()>>,
}

/// Dropped trees of which something is left.
#[derive(Default)]
struct Left {
    trees: Mutex<u64>,
    fewer: Condvar,
}

impl Sweeper {
    /// `known` are the trees that live; anything else found is removed first.
    pub fn start(writer: Arc<Writer>, area: Arc<Area>, known: HashSet<u64>) -> io::Result<Sweeper> {
        let (ids, rx) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        // Listed now: a tree made after this is not yet known.
        let dead = strangers(&writer, &area, &known);
        let left = Arc::<Left>::default();
        let work = Work {
            writer,
            area,
            stop: Arc::clone(&stop),
            left: Arc::clone(&left),
        };
        let thread = std::thread::Builder::new()
            .name("pocker-sweep".into())
            .spawn(move || work.run(dead, &rx))?;
        Ok(Sweeper {
            ids: Some(ids),
            stop,
            left,
            thread: Some(thread),
        })
    }

    pub fn remove(&self, id: u64) {
        if let Some(ids) = &self.ids {
            *self.left.trees.lock() += 1;
            // A thread that died leaves the tree to the next start.
            let _ = ids.send(id);
        }
    }

    /// Waits until nothing is left of the trees that were dropped, but not longer than `most`.
    pub fn wait(&self, most: Duration) {
        let mut trees = self.left.trees.lock();
        let more = |trees: &mut u64| *trees > 0;
        self.left.fewer.wait_while_for(&mut trees, more, most);
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ids = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    writer: Arc<Writer>,
    area: Arc<Area>,
    stop: Arc<AtomicBool>,
    left: Arc<Left>,
}

impl Work {
    fn run(&self, dead: BTreeSet<u64>, rx: &Receiver<u64>) {
        dead.into_iter().for_each(|id| self.tree(id));
        for id in rx {
            self.tree(id);
            *self.left.trees.lock() -= 1;
            self.left.fewer.notify_all();
        }
    }

    fn tree(&self, id: u64) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        // On a full disk what makes room comes first.
        self.area.empty_grave(id);
        self.rows(id);
        self.area.remove_tree(id);
        if self.area.is_buried(id) {
            self.grave(id);
        }
    }

    /// Where this fails the next start does it.
    fn grave(&self, id: u64) {
        let delete = "DELETE FROM tree WHERE id = ?1";
        match self.writer.with(|conn| conn.execute(delete, [id as i64])) {
            Ok(_) => self.area.remove_grave(id),
            Err(e) => tracing::warn!(tree = id, error = %e, "remove the row of a dropped tree"),
        }
    }

    fn rows(&self, id: u64) {
        for (table, key) in TREE_TABLES {
            let sql = format!(
                "DELETE FROM {table} WHERE tree = ?1 AND ({key}) IN \
                 (SELECT {key} FROM {table} WHERE tree = ?1 LIMIT {CHUNK})"
            );
            while !self.stop.load(Ordering::Relaxed) {
                match self
                    .writer
                    .with(|conn| conn.prepare_cached(&sql)?.execute([id as i64]))
                {
                    Ok(0) => break,
                    Ok(_) => failpoint::pass("drop.rows.some"),
                    Err(e) => {
                        tracing::warn!(tree = id, table, error = %e, "remove rows of a dropped tree");
                        break;
                    }
                }
            }
        }
    }
}

/// Trees that rows or files speak of, but that are no more.
fn strangers(writer: &Writer, area: &Area, known: &HashSet<u64>) -> BTreeSet<u64> {
    let mut dead = BTreeSet::new();
    for (table, _) in TREE_TABLES {
        // By skipping from tree to tree in the index.
        let sql = format!("SELECT min(tree) FROM {table} WHERE tree > ?1");
        let mut at = -1;
        while let Ok(Some(id)) =
            writer.with(|conn| conn.query_row(&sql, [at], |r| r.get::<_, Option<i64>>(0)))
        {
            dead.insert(id as u64);
            at = id;
        }
    }
    if let Ok(dir) = std::fs::read_dir(area.dir()) {
        let ids = dir
            .flatten()
            .filter_map(|f| f.file_name().to_str()?.parse::<u64>().ok());
        dead.extend(ids);
    }
    dead.extend(area.buried().unwrap_or_default());
    dead.retain(|id| !known.contains(id));
    dead
}
