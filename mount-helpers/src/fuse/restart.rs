//! Starting an auto-started server again.
//!
//! Calls wait for as long as the server is away. Where the session brought a command
//! to start it, this runs it: once the server has been unreachable for a moment, and
//! then at growing intervals until it is back.

use crate::helper::RestartCommand;
use pocker_nfs::client::Health;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// A server that only restarts is back sooner.
const PATIENCE: Duration = Duration::from_millis(200);

/// Shortest and longest pause between two attempts to start it. One that was started and killed
/// before it answered does not say so, and what is mounted waits meanwhile.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// Watches the connection until the client is gone.
pub(crate) async fn watch(mut health: watch::Receiver<Health>, command: RestartCommand) {
    loop {
        if health.wait_for(|h| !connected(h)).await.is_err() {
            return;
        }
        let mut wait = PATIENCE;
        let mut pause = PAUSE.0;
        loop {
            match timeout_at(Instant::now() + wait, health.wait_for(connected)).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(_) => start(&command),
            }
            wait = pause;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

fn connected(health: &Health) -> bool {
    matches!(health, Health::Connected)
}

fn start(command: &RestartCommand) {
    let Some((program, args)) = command.argv.split_first() else {
        return;
    };
    let spawned = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Ok(child) => {
            tokio::spawn(collect(child));
        }
        Err(cause) => eprintln!(
            "pocker mount-helper: cannot start the server again: {}: {cause}",
            program.to_string_lossy()
        ),
    }
}

/// The command may be the server itself and run for long; it is asked about once in a while.
async fn collect(mut child: Child) {
    while let Ok(None) = child.try_wait() {
        sleep(PAUSE.0).await;
    }
}
