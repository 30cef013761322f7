//! From a description to a running sandbox.

use super::child::{Child, Lines};
use super::error::SandboxError;
use super::mounter::{Force, TreeMount, TreeMounter};
use super::plan::{Action, Platform, plan, plan_enter};
use super::report;
use super::running::{Sandbox, Streams, unblock};
use super::spec::{Spec, Stdio};
use crate::sys::Fault;
use crate::sys::os::{self, Target};
use crate::sys::process::{self, Forked};
use crate::sys::signals::{self, Catcher};
use crate::sys::tty::{Screen, Terminal};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Starts what `spec` describes, and returns once its command runs.
///
/// The caller must have one thread (it forks, and the children run more than exec)
/// and be root. Until the [`Sandbox`] is gone, SIGINT, SIGTERM and their like are caught
/// and belong to it; a process has one sandbox at a time. All that was made is gone
/// again when this returns an error.
pub fn spawn(spec: &Spec, mounter: &mut dyn TreeMounter) -> Result<Sandbox, SandboxError> {
    let terminal = match (spec.stdio, Platform::HERE) {
        (Stdio::Inherit, Platform::Namespaces) => Terminal::of_stdin(),
        _ => None,
    };
    let actions = plan(spec, Platform::HERE, terminal.is_some())?;
    begin(spec, actions, mounter, terminal, None)
}

/// Starts `spec`'s command in a sandbox that runs; its root and mounts are what they are.
/// With `terminal` the command has one like this process's standard input. Otherwise as
/// [`spawn`].
pub fn enter(spec: &Spec, target: Target, terminal: bool) -> Result<Sandbox, SandboxError> {
    let terminal = match terminal {
        true => Some(Terminal::of_stdin().ok_or(SandboxError::NoTerminal)?),
        false => None,
    };
    let actions = plan_enter(spec, Platform::HERE, terminal.is_some())?;
    begin(spec, actions, &mut NoMounts, terminal, Some(target))
}

/// Nothing is mounted in a sandbox that runs.
struct NoMounts;

impl TreeMounter for NoMounts {
    fn mount(&mut self, _tree: &TreeMount<'_>) -> Result<(), Fault> {
        Err(Fault::new("a run that was entered is mounted already"))
    }

    fn unmount(&mut self, _target: &Path, _force: Force) -> Result<(), Fault> {
        Ok(())
    }
}

fn begin(
    spec: &Spec,
    actions: Vec<Action>,
    mounter: &mut dyn TreeMounter,
    terminal: Option<Terminal>,
    target: Option<Target>,
) -> Result<Sandbox, SandboxError> {
    let threads = process::threads();
    if threads != 1 {
        return Err(SandboxError::Threads(threads));
    }
    let screen = terminal.as_ref().map(Terminal::screen);
    let catcher = Catcher::install().map_err(|errno| match errno {
        Errno::EBUSY => SandboxError::Busy,
        errno => start("catch signals", errno),
    })?;
    let (ours, theirs) = lines(spec.stdio)?;
    let mask = signals::block_all().map_err(|errno| start("block signals", errno))?;
    let forked = process::fork_tied();
    if let Ok(Forked::Child { tie }) = forked {
        drop(ours);
        let mut child = Child::new(mounter, theirs, terminal);
        child.target = target;
        child.run(tie, &actions);
    }
    drop(theirs);
    let restored = signals::set_mask(&mask);
    let (child, tie) = match forked {
        Ok(Forked::Parent { child, tie }) => (child, tie),
        Ok(Forked::Child { .. }) => process::exit_now(1),
        Err(errno) => return Err(start("fork", errno)),
    };
    let stage = Stage { child, armed: true };
    restored.map_err(|errno| start("unblock signals", errno))?;
    let report::Reader {
        terminal: master,
        init,
        command,
        ..
    } = started(&ours.report, &catcher, &stage)?;
    let streams = match (ours.output, master) {
        (Some(output), _) => Streams::Captured(output),
        (None, Some(master)) => {
            unblock(&master).map_err(|errno| start("set up the terminal", errno))?;
            Streams::Terminal(master, screen.unwrap_or(Screen::Stdout))
        }
        (None, None) => Streams::Inherited,
    };
    Ok(Sandbox::new(
        stage.disarm(),
        tie,
        ours.ended,
        streams,
        catcher,
        spec.profile,
    )
    .with(ours.errors, init, command))
}

fn start(what: &'static str, cause: impl Into<io::Error>) -> SandboxError {
    SandboxError::Start {
        what,
        cause: cause.into(),
    }
}

/// This process's ends.
struct Ours {
    report: OwnedFd,
    ended: OwnedFd,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
}

fn lines(stdio: Stdio) -> Result<(Ours, Lines), SandboxError> {
    let (ours_report, report) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|errno| start("make a socket pair", errno))?;
    os::name_senders(&ours_report).map_err(|errno| start("make a socket pair", errno))?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| start("make a pipe", errno));
    let (ours_ended, ended) = pipe()?;
    let (ours_output, output) = match stdio {
        Stdio::Captured | Stdio::Apart => pipe().map(|(read, write)| (Some(read), Some(write)))?,
        Stdio::Inherit | Stdio::NoInput => (None, None),
    };
    let (ours_errors, errors) = match stdio {
        Stdio::Apart => pipe().map(|(read, write)| (Some(read), Some(write)))?,
        _ => (None, None),
    };
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| start("open /dev/null", error))?;
    let ours = Ours {
        report: ours_report,
        ended: ours_ended,
        output: ours_output,
        errors: ours_errors,
    };
    let theirs = Lines {
        report: Some(report),
        ended,
        null: null.into(),
        output,
        errors,
    };
    Ok((ours, theirs))
}

/// The sandbox's first process, ended and reaped when dropped.
struct Stage {
    child: Pid,
    armed: bool,
}

impl Stage {
    fn disarm(mut self) -> Pid {
        self.armed = false;
        self.child
    }

    fn reap(&mut self) {
        self.armed = false;
        while waitpid(self.child, None) == Err(Errno::EINTR) {}
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.armed {
            let _ = kill(self.child, signals::END);
            self.reap();
        }
    }
}

/// Waits until the command was executed or something failed. A mount may hang where
/// a server does, so signals end it.
fn started(
    socket: &OwnedFd,
    catcher: &Catcher,
    stage: &Stage,
) -> Result<report::Reader, SandboxError> {
    let mut reader = report::Reader::default();
    loop {
        let mut fds = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(catcher.fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(start("poll", errno)),
        }
        if fds[1].any() == Some(true)
            && let Some(signal) = catcher.drain().into_iter().find(|s| ends(*s))
        {
            return Err(SandboxError::Interrupted(signal));
        }
        if fds[0].any() == Some(true)
            && reader
                .read(socket)
                .map_err(|error| start("read the sandbox's report", error))?
        {
            break;
        }
    }
    match reader.failure() {
        None => Ok(reader),
        Some(error) => {
            // It cleans up and ends by itself.
            Stage {
                child: stage.child,
                armed: false,
            }
            .reap();
            Err(error)
        }
    }
}

/// Whether a signal asks for the end.
pub(super) fn ends(signal: Signal) -> bool {
    let mut set = SigSet::empty();
    set.extend([
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]);
    set.contains(signal)
}
