//! Which names a directory is known not to hold.

use std::collections::HashSet;

/// The most names remembered of one directory as absent, or as all there are.
pub(crate) const NAMES_MAX: usize = 8192;

/// Names that a directory does not hold. The kernel forgets that a name is not
/// there whenever it is about to make it, which is nearly always when it asks.
#[derive(Debug)]
pub(crate) enum Absent {
    These(HashSet<Box<[u8]>>),
    /// A directory that this mount made: all but what it put there.
    AllBut(HashSet<Box<[u8]>>),
}

impl Default for Absent {
    fn default() -> Absent {
        Absent::These(HashSet::new())
    }
}

impl Absent {
    /// Of a directory that is empty.
    pub(crate) fn all() -> Absent {
        Absent::AllBut(HashSet::new())
    }

    pub(crate) fn holds(&self, name: &[u8]) -> bool {
        match self {
            Absent::These(names) => names.contains(name),
            Absent::AllBut(names) => !names.contains(name),
        }
    }

    pub(crate) fn lost(&mut self, name: &[u8]) {
        match self {
            Absent::AllBut(names) => {
                names.remove(name);
            }
            Absent::These(names) => {
                if names.len() >= NAMES_MAX {
                    names.clear();
                }
                names.insert(name.into());
            }
        }
    }

    pub(crate) fn gained(&mut self, name: &[u8]) {
        match self {
            Absent::These(names) => {
                names.remove(name);
            }
            Absent::AllBut(names) => {
                if names.len() >= NAMES_MAX {
                    *self = Absent::default();
                } else {
                    names.insert(name.into());
                }
            }
        }
    }
}
