//! A server on another host: how it is called, whom to believe that it is, and what to show it.

use super::hosts::{self, Id, Lease, NAME_MAX};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What an address of another host's server begins with.
pub const SCHEME: &str = "pocker://";
/// How long one attempt to connect may take, and a handshake.
const ATTEMPT: Duration = Duration::from_secs(8);
/// How many of a name's addresses are tried.
const ADDRESSES: usize = 4;

/// What shows who asks. It is in no text that is made of this.
#[derive(Clone)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub host: String,
    pub port: u16,
}

impl Place {
    /// `pocker://HOST[:PORT]`, HOST being a name, an address, or an IPv6 address in brackets.
    pub fn parse(text: &str, port: u16) -> Option<Place> {
        let rest = text.strip_prefix(SCHEME)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, said) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match said {
            Some(text) => text.parse().ok().filter(|port| *port != 0)?,
            None => port,
        };
        ServerName::try_from(host).ok()?;
        Some(Place {
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{SCHEME}[{}]:{}", self.host, self.port),
            false => write!(f, "{SCHEME}{}:{}", self.host, self.port),
        }
    }
}

/// A server of another host, as one process of this one knows it.
#[derive(Clone, Debug)]
pub struct Remote {
    pub place: Place,
    /// Whom to believe.
    pub ca: PathBuf,
    pub tls: Arc<ClientConfig>,
    pub token: Token,
    /// This host and this process.
    pub lease: Lease,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Unreached {
    /// It may come back.
    Away(io::Error),
    /// It will not do, however often it is asked.
    Refused { message: String, hint: String },
}

impl Remote {
    /// A connection on which the server has shown who it is.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, Unreached> {
        let reached = tokio::time::timeout(ATTEMPT * 5, self.handshake()).await;
        reached.unwrap_or_else(|_| Err(Unreached::Away(io::ErrorKind::TimedOut.into())))
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, Unreached> {
        let Place { host, port } = &self.place;
        // By the system's own call, on this thread: who forks may have no other.
        let found = (host.as_str(), *port).to_socket_addrs();
        let mut reached = Err(io::ErrorKind::NotFound.into());
        for addr in found.map_err(Unreached::Away)?.take(ADDRESSES) {
            let stream = tokio::time::timeout(ATTEMPT, TcpStream::connect(addr)).await;
            reached = stream.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
            if reached.is_ok() {
                break;
            }
        }
        let stream = reached.map_err(Unreached::Away)?;
        pocker_nfs::client::notice_death(&stream);
        stream.set_nodelay(true).map_err(Unreached::Away)?;
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|e| Unreached::Away(io::Error::other(e)))?;
        let connected = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await;
        connected.map_err(|e| self.judge(e))
    }

    /// What only waiting mends is told from what it does not.
    fn judge(&self, error: io::Error) -> Unreached {
        use rustls::{AlertDescription, CertificateError, Error};
        let refused = |message: String, hint: String| Unreached::Refused { message, hint };
        let place = &self.place;
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        match inner {
            None => Unreached::Away(error),
            Some(Error::AlertReceived(AlertDescription::AccessDenied)) => refused(
                format!("the server at {place} does not serve this host's address"),
                "start it with --allow for this address too".into(),
            ),
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => refused(
                format!("the certificate of the server at {place} is not for {}", place.host),
                format!("call it by a name that its certificate has, or `pocker serve init-tls {}` there", place.host),
            ),
            Some(Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => refused(
                format!("the certificate of the server at {place} is not valid today"),
                "see both hosts' clocks; `pocker serve init-tls` there makes another".into(),
            ),
            Some(Error::InvalidCertificate(_)) => refused(
                format!(
                    "the server at {place} is not one that {} vouches for",
                    self.ca.display()
                ),
                "have the ca.pem that `pocker serve init-tls` made there in remote_ca or POCKER_REMOTE_CA".into(),
            ),
            Some(other) => refused(
                format!("what answers at {place} does not speak TLS as pocker does: {other}"),
                "HOST:PORT is the control API's, which is one more than that of --listen".into(),
            ),
        }
    }

    /// What each call says beside what it asks.
    pub fn put_headers(&self, headers: &mut HeaderMap) {
        let mut put = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put(hosts::VERSION, env!("CARGO_PKG_VERSION"));
        put(hosts::HOST, &self.lease.host.to_string());
        put(hosts::LEASE, &self.lease.id.to_string());
        put(hosts::HOST_NAME, &host_name());
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", self.token.0)) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    /// Whether who answered is of this version.
    pub fn check_version(&self, headers: &HeaderMap) -> Result<(), Unreached> {
        let own = env!("CARGO_PKG_VERSION");
        let theirs = headers.get(hosts::VERSION).and_then(|v| v.to_str().ok());
        match theirs {
            Some(theirs) if theirs == own => Ok(()),
            theirs => Err(Unreached::Refused {
                message: format!(
                    "the server at {} is {}, and this command pocker {own}",
                    self.place,
                    match theirs {
                        Some(theirs) => format!("pocker {}", &theirs[..theirs.len().min(40)]),
                        None => "none of pocker's, or an older one".to_owned(),
                    }
                ),
                hint: "have the same version on all hosts: `pocker version`".into(),
            }),
        }
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().chars().take(NAME_MAX).collect()
}

/// This host's number, kept in `file`; drawn where there is none yet. Nobody else is told: by it a
/// server knows what is whose.
pub fn host_id(file: &std::path::Path) -> io::Result<Id> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    for _ in 0..3 {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let odd = || {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        "32 hexadecimal digits are a host's number",
                    )
                };
                return text.trim().parse().map_err(|_| odd());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let id = Id::draw().map_err(|e| io::Error::other(e.to_string()))?;
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        // Two commands may be the first: one of them names the host.
        let new = file.with_extension(Id::short(id));
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?
            .write_all(format!("{id}\n").as_bytes())?;
        let linked = std::fs::hard_link(&new, file);
        let _ = std::fs::remove_file(&new);
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_names_and_addresses_with_or_without_a_port() {
        let text = |t: &str| Place::parse(t, 2050).map(|p| p.to_string());
        assert_eq!(text("pocker://store"), Some("pocker://store:2050".into()));
        assert_eq!(
            text("pocker://10.0.0.1:9/"),
            Some("pocker://10.0.0.1:9".into())
        );
        assert_eq!(text("pocker://[::1]"), Some("pocker://[::1]:2050".into()));
        assert_eq!(text("pocker://[::1]:7"), Some("pocker://[::1]:7".into()));
        for odd in [
            "store",
            "pocker://",
            "pocker://a b",
            "pocker://a:0",
            "pocker://a:x",
            "http://a",
            "pocker://u@a",
        ] {
            assert_eq!(text(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_host_has_one_number() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("var/host-id");
        let id = host_id(&file).expect("drawn");
        assert_eq!(host_id(&file).expect("read"), id);
        std::fs::write(&file, "x").expect("write");
        assert!(host_id(&file).is_err());
    }

    #[test]
    fn a_token_is_in_no_text() {
        assert_eq!(format!("{:?}", Token("secret".into())), "Token(…)");
    }
}
