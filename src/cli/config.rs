//! Settings: flag, else environment, else `/etc/pocker.conf`, else the default.

use super::args::{Global, net};
use super::defaults;
use super::error::CliError;
use super::remote::{Said, remote};
use crate::build::Choice;
use crate::control::Endpoint;
use crate::control::hosts::RpcTls;
use clap::ValueEnum;
use ipnet::IpNet;
use serde::Deserialize;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Largest settings file that is read.
const CONFIG_MAX: u64 = 64 << 10;

/// `/etc/pocker.conf`: TOML, every key optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub store: Option<PathBuf>,
    pub socket_dir: Option<PathBuf>,
    pub browse: Option<PathBuf>,
    /// On OpenBSD: "sets", or the path of ports' proot(1).
    pub proot: Option<String>,
    pub mount_helper: Option<String>,
    pub server_timeout: Option<u64>,
    pub listen: Option<String>,
    /// Hosts that may reach it: CIDR or addresses.
    pub allow: Option<Vec<String>>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// `pocker://HOST[:PORT]`: the store is another host's.
    pub remote: Option<String>,
    pub remote_ca: Option<PathBuf>,
    /// What this host shows for NFS over TLS.
    pub remote_cert: Option<PathBuf>,
    pub remote_key: Option<PathBuf>,
    /// "off", "offer", "require" or "mutual".
    pub rpc_tls: Option<RpcTls>,
    pub token_file: Option<PathBuf>,
    pub metrics: Option<SocketAddr>,
    pub verify_reads: Option<bool>,
    pub upstream: Option<String>,
    /// As the flag has it: "20G".
    pub upstream_cache: Option<String>,
    /// Directories at or below which grafts may be.
    pub graft_below: Option<Vec<PathBuf>>,
    pub user: Option<String>,
}

/// What every command knows.
#[derive(Clone, Debug)]
pub struct Settings {
    pub store: PathBuf,
    /// Somebody said which store: another one will not do.
    pub store_given: bool,
    /// The settings file that was named.
    pub config: Option<PathBuf>,
    pub socket_dir: PathBuf,
    pub browse: PathBuf,
    pub proot: Choice,
    pub mount_helper: Option<String>,
    pub server_timeout: Duration,
    pub listen: Option<String>,
    pub allow: Vec<IpNet>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub remote: Option<String>,
    remote_ca: Option<PathBuf>,
    shown: Option<(PathBuf, PathBuf)>,
    /// What was said of it.
    rpc_tls: Option<RpcTls>,
    token_file: Option<PathBuf>,
    pub metrics: Option<SocketAddr>,
    pub verify_reads: bool,
    pub upstream: Option<String>,
    pub upstream_cache: Option<u64>,
    pub graft_below: Vec<PathBuf>,
    /// Whom a server becomes.
    pub user: Option<String>,
    pub quiet: bool,
}

impl Settings {
    pub fn load(global: &Global) -> Result<Settings, CliError> {
        let file = match &global.config {
            Some(path) => read(path)?.ok_or_else(|| {
                CliError::usage(format!(
                    "the settings file {} does not exist",
                    path.display()
                ))
            })?,
            None => read(Path::new(defaults::CONFIG))?.unwrap_or_default(),
        };
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let store = global.store.clone().or(file.store);
        let cache = file.upstream_cache.as_deref().map(|text| {
            crate::limits::size(text)
                .map_err(|e| CliError::usage(format!("upstream_cache in the settings: {e}")))
        });
        let allow = file.allow.unwrap_or_default().into_iter().map(|text| {
            net(&text).map_err(|e| CliError::usage(format!("allow in the settings: {text}: {e}")))
        });
        let allow = allow.collect::<Result<Vec<IpNet>, CliError>>()?;
        Ok(Settings {
            store_given: store.is_some(),
            store: absolute(store.unwrap_or(defaults::STORE.into())),
            config: global.config.clone().map(absolute),
            socket_dir: absolute(
                global
                    .socket_dir
                    .clone()
                    .or(file.socket_dir)
                    .unwrap_or_else(defaults::socket_dir),
            ),
            browse: file.browse.unwrap_or(defaults::BROWSE.into()),
            proot: proot(file.proot)?,
            mount_helper: global.mount_helper.clone().or(file.mount_helper),
            server_timeout: Duration::from_secs(
                global
                    .server_timeout
                    .or(file.server_timeout)
                    .unwrap_or(defaults::SERVER_TIMEOUT),
            ),
            listen: file.listen,
            allow,
            tls_cert: file.tls_cert,
            tls_key: file.tls_key,
            remote: global
                .remote
                .clone()
                .or(file.remote)
                .filter(|remote| !remote.is_empty()),
            remote_ca: global.remote_ca.clone().or(file.remote_ca),
            shown: file.remote_cert.zip(file.remote_key),
            rpc_tls: global.rpc_tls.or(file.rpc_tls),
            token_file: file.token_file,
            metrics: file.metrics,
            verify_reads: file.verify_reads.unwrap_or(false),
            upstream: file.upstream,
            upstream_cache: cache.transpose()?,
            graft_below: file.graft_below.unwrap_or_else(defaults::graft_below),
            user: file.user,
            quiet: global.quiet,
        })
    }

    /// The same for another command of ours.
    pub fn as_flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = vec![
            "--socket-dir".into(),
            self.socket_dir.clone().into(),
            "--server-timeout".into(),
            self.server_timeout.as_secs().to_string().into(),
            "--quiet".into(),
        ];
        if self.store_given {
            flags.extend(["--store".into(), self.store.clone().into()]);
        }
        if let Some(remote) = &self.remote {
            flags.extend(["--remote".into(), remote.into()]);
        }
        if let Some(ca) = &self.remote_ca {
            flags.extend(["--remote-ca".into(), ca.into()]);
        }
        if let Some(value) = self.rpc_tls.and_then(|how| how.to_possible_value()) {
            flags.extend(["--rpc-tls".into(), value.get_name().into()]);
        }
        if let Some(config) = &self.config {
            flags.extend(["--config".into(), config.into()]);
        }
        if let Some(helper) = &self.mount_helper {
            flags.extend(["--mount-helper".into(), helper.into()]);
        }
        flags
    }

    /// Whether NFS with other hosts goes over TLS.
    pub fn rpc_tls(&self) -> RpcTls {
        self.rpc_tls.unwrap_or_default()
    }

    /// What this host shows there: certificate and key, where they were named or are where `defaults` has them.
    pub fn shown(&self) -> Option<(PathBuf, PathBuf)> {
        let usual = (defaults::REMOTE_CERT.into(), defaults::REMOTE_KEY.into());
        let there = |(cert, key): &(PathBuf, PathBuf)| cert.exists() && key.exists();
        self.shown.clone().or(Some(usual).filter(there))
    }

    /// Where this command's server is; `start` = one may be started.
    pub fn endpoint(&self, start: bool) -> Result<Endpoint, CliError> {
        let own = self.own_endpoint(start);
        let Some(text) = &self.remote else {
            return Ok(own);
        };
        let said = Said {
            text,
            ca: self.remote_ca.as_deref(),
            token_file: self.token_file.as_deref(),
        };
        Ok(Endpoint {
            remote: Some(Arc::new(remote(&said, &self.store)?)),
            ..own
        })
    }

    /// This host's own server, wherever the store is.
    pub fn own_endpoint(&self, start: bool) -> Endpoint {
        Endpoint {
            socket_dir: self.socket_dir.clone(),
            store: self.store.clone(),
            start,
            timeout: self.server_timeout,
            remote: None,
        }
    }

    /// Refuses what only this host's own server can do.
    pub fn must_be_own(&self, what: &str) -> Result<(), CliError> {
        match &self.remote {
            None => Ok(()),
            Some(remote) => Err(CliError::usage(format!(
                "{what} is for the host where the store is, and this is another one's ({remote})"
            ))
            .hint("run it there; or leave out --remote, POCKER_REMOTE and the settings' `remote`, for this host's own store")),
        }
    }
}

fn read(path: &Path) -> Result<Option<File>, CliError> {
    use std::io::Read;
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot read the settings in {}", path.display()), e)
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(&e)),
    };
    let mut text = String::new();
    file.take(CONFIG_MAX)
        .read_to_string(&mut text)
        .map_err(|e| fail(&e))?;
    toml::from_str(&text).map(Some).map_err(|e| fail(&e))
}

fn proot(text: Option<String>) -> Result<Choice, CliError> {
    let Some(text) = text else {
        return Ok(Choice::default());
    };
    Choice::parse(&text).ok_or_else(|| {
        CliError::usage(format!(
            "proot in the settings: {text}: write \"sets\", or the whole path of ports' proot"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_an_error_not_a_default() {
        assert!(toml::from_str::<File>("stroe = '/x'").is_err());
        let file: File = toml::from_str("store = '/x'\nlisten = '10.0.0.1'").expect("valid");
        assert_eq!(file.store, Some(PathBuf::from("/x")));
    }

    #[test]
    fn proot_is_sets_or_a_whole_path() {
        let said = |text: &str| proot(Some(text.to_owned()));
        assert_eq!(said("sets").expect("valid"), Choice::Sets);
        assert_eq!(proot(None).expect("valid"), Choice::WhenPresent);
        let error = said("proot").expect_err("no path").message;
        assert!(error.contains("proot in the settings: proot"), "{error}");
    }
}
