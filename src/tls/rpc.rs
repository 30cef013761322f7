//! TLS for NFS between hosts (RFC 9289): both sides of the handshake that `pocker-nfs` leaves to us.

mod shown;
#[cfg(test)]
mod tests;

use super::revoked::Taken;
use super::{Stamp, TlsError, authorities, certificates, key, provider, stamp};
use parking_lot::Mutex;
use pocker_nfs::secure::{Secure, Securing, Stream, refused};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{AlertDescription, ClientConfig, Error, ServerConfig};
use shown::Shown;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What both sides are to speak (RFC 9289).
const ALPN: &[u8] = b"sunrpc";
/// How much is read of who is turned away, so that it hears why.
const TURNED_AWAY: u64 = 64 << 10;
const HEARD: Duration = Duration::from_secs(5);

struct Accepts {
    acceptor: TlsAcceptor,
    /// Whose certificates are good, where there is an authority that says so.
    taken: Option<Arc<Taken>>,
}

impl Secure for Accepts {
    fn secure(&self, stream: TcpStream) -> Securing<'_> {
        Box::pin(async move {
            // A list that comes from here on is looked at again.
            let seen = self.taken.as_ref().map(|taken| taken.lists());
            let began = UnixTime::now();
            let stream = match self.acceptor.accept(stream).into_fallible().await {
                Ok(stream) => stream,
                Err((e, stream)) => {
                    turn_away(stream).await;
                    return Err(e);
                }
            };
            let shown = stream.get_ref().1.peer_certificates();
            let shown = shown.map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
            Ok(match (&self.taken, shown, seen) {
                (Some(by), Some(chain), Some(seen)) => {
                    Box::new(Shown::new(stream, by.clone(), chain, (seen, began)))
                        as Box<dyn Stream>
                }
                _ => Box::new(stream),
            })
        })
    }
}

/// A connection that is closed with something unread in it takes back the alert that was sent.
async fn turn_away(mut stream: TcpStream) {
    let read = async {
        let _ = stream.shutdown().await;
        let mut rest = stream.take(TURNED_AWAY);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(HEARD, read).await;
}

/// What a server needs. Whoever shows a certificate has to have a good one of `ca`, and all have to show one
/// where `mutual`. Sessions are not resumed: nothing of one connection is of use on another.
///
/// A client that names what it speaks has to name RPC; one that names nothing is taken, as Linux's names
/// nothing. It asked for TLS in RPC's own words before.
pub struct RpcServer<'a> {
    pub cert: &'a Path,
    pub key: &'a Path,
    pub ca: Option<&'a Path>,
    /// Which certificates of `ca` are good no more; it need not be there.
    pub revoked: &'a Path,
    pub mutual: bool,
}

pub fn rpc_server(files: RpcServer<'_>) -> Result<Arc<dyn Secure>, TlsError> {
    let RpcServer { cert, mutual, .. } = files;
    let odd = |source| TlsError::Config {
        what: cert.display().to_string(),
        source,
    };
    let (certs, key) = (certificates(cert)?, key(files.key)?);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(odd)?;
    let taken = match files.ca {
        None if mutual => return Err(TlsError::NoAuthority(cert.display().to_string())),
        None => None,
        Some(ca) => Some(Taken::new(ca, files.revoked, mutual)?),
    };
    let builder = match &taken {
        None => builder.with_no_client_auth(),
        Some(taken) => builder.with_client_cert_verifier(taken.clone()),
    };
    let mut config = builder.with_single_cert(certs, key).map_err(odd)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(Accepts {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        taken,
    }))
}

/// What a host believes and shows.
struct Files {
    ca: PathBuf,
    shown: Option<(PathBuf, PathBuf)>,
}

impl Files {
    fn stamps(&self) -> [Stamp; 3] {
        let shown = self.shown.as_ref();
        [
            stamp(&self.ca),
            shown.and_then(|(cert, _)| stamp(cert)),
            shown.and_then(|(_, key)| stamp(key)),
        ]
    }

    fn connector(&self) -> Result<TlsConnector, TlsError> {
        let odd = |what: &Path| {
            let what = what.display().to_string();
            move |source| TlsError::Config { what, source }
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(odd(&self.ca))?
            .with_root_certificates(authorities(&self.ca)?);
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some((cert, keyfile)) => builder
                .with_client_auth_cert(certificates(cert)?, key(keyfile)?)
                .map_err(odd(cert))?,
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

struct Connects {
    files: Files,
    now: Mutex<([Stamp; 3], TlsConnector)>,
    name: ServerName<'static>,
    host: String,
}

impl Connects {
    /// By the files as they are: a mount may outlive its certificate, and takes the next one when that is there. What is
    /// half replaced or damaged is not.
    fn connector(&self) -> TlsConnector {
        let stamps = self.files.stamps();
        let mut now = self.now.lock();
        if stamps != now.0
            && let Ok(connector) = self.files.connector()
        {
            *now = (stamps, connector);
        }
        now.1.clone()
    }
}

impl Secure for Connects {
    fn secure(&self, stream: TcpStream) -> Securing<'_> {
        Box::pin(async move {
            let stream = self.connector().connect(self.name.clone(), stream).await?;
            // Another server with the same certificate is not to be taken for this one.
            if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                return Err(refused(format!(
                    "what answers at {} does not say that it is RPC",
                    self.host
                )));
            }
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn judge(&self, error: io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        let host = &self.host;
        let Some(inner) = inner else {
            return error;
        };
        refused(match inner {
            Error::InvalidCertificate(why) => {
                format!("NFS at {host}: its certificate is not good: {why}")
            }
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                format!(
                    "{host} wants a certificate of this host (`pocker serve init-tls --host` there)"
                )
            }
            Error::AlertReceived(AlertDescription::CertificateRevoked) => {
                format!(
                    "{host} has revoked the certificate of this host (`pocker serve init-tls --host` there makes another)"
                )
            }
            Error::AlertReceived(alert) => {
                format!("{host} does not take this host for NFS over TLS: {alert:?}")
            }
            other => format!("no TLS for NFS with {host}: {other}"),
        })
    }
}

/// The side of a host that uses the store of `host`, with the certificate that it shows, if any.
pub fn rpc_client(
    host: &str,
    ca: &Path,
    shown: Option<(&Path, &Path)>,
) -> Result<Arc<dyn Secure>, TlsError> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| TlsError::Name(host.to_owned()))?;
    let files = Files {
        ca: ca.to_owned(),
        shown: shown.map(|(cert, key)| (cert.to_owned(), key.to_owned())),
    };
    let now = (files.stamps(), files.connector()?);
    Ok(Arc::new(Connects {
        files,
        now: Mutex::new(now),
        name,
        host: host.to_owned(),
    }))
}
