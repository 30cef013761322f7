//! TLS between hosts: certificates read, made, and what each side asks of the other.

mod error;
mod make;
mod register;
mod revoked;
mod rpc;

pub use error::TlsError;
pub use make::{Made, MadeHost, make, make_host};
pub use register::{Issued, issued, revoke, unlisted};
pub use rpc::{RpcServer, rpc_client, rpc_server};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Largest file of certificates or keys that is read.
const PEM_MAX: u64 = 1 << 20;

/// Names in the folder that `make` fills.
pub const CA_CERT: &str = "ca.pem";
pub const SERVER_CERT: &str = "server.pem";
pub const SERVER_KEY: &str = "server.key";
/// Beside the authority: which of its certificates are good no more (a CRL).
pub const REVOKED: &str = "revoked.pem";

/// Tells one state of a file from another; none where there is no file.
type Stamp = Option<(u64, [(i64, i64); 2], u64)>;

fn stamp(path: &Path) -> Stamp {
    stamped(path).ok().flatten()
}

/// The same, and why it cannot be told.
fn stamped(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // The second of the times is nobody's to set.
    let times = [
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    ];
    Ok(Some((meta.ino(), times, meta.size())))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let fail = |source| TlsError::Read {
        path: path.display().to_string(),
        source,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut file = file.take(PEM_MAX + 1);
    file.read_to_end(&mut bytes).map_err(fail)?;
    match bytes.len() as u64 > PEM_MAX {
        true => Err(TlsError::Large {
            path: path.display().to_string(),
            max: PEM_MAX,
        }),
        false => Ok(bytes),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let odd = |why: String| TlsError::Pem {
        path: path.display().to_string(),
        why,
    };
    let bytes = read(path)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| odd(e.to_string()))?;
    match all.is_empty() {
        true => Err(odd("it has no certificate".to_owned())),
        false => Ok(all),
    }
}

/// A file that only its owner may read: anybody who has a key is the server.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    use std::os::unix::fs::MetadataExt;
    let shown = || path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|source| TlsError::Read {
        path: shown(),
        source,
    })?;
    if meta.mode() & 0o077 != 0 {
        return Err(TlsError::Open { path: shown() });
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|e| TlsError::Pem {
        path: shown(),
        why: e.to_string(),
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a server shows. Nothing it is sent is taken before the handshake is over (no early data),
/// so that a stream that was recorded is of no use to anybody.
pub fn server(cert: &Path, keyfile: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (certs, key) = (certificates(cert)?, key(keyfile)?);
    let both = || format!("{} and {}", cert.display(), keyfile.display());
    let odd = |source| TlsError::Config {
        what: both(),
        source,
    };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(odd)?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(odd)?;
    Ok(Arc::new(config))
}

/// Whom a client believes: who has a certificate of one of these authorities, for the name it asks for.
pub fn client(ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = authorities(ca)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config {
            what: ca.display().to_string(),
            source,
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn authorities(ca: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(ca)? {
        roots.add(cert).map_err(|source| TlsError::Config {
            what: ca.display().to_string(),
            source,
        })?;
    }
    Ok(roots)
}
