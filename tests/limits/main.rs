//! What is very large, very many or full, asked of a real server over the wire and in a mount.

mod full;
mod groups;
mod large;
mod many;
mod numbers;
mod space;
#[path = "../support/mod.rs"]
mod support;
mod wire;
