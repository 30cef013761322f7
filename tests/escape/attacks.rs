//! All attacks of `attack.c`.

use crate::host::{Decoys, create, outcomes};
use crate::support::{World, until, wait};
use std::collections::BTreeMap;
use std::path::Path;

/// How many the program has; fewer lines would mean that one did not run.
const ATTACKS: usize = 43;

/// What each brought: Ok(what it got) or Err(why not).
type Outcomes = BTreeMap<String, Result<String, String>>;

fn of(said: &str) -> Outcomes {
    let found = outcomes(said).into_iter();
    found
        .map(|(name, got, what)| (name, if got { Ok(what) } else { Err(what) }))
        .collect()
}

fn got(outcomes: &Outcomes) -> Vec<String> {
    let succeeded = outcomes.iter().filter_map(|(name, outcome)| {
        let what = outcome.as_ref().ok()?;
        Some(format!("{name}: {what}"))
    });
    succeeded.collect()
}

struct Attacked {
    world: World,
    decoys: Decoys,
    other: std::process::Child,
}

impl Attacked {
    fn new() -> Attacked {
        let world = World::new();
        create(&world, "").ok();
        let decoys = Decoys::new(&world);
        // Another run, whose tree has a mark in it while attacks go on.
        let script = "echo mark-of-another-run >/mark; echo ready; while :; do cat /mark >/dev/null; sleep 1; done";
        let mut other = world.start(&["run", "box", "--", "/bin/sh", "-c", script]);
        let mut ready = [0; 6];
        let out = other.stdout.as_mut().expect("stdout");
        std::io::Read::read_exact(out, &mut ready).expect("the other run is ready");
        Attacked {
            world,
            decoys,
            other,
        }
    }

    fn run(&self, flags: &[&str]) -> Outcomes {
        self.run_some(flags, &[])
    }

    fn run_some(&self, flags: &[&str], attacks: &[&str]) -> Outcomes {
        let graft = self.decoys.graft();
        let values = self.decoys.values(&self.world.path("s/nfs.sock"));
        let mut args = vec!["run", "-d", &graft];
        args.extend(flags);
        args.extend(["box", "--", "/attack"]);
        args.extend(values.iter().map(String::as_str));
        if !attacks.is_empty() {
            args.push("--");
            args.extend(attacks);
        }
        let mut command = self.world.command(&args);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        leak_a_directory(&mut command);
        let done = wait(command.spawn().expect("start")).ok();
        let outcomes = of(&done.out);
        let wanted = if attacks.is_empty() {
            ATTACKS
        } else {
            attacks.len()
        };
        assert_eq!(outcomes.len(), wanted, "{}\n{}", done.out, done.err);
        outcomes
    }

    /// The server answers others, and their runs go on.
    #[track_caller]
    fn others_go_on(&mut self) {
        self.world.pocker(&["run", "box", "--", "/bin/true"]).ok();
        assert_eq!(self.other.try_wait().expect("wait"), None);
    }
}

impl Drop for Attacked {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.other.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = self.other.wait();
    }
}

/// As a careless caller does: the host's root as descriptor 9.
fn leak_a_directory(command: &mut std::process::Command) {
    // Through a shell, which opens it without close-on-exec.
    let program = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(|a| a.to_owned()).collect();
    let envs: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(|v| v.to_owned())))
        .collect();
    let dir = command.get_current_dir().map(Path::to_owned);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "exec 9</; exec \"$0\" \"$@\""])
        .arg(program)
        .args(args);
    for (name, value) in envs {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(dir) = dir {
        shell.current_dir(dir);
    }
    shell
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    *command = shell;
}

#[test]
fn every_attack_is_refused_to_root_and_to_a_user_and_none_to_a_bare_chroot() {
    let mut attacked = Attacked::new();
    for flags in [&[][..], &["-u", "www"], &["--read-only"]] {
        let outcomes = attacked.run(flags);
        assert_eq!(got(&outcomes), [""; 0], "{flags:?}");
        attacked.decoys.unharmed();
        attacked.others_go_on();
    }

    // Entering a run leaves nothing of the host's way in behind.
    let values = attacked.decoys.values(&attacked.world.path("s/nfs.sock"));
    let pocker = |args: &[&str]| attacked.world.pocker(args).ok().out;
    pocker(&[
        "run",
        "--detach",
        "--name",
        "held",
        "box",
        "--",
        "/bin/sleep",
        "600",
    ]);
    for user in ["root", "www"] {
        let mut args = vec!["exec", "-u", user, "held", "--", "/attack"];
        args.extend(values.iter().map(String::as_str));
        let outcomes = of(&pocker(&args));
        assert_eq!(outcomes.len(), ATTACKS);
        assert_eq!(got(&outcomes), [""; 0], "exec as {user}");
    }
    pocker(&["stop", "-t", "0", "held"]);
    attacked.decoys.unharmed();

    // The same program, the same decoys: what was refused was there to be had.
    let outcomes = attacked.run(&["--unsafe-plain"]);
    for name in [
        "double-chroot",
        "proc-root",
        "ptrace",
        "write-memory",
        "pidfd",
        "mount",
        "fsopen",
        "remount",
        "umount",
        "mknod",
        "keyctl",
        "proc-keys",
        "bpf",
        "perf",
        "mount-namespace",
        "setns",
        "core-pattern",
        "sysctl",
        "sysfs",
        "release-agent",
        "packets",
        "int80",
        "raw-ip",
        "setuid",
        "unix-socket",
        "kill",
    ] {
        assert!(outcomes[name].is_ok(), "{name}: {:?}", outcomes[name]);
    }
    assert!(attacked.decoys.ended(), "no signal reached the decoy");
    attacked.others_go_on();
}

#[test]
fn what_a_flag_allows_is_allowed_and_nothing_beside_it() {
    let mut attacked = Attacked::new();
    for (flags, attacks) in [
        (&["--cap-add", "NET_RAW"][..], &["packets", "raw-ip"][..]),
        (&["--cap-add", "bpf"], &["bpf"]),
        (
            &["--cap-add", "CAP_SYS_ADMIN"],
            &[
                "mount",
                "fsopen",
                "remount",
                "umount",
                "mount-namespace",
                // In a chroot the kernel itself refuses these to everybody.
                "user-namespace",
                "clone",
                "clone3",
            ],
        ),
        (&["--allow-setuid", "-u", "www"], &["setuid"]),
    ] {
        let outcomes = attacked.run_some(flags, attacks);
        assert_eq!(
            got(&outcomes).len(),
            attacks.len(),
            "{flags:?}: {outcomes:?}"
        );
    }
    // Not even with mounts does the sandbox's root have another than its own above it.
    let admin = ["--cap-add", "ALL"];
    let ways_out = [
        "double-chroot",
        "by-path",
        "setns",
        "inherited-descriptors",
        "ptrace",
        "kill",
        "pidfd",
        "write-memory",
        "other-trees",
    ];
    let outcomes = attacked.run_some(&admin, &ways_out);
    assert_eq!(got(&outcomes), [""; 0]);
    // MKNOD makes nodes that no mount lets anybody open.
    let outcomes = attacked.run_some(&["--cap-add", "MKNOD"], &["mknod"]);
    let why = outcomes["mknod"].as_ref().expect_err("refused");
    assert!(why.contains("Permission denied"), "{why}");
    attacked.decoys.unharmed();
}

#[test]
fn a_graft_gives_devices_and_setuid_files_only_when_asked() {
    let attacked = Attacked::new();
    let graft = attacked.decoys.graft();
    let tries = |option: &str, more: &[&str], attack: &str| {
        let values = attacked.decoys.values(Path::new("/none"));
        let graft = format!("{graft}{option}");
        let mut args = vec!["run", "-d", &graft];
        args.extend(more);
        args.extend(["box", "--", "/attack"]);
        args.extend(values.iter().map(String::as_str));
        args.extend(["--", attack]);
        of(&attacked.world.pocker(&args).ok().out)[attack].is_ok()
    };
    assert!(!tries("", &[], "node-in-graft"));
    assert!(!tries(":ro", &[], "node-in-graft"));
    assert!(tries(":dev", &[], "node-in-graft"));
    // That the program finds another run's mark where it can be seen.
    assert!(!tries("", &[], "other-trees"));
    attacked.world.write("graft/mark", "mark-of-another-run\n");
    assert!(tries("", &[], "other-trees"));
    assert!(!tries("", &[], "setuid"));
    let refused = attacked
        .world
        .pocker(&["run", "-d", &format!("{graft}:suid"), "box"]);
    refused.fails(&["gives setuid programs nothing", "--allow-setuid"]);
    let run = |option: &str| {
        let graft = format!("{graft}{option}");
        let args = [
            "run",
            "-u",
            "www",
            "--allow-setuid",
            "-d",
            &graft,
            "box",
            "--",
            "/graft/attack-suid",
            "--whoami",
        ];
        attacked.world.pocker(&args).ok().out
    };
    assert_eq!(run(""), "33\n");
    assert_eq!(run(":suid"), "0\n");
}

#[test]
fn a_build_has_no_more_than_packages_need() {
    let world = World::new();
    let mut decoys = Decoys::new(&world);
    let values = decoys.values(&world.path("s/nfs.sock")).join(" ");
    let done = create(&world, &format!("EXEC /attack {values}\n")).ok();
    let outcomes = of(&done.err);
    assert_eq!(outcomes.len(), ATTACKS, "{}", done.err);
    // A user of the build may become root of the build by a setuid program, as packages bring them.
    assert_eq!(got(&outcomes), ["setuid: root by /attack-suid"]);
    let why = outcomes["mknod"].as_ref().expect_err("refused");
    assert!(
        why.contains("Permission denied"),
        "nodes can be made: {why}"
    );
    decoys.unharmed();
}

#[test]
fn a_terminal_takes_no_keys_from_a_run() {
    // Where standard input is a terminal, the run's is another than the host's.
    let world = World::new();
    create(&world, "").ok();
    let script = format!(
        "{} run box -- /attack x=y -- tiocsti; stty -F /dev/tty -a >/dev/null; echo done",
        env!("CARGO_BIN_EXE_pocker")
    );
    let mut command = world.command(&["version"]);
    let envs: Vec<_> = command
        .get_envs()
        .filter_map(|(n, v)| Some((n.to_owned(), v?.to_owned())))
        .collect();
    command = std::process::Command::new("script");
    command
        .args(["-qec", &script, "/dev/null"])
        .envs(envs)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = wait(command.spawn().expect("script starts")).ok();
    // script(1) shows the end of its own input anywhere.
    let said = done.out.replace("^@", "");
    let refused = "tiocsti refused: TIOCSTI: Operation not permitted";
    assert!(said.contains(refused), "{done:?}");
    until("all is gone", || world.pocker(&["ls"]).status == 0);
}
