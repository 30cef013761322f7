//! What goes wrong with certificates and keys.

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is no PEM file of ours: {why}")]
    Pem { path: String, why: String },
    #[error("{path} can be read by others than its owner")]
    Open { path: String },
    #[error("cannot use {what}")]
    Config {
        what: String,
        #[source]
        source: rustls::Error,
    },
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("there is no authority beside {0} whose certificates hosts could show")]
    NoAuthority(String),
    #[error("there is no certificate authority in {0}")]
    NoCa(String),
    #[error("{0:?} is neither a name nor an address of a host")]
    Name(String),
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TlsError::Read { .. } | TlsError::Pem { .. } => Some(
                "`pocker serve init-tls HOST` makes a certificate authority and what a server needs"
                    .into(),
            ),
            TlsError::Open { path } => Some(format!("chmod 600 {path}")),
            TlsError::Config { .. } => {
                Some("see that the certificate and the key belong together".into())
            }
            TlsError::Name(_) => {
                Some("give the names and addresses by which hosts reach this server".into())
            }
            TlsError::NoAuthority(_) => Some(
                "put its ca.pem there, as `pocker serve init-tls` does; or leave it at --rpc-tls require".into(),
            ),
            TlsError::NoCa(_) => {
                Some("make it first, with the server's certificate: `pocker serve init-tls HOST`".into())
            }
            TlsError::Write { .. } | TlsError::Make(_) => None,
        }
    }
}
