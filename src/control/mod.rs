//! Clients and daemon speak HTTP and JSON over a unix socket.

pub mod api;
