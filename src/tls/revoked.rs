//! Whose certificates a server takes: those of its authority that are not on the list of revoked ones, which is
//! read again when it changes.

#[cfg(test)]
mod tests;

use super::{Stamp, TlsError, authorities, provider, register, stamped};
use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use webpki::{BorrowedCertRevocationList, CertRevocationList};

struct State {
    by: Arc<dyn ClientCertVerifier>,
    /// Of the file as it was last read, good or not.
    seen: Stamp,
    /// It was said that it cannot be read.
    unread: bool,
    /// How many lists there were.
    lists: u64,
}

pub struct Taken {
    roots: Arc<RootCertStore>,
    mutual: bool,
    list: PathBuf,
    hints: Vec<DistinguishedName>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Taken({})", self.list.display())
    }
}

/// The lists in a file: one for each of these authorities that has one. Of two only the first would count, and one
/// of somebody else would stand for none.
fn lists(
    path: &Path,
    roots: &RootCertStore,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let odd = |why: String| TlsError::List {
        path: path.display().to_string(),
        why,
    };
    let bytes = super::read(path)?;
    let all = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| odd(e.to_string()))?;
    if all.is_empty() {
        return Err(odd("it has no list (X509 CRL)".to_owned()));
    }
    let mut issuers: Vec<Vec<u8>> = Vec::new();
    for der in &all {
        let list = BorrowedCertRevocationList::from_der(der).map_err(|e| odd(e.to_string()))?;
        let list = CertRevocationList::from(list);
        let issuer = list.issuer();
        if !roots.roots.iter().any(|root| &*root.subject == issuer) {
            return Err(odd(
                "it has a list of another authority than those of ca.pem beside it".to_owned(),
            ));
        }
        if issuers.iter().any(|known| known == issuer) {
            return Err(odd(
                "it has two lists of one authority: one list for each authority".to_owned(),
            ));
        }
        issuers.push(issuer.to_vec());
    }
    Ok(all)
}

/// All have to show a certificate where `mutual`; what is shown has to be good in any case.
fn verifier(
    roots: &Arc<RootCertStore>,
    mutual: bool,
    list: &Path,
    there: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut who = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    if there {
        // An authority that has no list has revoked nothing.
        who = who
            .with_crls(lists(list, roots)?)
            .allow_unknown_revocation_status();
    }
    if !mutual {
        who = who.allow_unauthenticated();
    }
    who.build().map_err(|e| TlsError::List {
        path: list.display().to_string(),
        why: e.to_string(),
    })
}

fn unread(list: &Path, source: std::io::Error) -> TlsError {
    TlsError::Read {
        path: list.display().to_string(),
        source,
    }
}

/// No list is there: none may be missed.
fn missing(dir: &Path, list: &Path) -> Result<(), TlsError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    match register::unlisted(dir)? {
        None => Ok(()),
        Some(name) => Err(TlsError::ListGone {
            path: list.display().to_string(),
            dir: dir.display().to_string(),
            name,
        }),
    }
}

impl Taken {
    /// A list that is not there yet is taken when it is; one that was made has to be there.
    pub fn new(ca: &Path, list: &Path, mutual: bool) -> Result<Arc<Taken>, TlsError> {
        let roots = Arc::new(authorities(ca)?);
        let seen = stamped(list).map_err(|source| unread(list, source))?;
        if let Some(dir) = list.parent().filter(|_| seen.is_none()) {
            missing(dir, list)?;
        }
        let by = verifier(&roots, mutual, list, seen.is_some())?;
        Ok(Arc::new(Taken {
            hints: by.root_hint_subjects().to_vec(),
            roots,
            mutual,
            list: list.to_owned(),
            state: Mutex::new(State {
                by,
                seen,
                unread: false,
                lists: 0,
            }),
        }))
    }

    /// By the list as it is now, and which one that is. One that is damaged or gone revokes what it did before;
    /// one that cannot be read is tried again.
    fn now(&self) -> (Arc<dyn ClientCertVerifier>, u64) {
        let mut state = self.state.lock();
        self.look(&mut state);
        (state.by.clone(), state.lists)
    }

    fn look(&self, state: &mut State) {
        let read = || verifier(&self.roots, self.mutual, &self.list, true);
        self.take(state, stamped(&self.list), read);
    }

    fn take(
        &self,
        state: &mut State,
        stamp: std::io::Result<Stamp>,
        read: impl FnOnce() -> Result<Arc<dyn ClientCertVerifier>, TlsError>,
    ) {
        let path = self.list.display();
        let found = match stamp {
            Ok(seen) if seen == state.seen => {
                state.unread = false;
                return;
            }
            Ok(None) => Ok((None, None)),
            Ok(seen) => read().map_or_else(
                |e| match e {
                    TlsError::Read { .. } => Err(e),
                    e => {
                        tracing::error!("{e}: what was revoked before stays so");
                        Ok((seen, None))
                    }
                },
                |by| Ok((seen, Some(by))),
            ),
            Err(source) => Err(unread(&self.list, source)),
        };
        match found {
            Ok((seen, by)) => {
                (state.seen, state.unread) = (seen, false);
                if seen.is_none() {
                    tracing::warn!("{path} is gone: what was revoked before stays so");
                }
                if let Some(by) = by {
                    tracing::info!("{path} says which certificates of hosts are revoked");
                    state.by = by;
                    state.lists += 1;
                }
            }
            // Once, and not each second.
            Err(e) if !std::mem::replace(&mut state.unread, true) => {
                let why = std::error::Error::source(&e).map(ToString::to_string);
                let why = why.unwrap_or_default();
                tracing::error!("{e}: {why}; what was revoked before stays so until it can be");
            }
            Err(_) => {}
        }
    }

    /// By the list that was looked at last: signatures are the same by any.
    fn last(&self) -> Arc<dyn ClientCertVerifier> {
        self.state.lock().by.clone()
    }

    /// Which list it is.
    pub fn lists(&self) -> u64 {
        self.now().1
    }

    /// Whether this chain, which was good at that time, was revoked since `seen`, the list by which it was judged
    /// last. By that time, as one that is over by now would be found to be that and no more.
    pub fn revoked_since(
        &self,
        seen: &mut u64,
        chain: &[CertificateDer<'_>],
        good: UnixTime,
    ) -> bool {
        let (by, lists) = self.now();
        let Some((cert, above)) = chain.split_first().filter(|_| lists != *seen) else {
            return false;
        };
        *seen = lists;
        let found = by.verify_client_cert(cert, above, good);
        matches!(
            found,
            Err(Error::InvalidCertificate(CertificateError::Revoked))
        )
    }
}

impl ClientCertVerifier for Taken {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mutual
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.now().0.verify_client_cert(cert, above, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.last().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.last().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.last().supported_verify_schemes()
    }
}
