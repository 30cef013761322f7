//! Everything below a directory, a line each.

use super::one::{Looked, node};
use crate::control::looking::NodeInfo;
use crate::daemon::diff;
use pocker_store::tree::Tree;
use pocker_store::types::{Attr, Creds, Errno, Kind};
use std::io::{self, Write};

/// Names read at once from a directory.
const BATCH: usize = 1024;

type Named = (Vec<u8>, Attr);

impl Looked {
    /// `top` and what is below it, names in order, `depth` directories deep.
    pub fn list(
        &self,
        (top, path): (Attr, Vec<u8>),
        depth: usize,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let tree = self.tree();
        let mut path = path;
        line(out, tree, &path, &top)?;
        // The stack is on the heap: how deep a tree is was its maker's choice.
        let mut frames = Vec::new();
        if top.kind == Kind::Dir && depth > 0 {
            frames.push((path.len(), names(tree, &top)?.into_iter()));
        }
        while let Some((len, names_left)) = frames.last_mut() {
            path.truncate(*len);
            let Some((name, attr)) = names_left.next() else {
                frames.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            line(out, tree, &path, &attr)?;
            if attr.kind == Kind::Dir && frames.len() < depth {
                frames.push((path.len(), names(tree, &attr)?.into_iter()));
            }
        }
        Ok(())
    }

    /// What the tree changed; nothing of a sealed one, which nobody can change.
    pub fn changes(&self, out: &mut dyn Write) -> io::Result<()> {
        let Looked::Work(tree) = self else {
            return Ok(());
        };
        let mut written = Ok(());
        let told = tree.diff(&mut |found| {
            written = json(out, &diff::entry(&found));
            written.is_ok()
        });
        written?;
        told.map_err(io::Error::other)
    }
}

/// A node that goes while the tree is listed was never there.
fn line(out: &mut dyn Write, tree: &dyn Tree, path: &[u8], attr: &Attr) -> io::Result<()> {
    match node(tree, path.to_vec(), attr) {
        Ok(info) => json::<NodeInfo>(out, &info),
        Err(Errno::Stale) => Ok(()),
        Err(e) => Err(io::Error::other(e)),
    }
}

fn json<T: serde::Serialize>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// The names of a directory, in order.
fn names(tree: &dyn Tree, dir: &Attr) -> io::Result<Vec<Named>> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let mut left = BATCH;
        let done = tree.readdir(&Creds::ROOT, dir.node, cookie, true, &mut |entry| {
            if left == 0 {
                return false;
            }
            (left, cookie) = (left - 1, entry.cookie);
            if let (Some(attr), false) = (entry.attr, matches!(entry.name, b"." | b"..")) {
                names.push((entry.name.to_vec(), attr));
            }
            true
        });
        match done {
            Ok(done) if done.eof => break,
            Ok(_) => {}
            Err(Errno::Stale) => break,
            Err(e) => return Err(io::Error::other(e)),
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}
