//! `pocker hold`: keeps the lease of the process that started it, and gives it back when that one has
//! ended and nothing that it mounted is left.

use super::error::CliError;
use crate::control::hold::Task;
use crate::control::hosts::Beat;
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
/// Before the first beat: the command's own first call has taken the lease, for a second at least, and what is short needs no more.
const FIRST: Duration = Duration::from_millis(250);
/// A beat may overtake that call on a slow line: for so long after it was said first nobody is believed that the lease
/// is over.
const TAKEN_BY: Duration = Duration::from_secs(60);
/// After a beat that nobody answered, the first time and at most.
const AGAIN: Duration = Duration::from_millis(500);
const SELDOM: Duration = Duration::from_secs(8);
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

/// What became of a beat.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// For so long.
    Renewed(Duration),
    /// It is over, or the token is: whoever has something finds out by using it.
    Over,
    /// No answer, or one of a server that cannot just now.
    Nothing,
}

impl Heard {
    fn of(beat: Result<Beat, ClientError>) -> Heard {
        match beat {
            Ok(beat) => Heard::Renewed(Duration::from_secs(beat.term)),
            Err(ClientError::Api(e)) if [401, 403, 410].contains(&e.status) => Heard::Over,
            Err(_) => Heard::Nothing,
        }
    }
}

/// Before the next try, when so many failed one after the other; never longer than between two beats.
fn pause(failed: u32, between: Duration) -> Duration {
    let grown = AGAIN * 2u32.pow(failed.saturating_sub(1).min(8));
    grown.min(SELDOM).min(between.max(AGAIN))
}

/// Whether the lease is over, as it is said to be. Counted from when it was said first: until then the server may
/// have been out of reach for both.
fn believed(said: &mut Option<Instant>, taken: bool, now: Instant) -> bool {
    let first = *said.get_or_insert(now);
    taken || now.saturating_duration_since(first) >= TAKEN_BY
}

fn keep(task: &Task, told: &Receiver<String>) {
    let mut mounts: Vec<String> = Vec::new();
    let mut alone = false;
    let mut connected = None;
    let (mut between, mut failed) = (SELDOM, 0);
    let began = Instant::now();
    let (mut next, mut looked) = (began + FIRST, began);
    let (mut taken, mut said) = (false, None);
    loop {
        if Instant::now() >= next {
            if connected.is_none() {
                connected = client(task, Duration::ZERO);
            }
            let heard = connected.as_ref().map(Client::beat);
            let pause = match heard.map_or(Heard::Nothing, Heard::of) {
                Heard::Renewed(term) => {
                    (between, failed, taken) = (term / BEATS, 0, true);
                    between
                }
                Heard::Over if believed(&mut said, taken, Instant::now()) => return,
                Heard::Over => {
                    failed += 1;
                    pause(failed, between)
                }
                Heard::Nothing => {
                    connected = None;
                    failed += 1;
                    pause(failed, between)
                }
            };
            next = Instant::now() + pause;
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
    if connected.is_some_and(|client| client.end_lease().is_ok()) {
        return;
    }
    if let Some(client) = client(task, FAREWELL) {
        let _ = client.end_lease();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::ApiError;

    #[test]
    fn only_what_is_over_for_good_ends_the_keeper() {
        let said = |status| {
            Heard::of(Err(ClientError::Api(ApiError {
                message: "no".into(),
                hint: None,
                status,
            })))
        };
        for status in [401, 403, 410] {
            assert_eq!(said(status), Heard::Over, "{status}");
        }
        for status in [400, 404, 409, 429, 500, 503] {
            assert_eq!(said(status), Heard::Nothing, "{status}");
        }
        let missing = ClientError::NotFound("no".into());
        assert_eq!(Heard::of(Err(missing)), Heard::Nothing);
        let term = Duration::from_secs(60);
        assert_eq!(Heard::of(Ok(Beat { term: 60 })), Heard::Renewed(term));
    }

    #[test]
    fn that_it_is_over_is_believed_a_while_after_it_was_said_first() {
        // However long it had heard nothing before.
        let first = Instant::now() + 10 * TAKEN_BY;
        let mut said = None;
        assert!(!believed(&mut said, false, first));
        assert!(!believed(&mut said, false, first + TAKEN_BY / 2));
        assert!(believed(&mut said, false, first + TAKEN_BY));
        assert!(believed(&mut None, true, first));
    }

    #[test]
    fn tries_become_seldom_and_never_too_seldom_for_the_lease() {
        let quarter = Duration::from_secs(15);
        let pauses: Vec<u64> = (1..8)
            .map(|n| pause(n, quarter).as_millis() as u64)
            .collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(pause(u32::MAX, quarter), SELDOM);
        assert_eq!(pause(9, Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(pause(1, Duration::from_millis(1)), AGAIN);
    }
}
