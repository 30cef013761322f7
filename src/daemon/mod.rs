//! The server process.

pub mod export;
