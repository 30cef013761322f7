//! Why a run cannot have the limits that were asked for.

use super::MEMORY_LEAST;
use super::host::Controller;
use crate::limits::Cpus;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "--{}: this host has no cgroup controller for it, neither of version 2 nor of version 1",
        option(*.0)
    )]
    Absent(Controller),
    #[error("--memory: {0} bytes are too few to start a process in")]
    LittleMemory(u64),
    #[error("--cpus: {cpus} processors are more than the {have} of this host")]
    ManyCpus { cpus: Cpus, have: u64 },
    #[error("cannot bound the run: {what} {}: {cause}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
}

impl CgroupError {
    pub fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> CgroupError {
        let path = path.to_owned();
        move |cause| CgroupError::Io {
            what,
            path: path.clone(),
            cause,
        }
    }

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            CgroupError::Absent(Controller::Memory) => {
                "boot with cgroup_enable=memory, or run without it: `pocker doctor` says what is there".to_owned()
            }
            CgroupError::Absent(_) => {
                "run without it, or on a kernel that has it: `pocker doctor` says what is there".to_owned()
            }
            CgroupError::LittleMemory(_) => {
                format!("give it at least {} MiB: --memory {}M", MEMORY_LEAST >> 20, MEMORY_LEAST >> 20)
            }
            CgroupError::ManyCpus { have, .. } => format!("give it at most --cpus {have}"),
            CgroupError::Io { cause, .. } => match cause.raw_os_error().map(nix::errno::Errno::from_raw) {
                Some(nix::errno::Errno::EROFS) => "cgroups are mounted read-only here: let the container that pocker runs in have its own".to_owned(),
                Some(nix::errno::Errno::EBUSY | nix::errno::Errno::ENOENT) => "the cgroup above hands no controllers down: see its cgroup.subtree_control".to_owned(),
                _ => return None,
            },
        })
    }
}

fn option(controller: Controller) -> &'static str {
    match controller {
        Controller::Memory => "memory",
        Controller::Pids => "pids",
        Controller::Cpu => "cpus",
    }
}
