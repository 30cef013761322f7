//! Memory, processes and processor time of a run, and what happens at their ends.

use crate::support::{World, until, wait};
use crate::{run, world};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The directories of control groups that runs of this process's children have now.
fn groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("pocker-") {
                    found.push(entry.path());
                }
                dirs.push(entry.path());
            }
        }
    }
    found
}

fn of(pid: u32) -> Vec<PathBuf> {
    let name = format!("pocker-{pid}");
    let mut all = groups();
    all.retain(|group| group.file_name().is_some_and(|n| *n == *name));
    all
}

#[test]
fn what_is_asked_for_holds_from_the_first_process_on_and_is_gone_after() {
    let w = world();
    let script = "cat /proc/self/cgroup; ulimit -n; ulimit -Hc; read x";
    let mut child = w.command(&[
        "run",
        "--memory",
        "64M",
        "--pids",
        "20",
        "--cpus",
        "0.5",
        "--ulimit",
        "nofile=77:99",
        "box",
        "--",
        "/bin/sh",
        "-c",
        script,
    ]);
    let pipe = std::process::Stdio::piped;
    let child = child.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn();
    let mut child = child.expect("pocker starts");
    let pid = child.id();
    until("it has its groups", || {
        let inside = |group: &PathBuf| {
            let procs = std::fs::read_to_string(group.join("cgroup.procs"));
            procs.unwrap_or_default().lines().count() >= 2
        };
        let all = of(pid);
        !all.is_empty() && all.iter().all(inside)
    });
    let all = of(pid);
    let value = |file: &str| {
        let found = all
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
        found.map(|text| text.trim().to_owned())
    };
    let memory = value("memory.limit_in_bytes").or(value("memory.max"));
    assert_eq!(memory.as_deref(), Some("67108864"));
    assert_eq!(value("pids.max").as_deref(), Some("21"));
    let cpu = value("cpu.cfs_quota_us").or(value("cpu.max"));
    assert!(cpu.is_some_and(|cpu| cpu.starts_with("50000")));
    // Where memory runs out its first process, ours, is the last to go, however small the others.
    let adjusted = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
        text.unwrap_or_default().trim().parse::<i32>().ok()
    };
    let own = adjusted("self");
    until("its first process is spared", || {
        let mut pids: Vec<u32> = all
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join("cgroup.procs")).ok())
            .map(|procs| procs.lines().filter_map(|pid| pid.parse().ok()).collect())
            .unwrap_or_default();
        pids.sort_unstable();
        let scores: Vec<_> = pids.iter().map(|pid| adjusted(&pid.to_string())).collect();
        // A lower one is root's to ask for, with CAP_SYS_RESOURCE; a higher one anybody's.
        matches!(scores[..], [first, command, ..] if first.is_some() && first < command
            && (command == own || (first == own && command == Some(1000))))
    });
    drop(child.stdin.take());
    let done = wait(child);
    assert_eq!(of(pid), Vec::<PathBuf>::new());
    // It sees itself at the top of its own groups.
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(&lines[lines.len() - 2..], ["77", "0"], "{}", done.out);
    for controller in ["memory", "pids"] {
        let line = lines.iter().find(|l| l.contains(controller));
        assert!(line.is_none_or(|l| l.ends_with(":/")), "{}", done.out);
    }
}

#[test]
fn a_hog_is_killed_and_told_of_and_a_bomb_goes_off_inside() {
    let w = world();
    // Doubles a string until there is no room for it, and ends by itself should nothing end it.
    let hog = "ulimit -v 300000; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let done = run(&w, &["--memory", "16M"], hog);
    assert_eq!(done.status, 137, "{}", done.err);
    done.fails(&["box had no memory left", "--memory"]);
    // What it keeps in files of its memory counts too.
    let done = run(
        &w,
        &["--memory", "16M"],
        "dd if=/dev/zero of=/tmp/f bs=1M count=64",
    );
    done.fails(&["no memory left"]);
    // A process that may live on is told of all the same.
    let script = format!("sh -c '{hog}'; echo went on");
    let done = run(&w, &["--memory", "16M"], &script).ok();
    assert!(
        done.out.contains("went on") && done.err.contains("killed 1 process"),
        "{}",
        done.err
    );

    // A bomb that stops by itself, should nothing else stop it: its sleepers end with the run.
    let bomb =
        "for i in 1 2 3 4 5 6 7 8 9 10; do (exec sleep 60) & done; ls / >/dev/null && echo room";
    let began = Instant::now();
    let done = run(&w, &["--pids", "8"], bomb);
    assert!(done.err.contains("can't fork"), "{}{}", done.out, done.err);
    assert!(began.elapsed() < Duration::from_secs(20), "none is left");
    // Others are not concerned, nor is the server.
    let began = Instant::now();
    assert_eq!(run(&w, &["--pids", "12"], bomb).ok().out, "room\n");
    assert!(began.elapsed() < Duration::from_secs(20), "none is left");
    run(&w, &[], "for i in 1 2 3; do (true) & done; wait").ok();
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let w = World::new();
    // No pocker of that name is there: the limits come first.
    run(&w, &["--memory", "1M"], "true").fails(&["--memory", "too few", "hint: ", "8M"]);
    run(&w, &["--cpus", "1000"], "true").fails(&["--cpus", "processors", "hint: "]);
    for wrong in [
        ["--cpus", "0"],
        ["--pids", "0"],
        ["--ulimit", "nofiles=1"],
        ["--memory", "x"],
    ] {
        let done = run(&w, &wrong, "true");
        assert_eq!(done.status, 125, "{}", done.err);
        done.fails(&[wrong[0]]);
    }
    assert!(w.processes().is_empty());
    w.create("box", "RUN true\n").ok();
    let high = ["--ulimit", "nofile=99999999:99999999"];
    run(&w, &high, "true").fails(&["limit nofile", "99999999"]);
    // A host without control groups.
    let bare = |options: &str| {
        let pocker = env!("CARGO_BIN_EXE_pocker");
        let line = format!(
            "umount -R /sys/fs/cgroup && exec {pocker} run {options} box -- /bin/echo started"
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "/bin/sh", "-c", &line]);
        for (name, value) in w.command(&["run"]).get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let pipe = std::process::Stdio::piped;
        let child = command
            .env_remove("SOURCE_DATE_EPOCH")
            .stdout(pipe())
            .stderr(pipe());
        wait(child.spawn().expect("unshare starts"))
    };
    for option in ["--memory 64M", "--pids 100", "--cpus 1"] {
        let name = option.split(' ').next().expect("a name");
        bare(option).fails(&[name, "no cgroup controller", "hint: "]);
    }
    // What nobody asked for is left out.
    assert_eq!(bare("").ok().out, "started\n");
    // The least memory is enough to start in.
    run(&w, &["--memory", "8M"], "echo started >/dev/null").ok();
}

#[test]
fn groups_of_a_killed_supervisor_go_with_the_next_command() {
    let w = world();
    let mut child = w.start(&["run", "--memory", "64M", "box", "--", "/bin/sleep", "600"]);
    let pid = child.id();
    until("it has its groups", || {
        of(pid).iter().any(|group| {
            group.join("memory.oom_control").exists() || group.join("memory.max").exists()
        })
    });
    child.kill().expect("killed");
    child.wait().expect("waited for");
    assert!(!of(pid).is_empty());
    // A group whose processes are ending yet waits for the next.
    until("its groups are gone", || {
        w.pocker(&["ls"]).ok();
        of(pid).is_empty()
    });
    let mut child = w.start(&["run", "box", "--", "/bin/sleep", "600"]);
    let pid = child.id();
    until("it has its group", || !of(pid).is_empty());
    child.kill().expect("killed");
    child.wait().expect("waited for");
    w.pocker(&["serve", "--stop"]).ok();
    assert_eq!(of(pid), Vec::<PathBuf>::new());
    let done = run(&w, &[], "ps | grep -c '[s]leep 600'");
    assert_eq!(done.out, "0\n");
}
