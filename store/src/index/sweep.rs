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
    /// Of content.
    pub bytes: u64,
    /// What it takes on disk: of the database for a row with content; of its file for a large blob.
    pub disk: u64,
}

/// About what a row of `object` or `small_blob` takes of the database: SQLite's page has 4096
/// bytes; what does not fit into one goes to pages of its own. With it the digest, twice, for it
/// has an index.
fn on_disk(content: u64) -> u64 {
    const PAGE: u64 = 4096;
    /// Most of a row that is in the table's own page, what is there of a longer one at least,
    /// and what a page of the rest holds (SQLite's file format, section 1.6).
    const LOCAL: u64 = PAGE - 35;
    const LEAST: u64 = (PAGE - 12) * 32 / 255 - 23;
    const REST: u64 = PAGE - 4;
    const ROW: u64 = 32 + 6;
    const INDEX: u64 = 32 + 10;
    let payload = content + ROW;
    let least = LEAST + (payload.max(LEAST) - LEAST) % REST;
    let local = match payload {
        ..=LOCAL => payload,
        _ if least <= LOCAL => least,
        _ => LEAST,
    };
    // As many to a page as go into it, as if all were like this one.
    let place = PAGE / ((PAGE - 8) / (local + 6)).max(1);
    place + INDEX + (payload - local).div_ceil(REST) * PAGE
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
                        disk: match table {
                            Table::Object | Table::SmallBlob => on_disk(bytes),
                            Table::Snapshot | Table::LargeBlob => bytes,
                        },
                    })
                })?
                .collect()
        })
    }

    pub fn remove_rows(&self, table: Table, rows: &[Doomed]) -> Result<(), StoreError> {
        let bytes = rows.iter().map(|r| r.bytes).sum();
        // A file goes when its row is gone for good. Of rows alone a crash may bring the last
        // ones back, and the next collection takes them.
        let sync = match table {
            Table::LargeBlob => Sync::Full,
            Table::Snapshot | Table::Object | Table::SmallBlob => Sync::Ordered,
        };
        self.write("remove rows", sync, bytes, |tx| {
            let mut remove = tx.prepare_cached(table.remove())?;
            rows.iter()
                .try_for_each(|row| remove.execute([&row.digest.0]).map(drop))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite itself says, of many rows of one size.
    #[test]
    fn rows_take_what_is_said() {
        for size in [10_u64, 500, 2000, 4000, 4100, 9000, 16_384] {
            let conn = rusqlite::Connection::open_in_memory().expect("a database");
            conn.execute_batch(include_str!("schema.sql"))
                .expect("tables");
            let pages = |conn: &rusqlite::Connection| {
                conn.pragma_query_value(None, "page_count", |r| r.get::<_, i64>(0))
                    .expect("pages") as u64
            };
            let before = pages(&conn);
            let rows = 2_000_000 / size;
            for row in 0..rows {
                let digest = crate::object::digest_of(&row.to_le_bytes());
                conn.execute(
                    "INSERT INTO object (digest, bytes) VALUES (?1, zeroblob(?2))",
                    (&digest.0, size as i64),
                )
                .expect("a row");
            }
            let (took, said) = ((pages(&conn) - before) * 4096, on_disk(size) * rows);
            let off = took.abs_diff(said) * 100 / took;
            assert!(off < 10, "{size}: took {took}, said {said}");
        }
    }
}
