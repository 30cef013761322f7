//! From an older format to this program's: what a store is in, what would be done, and doing it.
//!
//! A store of an older format is refused by [`crate::Store::open`], and named. It is upgraded while
//! no server has it: first the index is copied, then all migrations run in one transaction, which
//! also moves the format. So a crash leaves the old store or the new one, and the copy.

#[cfg(test)]
mod tests;

use crate::backup::{copy_database, make_dir, new_database};
use crate::error::StoreError;
use crate::index::{self, AUTO_VACUUM_INCREMENTAL, FEATURES, FORMAT};
use crate::work::{Durability, VOLUMES_FORMAT};
use rusqlite::{Connection, Transaction};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The way from one format of `index.db` to the next.
struct Migration {
    from: i64,
    what: &'static str,
    run: fn(&Transaction<'_>) -> rusqlite::Result<()>,
}

/// One of each released format but the last, in order. Format 1 is the first.
const MIGRATIONS: &[Migration] = &[];

/// A feature that a store uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    /// A program that does not know it must not open the store.
    pub incompatible: bool,
    pub known: bool,
}

/// What a store is in, and what an upgrade does to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upgrade {
    pub found: i64,
    pub known: i64,
    pub features: Vec<Feature>,
    /// Of `volumes.db`, found and known, where there is one.
    pub volumes: Option<(i64, i64)>,
    /// What is to be done, in order; nothing where the store is up to date.
    pub steps: Vec<String>,
    /// Where the index is as it was before.
    pub copy: Option<PathBuf>,
}

/// What an upgrade of the store in `dir` would do. It may be in use.
pub fn plan(dir: &Path) -> Result<Upgrade, StoreError> {
    plan_to(dir, FORMAT, MIGRATIONS)
}

/// Upgrades the store in `dir`, which nobody uses.
pub fn upgrade(dir: &Path) -> Result<Upgrade, StoreError> {
    upgrade_to(dir, FORMAT, MIGRATIONS)
}

fn plan_to(dir: &Path, known: i64, migrations: &[Migration]) -> Result<Upgrade, StoreError> {
    let path = dir.join("index.db");
    let conn = index::found(&path)?;
    let fail = |e| StoreError::db("read the format of", &path, e);
    let number = |name| conn.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
    let mut plan = Upgrade {
        found: number("user_version").map_err(fail)?,
        known,
        features: features(&conn).map_err(fail)?,
        ..Upgrade::default()
    };
    let volumes = dir.join(Durability::Disk.database());
    if volumes.exists() {
        let conn = index::found(&volumes)?;
        let found = conn.pragma_query_value(None, "user_version", |r| r.get(0));
        let found = found.map_err(|e| StoreError::db("read the format of", &volumes, e))?;
        plan.volumes = Some((found, VOLUMES_FORMAT));
    }
    for migration in way(dir, plan.found, known, migrations).unwrap_or_default() {
        let (from, to) = (migration.from, migration.from + 1);
        plan.steps
            .push(format!("format {from} to {to}: {}", migration.what));
    }
    if number("auto_vacuum").map_err(fail)? != AUTO_VACUUM_INCREMENTAL {
        let what = "write index.db anew, so that `pocker gc` gives its space back";
        plan.steps.push(what.to_string());
    }
    Ok(plan)
}

fn features(conn: &Connection) -> rusqlite::Result<Vec<Feature>> {
    conn.prepare("SELECT name, incompatible FROM feature ORDER BY name")?
        .query_map([], |r| {
            let name: String = r.get(0)?;
            Ok(Feature {
                known: FEATURES.contains(&name.as_str()),
                incompatible: r.get::<_, i64>(1)? != 0,
                name,
            })
        })?
        .collect()
}

/// The migrations from `found` to `known`.
fn way<'a>(
    dir: &Path,
    found: i64,
    known: i64,
    migrations: &'a [Migration],
) -> Result<Vec<&'a Migration>, StoreError> {
    let path = dir.to_path_buf();
    if found > known {
        return Err(StoreError::Newer { path, found, known });
    }
    let mut steps = Vec::new();
    for from in found..known {
        let step = migrations.iter().find(|m| m.from == from);
        steps.push(step.ok_or_else(|| StoreError::NoWay {
            path: path.clone(),
            found,
            known,
        })?);
    }
    Ok(steps)
}

fn upgrade_to(dir: &Path, known: i64, migrations: &[Migration]) -> Result<Upgrade, StoreError> {
    let _lock = crate::lock::lock(dir, false)?;
    let mut plan = plan_to(dir, known, migrations)?;
    let steps = way(dir, plan.found, known, migrations)?;
    let unknown = plan.features.iter().find(|f| f.incompatible && !f.known);
    if let Some(feature) = unknown {
        return Err(StoreError::Feature {
            path: dir.to_path_buf(),
            feature: feature.name.clone(),
        });
    }
    let newer = plan.volumes.filter(|(found, known)| found > known);
    if let Some((found, known)) = newer {
        let path = dir.join(Durability::Disk.database());
        return Err(StoreError::Newer { path, found, known });
    }
    if plan.steps.is_empty() {
        return Ok(plan);
    }
    let path = dir.join("index.db");
    let fail = |what| move |e| StoreError::db(what, &dir.join("index.db"), e);
    let mut conn = Connection::open(&path).map_err(fail("open"))?;
    conn.pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| conn.pragma_update(None, "synchronous", "FULL"))
        .map_err(fail("open"))?;
    plan.copy = Some(copy(&conn, dir, plan.found)?);
    if !steps.is_empty() {
        migrate(&mut conn, &steps, known).map_err(fail("upgrade"))?;
    }
    compact(conn, &path)?;
    Ok(plan)
}

/// The index as it is, beside it, durably. Of an upgrade that is tried again the first copy holds.
fn copy(conn: &Connection, dir: &Path, format: i64) -> Result<PathBuf, StoreError> {
    let folder = dir.join(format!("before-upgrade-{format}"));
    let (whole, partial) = (folder.join("index.db"), folder.join("index.db.partial"));
    let io = |what, path: &PathBuf| {
        let path = path.clone();
        move |e| StoreError::io(what, &path, e)
    };
    make_dir(&folder)?;
    if whole.exists() {
        return Ok(whole);
    }
    whole_copy(conn, &partial)?;
    std::fs::rename(&partial, &whole).map_err(io("rename", &partial))?;
    sync(&folder)
        .and_then(|()| sync(dir))
        .map_err(io("sync", &folder))?;
    Ok(whole)
}

fn migrate(conn: &mut Connection, steps: &[&Migration], known: i64) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for step in steps {
        (step.run)(&tx)?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()
}

/// Free pages can be given back from here on. A new file takes the index's place: written in place
/// it could not be looked at after a crash before somebody had mended it.
fn compact(conn: Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |e| StoreError::db("write anew", path, e);
    let now = conn.pragma_query_value(None, "auto_vacuum", |r| r.get::<_, i64>(0));
    if now.map_err(fail)? == AUTO_VACUUM_INCREMENTAL {
        return Ok(());
    }
    // It carries the log over, which is not the new file's.
    conn.pragma_update(None, "journal_mode", "DELETE")
        .and_then(|()| conn.pragma_update(None, "auto_vacuum", AUTO_VACUUM_INCREMENTAL))
        .map_err(fail)?;
    let partial = path.with_extension("db.partial");
    whole_copy(&conn, &partial)?;
    conn.close().map_err(|(_, e)| fail(e))?;
    std::fs::rename(&partial, path).map_err(|e| StoreError::io("rename", &partial, e))?;
    let dir = path.parent().unwrap_or(path);
    sync(dir).map_err(|e| StoreError::io("sync", dir, e))
}

/// A copy at `to`, on disk, and none where that fails.
fn whole_copy(conn: &Connection, to: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", to, e));
        }
        _ => {}
    }
    let done = new_database(to)
        .and_then(|()| copy_database(conn, to).map_err(|e| StoreError::db("copy to", to, e)))
        .and_then(|()| sync(to).map_err(|e| StoreError::io("sync", to, e)));
    if done.is_err() {
        // On a full disk it is in the way; if this fails, the next one goes about it.
        let _ = std::fs::remove_file(to);
    }
    done
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path).and_then(|file| file.sync_all())
}
