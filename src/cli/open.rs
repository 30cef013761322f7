//! Reaching the server, and what its errors mean to a person.

use super::bounds;
use super::config::Settings;
use super::error::CliError;
use crate::control::connect::StartError;
use crate::control::{Client, ClientError};

/// Connects; starts a server in the background where none runs, and says so.
pub fn server(settings: &Settings) -> Result<Client, CliError> {
    must_be_root()?;
    bounds::sweep(settings);
    let client = Client::open(settings.endpoint(true))?;
    if let Some(pid) = client.started()
        && !settings.quiet
    {
        eprintln!(
            "started a server in the background (pid {pid}, store {}); it leaves when idle",
            settings.store.display()
        );
    }
    Ok(client)
}

/// Connects to a server that runs; starts none.
pub fn running_server(settings: &Settings) -> Result<Client, CliError> {
    must_be_root()?;
    Ok(Client::open(settings.endpoint(false))?)
}

pub fn must_be_root() -> Result<(), CliError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(
        CliError::new("pocker mounts and changes root directories, which takes root")
            .hint("run it as root, with doas or sudo"),
    )
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        match error {
            ClientError::Api(api) => api.into(),
            ClientError::NotFound(what) => CliError::new(what),
            ClientError::Start(start) => start.into(),
            ClientError::Gone { .. } => CliError::from_error("the server went away", &error).hint(
                "start one with `pocker serve`; finished steps are kept, so running the command again goes on after them",
            ),
            ClientError::Archive(ref e) => CliError::from_error("the archive cannot be read", e),
            other => CliError::from_error("the server cannot be talked to", &other)
                .hint("see that client and server are of the same version: `pocker version`"),
        }
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> CliError {
        match error {
            StartError::Refused { message, hint } => CliError {
                causes: vec![message],
                hint,
                ..CliError::new("cannot start a server")
            },
            StartError::NotRunning(socket) => CliError::new(format!("no server runs at {socket}")),
            other => CliError::from_error("cannot start a server", &other),
        }
    }
}
