//! Content-addressed trees: blobs, directories, snapshots, work trees, steps.

pub mod object;
pub mod tree;
pub mod types;
