//! `pocker hold`: keeps the lease of the process that started it, and gives it back when that one has
//! ended and nothing that it mounted is left.

use super::error::CliError;
use crate::control::hold::Task;
use crate::control::remote::Remote;
use crate::control::{Client, ClientError, Endpoint};
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Renewals in a term: two may be lost.
const BEATS: u32 = 4;
/// Between two looks at what is mounted.
const LOOK: Duration = Duration::from_millis(500);
/// After a beat that nobody answered.
const AGAIN: Duration = Duration::from_millis(500);
/// How long giving the lease back may take; after that it ends by itself.
const FAREWELL: Duration = Duration::from_secs(5);

pub fn run() -> Result<i32, CliError> {
    let fail = |e: &dyn std::error::Error| CliError::from_error("cannot keep a lease", e);
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    input.read_line(&mut line).map_err(|e| fail(&e))?;
    let task: Task = serde_json::from_str(&line).map_err(|e| fail(&e))?;
    // Nobody's child, in a session of its own; what it reads and writes stays as it is.
    nix::unistd::daemon(false, true).map_err(|e| fail(&e))?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in input.lines().map_while(Result::ok) {
            if let Ok(target) = serde_json::from_str::<String>(&line)
                && tell.send(target).is_err()
            {
                return;
            }
        }
    });
    keep(&task, &told);
    Ok(0)
}

/// One connection's client; none where the certificates are gone.
fn client(task: &Task, timeout: Duration) -> Option<Client> {
    let remote = Remote {
        place: task.place(),
        ca: task.ca.clone(),
        tls: crate::tls::client(&task.ca).ok()?,
        token: task.token(),
        lease: task.lease,
    };
    let endpoint = Endpoint {
        socket_dir: "/".into(),
        store: "/".into(),
        start: false,
        timeout,
        remote: Some(Arc::new(remote)),
    };
    Client::open(endpoint).ok()
}

fn keep(task: &Task, told: &Receiver<String>) {
    let mut mounts: Vec<String> = Vec::new();
    let mut alone = false;
    let mut connected = None;
    let mut next = Instant::now();
    let mut looked = Instant::now();
    loop {
        if Instant::now() >= next {
            if connected.is_none() {
                connected = client(task, Duration::ZERO);
            }
            next = Instant::now()
                + match connected.as_ref().map(Client::beat) {
                    Some(Ok(beat)) => Duration::from_secs(beat.term) / BEATS,
                    // It is over, or the token is: whoever has something finds out by using it.
                    Some(Err(ClientError::Api(_))) => return,
                    _ => {
                        connected = None;
                        AGAIN
                    }
                };
        }
        let wait = next.saturating_duration_since(Instant::now()).min(LOOK);
        match told.recv_timeout(wait) {
            Ok(target) => mounts.push(target),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if alone => std::thread::sleep(wait),
            Err(RecvTimeoutError::Disconnected) => alone = true,
        }
        if !mounts.is_empty() && looked.elapsed() >= LOOK {
            looked = Instant::now();
            if let Ok(mounted) = crate::daemon::mounted() {
                mounts.retain(|target| mounted.iter().any(|m| m == target.as_bytes()));
            }
        }
        if alone && mounts.is_empty() {
            break;
        }
    }
    // What it held goes at once, and not when the lease is over.
    if let Some(client) = client(task, FAREWELL) {
        let _ = client.end_lease();
    }
}
