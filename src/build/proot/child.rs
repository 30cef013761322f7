//! A program of the host whose standard output is a stream and whose standard error is progress.

use crate::build::BuildError;
use crate::build::tail::Tail;
use crate::build::tools::{Event, Phase, Progress};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often an interrupt is looked for while the program is silent.
const TICK_MS: u16 = 200;
/// What an interrupted program gets to unmount and to remove its files.
const GRACE: Duration = Duration::from_secs(10);
const CHUNK: usize = 256 << 10;

/// Reads the program's output; end of file comes only when it has ended well, so that a
/// truncated stream is never taken for a whole one.
pub struct ChildStream<'a> {
    program: &'static str,
    child: Child,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    /// Read ahead by `prime`.
    ahead: Vec<u8>,
    at: usize,
    tail: Tail,
    progress: &'a mut dyn Progress,
    cancelled: &'a AtomicBool,
    done: u64,
    ended: bool,
    /// Why `read` failed, in the builder's words.
    failure: Option<BuildError>,
}

impl<'a> ChildStream<'a> {
    /// Starts the program in a process group of its own, so that all of it can be ended.
    pub fn spawn(
        program: &'static str,
        mut command: Command,
        progress: &'a mut dyn Progress,
        cancelled: &'a AtomicBool,
    ) -> Result<ChildStream<'a>, BuildError> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let path = std::path::Path::new(command.get_program()).to_owned();
        let mut child = command
            .spawn()
            .map_err(|e| BuildError::io("start", &path, e))?;
        let (Some(stdout), stderr) = (child.stdout.take(), child.stderr.take()) else {
            return Err(BuildError::io("read from", &path, Errno::EPIPE.into()));
        };
        Ok(ChildStream {
            program,
            child,
            stdout,
            stderr,
            ahead: Vec::new(),
            at: 0,
            tail: Tail::default(),
            progress,
            cancelled,
            done: 0,
            ended: false,
            failure: None,
        })
    }

    /// Waits for the first bytes: a program that fails before them never opens a stream to the server.
    pub fn prime(&mut self) -> Result<(), BuildError> {
        let mut chunk = vec![0; CHUNK];
        match self.fill(&mut chunk) {
            Ok(0) => Err(BuildError::Program {
                program: self.program,
                how: "it gave no archive".to_owned(),
                tail: self.tail.lines(),
            }),
            Ok(count) => {
                chunk.truncate(count);
                self.ahead = chunk;
                Ok(())
            }
            Err(e) => Err(self.failure(BuildError::io(
                "read from",
                std::path::Path::new(self.program),
                e,
            ))),
        }
    }

    /// The reason this stream broke, where it did; else `other`, which its reader gave.
    pub fn failure(&mut self, other: BuildError) -> BuildError {
        self.failure.take().unwrap_or(other)
    }

    /// Reads what the stream's reader left: the program must end, and well.
    pub fn verify(&mut self) -> Result<(), BuildError> {
        match io::copy(self, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(e) => {
                let program = std::path::Path::new(self.program);
                Err(self.failure(BuildError::io("read from", program, e)))
            }
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                self.failure = Some(BuildError::Cancelled);
                return Err(io::Error::other("interrupted"));
            }
            let (data, words) = self.wait()?;
            if words {
                self.hear()?;
            }
            if !data {
                continue;
            }
            let count = self.stdout.read(out)?;
            if count == 0 {
                self.finish()?;
            }
            return Ok(count);
        }
    }

    /// Whether standard output and standard error have something, within a tick.
    fn wait(&mut self) -> io::Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            self.stderr
                .as_ref()
                .map(|stderr| PollFd::new(stderr.as_fd(), PollFlags::POLLIN)),
        );
        match poll(&mut fds, PollTimeout::from(TICK_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready =
            |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
        Ok((ready(fds.first()), ready(fds.get(1))))
    }

    /// Waits for words on standard error, if it is open; whether there were any.
    fn hear_within(&mut self, ms: u16) -> io::Result<bool> {
        let Some(stderr) = &self.stderr else {
            std::thread::sleep(Duration::from_millis(u64::from(ms.min(10))));
            return Ok(false);
        };
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(ms)) {
            Ok(0) | Err(Errno::EINTR) => Ok(false),
            Ok(_) => self.hear().map(|()| true),
            Err(e) => Err(e.into()),
        }
    }

    fn hear(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let Some(stderr) = &mut self.stderr else {
            return Ok(());
        };
        let count = stderr.read(&mut chunk)?;
        if count == 0 {
            self.stderr = None;
        }
        let progress = &mut *self.progress;
        self.tail.feed(&chunk[..count], &mut |line| {
            progress.event(Event::Output(line));
        });
        Ok(())
    }

    /// Standard output ended: so must the program, and well.
    fn finish(&mut self) -> io::Result<()> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if self.cancelled.load(Ordering::Relaxed) {
                self.failure = Some(BuildError::Cancelled);
                return Err(io::Error::other("interrupted"));
            }
            self.hear_within(TICK_MS)?;
        };
        self.ended = true;
        // What it said last. Something it left running may hold the pipe open for ever.
        while self.hear_within(0)? {}
        let progress = &mut *self.progress;
        self.tail
            .finish(&mut |line| progress.event(Event::Output(line)));
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or(0)),
        };
        self.failure = Some(BuildError::Program {
            program: self.program,
            how,
            tail: self.tail.lines(),
        });
        Err(io::Error::other(format!("{} failed", self.program)))
    }
}

impl Read for ChildStream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.ended {
            return Ok(0);
        }
        let count = if self.at < self.ahead.len() {
            let count = out.len().min(self.ahead.len() - self.at);
            out[..count].copy_from_slice(&self.ahead[self.at..self.at + count]);
            self.at += count;
            count
        } else {
            self.fill(out)?
        };
        self.done += count as u64;
        self.progress.event(Event::Bytes {
            phase: Phase::Ingest,
            done: self.done,
            total: None,
        });
        Ok(count)
    }
}

impl Drop for ChildStream<'_> {
    /// Ends what is left of the program, politely first: it may have mounts and files to remove.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let Ok(group) = i32::try_from(self.child.id()).map(Pid::from_raw) else {
            return;
        };
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
