//! Why a sandbox did not start.

use crate::sys::Fault;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::io;

/// What a shell returns where it found no such command.
const NOT_FOUND: i32 = 127;
/// What a shell returns for a command that it found and could not execute.
const NOT_EXECUTABLE: i32 = 126;
/// What env(1), nohup(1) and chroot(1) return for failures of their own.
const OWN_FAILURE: i32 = 125;

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The description makes no sense.
    #[error("cannot start a sandbox: {0}")]
    Invalid(#[from] super::plan::PlanError),
    #[error(
        "cannot start a sandbox: this process has {0} threads, and only one of a single thread can fork safely"
    )]
    Threads(usize),
    #[error("cannot start a sandbox: another one of this process is still running")]
    Busy,
    /// Before anything was made.
    #[error("cannot start a sandbox: {what}: {cause}")]
    Start {
        what: &'static str,
        cause: io::Error,
    },
    #[error("standard input is no terminal")]
    NoTerminal,
    /// "mount graft /srv/www:/var/www/html: /var/www/html is not a directory in the tree".
    #[error("{phase}: {fault}")]
    Phase { phase: String, fault: Fault },
    /// Everything was made, and the command could not be executed.
    #[error("{command}: {fault}")]
    Exec { command: String, fault: Fault },
    /// A signal came before the command ran; all is gone again.
    #[error("interrupted by {0} before the command ran")]
    Interrupted(Signal),
}

impl SandboxError {
    /// What to do, where that is not in the text.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SandboxError::Invalid(super::plan::PlanError::Root) => Some(
                "let it run as a user of its own: -u NAME, or USER in the Pockerfile; --as-root where a root is meant",
            ),
            SandboxError::Phase { phase, .. }
                if phase.starts_with("take the limits of the login class") =>
            {
                Some(
                    "login.conf(5) of this host has to have the class: see login_cap(3), and cap_mkdb(1) where there is a login.conf.db",
                )
            }
            SandboxError::Phase { fault, .. } if fault.errno == Some(Errno::EMFILE as i32) => Some(
                "to start a command takes a few open files: --ulimit nofile=64, or leave it out",
            ),
            SandboxError::Phase { phase, fault }
                if phase.starts_with("enter the working directory") =>
            {
                let missing = fault.errno == Some(Errno::ENOENT as i32);
                (missing || fault.detail == super::workdir::OUTSIDE)
                    .then_some("make it first, or name one that is there: -w /")
            }
            SandboxError::Phase { phase, fault }
                if phase.starts_with("start the ") && fault.errno == Some(Errno::EAGAIN as i32) =>
            {
                Some(
                    "the run has as many processes as it may (--pids): `pocker top` shows them, `pocker exec` needs one more",
                )
            }
            // Not a system call's failure: the tree has no such name, or no such file.
            SandboxError::Phase { phase, fault }
                if phase.starts_with("become user") && fault.errno.is_none() =>
            {
                Some(match fault.detail.ends_with(super::identity::NO_FILE) {
                    true => {
                        "put one there: with EXEC in the Pockerfile, or from inside; a run that starts anew has its tree's"
                    }
                    false => {
                        "the tree's own /etc/passwd and /etc/group have the names; a number needs no entry: 1000:1000"
                    }
                })
            }
            SandboxError::Exec { .. } if self.status() == NOT_FOUND => {
                Some("it has to be in the tree: `pocker run NAME -- ls /bin` shows what is")
            }
            _ => None,
        }
    }

    /// The exit status that a shell, or env(1), would give it.
    pub fn status(&self) -> i32 {
        match self {
            SandboxError::Exec { fault, .. } if fault.errno == Some(Errno::ENOENT as i32) => {
                NOT_FOUND
            }
            SandboxError::Exec { .. } => NOT_EXECUTABLE,
            SandboxError::Interrupted(signal) => 128 + *signal as i32,
            _ => OWN_FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_class_that_is_not_there_is_one_line_with_a_hint() {
        let phase = super::super::plan::Action::LoginClass("daemon").to_string();
        let fault = Fault {
            detail: String::new(),
            errno: Some(Errno::ENOENT as i32),
        };
        let error = SandboxError::Phase { phase, fault };
        assert_eq!(
            error.to_string(),
            "take the limits of the login class daemon: No such file or directory"
        );
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.starts_with("login.conf(5)"))
        );
        assert_eq!(error.status(), 125);
    }
}
