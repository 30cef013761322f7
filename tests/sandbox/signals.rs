//! Signals on their way to the command.

use crate::Case;
use crate::world::{World, alone, output, start};
use nix::sys::signal::{Signal, kill, raise};
use pocker::sandbox::{Exit, Fault, Profile, Sandbox, SandboxError, TreeMount, TreeMounter, spawn};
use std::path::Path;

pub const CASES: &[Case] = &[
    ("a_signal_is_passed_on_to_the_command", passed_on),
    ("an_unknown_signal_is_refused", unknown),
    ("an_interrupt_reaches_the_whole_group", group),
    (
        "a_signal_to_the_waiting_process_is_passed_on",
        while_waiting,
    ),
    ("a_build_that_ignores_it_is_killed_the_second_time", insist),
    ("kill_ends_it", killed),
    ("a_signal_while_mounting_ends_it", while_mounting),
    ("signals_are_reset_for_the_command", reset),
    ("a_caller_that_blocks_signals_is_served", blocked),
];

/// Waits for a line of the command's, so that its traps are set.
fn ready(sandbox: &mut Sandbox) -> std::os::fd::OwnedFd {
    let output = sandbox.take_output().unwrap();
    let mut byte = [0];
    assert_eq!(nix::unistd::read(&output, &mut byte).unwrap(), 1);
    output
}

const TRAPPING: &str = "for s in INT TERM HUP QUIT USR1 USR2; do trap \"echo $s; exit 9\" $s; done; \
    echo ready; while :; do sleep 0.05; done";

fn passed_on() {
    use std::io::Read;
    let world = World::new();
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGINT, "INT"),
    ] {
        let mut sandbox = start(&world.sh(TRAPPING)).unwrap();
        let output = ready(&mut sandbox);
        sandbox.signal(signal).unwrap();
        assert_eq!(sandbox.wait(), Exit::Code(9), "{name}");
        let mut text = String::new();
        std::fs::File::from(output)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text.lines().last(), Some(name));
    }
    let mut sandbox = start(&world.sh("echo ready; sleep 1000")).unwrap();
    let _output = ready(&mut sandbox);
    sandbox.signal(Signal::SIGTERM).unwrap();
    assert_eq!(sandbox.wait().status(), 143);
    alone();
}

fn unknown() {
    let world = World::new();
    let sandbox = start(&world.sh("sleep 1000")).unwrap();
    assert!(sandbox.signal(Signal::SIGSTOP).is_err());
}

fn group() {
    let world = World::new();
    // Without a handler a waiting shell goes on when only it gets the signal.
    let script = "trap 'echo sh' INT; sh -c 'trap \"echo child; exit 7\" INT; echo r; \
        while :; do sleep 0.05; done'; echo \"then $?\"; exit 0";
    let mut sandbox = start(&world.sh(script)).unwrap();
    let output = ready(&mut sandbox);
    sandbox.signal(Signal::SIGINT).unwrap();
    assert_eq!(sandbox.wait(), Exit::Code(0));
    let text = std::io::read_to_string(std::fs::File::from(output)).unwrap();
    assert!(
        text.contains("child\n") && text.contains("sh\n") && text.contains("then 7\n"),
        "{text}"
    );
}

fn while_waiting() {
    let world = World::new();
    let mut sandbox =
        start(&world.sh("trap 'exit 9' TERM; echo r; while :; do sleep 0.05; done")).unwrap();
    assert_eq!(sandbox.interrupted(), None);
    let exit = sandbox.wait_with(&mut |_| raise(Signal::SIGTERM).unwrap());
    assert_eq!(exit, Exit::Code(9));
    assert_eq!(sandbox.interrupted(), Some(Signal::SIGTERM));
    drop(sandbox);
    alone();
}

fn insist() {
    let world = World::new();
    let mut spec = world.sh("trap 'echo no' TERM; echo r; while :; do sleep 0.05; done");
    spec.profile = Profile::Build;
    let mut sandbox = start(&spec).unwrap();
    // Once when it is ready, once when it refuses.
    let exit = sandbox.wait_with(&mut |_| raise(Signal::SIGTERM).unwrap());
    assert_eq!(exit, Exit::Signal(9));
    alone();
}

fn killed() {
    let world = World::new();
    let mut sandbox = start(&world.sh("trap '' TERM INT; sleep 1000")).unwrap();
    sandbox.signal(Signal::SIGKILL).unwrap();
    assert_eq!(sandbox.wait(), Exit::Signal(9));
    alone();
}

/// Mounts never, and has its parent interrupted meanwhile.
struct Hang;

impl TreeMounter for Hang {
    fn mount(&mut self, _tree: &TreeMount<'_>) -> Result<(), Fault> {
        kill(nix::unistd::getppid(), Signal::SIGTERM).unwrap();
        loop {
            nix::unistd::pause();
        }
    }

    fn unmount(&mut self, _target: &Path, _force: pocker::sandbox::Force) -> Result<(), Fault> {
        Ok(())
    }
}

fn while_mounting() {
    let world = World::new();
    let error = match spawn(&world.sh("true"), &mut Hang) {
        Err(error) => error,
        Ok(_) => panic!("it started"),
    };
    assert!(matches!(error, SandboxError::Interrupted(Signal::SIGTERM)));
    assert_eq!(error.status(), 143);
    alone();
    // Signals are the process's own again.
    let mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
    assert!(!mask.contains(Signal::SIGINT) && !mask.contains(Signal::SIGTERM));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:\t"));
    let bits = u64::from_str_radix(caught.unwrap(), 16).unwrap();
    assert_eq!(bits & (1 << (Signal::SIGTERM as u64 - 1)), 0);
}

fn reset() {
    let world = World::new();
    let text = output(&world.spec(&["cat", "/proc/self/status"]));
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(set)?.strip_prefix(":\t"));
        let bits = u64::from_str_radix(line.unwrap(), 16).unwrap();
        // 32 and 33 are the C library's own, and it lets nobody touch them.
        assert_eq!(bits & !(0b11 << 31), 0, "{set}: {text}");
    }
}

fn blocked() {
    use nix::sys::signal::SigSet;
    let world = World::new();
    let mut mask = SigSet::empty();
    mask.extend([Signal::SIGCHLD, Signal::SIGTERM]);
    mask.thread_block().unwrap();
    assert_eq!(output(&world.sh("echo r")), "r\n");
    let (_, exit) = crate::world::run(&world.sh("kill -TERM $$; echo alive"));
    assert_eq!(exit, Exit::Signal(15));
    assert_eq!(SigSet::thread_get_mask().unwrap(), mask);
}
