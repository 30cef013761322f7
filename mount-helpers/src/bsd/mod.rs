//! The BSDs' own NFS clients, by their system calls: `bsd-kernel`.
//!
//! Each takes the root's handle itself, so neither a portmapper nor the kernel's MOUNT is needed, and what
//! mount(8) shows holds no path of an export. [`plan`] says what is asked of the kernel, as values that any
//! system can make and test; `sys` does it.
//!
//! With TCP and nothing listening OpenBSD's client waits for ever, uninterruptibly, in mount(2) too: hence the
//! NULL call first. Its mount(2) on a file succeeds and mounts nothing: hence the looks before and after.

pub mod layout;
pub mod mount_nfs;
pub mod plan;

use crate::helper::{
    MountError, MountHelper, Mounted, Phase, Probe, Request, RestartCommand, Server, Session,
    check_target,
};
use crate::kernel;
use crate::ping::{null_call, root_handle};
use crate::sys;
use plan::{Plan, System};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};

/// The helper named `bsd-kernel`.
#[derive(Clone, Copy, Debug)]
pub struct BsdKernel;

impl MountHelper for BsdKernel {
    fn name(&self) -> &'static str {
        "bsd-kernel"
    }

    fn takes(&self, server: &Server) -> bool {
        v4(server).is_some()
    }

    fn probe(&self) -> Probe {
        match sys::BSD {
            Some(system) => Probe::yes(format!("{system}'s NFS client")),
            None => Probe::no("not available: this is none of the BSDs it knows", None),
        }
    }

    fn session(
        &self,
        server: &Server,
        _restart: Option<RestartCommand>,
    ) -> Result<Box<dyn Session>, MountError> {
        let wrong = |why| {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, why);
            MountError::of_server(Phase::Server, server, cause)
        };
        let addr = v4(server).ok_or_else(|| wrong("needs an IPv4 listener"))?;
        let system = sys::BSD.ok_or_else(|| wrong("this is none of the BSDs it knows"))?;
        Ok(Box::new(BsdSession { addr, system }))
    }
}

/// The one kind of listener that these clients reach.
fn v4(server: &Server) -> Option<SocketAddrV4> {
    match server {
        Server::Tcp {
            addr: SocketAddr::V4(addr),
            netns: None,
        } => Some(*addr),
        _ => None,
    }
}

struct BsdSession {
    addr: SocketAddrV4,
    system: System,
}

impl Session for BsdSession {
    fn mount(&mut self, req: &Request<'_>) -> Result<Mounted, MountError> {
        check_target(req.target)?;
        let fail = |phase| move |cause| MountError::new(phase, req.target, cause);
        plan::check_length(req.target).map_err(fail(Phase::Target))?;
        let server = Server::Tcp {
            addr: self.addr.into(),
            netns: None,
        };
        null_call(&server).map_err(fail(Phase::Server))?;
        let root = root_handle(&server, req.export).map_err(fail(Phase::Export))?;
        let plan = Plan::new(self.system, self.addr, &root, req);
        sys::bsd_mount(&plan).map_err(fail(Phase::Mount))?;
        kernel::seen(req.target, server).map_err(fail(Phase::Mount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::Cache;
    use std::path::Path;

    /// Nothing listens there: what is wrong with a target is seen before anybody is asked.
    fn mount(target: &Path) -> MountError {
        let mut session = BsdSession {
            addr: "127.0.0.1:1".parse().unwrap(),
            system: System::OpenBsd,
        };
        let request = Request {
            export: b"/run/secret",
            target,
            read_only: true,
            nosuid: true,
            nodev: true,
            noexec: false,
            cache: Cache::Sealed,
            outlives: false,
        };
        session.mount(&request).unwrap_err()
    }

    #[test]
    fn a_bad_target_and_a_server_that_is_away_are_said_before_the_kernel_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let deep = dir.path().join("x".repeat(90));
        std::fs::create_dir(&deep).unwrap();
        for (target, phase, why) in [
            (file.as_path(), Phase::Target, "not a directory"),
            (link.as_path(), Phase::Target, "not a directory"),
            (&dir.path().join("none"), Phase::Target, "No such file"),
            (deep.as_path(), Phase::Target, "at most 89"),
            (dir.path(), Phase::Server, "refused"),
        ] {
            let error = mount(target);
            assert_eq!(error.phase, phase, "{error}");
            let text = error.to_string();
            assert!(text.contains(why) && !text.contains("secret"), "{text}");
        }
    }
}
