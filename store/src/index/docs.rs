//! Steps, pockers and the daemon's records.

use super::{Index, Sync, digest_column};
use crate::error::StoreError;
use crate::types::Digest;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

/// What a step key led to. `instruction` and `inputs` are the builder's own bytes: what was
/// asked, and what `--explain` compares; `upstream` names the release file it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub key: Digest,
    pub snapshot: Digest,
    pub parent: Option<Digest>,
    pub instruction: Vec<u8>,
    pub inputs: Vec<u8>,
    pub upstream: Option<Vec<u8>>,
    /// Seconds since the epoch, by the caller's clock.
    pub created: i64,
}

/// A name and the steps that it consists of, first to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pocker {
    pub name: Vec<u8>,
    pub steps: Vec<Digest>,
    /// The builder's own bytes.
    pub config: Vec<u8>,
    /// Seconds since the epoch, by the caller's clock.
    pub created: i64,
}

/// A record without its kind.
pub type IdAndBytes = (Vec<u8>, Vec<u8>);

const STEP: &str = "SELECT key, snapshot, parent, instruction, inputs, upstream, created FROM step";

fn step_row(r: &Row<'_>) -> rusqlite::Result<Step> {
    Ok(Step {
        key: digest_column(r, 0)?,
        snapshot: digest_column(r, 1)?,
        parent: r.get::<_, Option<[u8; 32]>>(2)?.map(Digest),
        instruction: r.get(3)?,
        inputs: r.get(4)?,
        upstream: r.get(5)?,
        created: r.get(6)?,
    })
}

/// Adds the step unless its key is there: the first sealed snapshot of a key wins.
/// The step that holds now.
pub(crate) fn put_step(tx: &Transaction<'_>, step: &Step) -> rusqlite::Result<Step> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO step (key, snapshot, parent, instruction, inputs, upstream, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        &step.key.0,
        &step.snapshot.0,
        step.parent.map(|p| p.0),
        &step.instruction,
        &step.inputs,
        &step.upstream,
        step.created,
    ))?;
    tx.prepare_cached(&format!("{STEP} WHERE key = ?1"))?
        .query_row([&step.key.0], step_row)
}

pub(crate) fn drop_step(tx: &Transaction<'_>, key: &Digest) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM record WHERE kind = 'lost' AND id = ?1")?
        .execute([&key.0])?;
    tx.prepare_cached("DELETE FROM step WHERE key = ?1")?
        .execute([&key.0])
        .map(drop)
}

fn steps_of(c: &Connection, name: &[u8]) -> rusqlite::Result<Vec<Digest>> {
    c.prepare_cached("SELECT key FROM pocker_step WHERE name = ?1 ORDER BY position")?
        .query_map([name], |r| digest_column(r, 0))?
        .collect()
}

fn pocker_row(c: &Connection, r: &Row<'_>) -> rusqlite::Result<Pocker> {
    let name: Vec<u8> = r.get(0)?;
    let steps = steps_of(c, &name)?;
    Ok(Pocker {
        steps,
        config: r.get(1)?,
        created: r.get(2)?,
        name,
    })
}

impl Index {
    pub fn step(&self, key: &Digest) -> Result<Option<Step>, StoreError> {
        self.read("look for a step", |c| {
            c.prepare_cached(&format!("{STEP} WHERE key = ?1"))?
                .query_row([&key.0], step_row)
                .optional()
        })
    }

    /// All steps, oldest first.
    pub fn steps(&self) -> Result<Vec<Step>, StoreError> {
        self.read("list steps", |c| {
            c.prepare_cached(&format!("{STEP} ORDER BY created, key"))?
                .query_map([], step_row)?
                .collect()
        })
    }

    pub fn pocker(&self, name: &[u8]) -> Result<Option<Pocker>, StoreError> {
        self.read("look for a pocker", |c| {
            // One transaction, so that name and steps are of one time.
            let tx = c.unchecked_transaction()?;
            tx.prepare_cached("SELECT name, config, created FROM pocker WHERE name = ?1")?
                .query_row([name], |r| pocker_row(&tx, r))
                .optional()
        })
    }

    /// All pockers by name.
    pub fn pockers(&self) -> Result<Vec<Pocker>, StoreError> {
        self.read("list pockers", |c| {
            let tx = c.unchecked_transaction()?;
            let mut all =
                tx.prepare_cached("SELECT name, config, created FROM pocker ORDER BY name")?;
            all.query_map([], |r| pocker_row(&tx, r))?.collect()
        })
    }

    /// Makes or replaces the pocker of that name.
    pub fn put_pocker(&self, pocker: &Pocker) -> Result<(), StoreError> {
        self.write(
            "write a pocker",
            Sync::Full,
            pocker.config.len() as u64,
            |tx| {
                tx.execute(
                    "INSERT OR REPLACE INTO pocker (name, config, created) VALUES (?1, ?2, ?3)",
                    (&pocker.name, &pocker.config, pocker.created),
                )?;
                tx.execute("DELETE FROM pocker_step WHERE name = ?1", [&pocker.name])?;
                let mut put = tx.prepare_cached(
                    "INSERT INTO pocker_step (name, position, key) VALUES (?1, ?2, ?3)",
                )?;
                for (position, key) in pocker.steps.iter().enumerate() {
                    put.execute((&pocker.name, position as i64, &key.0))?;
                }
                Ok(())
            },
        )
    }

    /// False where there was none.
    pub fn remove_pocker(&self, name: &[u8]) -> Result<bool, StoreError> {
        self.write("remove a pocker", Sync::Full, 0, |tx| {
            tx.execute("DELETE FROM pocker_step WHERE name = ?1", [name])?;
            Ok(tx.execute("DELETE FROM pocker WHERE name = ?1", [name])? > 0)
        })
    }

    pub fn record(&self, kind: &str, id: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read a record", |c| {
            c.prepare_cached("SELECT bytes FROM record WHERE kind = ?1 AND id = ?2")?
                .query_row((kind, id), |r| r.get(0))
                .optional()
        })
    }

    pub fn put_record(&self, kind: &str, id: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        self.write("write a record", Sync::Full, bytes.len() as u64, |tx| {
            tx.prepare_cached(
                "INSERT OR REPLACE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)",
            )?
            .execute((kind, id, bytes))?;
            Ok(())
        })
    }

    /// False where there was none.
    pub fn delete_record(&self, kind: &str, id: &[u8]) -> Result<bool, StoreError> {
        self.write("delete a record", Sync::Full, 0, |tx| {
            let gone = tx
                .prepare_cached("DELETE FROM record WHERE kind = ?1 AND id = ?2")?
                .execute((kind, id))?;
            Ok(gone > 0)
        })
    }

    /// Id and bytes of every record of a kind, by id.
    pub fn records(&self, kind: &str) -> Result<Vec<IdAndBytes>, StoreError> {
        self.read("list records", |c| {
            c.prepare_cached("SELECT id, bytes FROM record WHERE kind = ?1 ORDER BY id")?
                .query_map([kind], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        })
    }
}
