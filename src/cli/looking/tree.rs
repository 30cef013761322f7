//! `pocker tree`: what is in a tree, a path a line.

use super::cat::Out;
use super::{Target, path_text, split_path};
use crate::cli::args::Tree;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{open, text};
use crate::control::looking::NodeInfo;
use crate::life::time::Stamp;
use std::fmt::Write as _;
use std::io::Write as _;

/// Bytes gathered before they are written.
const GATHER: usize = 64 << 10;

pub fn tree(settings: &Settings, args: &Tree) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let whole = args.what.to_string_lossy();
    let (name, path) = match split_path(&args.what) {
        Some(split) => split,
        None => (&*whole, &b"/"[..]),
    };
    let target = Target::find(settings, &client, name)?;
    target.in_its_tree(path)?;
    let found = client.stat(&target.tree, path, true);
    match found.map_err(|e| target.refused(e))? {
        Some(node) => target.in_its_tree(&node.path)?,
        None => return Err(target.missing(path)),
    }
    let depth = args.depth.unwrap_or(usize::MAX);
    let (mut out, mut gathered, mut all) = (Out::default(), String::new(), Vec::new());
    let mut written = Ok(());
    let listed = client.list(&target.tree, path, depth, |node| {
        if args.json {
            return all.push(json(&node));
        }
        line(&mut gathered, &node, args.long);
        if gathered.len() >= GATHER && written.is_ok() {
            written = out.write_all(gathered.as_bytes());
            gathered.clear();
        }
    });
    if out.closed {
        return Ok(());
    }
    listed.map_err(|e| target.refused(e))?;
    written.map_err(|e| CliError::from_error("cannot write to standard output", &e))?;
    text::out(&match args.json {
        true => text::json(&all)?,
        false => gathered,
    })
}

/// What `ls -l` begins with.
pub fn mode(node: &NodeInfo) -> String {
    let kind = match node.kind.as_str() {
        "directory" => 'd',
        "symlink" => 'l',
        "fifo" => 'p',
        "socket" => 's',
        "char" => 'c',
        "block" => 'b',
        _ => '-',
    };
    let mut out = String::from(kind);
    for (shift, special, set, alone) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = node.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, node.mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => set,
            (false, true) => alone,
        });
    }
    out
}

/// To the minute, in UTC.
fn date(secs: i64) -> String {
    let mut text = Stamp { secs, nanos: 0 }.rfc3339().replace('T', " ");
    text.truncate(text.find('.').unwrap_or(text.len()).saturating_sub(3));
    text
}

fn line(out: &mut String, node: &NodeInfo, long: bool) {
    if long {
        let owner = format!("{}:{}", node.uid, node.gid);
        let size = match node.device {
            Some((major, minor)) => format!("{major},{minor}"),
            None if node.is_dir() => "-".to_owned(),
            None => node.size.to_string(),
        };
        let (mode, date) = (mode(node), date(node.mtime.0));
        let _ = write!(out, "{mode}  {owner:>9}  {size:>10}  {date}  ");
    }
    out.push_str(&path_text(&node.path));
    if node.is_dir() && !node.path.is_empty() {
        out.push('/');
    }
    if let Some(target) = node.target.as_ref().filter(|_| long) {
        let target = path_text(&[b"/", &target[..]].concat());
        let _ = write!(out, " -> {}", &target[1..]);
    }
    out.push('\n');
}

fn json(node: &NodeInfo) -> serde_json::Value {
    let mut value = serde_json::json!({
        "path": path_text(&node.path),
        "kind": node.kind,
        "mode": format!("{:04o}", node.mode),
        "uid": node.uid,
        "gid": node.gid,
        "nlink": node.nlink,
        "size": node.size,
        "mtime": node.mtime.0,
    });
    if let Some(target) = &node.target {
        value["target"] = path_text(&[b"/", &target[..]].concat())[1..].into();
    }
    if let Some((major, minor)) = node.device {
        value["device"] = serde_json::json!([major, minor]);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_and_what_ls_says_of_it() {
        let node = |path: &[u8], kind: &str, mode| NodeInfo {
            path: path.to_vec(),
            kind: kind.to_owned(),
            mode,
            uid: 0,
            gid: 33,
            nlink: 1,
            size: 120,
            mtime: (1_700_000_000, 5),
            target: (kind == "symlink").then(|| b"../x\n".to_vec()),
            device: (kind == "char").then_some((1, 3)),
        };
        let mut out = String::new();
        for (path, kind, mode) in [
            (&b""[..], "directory", 0o755),
            (b"tmp", "directory", 0o1777),
            (b"bin/su", "file", 0o4755),
            (b"odd\x1b", "file", 0o6644),
            (b"lib", "symlink", 0o777),
            (b"dev/null", "char", 0o666),
        ] {
            line(&mut out, &node(path, kind, mode), true);
            line(&mut out, &node(path, kind, mode), false);
        }
        insta::assert_snapshot!(out, @r"
        drwxr-xr-x       0:33           -  2023-11-14 22:13  /
        /
        drwxrwxrwt       0:33           -  2023-11-14 22:13  /tmp/
        /tmp/
        -rwsr-xr-x       0:33         120  2023-11-14 22:13  /bin/su
        /bin/su
        -rwSr-Sr--       0:33         120  2023-11-14 22:13  /odd\u{1b}
        /odd\u{1b}
        lrwxrwxrwx       0:33         120  2023-11-14 22:13  /lib -> ../x\n
        /lib
        crw-rw-rw-       0:33         1,3  2023-11-14 22:13  /dev/null
        /dev/null
        ");
    }
}
