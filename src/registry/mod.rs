//! Registries of images (OCI distribution). The command that wants an image speaks to them, never the
//! server: what comes goes over the control socket as any archive does.

mod auth;
mod blobs;
mod error;
mod name;
mod pull;
mod push;

pub use error::RegistryError;
pub use name::{Name, is_image};

use crate::image::source::spool;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a registry may say nothing, in seconds.
pub const TIMEOUT: u64 = 30;
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
    auth: RegistryAuth,
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
        let plain = options.plain_http || name.is_loopback();
        let variable = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok());
        let proxy = |names| variable(names).filter(|_| !name.is_loopback());
        let config = ClientConfig {
            protocol: match plain {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            use_monolithic_push: true,
            extra_root_certificates: match &options.ca {
                Some(path) => vec![Certificate {
                    encoding: CertificateEncoding::Pem,
                    data: std::fs::read(path).map_err(|e| {
                        RegistryError::host(&format!("read {}", path.display()), &e)
                    })?,
                }],
                None => Vec::new(),
            },
            platform_resolver: None,
            read_timeout: Some(Duration::from_secs(options.timeout)),
            connect_timeout: Some(CONNECT.min(Duration::from_secs(options.timeout))),
            user_agent: concat!("pocker/", env!("CARGO_PKG_VERSION")),
            https_proxy: proxy(["https_proxy", "HTTPS_PROXY"]),
            http_proxy: proxy(["http_proxy", "HTTP_PROXY"]),
            no_proxy: variable(["no_proxy", "NO_PROXY"]),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|e| name.failed(options.timeout, e))?;
        let auth = match auth::find(name)? {
            Some((user, password)) => RegistryAuth::Basic(user, password),
            None => RegistryAuth::Anonymous,
        };
        let reference = name.reference().clone();
        let registry = reference.resolve_registry().to_owned();
        runtime.block_on(client.store_auth_if_needed(&registry, &auth));
        Ok(Registry {
            runtime: Arc::new(runtime),
            client,
            auth,
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

/// Where a layer is put aside on its way out.
pub fn aside() -> PathBuf {
    spool()
}
