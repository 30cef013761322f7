//! Lists that cannot be read, that are somebody else's, and that are missing.

use super::super::make::issuer;
use super::super::register::{Issued, add};
use super::super::{CA_CERT, REVOKED, make, make_host, revoke, stamp};
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, SerialNumber,
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

fn authority() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    make(dir.path(), &["localhost".to_owned()]).expect("made");
    make_host(dir.path(), "a.test").expect("a host's");
    dir
}

fn taken(dir: &Path) -> Result<Arc<Taken>, TlsError> {
    Taken::new(&dir.join(CA_CERT), &dir.join(REVOKED), true)
}

fn chain(cert: &Path) -> Vec<CertificateDer<'static>> {
    super::super::certificates(cert).expect("a certificate")
}

/// An authority that is not of `init-tls`, and its list of nothing.
fn another() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "somebody else");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).expect("signed").pem();
    let now = SystemTime::now();
    let list = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + DAY).into(),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::new(params, key)).expect("signed");
    (cert, list.pem().expect("a list"))
}

#[test]
fn a_list_that_could_not_be_read_is_tried_again() {
    let dir = authority();
    let dir = dir.path();
    let taken = taken(dir).expect("a server's");
    let a = chain(&dir.join("host-a.test.pem"));
    revoke(dir, "a.test").expect("revoked");
    let now = stamp(&taken.list);
    let denied = || unread(&taken.list, std::io::ErrorKind::PermissionDenied.into());
    {
        let mut state = taken.state.lock();
        taken.take(&mut state, Ok(now), || Err(denied()));
        assert!(state.unread && state.lists == 0);
        let e = std::io::ErrorKind::PermissionDenied.into();
        taken.take(&mut state, Err(e), || panic!("nothing to read"));
        assert!(state.unread && state.lists == 0);
    }
    // The file is as it was then.
    let mut seen = 0;
    assert!(taken.revoked_since(&mut seen, &a, UnixTime::now()));
    let state = taken.state.lock();
    assert!(!state.unread && state.seen == now && seen == 1);
}

#[test]
fn one_list_of_each_authority_and_of_no_other() {
    let dir = authority();
    let dir = dir.path();
    let list = dir.join(REVOKED);
    let a = chain(&dir.join("host-a.test.pem"));
    revoke(dir, "a.test").expect("revoked");
    let own = std::fs::read_to_string(&list).expect("read");
    let running = taken(dir).expect("a server's");
    let is_out = |by: &Taken| {
        let found = by.verify_client_cert(&a[0], &[], UnixTime::now());
        matches!(
            found,
            Err(Error::InvalidCertificate(CertificateError::Revoked))
        )
    };
    let out = || is_out(&running);
    assert!(out());
    let (cert, theirs) = another();
    for text in [
        theirs.clone(),
        format!("{own}{theirs}"),
        format!("{own}{own}"),
    ] {
        std::fs::write(&list, text).expect("written");
        assert!(out());
        let e = taken(dir).expect_err("refused");
        assert!(matches!(e, TlsError::List { .. }) && e.hint().is_some());
    }
    // A second authority has its own list.
    let ca = std::fs::read_to_string(dir.join(CA_CERT)).expect("read");
    std::fs::write(dir.join(CA_CERT), format!("{ca}{cert}")).expect("written");
    std::fs::write(&list, format!("{theirs}{own}")).expect("written");
    assert!(is_out(&taken(dir).expect("a server's")));
}

#[test]
fn a_connection_that_outlived_its_certificate_ends_when_that_is_revoked() {
    let dir = authority();
    let dir = dir.path();
    let taken = taken(dir).expect("a server's");
    let now = SystemTime::now();
    let mut params = CertificateParams::new(vec!["old.test".to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(&[0x41; 16]));
    (params.not_before, params.not_after) = ((now - 3 * DAY).into(), (now - DAY).into());
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, &issuer(dir).expect("the authority"));
    let old = [cert.expect("signed").der().clone()];
    let one = Issued {
        name: "old.test".into(),
        serial: hex::encode([0x41; 16]),
        until: None,
        revoked: None,
    };
    add(dir, one).expect("added");
    let good = UnixTime::since_unix_epoch(
        (now - 2 * DAY)
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970"),
    );
    let mut seen = 0;
    revoke(dir, "a.test").expect("revoked");
    assert!(!taken.revoked_since(&mut seen, &old, good));
    revoke(dir, "old.test").expect("revoked");
    assert!(taken.revoked_since(&mut seen, &old, good));
    assert_eq!(seen, 2);
}

#[test]
fn no_server_starts_where_a_list_is_missing() {
    let dir = authority();
    let dir = dir.path();
    taken(dir).expect("nothing is revoked");
    revoke(dir, "a.test").expect("revoked");
    taken(dir).expect("the list is there");
    std::fs::remove_file(dir.join(REVOKED)).expect("removed");
    let e = taken(dir).expect_err("refused");
    assert!(
        matches!(&e, TlsError::ListGone { name, .. } if name == "a.test"),
        "{e}"
    );
    assert!(e.hint().expect("a hint").contains("revoke-cert --dir"));
    assert!(revoke(dir, "a.test").is_ok() && taken(dir).is_ok());
    // What cannot be told is no "not there".
    let odd = dir.join(CA_CERT).join(REVOKED);
    let e = Taken::new(&dir.join(CA_CERT), &odd, true).expect_err("refused");
    assert!(matches!(e, TlsError::Read { .. }), "{e}");
}
