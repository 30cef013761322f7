//! Flags of a run that say what it may do and what it finds.

use crate::support::World;

fn world() -> World {
    let world = World::new();
    world
        .create("box", "ENV FROM=pockerfile BOTH=pockerfile\nRUN true\n")
        .ok();
    world
}

fn sh(w: &World, flags: &[&str], script: &str) -> crate::support::Done {
    let args = [&["run"], flags, &["box", "--", "/bin/sh", "-c", script]].concat();
    w.pocker(&args)
}

#[test]
fn a_read_only_tree_takes_no_writes_and_what_is_mounted_does() {
    let w = world();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let graft = format!("{}:/new/graft", w.path("g").display());
    let flags = [
        "--read-only",
        "-d",
        &graft,
        "--tmpfs",
        "/run:size=64k,mode=700",
    ];
    let script = "
        for f in /x /etc/passwd /new/x /var/x; do
            (: >>$f) 2>/dev/null && exit 1
        done
        rm /etc/passwd 2>/dev/null && exit 2
        mount -o remount,rw / 2>/dev/null && exit 3
        set -e
        echo t >/tmp/x; echo r >/run/x; echo g >/new/graft/x; echo s >/dev/shm/x
        stat -c %a /run
        head -c 1000000 /dev/zero >/run/much 2>/dev/null && exit 4
        exit 0";
    let done = sh(&w, &flags, script);
    assert_eq!(
        (done.status, done.out.as_str()),
        (0, "700\n"),
        "{}",
        done.err
    );
    assert_eq!(std::fs::read_to_string(w.path("g/x")).expect("kept"), "g\n");
    sh(&w, &[], "echo x >/x").ok();
}

#[test]
fn names_and_environment_are_those_that_were_asked_for() {
    let w = world();
    w.write("first", "# of a file\nA=1\nB=first\nPASSED\nBOTH=file\n");
    w.write("second", "B=second with = and \"quotes\"\n");
    let args = [
        "run",
        "--hostname",
        "web-1.example",
        "--env-file",
        "first",
        "--env-file",
        "second",
        "-e",
        "A=flag",
        "box",
        "--",
        "/bin/sh",
        "-c",
        "hostname; echo $A,$B,$PASSED,$FROM,$BOTH",
    ];
    let mut command = w.command(&args);
    command
        .env("PASSED", "own")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = crate::support::wait(command.spawn().expect("start")).ok();
    assert_eq!(
        done.out,
        "web-1.example\nflag,second with = and \"quotes\",own,pockerfile,file\n"
    );
    assert_eq!(sh(&w, &[], "hostname").ok().out, "box\n");
}

const STATUS: &str = "grep -E '^Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2 | tr '\\n' ' '";

#[test]
fn capabilities_are_a_named_few_for_root_and_none_for_others() {
    let w = world();
    let status = |flags: &[&str]| sh(&w, flags, STATUS).ok().out;
    let none = "0000000000000000";
    let default = "00000000200405fb";
    // Permitted, effective, bounding, ambient; no_new_privs; a filter.
    assert_eq!(
        status(&[]),
        format!("{default} {default} {default} {none} 1 2 ")
    );
    assert_eq!(
        status(&["-u", "www"]),
        format!("{none} {none} {none} {none} 1 2 ")
    );
    assert_eq!(
        status(&["-u", "12:34"]),
        format!("{none} {none} {none} {none} 1 2 ")
    );
    let bind = "0000000000000400";
    let only = ["--cap-drop", "all", "--cap-add", "NET_BIND_SERVICE"];
    assert_eq!(status(&only), format!("{bind} {bind} {bind} {none} 1 2 "));
    let user = ["-u", "www", "--cap-add", "cap_net_bind_service"];
    assert_eq!(status(&user), format!("{bind} {bind} {bind} {bind} 1 2 "));
    let without = "00000000200405fa";
    let dropped = ["--cap-drop", "CHOWN"];
    assert_eq!(
        status(&dropped),
        format!("{without} {without} {without} {none} 1 2 ")
    );
    assert!(sh(&w, &dropped, "chown 1 /etc/passwd").status != 0);
    let setuid = ["--allow-setuid", "-u", "www"];
    assert_eq!(
        status(&setuid),
        format!("{none} {none} {default} {none} 0 2 ")
    );
    // A build: MKNOD and SETFCAP besides, and setuid programs.
    let build = w
        .create("built", &format!("EXEC {STATUS}\nRUN true\n"))
        .ok();
    let packages = "00000000a80405fb";
    let want = format!("{packages} {packages} {packages} {none} 0 2 ");
    assert!(build.err.contains(want.trim()), "{}", build.err);
}

#[test]
fn a_bare_chroot_says_what_it_is_worth() {
    let w = world();
    let done = sh(&w, &["--unsafe-plain"], "echo $$; hostname").ok();
    let warnings: Vec<&str> = done
        .err
        .lines()
        .filter(|l| l.contains("--unsafe-plain"))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", done.err);
    assert!(warnings[0].contains("protects nothing"), "{}", done.err);
    let host = nix::unistd::gethostname().expect("a name");
    let (pid, name) = done.out.trim().split_once('\n').expect("two lines");
    assert_eq!(name, host.to_string_lossy());
    assert!(pid.parse::<u32>().expect("a pid") > 2);
    assert!(!sh(&w, &[], "true").err.contains("unsafe"));
}

/// Each in one line, and a hint.
#[test]
fn what_makes_no_sense_is_refused_with_a_hint() {
    let w = world();
    w.write("env", "A=1\nnot a name=secret-value\n");
    for (flags, words) in [
        (
            &["--cap-add", "NET_RAWW"][..],
            ["\"NET_RAWW\" is no capability", "did you mean NET_RAW?"],
        ),
        (
            &["--cap-drop", "everything"],
            ["\"everything\" is no capability", "capabilities(7)"],
        ),
        (&["-u", "eve"], ["no user \"eve\"", "hint: "]),
        (&["-u", "www:eve"], ["no group \"eve\"", "hint: "]),
        (
            &["--hostname", "a b"],
            ["--hostname \"a b\"", "web-1.example"],
        ),
        (&["--tmpfs", "run"], ["--tmpfs run", "/run"]),
        (
            &["-w", "rel"],
            ["--workdir \"rel\"", "hint: start with a slash: /rel"],
        ),
        (
            &["--ulimit", "nofile=1"],
            ["Too many open files", "nofile=64"],
        ),
        (
            &["--tmpfs", "/proc/x"],
            ["/proc is the sandbox's own", "another place"],
        ),
        (&["--env-file", "none"], ["none", "No such file"]),
        (&["--env-file", "env"], ["line 2", "NAME=VALUE"]),
        (
            &["--unsafe-plain", "--cap-add", "ALL"],
            ["cannot be used with", "Usage"],
        ),
    ] {
        let done = sh(&w, flags, "true").fails(&words);
        assert!(!done.err.contains("secret-value"), "{}", done.err);
        assert_eq!(done.err.matches("error: ").count(), 1, "{}", done.err);
    }
    let said = |flags: &[&str]| {
        let done = sh(&w, flags, "true");
        format!("{}status {}", done.err, done.status)
    };
    insta::assert_snapshot!(said(&["--cap-add", "NET_RAWW"]), @r#"
    error: "NET_RAWW" is no capability
    hint: did you mean NET_RAW?
    status 125
    "#);
    insta::assert_snapshot!(said(&["-u", "eve"]), @r#"
    error: cannot start it: become user eve: the tree's /etc/passwd has no user "eve"
    hint: the tree's own /etc/passwd and /etc/group have the names; a number needs no entry: 1000:1000
    status 125
    "#);
    insta::assert_snapshot!(said(&["-d", "/tmp:/x:suid"]), @"
    error: -d /tmp:/x:suid: this run gives setuid programs nothing
    hint: say --allow-setuid too, if that is what you want
    status 125
    ");
}
