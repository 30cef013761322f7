//! Who keeps this process's lease with a server on another host: a process of its own, as this one
//! may fork and so has no threads. It lives as long as this one, or what that leaves mounted.

use super::hosts::{Beat, HostInfo, NewToken, TokenInfo, TokenMade, names_token};
use super::remote::{Place, Token};
use super::{Client, ClientError};
use crate::control::hosts::Lease;
use hyper::Method;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};

/// What the holder is told first, as a line of JSON on its standard input; then each line is a
/// place to which something was mounted that outlives its command. The end of it is ours.
#[derive(Serialize, Deserialize)]
pub struct Task {
    pub host: String,
    pub port: u16,
    pub ca: PathBuf,
    pub token: String,
    pub lease: Lease,
}

impl Task {
    pub fn place(&self) -> Place {
        Place {
            host: self.host.clone(),
            port: self.port,
        }
    }

    pub fn token(&self) -> Token {
        Token(self.token.clone())
    }
}

/// The holder's input: it is open as long as its process lives.
pub struct Holder(ChildStdin);

impl Holder {
    fn start(client: &Client) -> io::Result<Option<Holder>> {
        let Some(remote) = &client.endpoint().remote else {
            return Ok(None);
        };
        let exe = crate::sys::os::program()?;
        let mut command = Command::new(exe);
        command.args(["hold"]).stdin(Stdio::piped());
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let task = Task {
            host: remote.place.host.clone(),
            port: remote.place.port,
            ca: remote.ca.clone(),
            token: remote.token.0.clone(),
            lease: remote.lease,
        };
        let line = serde_json::to_string(&task)?;
        writeln!(input, "{line}")?;
        // It goes on in a child of its own, which is nobody's.
        match child.wait()?.success() {
            true => Ok(Some(Holder(input))),
            false => Err(io::Error::other("the lease's keeper did not start")),
        }
    }

    fn mounted(&mut self, target: &str) -> io::Result<()> {
        writeln!(self.0, "{}", serde_json::to_string(target)?)
    }
}

impl Client {
    /// Before the first call that takes something: from here on its lease is renewed.
    pub(super) fn hold(&self) -> Result<(), ClientError> {
        if self.endpoint().remote.is_none() || self.holder.borrow().is_some() {
            return Ok(());
        }
        let started = Holder::start(self).map_err(ClientError::Hold)?;
        *self.holder.borrow_mut() = started;
        Ok(())
    }

    /// What other connections of this process take under its lease stays its own as long as this client does.
    pub fn keep_lease(&self) -> Result<(), ClientError> {
        self.hold()
    }

    /// This stays mounted when this process has ended, and with it the lease.
    pub(super) fn hold_mount(&self, target: &str) -> Result<(), ClientError> {
        self.hold()?;
        match &mut *self.holder.borrow_mut() {
            Some(holder) => holder.mounted(target).map_err(ClientError::Hold),
            None => Ok(()),
        }
    }

    /// Renews this process's lease.
    pub fn beat(&self) -> Result<Beat, ClientError> {
        self.call(Method::POST, "/v1/hosts/beat", Some(&()))
    }

    /// Gives it back, with all that it was for.
    pub fn end_lease(&self) -> Result<(), ClientError> {
        self.delete("/v1/hosts/lease")
    }

    pub fn hosts(&self) -> Result<Vec<HostInfo>, ClientError> {
        self.get("/v1/hosts")
    }

    pub fn tokens(&self) -> Result<Vec<TokenInfo>, ClientError> {
        self.get("/v1/tokens")
    }

    pub fn create_token(&self, new: &NewToken) -> Result<TokenMade, ClientError> {
        self.call(Method::POST, "/v1/tokens", Some(new))
    }

    pub fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        if !names_token(name) {
            return Err(ClientError::NotFound("no token has such a name".into()));
        }
        self.call::<(), ()>(Method::DELETE, &format!("/v1/tokens/{name}"), None)
    }
}
