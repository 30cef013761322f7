//! Reaching the server, and what its errors mean to a person.

use super::bounds;
use super::config::Settings;
use super::error::CliError;
use crate::control::connect::StartError;
use crate::control::remote::SCHEME;
use crate::control::{Client, ClientError};
use std::path::{Path, PathBuf};

/// Connects; starts a server in the background where none runs, and says so.
pub fn server(settings: &Settings) -> Result<Client, CliError> {
    must_be_root()?;
    bounds::sweep(settings);
    let client = Client::open(settings.endpoint(true)?)?;
    if let Some(pid) = client.started()
        && !settings.quiet
    {
        eprintln!(
            "started a server in the background (pid {pid}, store {}); it leaves when idle",
            settings.store.display()
        );
    }
    right_store(settings, &client)?;
    Ok(client)
}

/// Connects to a server that runs; starts none.
pub fn running_server(settings: &Settings) -> Result<Client, CliError> {
    must_be_root()?;
    let client = Client::open(settings.endpoint(false)?)?;
    right_store(settings, &client)?;
    Ok(client)
}

/// Who names a store means that one, whichever the server has.
fn right_store(settings: &Settings, client: &Client) -> Result<(), CliError> {
    let afar = client.endpoint().remote.is_some();
    if afar || !settings.store_given || client.started().is_some() {
        return Ok(());
    }
    let served = PathBuf::from(client.status()?.store);
    if real(&served) == real(&settings.store) {
        return Ok(());
    }
    let socket = client.endpoint().control_socket();
    Err(CliError {
        wrong_server: true,
        ..CliError::new(format!(
            "the server at {} serves {}, not {}",
            socket.display(),
            served.display(),
            settings.store.display()
        ))
        .hint("--socket-dir says which server; leave --store out to use this one")
    })
}

/// Without links, where it is there.
fn real(dir: &Path) -> PathBuf {
    std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf())
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
            ClientError::Refused { message, hint } => CliError::new(message).hint(hint),
            ClientError::Hold(ref e) => {
                CliError::from_error("cannot start the process that keeps this host's lease", e)
            }
            ClientError::Gone { ref socket, .. } if socket.starts_with(SCHEME) => {
                CliError::from_error("the server is away", &error).hint(
                    "see that `pocker serve --listen ADDR --allow CIDR` runs there; running the command again goes on after finished steps",
                )
            }
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
