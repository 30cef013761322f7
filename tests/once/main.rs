//! A call that must not run twice has run once, and its client has its first answer: whatever
//! becomes of the connection, and of the server, in between.

mod fuse;
mod list;
mod ops;
mod points;
mod proxy;
mod random;
mod replies;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod syncs;
mod tree;
mod verifier;
