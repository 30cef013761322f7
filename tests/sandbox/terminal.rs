//! A terminal outside, a terminal inside.

use crate::Case;
use crate::world::{World, start};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, read, write};
use pocker::sandbox::Stdio;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

pub const CASES: &[Case] = &[
    ("a_terminal_is_one_inside", inside),
    ("typing_and_output_are_relayed", relayed),
    ("control_c_reaches_the_command", interrupt),
    ("a_new_size_is_passed_on", resized),
    ("the_terminal_is_restored", restored),
    ("redirected_output_is_the_commands_alone", redirected),
    ("without_a_terminal_there_is_none", none),
];

pub const HELPERS: &[Case] = &[("terminal", helper)];

/// In a process of its own whose standard input is a terminal: runs `$SCRIPT`.
fn helper() {
    let world = World::new();
    let mut spec = world.sh(&std::env::var("SCRIPT").unwrap());
    spec.stdio = Stdio::Inherit;
    if let Ok(user) = std::env::var("AS") {
        spec.user = Some(user);
    }
    let mut sandbox = start(&spec).unwrap_or_else(|e| panic!("{e}"));
    let exit = sandbox.wait();
    drop(sandbox);
    drop(world);
    std::process::exit(exit.status());
}

struct Outer {
    master: OwnedFd,
    slave: OwnedFd,
    helper: Child,
    seen: String,
}

impl Outer {
    fn start(script: &str) -> Outer {
        Outer::start_to(script, None)
    }

    /// With standard output and error going to a file.
    fn start_to(script: &str, file: Option<&std::fs::File>) -> Outer {
        let size = Winsize {
            ws_row: 33,
            ws_col: 77,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).unwrap();
        let end = || std::process::Stdio::from(pair.slave.try_clone().unwrap());
        let out = || match file {
            Some(file) => std::process::Stdio::from(file.try_clone().unwrap()),
            None => end(),
        };
        let helper = Command::new(std::env::current_exe().unwrap())
            .args(["--helper", "terminal"])
            .env("SCRIPT", script)
            .env("AS", "www")
            .stdin(end())
            .stdout(out())
            .stderr(out())
            .spawn()
            .unwrap();
        Outer {
            master: pair.master,
            slave: pair.slave,
            helper,
            seen: String::new(),
        }
    }

    /// Reads until `text` has been seen.
    fn expect(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.seen.contains(text) {
            let n = read(&self.master, &mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }

    fn type_in(&self, text: &str) {
        assert_eq!(write(&self.master, text.as_bytes()).unwrap(), text.len());
    }

    fn end(&mut self) -> i32 {
        self.helper.wait().unwrap().code().unwrap()
    }
}

fn inside() {
    let mut outer = Outer::start(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; \
        stty size; echo own > /dev/tty; cut -d ' ' -f 7 /proc/$$/stat; echo end",
    );
    outer.expect("end\r\n");
    let lines: Vec<&str> = outer.seen.lines().collect();
    assert_eq!(
        lines[..4],
        ["/dev/pts/0", "all", "33 77", "own"],
        "{}",
        outer.seen
    );
    assert_ne!(lines[4], "0", "no controlling terminal");
    assert_eq!(outer.end(), 0);
}

fn relayed() {
    let mut outer = Outer::start("echo ready; read line; echo \"got $line\"; exit 12");
    outer.expect("ready\r\n");
    outer.type_in("hello\r");
    outer.expect("got hello\r\n");
    // Echoed once: by the inner terminal, not by the outer.
    assert_eq!(outer.seen.matches("hello").count(), 2, "{}", outer.seen);
    assert_eq!(outer.end(), 12);
}

fn interrupt() {
    let mut outer =
        Outer::start("trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done");
    outer.expect("ready\r\n");
    outer.type_in("\x03");
    outer.expect("caught\r\n");
    assert_eq!(outer.end(), 4);
}

fn resized() {
    let mut outer =
        Outer::start("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done");
    outer.expect("ready\r\n");
    let mut command = Command::new("/bin/stty");
    command.args(["rows", "44", "cols", "55"]);
    command.stdin(outer.slave.try_clone().unwrap());
    assert!(command.status().unwrap().success());
    // The helper's is no controlling terminal, so the kernel does not tell it.
    kill(Pid::from_raw(outer.helper.id() as i32), Signal::SIGWINCH).unwrap();
    outer.expect("44 55\r\n");
    assert_eq!(outer.end(), 0);
}

fn restored() {
    let echo = |outer: &Outer| {
        let modes = tcgetattr(&outer.slave).unwrap().local_flags;
        modes.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    };
    for (script, signal, status) in [
        ("read x; exit 3", None, 3),
        ("sleep 1000", Some(Signal::SIGTERM), 143),
    ] {
        let mut outer = Outer::start(&format!("echo ready; {script}"));
        outer.expect("ready\r\n");
        crate::world::until("raw mode", || !echo(&outer));
        match signal {
            Some(signal) => kill(Pid::from_raw(outer.helper.id() as i32), signal).unwrap(),
            None => outer.type_in("\r"),
        }
        assert_eq!(outer.end(), status);
        assert!(echo(&outer));
    }
}

fn none() {
    let world = World::new();
    let mut spec = world.sh("test ! -t 0 && ! test -c /dev/pts/0 && exit 21");
    spec.stdio = Stdio::Inherit;
    assert_eq!(start(&spec).unwrap().wait().status(), 21);
}

fn redirected() {
    use std::io::{Read, Seek};
    let mut file = tempfile::tempfile().unwrap();
    let script =
        "echo ready > /dev/tty; read x; echo \"file $x\"; echo error >&2; echo end > /dev/tty";
    let mut outer = Outer::start_to(script, Some(&file));
    outer.expect("ready\r\n");
    outer.type_in("typed\r");
    outer.expect("end\r\n");
    assert_eq!(outer.end(), 0);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "file typed\nerror\n");
    assert!(!outer.seen.contains("file") && !outer.seen.contains("error"));
}
