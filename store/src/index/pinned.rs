//! Steps that somebody pinned, and when steps were last used: records of the store's own kinds.

use super::{Index, Sync};
use crate::error::StoreError;
use crate::types::Digest;
use std::collections::HashMap;

const PIN: &str = "pin";
const USED: &str = "used";
const LOST: &str = "lost";

/// A step that stays until it is unpinned, whatever else refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub key: Digest,
    /// The pinner's own words, not looked at here.
    pub label: Vec<u8>,
    /// Seconds since the epoch, by the caller's clock.
    pub since: i64,
}

impl Index {
    /// False where there is no such step.
    pub fn pin_step(&self, pinned: &Pinned) -> Result<bool, StoreError> {
        let bytes = [&pinned.since.to_le_bytes()[..], &pinned.label].concat();
        self.write("pin a step", Sync::Full, 0, |tx| {
            let there = tx
                .prepare_cached("SELECT 1 FROM step WHERE key = ?1")?
                .exists([&pinned.key.0])?;
            if there {
                tx.execute(
                    "INSERT OR REPLACE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)",
                    (PIN, &pinned.key.0[..], bytes),
                )?;
            }
            Ok(there)
        })
    }

    /// False where it was not pinned.
    pub fn unpin_step(&self, key: &Digest) -> Result<bool, StoreError> {
        self.delete_record(PIN, &key.0)
    }

    /// By key. A row that makes no sense still pins its step.
    pub fn pinned_steps(&self) -> Result<Vec<Pinned>, StoreError> {
        let pinned = |(id, bytes): (Vec<u8>, Vec<u8>)| {
            let (since, label) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
            Some(Pinned {
                key: Digest(id.try_into().ok()?),
                label: label.to_vec(),
                since: i64::from_le_bytes(*since),
            })
        };
        Ok(self.records(PIN)?.into_iter().filter_map(pinned).collect())
    }

    /// Ordered with what comes next, not synced: a crash may forget that something was used.
    pub fn put_uses(&self, uses: &HashMap<Digest, i64>) -> Result<(), StoreError> {
        let bytes = 64 * uses.len() as u64;
        self.write("note what was used", Sync::Ordered, bytes, |tx| {
            let mut put = tx.prepare_cached(
                "INSERT OR REPLACE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)",
            )?;
            uses.iter().try_for_each(|(key, at)| {
                put.execute((USED, &key.0[..], &at.to_le_bytes()[..]))
                    .map(drop)
            })
        })
    }

    pub fn uses(&self) -> Result<HashMap<Digest, i64>, StoreError> {
        let used = |(id, bytes): (Vec<u8>, Vec<u8>)| {
            let at = i64::from_le_bytes(bytes.try_into().ok()?);
            Some((Digest(id.try_into().ok()?), at))
        };
        Ok(self.records(USED)?.into_iter().filter_map(used).collect())
    }

    pub fn use_of(&self, key: &Digest) -> Result<Option<i64>, StoreError> {
        let bytes = self.record(USED, &key.0)?;
        Ok(bytes
            .and_then(|b| b.try_into().ok())
            .map(i64::from_le_bytes))
    }

    /// Notes what steps have lost: digests of blobs and objects, in a row. An empty note is of more
    /// than anybody counts.
    pub fn put_lost(&self, lost: &HashMap<Digest, Vec<Digest>>) -> Result<(), StoreError> {
        self.write(
            "note what is lost",
            Sync::Full,
            64 * lost.len() as u64,
            |tx| {
                let mut put = tx.prepare_cached(
                    "INSERT OR REPLACE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)",
                )?;
                lost.iter().try_for_each(|(key, what)| {
                    let bytes: Vec<u8> = what.iter().flat_map(|d| d.0).collect();
                    put.execute((LOST, &key.0[..], bytes)).map(drop)
                })
            },
        )
    }

    /// What a step has lost, as noted.
    pub fn lost(&self, key: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        let bytes = self.record(LOST, &key.0)?;
        Ok(bytes.map(|bytes| {
            let (digests, _) = bytes.as_chunks();
            digests.iter().map(|digest| Digest(*digest)).collect()
        }))
    }

    /// Notes of steps that are gone.
    pub fn forget_unused(&self) -> Result<(), StoreError> {
        self.write("forget what was used", Sync::Ordered, 0, |tx| {
            tx.execute(
                "DELETE FROM record WHERE kind IN (?1, ?2) AND id NOT IN (SELECT key FROM step)",
                [USED, LOST],
            )
            .map(drop)
        })
    }

    /// Keys that begin with these bytes, two at most: that is enough to see that one is not
    /// meant alone. `upto` is the largest key that does.
    pub fn keys_between(&self, from: &Digest, upto: &Digest) -> Result<Vec<Digest>, StoreError> {
        self.read("look for a step", |c| {
            c.prepare_cached("SELECT key FROM step WHERE key BETWEEN ?1 AND ?2 LIMIT 2")?
                .query_map([&from.0, &upto.0], |r| super::digest_column(r, 0))?
                .collect()
        })
    }

    /// Free pages go back to the file system, a few at a time, where the index was made so that
    /// they can (`auto_vacuum`); then the log's space does. What readers are in the way of waits
    /// for the next time.
    pub fn give_back(&self) -> Result<(), StoreError> {
        const PAGES: i64 = 256;
        loop {
            let mut conn = self.writer.lock();
            let free = give_back(&mut conn, PAGES).map_err(self.fail("give back free pages"))?;
            drop(conn);
            if free == 0 {
                break;
            }
        }
        self.checkpointer.ask_truncate();
        Ok(())
    }
}

/// How many free pages are left, if any of them could be given back.
fn give_back(conn: &mut rusqlite::Connection, pages: i64) -> rusqlite::Result<i64> {
    let count = |conn: &rusqlite::Connection, name| {
        conn.pragma_query_value(None, name, |r| r.get::<_, i64>(0))
    };
    let before = count(conn, "freelist_count")?;
    if before == 0 {
        return Ok(0);
    }
    // A page a row: it has to be read to its end.
    let mut vacuum = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    drop(rows);
    drop(vacuum);
    let after = count(conn, "freelist_count")?;
    Ok(if after < before { after } else { 0 })
}
