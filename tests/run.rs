//! `pocker run`: what a person sees of a running pocker.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use support::{World, until, wait};

fn world() -> World {
    let world = World::new();
    world.create("box", "RUN echo started by RUN\n").ok();
    world
}

#[test]
fn run_starts_what_the_pockerfile_says_and_passes_on_its_status() {
    let w = world();
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "started by RUN\n");
    assert_eq!(w.pocker(&["box"]).ok().out, "started by RUN\n");
    let status = |cmd: &str| w.pocker(&["run", "box", "--", "/bin/sh", "-c", cmd]).status;
    assert_eq!(status("exit 3"), 3);
    assert_eq!(status("kill -9 $$"), 137);
    assert_eq!(w.pocker(&["run", "box", "--", "/no/such"]).status, 127);
    assert_eq!(w.pocker(&["run", "box", "--", "/etc/passwd"]).status, 126);
}

#[test]
fn each_start_finds_a_clean_tree_and_grafts_stay() {
    let w = world();
    std::fs::create_dir(w.path("www")).expect("mkdir");
    let graft = format!("{}:/var/www", w.path("www").display());
    let script = "test ! -e /etc/mark || exit 9; echo x >/etc/mark; echo y >/var/www/kept; cat /var/www/given";
    std::fs::write(w.path("www/given"), "from the host\n").expect("write");
    for _ in 0..2 {
        let done = w
            .pocker(&["-d", &graft, "box", "--", "/bin/sh", "-c", script])
            .ok();
        assert_eq!(done.out, "from the host\n");
    }
    assert_eq!(
        std::fs::read_to_string(w.path("www/kept")).expect("kept"),
        "y\n"
    );
}

#[test]
fn a_read_only_graft_cannot_be_written_and_a_symlink_leads_nowhere_outside() {
    let w = World::new();
    w.create(
        "box",
        "EXEC ln -s /etc /var/lead && ln -s ../../../../../etc /var/up\nRUN true\n",
    )
    .ok();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    let host = w.path("g").display().to_string();
    let done = w.pocker(&[
        "-d",
        &format!("{host}:/mnt/x:ro"),
        "box",
        "--",
        "/bin/sh",
        "-c",
        "echo >/mnt/x/f",
    ]);
    assert_ne!(done.status, 0);
    assert!(done.err.contains("Read-only"), "{}", done.err);
    for target in ["/var/lead/sub", "/var/up/sub"] {
        let graft = format!("{host}:{target}");
        w.pocker(&[
            "-d",
            &graft,
            "box",
            "--",
            "/bin/sh",
            "-c",
            "echo in >/etc/sub/f",
        ])
        .ok();
    }
    assert_eq!(
        std::fs::read_to_string(w.path("g/f")).expect("in the graft"),
        "in\n"
    );
    assert!(
        !std::path::Path::new("/etc/sub").exists(),
        "the host's /etc got a directory"
    );
}

#[test]
fn a_file_opened_by_root_is_written_by_www_and_groups_count() {
    let w = world();
    let script = "
        exec 3>/tmp/log
        chmod 700 /tmp/log
        su www -c 'echo written >&3' || exit 1
        grep -q written /tmp/log || exit 2
        mkdir /var/shared && chgrp shared /var/shared && chmod 2770 /var/shared || exit 3
        su www -c 'echo x >/var/shared/f' || exit 4
        test \"$(stat -c %g /var/shared/f)\" = 500 || exit 5
        su mail -c 'cat /var/shared/f' 2>/dev/null && exit 6
        exit 0";
    let done = w.pocker(&["run", "box", "--", "/bin/sh", "-c", script]);
    assert_eq!(done.status, 0, "{}", done.err);
}

#[test]
fn a_program_may_unlink_its_open_file() {
    let w = world();
    let script = "
        exec 3<>/var/open; echo hello >&3; rm /var/open; test ! -e /var/open || exit 1
        echo more >&3; cat </proc/self/fd/3 | tr '\\n' ' '; ls -A /var";
    let done = w
        .pocker(&["run", "box", "--", "/bin/sh", "-c", script])
        .ok();
    assert!(done.out.starts_with("hello more"), "{}", done.out);
    assert!(!done.out.contains("hidden"), "{}", done.out);
}

#[test]
fn the_environment_of_who_starts_a_run_is_not_seen_in_it() {
    let w = world();
    let mut command = w.command(&[
        "run",
        "box",
        "--",
        "/bin/sh",
        "-c",
        "cat /proc/*/environ; true",
    ]);
    command
        .env("TOKEN", "of-the-host")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = wait(command.spawn().expect("start")).ok();
    assert!(!done.out.contains("of-the-host"), "{}", done.out);
}

#[test]
fn a_signal_reaches_the_command_and_nothing_is_left() {
    let w = world();
    let mut child = w.start(&[
        "run",
        "box",
        "--",
        "/bin/sh",
        "-c",
        "trap 'exit 7' TERM; echo up; while :; do sleep 1; done",
    ]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout"))
        .read_line(&mut line)
        .expect("read");
    assert_eq!(line, "up\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("kill");
    assert_eq!(wait(child).status, 7);
}

#[test]
fn one_pocker_runs_twice_at_once_and_rm_refuses_meanwhile() {
    let w = world();
    let script = "echo up; read x; test -e /etc/mark && exit 9; echo >/etc/mark; exit 0";
    let mut runs: Vec<_> = (0..2)
        .map(|_| {
            let mut command = w.command(&["run", "box", "--", "/bin/sh", "-c", script]);
            command
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped());
            let mut child = command.spawn().expect("start");
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().expect("stdout"))
                .read_line(&mut line)
                .expect("read");
            child
        })
        .collect();
    w.pocker(&["rm", "box"]).fails(&["running", "--force"]);
    for child in &mut runs {
        drop(child.stdin.take());
    }
    for child in runs {
        // `read` ends at the end of input; both trees were clean.
        assert_eq!(wait(child).status, 0);
    }
    w.pocker(&["rm", "box"]).ok();
    w.pocker(&["run", "box"]).fails(&["no pocker named box"]);
}

#[test]
fn a_run_outlives_its_killed_server() {
    let w = world();
    let script = "echo one >/var/f; echo up; read x; cat /var/f; echo two >>/var/f; cat /var/f";
    let mut command = w.command(&["run", "box", "--", "/bin/sh", "-c", script]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("start");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout"))
        .read_line(&mut line)
        .expect("read");
    let pid = w.server_pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    until("the server is gone", || !support::runs(pid));
    drop(child.stdin.take());
    let done = wait(child).ok();
    assert_eq!(done.out, "one\none\ntwo\n");
}

/// What a run does in a graft, over a server that is killed in between.
const IN_A_GRAFT: &str = r#"
    set -e
    cd /g
    test "$(cat low)" = below
    echo more >>low
    exec 3<low
    mkdir -p a/b
    echo text >a/b/f
    ln a/b/f hard
    ln -s b/f a/soft
    mkfifo a/pipe
    mv a c
    exec 4<c/b/f
    chmod 640 c/b/f
    chown 33:33 c/b
    su www -c 'echo theirs >c/b/www && chmod 600 c/b/www'
    su mail -c 'cat c/b/www' 2>/dev/null && exit 3
    su mail -c 'rm -f c/b/www' 2>/dev/null && exit 4
    test "$(stat -c %u:%g:%a c/b/www)" = 33:33:600
    echo up
    read x || :
    test "$(cat <&3)" = "$(printf 'below\nmore')"
    test "$(cat <&4)" = text
    mv low c/b/low
    echo again >>hard
    test "$(cat c/soft)" = "$(printf 'text\nagain')"
    rm c/b/f c/pipe
    test "$(stat -c %h hard)" = 1
    rmdir c 2>/dev/null && exit 5
    ls c/b
"#;

fn works_in_a_graft_and_over_a_killed_server(w: &World, host: &str, env: &[(&str, &str)]) {
    let with = |args: &[&str]| {
        let mut command = w.command(args);
        command.envs(env.iter().copied());
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        command.spawn().expect("start")
    };
    w.pockerfile("box", "RUN true\n");
    wait(with(&["create", "-f", "box.pockerfile", "box"])).ok();
    let graft = format!("{host}:/g");
    let mut child = with(&[
        "run", "-d", &graft, "box", "--", "/bin/sh", "-c", IN_A_GRAFT,
    ]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout"))
        .read_line(&mut line)
        .expect("read");
    // A grafter keeps it where its server does not reach.
    let kept = ["store/grafts", "s/grafts"].map(|dir| w.path(dir));
    let of = |dir: &PathBuf| std::fs::read_dir(dir).map_or(0, |dir| dir.count());
    let rows = || kept.iter().map(of).sum::<usize>();
    if line == "up\n" {
        assert_eq!(rows(), 1, "where its files are is kept");
        let pid = w.server_pid();
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
        until("the server is gone", || !support::runs(pid));
    }
    drop(child.stdin.take());
    assert_eq!(wait(child).ok().out, "low\nwww\n");
    until("what was kept goes with the run", || rows() == 0);
    let read = |name: &str| std::fs::read_to_string(format!("{host}/{name}")).expect("there");
    assert_eq!(read("c/b/low"), "below\nmore\n");
    assert_eq!(read("hard"), "text\nagain\n");
}

#[test]
fn a_graft_of_a_file_system_without_handles_is_served_by_path() {
    let w = World::new();
    for dir in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(w.path(dir)).expect("mkdir");
    }
    w.write("lower/low", "below\n");
    let at = |name: &str| w.path(name).display().to_string();
    let layers = ["lowerdir", "upperdir", "workdir"]
        .iter()
        .zip(["lower", "upper", "work"]);
    let layers: Vec<String> = layers.map(|(k, v)| format!("{k}={}", at(v))).collect();
    let layers = layers.join(",");
    let flags = nix::mount::MsFlags::empty();
    let merged = w.path("merged");
    nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        flags,
        Some(&*layers),
    )
    .expect("an overlay");
    // Until after the server, which has it open.
    works_in_a_graft_and_over_a_killed_server(&w, &at("merged"), &[]);
    w.pocker(&["serve", "--stop"]).ok();
    nix::mount::umount(&merged).expect("unmounted");
    assert!(w.path("upper/c/b/www").exists());
}

/// The process that speaks to clients is nobody, and that which has the files is killed with it.
#[test]
fn a_graft_is_served_by_a_process_of_its_own_to_a_server_that_is_another_user() {
    let w = World::new();
    let host = tempfile::tempdir().expect("a directory");
    let top = host.path().display();
    let settings = w.write(
        "settings",
        &format!("graft_below = [\"{top}\"]\nuser = \"nobody\"\n"),
    );
    std::fs::create_dir(host.path().join("g")).expect("mkdir");
    std::fs::write(host.path().join("g/low"), "below\n").expect("written");
    let settings = settings.display().to_string();
    let graft = format!("{top}/g");
    works_in_a_graft_and_over_a_killed_server(&w, &graft, &[("POCKER_CONFIG", &settings)]);
    let uid = std::fs::metadata(w.path("store")).expect("there").uid();
    assert_ne!(uid, 0, "the store is that user's");
}

#[test]
fn a_graft_needs_neither_handles_nor_threads_that_act_as_others() {
    let w = World::new();
    w.write("host/low", "below\n");
    let host = w.path("host").display().to_string();
    works_in_a_graft_and_over_a_killed_server(&w, &host, &[("POCKER_GRAFTS", "portable")]);
}

/// A process that stands still until this is dropped.
struct Still(Pid);

impl Still {
    fn new(pid: Pid) -> Still {
        kill(pid, Signal::SIGSTOP).expect("stopped");
        Still(pid)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// A disk that does not answer, as another machine's may: a volume of a server that stands still.
#[test]
fn a_graft_whose_disk_is_gone_keeps_no_other_run_waiting() {
    for settings in ["", "graft_below = [\"/\"]\n"] {
        let other = World::new();
        other.pocker(&["volume", "create", "data"]).ok();
        let disk = other.path("disk");
        std::fs::create_dir(&disk).expect("mkdir");
        let disk = disk.to_str().expect("text");
        let mount = ["mount", "--volume", "data", disk];
        other.pocker(&mount).ok();
        std::fs::create_dir(format!("{disk}/www")).expect("mkdir");
        // Nothing of it is in anybody's memory then.
        other.pocker(&["umount", disk]).ok();
        other.pocker(&mount).ok();
        let server = Pid::from_raw(other.server_pid());

        let w = World::new();
        let settings = w.write("settings", settings);
        let start = |args: &[&str]| {
            let mut command = w.command(args);
            command.env("POCKER_CONFIG", &settings);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("pocker starts")
        };
        w.pockerfile("box", "RUN echo started by RUN\n");
        wait(start(&["create", "-f", "box.pockerfile", "box"])).ok();
        let graft = format!("{disk}/www:/v");
        // One file, open all the time: who was told that it is stale would never write again.
        let script = "echo here; exec >>/v/f; while :; do echo x || exit 9; sleep 1; done";
        let mut run = start(&["-d", &graft, "box", "--", "/bin/sh", "-c", script]);
        let mut said = String::new();
        let out = run.stdout.as_mut().expect("stdout");
        BufReader::new(out).read_line(&mut said).expect("read");
        assert_eq!(said, "here\n");
        let file = format!("{disk}/www/f");
        let written = || std::fs::metadata(&file).map_or(0, |meta| meta.len());
        until("it writes", || written() > 0);
        let goes_on = || assert_eq!(wait(start(&["run", "box"])).ok().out, "started by RUN\n");

        // A server that comes back meanwhile serves what it finds, and the rest later.
        let ours = Pid::from_raw(w.server_pid());
        let before = written();
        // Between two writes: a call that waits for the disk would keep the killed process.
        until("it writes once more", || written() > before);
        let still = Still::new(server);
        kill(ours, Signal::SIGKILL).expect("killed");
        goes_on();
        std::thread::sleep(std::time::Duration::from_secs(2));
        drop(still);
        let before = written();
        until("it writes again", || written() > before);

        let still = Still::new(server);
        kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).expect("told");
        wait(run);
        goes_on();
        let log = std::fs::read_to_string(w.path("s/serve.log")).expect("a log");
        assert!(log.contains("is there yet"), "it was not waited for: {log}");
        drop(still);
        w.pocker(&["serve", "--stop"]).ok();
        other.pocker(&["umount", disk]).ok();
    }
}

#[test]
fn what_is_mounted_is_not_removed_and_a_link_to_it_unmounts_it() {
    let w = World::new();
    w.create("box", "EXEC echo kept >/kept\nRUN true\n").ok();
    std::fs::create_dir(w.path("m")).expect("mkdir");
    std::os::unix::fs::symlink(w.path("m"), w.path("link")).expect("link");
    w.pocker(&["mount", "box", "m"]).ok();
    w.pocker(&["rm", "box"])
        .fails(&["mounted on", "hint:", "pocker umount"]);
    let kept = std::fs::read_to_string(w.path("m/kept"));
    assert_eq!(kept.expect("read"), "kept\n");
    w.pocker(&["umount", "link"]).ok();
    assert!(!w.path("m/kept").exists());
    w.pocker(&["umount", "/"])
        .fails(&["mounted nothing on /", "hint:"]);
    w.pocker(&["mount", "box", "m"]).ok();
    w.pocker(&["rm", "--force", "box"]).ok();
    assert_eq!(w.path("m").read_dir().expect("unmounted").count(), 0);
}

#[test]
fn root_in_a_run_does_not_reach_the_host() {
    let w = World::new();
    w.create("box", "RUN true\n").ok();
    let pattern = "/proc/sys/kernel/core_pattern";
    let before = std::fs::read(pattern).expect("core_pattern");
    for refused in [
        "mknod /dev/disk b 254 0",
        "mknod /disk c 1 3",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc",
        "echo x >/proc/sys/kernel/core_pattern",
        "echo h >/proc/sysrq-trigger",
        "cat /proc/1/environ /proc/1/mem",
        "chroot /proc/1/root true",
    ] {
        let done = w.pocker(&["run", "box", "--", "/bin/sh", "-c", refused]);
        assert_ne!(done.status, 0, "{refused}: {}", done.out);
    }
    assert_eq!(std::fs::read(pattern).expect("core_pattern"), before);
    let services = "touch /f && chown 5:6 /f && chmod 4755 /f && mkdir /var && su -s /bin/sh nobody -c true || id";
    let set = w.pocker(&["run", "box", "--", "/bin/sh", "-c", services]);
    set.ok();
    let bound = w.pocker(&[
        "run",
        "box",
        "--",
        "/bin/grep",
        "CapBnd",
        "/proc/self/status",
    ]);
    assert_eq!(bound.ok().out, "CapBnd:\t00000000200405fb\n");
}

#[test]
fn a_stopped_server_leaves_no_mount_inside_another() {
    let w = World::new();
    w.create("box", "EXEC mkdir -p /sub/deeper\nRUN true\n")
        .ok();
    std::fs::create_dir(w.path("m")).expect("mkdir");
    w.pocker(&["mount", "box", "m"]).ok();
    w.pocker(&["mount", "--rw", "box", "m/sub"]).ok();
    w.pocker(&["mount", "box", "m/sub/sub"]).ok();
    assert!(w.path("m/sub/sub/sub/deeper").exists());
    let stopped = w.pocker(&["serve", "--stop"]).ok();
    assert!(stopped.err.contains("/m/sub/sub"), "{}", stopped.err);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let ours = w.path("m").to_string_lossy().into_owned();
    assert!(!mounts.contains(&ours), "{mounts}");
    assert_eq!(w.path("m").read_dir().expect("m").count(), 0);
}

#[test]
fn localhost_and_the_runs_own_name_are_known_and_leave_nothing_in_the_tree() {
    let w = world();
    // A static busybox resolves nothing itself.
    let script = "
        grep -o '^127.0.0.1[[:space:]]*localhost' /etc/hosts | tr '\\t' ' '
        tail -n 1 /etc/hosts; cat /etc/hostname; hostname";
    for more in [&["--net", "host"][..], &["--net", "none", "--read-only"]] {
        let line = [
            &["run", "--hostname", "web-1.example"],
            more,
            &["box", "--"],
        ]
        .concat();
        let done = w.pocker(&[&line[..], &["/bin/sh", "-c", script]].concat());
        let expected =
            "127.0.0.1 localhost\n127.0.1.1 web-1.example web-1\nweb-1.example\nweb-1.example\n";
        assert_eq!(done.out, expected, "{more:?}: {}", done.err);
        let own = ["debug", "box", "--", "/bin/sh", "-c", "ls /etc"];
        let kept = w.pocker(&own).ok().out;
        assert!(!kept.contains("hostname"), "{kept}");
    }
    let left = std::fs::read_dir(w.path("s")).expect("the socket directory");
    let names = left.map(|file| {
        file.expect("a file")
            .file_name()
            .into_string()
            .expect("UTF-8")
    });
    let left: Vec<String> = names.filter(|name| name.starts_with("host")).collect();
    assert!(left.is_empty(), "{left:?}");
}
