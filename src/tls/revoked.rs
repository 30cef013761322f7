//! Whose certificates a server takes: those of its authority that are not on the list of revoked ones, which is
//! read again when it changes.

use super::{Stamp, TlsError, authorities, provider, stamp};
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

struct State {
    by: Arc<dyn ClientCertVerifier>,
    /// Of the file as it was last looked at, good or not.
    seen: Stamp,
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

/// The lists in a file: one for each authority that has one.
fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let odd = |why: String| TlsError::List {
        path: path.display().to_string(),
        why,
    };
    let bytes = super::read(path)?;
    let all = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| odd(e.to_string()))?;
    match all.is_empty() {
        true => Err(odd("it has no list (X509 CRL)".to_owned())),
        false => Ok(all),
    }
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
            .with_crls(lists(list)?)
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

impl Taken {
    /// A list that is not there yet is taken when it is.
    pub fn new(ca: &Path, list: &Path, mutual: bool) -> Result<Arc<Taken>, TlsError> {
        let roots = Arc::new(authorities(ca)?);
        let seen = stamp(list);
        let by = verifier(&roots, mutual, list, seen.is_some())?;
        Ok(Arc::new(Taken {
            hints: by.root_hint_subjects().to_vec(),
            roots,
            mutual,
            list: list.to_owned(),
            state: Mutex::new(State { by, seen, lists: 0 }),
        }))
    }

    /// By the list as it is now, and which one that is. One that is damaged or gone revokes what it did before.
    fn now(&self) -> (Arc<dyn ClientCertVerifier>, u64) {
        let seen = stamp(&self.list);
        let mut state = self.state.lock();
        if seen != state.seen {
            state.seen = seen;
            let path = self.list.display();
            match seen.map(|_| verifier(&self.roots, self.mutual, &self.list, true)) {
                Some(Ok(by)) => {
                    tracing::info!("{path} says which certificates of hosts are revoked");
                    state.by = by;
                    state.lists += 1;
                }
                Some(Err(e)) => tracing::error!("{e}: what was revoked before stays so"),
                None => tracing::warn!("{path} is gone: what was revoked before stays so"),
            }
        }
        (state.by.clone(), state.lists)
    }

    /// Which list it is.
    pub fn lists(&self) -> u64 {
        self.now().1
    }

    /// Whether this chain, which was good once, was revoked since `seen`, the list by which it was judged last.
    pub fn revoked_since(&self, seen: &mut u64, chain: &[CertificateDer<'_>]) -> bool {
        let (by, lists) = self.now();
        let Some((cert, above)) = chain.split_first().filter(|_| lists != *seen) else {
            return false;
        };
        *seen = lists;
        let found = by.verify_client_cert(cert, above, UnixTime::now());
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
        let by = self.state.lock().by.clone();
        by.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let by = self.state.lock().by.clone();
        by.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.state.lock().by.supported_verify_schemes()
    }
}
