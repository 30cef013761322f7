//! Linux's own NFS client, by mount(2): no rpcbind, no mount.nfs.
//!
//! Linux shares one connection among all mounts of one address, so whoever
//! wants a connection, peer identity and limits of its own for a run gives it an
//! address of its own: see [`loopback_address`]. mount(2) opens its sockets in the
//! network namespace of the calling thread; a server in a private one is
//! therefore reached by a thread that enters it, and stays in the caller's
//! mount namespace.

use crate::helper::{
    Cache, MountError, MountHelper, Mounted, Phase, Probe, Request, RestartCommand, Server,
    Session, check_target,
};
use crate::kernel;
use crate::ping::{in_netns, null_call};
use crate::sys::{self, MountFlags};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The helper named `linux-kernel`.
#[derive(Clone, Copy, Debug)]
pub struct LinuxKernel;

impl MountHelper for LinuxKernel {
    fn name(&self) -> &'static str {
        "linux-kernel"
    }

    fn takes(&self, server: &Server) -> bool {
        matches!(server, Server::Tcp { .. })
    }

    fn probe(&self) -> Probe {
        if !sys::knows_fs("nfs") {
            sys::load_fs("nfs");
        }
        if sys::knows_fs("nfs") {
            Probe::yes("the kernel has an NFS client")
        } else {
            Probe::no(
                "the kernel has no NFS client (no \"nfs\" in /proc/filesystems)",
                Some("modprobe nfs"),
            )
        }
    }

    /// An auto-started server is not restarted from here: the kernel's client
    /// waits for whoever does.
    fn session(
        &self,
        server: &Server,
        _restart: Option<RestartCommand>,
    ) -> Result<Box<dyn Session>, MountError> {
        if !self.takes(server) {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, "needs a TCP listener");
            return Err(MountError::of_server(Phase::Server, server, cause));
        }
        Ok(Box::new(KernelSession {
            server: server.clone(),
        }))
    }
}

struct KernelSession {
    server: Server,
}

impl Session for KernelSession {
    fn mount(&mut self, req: &Request<'_>) -> Result<Mounted, MountError> {
        check_target(req.target)?;
        let fail = |phase| move |cause| MountError::new(phase, req.target, cause);
        let Server::Tcp { addr, netns } = &self.server else {
            return Err(fail(Phase::Server)(io::ErrorKind::InvalidInput.into()));
        };
        null_call(&self.server).map_err(fail(Phase::Server))?;
        let (source, data) = (source(*addr, req.export), data(*addr, req.cache));
        let flags = MountFlags {
            read_only: req.read_only,
            nosuid: req.nosuid,
            nodev: req.nodev,
            noexec: req.noexec,
        };
        in_netns(netns.as_deref(), || {
            sys::mount_fs(&source, req.target, "nfs", flags, &data)
        })
        .flatten()
        .map_err(fail(Phase::Mount))?;
        kernel::seen(req.target, self.server.clone()).map_err(fail(Phase::Mount))
    }
}

/// The source of the mount, which is also the path that the kernel sends to
/// MOUNT: `ADDR:PATH`.
fn source(addr: SocketAddr, export: &[u8]) -> Vec<u8> {
    let host = match addr.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mut source = format!("{host}:").into_bytes();
    source.extend_from_slice(export);
    source
}

/// The data of the mount (nfs(5)). Locks are local; there is no NLM server.
fn data(addr: SocketAddr, cache: Cache) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    let proto = if ip.is_ipv6() { "tcp6" } else { "tcp" };
    let base = format!(
        "vers=3,proto={proto},addr={ip},port={port},\
         mountaddr={ip},mountproto={proto},mountport={port},mountvers=3,nolock,noacl,hard"
    );
    let caching = match cache {
        Cache::Sealed | Cache::Exclusive => "nocto,actimeo=3600",
        Cache::View | Cache::LargeView | Cache::Shared => "actimeo=1,lookupcache=pos",
    };
    format!("{base},{caching}")
}

/// The `n`th address in 127/8 after those that people use by hand: 127.1.0.1
/// on, never ending in .0 or .255, starting over after about 16 million.
pub fn loopback_address(n: u32) -> Ipv4Addr {
    let (low, rest) = (n % 254 + 1, n / 254);
    let (third, second) = (rest % 256, rest / 256 % 255 + 1);
    Ipv4Addr::new(127, second as u8, third as u8, low as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 3, 0, 9)), 2049);

    #[test]
    fn sealed_and_exclusive_mounts_cache_long() {
        let expected = "vers=3,proto=tcp,addr=127.3.0.9,port=2049,mountaddr=127.3.0.9,\
                        mountproto=tcp,mountport=2049,mountvers=3,nolock,noacl,hard,\
                        nocto,actimeo=3600";
        assert_eq!(data(LOCAL, Cache::Sealed), expected);
        assert_eq!(data(LOCAL, Cache::Exclusive), expected);
    }

    #[test]
    fn shared_mounts_cache_a_second_and_no_absence() {
        let data = data(LOCAL, Cache::Shared);
        assert!(data.ends_with(",hard,actimeo=1,lookupcache=pos"), "{data}");
    }

    #[test]
    fn ipv6_is_bracketed_in_the_source_only() {
        let addr: SocketAddr = "[fd00::1]:32049".parse().unwrap();
        assert_eq!(source(addr, b"/run/a"), b"[fd00::1]:/run/a");
        let data = data(addr, Cache::Shared);
        assert!(
            data.starts_with("vers=3,proto=tcp6,addr=fd00::1,port=32049,mountaddr=fd00::1"),
            "{data}"
        );
    }

    #[test]
    fn an_export_path_stays_bytes() {
        assert_eq!(source(LOCAL, b"/v/\xff,x"), b"127.3.0.9:/v/\xff,x");
    }

    #[test]
    fn addresses_are_distinct_and_usable() {
        let mut seen = std::collections::HashSet::new();
        for n in (0..200_000).chain(16_000_000..16_100_000) {
            let ip = loopback_address(n);
            let [a, b, _, d] = ip.octets();
            assert!(a == 127 && b > 0 && d > 0 && d < 255, "{ip}");
            assert!(seen.insert(ip), "{ip} twice");
        }
        assert_eq!(loopback_address(0), Ipv4Addr::new(127, 1, 0, 1));
        // Starts over without panicking.
        loopback_address(u32::MAX);
    }
}
