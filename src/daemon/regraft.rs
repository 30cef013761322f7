//! Grafts of live runs are served again by a server that was started again: their handles hold.

use super::docs::{self, GraftDoc, RunDoc};
use super::fail::Fail;
use super::grafts;
use super::state::Daemon;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// For all directories to be found, while nothing else is served yet.
const FIRST: Duration = Duration::from_secs(2);
/// For each that is left when this is over.
const LEAST: Duration = Duration::from_millis(50);
/// Between two looks for those whose disks did not answer, and as long as one takes then.
const AGAIN: Duration = Duration::from_secs(1);

pub fn reopen(daemon: &Arc<Daemon>) {
    let runs = match docs::all::<RunDoc>(&daemon.store) {
        Ok(runs) => runs,
        Err(e) => {
            // What is kept for those that nobody knows of now stays for the next start.
            tracing::error!("no graft is served again, the runs cannot be listed: {e}");
            return;
        }
    };
    let mut late = Vec::new();
    let until = Instant::now() + FIRST;
    for run in runs.into_iter().filter(RunDoc::live) {
        for graft in &run.grafts {
            let left = until.saturating_duration_since(Instant::now());
            match grafts::reopen(daemon, graft, left.max(LEAST)) {
                Ok(()) => {}
                Err(e) if e.is_late() => {
                    tracing::warn!(
                        run = run.id,
                        host = graft.host,
                        "not served again before its disk answers: {}",
                        e.message()
                    );
                    daemon.exports.expect_graft(graft.id);
                    late.push((run.id, graft.clone()));
                }
                Err(e) => lost(&run, graft, &e),
            }
        }
    }
    if late.is_empty() {
        daemon.exports.sweep_grafts();
        return;
    }
    let ids: Vec<u64> = late.iter().map(|(_, graft)| graft.id).collect();
    let later = Arc::downgrade(daemon);
    let thread = std::thread::Builder::new().name("regraft".into());
    if let Err(e) = thread.spawn(move || wait(&later, late)) {
        tracing::error!("nobody waits for the disks of grafts, whose files are stale: {e}");
        daemon.exports.remove_grafts(&ids);
    }
}

fn lost(run: &RunDoc, graft: &GraftDoc, e: &Fail) {
    tracing::error!(
        run = run.id,
        host = graft.host,
        "not served again, to the run its files are stale: {}; once the directory is right: `pocker restart {}`",
        e.message(),
        run.name,
    );
}

/// Until each is served or nobody's any more.
fn wait(daemon: &Weak<Daemon>, mut late: Vec<(u64, GraftDoc)>) {
    while !late.is_empty() {
        std::thread::sleep(AGAIN);
        let Some(daemon) = daemon.upgrade() else {
            return;
        };
        if *daemon.stop.borrow() {
            return;
        }
        // Nothing ends meanwhile; and who stops the server does not wait for this.
        let Some(_one) = daemon.change.try_lock() else {
            continue;
        };
        late.retain(|(run, graft)| is_late(&daemon, *run, graft));
        if late.is_empty() {
            // What is kept for others may have been theirs.
            daemon.exports.sweep_grafts();
        }
    }
}

fn is_late(daemon: &Daemon, run: u64, graft: &GraftDoc) -> bool {
    let run = match docs::get::<RunDoc>(&daemon.store, &run.to_be_bytes()) {
        Ok(Some(run)) if run.live() => run,
        Ok(_) => {
            daemon.exports.remove_grafts(&[graft.id]);
            return false;
        }
        Err(_) => return true,
    };
    match grafts::reopen(daemon, graft, AGAIN) {
        Ok(()) => {
            tracing::info!(run = run.id, host = graft.host, "served again");
            false
        }
        Err(e) if e.is_late() => true,
        Err(e) => {
            lost(&run, graft, &e);
            daemon.exports.remove_grafts(&[graft.id]);
            false
        }
    }
}
