//! Blobs, objects and snapshots as rows.

use super::pack::{Packed, unpacked};
use super::{Index, Sync, digest_column};
use crate::error::StoreError;
use crate::types::Digest;
use rusqlite::{Connection, OptionalExtension, Transaction};

/// A large blob: bytes, and bytes without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Large {
    pub size: u64,
    pub used: u64,
}

impl Index {
    pub fn small(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read a blob", |c| {
            c.prepare_cached("SELECT bytes, plain FROM small_blob WHERE digest = ?1")?
                .query_row([&digest.0], |row| Ok(unpacked(row, 0)?.into_owned()))
                .optional()
        })
    }

    pub fn object(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read an object", |c| {
            bytes(c, "SELECT bytes FROM object WHERE digest = ?1", digest)
        })
    }

    pub fn large(&self, digest: &Digest) -> Result<Option<Large>, StoreError> {
        self.read("look for a large blob", |c| {
            c.prepare_cached("SELECT size, used FROM large_blob WHERE digest = ?1")?
                .query_row([&digest.0], |r| {
                    Ok(Large {
                        size: r.get::<_, i64>(0)? as u64,
                        used: r.get::<_, i64>(1)? as u64,
                    })
                })
                .optional()
        })
    }

    pub fn has_small(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.read("look for a blob", |c| {
            c.prepare_cached("SELECT 1 FROM small_blob WHERE digest = ?1")?
                .exists([&digest.0])
        })
    }

    /// Bytes that a blob or an object takes; 0 where it is not there.
    pub fn stored_size(&self, digest: &Digest) -> Result<u64, StoreError> {
        const SIZE: &str = "SELECT coalesce(
            (SELECT length(bytes) FROM small_blob WHERE digest = ?1),
            (SELECT used FROM large_blob WHERE digest = ?1),
            (SELECT length(bytes) FROM object WHERE digest = ?1), 0)";
        self.read("ask for a size", |c| {
            let size = c
                .prepare_cached(SIZE)?
                .query_row([&digest.0], |r| r.get::<_, i64>(0));
            Ok(size? as u64)
        })
    }

    pub fn ordinal(&self, snapshot: &Digest) -> Result<Option<u32>, StoreError> {
        self.read("look for a snapshot", |c| {
            c.prepare_cached("SELECT ordinal FROM snapshot WHERE digest = ?1")?
                .query_row([&snapshot.0], |r| r.get(0))
                .optional()
        })
    }

    pub fn snapshot_of(&self, ordinal: u32) -> Result<Option<Digest>, StoreError> {
        self.read("look for a snapshot", |c| {
            c.prepare_cached("SELECT digest FROM snapshot WHERE ordinal = ?1")?
                .query_row([ordinal], |r| digest_column(r, 0))
                .optional()
        })
    }

    /// Digest and ordinal of every snapshot, by ordinal.
    pub fn snapshots(&self) -> Result<Vec<(Digest, u32)>, StoreError> {
        self.read("list snapshots", |c| {
            c.prepare_cached("SELECT digest, ordinal FROM snapshot ORDER BY ordinal")?
                .query_map([], |r| Ok((digest_column(r, 0)?, r.get(1)?)))?
                .collect()
        })
    }

    /// Adds small blobs and objects; those that are there already stay as they are.
    pub fn put_bytes(
        &self,
        sync: Sync,
        blobs: &[(Digest, Packed)],
        objects: &[(Digest, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let small: usize = blobs.iter().map(|(_, b)| b.bytes.len() + 64).sum();
        let objects_size: usize = objects.iter().map(|(_, b)| b.len() + 64).sum();
        let total = (small + objects_size) as u64;
        self.write("write blobs and objects", sync, total, |tx| {
            put_small(tx, blobs)?;
            put_objects(tx, objects)
        })
    }
}

fn bytes(c: &Connection, sql: &str, digest: &Digest) -> rusqlite::Result<Option<Vec<u8>>> {
    c.prepare_cached(sql)?
        .query_row([&digest.0], |r| r.get(0))
        .optional()
}

pub(crate) fn put_small(tx: &Transaction<'_>, rows: &[(Digest, Packed)]) -> rusqlite::Result<()> {
    let mut put = tx.prepare_cached(
        "INSERT OR IGNORE INTO small_blob (digest, bytes, plain) VALUES (?1, ?2, ?3)",
    )?;
    for (digest, blob) in rows {
        put.execute((&digest.0, &blob.bytes, blob.plain))?;
    }
    Ok(())
}

pub(crate) fn put_objects(
    tx: &Transaction<'_>,
    rows: &[(Digest, Vec<u8>)],
) -> rusqlite::Result<()> {
    let mut put =
        tx.prepare_cached("INSERT OR IGNORE INTO object (digest, bytes) VALUES (?1, ?2)")?;
    for (digest, bytes) in rows {
        put.execute((&digest.0, bytes))?;
    }
    Ok(())
}

pub(crate) fn put_large(
    tx: &Transaction<'_>,
    digest: &Digest,
    large: &Large,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO large_blob (digest, size, used) VALUES (?1, ?2, ?3)")?
        .execute((&digest.0, large.size as i64, large.used as i64))?;
    Ok(())
}

/// The snapshot's ordinal, given now if it has none.
pub(crate) fn put_snapshot(
    tx: &Transaction<'_>,
    digest: &Digest,
    nodes: u64,
    bytes: u64,
) -> rusqlite::Result<u32> {
    let known: Option<u32> = tx
        .prepare_cached("SELECT ordinal FROM snapshot WHERE digest = ?1")?
        .query_row([&digest.0], |r| r.get(0))
        .optional()?;
    if let Some(ordinal) = known {
        return Ok(ordinal);
    }
    tx.prepare_cached("INSERT INTO snapshot (digest, nodes, bytes) VALUES (?1, ?2, ?3)")?
        .execute((&digest.0, nodes as i64, bytes as i64))?;
    tx.prepare_cached("SELECT ordinal FROM snapshot WHERE digest = ?1")?
        .query_row([&digest.0], |r| r.get(0))
}
