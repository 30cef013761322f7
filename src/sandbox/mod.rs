//! A process in a root of its own.
//!
//! A [`Spec`] says what, [`plan`](mod@plan) makes a list of actions of it, [`spawn`] carries them out.

mod apply;
mod bounds;
mod child;
mod error;
mod exec;
mod follow;
mod identity;
mod laid;
mod mounter;
pub mod plan;
mod privileges;
mod report;
mod running;
mod spec;
mod supervise;
mod workdir;

pub use crate::sys::os::Target;
pub use crate::sys::{Capabilities, Capability, Fault};
pub use apply::{enter, spawn};
pub use bounds::{Bounds, Rlimit};
pub use error::SandboxError;
pub use mounter::{Caching, Force, TreeFlags, TreeMount, TreeMounter};
pub use privileges::{Privileges, UnknownCapability};
pub use running::{Sandbox, Source, Watch};
pub use spec::{Exit, HostFlags, Isolation, NfsMount, Place, Profile, Spec, Stdio, What};
