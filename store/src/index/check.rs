//! What a check of the store reads and mends.

use super::pack::unpacked;
use super::{Index, Large, Sync, Table, digest_column};
use crate::error::StoreError;
use crate::types::Digest;

/// A snapshot's row: its sums are copies of what its object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotRow {
    pub digest: Digest,
    pub ordinal: u32,
    pub nodes: u64,
    pub bytes: u64,
}

/// The two tables whose rows hold content.
fn name(table: Table) -> &'static str {
    match table {
        Table::Object => "object",
        _ => "small_blob",
    }
}

impl Index {
    /// The newest row's id in a table with content; 0 where it is empty.
    pub fn last_id(&self, table: Table) -> Result<i64, StoreError> {
        self.read("find the last row", |c| {
            let sql = format!("SELECT coalesce(max(id), 0) FROM {}", name(table));
            c.prepare_cached(&sql)?.query_row([], |r| r.get(0))
        })
    }

    /// The id of the last of the next `limit` rows after `after` and up to `last`.
    pub fn span(
        &self,
        table: Table,
        after: i64,
        last: i64,
        limit: usize,
    ) -> Result<Option<i64>, StoreError> {
        self.read("divide rows", |c| {
            let sql = format!(
                "SELECT max(id) FROM (SELECT id FROM {} NOT INDEXED \
                 WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3)",
                name(table)
            );
            c.prepare_cached(&sql)?
                .query_row((after, last, limit as i64), |r| r.get(0))
        })
    }

    /// Calls `f` with digest and bytes of each row after `after` and up to `to`.
    pub fn scan(
        &self,
        table: Table,
        after: i64,
        to: i64,
        f: &mut dyn FnMut(Digest, &[u8]),
    ) -> Result<(), StoreError> {
        self.read("read rows", |c| {
            // Objects are never packed.
            let plain = match table {
                Table::SmallBlob => "plain",
                _ => "NULL",
            };
            let sql = format!(
                "SELECT digest, bytes, {plain} FROM {} WHERE id > ?1 AND id <= ?2 ORDER BY id",
                name(table)
            );
            let mut all = c.prepare_cached(&sql)?;
            let mut rows = all.query((after, to))?;
            while let Some(row) = rows.next()? {
                f(digest_column(row, 0)?, &unpacked(row, 1)?);
            }
            Ok(())
        })
    }

    /// All large blobs.
    pub fn larges(&self) -> Result<Vec<(Digest, Large)>, StoreError> {
        self.read("list large blobs", |c| {
            c.prepare_cached("SELECT digest, size, used FROM large_blob ORDER BY digest")?
                .query_map([], |r| {
                    let large = Large {
                        size: r.get::<_, i64>(1)? as u64,
                        used: r.get::<_, i64>(2)? as u64,
                    };
                    Ok((digest_column(r, 0)?, large))
                })?
                .collect()
        })
    }

    pub fn snapshot_rows(&self) -> Result<Vec<SnapshotRow>, StoreError> {
        self.read("list snapshots", |c| {
            c.prepare_cached("SELECT digest, ordinal, nodes, bytes FROM snapshot ORDER BY ordinal")?
                .query_map([], |r| {
                    Ok(SnapshotRow {
                        digest: digest_column(r, 0)?,
                        ordinal: r.get(1)?,
                        nodes: r.get::<_, i64>(2)? as u64,
                        bytes: r.get::<_, i64>(3)? as u64,
                    })
                })?
                .collect()
        })
    }

    /// Pockers, listed or not, whose steps are not numbered from 0 without a gap: by name, with
    /// whether they are listed.
    pub fn torn_pockers(&self) -> Result<Vec<(Vec<u8>, bool)>, StoreError> {
        self.read("compare pockers and their steps", |c| {
            c.prepare_cached(
                "SELECT name, 1 FROM pocker LEFT JOIN pocker_step USING (name) GROUP BY name \
                 HAVING count(position) = 0 OR max(position) + 1 <> count(position) \
                 UNION ALL SELECT DISTINCT name, 0 FROM pocker_step \
                 WHERE name NOT IN (SELECT name FROM pocker)",
            )?
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect()
        })
    }

    /// Bytes of the database, free pages included.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.read("read the size", |c| {
            let one = |name| c.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
            Ok((one("page_count")? as u64).saturating_mul(one("page_size")? as u64))
        })
    }

    /// Writes what a large blob's file has into its row, which is made where there is none.
    pub fn mend_large(&self, digest: &Digest, large: &Large) -> Result<(), StoreError> {
        self.write("mend the row of a blob", Sync::Full, 64, |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO large_blob (digest, size, used) VALUES (?1, ?2, ?3)",
                (&digest.0, large.size as i64, large.used as i64),
            )
            .map(drop)
        })
    }

    /// Writes a snapshot's sums into its row, which is made where there is none.
    pub fn mend_snapshot(&self, digest: &Digest, nodes: u64, bytes: u64) -> Result<(), StoreError> {
        self.write("mend the row of a snapshot", Sync::Full, 64, |tx| {
            super::put_snapshot(tx, digest, nodes, bytes)?;
            tx.execute(
                "UPDATE snapshot SET nodes = ?2, bytes = ?3 WHERE digest = ?1",
                (&digest.0, nodes as i64, bytes as i64),
            )
            .map(drop)
        })
    }

    pub fn remove_step(&self, key: &Digest) -> Result<(), StoreError> {
        self.write("remove a step", Sync::Full, 0, |tx| {
            super::drop_step(tx, key)
        })
    }
}
