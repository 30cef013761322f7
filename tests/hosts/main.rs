//! Several hosts on one store: each is a network of its own, joined by a bridge, with its own
//! sockets, settings and token. docs/sharing.md takes the same steps.

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod lab;
mod private;
mod refused;
mod replay;
mod sync;
mod together;
mod writer;
