//! Pockers from store to store: the shapes, and the places that they come from and go to.
//!
//! What is sent, and in which order, is [`pocker_store::sync`]'s. A [`served`] store is reached over its
//! control API, a [`remote`] one is an object store, whose layout ADR 7 gives.

pub mod frames;
pub mod named;
pub mod remote;
pub mod served;
mod squeeze;

pub use named::NamedInfo;
pub use remote::Remote;
pub use served::{Served, Way};
