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

#[test]
fn what_is_on_disk_is_told_by_pocker_and_by_step() {
    let w = world();
    w.create(
        "more",
        "EXEC head -c 2000000 /dev/urandom >/noise\nEXEC rm /noise\nRUN true\n",
    )
    .ok();
    let json = w.pocker(&["du", "--json"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let more = &json["pockers"][0];
    assert_eq!(more["name"], "more");
    let own = number(&more["own"]);
    // What a step removed is still the earlier step's.
    assert!((2_000_000..2_040_000).contains(&own), "{own}");
    let added: Vec<u64> = more["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|s| number(&s["added"]))
        .collect();
    assert_eq!(added.len(), 4);
    assert!(
        (2_000_000..2_040_000).contains(&added[1]) && added[2] < 20_000 && added[3] == 0,
        "{added:?}"
    );
    assert_eq!(number(&more["stored"]), added.iter().sum::<u64>());
    assert_eq!(number(&more["shared"]), number(&more["stored"]) - own);
    let web = &json["pockers"][1];
    assert_eq!(number(&json["stored"]), own + number(&web["stored"]));
    // A pinned step stays when its pocker goes.
    w.pocker(&["pin", "more@2"]).ok();
    let table = w.pocker(&["du", "more"]).ok().out;
    let rows: Vec<&str> = table
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert_eq!(rows, ["NAME", "more", "step1", "step2", "step3", "run"]);
    let json = w.pocker(&["du", "more", "--json"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(number(&json["pockers"][0]["own"]) < 40_000);
    let total = w.pocker(&["du"]).ok().out;
    assert!(
        total.contains("\ntotal ") && total.contains("\npins "),
        "{total}"
    );
    w.pocker(&["du", "nobody"])
        .fails(&["there is no pocker named nobody", "hint:"]);
}

#[test]
fn a_step_is_inspected_as_a_pocker_is() {
    let w = world();
    let of = |args: &[&str]| {
        let json = w.pocker(&[&["inspect"], args].concat()).ok().out;
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON")
    };
    let (web, step, last) = (of(&["web"]), of(&["web@2", "-s"]), of(&["web@run"]));
    assert_eq!(web["steps"][1]["key"], step["key"]);
    assert_eq!(
        (&step["number"], &step["pocker"]),
        (&2.into(), &"web".into())
    );
    assert!(step["disk"]["added"].as_u64().expect("bytes") > 0 && step.get("config").is_none());
    assert_eq!(last["config"]["command"], "sleep 1000");
    assert!(web.get("disk").is_none() && of(&["web", "--size"])["disk"]["own"].is_u64());
    w.pocker(&["inspect", "web@7"])
        .fails(&["web has no step 7", "hint:"]);
    w.pocker(&["inspect", "nobody@1"])
        .fails(&["no run and no pocker named nobody", "hint:"]);
}

#[test]
fn any_step_is_mounted_where_it_is_wanted() {
    let w = world();
    let dir = w.path("mnt");
    std::fs::create_dir(&dir).expect("mkdir");
    let at = super::text(&dir);
    for step in ["web@1", "web@step2", "web"] {
        w.pocker(&["mount", step, &at]).ok();
        assert_eq!(dir.join("d/one").exists(), step != "web@1", "{step}");
        let refused = std::fs::write(dir.join("new"), "x").expect_err("it is sealed");
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
        w.pocker(&["mount", step, &at])
            .fails(&["something is mounted on", "hint: pocker umount"]);
        w.pocker(&["umount", &at]).ok();
        assert_eq!(std::fs::read_dir(&dir).expect("list").count(), 0);
    }
    w.pocker(&["umount", &at])
        .fails(&["pocker mounted nothing on", "hint:"]);
    w.pocker(&["mount", "web@9", &at])
        .fails(&["web has no step 9", "hint:"]);
}

#[test]
fn what_is_cold_is_compressed_and_read_as_before() {
    let w = world();
    let text = "EXEC seq 1 60000 >/numbers; sha256sum /numbers >/sum\nRUN sha256sum -c /sum\n";
    w.create("big", text).ok();
    let stored = || {
        let json = w.pocker(&["du", "--json"]).ok().out;
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        json["stored"].as_u64().expect("bytes")
    };
    let before = stored();
    assert!(
        w.pocker(&["gc", "--compress", "cold"])
            .ok()
            .out
            .contains("compressed 0 blobs")
    );
    // A second is what a step's age is counted in.
    super::support::until("what was made is older than this second", || {
        let gc = ["gc", "--compress", "cold", "--cold-after", "0s"];
        !w.pocker(&gc).ok().out.contains("compressed 0 blobs")
    });
    let packed = stored();
    assert!(packed * 4 < before * 3, "{packed} of {before}");
    w.pocker(&["fsck"]).ok();
    assert_eq!(w.pocker(&["run", "big"]).ok().out, "/numbers: OK\n");
    assert!(stored() > packed);
    w.pocker(&["fsck"]).ok();
    w.pocker(&["gc", "--compress", "hot"])
        .fails(&["hot", "hint:"]);
    w.pocker(&["gc", "--cold-after", "1d"])
        .fails(&["--compress", "hint:"]);
}

/// What a copy did and what a file holds, for programs.
#[test]
fn files_and_copies_are_told_as_json() {
    let w = world();
    let json = |args: &[&str]| {
        let said = w.pocker(args).ok().out;
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")
    };
    let told = json(&["cat", "--json", "web:/d/bytes", "web:/d/one"]);
    assert_eq!(
        told,
        serde_json::json!([
            {"path": "/d/bytes", "size": 4, "base64": "YQBi/w=="},
            {"path": "/d/one", "size": 4, "base64": "b25lCg=="},
        ])
    );
    let to = super::text(&w.path("out"));
    let told = json(&["cp", "--json", "web:/d/one", &to]);
    let expected = serde_json::json!({"from": "web:/d/one", "to": to, "devices_left_out": 0});
    assert_eq!(told, expected);
    assert_eq!(std::fs::read(&to).expect("copied"), b"one\n");
    w.pocker(&["cp", "--json", "web:/d/one", "-"])
        .fails(&["both go to standard output", "hint: "]);
}

#[test]
fn mounts_are_told_as_json() {
    let w = world();
    let json = |args: &[&str]| {
        let said = w.pocker(args).ok().out;
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")
    };
    let on = w.path("mounted");
    std::fs::create_dir(&on).expect("mkdir");
    let on = super::text(&on);
    let expected =
        |read_only| serde_json::json!({"target": on, "what": "web", "read_only": read_only});
    assert_eq!(json(&["mount", "--json", "web", &on]), expected(true));
    w.pocker(&["umount", &on]).ok();
    assert_eq!(
        json(&["mount", "--rw", "--json", "web", &on]),
        expected(false)
    );
    w.pocker(&["umount", &on]).ok();
    // As people are told.
    let told = json(&["mount", "--print", "--json", "web"]);
    let said = w.pocker(&["mount", "--print", "web"]).ok().out;
    assert_eq!(
        (&told["read_only"], &told["listen"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let export = told["export"].as_str().expect("an export");
    assert!(said.contains(&format!("export   {export}\n")), "{said}");
    for system in ["linux", "openbsd", "freebsd", "macos"] {
        let command = told["commands"][system].as_str().expect("a command");
        assert!(said.contains(&format!("{system:<8} {command}\n")), "{said}");
    }
}
