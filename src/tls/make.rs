//! A certificate authority of one's own, and a server's certificate.

use super::register::{self, Issued};
use super::{CA_CERT, SERVER_CERT, SERVER_KEY, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::ServerName;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(super) const CA_KEY: &str = "ca.key";
/// Bytes of a certificate's number; RFC 5280 has 20 at most.
const SERIAL: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);
const CA_DAYS: u32 = 3650;
const SERVER_DAYS: u32 = 825;
/// Keys for RPC over TLS (RFC 9289): id-kp-rpcTLSClient and id-kp-rpcTLSServer.
const RPC_CLIENT: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 33];
const RPC_SERVER: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 34];

/// What was made, and where.
pub struct Made {
    /// What other hosts believe: no secret.
    pub ca: PathBuf,
    pub cert: PathBuf,
    /// The authority was there already.
    pub again: bool,
    /// What an authority that was there before had left, where it is now.
    pub old: Vec<PathBuf>,
    /// Days for which the server's certificate is good.
    pub days: u32,
}

/// What a host shows.
pub struct MadeHost {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub days: u32,
}

fn valid(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    // Clocks differ a little.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
}

/// The same for the same key: a later certificate of it needs no other authority.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "pocker certificate authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Makes an authority in `dir` unless it is there, and a certificate for these names and addresses in
/// place of the server's last one.
pub fn make(dir: &Path, names: &[String]) -> Result<Made, TlsError> {
    for name in names {
        ServerName::try_from(name.as_str()).map_err(|_| TlsError::Name(name.clone()))?;
    }
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|source| TlsError::Write {
        path: dir.display().to_string(),
        source,
    })?;
    let (ca, ca_key) = (dir.join(CA_CERT), dir.join(CA_KEY));
    let again = ca.exists() && ca_key.exists();
    let key = match again {
        true => {
            let text = super::read(&ca_key)?;
            KeyPair::from_pem(&String::from_utf8_lossy(&text))?
        }
        false => KeyPair::generate()?,
    };
    let mut params = authority();
    valid(&mut params, CA_DAYS);
    let mut old = Vec::new();
    if !again {
        old = register::put_away(dir)?;
        let cert = params.self_signed(&key)?;
        write(&ca_key, &key.serialize_pem(), 0o600)?;
        write(&ca, &cert.pem(), 0o644)?;
    }
    let issuer = Issuer::new(params, key);
    let at = dir.join(SERVER_CERT);
    let uses = [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::Other(RPC_SERVER.to_vec()),
    ];
    sign(&issuer, wanted(names, uses)?, (&at, &dir.join(SERVER_KEY)))?;
    Ok(Made {
        ca,
        cert: at,
        again,
        old,
        days: SERVER_DAYS,
    })
}

/// Makes what a host shows to the server, of the authority in `dir`.
pub fn make_host(dir: &Path, name: &str) -> Result<MadeHost, TlsError> {
    ServerName::try_from(name).map_err(|_| TlsError::Name(name.to_owned()))?;
    let issuer = issuer(dir)?;
    let file = |what: &str| dir.join(format!("host-{name}.{what}"));
    let made = MadeHost {
        cert: file("pem"),
        key: file("key"),
        days: SERVER_DAYS,
    };
    let uses = [
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::Other(RPC_CLIENT.to_vec()),
    ];
    let names = [name.to_owned()];
    let (own, params) = wanted(&names, uses)?;
    let until = params.not_after.unix_timestamp();
    let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes);
    // Before it is there: one that is not known could not be revoked.
    register::add(
        dir,
        Issued {
            name: name.to_owned(),
            serial: hex::encode(serial.unwrap_or_default()),
            until: Some(until),
            revoked: None,
        },
    )?;
    sign(&issuer, (own, params), (&made.cert, &made.key))?;
    Ok(made)
}

/// The authority in `dir`, to sign with.
pub(super) fn issuer(dir: &Path) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let ca_key = dir.join(CA_KEY);
    if !ca_key.exists() {
        return Err(TlsError::NoCa(dir.display().to_string()));
    }
    let text = super::read(&ca_key)?;
    let key = KeyPair::from_pem(&String::from_utf8_lossy(&text))?;
    Ok(Issuer::new(authority(), key))
}

fn wanted(
    names: &[String],
    uses: [ExtendedKeyUsagePurpose; 2],
) -> Result<(KeyPair, CertificateParams), TlsError> {
    let own = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let first = names.first().map_or("pocker", String::as_str);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, first);
    params.extended_key_usages = uses.into();
    params.use_authority_key_identifier_extension = true;
    let mut serial = [0; SERIAL];
    getrandom::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and of as many bytes whatever was drawn.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    valid(&mut params, SERVER_DAYS);
    Ok((own, params))
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    (own, params): (KeyPair, CertificateParams),
    (cert, key): (&Path, &Path),
) -> Result<(), TlsError> {
    let signed = params.signed_by(&own, issuer)?;
    write(key, &own.serialize_pem(), 0o600)?;
    write(cert, &signed.pem(), 0o644)
}

/// Whole or not at all, and never to be read by others for a moment.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let fail = |source| TlsError::Write {
        path: path.display().to_string(),
        source,
    };
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    std::fs::rename(&new, path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_second_certificate_is_of_the_same_authority_and_keys_are_their_owners() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("tls");
        let names = ["store.example".to_owned(), "192.0.2.1".to_owned()];
        let first = make(&dir, &names).expect("made");
        let ca = std::fs::read(&first.ca).expect("read");
        let second = make(&dir, &["::1".to_owned()]).expect("made again");
        assert!(!first.again && second.again);
        assert_eq!(std::fs::read(&second.ca).expect("read"), ca);
        let mode = |name: &str| std::fs::metadata(dir.join(name)).expect(name).mode() & 0o777;
        assert_eq!(
            (mode(CA_KEY), mode(SERVER_KEY), mode(".")),
            (0o600, 0o600, 0o700)
        );
        super::super::server(&second.cert, &dir.join(SERVER_KEY)).expect("a server's");
        super::super::client(&second.ca).expect("a client's");
        assert!(matches!(
            make(&dir, &["not a name".to_owned()]),
            Err(TlsError::Name(_))
        ));
    }

    #[test]
    fn what_another_authority_revoked_is_put_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let names = ["localhost".to_owned()];
        assert!(make(dir, &names).expect("made").old.is_empty());
        make_host(dir, "a.test").expect("a host's");
        register::revoke(dir, "a.test").expect("revoked");
        assert!(make(dir, &names).expect("again").old.is_empty());
        std::fs::remove_file(dir.join(CA_KEY)).expect("removed");
        let made = make(dir, &names).expect("another");
        let old = ["issued.old", "revoked.pem.old"].map(|name| dir.join(name));
        assert!(!made.again && made.old == old, "{:?}", made.old);
        assert!(old.iter().all(|path| path.exists()));
        let all = register::issued(dir).expect("a list");
        assert!(all.iter().all(|one| one.revoked.is_none()), "{all:?}");
        assert_eq!(register::unlisted(dir).expect("read"), None);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let made = make(dir.path(), &["localhost".to_owned()]).expect("made");
        let key = dir.path().join(SERVER_KEY);
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).expect("chmod");
        let refused = super::super::server(&made.cert, &key).expect_err("refused");
        assert!(matches!(refused, TlsError::Open { .. }), "{refused}");
    }
}
