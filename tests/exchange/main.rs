//! Images that go to other tools and come back: umoci, skopeo, buildah and docker's registry, as
//! Debian has them. Trees are compared by all that a file has.

mod again;
mod layers;
mod registry;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tools;
mod tree;
