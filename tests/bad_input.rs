//! Every mistake a person can make gets one clear error with a hint; nothing is
//! lost and nothing half-made is left.

mod support;

use support::{Done, World, until};

#[track_caller]
fn refused(w: &World, name: &str, text: &str) -> Done {
    w.write("P", text);
    let done = w.pocker(&["create", "-f", "P", name]);
    assert_ne!(done.status, 0, "{text:?} was taken");
    assert!(done.err.contains("error: "), "{}", done.err);
    let listed = w.pocker(&["ls", "--json"]).ok();
    assert!(
        !listed.out.contains(&format!("\"{name}\"")),
        "half-made: {}",
        listed.out
    );
    done
}

#[test]
fn pockerfiles_that_cannot_be_right_name_the_line() {
    let w = World::new();
    refused(&w, "a", "").fails(&["no instructions", "hint:"]);
    refused(&w, "a", "FROM scratch\nPKGS nginx\nRUN x\n")
        .fails(&["line 2", "PKGS", "hint:", "PKG"]);
    refused(&w, "a", "FROM scratch\n").fails(&["RUN", "hint:"]);
    refused(&w, "a", "FROM scratch\nRUN a\nRUN b\n").fails(&["line 3", "RUN"]);
    refused(&w, "a", "FROM scratch\nRUN a\nENV k=v\n").fails(&["RUN", "last"]);
    refused(&w, "a", "FROM scratch\nPKG\nRUN a\n").fails(&["line 2", "PKG"]);
}

#[test]
fn names_that_cannot_be_used_are_refused_with_a_reason() {
    let w = World::new();
    refused(&w, "a/b", "FROM scratch\nRUN x\n").fails(&["a/b"]);
    refused(&w, "..", "FROM scratch\nRUN x\n").fails(&[".."]);
    refused(&w, "run", "FROM scratch\nRUN x\n").fails(&["command of pocker", "hint:"]);
}

#[test]
fn grafts_that_cannot_be_right_are_refused_before_anything_starts() {
    let w = World::new();
    w.create("box", "EXEC touch /file\nRUN true\n").ok();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let g = w.path("g").display().to_string();
    let run = |grafts: &[&str]| {
        let mut args = vec!["run"];
        for graft in grafts {
            args.extend(["-d", graft]);
        }
        args.push("box");
        w.pocker(&args)
    };
    run(&["box2"]).fails(&["hint:", "--detach"]);
    run(&["rel:/x"]).fails(&["rel", "absolute"]);
    run(&[&format!("{g}:rel")]).fails(&["rel", "absolute"]);
    run(&["/no/such/dir:/x"]).fails(&["/no/such/dir", "hint:", "mkdir"]);
    run(&[&format!("{g}:/x"), &format!("{g}:/x/")]).fails(&["/x", "another graft"]);
    run(&[&format!("{g}:/file")]).fails(&["/file"]);
    run(&[&format!("{}:/x", w.path("busybox.tar").display())]).fails(&["not a directory"]);
    assert_eq!(run(&[&format!("{g}:/fine")]).status, 0);
}

#[test]
fn an_archive_that_differs_from_its_pin_leaves_nothing() {
    let w = World::new();
    let (root, _) = w.busybox();
    let wrong = "0".repeat(64);
    refused(
        &w,
        "a",
        &format!("FROM {} sha256:{wrong}\nRUN x\n", root.display()),
    )
    .fails(&["SHA-256", &wrong, "hint:"]);
    assert_eq!(
        w.pocker(&["gc", "--json"])
            .ok()
            .out
            .matches("\"steps\": 0")
            .count(),
        1
    );
}

#[test]
fn a_package_that_does_not_exist_shows_what_the_package_manager_said() {
    let w = World::new();
    // A stand-in for apt that fails as apt does.
    let fake = "EXEC printf '#!/bin/sh\\ncase \"$*\" in *update*) exit 0;; esac\\necho E: Unable to locate package nosuch >&2\\nexit 100\\n' >/bin/apt-get && chmod 755 /bin/apt-get && ln -s apt-get /bin/apt && mkdir -p /usr/bin && ln -s /bin/apt-get /usr/bin/apt-get\nPKG nosuch\nRUN true\n";
    let done =
        w.create("a", fake)
            .fails(&["Unable to locate package nosuch", "hint:", "pocker debug a"]);
    assert!(done.err.contains("PKG nosuch"), "{}", done.err);
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let w = World::new();
    let passwd = w.write("passwd", &"root:x:0:0:root:/root:/bin/bash\n".repeat(40));
    let done = w.pocker(&["import", &passwd.display().to_string(), "a"]);
    let done = done.fails(&["it is not a tar archive", "hint:"]);
    assert!(!done.err.contains("/bin/bash"), "{}", done.err);
    w.pocker(&["images"])
        .fails(&["no command and no pocker named images", "`pocker ls`"]);
}

#[test]
fn a_failed_step_keeps_its_tree_for_debug_until_the_next_build() {
    let w = World::new();
    w.create("a", "EXEC echo half >/work; exit 4\nRUN true\n")
        .fails(&["a.pockerfile: line 2: ", "EXEC", "4", "pocker debug a"]);
    let seen = w.pocker(&["debug", "a", "--", "/bin/cat", "/work"]).ok();
    assert_eq!(seen.out, "half\n");
    w.pocker(&["reset", "a"]).ok();
    w.pocker(&["debug", "a", "--", "/bin/cat", "/work"])
        .fails(&["nothing is kept"]);
}

#[test]
fn one_store_has_one_server() {
    let w = World::new();
    w.pocker(&["ls"]).ok();
    let mut second = w.command(&["--socket-dir", "other", "serve"]);
    let out = second
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = support::wait(out.spawn().expect("start"));
    done.fails(&["store", "in use", "hint:"]);
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let w = World::new();
    let file = w.write("plain", "a file");
    let done = w.pocker(&["--store", &file.display().to_string(), "ls"]);
    done.fails(&["plain"]);
}

#[test]
fn ctrl_c_drops_the_work_tree_and_the_next_build_works() {
    let w = World::new();
    w.pockerfile("a", "EXEC echo up; sleep 60\nRUN true\n");
    let mut child = w.start(&["create", "-f", "a.pockerfile", "a"]);
    use std::io::{BufRead, BufReader};
    let mut err = BufReader::new(child.stderr.take().expect("stderr"));
    let mut line = String::new();
    while !line.contains("| up") {
        line.clear();
        assert!(err.read_line(&mut line).expect("read") > 0, "ended early");
    }
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    let done = support::wait(child);
    assert_eq!(done.status, 130);
    until("the work tree is dropped", || {
        let trees = std::fs::read_dir(w.path("store/staging"))
            .map(|d| d.count())
            .unwrap_or(0);
        trees == 0 || w.pocker(&["debug", "a", "--", "/bin/true"]).status != 0
    });
    w.create("a", "EXEC echo fine\nRUN true\n").ok();
}

/// From before the server is reached to after the last step.
#[test]
fn ctrl_c_at_any_moment_leaves_nothing_half_made() {
    let w = World::new();
    let text = "EXEC echo one >/one\nEXEC sleep 0.05; echo two >/two\nRUN cat /one /two\n";
    w.pockerfile("a", text);
    let create = ["create", "--no-cache", "-f", "a.pockerfile", "a"];
    let mut interrupted = 0;
    for n in 0..20 {
        let child = w.start(&create);
        // The moment is what is tested; the last ones come after the end.
        std::thread::sleep(std::time::Duration::from_millis(n * n));
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
        let done = support::wait(child);
        assert!([0, 130].contains(&done.status), "{n}: {done:?}");
        interrupted += usize::from(done.status == 130);
    }
    assert!(interrupted > 3, "{interrupted} of 20");
    w.pocker(&create).ok();
    assert_eq!(w.pocker(&["run", "a"]).ok().out, "one\ntwo\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let view = w.path("chroot").to_string_lossy().into_owned();
    let world = w.dir.path().to_string_lossy().into_owned();
    let other = |l: &&str| {
        l.contains(&world) && !l.contains(&view) && !l.contains("/s/view") && !l.contains("/netns")
    };
    assert_eq!(mounts.lines().filter(other).count(), 0, "{mounts}");
    w.pocker(&["fsck"]).ok();
}

#[test]
fn what_is_not_there_is_said_plainly() {
    let w = World::new();
    w.pocker(&["run", "nope"])
        .fails(&["no pocker named nope", "hint:"]);
    w.pocker(&["rm", "nope"]).fails(&["no pocker named nope"]);
    w.pocker(&["export", "nope"])
        .fails(&["no pocker named nope"]);
    w.pocker(&["mount", "nope", "."])
        .fails(&["no pocker named nope"]);
    w.pocker(&["umount", "."]).fails(&["mounted nothing"]);
    w.pocker(&["create", "-f", "missing", "a"])
        .fails(&["missing"]);
}

#[test]
fn a_pipe_that_brings_nothing_makes_no_pocker() {
    let w = World::new();
    w.pocker(&["import", "-", "a"])
        .fails(&["archive", "complete"]);
    w.pocker(&["run", "a"]).fails(&["no pocker named a"]);
}

#[test]
fn another_user_is_told_to_be_root() {
    let w = World::new();
    let mut command = w.command(&["ls"]);
    use std::os::unix::process::CommandExt;
    std::fs::set_permissions(
        w.dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("chmod");
    command
        .uid(65534)
        .gid(65534)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    // The program has to be reachable by that user.
    let copy = w.path("pocker");
    std::fs::copy(env!("CARGO_BIN_EXE_pocker"), &copy).expect("copy");
    let mut own = std::process::Command::new(&copy);
    own.arg("ls").uid(65534).gid(65534).current_dir("/");
    own.stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = support::wait(own.spawn().expect("start"));
    done.fails(&["root", "hint:"]);
}

#[test]
fn a_server_that_stays_away_ends_the_build_with_a_word() {
    let w = World::new();
    w.pockerfile(
        "a",
        &format!(
            "EXEC echo up; while :; do echo x >/x; sleep 0.1; done # {}\nRUN true\n",
            w.dir.path().display()
        ),
    );
    let mut server = w.start(&["serve"]);
    until("the server answers", || w.path("s/control.sock").exists());
    let mut child = w.start(&["--server-timeout", "1", "create", "-f", "a.pockerfile", "a"]);
    use std::io::{BufRead, BufReader, Read};
    let mut err = BufReader::new(child.stderr.take().expect("stderr"));
    let mut line = String::new();
    while !line.contains("| up") {
        line.clear();
        assert!(err.read_line(&mut line).expect("read") > 0, "ended early");
    }
    server.kill().expect("killed");
    server.wait().expect("waited");
    let done = support::wait(child);
    let mut rest = String::new();
    err.read_to_string(&mut rest).expect("read");
    assert_eq!(done.status, 1, "{rest}");
    assert!(
        rest.contains("did not come back within 1 s") && rest.contains("hint:"),
        "{rest}"
    );
    // The command was waiting for an answer to a write, and the helper for the server.
    w.pocker(&["serve", "--stop"]).ok();
    until("neither the command nor the mount helper is left", || {
        w.processes().is_empty()
    });
}

#[test]
fn a_host_that_can_mount_nothing_is_told_so() {
    let w = World::new();
    w.create("box", "RUN true\n").ok();
    let hide = "mount --make-rprivate / && mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec \"$0\" run box";
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", hide, env!("CARGO_BIN_EXE_pocker")]);
    command
        .env("POCKER_STORE", w.path("store"))
        .env("POCKER_SOCKET_DIR", w.path("s"));
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = support::wait(command.spawn().expect("unshare starts"));
    done.fails(&["fuse", "hint:", "pocker doctor"]);
}

/// What a build that filled the store left is dropped again, although dropping it wants
/// room in the store's own records.
#[test]
fn a_store_that_is_full_works_again_once_the_failed_build_is_dropped() {
    let w = World::new();
    let small = w.path("small");
    std::fs::create_dir(&small).expect("mkdir");
    let none: Option<&str> = None;
    nix::mount::mount(
        none,
        &small,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=24m"),
    )
    .expect("a small tmpfs");
    let pocker = |args: &[&str]| {
        let mut command = w.command(args);
        command
            .env("POCKER_STORE", small.join("store"))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        support::wait(command.spawn().expect("pocker starts"))
    };
    w.pockerfile("box", "RUN echo started\n");
    pocker(&["create", "-f", "box.pockerfile", "box"]).ok();
    w.pockerfile("big", "EXEC dd if=/dev/urandom of=/big bs=1M\nRUN true\n");
    pocker(&["create", "-f", "big.pockerfile", "big"]).fails(&["No space left on device"]);
    // Kept for `pocker debug` where that could still be recorded.
    pocker(&["reset", "big"]);
    pocker(&["gc"]).ok();
    assert_eq!(pocker(&["box"]).ok().out, "started\n");
    pocker(&["serve", "--stop"]).ok();
    nix::mount::umount(&small).expect("unmount");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
    let w = World::new();
    for args in [
        &["version"][..],
        &["completions", "bash"],
        &["ls", "--json"],
    ] {
        let (read, write) = std::io::pipe().expect("pipe");
        drop(read);
        let mut command = w.command(args);
        command.stdout(write).stderr(std::process::Stdio::piped());
        support::wait(command.spawn().expect("start")).ok();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut command = w.command(args);
        command
            .stdout(full.expect("/dev/full"))
            .stderr(std::process::Stdio::piped());
        support::wait(command.spawn().expect("start")).fails(&["cannot write", "No space left"]);
    }
}

#[test]
fn a_mount_is_unmounted_by_any_path_to_it() {
    let w = World::new();
    w.create("a", "RUN true\n").ok();
    std::fs::create_dir(w.path("real")).expect("mkdir");
    std::os::unix::fs::symlink("real", w.path("link")).expect("symlink");
    w.pocker(&["mount", "a", "link"]).ok();
    assert!(w.path("real/bin").exists());
    w.pocker(&["umount", "link"]).ok();
    assert!(!w.path("real/bin").exists());
    w.pocker(&["umount", "link"])
        .fails(&["mounted nothing on", "real"]);
}
