//! The builder against fakes: no root, no server, no network.

pub(crate) mod fake;
mod inputs;
mod keys;
mod steps;
