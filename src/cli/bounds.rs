//! What bounds a run: made before it, told of and removed after it.

use super::args::Limits;
use super::config::Settings;
use super::error::CliError;
use crate::control::api::Quota;
use crate::limits::cgroup::{CgroupError, Groups, Records, Wanted};
use crate::limits::{names, rlimits};
use crate::sandbox::Bounds;

impl From<CgroupError> for CliError {
    fn from(error: CgroupError) -> CliError {
        CliError {
            hint: error.hint(),
            ..CliError::new(error.to_string())
        }
    }
}

/// A run's bounds, while it lives.
pub struct Bounded {
    groups: Groups,
}

pub fn quota(limits: &Limits) -> Quota {
    Quota {
        bytes: limits.disk,
        names: names(limits.inodes, limits.disk),
    }
}

/// Removes the groups of runs whose supervisor was killed.
pub fn sweep(settings: &Settings) {
    Records::of(&settings.socket_dir).sweep();
}

impl Bounded {
    pub fn prepare(settings: &Settings, limits: &Limits) -> Result<Bounded, CliError> {
        let wanted = Wanted::new(limits.memory, limits.pids, limits.cpus);
        let groups = Groups::make(&wanted, &Records::of(&settings.socket_dir))?;
        Ok(Bounded { groups })
    }

    pub fn bounds(&self, limits: &Limits) -> Result<Bounds, CliError> {
        Ok(Bounds {
            groups: self.groups.doors()?,
            net: None,
            rlimits: rlimits(&limits.ulimits),
        })
    }

    /// What became of it that its exit status does not say.
    pub fn ended(&self, name: &str) {
        let killed = self.groups.oom_kills();
        if killed > 0 {
            let processes = if killed == 1 { "process" } else { "processes" };
            eprintln!(
                "{name} had no memory left: the kernel killed {killed} {processes} of it (--memory)"
            );
        }
    }
}
