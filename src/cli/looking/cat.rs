//! `pocker cat`: a file of a tree, to the byte.

use super::{Target, path_text, split_path};
use crate::cli::args::Cat;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{open, text};
use crate::control::looking::NodeInfo;
use crate::control::{Client, ClientError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::ffi::OsStr;
use std::io::{self, Write};

pub fn cat(settings: &Settings, args: &Cat) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let (mut out, mut all) = (Out::default(), Vec::new());
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
        if args.json {
            all.push(whole(&client, &target, path, &node)?);
            continue;
        }
        let done = client.cat(&target.tree, path, &mut out);
        if out.closed {
            return Ok(());
        }
        done.map_err(|e| out.failed(e, &target))?;
    }
    match args.json {
        true => text::out(&text::json(&all)?),
        false => Ok(()),
    }
}

/// A larger file is no part of a JSON text that anybody reads.
const WHOLE_MAX: u64 = 64 << 20;

/// A file's bytes as JSON has them.
fn whole(
    client: &Client,
    target: &Target,
    path: &[u8],
    node: &NodeInfo,
) -> Result<serde_json::Value, CliError> {
    if node.size > WHOLE_MAX {
        let (shown, path) = (&target.shown, path_text(path));
        let (size, most) = (text::bytes(node.size), text::bytes(WHOLE_MAX));
        let why = format!("{path} of {shown} has {size}, and --json shows {most} at most");
        return Err(CliError::new(why).hint("without --json its bytes go to standard output"));
    }
    let mut bytes = Vec::new();
    let got = client.cat(&target.tree, path, &mut bytes);
    got.map_err(|e| target.refused(e))?;
    Ok(serde_json::json!({
        "path": path_text(&node.path),
        "size": bytes.len(),
        "base64": STANDARD.encode(&bytes),
    }))
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
