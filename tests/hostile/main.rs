//! Hostile and broken peers against the built server, over TCP and its unix socket: each call
//! gets the error that RFC 1813 or RFC 5531 has for it, each connection lives where it may, and
//! others do not notice.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod crowd;
mod handles;
mod headers;
mod server;
mod streams;
mod truncated;
mod wire;
