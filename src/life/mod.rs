//! Runs as their owner sees them: names, states, logs, what starts them again. Everything
//! is in files of `SOCKETDIR/runs/ID`, so no process has to be there for it to be known.

mod dir;
mod error;
mod file;
pub mod log;
pub mod policy;
mod record;
pub mod time;

pub use dir::{Asked, Exit, Found, Run, Runs};
pub use error::LifeError;
pub use policy::{Policy, Restarts};
pub use record::{End, Health, Phase, Record, State, Verdict, Words};
