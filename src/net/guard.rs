//! A process between a run's supervisor and its engine: whatever becomes of the supervisor,
//! the engine ends with it. The engine has a mount namespace of its own there, as its own
//! confinement unmounts what the host would miss.

use super::engine::{Engine, Kind, Start};
use super::{FILES, NetError, Wanted, slirp};
use crate::sys::os::netns;
use crate::sys::process::{self, Forked};
use crate::sys::signals;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// From its start until it is ready.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the guard looks whether its engine is alive, and at pasta's file.
const TICK: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_millis(500);
/// How much of an engine's complaint is told.
const SAID_MAX: u64 = 2048;

/// The guard, ended with its engine when dropped.
pub struct Guard {
    name: &'static str,
    pid: Pid,
    tie: Option<OwnedFd>,
    files: Files,
    ended: bool,
}

/// Files of a start, gone when it is done.
struct Files {
    log: PathBuf,
    ready: PathBuf,
    socket: PathBuf,
    /// The namespace, where guard and engine see it.
    namespace: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Files {
        let file = |what: &str| dir.join(format!("{FILES}{}.{what}", std::process::id()));
        Files {
            log: file("log"),
            ready: file("pid"),
            socket: file("sock"),
            namespace: file("ns"),
        }
    }

    fn remove(&self) {
        for path in [&self.log, &self.ready, &self.socket, &self.namespace] {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Guard {
    /// Returns when the engine is ready and the ports are published.
    pub fn start(
        engine: &Engine,
        namespace: &OwnedFd,
        wanted: &Wanted,
        dir: &Path,
    ) -> Result<Guard, NetError> {
        let name = engine.kind.name();
        let failed = |what| {
            move |cause: io::Error| NetError::Start {
                engine: name,
                what,
                cause,
            }
        };
        std::fs::create_dir_all(dir).map_err(failed("make its directory"))?;
        let files = Files::of(dir);
        files.remove();
        let log = File::create(&files.log).map_err(failed("make its log"))?;
        let (ready, said) = pipe2(OFlag::O_CLOEXEC)
            .map_err(io::Error::from)
            .map_err(failed("make a pipe"))?;
        let forked = process::fork_tied().map_err(io::Error::from);
        let (pid, tie) = match forked.map_err(failed("fork"))? {
            Forked::Parent { child, tie } => (child, tie),
            Forked::Child { tie } => {
                drop(ready);
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    watch(engine, namespace, wanted, &files, log, said, tie)
                }));
                process::exit_now(i32::from(!matches!(done, Ok(Ok(())))));
            }
        };
        drop(said);
        let mut guard = Guard {
            name,
            pid,
            tie: Some(tie),
            files,
            ended: false,
        };
        guard.until_ready(&ready)?;
        if engine.kind == Kind::Slirp4netns {
            for port in &wanted.ports {
                slirp::publish(&guard.files.socket, port)?;
            }
        }
        guard.files.remove();
        Ok(guard)
    }

    fn until_ready(&mut self, ready: &OwnedFd) -> Result<(), NetError> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) => {
                    return Err(NetError::Late {
                        engine: self.name,
                        seconds: DEADLINE.as_secs(),
                    });
                }
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(NetError::Engine {
                        engine: self.name,
                        said: errno.desc().to_owned(),
                    });
                }
            }
        }
        match nix::unistd::read(ready, &mut [0; 1]) {
            Ok(1) => Ok(()),
            // It ended: what it said is in its log.
            _ => Err(NetError::Engine {
                engine: self.name,
                said: self.said(),
            }),
        }
    }

    /// The last line of what the engine said.
    fn said(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(log) = File::open(&self.files.log) {
            let _ = log.take(SAID_MAX).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines().map(str::trim);
        // pasta complains of a missing syslog after each of its lines.
        let last = lines.rfind(|line| !line.is_empty() && !line.contains("to syslog"));
        last.unwrap_or("it ended without a word").to_owned()
    }

    /// The engine's name, if it has ended.
    pub fn lost(&mut self) -> Option<&'static str> {
        let now = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        self.ended |= matches!(now, Ok(s) if s != WaitStatus::StillAlive);
        self.ended.then_some(self.name)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tie = None;
        while !self.ended {
            self.ended = waitpid(self.pid, None) != Err(Errno::EINTR);
        }
    }
}

/// The guard's life. `said` is its way to say that the engine is ready: its end without a
/// word says that it is not. The end of `tie` is the supervisor's.
fn watch(
    engine: &Engine,
    namespace: &OwnedFd,
    wanted: &Wanted,
    files: &Files,
    log: File,
    said: OwnedFd,
    tie: OwnedFd,
) -> io::Result<()> {
    let keep = [
        namespace.as_raw_fd(),
        log.as_raw_fd(),
        said.as_raw_fd(),
        tie.as_raw_fd(),
    ];
    process::close_except(&keep);
    // Who waits for the supervisor's output to end does not wait for this.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    // What a terminal sends is for the run.
    nix::unistd::setsid()?;
    signals::block_all()?;
    File::create(&files.namespace)?;
    netns::show(namespace, &files.namespace)
        .map_err(|fault| io::Error::other(fault.to_string()))?;
    let (ready, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    for fd in [&tie, &theirs] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let start = Start {
        namespace: &files.namespace,
        exit_fd: tie.as_raw_fd(),
        ready_fd: theirs.as_raw_fd(),
        ready_file: &files.ready,
        socket: &files.socket,
    };
    let child = Command::new(&engine.program)
        .args(engine.arguments(wanted, &start))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    drop(theirs);
    let mut child = child?;
    let mut said = Some(said);
    loop {
        let tick = if said.is_some() { TICK } else { REST };
        let mut fds = [
            PollFd::new(tie.as_fd(), PollFlags::POLLIN),
            PollFd::new(ready.as_fd(), PollFlags::POLLIN),
        ];
        // Once it is ready only the supervisor's end counts.
        let count = if said.is_some() { 2 } else { 1 };
        let _ = poll(
            &mut fds[..count],
            PollTimeout::try_from(tick).unwrap_or(PollTimeout::MAX),
        );
        if fds[0].any() == Some(true) {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let asked = Instant::now();
            while asked.elapsed() < REST && child.try_wait()?.is_none() {
                std::thread::sleep(TICK / 4);
            }
            let _ = child.kill();
            let _ = child.wait();
            return Ok(());
        }
        if child.try_wait()?.is_some() {
            return Err(io::Error::other("the engine ended"));
        }
        let is_ready = match engine.kind {
            // Its end is an event too, but no byte.
            Kind::Slirp4netns => {
                said.is_some()
                    && fds[1].any() == Some(true)
                    && nix::unistd::read(&ready, &mut [0; 1]) == Ok(1)
            }
            Kind::Pasta => std::fs::metadata(&files.ready).is_ok_and(|meta| meta.len() > 0),
        };
        if is_ready && let Some(said) = said.take() {
            nix::unistd::write(&said, b"1")?;
        }
    }
}
