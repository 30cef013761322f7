//! `pocker diff`: how one tree differs from another.

use super::args::Diff;
use super::config::Settings;
use super::error::CliError;
use super::transfer::{find_step, split_step};
use super::{ls, open, text};
use crate::control::Client;
use crate::control::looking::{Change, DiffEntry};
use std::fmt::Write as _;

pub fn run(settings: &Settings, args: &Diff) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let old = snapshot(&client, &args.old)?;
    let new = snapshot(&client, &args.new)?;
    let mut out = String::new();
    let mut all = Vec::new();
    client.diff(&old, &new, |entry| match args.json {
        true => all.push(json(entry)),
        false => line(&mut out, entry),
    })?;
    if args.json {
        out = text::json(&all)?;
    }
    text::out(&out)
}

fn snapshot(client: &Client, what: &str) -> Result<String, CliError> {
    let (name, step) = split_step(what);
    let pocker = client.pocker(name)?.ok_or_else(|| ls::unknown(name))?;
    Ok(find_step(&pocker, step)?.snapshot.clone())
}

/// As other tools of the kind have it. A directory in which names came and went has another
/// time: its names are told, it is not.
fn line(out: &mut String, entry: &DiffEntry) {
    if entry.kind == "directory" && entry.parts == ["mtime"] {
        return;
    }
    let mark = match entry.change {
        Change::Added => 'A',
        Change::Removed => 'D',
        Change::Changed => 'C',
    };
    let _ = writeln!(out, "{mark} {}", path(&entry.path));
}

/// Bytes that are no UTF-8, and control characters, are escaped: a name must not write to the
/// terminal.
fn path(bytes: &[u8]) -> String {
    let mut out = "/".to_owned();
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

fn json(entry: &DiffEntry) -> serde_json::Value {
    serde_json::json!({
        "path": path(&entry.path),
        "kind": entry.kind,
        "change": entry.change,
        "parts": entry.parts,
        "before": entry.before,
        "after": entry.after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], kind: &str, change: Change, parts: &[&str]) -> DiffEntry {
        DiffEntry {
            path: path.to_vec(),
            kind: kind.to_owned(),
            change,
            parts: parts.iter().map(|p| (*p).to_owned()).collect(),
            before: 1,
            after: 2,
        }
    }

    #[test]
    fn a_line_a_path_and_no_name_writes_to_the_terminal() {
        let mut out = String::new();
        for (path, kind, change, parts) in [
            (
                &b""[..],
                "directory",
                Change::Changed,
                &["mode", "mtime"][..],
            ),
            (b"etc", "directory", Change::Changed, &["mtime"]),
            (b"etc/pass wd", "file", Change::Changed, &["mtime"]),
            (b"etc/\x1b[2J\n", "file", Change::Added, &[]),
            (b"etc/caf\xe9\\", "fifo", Change::Removed, &[]),
            ("etc/é".as_bytes(), "file", Change::Added, &[]),
        ] {
            line(&mut out, &entry(path, kind, change, parts));
        }
        insta::assert_snapshot!(out, @r"
        C /
        C /etc/pass wd
        A /etc/\u{1b}[2J\n
        D /etc/caf\xe9\\
        A /etc/é
        ");
    }
}
