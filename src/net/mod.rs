//! The network of a run: the host's, none, or one of its own that an engine (slirp4netns or
//! pasta) ties to the host's.

mod engine;
mod error;
mod file;
mod guard;
mod hosts;
mod ports;
mod publish;
mod resolver;
mod slirp;

pub use engine::{Engine, found as engine};
pub use error::NetError;
pub use file::EtcFile;
pub use hosts::{hostname, hosts};
pub use publish::{Protocol, Publish};
pub use resolver::resolver;

use crate::sys::os::netns;
use guard::Guard;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

/// Where a run's private network answers queries for names, with either engine.
pub const DNS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 3);

/// What files of a start are called, before the pid.
const FILES: &str = "net-";
const RESOLVER: &str = "resolv-";
const HOSTS: &str = "hosts-";
const HOSTNAME: &str = "hostname-";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Host,
    None,
    Private,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "host" => Ok(Mode::Host),
            "none" => Ok(Mode::None),
            "private" => Ok(Mode::Private),
            _ => Err("host, none or private".to_owned()),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub mode: Mode,
    pub ports: Vec<Publish>,
    /// The run may reach what listens on the host's loopback.
    pub host_loopback: bool,
}

/// A network of a run's own. What ties it to the host's ends with it.
pub struct Network {
    namespace: OwnedFd,
    engine: Option<Guard>,
}

impl Network {
    /// None for the host's own. `dir` is where only root looks. The caller has one thread.
    pub fn make(wanted: &Wanted, dir: &Path) -> Result<Option<Network>, NetError> {
        publish::check(wanted)?;
        match wanted.mode {
            Mode::Host => Ok(None),
            Mode::None => Ok(Some(Network {
                namespace: namespace()?,
                engine: None,
            })),
            Mode::Private => {
                let engine = engine::find().ok_or(NetError::NoEngine)?;
                ports::check(&wanted.ports)?;
                let namespace = namespace()?;
                let guard = Guard::start(&engine, &namespace, wanted, dir)?;
                Ok(Some(Network {
                    namespace,
                    engine: Some(guard),
                }))
            }
        }
    }

    pub fn namespace(&self) -> std::io::Result<OwnedFd> {
        self.namespace.try_clone()
    }

    /// The engine's name, if it is gone before the run is.
    pub fn lost(&mut self) -> Option<&'static str> {
        self.engine.as_mut().and_then(Guard::lost)
    }
}

/// Removes files of starts whose process was killed: all are named after their process.
pub fn sweep(dir: &Path) {
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = file.file_name();
        let name = name.to_str().unwrap_or_default();
        let kinds = [FILES, RESOLVER, HOSTS, HOSTNAME];
        let rest = kinds.iter().find_map(|kind| name.strip_prefix(kind));
        let pid = rest.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| crate::control::sys::process_start(pid).is_none()) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

fn namespace() -> Result<OwnedFd, NetError> {
    netns::create().map_err(|fault| NetError::Namespace(fault.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_processes_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (gone, here) = (child.id(), std::process::id());
        child.wait().unwrap();
        let names = |pid| {
            let kinds = ["resolv", "hosts", "hostname"];
            let mut names = kinds.map(|kind| format!("{kind}-{pid}")).to_vec();
            names.push(format!("net-{pid}.sock"));
            names
        };
        let others = ["control.sock", "net-x.sock", "resolv-", "hosts", "netns"].map(str::to_owned);
        for name in names(gone).iter().chain(&names(here)).chain(&others) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(dir.path());
        let there = |name: &String| dir.path().join(name).exists();
        assert!(names(gone).iter().all(|name| !there(name)));
        assert!(names(here).iter().chain(&others).all(there));
    }
}
