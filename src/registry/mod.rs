//! Registries of images (OCI distribution). The command that wants an image speaks to them, never the
//! server: what comes goes over the control socket as any archive does.

mod auth;
mod blobs;
mod error;
mod get;
mod name;
mod pull;
mod push;
#[cfg(test)]
mod tests;

pub use error::RegistryError;
pub use name::{Name, is_image};

use crate::image::source::spool;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a registry may say nothing, in seconds.
pub const TIMEOUT: u64 = 30;
const AGENT: &str = concat!("pocker/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(10);

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
    client: Client,
    getter: get::Shared,
    reference: Reference,
    name: Name,
    timeout: u64,
}

impl Registry {
    pub fn open(name: &Name, options: &Options) -> Result<Registry, RegistryError> {
        // Where one is installed already, that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| RegistryError::host("start a thread for the registry", &e))?;
        // A certificate of its own is for one with TLS.
        let plain = options.plain_http || name.is_loopback() && options.ca.is_none();
        let variable = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok());
        let proxy = |names| variable(names).filter(|_| !name.is_loopback());
        let ca = options.ca.as_deref().map(certificate).transpose()?;
        let silence = Duration::from_secs(options.timeout);
        let config = ClientConfig {
            protocol: match plain {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            use_monolithic_push: true,
            extra_root_certificates: ca
                .iter()
                .map(|data| Certificate {
                    encoding: CertificateEncoding::Pem,
                    data: data.clone(),
                })
                .collect(),
            platform_resolver: None,
            read_timeout: Some(silence),
            connect_timeout: Some(CONNECT.min(silence)),
            user_agent: AGENT,
            https_proxy: proxy(["https_proxy", "HTTPS_PROXY"]),
            http_proxy: proxy(["http_proxy", "HTTP_PROXY"]),
            no_proxy: variable(["no_proxy", "NO_PROXY"]),
            ..ClientConfig::default()
        };
        let http = http(&config, ca.as_deref())
            .map_err(|e| name.failed(options.timeout, OciDistributionError::RequestError(e)))?;
        let client = Client::try_from(config).map_err(|e| name.failed(options.timeout, e))?;
        let auth = match auth::find(name)? {
            Some((user, password)) => RegistryAuth::Basic(user, password),
            None => RegistryAuth::Anonymous,
        };
        let reference = name.reference().clone();
        let registry = reference.resolve_registry().to_owned();
        runtime.block_on(client.store_auth_if_needed(&registry, &auth));
        let getter = get::Getter {
            http,
            client: client.clone(),
            auth,
            reference: reference.clone(),
            plain,
            name: name.clone(),
            timeout: options.timeout,
            token: Default::default(),
        };
        Ok(Registry {
            runtime: Arc::new(runtime),
            client,
            getter: Arc::new(getter),
            reference,
            name: name.clone(),
            timeout: options.timeout,
        })
    }

    fn call<T>(
        &self,
        call: impl Future<Output = oci_client::errors::Result<T>>,
    ) -> Result<T, RegistryError> {
        let done = self.runtime.block_on(call);
        done.map_err(|e| self.name.failed(self.timeout, e))
    }
}

/// A client with what the library's has of the settings.
fn http(config: &ClientConfig, ca: Option<&[u8]>) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().user_agent(config.user_agent);
    if let Some(pem) = ca {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    if let Some(silence) = config.read_timeout {
        builder = builder.read_timeout(silence);
    }
    if let Some(connect) = config.connect_timeout {
        builder = builder.connect_timeout(connect);
    }
    let none = || {
        let hosts = config.no_proxy.as_deref();
        hosts.and_then(reqwest::NoProxy::from_string)
    };
    if let Some(proxy) = &config.https_proxy {
        builder = builder.proxy(reqwest::Proxy::https(proxy)?.no_proxy(none()));
    }
    if let Some(proxy) = &config.http_proxy {
        builder = builder.proxy(reqwest::Proxy::http(proxy)?.no_proxy(none()));
    }
    builder.build()
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
