//! A tree with one of everything, and how two trees are compared.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

/// Makes the tree: busybox and its names, owners, modes, times to the nanosecond, links, attributes.
pub fn make(root: &Path) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = busybox.iter().find(|p| Path::new(p).exists());
    let script = format!(
        r#"set -e
mkdir -p "$1"; chmod 755 "$1"; cd "$1"
mkdir -p bin etc tmp dev srv/www srv/sticky srv/empty 'odd names'
cp {} bin/busybox
for n in sh ls cat id pwd echo rm mkdir; do ln -s busybox bin/$n; done
printf 'root:x:0:0:root:/:/bin/sh\nwww:x:33:33:www:/srv:/bin/sh\n' >etc/passwd
printf 'root:x:0:\nwww:x:33:\n' >etc/group
echo first >srv/one; ln srv/one srv/www/two; ln srv/one 'odd names/three'
echo gone >srv/gone; echo low >srv/www/low
printf 'a\nb' >'odd names/with space and ü'
ln -s ../../../../etc/passwd srv/out; ln -s /nowhere srv/dangling
mkfifo srv/pipe; mknod dev/null c 1 3; mknod dev/tty c 5 0
: >srv/{}
head -c 300000 /dev/urandom >srv/large
chown 33:44 srv/one; chmod 4750 srv/one; chmod 1777 srv/sticky tmp; chmod 2770 srv/www; chown -h 5:6 srv/out
setcap cap_net_bind_service+ep bin/busybox
find . -depth -exec touch -h -d '2003-04-05 06:07:08.123456789 UTC' {{}} +
"#,
        busybox.expect("busybox-static"),
        "n".repeat(200),
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &script, "sh"]).arg(root);
    assert!(sh.status().expect("sh").success());
    for (path, name, value) in [
        ("srv/one", "user.note", &b"with a\nnewline and \0"[..]),
        ("srv/www", "user.dir", b"yes"),
    ] {
        xattr::set(root.join(path), name, value).expect("an attribute");
    }
}

/// As GNU tar packs it.
pub fn pack(root: &Path, to: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["--format=posix", "--xattrs", "--xattrs-include=*", "-C"]);
    tar.arg(root).arg("-cf").arg(to).arg(".");
    assert!(tar.status().expect("tar").success());
}

/// A line for each file, with all that it has; times cut to seconds where a tool keeps no more.
pub fn list(root: &Path, seconds: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first = HashMap::new();
    walk(root, root, seconds, &mut first, &mut lines);
    lines
}

fn walk(
    root: &Path,
    path: &Path,
    seconds: bool,
    first: &mut HashMap<u64, String>,
    lines: &mut Vec<String>,
) {
    let meta = std::fs::symlink_metadata(path).expect("stat");
    let kind = meta.file_type();
    let name = path
        .strip_prefix(root)
        .expect("below")
        .as_os_str()
        .as_bytes();
    let name = name.escape_ascii().to_string();
    let what = if kind.is_file() {
        let bytes = std::fs::read(path).expect("read");
        format!("{} {}", bytes.len(), hex::encode(Sha256::digest(&bytes)))
    } else if kind.is_symlink() {
        format!(
            "-> {}",
            std::fs::read_link(path).expect("readlink").display()
        )
    } else if kind.is_char_device() {
        format!("device {:#x}", meta.rdev())
    } else {
        if kind.is_fifo() { "fifo" } else { "directory" }.to_owned()
    };
    let mut attributes: Vec<String> = xattr::list(path)
        .expect("listxattr")
        .map(|name| {
            let value = xattr::get(path, &name)
                .expect("getxattr")
                .unwrap_or_default();
            format!("{}={}", name.display(), value.escape_ascii())
        })
        .collect();
    attributes.sort();
    let linked = match meta.nlink() > 1 && !kind.is_dir() {
        true => format!(
            " one file with {}",
            first.entry(meta.ino()).or_insert_with(|| name.clone())
        ),
        false => String::new(),
    };
    let nanos = if seconds { 0 } else { meta.mtime_nsec() };
    lines.push(format!(
        "{name} {:o} {}:{} {}.{nanos:09} {what}{linked} {attributes:?}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
    ));
    if kind.is_dir() {
        let names = std::fs::read_dir(path).expect("readdir");
        let mut names: Vec<_> = names.map(|e| e.expect("an entry").path()).collect();
        names.sort();
        for name in names {
            walk(root, &name, seconds, first, lines);
        }
    }
}

#[track_caller]
pub fn same(what: &str, ours: &[String], theirs: &[String]) {
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    let (left, right) = (only(ours, theirs), only(theirs, ours));
    assert!(
        left.is_empty() && right.is_empty() && ours.len() == theirs.len(),
        "{what}:\n{}\nand\n{}",
        left.join("\n"),
        right.join("\n")
    );
}
