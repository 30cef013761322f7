//! The commands that look into trees, sealed and running: what they are told to look at.

mod cat;
mod cp;
mod du;
mod mounts;
mod tree;

pub use cat::cat;
pub use cp::cp;
pub use du::du;
pub use mounts::mounts;
pub use tree::tree;

use super::config::Settings;
use super::error::CliError;
use super::transfer::{find_step, split_step};
use crate::control::looking::TreeRef;
use crate::control::{Client, ClientError};
use crate::life::{LifeError, Run, Runs};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// A tree that was named.
pub struct Target {
    pub tree: TreeRef,
    /// As it was named.
    pub shown: String,
    /// It is this run's; else it is sealed.
    pub run: Option<Run>,
}

impl Target {
    /// NAME[@STEP]: a live run of that name, else a pocker, else an ended run whose tree is left.
    pub fn find(settings: &Settings, client: &Client, what: &str) -> Result<Target, CliError> {
        let (name, step) = split_step(what);
        let run = match step {
            None => run(settings, name)?,
            Some(_) => None,
        };
        if let Some(run) = run.clone().filter(Run::live) {
            return Target::of(run);
        }
        let is_name = crate::build::check_name(name).is_ok();
        let pocker = match is_name {
            true => client.pocker(name)?,
            false => None,
        };
        match (pocker, run) {
            (Some(pocker), _) => Ok(Target {
                tree: TreeRef::Snapshot(find_step(&pocker, step)?.snapshot.clone()),
                shown: what.to_owned(),
                run: None,
            }),
            (None, Some(run)) => Target::of(run),
            (None, None) => Err(unknown(name)),
        }
    }

    pub fn of(run: Run) -> Result<Target, CliError> {
        let name = &run.record.name;
        let tree = match (&run.record.kept, run.state.run) {
            (Some(volume), _) => TreeRef::Volume(volume.clone()),
            (None, Some(id)) => TreeRef::Work(id),
            (None, None) => {
                return Err(CliError::new(format!("run {name} has no tree"))
                    .hint("`pocker ps -a` says whether it has started"));
            }
        };
        Ok(Target {
            tree,
            shown: name.clone(),
            run: Some(run),
        })
    }

    /// What the server says of a path, in the words of who asked.
    pub fn refused(&self, error: ClientError) -> CliError {
        match (&error, &self.run) {
            (ClientError::NotFound(said), Some(run)) if said.contains("any more") => {
                CliError::new(format!("the tree of run {} is gone", run.record.name)).hint(format!(
                    "it was kept until {} started again",
                    run.record.pocker
                ))
            }
            _ => error.into(),
        }
    }

    pub fn missing(&self, path: &[u8]) -> CliError {
        let (shown, path) = (&self.shown, path_text(path));
        CliError::new(format!("there is no {path} in {shown}")).hint(format!(
            "`pocker tree {shown}:{}` lists what is there",
            above(&path)
        ))
    }
}

fn above(path: &str) -> &str {
    match path.trim_end_matches('/').rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// The run of a name or id, live or ended.
pub fn run(settings: &Settings, text: &str) -> Result<Option<Run>, CliError> {
    match Runs::of(&settings.socket_dir).find(text) {
        Ok(run) => Ok(Some(run)),
        Err(LifeError::Unknown(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn unknown(name: &str) -> CliError {
    let name: String = name.chars().take(80).collect();
    CliError::new(format!("there is no pocker and no run named {name}"))
        .hint("`pocker ls` and `pocker ps -a` list them")
}

/// NAME[@STEP]:/PATH taken apart; none where no name is before a colon, as in a host's path.
pub fn split_path(text: &OsStr) -> Option<(&str, &[u8])> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|b| *b == b':')?;
    let name = std::str::from_utf8(&bytes[..at]).ok()?;
    let named = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    named.then_some((name, &bytes[at + 1..]))
}

/// A path of a tree for a terminal: what is no UTF-8, and control characters, are escaped, as a
/// name must not write to it.
pub fn path_text(bytes: &[u8]) -> String {
    let mut out = String::new();
    if !bytes.starts_with(b"/") {
        out.push('/');
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_before_a_colon_is_a_pockers() {
        let split = |text: &'static str| split_path(OsStr::new(text));
        assert_eq!(split("web:/etc"), Some(("web", &b"/etc"[..])));
        assert_eq!(split("web@2:/a:b"), Some(("web@2", &b"/a:b"[..])));
        assert_eq!(split("web:"), Some(("web", &b""[..])));
        for host in ["/tmp/a:b", "./a:b", "a/b:c", ":/x", "web", "-"] {
            assert_eq!(split(host), None, "{host}");
        }
    }

    #[test]
    fn no_path_writes_to_the_terminal() {
        let shown = [&b"etc/\x1b[2J\n"[..], b"/caf\xe9\\", "é".as_bytes(), b""].map(path_text);
        assert_eq!(shown, ["/etc/\\u{1b}[2J\\n", "/caf\\xe9\\\\", "/é", "/"]);
    }
}
