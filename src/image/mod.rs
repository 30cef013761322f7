//! Archives and images that are exchanged with other tools: compression undone, image layouts read
//! and written, and what they say of how to start.
//!
//! Values and streams: nothing here prints, asks the server or reaches a network.

pub mod check;
pub mod command;
pub(crate) mod error;
pub mod plain;
pub mod source;
#[cfg(test)]
mod tests;
pub mod types;
pub mod write;

pub use error::ImageError;
