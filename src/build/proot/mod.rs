//! PROOT: a root modelled on the host's own release.

mod child;
mod make;
mod release;
mod sources;
#[cfg(test)]
mod tests;

pub use child::ChildStream;
pub use make::{Bootstrap, ThisHost};
pub use release::{Release, read as read_release};
pub use sources::Source;
