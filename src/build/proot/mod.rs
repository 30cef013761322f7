//! PROOT: a root modelled on the host's own system.

mod child;
mod make;
pub mod ports;
mod release;
mod sources;
#[cfg(test)]
mod tests;

pub use child::ChildStream;
pub use make::{Bootstrap, ThisHost};
pub use ports::{Choice, Model, Ports};
pub use release::{Release, read as read_release};
pub use sources::Source;
