//! `pocker create`: steps, their cache, and what a build sees.

mod support;

use support::World;

fn lines(w: &World, script: &str, name: &str) -> String {
    w.pocker(&["run", name, "--", "/bin/sh", "-c", script])
        .ok()
        .out
}

#[test]
fn a_second_build_takes_every_step_from_the_cache() {
    let w = World::new();
    let text = "EXEC echo one >/one\nEXEC echo two >/two\nRUN cat /one /two\n";
    let first = w.create("a", text).ok();
    assert_eq!(first.err.matches("built in").count(), 4, "{}", first.err);
    let again = w.create("a", text).ok();
    assert_eq!(again.err.matches("cached").count(), 4, "{}", again.err);
    let changed = w.create("a", &text.replace("two >", "2 >")).ok();
    assert_eq!(changed.err.matches("cached").count(), 2, "{}", changed.err);
    assert_eq!(w.pocker(&["run", "a"]).ok().out, "one\n2\n");
    let forced = w
        .pocker(&["create", "--no-cache", "-f", "a.pockerfile", "a"])
        .ok();
    assert_eq!(forced.err.matches("cached").count(), 0, "{}", forced.err);
}

#[test]
fn explain_says_why_a_step_was_built() {
    let w = World::new();
    w.create("a", "EXEC true\nRUN true\n").ok();
    w.pockerfile("a", "EXEC true # changed\nRUN true\n");
    let done = w
        .pocker(&["create", "--explain", "-f", "a.pockerfile", "a"])
        .ok();
    assert!(done.err.contains("why: "), "{}", done.err);
}

#[test]
fn the_browse_view_shows_the_steps_as_the_seed_does() {
    let w = World::new();
    w.create("a", "EXEC echo x >/etc/x\nRUN true\n").ok();
    let dir = w.path("chroot/a");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .expect("the browse view is mounted")
        .map(|e| e.expect("entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    let run = names.iter().find(|n| n.starts_with("run-")).expect("run-");
    assert!(
        names
            .iter()
            .any(|n| n.starts_with("step1-") && n.len() == 6 + 64),
        "{names:?}"
    );
    assert!(names.iter().any(|n| n.starts_with("step2-")), "{names:?}");
    let link = std::fs::read_link(dir.join("run")).expect("a link");
    assert_eq!(link.to_str(), Some(run.as_str()));
    assert_eq!(
        std::fs::read_to_string(dir.join("run/etc/x")).expect("read"),
        "x\n"
    );
    let wrote = std::fs::write(dir.join("run/etc/x"), "changed");
    assert!(wrote.is_err(), "a sealed tree was written");
}

#[test]
fn copy_takes_the_context_with_owners_modes_and_ignores() {
    let w = World::new();
    w.write("ctx/app/main", "#!/bin/sh\necho main\n");
    w.write("ctx/app/skip.tmp", "no");
    w.write("ctx/.pockerignore", "**/*.tmp\n");
    w.pockerfile(
        "a",
        "COPY --chown=33:33 --chmod=750 app /srv/app/\nRUN true\n",
    );
    w.pocker(&["create", "-f", "a.pockerfile", "a", "ctx"]).ok();
    let seen = lines(&w, "cd /srv/app; stat -c '%n %a %u:%g' *; sh main", "a");
    assert_eq!(seen, "main 750 33:33\nmain\n");
    w.write("ctx/app/main", "#!/bin/sh\necho other\n");
    let done = w.pocker(&["create", "-f", "a.pockerfile", "a", "ctx"]).ok();
    assert_eq!(done.err.matches("cached").count(), 1, "{}", done.err);
    assert_eq!(lines(&w, "sh /srv/app/main", "a"), "other\n");
}

#[test]
fn settings_reach_builds_and_runs() {
    let w = World::new();
    let text = "ARG WHO=nobody\nENV GREETING=hello WHO=$WHO\nWORKDIR /srv\nUSER www\nEXEC id -un >/tmp/user; echo $GREETING $WHO >/tmp/said\nRUN cat /tmp/user /tmp/said; pwd; id -un; echo $GREETING\n";
    w.pockerfile("a", text);
    w.pocker(&[
        "create",
        "--build-arg",
        "WHO=you",
        "-f",
        "a.pockerfile",
        "a",
    ])
    .ok();
    // /tmp is a tmpfs of the run: what the build left there is below it.
    let seen = lines(&w, "pwd; id -un; echo $GREETING $WHO", "a");
    assert_eq!(seen, "/srv\nwww\nhello you\n");
}

#[test]
fn a_heredoc_is_a_script_and_part_of_the_key() {
    let w = World::new();
    let text = "EXEC <<EOF\nset -e\necho a >/a\necho b >/b\nEOF\nRUN cat /a /b\n";
    w.create("a", text).ok();
    assert_eq!(w.pocker(&["run", "a"]).ok().out, "a\nb\n");
    w.create("a", &text.replace("echo b", "echo c")).ok();
    assert_eq!(w.pocker(&["run", "a"]).ok().out, "a\nc\n");
}

#[test]
fn secrets_and_caches_are_there_while_building_and_never_kept() {
    let w = World::new();
    w.write("token", "s3cret-value");
    let text = "EXEC --secret id=tok test \"$(cat /run/secrets/tok)\" = s3cret-value\nRUN true\n";
    w.pockerfile("a", text);
    w.pocker(&["create", "-f", "a.pockerfile", "a"])
        .fails(&["tok", "--secret"]);
    w.pocker(&[
        "create",
        "--secret",
        "id=tok,src=token",
        "-f",
        "a.pockerfile",
        "a",
    ])
    .ok();
    let tar = w.pocker(&["export", "a", "-o", "a.tar"]).ok();
    drop(tar);
    let bytes = std::fs::read(w.path("a.tar")).expect("read");
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|win| win == needle);
    assert!(holds(b"busybox") && !holds(b"s3cret-value") && !holds(b"run/secrets"));
}

#[test]
fn nothing_of_the_host_is_sealed() {
    let w = World::new();
    w.create(
        "a",
        "EXEC test -e /etc/resolv.conf && test -e /dev/null\nRUN true\n",
    )
    .ok();
    let run = w.path("chroot/a/run");
    assert!(!run.join("etc/resolv.conf").exists());
    assert!(!run.join("etc/hosts").exists());
    assert_eq!(std::fs::read_dir(run.join("dev")).expect("dev").count(), 0);
    assert_eq!(
        std::fs::read_dir(run.join("proc")).expect("proc").count(),
        0
    );
}

#[test]
fn two_builds_of_one_file_share_their_steps() {
    let w = World::new();
    w.pockerfile("a", "EXEC sleep 1; date +%N >/when\nRUN cat /when\n");
    let one = w.start(&["create", "-f", "a.pockerfile", "one"]);
    let two = w.start(&["create", "-f", "a.pockerfile", "two"]);
    support::wait(one).ok();
    support::wait(two).ok();
    assert_eq!(
        w.pocker(&["run", "one"]).ok().out,
        w.pocker(&["run", "two"]).ok().out
    );
}

#[test]
fn builds_that_end_together_mount_the_view_once() {
    let w = World::new();
    w.pockerfile("a", "RUN true\n");
    w.pocker(&["create", "--no-browse", "-f", "a.pockerfile", "a"])
        .ok();
    let again = ["create", "-f", "a.pockerfile", "a"];
    let builds: Vec<_> = (0..4).map(|_| w.start(&again)).collect();
    builds.into_iter().for_each(|b| drop(support::wait(b).ok()));
    let view = w.path("chroot").to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let there = |line: &&str| line.split(' ').nth(4) == Some(&view);
    assert_eq!(mounts.lines().filter(there).count(), 1, "{mounts}");
}

#[test]
fn a_view_whose_mount_helper_was_killed_is_mounted_again() {
    use nix::sys::signal::{Signal, kill};
    let w = World::new();
    w.create("a", "RUN true\n").ok();
    let helper = |pid: &u32| {
        let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains("mount-helper")
    };
    for pid in w.processes().into_iter().filter(helper) {
        kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGKILL).expect("kill");
    }
    support::until("nobody serves the view", || {
        std::fs::read_dir(w.path("chroot")).is_err()
    });
    w.create("b", "RUN true\n").ok();
    assert!(w.path("chroot/b/run").exists());
}

#[test]
fn a_pocker_is_built_from_another() {
    let w = World::new();
    w.create("base", "EXEC echo base >/etc/base\nRUN echo base runs\n")
        .ok();
    w.write(
        "P",
        "FROM base\nEXEC echo more >>/etc/base\nRUN cat /etc/base\n",
    );
    w.pocker(&["create", "-f", "P", "next"]).ok();
    assert_eq!(w.pocker(&["run", "next"]).ok().out, "base\nmore\n");
    assert_eq!(w.pocker(&["run", "base"]).ok().out, "base runs\n");
}

#[test]
fn export_and_import_keep_the_tree() {
    let w = World::new();
    let text = "EXEC mkdir /d && echo x >/d/f && ln /d/f /d/hard && ln -s f /d/soft && mkfifo /d/pipe && chmod 4755 /d/f && touch -d '2001-02-03 04:05:06' /d/f\nRUN true\n";
    w.create("a", text).ok();
    w.pocker(&["export", "a", "-o", "a.tar"]).ok();
    w.pocker(&["import", "a.tar", "b"]).ok();
    w.pocker(&["export", "b", "-o", "b.tar"]).ok();
    let (a, b) = (
        std::fs::read(w.path("a.tar")).expect("a"),
        std::fs::read(w.path("b.tar")).expect("b"),
    );
    assert!(a == b, "an imported export exports the same bytes");
    // What is there already goes only where that was asked for.
    let other = ["import", "a.tar", "b", "--run", "echo new"];
    w.pocker(&other).fails(&[
        "there is a pocker named b",
        "hint: `pocker rm b` first, or replace it with --force",
    ]);
    w.pocker(&[&other[..], &["--force"]].concat()).ok();
    assert_eq!(w.pocker(&["run", "b"]).ok().out, "new\n");
    let seen = lines(
        &w,
        "stat -c '%a %h %Y' /d/f; readlink /d/soft; test -p /d/pipe && echo fifo",
        "b",
    );
    assert_eq!(seen, "4755 2 981173106\nf\nfifo\n");
}

#[test]
fn export_and_import_keep_newlines_in_names_and_attributes() {
    let w = World::new();
    w.create("a", "EXEC n=\"$(printf 'line\\nbreak%0120d' 0)\"; echo x >\"/$n\"; ln -s \"$n\" /soft; ln \"/$n\" \"/${n}2\"\nRUN true\n").ok();
    w.pocker(&["export", "a", "-o", "a.tar"]).ok();
    w.pocker(&["import", "a.tar", "b"]).ok();
    w.pocker(&["export", "b", "-o", "b.tar"]).ok();
    let read = |name| std::fs::read(w.path(name)).expect("an archive");
    assert!(read("a.tar") == read("b.tar"), "they differ");
    let seen = lines(&w, "cat /soft; stat -c %h /line*2", "b");
    assert_eq!(seen, "x\n2\n");
}

#[test]
fn a_build_goes_on_after_its_server_was_killed() {
    let w = World::new();
    let script = "i=0; echo up; while [ $i -lt 300 ]; do mkdir /d$i && echo $i >/d$i/f && mv /d$i/f /d$i/g && ln /d$i/g /d$i/h && rm /d$i/g || exit 1; i=$((i+1)); done";
    w.pockerfile(
        "a",
        &format!("EXEC {script}\nRUN cat /d299/h; ls -d /d* | wc -l\n"),
    );
    let mut child = w.start(&["create", "-f", "a.pockerfile", "a"]);
    use std::io::{BufRead, BufReader};
    let mut err = BufReader::new(child.stderr.take().expect("stderr"));
    let mut line = String::new();
    while !line.contains("| up") {
        line.clear();
        assert!(err.read_line(&mut line).expect("read") > 0, "ended early");
    }
    for _ in 0..3 {
        let pid = nix::unistd::Pid::from_raw(w.server_pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
        support::until("a server is back", || w.pocker(&["ls"]).status == 0);
    }
    let rest = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut err, &mut text);
        text
    });
    let done = support::wait(child);
    assert_eq!(done.status, 0, "{}", rest.join().expect("join"));
    // /dev counts as well.
    assert_eq!(w.pocker(&["run", "a"]).ok().out, "299\n301\n");
}

#[test]
fn a_replaced_build_and_rm_free_what_only_they_used() {
    let w = World::new();
    w.create(
        "a",
        "EXEC dd if=/dev/urandom of=/big bs=1M count=8 2>/dev/null\nRUN true\n",
    )
    .ok();
    let blobs = || -> u64 {
        let du = std::process::Command::new("du")
            .arg("-sk")
            .arg(w.path("store/blobs"))
            .output();
        let text = String::from_utf8(du.expect("du").stdout).expect("text");
        text.split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    assert!(blobs() > 8000);
    w.create("a", "RUN true\n").ok();
    w.pocker(&["gc"]).ok();
    assert!(blobs() < 8000, "{} kB left", blobs());
}

#[test]
fn history_and_diff_tell_what_each_step_did() {
    let w = World::new();
    let text = "EXEC mkdir /d; echo one >/d/one; echo two >/d/two; chmod 600 /d/two\n\
         EXEC rm /d/one; chmod 644 /d/two; mkdir /d/new; echo 3 >/d/new/three; chown 7 /etc/passwd\n\
         RUN true\n";
    w.create("a", text).ok();
    let history = w.pocker(&["history", "a"]).ok().out;
    let steps: Vec<&str> = history
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert_eq!(steps, ["STEP", "run", "step3", "step2", "step1"]);

    let diff = w.pocker(&["diff", "a@2", "a"]).ok().out;
    let seen = "A /d/new\nA /d/new/three\nD /d/one\nC /d/two\nC /etc/passwd\n";
    assert_eq!(diff, seen);
    assert_eq!(w.pocker(&["diff", "a@3", "a@run"]).ok().out, "");
    let back = w.pocker(&["diff", "a", "a@2", "--json"]).ok().out;
    let back: serde_json::Value = serde_json::from_str(&back).expect("JSON");
    let of = |path: &str| {
        let all = back.as_array().expect("a list");
        all.iter()
            .find(|d| d["path"] == path)
            .expect("a path")
            .clone()
    };
    assert_eq!(of("/d/two")["parts"], serde_json::json!(["mode"]));
    assert_eq!(of("/etc/passwd")["parts"], serde_json::json!(["owner"]));
    assert_eq!(of("/d/one")["change"], "added");
    assert_eq!(of("/d/one")["after"], 4);
    assert_eq!(of("/d")["parts"], serde_json::json!(["mtime"]));

    w.pocker(&["diff", "a@9", "a"])
        .fails(&["a has no step 9", "pocker ls a"]);
    w.pocker(&["history", "b"])
        .fails(&["there is no pocker named b"]);
}
