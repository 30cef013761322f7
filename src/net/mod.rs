//! The network of a run: the host's, none, or one of its own that an engine (slirp4netns or
//! pasta) ties to the host's.

mod engine;
mod error;
mod guard;
mod leftovers;
mod ports;
mod publish;
mod resolver;
mod slirp;

pub use engine::{Engine, found as engine};
pub use error::NetError;
pub use leftovers::sweep;
pub use publish::{Protocol, Publish};
pub use resolver::Resolver;

use crate::sys::os::netns;
use guard::Guard;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

/// Where a run's private network answers queries for names, with either engine.
pub const DNS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 3);

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

fn namespace() -> Result<OwnedFd, NetError> {
    netns::create().map_err(|fault| NetError::Namespace(fault.to_string()))
}
