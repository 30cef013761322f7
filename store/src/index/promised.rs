//! Blobs that are not here, or may go, as an upstream has them: records of the store's own kind.

use super::rows::{put_large, put_small};
use super::{Index, Large, Packed, Sync};
use crate::blob::SMALL;
use crate::error::StoreError;
use crate::types::Digest;
use rusqlite::{Connection, OptionalExtension, Transaction};

const PROMISED: &str = "promised";
/// A program that does not know it would take what is not here for lost.
pub(crate) const FEATURE: &str = "upstream";

/// What is promised of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub size: u64,
    /// It was fetched, and may go again.
    pub here: bool,
}

impl Promise {
    fn bytes(self) -> [u8; 9] {
        let mut out = [self.here.into(); 9];
        out[..8].copy_from_slice(&self.size.to_le_bytes());
        out
    }

    fn of(bytes: &[u8]) -> Option<Promise> {
        let (size, here) = bytes.split_first_chunk()?;
        Some(Promise {
            size: u64::from_le_bytes(*size),
            here: here == [1],
        })
    }
}

/// A blob that was fetched.
pub(crate) enum Fetched {
    Small(Packed),
    Large(Large),
}

fn put(tx: &Connection, digest: &Digest, promise: Promise) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)")?
        .execute((PROMISED, &digest.0[..], &promise.bytes()[..]))
        .map(drop)
}

impl Index {
    /// The upstream has these, with their sizes; what is promised already stays as it is.
    pub fn promise(&self, blobs: &[(Digest, u64)]) -> Result<(), StoreError> {
        let bytes = 64 * blobs.len() as u64;
        self.write("note what upstream has", Sync::Ordered, bytes, |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO feature (name, incompatible) VALUES (?1, 1)",
                [FEATURE],
            )?;
            let mut put = tx.prepare_cached(
                "INSERT OR IGNORE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)",
            )?;
            blobs.iter().try_for_each(|(digest, size)| {
                let promise = Promise {
                    size: *size,
                    here: false,
                };
                put.execute((PROMISED, &digest.0[..], &promise.bytes()[..]))
                    .map(drop)
            })
        })
    }

    pub fn promised(&self, digest: &Digest) -> Result<Option<Promise>, StoreError> {
        let bytes = self.record(PROMISED, &digest.0)?;
        Ok(bytes.and_then(|bytes| Promise::of(&bytes)))
    }

    pub fn all_promised(&self) -> Result<Vec<(Digest, Promise)>, StoreError> {
        let one = |(id, bytes): (Vec<u8>, Vec<u8>)| {
            Some((Digest(id.try_into().ok()?), Promise::of(&bytes)?))
        };
        Ok(self
            .records(PROMISED)?
            .into_iter()
            .filter_map(one)
            .collect())
    }

    /// True where something was ever promised.
    pub fn has_promises(&self) -> Result<bool, StoreError> {
        self.read("look for promises", |c| {
            c.prepare_cached("SELECT 1 FROM feature WHERE name = ?1")?
                .query_row([FEATURE], |_| Ok(()))
                .optional()
                .map(|found| found.is_some())
        })
    }

    /// It is here from now on. Not synced: what a crash forgets is fetched again.
    pub fn put_fetched(
        &self,
        digest: &Digest,
        size: u64,
        fetched: Fetched,
    ) -> Result<(), StoreError> {
        self.write(
            "keep what was fetched",
            Sync::Ordered,
            size.min(1 << 16),
            |tx| {
                match fetched {
                    Fetched::Small(packed) => put_small(tx, &[(*digest, packed)])?,
                    Fetched::Large(large) => put_large(tx, digest, &large)?,
                }
                put(tx, digest, Promise { size, here: true })
            },
        )
    }

    /// These are not here any more; their files go next.
    pub fn drop_fetched(&self, blobs: &[(Digest, u64)]) -> Result<(), StoreError> {
        // The files of large ones go after their rows, also where the power fails.
        let large = blobs.iter().any(|(_, size)| *size > SMALL);
        let sync = if large { Sync::Full } else { Sync::Ordered };
        self.write("let go of what upstream has", sync, 0, |tx| {
            let_go(tx, blobs.iter())
        })
    }

    /// It is the store's own from now on, or nothing refers to it: nobody fetches it.
    pub fn forget_promises(&self, blobs: &[Digest]) -> Result<(), StoreError> {
        if blobs.is_empty() {
            return Ok(());
        }
        self.write("forget promises", Sync::Ordered, 0, |tx| {
            forget_promises(tx, blobs.iter())
        })
    }
}

pub(crate) fn forget_promises<'a>(
    tx: &Transaction<'_>,
    mut blobs: impl Iterator<Item = &'a Digest>,
) -> rusqlite::Result<()> {
    let mut forget = tx.prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?;
    blobs.try_for_each(|digest| forget.execute((PROMISED, &digest.0[..])).map(drop))
}

/// Rows of blobs that are only promised now.
pub(crate) fn let_go<'a>(
    conn: &Connection,
    mut blobs: impl Iterator<Item = &'a (Digest, u64)>,
) -> rusqlite::Result<()> {
    blobs.try_for_each(|(digest, size)| {
        for table in ["small_blob", "large_blob"] {
            conn.prepare_cached(&format!("DELETE FROM {table} WHERE digest = ?1"))?
                .execute([&digest.0])?;
        }
        let (size, here) = (*size, false);
        put(conn, digest, Promise { size, here })
    })
}

/// The size of a promised blob.
pub(crate) fn promised_size(conn: &Connection, digest: &Digest) -> rusqlite::Result<Option<u64>> {
    let bytes = conn
        .prepare_cached("SELECT bytes FROM record WHERE kind = ?1 AND id = ?2")?
        .query_row((PROMISED, &digest.0[..]), |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    Ok(bytes.and_then(|bytes| Promise::of(&bytes)).map(|p| p.size))
}
