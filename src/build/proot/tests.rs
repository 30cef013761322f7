//! Programs of the host as streams, and how they are called.

use super::make::Tool;
use super::*;
use crate::build::BuildError;
use crate::build::tools::{Event, Progress};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
struct Lines(Vec<String>);

impl Progress for Lines {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Output(line) = event {
            self.0.push(line.to_owned());
        }
    }
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn output_is_the_stream_and_errors_are_progress() {
    let (mut lines, go_on) = (Lines::default(), AtomicBool::new(false));
    let script = "echo one >&2; printf abc; echo two >&2; printf def";
    let mut stream = ChildStream::spawn("sh", sh(script), &mut lines, &go_on).expect("started");
    stream.prime().expect("has output");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read");
    drop(stream);
    assert_eq!(bytes, b"abcdef");
    assert_eq!(lines.0, ["one", "two"]);
}

/// A reader that stops early does not hide how the program ended.
#[test]
fn the_end_of_the_program_counts_when_its_output_was_not_read() {
    for (script, good) in [("printf abc", true), ("printf abc; exit 1", false)] {
        let (mut lines, go_on) = (Lines::default(), AtomicBool::new(false));
        let mut stream = ChildStream::spawn("sh", sh(script), &mut lines, &go_on).expect("started");
        stream.prime().expect("has output");
        assert_eq!(stream.verify().is_ok(), good, "{script}");
    }
}

/// A stream that its program did not end well must not look whole.
#[test]
fn a_failing_program_breaks_the_stream() {
    let (mut lines, go_on) = (Lines::default(), AtomicBool::new(false));
    let script = "printf abc; echo 'E: no mirror' >&2; exit 25";
    let mut stream = ChildStream::spawn("sh", sh(script), &mut lines, &go_on).expect("started");
    stream.prime().expect("has output");
    stream.read_to_end(&mut Vec::new()).expect_err("broken");
    let error = stream.failure(BuildError::Cancelled);
    assert_eq!(
        error.to_string(),
        "sh failed (exit status 25)\n  | E: no mirror"
    );
}

#[test]
fn a_program_that_fails_before_its_first_byte_is_told_at_once() {
    let (mut lines, go_on) = (Lines::default(), AtomicBool::new(false));
    let mut stream =
        ChildStream::spawn("sh", sh("kill -9 $$"), &mut lines, &go_on).expect("started");
    let error = stream.prime().expect_err("no output");
    assert_eq!(error.to_string(), "sh failed (signal 9)");
    drop(stream);
    let mut silent = ChildStream::spawn("sh", sh("exit 0"), &mut lines, &go_on);
    let error = silent
        .as_mut()
        .expect("started")
        .prime()
        .expect_err("no output");
    assert_eq!(error.to_string(), "sh failed (it gave no archive)");
}

/// The interrupt comes with the program's first word, so the test waits for nothing but the program.
#[test]
fn an_interrupt_ends_the_program_and_its_children() {
    struct Interrupter<'a>(&'a AtomicBool);
    impl Progress for Interrupter<'_> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Output(_) = event {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let flag = AtomicBool::new(false);
    let mut progress = Interrupter(&flag);
    let mut command = sh(
        "trap 'echo cleaned > \"$DIR/cleaned\"; exit 1' TERM; sleep 1000 & echo $! > \"$DIR/child\"; echo go >&2; wait",
    );
    command.env("DIR", dir.path());
    let mut stream = ChildStream::spawn("sh", command, &mut progress, &flag).expect("started");
    let error = stream.prime().expect_err("interrupted");
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    drop(stream);
    assert!(dir.path().join("cleaned").exists(), "it could clean up");
    let child = std::fs::read_to_string(dir.path().join("child")).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(child.trim().parse().expect("a number"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while nix::sys::signal::kill(pid, None).is_ok() && !is_zombie(pid) {
        assert!(std::time::Instant::now() < deadline, "the child lives");
        std::thread::yield_now();
    }
}

/// Ended, but its new parent has not looked yet.
fn is_zombie(pid: nix::unistd::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains(") Z")
}

fn release() -> Release {
    let source = |suite: &str| Source {
        uri: "http://deb.debian.org/debian".to_owned(),
        suite: suite.to_owned(),
        components: vec!["main".to_owned(), "contrib".to_owned()],
        stale: false,
    };
    Release {
        id: "debian".to_owned(),
        codename: "bookworm".to_owned(),
        arch: "amd64".to_owned(),
        sources: vec![source("bookworm-updates"), source("bookworm")],
        keyring: Some("/k.gpg".to_owned()),
    }
}

#[test]
fn how_the_tools_are_called() {
    let options = Bootstrap {
        ca: Some(Path::new("/ca.pem")),
        source_date_epoch: Some(5),
        proxies: &[],
        work_dir: Path::new("/cache"),
    };
    let shown = |tool: Tool| {
        let words = tool.arguments(&release(), &options, Path::new("/w"));
        let words = words.iter().map(|w| w.to_string_lossy().into_owned());
        words
            .filter(|w| !w.contains("set -e"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(shown(Tool::Mmdebstrap("/bin/mmdebstrap".into())), @r#"
    /bin/mmdebstrap
    --mode=root
    --variant=minbase
    --format=tar
    --architectures=amd64
    --aptopt=Acquire::https::CAInfo "/ca.pem"
    --customize-hook=rm -f "$1/etc/hostname" "$1/etc/apt/apt.conf.d/99mmdebstrap"; : > "$1/etc/resolv.conf"; chmod 644 "$1/etc/resolv.conf"
    bookworm
    -
    deb [signed-by=/k.gpg] http://deb.debian.org/debian bookworm-updates main contrib
    deb [signed-by=/k.gpg] http://deb.debian.org/debian bookworm main contrib
    "#);
    insta::assert_snapshot!(shown(Tool::Debootstrap("/sbin/debootstrap".into())), @r#"
    sh
    -c
    pocker-debootstrap
    /w/root
    bookworm
    http://deb.debian.org/debian
    amd64
    /sbin/debootstrap
    main,contrib
    /k.gpg
    /ca.pem
    5
    deb [signed-by=/k.gpg] http://deb.debian.org/debian bookworm-updates main contrib
    deb [signed-by=/k.gpg] http://deb.debian.org/debian bookworm main contrib
    "#);
}

#[test]
fn the_tool_is_found_on_the_path() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("mmdebstrap"), "").expect("written");
    let found = Tool::find(dir.path().as_os_str()).expect("found");
    assert_eq!(found, Tool::Mmdebstrap(dir.path().join("mmdebstrap")));
}
