//! The builder against fakes: no root, no server, no network.

mod fake;
mod inputs;
mod keys;
mod steps;
