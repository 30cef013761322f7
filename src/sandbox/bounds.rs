//! What bounds a sandbox's processes, made ready outside.

use super::spec::Isolation;
use nix::sys::resource::{Resource, rlim_t};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Nothing, for a sandbox in its caller's network and without limits of its own.
#[derive(Debug, Default)]
pub struct Bounds {
    /// The control groups that its processes belong to: whoever writes 0 there joins.
    pub groups: Vec<OwnedFd>,
    /// One of them limits memory.
    pub memory: bool,
    /// A network namespace of its own.
    pub net: Option<OwnedFd>,
    /// Of the command's process.
    pub rlimits: Vec<Rlimit>,
}

impl Bounds {
    pub(super) fn enclosure(&self, isolation: Isolation) -> Option<Enclosure> {
        let enclosure = Enclosure {
            groups: self.groups.iter().map(AsRawFd::as_raw_fd).collect(),
            memory: self.memory,
            hidden: isolation == Isolation::Full,
            net: self.net.as_ref().map(AsRawFd::as_raw_fd),
        };
        (!enclosure.groups.is_empty() || enclosure.net.is_some()).then_some(enclosure)
    }
}

/// What the sandbox's first process joins, by descriptors that the plan's reader has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enclosure {
    pub groups: Vec<RawFd>,
    /// One of them limits memory.
    pub memory: bool,
    /// The sandbox sees its groups as the top, and no others.
    pub hidden: bool,
    pub net: Option<RawFd>,
}

/// setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub resource: Resource,
    pub name: &'static str,
    pub soft: rlim_t,
    pub hard: rlim_t,
}
