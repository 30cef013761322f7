//! The builder against fakes: no root, no server, no network.

mod fake;
mod keys;
mod steps;
