//! Rows for garbage collection: listed in order, removed by digest.

use super::{Index, Sync, digest_column};
use crate::error::StoreError;
use crate::types::Digest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Snapshot,
    Object,
    SmallBlob,
    LargeBlob,
}

/// A row that may go.
pub(crate) struct Doomed {
    pub digest: Digest,
    /// Of content, for the report.
    pub bytes: u64,
}

impl Table {
    /// Digest and bytes of the rows after a digest.
    fn list(self) -> &'static str {
        match self {
            Table::Snapshot => {
                "SELECT digest, 0 FROM snapshot WHERE digest > ?1 ORDER BY digest LIMIT ?2"
            }
            Table::Object => {
                "SELECT digest, length(bytes) FROM object WHERE digest > ?1 ORDER BY digest LIMIT ?2"
            }
            Table::SmallBlob => {
                "SELECT digest, length(bytes) FROM small_blob WHERE digest > ?1 ORDER BY digest LIMIT ?2"
            }
            Table::LargeBlob => {
                "SELECT digest, used FROM large_blob WHERE digest > ?1 ORDER BY digest LIMIT ?2"
            }
        }
    }

    fn remove(self) -> &'static str {
        match self {
            Table::Snapshot => "DELETE FROM snapshot WHERE digest = ?1",
            Table::Object => "DELETE FROM object WHERE digest = ?1",
            Table::SmallBlob => "DELETE FROM small_blob WHERE digest = ?1",
            Table::LargeBlob => "DELETE FROM large_blob WHERE digest = ?1",
        }
    }
}

impl Index {
    /// Up to `limit` rows after the digest `after`, by digest.
    pub fn rows_after(
        &self,
        table: Table,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<Doomed>, StoreError> {
        let after = after.as_ref();
        self.read("list rows for collection", |c| {
            c.prepare_cached(table.list())?
                .query_map((after.map_or(&[][..], |d| &d.0), limit as i64), |r| {
                    let bytes = r.get::<_, i64>(1)?.max(0) as u64;
                    Ok(Doomed {
                        digest: digest_column(r, 0)?,
                        bytes,
                    })
                })?
                .collect()
        })
    }

    pub fn remove_rows(&self, table: Table, rows: &[Doomed]) -> Result<(), StoreError> {
        let bytes = rows.iter().map(|r| r.bytes).sum();
        self.write("remove rows", Sync::Full, bytes, |tx| {
            let mut remove = tx.prepare_cached(table.remove())?;
            rows.iter()
                .try_for_each(|row| remove.execute([&row.digest.0]).map(drop))
        })
    }
}
