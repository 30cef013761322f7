//! OpenBSD's NFS client, by its own `mount_nfs` and `umount`, for who asks for it.
//!
//! mount_nfs(8) asks the portmapper on UDP 111 for MOUNT, so the server must be
//! registered there (`pocker serve --listen 127.0.0.1 --portmap register`). Its plain umount
//! sends UMNT to MOUNT version 1 over UDP and fails where nobody answers; `umount -f` sends
//! nothing.

use super::plan::NAME_MAX;
use crate::helper::{
    Cache, MountError, MountHelper, Mounted, Phase, Probe, Request, RestartCommand, Server,
    Session, Unmounted, check_target,
};
use crate::ping::null_call;
use crate::sys;
use pocker_nfs::portmap;
use pocker_nfs::proto::{MOUNT_PROGRAM, MOUNT_V3};
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

const MOUNT_NFS: &str = "/sbin/mount_nfs";
const UMOUNT: &str = "/sbin/umount";

/// The helper named `mount_nfs`.
#[derive(Clone, Copy, Debug)]
pub struct MountNfs;

impl MountHelper for MountNfs {
    fn name(&self) -> &'static str {
        "mount_nfs"
    }

    fn takes(&self, server: &Server) -> bool {
        super::v4(server).is_some()
    }

    /// It needs a portmapper, shows the export's path in `mount`, and can do no more.
    fn unasked(&self) -> bool {
        false
    }

    fn probe(&self) -> Probe {
        if !sys::OPENBSD {
            Probe::no("not available: this is not OpenBSD", None)
        } else if Path::new(MOUNT_NFS).exists() {
            Probe::yes("the kernel's NFS client, by mount_nfs")
        } else {
            Probe::no(format!("{MOUNT_NFS} is missing"), None)
        }
    }

    fn session(
        &self,
        server: &Server,
        _restart: Option<RestartCommand>,
    ) -> Result<Box<dyn Session>, MountError> {
        match super::v4(server) {
            Some(addr) => Ok(Box::new(NfsSession { addr })),
            None => {
                let cause = io::Error::new(io::ErrorKind::InvalidInput, "needs an IPv4 listener");
                Err(MountError::of_server(Phase::Server, server, cause))
            }
        }
    }
}

struct NfsSession {
    addr: SocketAddrV4,
}

impl Session for NfsSession {
    fn mount(&mut self, req: &Request<'_>) -> Result<Mounted, MountError> {
        check_target(req.target)?;
        let fail = |phase| move |cause| MountError::new(phase, req.target, cause);
        let server = Server::Tcp {
            addr: self.addr.into(),
            netns: None,
        };
        null_call(&server).map_err(fail(Phase::Server))?;
        portmapper(self.addr).map_err(fail(Phase::Server))?;
        let argv = mount_argv(self.addr, req).map_err(fail(Phase::Target))?;
        run(MOUNT_NFS, &argv).map_err(fail(Phase::Mount))?;
        Ok(Mounted::new(req.target, Some(server), unmount))
    }
}

/// Whether the portmapper leads to MOUNT: mount_nfs(8) would ask it for a minute.
fn portmapper(server: SocketAddrV4) -> io::Result<()> {
    let known = portmap::port_of(*server.ip(), MOUNT_PROGRAM, MOUNT_V3, portmap::TCP);
    let why = match known {
        Ok(port) => match wrong_port(port, server.port()) {
            Some(why) => why,
            None => return Ok(()),
        },
        Err(e) => e.to_string(),
    };
    Err(io::Error::other(format!(
        "{why}: start the server with `pocker serve --listen {} --portmap register`, or `builtin` where no portmapper runs",
        server.ip()
    )))
}

/// Another server's MOUNT would be sent the export's path, which may hold a secret.
fn wrong_port(known: u32, own: u16) -> Option<String> {
    match known {
        0 => Some("the portmapper knows no MOUNT".to_string()),
        port if port == u32::from(own) => None,
        port => Some(format!(
            "the portmapper has MOUNT at port {port}, which is another server's; this one is at {own}"
        )),
    }
}

/// The arguments of mount_nfs for a request. A writable mount is `sync`: on
/// loopback, dirty NFS buffers and the server's own writes wait for each other.
pub fn mount_argv(addr: SocketAddrV4, req: &Request<'_>) -> io::Result<Vec<OsString>> {
    let mut source = format!("{}:", addr.ip()).into_bytes();
    source.extend_from_slice(req.export);
    let target = req.target.as_os_str();
    for name in [source.as_slice(), target.as_bytes()] {
        if name.len() > NAME_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                format!("longer than the {NAME_MAX} bytes OpenBSD takes"),
            ));
        }
    }
    let mut argv: Vec<OsString> = ["-3", "-T", "-i", "-R", "1", "-r", "65536"]
        .map(OsString::from)
        .into();
    argv.extend(if req.read_only {
        ["-a", "4"].map(OsString::from)
    } else {
        ["-w", "65536"].map(OsString::from)
    });
    argv.push("-o".into());
    argv.push(options(addr.port(), req).into());
    argv.push(OsStr::from_bytes(&source).to_owned());
    argv.push(target.to_owned());
    Ok(argv)
}

fn options(port: u16, req: &Request<'_>) -> String {
    let mut list = vec![if req.read_only { "ro" } else { "rw,sync" }];
    for (asked, word) in [
        (req.nodev, "nodev"),
        (req.nosuid, "nosuid"),
        (req.noexec, "noexec"),
    ] {
        if asked {
            list.push(word);
        }
    }
    let seconds = match req.cache {
        Cache::Sealed | Cache::Exclusive => 3600,
        Cache::View | Cache::LargeView | Cache::Shared => 1,
    };
    let times = ["acregmin", "acregmax", "acdirmin", "acdirmax"].map(|o| format!("{o}={seconds}"));
    format!("{},{},port={port}", list.join(","), times.join(","))
}

fn unmount(target: &Path, server: Option<&Server>) -> io::Result<Unmounted> {
    let target = target.as_os_str();
    // Plainly first, so that nothing is lost, unless the server is gone. A plain
    // umount may fail after it unmounted; -f then finds nothing mounted.
    let there = server.is_none_or(|s| null_call(s).is_ok());
    let plain = there && run(UMOUNT, &[target.to_owned()]).is_ok();
    if !plain
        && let Err(cause) = run(UMOUNT, &["-f".into(), target.to_owned()])
        && !cause.to_string().contains("not currently mounted")
    {
        return Err(cause);
    }
    Ok(Unmounted::Gone)
}

fn run(program: &str, argv: &[OsString]) -> io::Result<()> {
    let out = Command::new(program).args(argv).output()?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(io::Error::other(format!(
        "{program}: {}: {}",
        out.status,
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn req<'a>(target: &'a Path, read_only: bool, cache: Cache) -> Request<'a> {
        Request {
            export: b"/run/a",
            target,
            read_only,
            nosuid: true,
            nodev: true,
            noexec: false,
            cache,
            outlives: true,
        }
    }

    fn argv(target: &str, read_only: bool, cache: Cache) -> io::Result<Vec<String>> {
        let addr = "127.0.0.1:2049".parse().unwrap();
        let argv = mount_argv(addr, &req(Path::new(target), read_only, cache))?;
        Ok(argv.into_iter().map(|a| a.into_string().unwrap()).collect())
    }

    #[test]
    fn a_sealed_tree_is_mounted_read_only_with_read_ahead() {
        let got = argv("/pk/1", true, Cache::Sealed).unwrap().join(" ");
        insta::assert_snapshot!(got, @"-3 -T -i -R 1 -r 65536 -a 4 -o ro,nodev,nosuid,acregmin=3600,acregmax=3600,acdirmin=3600,acdirmax=3600,port=2049 127.0.0.1:/run/a /pk/1");
    }

    #[test]
    fn a_writable_tree_is_mounted_sync() {
        let got = argv("/pk/1", false, Cache::Shared).unwrap().join(" ");
        insta::assert_snapshot!(got, @"-3 -T -i -R 1 -r 65536 -w 65536 -o rw,sync,nodev,nosuid,acregmin=1,acregmax=1,acdirmin=1,acdirmax=1,port=2049 127.0.0.1:/run/a /pk/1");
    }

    #[test]
    fn mount_is_asked_of_this_server_only() {
        assert_eq!(wrong_port(2049, 2049), None);
        assert!(wrong_port(0, 2049).unwrap().contains("knows no MOUNT"));
        let other = wrong_port(635, 2049).unwrap();
        assert!(other.contains("port 635"), "{other}");
        // Beyond a port's number it is not cut to one.
        assert!(wrong_port(65_536 + 2049, 2049).is_some());
    }

    #[test]
    fn a_target_too_long_for_the_kernel_is_refused() {
        let longest = format!("/{}", "x".repeat(NAME_MAX - 1));
        argv(&longest, true, Cache::Sealed).unwrap();
        let error = argv(&format!("{longest}x"), true, Cache::Sealed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
    }
}
