//! The browse view, `/chroot`: `NAME/step1-<key>/… NAME/run-<key>/… NAME/run → run-<key>`.
//!
//! Each directory shown for a step is a row with a number of its own that is never used
//! again, so the same snapshot under two names has two fileids and no directory is
//! seen at two places. Rows outlive the server: handles name them.

use pocker_store::types::{Digest, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The view's root among the synthetic nodes.
pub const ROOT_ID: u64 = 1;
/// Numbers below are the view's own.
const FIRST_ID: u64 = 16;
/// A row's number is the upper part of a fileid, the node the lower 40 bits.
pub const ROW_SHIFT: u32 = 40;
const ROW_MAX: u64 = 1 << 22;

/// One step under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: u64,
    /// `step1-<key>` or `run-<key>`.
    pub dir: String,
    /// The snapshot, in hexadecimal.
    pub snapshot: String,
}

/// One pocker's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    pub id: u64,
    pub link_id: u64,
    /// When its contents changed: seconds and nanoseconds.
    pub changed: (i64, u32),
    pub rows: Vec<Row>,
}

impl NameRow {
    pub fn time(&self) -> Time {
        Time {
            secs: self.changed.0,
            nanos: self.changed.1,
        }
    }

    /// What `run` points at: the last step.
    pub fn run(&self) -> &str {
        self.rows.last().map_or("", |row| row.dir.as_str())
    }
}

/// Everything the view shows; saved after each change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Table {
    next_id: u64,
    changed: (i64, u32),
    pub names: BTreeMap<String, NameRow>,
    #[serde(skip)]
    index: HashMap<u64, Place>,
}

/// What a number in the view stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Name(String),
    Link(String),
    Step { name: String, snapshot: Digest },
}

impl Table {
    /// A table as it was saved.
    pub fn load(bytes: &[u8]) -> serde_json::Result<Table> {
        let mut table: Table = serde_json::from_slice(bytes)?;
        table.reindex();
        Ok(table)
    }

    pub fn save(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    pub fn place(&self, id: u64) -> Option<&Place> {
        self.index.get(&id)
    }

    pub fn root_time(&self) -> Time {
        Time {
            secs: self.changed.0,
            nanos: self.changed.1,
        }
    }

    /// Shows `name` with these steps, in order. A step shown before keeps its number.
    /// Fails when the view has no numbers left.
    pub fn set(&mut self, name: &str, steps: &[(String, Digest)], now: Time) -> Result<(), Full> {
        let old = self.names.get(name).cloned();
        let fresh = steps.len() as u64 + 2;
        if self.next_id.max(FIRST_ID) + fresh >= ROW_MAX {
            return Err(Full);
        }
        let mut rows = Vec::with_capacity(steps.len());
        for (dir, snapshot) in steps {
            let snapshot = snapshot.to_string();
            let known = old
                .iter()
                .flat_map(|o| &o.rows)
                .find(|row| row.dir == *dir && row.snapshot == snapshot);
            let id = match known {
                Some(row) => row.id,
                None => self.take_id(),
            };
            rows.push(Row {
                id,
                dir: dir.clone(),
                snapshot,
            });
        }
        let was = old.as_ref().map_or((0, 0), |o| o.changed);
        if old.as_ref().is_none_or(|o| o.rows != rows) {
            let id = match &old {
                Some(old) => old.id,
                None => {
                    self.changed = after(self.changed, now);
                    self.take_id()
                }
            };
            let row = NameRow {
                id,
                // Clients keep a link's target: another target is another link.
                link_id: self.take_id(),
                changed: after(was, now),
                rows,
            };
            self.names.insert(name.to_string(), row);
            self.reindex();
        }
        Ok(())
    }

    pub fn remove(&mut self, name: &str, now: Time) {
        if self.names.remove(name).is_some() {
            self.changed = after(self.changed, now);
            self.reindex();
        }
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id.max(FIRST_ID);
        self.next_id = id + 1;
        id
    }

    fn reindex(&mut self) {
        self.index.clear();
        for (name, row) in &self.names {
            self.index.insert(row.id, Place::Name(name.clone()));
            self.index.insert(row.link_id, Place::Link(name.clone()));
            for step in &row.rows {
                let Ok(snapshot) = step.snapshot.parse() else {
                    continue;
                };
                self.index.insert(
                    step.id,
                    Place::Step {
                        name: name.clone(),
                        snapshot,
                    },
                );
            }
        }
    }
}

/// The view has used up its numbers: 4 million rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Clients take these times for change counters: they only go up.
fn after(was: (i64, u32), now: Time) -> (i64, u32) {
    let now = (now.secs, now.nanos);
    if now > was {
        now
    } else if was.1 < 999_999_999 {
        (was.0, was.1 + 1)
    } else {
        (was.0 + 1, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    fn steps(names: &[(&str, u8)]) -> Vec<(String, Digest)> {
        names
            .iter()
            .map(|(dir, byte)| (dir.to_string(), Digest([*byte; 32])))
            .collect()
    }

    #[test]
    fn a_step_keeps_its_number_and_a_new_one_gets_a_new_one() {
        let mut table = Table::default();
        table
            .set("web", &steps(&[("step1-a", 1), ("run-b", 1)]), at(5))
            .expect("room");
        let first = table.names["web"].clone();
        table
            .set("web", &steps(&[("step1-a", 1), ("run-c", 2)]), at(5))
            .expect("room");
        let second = &table.names["web"];
        assert_eq!(first.rows[0].id, second.rows[0].id);
        assert_ne!(first.rows[1].id, second.rows[1].id);
        assert!(
            second.time() > first.time(),
            "the directory's time moves with its contents"
        );
        assert_eq!(table.place(first.rows[1].id), None);
        assert_eq!(second.run(), "run-c");
        assert_ne!(first.link_id, second.link_id);
    }

    #[test]
    fn one_snapshot_under_two_names_has_two_numbers() {
        let mut table = Table::default();
        table
            .set("a", &steps(&[("step1-x", 1)]), at(1))
            .expect("room");
        table
            .set("b", &steps(&[("step1-x", 1)]), at(1))
            .expect("room");
        assert_ne!(table.names["a"].rows[0].id, table.names["b"].rows[0].id);
    }

    #[test]
    fn a_saved_table_is_the_same_and_never_uses_a_number_again() {
        let mut table = Table::default();
        table
            .set("a", &steps(&[("step1-x", 1)]), at(1))
            .expect("room");
        let gone = table.names["a"].rows[0].id;
        table.remove("a", at(2));
        let mut table = Table::load(&table.save().expect("json")).expect("own json");
        table
            .set("a", &steps(&[("step1-x", 1)]), at(3))
            .expect("room");
        assert!(table.names["a"].rows[0].id > gone);
        assert!(table.place(gone).is_none());
    }
}
