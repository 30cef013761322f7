//! `pocker diff`: how one tree differs from another.

use super::args::Diff;
use super::config::Settings;
use super::error::CliError;
use super::looking::{Target, mounts, path_text, run as find_run};
use super::transfer::{find_step, split_step};
use super::{ls, open, text};
use crate::control::Client;
use crate::control::looking::{Change, DiffEntry};
use std::fmt::Write as _;

pub fn run(settings: &Settings, args: &Diff) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let mut out = String::new();
    let mut all = Vec::new();
    let mut each = |entry: &DiffEntry| match args.json {
        true => all.push(json(entry)),
        false => line(&mut out, entry),
    };
    match &args.new {
        Some(new) => {
            let old = snapshot(&client, &args.old)?;
            let new = snapshot(&client, new)?;
            client.diff(&old, &new, each)?;
        }
        None => {
            let target =
                Target::of(find_run(settings, &args.old)?.ok_or_else(|| no_run(&args.old))?)?;
            // Made only to be mounted on, and gone with the run.
            let places = target.run.as_ref().map(mounts).unwrap_or_default();
            let place = |entry: &DiffEntry| {
                let path = [b"/", &entry.path[..]].concat();
                entry.change == Change::Added && places.contains(&path)
            };
            let told = client.changes(&target.tree, |entry| match place(&entry) {
                true => {}
                false => each(&entry),
            });
            told.map_err(|e| target.refused(e))?;
        }
    }
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

/// One name alone is a run's.
fn no_run(name: &str) -> CliError {
    let shown = split_step(name).0;
    CliError::new(format!("there is no run named {name}")).hint(format!(
        "`pocker diff {shown}@1 {name}` compares two steps; `pocker ps -a` lists runs"
    ))
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
    let _ = writeln!(out, "{mark} {}", path_text(&entry.path));
}

fn json(entry: &DiffEntry) -> serde_json::Value {
    serde_json::json!({
        "path": path_text(&entry.path),
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
