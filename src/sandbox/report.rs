//! What a sandbox's processes tell the one that started it.
//!
//! On a stream socket, closed on exec: `T` with the terminal's master, where there is
//! one, and `I` and `C` by the first process of the namespaces and by what becomes the command,
//! so that the kernel says who they are; then either nothing (end of file: the command was
//! executed) or one failure up to the end of file: kind, errno, phase, NUL, detail.
//! On a pipe: how the command ended, 8 bytes.

use super::error::SandboxError;
use super::plan::Role;
use super::spec::Exit;
use crate::sys::process::Started;
use crate::sys::{Fault, os};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const TERMINAL: u8 = b'T';
const INIT: u8 = b'I';
const COMMAND: u8 = b'C';
const FAILURE: u8 = b'F';
const EXEC_FAILURE: u8 = b'X';
/// A phase and a detail name a path or two each.
const MAX_REPORT: usize = 32 * 1024;

const ENDED_CODE: u32 = 0;
const ENDED_SIGNAL: u32 = 1;
pub const ENDED_LEN: usize = 8;

pub fn send_terminal(socket: &OwnedFd, master: &OwnedFd) -> nix::Result<()> {
    let fds = [master.as_raw_fd()];
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(&[TERMINAL])],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )
    .map(drop)
}

/// By the process itself.
pub fn send_role(socket: &OwnedFd, role: Role) {
    let byte = match role {
        Role::Init => INIT,
        Role::Command => COMMAND,
    };
    let _ = nix::sys::socket::send(socket.as_raw_fd(), &[byte], MsgFlags::MSG_NOSIGNAL);
}

/// Best effort: without a reader nobody misses it.
pub fn send_failure(socket: &OwnedFd, exec: bool, phase: &str, fault: &Fault) {
    let mut bytes = vec![if exec { EXEC_FAILURE } else { FAILURE }];
    bytes.extend(fault.errno.unwrap_or(0).to_ne_bytes());
    bytes.extend(phase.bytes().filter(|&b| b != 0).take(MAX_REPORT / 4));
    bytes.push(0);
    bytes.extend(fault.detail.bytes().take(MAX_REPORT / 4));
    let _ = nix::sys::socket::send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL);
}

/// Collects a report until its end.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    pub terminal: Option<OwnedFd>,
    pub init: Option<Started>,
    pub command: Option<Started>,
}

impl Reader {
    /// Reads once; true at the end.
    pub fn read(&mut self, socket: &OwnedFd) -> io::Result<bool> {
        let mut buffer = [0u8; 4096];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        control.extend(os::sender_space());
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut iov,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let length = message.bytes;
        let mut sender = None;
        for part in message.cmsgs()? {
            sender = os::sender(&part).or(sender);
            if let ControlMessageOwned::ScmRights(fds) = part {
                self.terminal = fds.into_iter().map(crate::sys::process::own).next_back();
            }
        }
        match (buffer[..length].first(), sender) {
            (Some(&INIT), Some(pid)) => self.init = Some(Started::of(pid)),
            (Some(&COMMAND), Some(pid)) => self.command = Some(Started::of(pid)),
            _ => {}
        }
        let room = MAX_REPORT.saturating_sub(self.bytes.len());
        self.bytes.extend(&buffer[..length.min(room)]);
        Ok(length == 0)
    }

    pub fn failure(&self) -> Option<SandboxError> {
        let mut bytes = &self.bytes[..];
        while let Some((&(TERMINAL | INIT | COMMAND), rest)) = bytes.split_first() {
            bytes = rest;
        }
        let (&kind, rest) = bytes.split_first()?;
        let (errno, rest) = rest.split_first_chunk::<4>()?;
        let mut texts = rest.splitn(2, |&b| b == 0);
        let mut text = || String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned();
        let (phase, detail) = (text(), text());
        let errno = Some(i32::from_ne_bytes(*errno)).filter(|&e| e != 0);
        let fault = Fault { detail, errno };
        Some(match kind {
            EXEC_FAILURE => SandboxError::Exec {
                command: phase,
                fault,
            },
            _ => SandboxError::Phase { phase, fault },
        })
    }
}

pub fn encode_exit(exit: Exit) -> [u8; ENDED_LEN] {
    let (kind, value) = match exit {
        Exit::Code(code) => (ENDED_CODE, code),
        Exit::Signal(signal) => (ENDED_SIGNAL, signal),
    };
    let mut bytes = [0; ENDED_LEN];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

/// None for anything but a whole record.
pub fn decode_exit(bytes: &[u8]) -> Option<Exit> {
    let (kind, value) = bytes.split_first_chunk::<4>()?;
    let value = i32::from_ne_bytes(value.try_into().ok()?);
    match u32::from_ne_bytes(*kind) {
        ENDED_CODE => Some(Exit::Code(value)),
        ENDED_SIGNAL => Some(Exit::Signal(value)),
        _ => None,
    }
}
