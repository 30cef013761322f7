//! What bounds a run: made before it, told of and removed after it.

use super::args::{Limits, Run};
use super::config::Settings;
use super::error::CliError;
use crate::control::api::Quota;
use crate::control::connect::make_socket_dir;
use crate::limits::cgroup::{CgroupError, Groups, Records, Wanted};
use crate::limits::{names, rlimits};
use crate::net::{self, EtcFile, Mode, NetError, Network};
use crate::sandbox::{Bounds, Spec};
use std::path::PathBuf;

impl From<CgroupError> for CliError {
    fn from(error: CgroupError) -> CliError {
        CliError {
            hint: error.hint(),
            ..CliError::new(error.to_string())
        }
    }
}

impl From<NetError> for CliError {
    fn from(error: NetError) -> CliError {
        CliError {
            hint: error.hint(),
            ..CliError::new(error.to_string())
        }
    }
}

/// A run's bounds, while it lives.
pub struct Bounded {
    groups: Groups,
    network: Option<Network>,
    resolver: Option<EtcFile>,
    /// Names in /etc, and what is there.
    etc: Vec<(&'static str, EtcFile)>,
}

pub fn quota(limits: &Limits) -> Quota {
    Quota {
        bytes: limits.disk,
        names: names(limits.inodes, limits.disk),
    }
}

/// Removes what runs left whose supervisor was killed.
pub fn sweep(settings: &Settings) {
    Records::of(&settings.socket_dir).sweep();
    net::sweep(&settings.socket_dir);
}

impl Bounded {
    pub fn prepare(settings: &Settings, run: &Run) -> Result<Bounded, CliError> {
        make_socket_dir(&settings.own_endpoint(false))?;
        let limits = &run.limits;
        let wanted = Wanted::new(limits.memory, limits.pids, limits.cpus);
        let dir = &settings.socket_dir;
        let groups = Groups::make(&wanted, &Records::of(dir))?;
        let wanted = net::Wanted {
            mode: run.net.net,
            ports: run.net.publish.clone(),
            host_loopback: run.net.host_loopback,
        };
        let network = Network::make(&wanted, dir)?;
        let resolver = match wanted.mode {
            Mode::Private => {
                let made = net::resolver(dir);
                Some(made.map_err(|e| CliError::from_error("cannot make a resolv.conf", &e))?)
            }
            Mode::Host | Mode::None => None,
        };
        let name = run.confine.hostname.as_ref().unwrap_or(&run.name);
        let made = net::hosts(dir, wanted.mode, name).and_then(|hosts| {
            Ok(vec![
                ("hosts", hosts),
                ("hostname", net::hostname(dir, name)?),
            ])
        });
        let etc = made.map_err(|e| CliError::from_error("cannot make a hosts file", &e))?;
        Ok(Bounded {
            groups,
            network,
            resolver,
            etc,
        })
    }

    pub fn around(&self, spec: Spec, limits: &Limits) -> Result<Spec, CliError> {
        let net = self.network.as_ref().map(Network::namespace).transpose();
        let bounds = Bounds {
            groups: self.groups.doors()?,
            memory: limits.memory.is_some(),
            net: net.map_err(|e| CliError::from_error("cannot share the network", &e))?,
            rlimits: rlimits(&limits.ulimits),
        };
        Ok(Spec { bounds, ..spec })
    }

    /// Who knows names: the host's servers for the host's network, the engine for one of the
    /// run's own, nobody where there is none.
    pub fn resolv_conf(&self, host: Option<PathBuf>) -> Option<PathBuf> {
        match (&self.network, &self.resolver) {
            (None, _) => host,
            (Some(_), resolver) => resolver.as_ref().map(|r| r.path().to_owned()),
        }
    }

    /// What the run sees below /etc besides.
    pub fn etc(&self) -> Vec<(&'static str, PathBuf)> {
        let files = self.etc.iter();
        files
            .map(|(name, file)| (*name, file.path().to_owned()))
            .collect()
    }

    /// It runs: what was needed to start it goes.
    pub fn started(&mut self) {
        self.resolver = None;
        self.etc.clear();
    }

    /// What became of it that its exit status does not say, a line each.
    pub fn ended(&mut self, name: &str) -> Vec<String> {
        let engine = self.network.as_mut().and_then(Network::lost);
        let lost = engine.map(|engine| {
            format!("{engine} ended before {name}, which had no network from then on")
        });
        let killed = match self.groups.oom_kills() {
            0 => None,
            1 => Some("1 process".to_owned()),
            n => Some(format!("{n} processes")),
        };
        let killed = killed.map(|killed| {
            format!("{name} had no memory left: the kernel killed {killed} of it (--memory)")
        });
        lost.into_iter().chain(killed).collect()
    }
}
