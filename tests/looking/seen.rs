//! What is shown of a tree.

use super::support::wait;
use super::{inside, start, stop, world};
use std::process::Stdio;

#[test]
fn a_runs_changes_are_told_while_it_runs_and_after_it() {
    let w = world();
    start(&w, &[]);
    assert_eq!(w.pocker(&["diff", "w"]).ok().out, "");
    inside(
        &w,
        "echo three >/d/three; rm /d/one; chmod 600 /etc/passwd; mv /d/sub /srv/; mkdir /new; touch -d '2001-02-03 04:05:06' /d/two; rm -r /var",
    );
    let told = "A /d/three\nD /d/one\nD /d/sub\nD /d/sub/link\nD /d/sub/same\nC /etc/passwd\nA /new\n\
        A /srv/sub\nA /srv/sub/link\nA /srv/sub/same\nD /var\nD /var/www\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(|l| l[2..].to_owned() + &l[..1]).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&w.pocker(&["diff", "w"]).ok().out), sorted(told));
    let json = w.pocker(&["diff", "w", "--json"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of = |path: &str| {
        json.as_array()
            .and_then(|all| all.iter().find(|d| d["path"] == path))
    };
    assert_eq!(
        of("/etc/passwd").expect("told")["parts"],
        serde_json::json!(["mode"])
    );
    assert_eq!(of("/d/three").expect("told")["after"], 6);
    // Changed and changed back is not changed: a byte there and back, a new file with the same bytes.
    inside(&w, "chmod 644 /etc/passwd; mv /d/bytes /x; mv /x /d/bytes");
    assert!(!w.pocker(&["diff", "w"]).ok().out.contains("passwd"));
    assert!(!w.pocker(&["diff", "w"]).ok().out.contains("bytes"));
    stop(&w);
    assert!(
        w.pocker(&["diff", "w"]).ok().out.contains("A /new\n"),
        "its tree is kept"
    );
    assert_eq!(w.pocker(&["cat", "w:/d/three"]).ok().out, "three\n");
}

#[test]
fn a_large_file_that_is_written_over_with_its_own_bytes_has_not_changed() {
    let w = super::support::World::new();
    w.create(
        "web",
        "EXEC head -c 300000 /dev/zero | tr '\\0' x >/big\nRUN sleep 1000\n",
    )
    .ok();
    start(&w, &[]);
    let write = |what: &str| {
        inside(
            &w,
            &format!("printf {what} | dd of=/big bs=1 seek=200000 conv=notrunc 2>/dev/null"),
        )
    };
    let parts = || {
        let json = w.pocker(&["diff", "w", "--json"]).ok().out;
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let all = json.as_array().expect("a list").clone();
        all.into_iter()
            .find(|d| d["path"] == "/big")
            .map(|d| d["parts"].clone())
    };
    write("y");
    assert_eq!(parts(), Some(serde_json::json!(["content", "mtime"])));
    write("x");
    assert_eq!(parts(), Some(serde_json::json!(["mtime"])));
    // Another file with its bytes, and one without.
    inside(&w, "cp -p /big /new; mv /new /big");
    assert_eq!(parts(), Some(serde_json::json!(["mtime"])));
    inside(&w, "sed s/x/z/ /big >/new; mv /new /big");
    assert_eq!(parts(), Some(serde_json::json!(["content", "mtime"])));
    stop(&w);
}

#[test]
fn a_tree_is_listed_with_what_ls_says() {
    let w = world();
    let paths = w.pocker(&["tree", "web:/d"]).ok().out;
    let all = "/d/\n/d/abs\n/d/bytes\n/d/one\n/d/pipe\n/d/sub/\n/d/sub/link\n/d/sub/same\n/d/two\n";
    assert_eq!(paths, all);
    let top = w.pocker(&["tree", "web@2:/d", "-L", "1"]).ok().out;
    assert_eq!(top, all.replace("/d/sub/link\n/d/sub/same\n", ""));
    let long = w.pocker(&["tree", "web:/d/two", "-l"]).ok().out;
    assert_eq!(
        long,
        "-rwsr-x---       33:8           4  2001-02-03 04:05  /d/two\n"
    );
    let long = w.pocker(&["tree", "web:/d/sub", "-l"]).ok().out;
    assert!(long.contains("  /d/sub/link -> ../one\n"), "{long}");
    // A link in the path is followed inside the tree.
    assert!(
        w.pocker(&["tree", "web:/d/abs"])
            .ok()
            .out
            .starts_with("/etc/passwd\n")
    );
    let json = w.pocker(&["tree", "web:/d/two", "--json"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["mode"], "4750");
    assert_eq!((&json[0]["uid"], &json[0]["gid"]), (&33.into(), &8.into()));
    let whole = w.pocker(&["tree", "web"]).ok().out;
    assert!(whole.starts_with("/\n/bin/\n") && whole.lines().count() > 100);

    // A run's names are those it has now.
    start(&w, &[]);
    inside(&w, "rm /d/one; echo x >/d/zoo");
    assert!(
        w.pocker(&["tree", "w:/d"])
            .ok()
            .out
            .ends_with("/d/two\n/d/zoo\n")
    );
    assert_eq!(
        w.pocker(&["tree", "web@run:/d"]).ok().out,
        all,
        "and the step is as it was"
    );
    stop(&w);
}

#[test]
fn a_files_bytes_come_out_as_they_are() {
    let w = world();
    let mut cat = w.command(&["cat", "web:/d/bytes", "web:/d/abs"]);
    let out = cat.stdout(Stdio::piped()).output().expect("cat");
    let passwd = w.pocker(&["cat", "web:/etc/passwd"]).ok().out;
    assert_eq!(out.stdout, [b"a\0b\xff", passwd.as_bytes()].concat());
    start(&w, &[]);
    // A link that leads out of the tree by its own idea leads nowhere else.
    inside(
        &w,
        "ln -s ../../../../../../etc/passwd /out; head -c 3000000 /dev/urandom >/big; sha256sum /big >/sum",
    );
    assert_eq!(w.pocker(&["cat", "w:/out"]).ok().out, passwd);
    let mut cat = w.command(&["cat", "w:/big"]);
    let big = cat.stdout(Stdio::piped()).output().expect("cat").stdout;
    use sha2::Digest;
    let sum = hex::encode(sha2::Sha256::digest(&big));
    assert_eq!(
        w.pocker(&["cat", "w:/sum"]).ok().out,
        format!("{sum}  /big\n")
    );
    // Who has seen enough is no failure.
    let mut cat = w.command(&["cat", "w:/big"]);
    let mut cat = cat
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cat");
    drop(cat.stdout.take());
    let done = wait(cat);
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    stop(&w);
}
