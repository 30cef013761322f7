//! `pocker cat`: a file of a tree, to the byte.

use super::{Target, path_text, split_path};
use crate::cli::args::Cat;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::open;
use crate::control::ClientError;
use std::ffi::OsStr;
use std::io::{self, Write};

pub fn cat(settings: &Settings, args: &Cat) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let mut out = Out::default();
    for what in &args.what {
        let (name, path) = split_path(what).ok_or_else(|| no_path(what))?;
        let target = Target::find(settings, &client, name)?;
        target.in_its_tree(path)?;
        let found = client.stat(&target.tree, path, true);
        let found = found.map_err(|e| target.refused(e))?;
        let Some(node) = found else {
            return Err(target.missing(path));
        };
        target.in_its_tree(&node.path)?;
        if node.kind != "file" {
            let (shown, path) = (&target.shown, path_text(path));
            let error = CliError::new(format!("{path} of {shown} is a {}, not a file", node.kind));
            return Err(match node.is_dir() {
                true => error.hint(format!("`pocker tree {shown}:{path}` lists it")),
                false => error.hint("only files have contents"),
            });
        }
        let done = client.cat(&target.tree, path, &mut out);
        if out.closed {
            return Ok(());
        }
        done.map_err(|e| out.failed(e, &target))?;
    }
    Ok(())
}

fn no_path(what: &OsStr) -> CliError {
    let what = what.to_string_lossy();
    CliError::usage(format!("{what}: say which file of it"))
        .hint("NAME:/path says it: `pocker cat web:/etc/passwd`")
}

/// Standard output, which tells its own failures from the server's. A reader that has seen
/// enough (`| head`) is none.
#[derive(Default)]
pub struct Out {
    pub closed: bool,
    error: Option<io::Error>,
}

impl Out {
    pub fn failed(&mut self, error: ClientError, target: &Target) -> CliError {
        match self.error.take() {
            Some(own) => CliError::from_error("cannot write to standard output", &own),
            None => target.refused(error),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|e| {
                self.closed = e.kind() == io::ErrorKind::BrokenPipe;
                let kind = e.kind();
                self.error = Some(e);
                kind
            })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
