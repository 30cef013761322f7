//! `pocker serve init-tls`, `certs` and `revoke-cert`: an authority of one's own, and what it makes for whom.

use super::args::{Certs, InitTls, RevokeCert, ServeCommand};
use super::error::CliError;
use super::{defaults, open, text};
use crate::tls::{self, Issued, TlsError};
use std::fmt::Write as _;
use std::path::PathBuf;

pub fn run(command: &ServeCommand) -> Result<(), CliError> {
    open::must_be_root()?;
    match command {
        ServeCommand::InitTls(args) => init_tls(args),
        ServeCommand::Certs(args) => list(args),
        ServeCommand::RevokeCert(args) => revoke(args),
    }
}

fn dir(named: &Option<PathBuf>) -> PathBuf {
    named.clone().unwrap_or(defaults::TLS_DIR.into())
}

fn fail(what: &str) -> impl Fn(TlsError) -> CliError {
    move |e| CliError {
        hint: e.hint(),
        ..CliError::from_error(what, &e)
    }
}

fn init_tls(args: &InitTls) -> Result<(), CliError> {
    let dir = dir(&args.dir);
    let fail = fail("cannot make what TLS needs");
    if let Some(host) = &args.host {
        let made = tls::make_host(&dir, host).map_err(fail)?;
        return text::out(&format!(
            "certificate  {}, for {host}, good for {} days: its {}\n\
             key          {}: its {}, and nobody else's\n",
            made.cert.display(),
            made.days,
            defaults::REMOTE_CERT,
            made.key.display(),
            defaults::REMOTE_KEY,
        ));
    }
    let made = tls::make(&dir, &args.names).map_err(fail)?;
    let (ca, cert) = (made.ca.display(), made.cert.display());
    let again = if made.again { ", as it was" } else { "" };
    let old = made.old.iter().map(|path| {
        let path = path.display();
        format!("of another   {path}: what the authority that was here before made and revoked\n")
    });
    text::out(&format!(
        "authority    {ca}{again}: give it to the hosts that are to use this server\n\
         certificate  {cert}, for {}, good for {} days\n{}",
        args.names.join(", "),
        made.days,
        old.collect::<String>(),
    ))
}

fn list(args: &Certs) -> Result<(), CliError> {
    let dir = dir(&args.dir);
    let fail = fail("cannot list certificates");
    let all = tls::issued(&dir).map_err(&fail)?;
    if let Some(name) = tls::unlisted(&dir).map_err(&fail)? {
        let (list, dir) = (dir.join(tls::REVOKED), dir.display());
        eprintln!(
            "warning: {} is not there, and no server starts without it: `pocker serve revoke-cert --dir {dir} {name}` makes it again",
            list.display(),
        );
    }
    text::out(&match args.json {
        true => text::json(&all)?,
        false => table(&all, crate::daemon::clock::now().secs),
    })
}

fn revoke(args: &RevokeCert) -> Result<(), CliError> {
    let dir = dir(&args.dir);
    let revoked = tls::revoke(&dir, &args.name);
    let (found, new) = revoked.map_err(fail("cannot revoke a certificate"))?;
    let what = match found {
        1 => "its certificate is",
        _ => "its certificates are",
    };
    let before = if new == 0 { ", as before" } else { "" };
    text::out(&format!(
        "{}: {what} revoked{before}, and a server with {} beside its certificate takes none of them\n",
        args.name,
        dir.join(tls::REVOKED).display(),
    ))
}

fn table(all: &[Issued], now: i64) -> String {
    let mut out = String::new();
    if all.is_empty() {
        return out;
    }
    let width = all.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let width = width.max(4);
    let _ = writeln!(out, "{:width$}  {:>14}  NUMBER", "HOST", "GOOD");
    for one in all {
        let good = match (one.revoked, one.until.map(|until| until - now)) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(left)) if left <= 0 => "expired".to_owned(),
            (None, Some(left)) => format!("for {}", text::age(left)),
            (None, None) => "?".to_owned(),
        };
        let _ = writeln!(out, "{:width$}  {good:>14}  {}", one.name, one.serial);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_a_table() {
        let one = |name: &str, serial: &str, until, revoked| Issued {
            name: name.into(),
            serial: serial.into(),
            until,
            revoked,
        };
        let all = [
            one("web1.test", "4a01", Some(1000 + 20 * 86_400), None),
            one("web2.test", "4a02", Some(900), None),
            one("web3.test", "4a03", Some(9000), Some(950)),
            one("old", "4a04", None, None),
        ];
        insta::assert_snapshot!(table(&all, 1000), @r"
        HOST                 GOOD  NUMBER
        web1.test        for 20 d  4a01
        web2.test         expired  4a02
        web3.test         revoked  4a03
        old                     ?  4a04
        ");
        assert_eq!(table(&[], 0), "");
    }
}
