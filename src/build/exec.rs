//! EXEC and PKG: a sandbox's description, with what comes by mount and is never sealed.

use super::copy;
use super::key::Fields;
use super::plan::{DEFAULT_PATH, ExecPlan, State};
use super::{BuildError, pkg};
use crate::control::api::TreeInfo;
use crate::sandbox::{Bounds, Isolation, NfsMount, Place, Privileges, Profile, Spec, Stdio, What};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A tmpfs that hides whatever the tree has there while building.
const POCKER_DIR: &str = "/run/pocker";
const SECRETS_DIR: &str = "/run/secrets";
const CA_FILE: &str = "/run/pocker/ca.pem";
/// What programs look into for a CA bundle of the user's.
const CA_VARIABLES: [&str; 9] = [
    "POCKER_CA",
    "SSL_CERT_FILE",
    "SSL_CA_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];
const PROXY_VARIABLES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
];

/// The proxy settings among a process's variables, in both spellings.
pub fn proxies(env: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    env.filter(|(name, _)| {
        name.to_str()
            .is_some_and(|name| PROXY_VARIABLES.contains(&name.to_ascii_lowercase().as_str()))
    })
    .collect()
}

/// What a build brings along from the host.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Absolute.
    pub ca: Option<&'a Path>,
    pub proxies: &'a [(OsString, OsString)],
    pub secrets: &'a [(String, PathBuf)],
    /// Absolute; caches and scratch directories lie in it.
    pub cache_dir: &'a Path,
    /// The key of the tree's base: builds on different systems share no caches.
    pub base_key: &'a str,
    /// Where resolv.conf and hosts are: `/etc`, or a test's directory.
    pub etc: &'a Path,
    /// Told to tools that make reproducible files (SOURCE_DATE_EPOCH).
    pub epoch: Option<i64>,
}

/// An EXEC in `tree`. `passwd` is the tree's own, for HOME.
pub fn exec(
    line: u32,
    exec: &ExecPlan,
    state: &State,
    around: &Surroundings<'_>,
    tree: &TreeInfo,
    passwd: Option<&[u8]>,
) -> Result<Spec, BuildError> {
    let mut mounts = around.mounts();
    if !exec.secrets.is_empty() {
        mounts.push(tmpfs(SECRETS_DIR));
    }
    for secret in &exec.secrets {
        let given = around.secrets.iter().find(|(id, _)| *id == secret.id);
        let (_, file) = given.ok_or_else(|| BuildError::NoSecret {
            line,
            id: secret.id.clone(),
        })?;
        let label = format!("secret {}", secret.id);
        mounts.push(bind_file(&secret.target, file, label)?);
    }
    for path in &exec.caches {
        mounts.push(Place {
            target: path.into(),
            what: What::BindDir {
                host: around.cache(path)?,
            },
            label: format!("cache {path}"),
        });
    }
    let mut env = around.env(&home(state.user.as_deref(), passwd));
    for (name, value) in state.args.iter().chain(&state.env) {
        set(&mut env, name.into(), value.into());
    }
    Ok(Spec {
        user: state.user.clone(),
        workdir: state.workdir.as_ref().map(PathBuf::from),
        ..spec(tree, mounts, sh(&exec.script), env)
    })
}

/// A PKG in `tree`; `work` is an empty directory of the host for index and downloads.
pub fn pkg(
    mode: &str,
    names: &[String],
    state: &State,
    around: &Surroundings<'_>,
    tree: &TreeInfo,
    work: &Path,
) -> Spec {
    let mut mounts = around.mounts();
    if around.ca.is_none() {
        mounts.push(tmpfs(POCKER_DIR));
    }
    mounts.push(Place {
        target: pkg::WORK.into(),
        what: What::BindDir { host: work.into() },
        label: "the package manager's scratch directory".to_owned(),
    });
    let mut env = around.env("/root");
    for (name, value) in &state.env {
        set(&mut env, name.into(), value.into());
    }
    let mut argv = sh(&pkg::script());
    argv.push("pocker-pkg".into());
    argv.push(mode.into());
    argv.extend(names.iter().map(OsString::from));
    spec(tree, mounts, argv, env)
}

fn spec(
    tree: &TreeInfo,
    mounts: Vec<Place>,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
) -> Spec {
    Spec {
        root: NfsMount {
            export: tree.export.path.clone(),
            read_only: false,
            suid: false,
            dev: false,
        },
        mounts,
        argv,
        env,
        user: None,
        workdir: Some(PathBuf::from("/")),
        hostname: Some("build".to_owned()),
        stdio: Stdio::Captured,
        profile: Profile::Build,
        privileges: Privileges::BUILD,
        isolation: Isolation::Full,
        follow: false,
        as_root: true,
        read_only: false,
        bounds: Bounds::default(),
    }
}

fn sh(script: &str) -> Vec<OsString> {
    ["/bin/sh", "-c", script].map(OsString::from).to_vec()
}

fn home(user: Option<&str>, passwd: Option<&[u8]>) -> String {
    match user {
        None => "/root".to_owned(),
        Some(user) => passwd
            .and_then(|passwd| copy::home(user, passwd))
            .unwrap_or_else(|| "/".to_owned()),
    }
}

impl Surroundings<'_> {
    /// resolv.conf, hosts, the CA bundle.
    fn mounts(&self) -> Vec<Place> {
        let mut out = Vec::new();
        for name in ["resolv.conf", "hosts"] {
            // resolv.conf is often a link into /run; a host without the file has nothing to show.
            if let Ok(host) = std::fs::canonicalize(self.etc.join(name)) {
                out.push(Place {
                    target: Path::new("/etc").join(name),
                    what: What::BindFile { host },
                    label: format!("the host's /etc/{name}"),
                });
            }
        }
        if let Some(ca) = self.ca {
            out.push(tmpfs(POCKER_DIR));
            out.push(Place {
                target: CA_FILE.into(),
                what: What::BindFile { host: ca.into() },
                label: "--ca".to_owned(),
            });
        }
        out
    }

    /// Defaults, which ARG and ENV override.
    fn env(&self, home: &str) -> Vec<(OsString, OsString)> {
        let mut out: Vec<(OsString, OsString)> =
            [("PATH", DEFAULT_PATH), ("HOME", home), ("TERM", "dumb")]
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec();
        out.extend_from_slice(self.proxies);
        if let Some(epoch) = self.epoch {
            out.push(("SOURCE_DATE_EPOCH".into(), epoch.to_string().into()));
        }
        if self.ca.is_some() {
            out.extend(CA_VARIABLES.map(|name| (name.into(), CA_FILE.into())));
        }
        out
    }

    /// The host directory behind a cache path; made if missing.
    fn cache(&self, path: &str) -> Result<PathBuf, BuildError> {
        let name = Fields::new("pocker cache 1")
            .field("base", self.base_key.as_bytes())
            .field("path", path.as_bytes())
            .hex();
        let dir = self.cache_dir.join(name);
        std::fs::create_dir_all(&dir).map_err(|e| BuildError::io("make", &dir, e))?;
        Ok(dir)
    }
}

fn tmpfs(path: &str) -> Place {
    Place {
        target: path.into(),
        what: What::Tmpfs {
            mode: 0o755,
            size: None,
        },
        label: format!("tmpfs {path}"),
    }
}

fn bind_file(target: &str, host: &Path, label: String) -> Result<Place, BuildError> {
    let host = std::fs::canonicalize(host).map_err(|e| BuildError::io("read", host, e))?;
    if !host.is_file() {
        let why = std::io::Error::other("it is not a regular file");
        return Err(BuildError::io("use as a secret", &host, why));
    }
    Ok(Place {
        target: target.into(),
        what: What::BindFile { host },
        label,
    })
}

fn set(env: &mut Vec<(OsString, OsString)>, name: OsString, value: OsString) {
    env.retain(|(known, _)| *known != name);
    env.push((name, value));
}
