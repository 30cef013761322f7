//! `exec`, `top` and `stats`: what is seen and done in a run from outside.

use crate::support::{Done, World, until, wait};
use crate::{detach, detach_command, inspect, json, pid, world};

/// What confines a process, as /proc tells.
const CONFINED: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; \
    for n in mnt pid ipc uts net cgroup user; do ls -l /proc/self/ns/$n | sed 's/.*-> //'; done; \
    cut -d: -f2- /proc/self/cgroup; ulimit -n; pwd; echo $A $HOME; hostname; ls -A / | tr '\\n' ' '";

#[test]
fn a_command_in_a_run_is_confined_as_the_runs_own() {
    let w = world();
    let changed = &[
        "--cap-add",
        "SYS_NICE",
        "--cap-drop",
        "CHOWN",
        "--memory",
        "64M",
        "--pids",
        "50",
        "--ulimit",
        "nofile=99",
        "--net",
        "none",
    ][..];
    for (user, more) in [("root", &[][..]), ("www", &[]), ("root", changed)] {
        let command = format!("{{ {CONFINED}; }} >/tmp/new; mv /tmp/new /tmp/own; exec sleep 1000");
        let flags = [&["-u", user, "-w", "/home", "-e", "A=b"], more].concat();
        let name = detach_command(&w, &flags, &["/bin/sh", "-c", &command]);
        let read = "until [ -e /tmp/own ]; do sleep 0.01; done; cat /tmp/own";
        let own = w.pocker(&["exec", &name, "sh", "-c", read]).ok().out;
        let seen = w.pocker(&["exec", &name, "sh", "-c", CONFINED]).ok().out;
        assert!(
            own.contains("NoNewPrivs") && own.contains("/home\nb "),
            "{own}"
        );
        assert_eq!(seen, own);
        let id = w.pocker(&[
            "exec",
            "-u",
            "8",
            "-w",
            "/etc",
            "-e",
            "B=c",
            &name,
            "sh",
            "-c",
            "id -u; pwd; echo $B",
        ]);
        assert_eq!(id.ok().out, "8\n/etc\nc\n");
        // The host is no nearer from there.
        let done = w.pocker(&[
            "exec",
            &name,
            "sh",
            "-c",
            "cat /proc/1/environ; mount -t tmpfs x /mnt; ls /proc/1/root",
        ]);
        assert_ne!(done.status, 0, "{}", done.out);
        w.pocker(&["stop", "-t", "0", &name]).ok();
    }
}

/// `pocker` as started by somebody who holds a directory of the host open.
fn holding(w: &World, args: &[&str]) -> Done {
    let command = w.command(args);
    let pocker = command.get_program().to_owned();
    let mut shell = std::process::Command::new("sh");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
        .args(["-c", "exec \"$0\" \"$@\" 9</"])
        .arg(pocker)
        .args(command.get_args())
        .current_dir(w.dir.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    wait(shell.spawn().expect("sh starts"))
}

#[test]
fn a_working_directory_leads_to_nothing_that_the_caller_holds_open() {
    let w = world();
    // As a WORKDIR may be a link in a hostile tree, and as a run may replace its own.
    let dir = "/proc/self/fd/9";
    let done = holding(&w, &["run", "-w", dir, "box", "--", "/bin/ls", "../../etc"]);
    done.fails(&["enter the working directory"]);
    let swap = format!("rmdir /wd; ln -s {dir} /wd; echo >/tmp/done; exec sleep 1000");
    let name = detach_command(&w, &["-w", "/wd"], &["/bin/sh", "-c", &swap]);
    let ready = "until [ -s /tmp/done ]; do sleep 0.01; done";
    w.pocker(&["exec", "-w", "/", &name, "sh", "-c", ready])
        .ok();
    let done = holding(&w, &["exec", &name, "ls", "../../etc"]);
    done.fails(&["enter the working directory"]);
}

#[test]
fn what_exec_started_ends_with_it_whoever_it_runs_as() {
    let w = world();
    let name = detach(&w, &[]);
    for user in ["root", "www"] {
        let sleep = if user == "root" { "4711" } else { "4712" };
        let shown = format!("sleep {sleep}");
        let args = ["exec", "-u", user, &name, "sleep", sleep];
        let mut command = w.start(&args);
        let seen = || w.pocker(&["top", &name]).ok().out.contains(&shown);
        until("it runs", seen);
        command.kill().expect("killed");
        command.wait().expect("reaped");
        until("it ends", || !seen());
    }
}

#[test]
fn arguments_of_pocker_are_not_seen_inside() {
    let w = world();
    let show = "cat /proc/1/cmdline; ps";
    let args = [
        "run",
        "-e",
        "A=of the host",
        "box",
        "--",
        "/bin/sh",
        "-c",
        show,
    ];
    let shown = w.pocker(&args).ok().out;
    assert!(
        shown.starts_with("pocker\0") && !shown.contains("of the host"),
        "{shown}"
    );
}

#[test]
fn the_null_device_that_a_command_has_is_the_runs_own() {
    let w = world();
    let show = "stat -L -c %d /proc/self/fd/0; stat -c %d /dev/null";
    let name = detach_command(&w, &[], &["/bin/sh", "-c", &format!("{show}; sleep 1000")]);
    let same = |out: &str| {
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1], "{out}");
    };
    same(&w.pocker(&["exec", &name, "sh", "-c", show]).ok().out);
    same(&w.pocker(&["exec", "-i", &name, "sh", "-c", show]).ok().out);
    same(
        &w.pocker(&["run", "box", "--", "/bin/sh", "-c", show])
            .ok()
            .out,
    );
    until("it said so", || {
        w.pocker(&["logs", &name]).ok().out.lines().count() == 2
    });
    same(&w.pocker(&["logs", &name]).ok().out);
}

#[test]
fn exec_passes_on_input_status_and_signals() {
    let w = world();
    let name = detach(&w, &[]);
    let status = |command: &[&str]| {
        let args = [&["exec", &name][..], command].concat();
        w.pocker(&args).status
    };
    assert_eq!(status(&["sh", "-c", "exit 9"]), 9);
    assert_eq!(status(&["sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(status(&["/no/such"]), 127);
    assert_eq!(status(&["/etc/passwd"]), 126);
    assert_eq!(
        w.pocker(&["exec", &name, "--", "cat"]).ok().out,
        "",
        "no input"
    );
    let mut command = w.command(&["exec", "-i", &name, "cat"]);
    command
        .stdin(std::fs::File::open("/etc/hostname").expect("open"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = wait(command.spawn().expect("start")).ok();
    assert_eq!(
        done.out,
        std::fs::read_to_string("/etc/hostname").expect("read")
    );
    w.pocker(&["exec", "-t", &name, "true"])
        .fails(&["no terminal", "hint:"]);
    // What exec started does not outlive it, nor the run.
    let mut long = w.start(&["exec", &name, "sleep", "777"]);
    crate::support::until("it runs", || {
        w.pocker(&["top", &name]).ok().out.contains("sleep 777")
    });
    long.kill().expect("killed");
    long.wait().expect("reaped");
    crate::support::until("it is gone", || {
        !w.pocker(&["top", &name]).ok().out.contains("sleep 777")
    });
    let long = w.start(&["exec", &name, "sleep", "777"]);
    crate::support::until("it runs", || {
        w.pocker(&["top", &name]).ok().out.contains("sleep 777")
    });
    w.pocker(&["stop", &name]).ok();
    assert_eq!(wait(long).status, 137);
}

#[test]
fn exec_gives_a_terminal_where_one_is_asked_for() {
    let w = world();
    let name = detach(&w, &[]);
    let pocker = w.command(&[
        "exec",
        "-it",
        &name,
        "sh",
        "-c",
        "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all three",
    ]);
    // script(1) gives pocker a terminal of its own.
    let words: Vec<String> = std::iter::once(pocker.get_program())
        .chain(pocker.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut command = std::process::Command::new("script");
    command.args([
        "-qec",
        &format!("stty rows 33 cols 99; {}", words.join(" ")),
        "/dev/null",
    ]);
    for (key, value) in pocker.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let out = wait(command.spawn().expect("script(1)")).ok().out;
    assert!(out.contains("/dev/pts/0") && out.contains("33 99"), "{out}");
    assert!(out.contains("all three"), "{out}");
}

#[test]
fn what_a_run_takes_is_told() {
    let w = world();
    let script = "sleep 1000 & while :; do :; done";
    let name = detach_command(&w, &["-u", "www"], &["/bin/sh", "-c", script]);
    let command = pid(&inspect(&w, &name)["pid"]);
    let top = json(&w, &["top", &name, "--json"]);
    let processes = top.as_array().expect("a list");
    assert_eq!(pid(&processes[0]["pid"]), command);
    assert_eq!(processes[0]["uid"], 33);
    crate::support::until("both are seen", || {
        let out = w.pocker(&["top", &name]).ok().out;
        out.contains("sleep 1000") && out.contains("/bin/sh -c")
    });
    crate::support::until("it takes a share of a processor", || {
        let stats = json(&w, &["stats", "--json"]);
        assert_eq!(stats[0]["name"], name.as_str());
        assert!(stats[0]["memory"].as_u64().expect("bytes") > 0);
        stats[0]["cpu_percent"].as_f64().expect("a share") > 1.0
    });
    assert!(w.pocker(&["stats", &name]).ok().out.contains("PROCESSES"));
    let limited = ["--memory", "64M", "--name", "limited"];
    let name = detach_command(&w, &limited, &["/bin/sleep", "1000"]);
    let stats = json(&w, &["stats", &name, "--json"]);
    assert_eq!(stats[0]["cgroup"], true, "{stats}");
    assert_eq!(stats[0]["memory_max"], 64 << 20, "{stats}");
}
