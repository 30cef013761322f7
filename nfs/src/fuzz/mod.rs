//! What fuzzing runs (`fuzz/`): each function takes bytes as they might come from a peer and
//! panics where something does not hold that must hold for all bytes.
//!
//! Only with the feature `fuzz`, as what is here sees the inside of the crate.

mod call;
mod echo;
mod records;
mod replies;
mod shape;

pub use call::{Ended, Engine, call, call_bound};
pub use records::{records, records_bound};
pub use replies::{replies, replies_bound};
