//! What is copied from a context, and where it lands.

use super::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

static GO_ON: AtomicBool = AtomicBool::new(false);

fn context(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
    }
    dir
}

fn plan(sources: &[&str], target: &str) -> CopyPlan {
    CopyPlan {
        chown: None,
        chmod: None,
        sources: sources.iter().map(|s| (*s).to_owned()).collect(),
        target: target.to_owned(),
    }
}

/// `dest` and the entries of the stream, or the error.
fn copied(dir: &Path, plan: &CopyPlan, exists: bool) -> String {
    let context = Context::open(dir).expect("opened");
    let manifest = match collect(&context, 1, plan, &GO_ON) {
        Ok(manifest) => manifest,
        Err(e) => return format!("{e}\n"),
    };
    let placement = Placement::new(&plan.target, &manifest, exists);
    let mut bytes = Vec::new();
    let mut on_bytes = |_| Ok(());
    stream(
        &context,
        &manifest,
        &placement,
        Owner { uid: 7, gid: 8 },
        &mut on_bytes,
    )
    .read_to_end(&mut bytes)
    .expect("read");
    assert_eq!(bytes.len() % 512, 0);
    let mut out = format!("{}\n", placement.dest);
    for entry in tar::Archive::new(bytes.as_slice())
        .entries()
        .expect("entries")
    {
        let mut entry = entry.expect("an entry");
        let header = entry.header().clone();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("read");
        let link = entry
            .link_name_bytes()
            .map(|l| format!(" -> {}", String::from_utf8_lossy(&l)));
        out.push_str(&format!(
            "  {:?} {:o} {}:{} {}{} {}\n",
            header.entry_type(),
            header.mode().expect("mode"),
            header.uid().expect("uid"),
            header.gid().expect("gid"),
            String::from_utf8_lossy(&entry.path_bytes()),
            link.unwrap_or_default(),
            text.len(),
        ));
    }
    out
}

#[test]
fn where_things_land() {
    let dir = context(&[
        ("a", "1"),
        ("b.txt", "22"),
        ("c.txt", "333"),
        ("d/e", "4444"),
        ("d/sub/f", ""),
    ]);
    fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o750)).expect("set");
    let mut all = String::new();
    for (sources, target, exists) in [
        (vec!["a"], "/x/new", false),
        (vec!["a"], "/new", false),
        (vec!["a"], "/x", true),
        (vec!["a"], "/x/", false),
        (vec!["a"], "/", true),
        (vec!["a", "b.txt"], "/x/", false),
        (vec!["*.txt"], "/x/", true),
        (vec!["d"], "/x", false),
        (vec!["d/"], "/x/y/", true),
        (vec!["d", "a"], "/x/", false),
        (vec!["d/s*"], "/x/", true),
        (vec!["a", "b.txt"], "/x", true),
        (vec!["*.txt"], "/x", true),
        (vec!["*.none"], "/x/", true),
        (vec!["none"], "/x", true),
        (vec!["a/b"], "/x", true),
    ] {
        all.push_str(&format!(
            "{} {target}{}: ",
            sources.join(" "),
            if exists { " (there)" } else { "" }
        ));
        all.push_str(&copied(dir.path(), &plan(&sources, target), exists));
    }
    insta::assert_snapshot!(all, @r#"
    a /x/new: /x
      Regular 644 7:8 new 1
    a /new: /
      Regular 644 7:8 new 1
    a /x (there): /x
      Regular 644 7:8 a 1
    a /x/: /
      Directory 755 7:8 x 0
      Regular 644 7:8 x/a 1
    a / (there): /
      Regular 644 7:8 a 1
    a b.txt /x/: /
      Directory 755 7:8 x 0
      Regular 644 7:8 x/a 1
      Regular 644 7:8 x/b.txt 2
    *.txt /x/ (there): /x
      Regular 644 7:8 b.txt 2
      Regular 644 7:8 c.txt 3
    d /x: /
      Directory 750 7:8 x 0
      Regular 644 7:8 x/e 4
      Directory 755 7:8 x/sub 0
      Regular 644 7:8 x/sub/f 0
    d/ /x/y/ (there): /x/y
      Regular 644 7:8 e 4
      Directory 755 7:8 sub 0
      Regular 644 7:8 sub/f 0
    d a /x/: /
      Directory 755 7:8 x 0
      Regular 644 7:8 x/e 4
      Directory 755 7:8 x/sub 0
      Regular 644 7:8 x/sub/f 0
      Regular 644 7:8 x/a 1
    d/s* /x/ (there): /x
      Regular 644 7:8 f 0
    a b.txt /x (there): line 1: COPY /x: several sources or a pattern need a directory
    *.txt /x (there): line 1: COPY /x: several sources or a pattern need a directory
    *.none /x/ (there): line 1: COPY *.none: nothing in the context fits
    none /x (there): line 1: COPY none: no such file in the context
    a/b /x (there): line 1: COPY a/b: it goes through something that is not a directory
    "#);
}

#[test]
fn links_inside_stay_links_and_none_leads_out() {
    let dir = context(&[("in/file", "x"), ("in/real/f", "y")]);
    let at = |name: &str| dir.path().join(name);
    let secret = tempfile::NamedTempFile::new().expect("a file");
    symlink(secret.path(), at("absolute")).expect("linked");
    symlink("../..", at("in/up")).expect("linked");
    symlink("in/file", at("inside")).expect("linked");
    symlink("real", at("in/dir")).expect("linked");
    symlink("loop", at("loop")).expect("linked");
    symlink("gone//x", at("in/dangling")).expect("linked");
    let mut all = String::new();
    for source in [
        "inside",
        "in/dir",
        "in",
        "absolute",
        "in/up",
        "in/up/etc/passwd",
        "loop",
        "in/dangling",
    ] {
        all.push_str(&format!(
            "{source}: {}",
            copied(dir.path(), &plan(&[source], "/x"), false)
        ));
    }
    insta::assert_snapshot!(all, @r#"
    inside: /
      Regular 644 7:8 x 1
    in/dir: /
      Directory 755 7:8 x 0
      Regular 644 7:8 x/f 1
    in: /
      Directory 755 7:8 x 0
      Symlink 777 7:8 x/dangling -> gone//x 0
      Symlink 777 7:8 x/dir -> real 0
      Regular 644 7:8 x/file 1
      Directory 755 7:8 x/real 0
      Regular 644 7:8 x/real/f 1
      Symlink 777 7:8 x/up -> ../.. 0
    absolute: line 1: COPY absolute: a link in it leads out of the context
    in/up: line 1: COPY in/up: a link in it leads out of the context
    in/up/etc/passwd: line 1: COPY in/up/etc/passwd: a link in it leads out of the context
    loop: line 1: COPY loop: it goes through more than 40 links
    in/dangling: line 1: COPY in/dangling: no such file in the context
    "#);
}

#[test]
fn ignored_files_stay_out() {
    let dir = context(&[
        (
            ".pockerignore",
            "target\n!target/app\n*.log\n.pockerignore\n",
        ),
        ("a", ""),
        ("x.log", ""),
        ("target/app", ""),
        ("target/junk", ""),
        ("sub/target/kept", ""),
    ]);
    let mut all = copied(dir.path(), &plan(&["."], "/x"), true);
    for source in ["x.log", "*.log", "target", "target/junk", "target/app"] {
        all.push_str(&format!(
            "{source}: {}",
            copied(dir.path(), &plan(&[source], "/x/"), true)
        ));
    }
    insta::assert_snapshot!(all, @r#"
    /x
      Regular 644 7:8 a 0
      Directory 755 7:8 sub 0
      Directory 755 7:8 sub/target 0
      Regular 644 7:8 sub/target/kept 0
      Directory 755 7:8 target 0
      Regular 644 7:8 target/app 0
    x.log: line 1: COPY x.log: it is ignored
    *.log: line 1: COPY *.log: nothing in the context fits
    target: /x
      Regular 644 7:8 app 0
    target/junk: line 1: COPY target/junk: it is ignored
    target/app: /x
      Regular 644 7:8 app 0
    "#);
}

#[test]
fn chmod_reaches_files_and_directories_not_links() {
    let dir = context(&[("d/f", "")]);
    symlink("f", dir.path().join("d/l")).expect("linked");
    let plan = CopyPlan {
        chmod: Some(0o2710),
        ..plan(&["d"], "/x")
    };
    insta::assert_snapshot!(copied(dir.path(), &plan, false), @r#"
    /
      Directory 2710 7:8 x 0
      Regular 2710 7:8 x/f 0
      Symlink 777 7:8 x/l -> f 0
    "#);
}

#[test]
fn long_and_odd_names_survive() {
    let dir = context(&[]);
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe od\nd");
    let long = "n".repeat(255);
    fs::create_dir_all(dir.path().join(&long).join(&long)).expect("made");
    fs::write(dir.path().join(&long).join(&long).join(odd), "x").expect("written");
    symlink("t".repeat(400), dir.path().join("link")).expect("linked");
    symlink("a//b/./c/", dir.path().join("untidy")).expect("linked");
    let context = Context::open(dir.path()).expect("opened");
    let manifest = collect(&context, 1, &plan(&["."], "/"), &GO_ON).expect("collected");
    let placement = Placement::new("/", &manifest, true);
    let mut on_bytes = |_| Ok(());
    let stream = stream(&context, &manifest, &placement, Owner::ROOT, &mut on_bytes);
    let mut archive = tar::Archive::new(stream);
    let mut seen = Vec::new();
    for entry in archive.entries().expect("entries") {
        let entry = entry.expect("an entry");
        seen.push((
            entry.path_bytes().to_vec(),
            entry.link_name_bytes().map(|l| l.to_vec()),
        ));
    }
    let file = [long.as_bytes(), long.as_bytes(), odd.as_bytes()].join(&b'/');
    assert!(seen.iter().any(|(path, _)| *path == file));
    assert!(seen.contains(&(b"link".to_vec(), Some(vec![b't'; 400]))));
    assert!(seen.contains(&(b"untidy".to_vec(), Some(b"a//b/./c/".to_vec()))));
}

#[test]
fn what_is_no_file_is_refused_with_a_hint() {
    let dir = context(&[("d/f", "")]);
    let path = dir.path().join("d/fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let context = Context::open(dir.path()).expect("opened");
    let error = collect(&context, 4, &plan(&["d"], "/x"), &GO_ON).expect_err("a fifo");
    assert_eq!(
        error.to_string(),
        "line 4: COPY d/fifo: it is a fifo, socket or device"
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains(".pockerignore"))
    );
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_an_error() {
    for change in ["shorter", "other, as long!!", "replaced by a link"] {
        let dir = context(&[("a", "sixteen bytes ok")]);
        let context = Context::open(dir.path()).expect("opened");
        let manifest = collect(&context, 1, &plan(&["a"], "/x"), &GO_ON).expect("collected");
        match change {
            "replaced by a link" => {
                fs::remove_file(dir.path().join("a")).expect("removed");
                symlink("/etc/passwd", dir.path().join("a")).expect("linked");
            }
            text => fs::write(dir.path().join("a"), text).expect("written"),
        }
        let placement = Placement::new("/x", &manifest, false);
        let mut on_bytes = |_| Ok(());
        let result = stream(&context, &manifest, &placement, Owner::ROOT, &mut on_bytes)
            .read_to_end(&mut Vec::new());
        assert!(result.is_err(), "{change}");
    }
}

#[test]
fn an_interrupt_ends_the_walk() {
    let dir = context(&[("a", "")]);
    let context = Context::open(dir.path()).expect("opened");
    let stop = AtomicBool::new(true);
    let result = collect(&context, 1, &plan(&["a"], "/x"), &stop);
    assert!(matches!(result, Err(BuildError::Cancelled)));
}
