//! What an authority made for hosts, and what of it is good no more: a register beside it, of which the list
//! that servers read (a CRL, RFC 5280) is made anew each time.

use super::make::{CA_KEY, issuer, write};
use super::{REVOKED, TlsError, certificates};
use nix::fcntl::{Flock, FlockArg};
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::ServerName;
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const REGISTER: &str = "issued";
/// When the next list is due at the latest. Nobody is held to it: a list holds until there is another.
const NEXT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A host's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issued {
    pub name: String,
    /// Its number, in hexadecimal.
    pub serial: String,
    /// Seconds since 1970; unknown of one that was made before there was a register.
    pub until: Option<i64>,
    pub revoked: Option<i64>,
}

fn parse(line: &str) -> Option<Issued> {
    let mut words = line.split(' ');
    let serial = words.next().filter(|serial| hex::decode(serial).is_ok())?;
    let second = |word: &str| match word {
        "-" => Some(None),
        word => word.parse().ok().map(Some),
    };
    let (until, revoked) = (second(words.next()?)?, second(words.next()?)?);
    let name = words.next().filter(|name| !name.is_empty())?;
    words.next().is_none().then(|| Issued {
        name: name.to_owned(),
        serial: serial.to_owned(),
        until,
        revoked,
    })
}

fn read(dir: &Path) -> Result<Vec<Issued>, TlsError> {
    let path = dir.join(REGISTER);
    if !path.exists() {
        return match dir.join(REVOKED) {
            list if list.exists() => Err(TlsError::Foreign(list.display().to_string())),
            _ => Ok(Vec::new()),
        };
    }
    let text = super::read(&path)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().enumerate();
    let lines = lines.map(|(n, line)| {
        parse(line).ok_or_else(|| TlsError::Register {
            path: path.display().to_string(),
            line: n + 1,
        })
    });
    lines.collect()
}

fn keep(dir: &Path, all: &[Issued]) -> Result<(), TlsError> {
    let second = |at: Option<i64>| at.map_or("-".to_owned(), |at| at.to_string());
    let mut text = String::new();
    for one in all {
        let (until, revoked) = (second(one.until), second(one.revoked));
        let _ = writeln!(text, "{} {until} {revoked} {}", one.serial, one.name);
    }
    write(&dir.join(REGISTER), &text, 0o644)
}

/// One command at a time changes what the authority in `dir` says.
fn lock(dir: &Path) -> Result<Flock<File>, TlsError> {
    let path = dir.join(CA_KEY);
    if !path.exists() {
        return Err(TlsError::NoCa(dir.display().to_string()));
    }
    let fail = |source| TlsError::Read {
        path: path.display().to_string(),
        source,
    };
    let file = File::open(&path).map_err(fail)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| fail(e.into()))
}

pub(super) fn add(dir: &Path, one: Issued) -> Result<(), TlsError> {
    let _one = lock(dir)?;
    let mut all = issued(dir)?;
    all.push(one);
    keep(dir, &all)
}

/// Every certificate of a host that this authority made, as far as is known.
pub fn issued(dir: &Path) -> Result<Vec<Issued>, TlsError> {
    if !dir.join(CA_KEY).exists() {
        return Err(TlsError::NoCa(dir.display().to_string()));
    }
    let mut all = read(dir)?;
    // Those that were made before there was a register.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().and_then(OsStr::to_str);
        let name = name.and_then(|name| name.strip_prefix("host-")?.strip_suffix(".pem"));
        // Others are none that was made here, and a blank would break the register.
        let name = name.filter(|name| ServerName::try_from(*name).is_ok());
        let Some((name, serial)) = name.zip(serial(&path)) else {
            continue;
        };
        if !all.iter().any(|known| known.serial == serial) {
            all.push(Issued {
                name: name.to_owned(),
                serial,
                until: None,
                revoked: None,
            });
        }
    }
    all.sort_by(|a, b| (&a.name, a.until, &a.serial).cmp(&(&b.name, b.until, &b.serial)));
    Ok(all)
}

/// A host of which something was revoked, where the list that says so is not there.
pub fn unlisted(dir: &Path) -> Result<Option<String>, TlsError> {
    if dir.join(REVOKED).exists() {
        return Ok(None);
    }
    let all = read(dir)?;
    let revoked = all.into_iter().find(|one| one.revoked.is_some());
    Ok(revoked.map(|one| one.name))
}

/// What is known of the certificates of another authority is not this one's: where it was put.
pub(super) fn put_away(dir: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let mut all = Vec::new();
    for name in [REGISTER, REVOKED] {
        let (from, to) = (dir.join(name), dir.join(format!("{name}.old")));
        match std::fs::rename(&from, &to) {
            Ok(()) => all.push(to),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(TlsError::Write {
                    path: to.display().to_string(),
                    source,
                });
            }
        }
    }
    Ok(all)
}

fn serial(cert: &Path) -> Option<String> {
    let all = certificates(cert).ok()?;
    let cert = webpki::EndEntityCert::try_from(all.first()?).ok()?;
    Some(hex::encode(cert.serial()))
}

/// Takes back every certificate of that name: how many those are, and of how many it had not been done.
pub fn revoke(dir: &Path, name: &str) -> Result<(usize, usize), TlsError> {
    let _one = lock(dir)?;
    let mut all = issued(dir)?;
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    let (mut found, mut new) = (0, 0);
    for one in all.iter_mut().filter(|one| one.name == name) {
        found += 1;
        new += usize::from(one.revoked.is_none());
        one.revoked.get_or_insert(second);
    }
    if found == 0 {
        return Err(TlsError::NoHost {
            dir: dir.display().to_string(),
            name: name.chars().take(100).collect(),
        });
    }
    // First, so that no later list forgets one; the list is made each time, and so the same command mends
    // what one that was killed in between left.
    keep(dir, &all)?;
    let revoked = all.iter().filter_map(|one| {
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(one.revoked?).ok()?);
        Some(RevokedCertParams {
            serial_number: SerialNumber::from(hex::decode(&one.serial).ok()?),
            revocation_time: at.into(),
            reason_code: Some(RevocationReason::PrivilegeWithdrawn),
            invalidity_date: None,
        })
    });
    let number = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let list = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + NEXT).into(),
        crl_number: u64::try_from(number.as_millis()).unwrap_or(u64::MAX).into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer(dir)?)?;
    write(&dir.join(REVOKED), &list.pem()?, 0o644)?;
    Ok((found, new))
}

#[cfg(test)]
mod tests {
    use super::super::{make, make_host};
    use super::*;

    #[test]
    fn every_certificate_of_a_name_is_listed_and_taken_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert!(matches!(issued(dir), Err(TlsError::NoCa(_))));
        assert!(matches!(revoke(dir, "a.test"), Err(TlsError::NoCa(_))));
        make(dir, &["localhost".to_owned()]).expect("an authority");
        for name in ["a.test", "b.test", "a.test"] {
            make_host(dir, name).expect("a host's");
        }
        let names = || -> Vec<(String, bool)> {
            let all = issued(dir).expect("a list").into_iter();
            all.map(|one| (one.name, one.revoked.is_some())).collect()
        };
        let all = |a, b| [("a.test", a), ("a.test", a), ("b.test", b)].map(|(n, r)| (n.into(), r));
        assert_eq!(names(), all(false, false));
        assert_eq!(revoke(dir, "a.test").expect("revoked"), (2, 2));
        assert_eq!(names(), all(true, false));
        assert_eq!(revoke(dir, "a.test").expect("again"), (2, 0));
        let e = revoke(dir, "c.test").expect_err("unknown");
        assert!(matches!(e, TlsError::NoHost { .. }) && e.hint().is_some());
        // One from before there was a register has its file.
        std::fs::remove_file(dir.join(REVOKED)).expect("removed");
        std::fs::remove_file(dir.join(REGISTER)).expect("removed");
        assert_eq!(issued(dir).expect("a list").len(), 2);
        // A file that is called like no host is none.
        let odd = dir.join("host-a.test copy.pem");
        std::fs::rename(dir.join("host-a.test.pem"), odd).expect("renamed");
        assert_eq!(revoke(dir, "b.test").expect("revoked"), (1, 1));
        assert_eq!(names(), [("b.test".to_owned(), true)]);
    }

    #[test]
    fn what_was_revoked_is_not_forgotten_by_accident() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        make(dir, &["localhost".to_owned()]).expect("an authority");
        for name in ["a.test", "b.test"] {
            make_host(dir, name).expect("a host's");
        }
        revoke(dir, "a.test").expect("revoked");
        let register = std::fs::read(dir.join(REGISTER)).expect("read");
        for odd in ["zz 1 - a.test\n", "ab 1 a.test\n", "\n", "ab x - a.test\n"] {
            std::fs::write(dir.join(REGISTER), odd).expect("written");
            let e = revoke(dir, "b.test").expect_err(odd);
            assert!(matches!(e, TlsError::Register { line: 1, .. }), "{e}");
        }
        std::fs::remove_file(dir.join(REGISTER)).expect("removed");
        let e = revoke(dir, "b.test").expect_err("a list of others");
        assert!(matches!(e, TlsError::Foreign(_)) && e.hint().is_some());
        std::fs::write(dir.join(REGISTER), register).expect("written");
        assert_eq!(revoke(dir, "b.test").expect("revoked"), (1, 1));
    }
}
