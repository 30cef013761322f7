//! A process in a root of its own.

mod spec;

pub use spec::{Exit, NfsMount, Place, Profile, Spec, Stdio, What};
