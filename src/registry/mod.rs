//! Registries of images (OCI distribution). The command that wants an image speaks to them, never the
//! server: what comes goes over the control socket as any archive does.

mod auth;
mod blobs;
mod error;
mod get;
mod name;
mod pull;
mod push;
mod send;
#[cfg(test)]
mod tests;
mod token;

use auth::Login;
pub use error::RegistryError;
pub use name::{Name, is_image};

use crate::image::source::spool;
use oci_client::errors::OciDistributionError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a registry may say nothing, in seconds.
pub const TIMEOUT: u64 = 30;
const AGENT: &str = concat!("pocker/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(10);
/// Redirects on the way to one answer.
const REDIRECTS_MAX: usize = 10;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Without TLS, where it is not this host's own.
    pub plain_http: bool,
    /// A certificate (PEM) that is trusted beside the host's.
    pub ca: Option<PathBuf>,
    pub timeout: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            plain_http: false,
            ca: None,
            timeout: TIMEOUT,
        }
    }
}

/// One registry, for one image. It has threads as long as it lives: nothing may fork meanwhile.
pub struct Registry {
    runtime: Arc<tokio::runtime::Runtime>,
    getter: get::Shared,
    name: Name,
}

impl Registry {
    /// To get images.
    pub fn open(name: &Name, options: &Options) -> Result<Registry, RegistryError> {
        Registry::start(name, options, false)
    }

    /// To push them, too.
    pub fn open_to_push(name: &Name, options: &Options) -> Result<Registry, RegistryError> {
        Registry::start(name, options, true)
    }

    fn start(name: &Name, options: &Options, pushes: bool) -> Result<Registry, RegistryError> {
        // Where one is installed already, that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| RegistryError::host("start a thread for the registry", &e))?;
        // A certificate of its own is for one with TLS.
        let plain = options.plain_http || name.is_loopback() && options.ca.is_none();
        let ca = options.ca.as_deref().map(certificate).transpose()?;
        let silence = Duration::from_secs(options.timeout);
        let pem = ca.as_deref();
        let client = |read| {
            http(name, silence.min(CONNECT), read, pem)
                .map_err(|e| name.failed(options.timeout, OciDistributionError::RequestError(e)))
        };
        let http = client(Some(silence))?;
        // While bytes go out a registry has nothing to say: whoever sends them sees to it that they go on.
        let uploads = if pushes { Some(client(None)?) } else { None };
        let reference = name.reference().clone();
        let getter = get::Getter {
            http,
            uploads,
            login: auth::find(name)?,
            reference,
            plain,
            name: name.clone(),
            timeout: options.timeout,
            shown: Default::default(),
            also: Default::default(),
        };
        Ok(Registry {
            runtime: Arc::new(runtime),
            getter: Arc::new(getter),
            name: name.clone(),
        })
    }
}

fn http(
    name: &Name,
    connect: Duration,
    read: Option<Duration>,
    ca: Option<&[u8]>,
) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::custom(follow))
        .no_proxy();
    if let Some(pem) = ca {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    if let Some(silence) = read {
        builder = builder.read_timeout(silence);
    }
    if !name.is_loopback() {
        let variable = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok());
        let hosts = variable(["no_proxy", "NO_PROXY"]);
        let none = || hosts.as_deref().and_then(reqwest::NoProxy::from_string);
        if let Some(proxy) = variable(["https_proxy", "HTTPS_PROXY"]) {
            builder = builder.proxy(reqwest::Proxy::https(&proxy)?.no_proxy(none()));
        }
        if let Some(proxy) = variable(["http_proxy", "HTTP_PROXY"]) {
            builder = builder.proxy(reqwest::Proxy::http(&proxy)?.no_proxy(none()));
        }
    }
    builder.build()
}

/// Never from TLS to where there is none: whoever is in between would say what the image is.
fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let bares = |from: &reqwest::Url| from.scheme() == "https" && attempt.url().scheme() != "https";
    if attempt.previous().iter().any(bares) {
        return attempt.error("it has TLS, and sends to where there is none");
    }
    match attempt.previous().len() > REDIRECTS_MAX {
        true => attempt.error("it sends from one place to another without end"),
        false => attempt.follow(),
    }
}

/// The bytes of a file with certificates (PEM).
fn certificate(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let bytes = std::fs::read(path)
        .map_err(|e| RegistryError::host(&format!("read {}", path.display()), &e))?;
    let found = reqwest::Certificate::from_pem_bundle(&bytes);
    match found.is_ok_and(|all| !all.is_empty()) {
        true => Ok(bytes),
        false => Err(RegistryError::new(
            format!("{} holds no certificate", path.display()),
            "--ca takes a file that begins with -----BEGIN CERTIFICATE-----",
        )),
    }
}

/// Where a layer is put aside on its way out.
pub fn aside() -> PathBuf {
    spool()
}
