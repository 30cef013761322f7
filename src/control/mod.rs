//! Clients and daemon speak HTTP and JSON over a unix socket.

pub mod api;
mod care;
mod client;
mod collect;
pub mod connect;
pub mod hold;
pub mod hosts;
pub mod images;
mod keeper;
pub mod layers;
pub mod looking;
pub mod remote;
mod services;
mod stats;
mod streams;
pub mod sys;
pub mod upstream;
pub mod volumes;

pub use client::{Client, ClientError};
pub use connect::Endpoint;
pub use keeper::{Keeper, OnGone};
