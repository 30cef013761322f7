//! What a command needs to use the server of another host.

use super::defaults;
use super::error::CliError;
use crate::control::hosts::{Id, Lease};
use crate::control::remote::{Place, Remote, Token, host_id};
use crate::tls;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest token file that is read.
const TOKEN_MAX: u64 = 4096;
/// Beside the store: this host's number, for the servers of others.
const HOST_ID: &str = "host-id";

/// What was said of the server.
pub struct Said<'a> {
    pub text: &'a str,
    pub ca: Option<&'a Path>,
    pub token_file: Option<&'a Path>,
}

pub fn remote(said: &Said<'_>, store: &Path) -> Result<Remote, CliError> {
    let place = Place::parse(said.text, defaults::CONTROL_PORT).ok_or_else(|| {
        CliError::usage(format!(
            "--remote {:?}: not the address of a server",
            said.text
        ))
        .hint("for example pocker://store.example or pocker://192.0.2.1:2050")
    })?;
    let ca = said
        .ca
        .map_or_else(|| defaults::REMOTE_CA.into(), PathBuf::from);
    let tls = tls::client(&ca).map_err(|e| {
        CliError::from_error(format!("cannot tell whether {place} is what it says"), &e).hint(
            "copy the ca.pem that `pocker serve init-tls` made there, and name it with --remote-ca, POCKER_REMOTE_CA or remote_ca",
        )
    })?;
    let token = token(said.token_file, &place)?;
    let file = store.parent().unwrap_or(Path::new("/")).join(HOST_ID);
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(
            format!("cannot tell this host's number from {}", file.display()),
            e,
        )
    };
    let host = host_id(&file).map_err(|e| fail(&e))?;
    let id = Id::draw().map_err(|e| fail(&std::io::Error::other(e.to_string())))?;
    Ok(Remote {
        place,
        ca,
        tls,
        token,
        lease: Lease { host, id },
    })
}

/// From the file that POCKER_TOKEN_FILE or the settings name, else from POCKER_TOKEN, else from the file
/// where it is unless told otherwise.
fn token(file: Option<&Path>, place: &Place) -> Result<Token, CliError> {
    let named = std::env::var_os("POCKER_TOKEN_FILE").filter(|file| !file.is_empty());
    let named = named.map(PathBuf::from).or(file.map(Path::to_path_buf));
    let said = std::env::var("POCKER_TOKEN").ok().filter(|t| !t.is_empty());
    let text = match (named, said) {
        (Some(file), _) => read(&file)?,
        (None, Some(text)) => text,
        (None, None) => {
            let usual = Path::new(defaults::TOKEN_FILE);
            if !usual.exists() {
                return Err(CliError::new(format!("there is no token for {place}")).hint(format!(
                    "`pocker token create` makes one where the server is; put it into {} or a file that POCKER_TOKEN_FILE names",
                    usual.display()
                )));
            }
            read(usual)?
        }
    };
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            CliError::new("the token is no token: it has no text, or odd characters")
                .hint("`pocker token create` prints one, as a line"),
        );
    }
    Ok(Token(text.to_owned()))
}

/// A file that others may read has a secret that they have too.
fn read(file: &Path) -> Result<String, CliError> {
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot read the token in {}", file.display()), e)
    };
    let opened = std::fs::File::open(file).map_err(|e| {
        fail(&e).hint("`pocker token create` makes one where the server is; put it there")
    })?;
    let meta = opened.metadata().map_err(|e| fail(&e))?;
    let own = nix::unistd::geteuid().as_raw();
    if meta.mode() & 0o077 != 0 || (meta.uid() != own && meta.uid() != 0) {
        return Err(CliError::new(format!(
            "the token in {} can be read by others than its owner",
            file.display()
        ))
        .hint(format!(
            "chmod 600 {}; and make another token, as that one is known",
            file.display()
        )));
    }
    let mut text = String::new();
    let mut opened = opened.take(TOKEN_MAX);
    opened.read_to_string(&mut text).map_err(|e| fail(&e))?;
    Ok(text)
}
