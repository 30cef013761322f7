//! Who is at the other end of a control connection: on this host as the kernel says (unix(7),
//! SO_PEERCRED), on another as its token and lease say.

use super::transfers::STALLED;
use crate::control::hosts::{Id, Lease, Role};
use crate::daemon::aide;
use crate::daemon::docs::{Asker, Owner};
use crate::daemon::fail::{Fail, Outcome};
use std::net::IpAddr;
use std::time::Duration;

/// Where a connection over TLS comes from; nothing is known yet of who that is.
#[derive(Clone, Copy, Debug)]
pub struct Outside(pub IpAddr);

/// A process.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// On this host; 0 where it has no number here.
    Here(i32),
    /// On another.
    Afar { lease: Lease, role: Role },
}

impl Peer {
    /// Who has what this call takes. `pid` is what a process of this host says of itself.
    pub fn owner(self, pid: u32) -> Owner {
        match self {
            Peer::Here(_) => Owner::of(pid),
            Peer::Afar { lease, .. } => Owner::afar(lease),
        }
    }

    /// The other host.
    pub fn host(self) -> Option<Id> {
        match self {
            Peer::Here(_) => None,
            Peer::Afar { lease, .. } => Some(lease.host),
        }
    }

    pub fn lease(self) -> Option<Lease> {
        match self {
            Peer::Here(_) => None,
            Peer::Afar { lease, .. } => Some(lease),
        }
    }

    /// What a host has is its own: no other's token takes it away, save an admin's.
    pub fn asks(self) -> Asker {
        match self {
            Peer::Here(_) => Asker::HERE,
            Peer::Afar { lease, role } => Asker {
                host: Some(lease.host),
                all: role >= Role::Admin,
            },
        }
    }

    pub fn may_touch(self, owner: &Owner) -> Outcome<()> {
        match self.asks().may(owner.host()) {
            true => Ok(()),
            false => Err(Fail::forbidden("another host has that")
                .hint("ask there, or with a token of role admin")),
        }
    }

    pub fn may_build(self) -> Outcome<()> {
        match self {
            Peer::Afar {
                role: Role::Run, ..
            } => Err(
                Fail::forbidden("a token of role run starts pockers and builds none")
                    .hint("`pocker token create --role build` makes one where the server is"),
            ),
            _ => Ok(()),
        }
    }

    /// How long nothing may come of what it sends: a command of this host waits as long as it likes.
    pub fn patience(self) -> Option<Duration> {
        match self {
            Peer::Here(_) => None,
            Peer::Afar { .. } => Some(STALLED),
        }
    }

    pub fn mounts_are_seen(self) -> bool {
        match self {
            Peer::Here(pid) => aide::shares_namespace(pid, "mnt"),
            // Its lease stands for its mounts.
            Peer::Afar { .. } => true,
        }
    }

    /// What is mounted where the server does not see it would soon count as unmounted: another
    /// could have the volume meanwhile, and a work tree would be dropped.
    pub fn mounts_here(self) -> Outcome<()> {
        if self.mounts_are_seen() {
            return Ok(());
        }
        let why = "this process is in another mount namespace than the server, which would not \
                   see the mount";
        Err(Fail::forbidden(why).hint(elsewhere("-m")))
    }

    /// By its number the server knows how long a process lives that has something.
    pub fn is_numbered_here(self) -> Outcome<()> {
        match self {
            Peer::Here(pid) if !aide::shares_namespace(pid, "pid") => {
                let why = "this process is in another PID namespace than the server, which could \
                           not tell how long it has the volume";
                Err(Fail::forbidden(why).hint(elsewhere("-m -p")))
            }
            _ => Ok(()),
        }
    }
}

fn elsewhere(namespaces: &str) -> String {
    let server = std::process::id();
    format!("run it where the server is: nsenter -t {server} {namespaces} pocker …")
}
