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
    #[error("the authority in {dir} made no certificate for a host {name:?}")]
    NoHost { dir: String, name: String },
    #[error("{path} is no list of revoked certificates: {why}")]
    List { path: String, why: String },
    #[error("{path} is not there, and host {name} has a certificate that was revoked")]
    ListGone {
        path: String,
        dir: String,
        name: String,
    },
    #[error("{path}: line {line} does not say which certificate was made for whom")]
    Register { path: String, line: usize },
    #[error("{path} has more than {max} bytes")]
    Large { path: String, max: u64 },
    #[error("{0} was not made here, and would lose what it says")]
    Foreign(String),
    #[error("{0:?} is neither a name nor an address of a host")]
    Name(String),
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TlsError::Read { path, source } if source.kind() != std::io::ErrorKind::NotFound => {
                Some(format!("see that {path} can be read by who runs this"))
            }
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
            TlsError::NoHost { dir, .. } => {
                Some(format!("`pocker serve certs --dir {dir}` lists those that it made"))
            }
            TlsError::List { path, .. } => Some(format!(
                "`pocker serve revoke-cert` makes it anew, of an authority of init-tls; one of your own has one list for each authority of ca.pem; where nothing is revoked, {path} need not be there"
            )),
            TlsError::ListGone { dir, name, .. } => Some(format!(
                "`pocker serve revoke-cert --dir {dir} {name}` makes it again, of all that were revoked, where the authority's key is"
            )),
            TlsError::Register { path, .. } => Some(format!(
                "mend the line (a number, until when, `-` or when it was revoked, a name), or have {path} from a backup"
            )),
            TlsError::Large { .. } => {
                Some("remove the lines of certificates that are over; `serve certs` shows which".into())
            }
            TlsError::Foreign(path) => Some(format!(
                "revoke where that list is made, and put the new one in place of {path}: a server that runs takes it"
            )),
            TlsError::Write { .. } | TlsError::Make(_) => None,
        }
    }
}
