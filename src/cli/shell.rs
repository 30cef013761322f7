//! The builder's sandbox: a command in a work tree that this host mounts.

use super::config::Settings;
use super::error::CliError;
use super::mounting;
use crate::build::{BuildError, Shell};
use crate::control::{Client, Keeper, OnGone};
use crate::sandbox::{
    self, Caching, Exit, Fault, Force, SandboxError, Spec, TreeMount, TreeMounter,
};
use nix::sys::signal::Signal;
use pocker_mount_helpers::{Cache, Request, Session};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a build's commands on this host.
pub struct LocalShell<'a> {
    pub settings: &'a Settings,
    pub client: &'a Client,
    pub cancelled: &'a AtomicBool,
}

impl Shell for LocalShell<'_> {
    fn exec(&self, spec: Spec, on_output: &mut dyn FnMut(&[u8])) -> Result<Exit, BuildError> {
        let failed = |message: String, hint: Option<String>| BuildError::Sandbox { message, hint };
        let mounting = mounting::session(self.settings, self.client).map_err(|e| {
            let mut message = e.message;
            for cause in e.causes {
                message = format!("{message}: {cause}");
            }
            failed(message, e.hint)
        })?;
        let mut mounter = Mounter(mounting.session);
        let mut running = match sandbox::spawn(&spec, &mut mounter) {
            Ok(running) => running,
            Err(SandboxError::Interrupted(_)) => return Err(BuildError::Cancelled),
            Err(e) => {
                return Err(failed(e.to_string(), e.hint().map(str::to_owned)));
            }
        };
        let stage = running.pid();
        let end: OnGone = Box::new(move || {
            let _ = crate::daemon::signal(stage, Signal::SIGKILL);
        });
        let keeper = Keeper::watch(self.client.endpoint().clone(), mounting.auto, Some(end));
        let exit = running.wait_with(on_output);
        if keeper.gone() {
            let timeout = self.settings.server_timeout.as_secs();
            return Err(BuildError::Server {
                message: format!("the server went away and did not come back within {timeout} s"),
                hint: Some(
                    "start it with `pocker serve` and build again: finished steps are kept".into(),
                ),
            });
        }
        if running.interrupted().is_some() {
            self.cancelled.store(true, Ordering::SeqCst);
            return Err(BuildError::Cancelled);
        }
        Ok(exit)
    }
}

/// A mount helper's session as the sandbox wants it.
pub struct Mounter(pub Box<dyn Session>);

impl TreeMounter for Mounter {
    fn mount(&mut self, tree: &TreeMount<'_>) -> Result<(), Fault> {
        let request = Request {
            export: tree.export,
            target: tree.target,
            read_only: tree.flags.read_only,
            nosuid: tree.flags.nosuid,
            nodev: tree.flags.nodev,
            noexec: tree.flags.noexec,
            cache: match tree.flags.caching {
                Caching::Sealed => Cache::Sealed,
                Caching::Exclusive => Cache::Exclusive,
                Caching::Shared => Cache::Shared,
            },
            outlives: false,
        };
        let mounted = self
            .0
            .mount(&request)
            .map_err(|e| match e.cause.raw_os_error() {
                Some(errno) => Fault {
                    detail: e.phase.to_string(),
                    errno: Some(errno),
                },
                None => Fault::new(format!("{}: {}", e.phase, e.cause)),
            })?;
        // It goes with the sandbox's mount namespace.
        mounted.leak();
        Ok(())
    }

    fn unmount(&mut self, target: &Path, force: Force) -> Result<(), Fault> {
        if force == Force::Never {
            return crate::sys::bsd::unmount_unused(target);
        }
        let text = target.to_string_lossy();
        crate::daemon::unmount(&text).map_err(|e| Fault {
            detail: "unmount".to_string(),
            errno: Some(e as i32),
        })
    }
}

impl From<sandbox::SandboxError> for CliError {
    fn from(error: sandbox::SandboxError) -> CliError {
        CliError {
            status: error.status(),
            hint: error.hint().map(str::to_owned),
            ..CliError::new(format!("cannot start it: {error}"))
        }
    }
}
