//! The thread that moves the write-ahead log into the database, so that no commit waits for it.

use crate::error::StoreError;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) struct Checkpointer {
    ask: Option<SyncSender<()>>,
    /// The next one also gives the log's space back.
    truncate: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub fn start(path: &Path) -> Result<Checkpointer, StoreError> {
        let conn = Connection::open(path)
            .and_then(|c| c.busy_timeout(Duration::from_secs(1)).map(|()| c))
            .map_err(|e| StoreError::db("open the index for checkpoints", path, e))?;
        // One waiting request says all that several would.
        let (ask, asked) = sync_channel(1);
        let own = path.to_path_buf();
        let truncate = Arc::new(AtomicBool::new(false));
        let asked_to = Arc::clone(&truncate);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || run(&conn, &asked, &asked_to, &own))
            .map_err(|e| StoreError::io("start the checkpoint thread for", path, e))?;
        Ok(Checkpointer {
            ask: Some(ask),
            truncate,
            thread: Some(thread),
        })
    }

    /// Asks for a checkpoint soon.
    pub fn ask(&self) {
        if let Some(ask) = &self.ask {
            // Full means that one is asked for already.
            let _ = ask.try_send(());
        }
    }
}

impl Checkpointer {
    /// Asks for one that also gives the log's space back, once nobody reads it.
    pub fn ask_truncate(&self) {
        self.truncate.store(true, Ordering::Release);
        self.ask();
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(conn: &Connection, asked: &Receiver<()>, truncate: &AtomicBool, path: &Path) {
    while asked.recv().is_ok() {
        // PASSIVE waits for nobody, TRUNCATE for a second at most; what a reader still needs stays
        // for the next time.
        let sql = match truncate.swap(false, Ordering::AcqRel) {
            true => "PRAGMA wal_checkpoint(TRUNCATE)",
            false => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        let done = conn.query_row(sql, [], |_| Ok(()));
        if let Err(e) = done {
            tracing::warn!("checkpoint of {}: {e}", path.display());
        }
    }
}
