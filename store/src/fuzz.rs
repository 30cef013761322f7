//! What fuzzing runs (`fuzz/`): each function takes bytes as a damaged or forged store might
//! have them. Only with the feature `fuzz`.

pub use crate::object::fuzz::{object_seeds, objects, objects_bound};
pub use crate::work::fuzz::{journal, journal_bound, rows, rows_bound};
