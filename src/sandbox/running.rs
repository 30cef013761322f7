//! A running sandbox: waiting for it, its output, its terminal, signals for it.

use super::apply::ends;
use super::report;
use super::spec::{Exit, Profile};
use crate::sys::process::Started;
use crate::sys::signals::{Catcher, END, FORWARDED};
use crate::sys::tty::{self, Raw, Screen};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// One read of output or of the caller's terminal.
const CHUNK: usize = 16 * 1024;

pub(super) enum Streams {
    Inherited,
    /// Reading end of the command's output.
    Captured(OwnedFd),
    /// Master of the sandbox's terminal, and where it is shown.
    Terminal(OwnedFd, Screen),
}

/// A sandbox whose command runs. Dropping it ends it at once.
pub struct Sandbox {
    /// The first process; the others end with it.
    stage: Pid,
    _tie: OwnedFd,
    ended: OwnedFd,
    streams: Streams,
    catcher: Catcher,
    profile: Profile,
    exit: Option<Exit>,
    interrupted: Option<Signal>,
    /// Reading end of the command's errors, where they are not in its output.
    errors: Option<OwnedFd>,
    init: Option<Started>,
    command: Option<Started>,
}

/// Which of the command's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Output,
    Errors,
}

/// Looks on while a sandbox runs.
pub trait Watch {
    /// What the command wrote, where that is captured.
    fn said(&mut self, from: Source, bytes: &[u8]);

    /// Before each wait and after whatever ended it, a child's end among that: when to come
    /// again at the latest.
    fn turn(&mut self) -> Option<Duration> {
        None
    }
}

/// Captured output alone.
struct Sink<'a>(&'a mut dyn FnMut(&[u8]));

impl Watch for Sink<'_> {
    fn said(&mut self, _from: Source, bytes: &[u8]) {
        (self.0)(bytes);
    }
}

impl Sandbox {
    pub(super) fn new(
        stage: Pid,
        tie: OwnedFd,
        ended: OwnedFd,
        streams: Streams,
        catcher: Catcher,
        profile: Profile,
    ) -> Sandbox {
        Sandbox {
            stage,
            _tie: tie,
            ended,
            streams,
            catcher,
            profile,
            exit: None,
            interrupted: None,
            errors: None,
            init: None,
            command: None,
        }
    }

    pub(super) fn with(
        mut self,
        errors: Option<OwnedFd>,
        init: Option<Started>,
        command: Option<Started>,
    ) -> Sandbox {
        (self.errors, self.init, self.command) = (errors, init, command);
        self
    }

    /// The first process of the sandbox's namespaces, and the command's own, where the system tells.
    pub fn inside(&self) -> (Option<Started>, Option<Started>) {
        (self.init, self.command)
    }

    /// The sandbox's first process, on the host. Signals to it are passed on as by
    /// [`Sandbox::signal`]. SIGKILL ends all, a moment after this process is gone.
    pub fn pid(&self) -> u32 {
        self.stage.as_raw().unsigned_abs()
    }

    /// Takes the captured output away from [`Sandbox::wait`]; the caller must read it to its
    /// end before it waits. None where nothing is captured or it was taken.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        match std::mem::replace(&mut self.streams, Streams::Inherited) {
            Streams::Captured(output) => Some(output),
            other => {
                self.streams = other;
                None
            }
        }
    }

    /// INT, QUIT and WINCH go to the command's process group, TERM, HUP, USR1 and USR2 to the
    /// command; KILL ends the sandbox. Others are refused with EINVAL, and all with
    /// ESRCH once it has ended.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let pass = match signal {
            _ if self.exit.is_some() => return Err(Errno::ESRCH.into()),
            Signal::SIGKILL => END,
            signal if FORWARDED.contains(&signal) => signal,
            _ => return Err(Errno::EINVAL.into()),
        };
        Ok(kill(self.stage, pass)?)
    }

    /// The last signal that asked this process to end while the sandbox ran. It went to the command.
    pub fn interrupted(&self) -> Option<Signal> {
        self.interrupted
    }

    /// Until the command has ended, and with it every process and mount of the
    /// sandbox. Relays terminal and signals; captured output is dropped.
    pub fn wait(&mut self) -> Exit {
        self.wait_with(&mut |_| {})
    }

    /// The same, with captured output given to `sink` as it comes.
    pub fn wait_with(&mut self, sink: &mut dyn FnMut(&[u8])) -> Exit {
        self.wait_watched(&mut Sink(sink))
    }

    /// The same, with `watch` told of all that happens.
    pub fn wait_watched(&mut self, watch: &mut dyn Watch) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let raw = match self.streams {
            Streams::Terminal(..) => Raw::enter().ok(),
            _ => None,
        };
        // A terminal may have changed its size before anybody looked.
        self.resize();
        let mut typed = Typed::new(raw.is_some());
        while !self.reaped() {
            let within = watch.turn();
            self.turn(&mut typed, within, watch);
        }
        self.drain(watch);
        drop(raw);
        *self
            .exit
            .get_or_insert(Exit::Signal(Signal::SIGKILL as i32))
    }

    /// One round of waiting: whatever comes first.
    fn turn(&mut self, typed: &mut Typed, within: Option<Duration>, watch: &mut dyn Watch) {
        let stdin = std::io::stdin();
        let none = PollFlags::empty();
        let mut fds = vec![PollFd::new(self.catcher.fd(), PollFlags::POLLIN)];
        let output_at = self.output_fd().map(|fd| {
            let write = matches!(self.streams, Streams::Terminal(..)) && !typed.pending.is_empty();
            let more = if write { PollFlags::POLLOUT } else { none };
            fds.push(PollFd::new(fd, PollFlags::POLLIN | more));
            fds.len() - 1
        });
        let stdin_at = typed.wanted().then(|| {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        let errors_at = self.errors.as_ref().map(|fd| {
            fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        // Rounded up, not to come too early again and again.
        let within = within.map(|time| time.as_millis().saturating_add(1).min(3_600_000));
        let within = within.map_or(PollTimeout::NONE, |ms| {
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::ZERO)
        });
        if poll(&mut fds, within).is_err() {
            return;
        }
        let events = |at: Option<usize>| at.and_then(|i| fds[i].revents()).unwrap_or(none);
        let (output, typing, signals) = (events(output_at), events(stdin_at), events(Some(0)));
        let ready = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let errors = events(errors_at);
        if output.intersects(ready) {
            self.relay_output(watch);
        }
        if errors.intersects(ready) {
            self.relay_errors(watch);
        }
        if output.contains(PollFlags::POLLOUT)
            && let Streams::Terminal(master, _) = &self.streams
        {
            typed.flush(master.as_fd());
        }
        if !typing.is_empty() {
            typed.fill(stdin.as_fd());
        }
        if !signals.is_empty() {
            self.pass_on_signals();
        }
    }

    fn output_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.streams {
            Streams::Captured(fd) | Streams::Terminal(fd, _) => Some(fd.as_fd()),
            Streams::Inherited => None,
        }
    }

    /// Reads once. At the end, or where nobody is left to read from, there is no more to poll.
    fn relay_output(&mut self, watch: &mut dyn Watch) {
        let mut buffer = [0; CHUNK];
        let (fd, screen) = match &self.streams {
            Streams::Captured(fd) => (fd, None),
            Streams::Terminal(fd, screen) => (fd, Some(screen)),
            Streams::Inherited => return,
        };
        match read(fd, &mut buffer) {
            Ok(0) => self.streams = Streams::Inherited,
            Ok(n) => match screen {
                Some(screen) => screen.show(&buffer[..n]),
                None => watch.said(Source::Output, &buffer[..n]),
            },
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // EIO: no process has the terminal open (pty(7)).
            Err(_) => self.streams = Streams::Inherited,
        }
    }

    fn relay_errors(&mut self, watch: &mut dyn Watch) {
        let Some(fd) = &self.errors else { return };
        let mut buffer = [0; CHUNK];
        match read(fd, &mut buffer) {
            Ok(0) => self.errors = None,
            Ok(n) => watch.said(Source::Errors, &buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.errors = None,
        }
    }

    /// What was written before the end and not yet read. Everybody who could write is gone.
    fn drain(&mut self, watch: &mut dyn Watch) {
        while let Some(fd) = &self.errors {
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(0) => break,
                Err(errno) if errno != Errno::EINTR => break,
                _ => self.relay_errors(watch),
            }
        }
        while let Some(fd) = self.output_fd() {
            let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(0) => return,
                Err(errno) if errno != Errno::EINTR => return,
                _ => self.relay_output(watch),
            }
        }
    }

    fn pass_on_signals(&mut self) {
        for signal in self.catcher.drain() {
            match signal {
                Signal::SIGCHLD => continue,
                Signal::SIGWINCH if matches!(self.streams, Streams::Terminal(..)) => {
                    self.resize();
                    continue;
                }
                _ => {}
            }
            // A build that was asked twice is not asked again.
            let insist = self.profile == Profile::Build && self.interrupted.is_some();
            if ends(signal) {
                self.interrupted = Some(signal);
            }
            let pass = if insist && ends(signal) { END } else { signal };
            let _ = kill(self.stage, pass);
        }
    }

    fn resize(&self) {
        if let Streams::Terminal(master, _) = &self.streams
            && let Ok(size) = tty::size_of(std::io::stdin().as_fd())
        {
            let _ = tty::set_size(master.as_fd(), &size);
        }
    }

    /// Whether the first process has ended; notes how the command did.
    fn reaped(&mut self) -> bool {
        if self.exit.is_some() {
            return true;
        }
        match waitpid(self.stage, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return false,
            _ => {}
        }
        self.exit = Some(self.how_it_ended());
        true
    }

    /// What the command's supervisor wrote; where it could not, something killed it.
    fn how_it_ended(&self) -> Exit {
        let mut record = [0; report::ENDED_LEN];
        let length = read(&self.ended, &mut record).unwrap_or(0);
        report::decode_exit(&record[..length]).unwrap_or(Exit::Signal(Signal::SIGKILL as i32))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.reaped() {
            let _ = kill(self.stage, END);
            while waitpid(self.stage, None) == Err(Errno::EINTR) {}
        }
    }
}

/// What was typed at the caller's terminal and not yet taken by the sandbox's.
struct Typed {
    open: bool,
    pending: Vec<u8>,
}

impl Typed {
    fn new(open: bool) -> Typed {
        Typed {
            open,
            pending: Vec::new(),
        }
    }

    /// One chunk at a time: while the command does not read, neither do we.
    fn wanted(&self) -> bool {
        self.open && self.pending.is_empty()
    }

    fn fill(&mut self, stdin: BorrowedFd<'_>) {
        let mut buffer = [0; CHUNK];
        match read(stdin, &mut buffer) {
            Ok(0) => self.open = false,
            Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.open = false,
        }
    }

    fn flush(&mut self, master: BorrowedFd<'_>) {
        match write(master, &self.pending) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.open = false,
        }
    }
}

/// A write to the terminal's master must not block the relay.
pub(super) fn unblock(fd: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
