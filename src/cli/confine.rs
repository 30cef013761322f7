//! The flags that say what a run may do.

use super::args::Confine;
use super::error::CliError;
use crate::control::api::{Graft, VolumeMount};
use crate::run::{Confinement, TmpfsError, env_file, parse_tmpfs};
use crate::sandbox::{Isolation, Privileges, UnknownCapability};
use std::io::Read;
use std::path::Path;

/// Linux takes 64 bytes, and old programs leave room for a NUL.
const MAX_HOSTNAME: usize = 63;

impl From<TmpfsError> for CliError {
    fn from(error: TmpfsError) -> CliError {
        CliError::usage(error.to_string()).hint(error.hint)
    }
}

fn unknown(error: &UnknownCapability) -> CliError {
    CliError::usage(error.to_string()).hint(error.hint())
}

/// Beside the places that grafts and volumes take.
pub fn confinement(
    args: &Confine,
    grafts: &[Graft],
    volumes: &[VolumeMount],
) -> Result<Confinement, CliError> {
    if let Some(graft) = grafts.iter().find(|g| g.suid && !args.allow_setuid) {
        let Graft { host, target, .. } = graft;
        let why = format!("-d {host}:{target}:suid: this run gives setuid programs nothing");
        return Err(CliError::usage(why).hint("say --allow-setuid too, if that is what you want"));
    }
    let taken: Vec<&str> = grafts
        .iter()
        .map(|graft| graft.target.as_str())
        .chain(volumes.iter().map(|volume| volume.target.as_str()))
        .collect();
    let privileges = match args.unsafe_plain {
        true => Privileges::HOST,
        false => Privileges {
            setuid: args.allow_setuid,
            ..Privileges::RUN
        },
    };
    Ok(Confinement {
        privileges: privileges
            .changed(&args.cap_add, &args.cap_drop)
            .map_err(|e| unknown(&e))?,
        as_root: args.as_root || args.unsafe_plain,
        isolation: match args.unsafe_plain {
            true => Isolation::Plain,
            false => Isolation::Full,
        },
        read_only: args.read_only,
        tmpfs: parse_tmpfs(&args.tmpfs, &taken)?,
        hostname: args.hostname.clone().map(hostname).transpose()?,
    })
}

/// RFC 1123, section 2.1.
fn hostname(name: String) -> Result<String, CliError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let edges = [name.bytes().next(), name.bytes().last()];
    let ends = |edge: &Option<u8>| edge.is_some_and(|b| b.is_ascii_alphanumeric());
    if name.len() <= MAX_HOSTNAME && name.bytes().all(fine) && edges.iter().all(ends) {
        return Ok(name);
    }
    let hint = format!(
        "letters, digits, - and . inside, at most {MAX_HOSTNAME} of them: --hostname web-1.example"
    );
    Err(CliError::usage(format!("--hostname {name:?}: no host can be called that")).hint(hint))
}

/// Of all files, in order.
pub fn env_files(args: &Confine) -> Result<Vec<(String, String)>, CliError> {
    let mut env = Vec::new();
    for path in &args.env_file {
        let tried = || format!("cannot take the environment from {}", path.display());
        let bytes = read(path).map_err(|e| CliError::from_error(tried(), &e))?;
        let own = |name: &str| std::env::var(name).ok();
        env.extend(env_file::parse(&bytes, &own).map_err(|e| {
            CliError::from_error(tried(), &e).hint("a line is NAME=VALUE, NAME, or # and a comment")
        })?);
    }
    Ok(env)
}

/// No more than one byte too much.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = env_file::MAX_FILE as u64 + 1;
    std::fs::File::open(path)?
        .take(most)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub fn warn_of_plain(args: &Confine) {
    if args.unsafe_plain {
        eprintln!(
            "warning: --unsafe-plain: this is a bare chroot, which protects nothing: who is root in it is root of this host"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_one() {
        let ok = |name: &str| hostname(name.to_owned()).is_ok();
        assert!(ok("web") && ok("Web-1.example.org") && ok(&"n".repeat(63)));
        for bad in ["", "-a", "a-", "a b", "a_b", "é", ".", &"n".repeat(64)] {
            assert!(!ok(bad), "{bad:?}");
        }
    }
}
