//! What keeps the server honest about itself: status, garbage, idleness, stopping.

use super::aide;
use super::clock;
use super::collect::HOLD_SECS;
use super::docs::{self, Doc, RunDoc, TreeDoc};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use super::sys;
use crate::control::api::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a run may take to end after SIGTERM before it is killed.
const RUN_GRACE: Duration = Duration::from_secs(10);

impl Daemon {
    /// Keeps a new tree from being garbage until its step is recorded.
    pub fn hold(&self, tree: std::sync::Arc<pocker_store::SealedTree>) {
        let now = clock::now().secs;
        let mut held = self.held.lock();
        held.retain(|(_, since)| now - since < HOLD_SECS);
        held.push((tree, now));
    }

    pub fn status(&self) -> Outcome<Status> {
        let runs = self.runs()?.iter().filter(|r| r.live()).count() as u64;
        let mounts: Vec<MountRecord> =
            docs::all(&self.store).map_err(|e| Fail::internal("cannot list mounts", &e))?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            store: self.options.store.display().to_string(),
            auto: self.options.auto,
            nfs_socket: self.options.nfs_socket().display().to_string(),
            listen: self.options.listen.map(|a| a.to_string()),
            rpc_tls: self.options.rpc_tls(),
            kernel: self.kernel.get().cloned(),
            trees: self.works.list().len() as u64,
            volumes: self.exports.volumes.list().len() as u64,
            runs,
            mounts: mounts.len() as u64,
            sees_mounts: true,
        })
    }

    /// Writes down which steps were used: `gc --older` asks for it.
    pub fn note_uses(&self) {
        if self.options.read_only {
            return;
        }
        if let Err(e) = self.store.keep_uses() {
            tracing::warn!("cannot note which steps were used: {e}");
        }
    }

    /// Drops trees whose holder is gone and forgets mounts that somebody unmounted.
    pub fn reap(&self) {
        self.note_uses();
        self.syncs.live();
        {
            let _one = self.change.lock();
            self.reap_runs();
        }
        for tree in docs::all::<TreeDoc>(&self.store).unwrap_or_default() {
            self.reap_tree(&tree);
        }
        self.forget_hosts();
        let _one = self.change.lock();
        self.reap_mounts();
    }

    /// Drops a tree whose holder is gone, unless it became another's, or is kept, since it was listed.
    pub fn reap_tree(&self, listed: &TreeDoc) {
        let held = |tree: &TreeDoc| {
            // What this host mounts is looked for among its mounts.
            let mounted = tree.purpose == Purpose::Mount && tree.owner.lease.is_none();
            tree.kept_for.is_some() || mounted || tree.owner.lives()
        };
        if held(listed) {
            return;
        }
        let _one = self.change.lock();
        let now = docs::get::<TreeDoc>(&self.store, &listed.key());
        if let Ok(Some(tree)) = now
            && !held(&tree)
        {
            tracing::info!(
                tree = tree.id,
                label = tree.label,
                "its builder is gone: dropped"
            );
            self.forget_tree(tree.id);
        }
    }

    /// Whether nothing needs this server: no mount but the browse view, no run, no
    /// build, no call under way.
    pub fn idle_since(&self) -> Option<i64> {
        let busy = self.calls.load(Ordering::Relaxed) > 0
            || self.syncs.live() > 0
            || self.claims.live(super::docs::Owner::lives) > 0
            || self.runs().is_ok_and(|runs| runs.iter().any(RunDoc::live))
            || docs::all::<TreeDoc>(&self.store).is_ok_and(|trees| {
                trees
                    .iter()
                    .any(|t| t.kept_for.is_none() && t.owner.lives())
            })
            || docs::all::<MountRecord>(&self.store)
                .is_ok_and(|mounts| mounts.iter().any(|m| m.what != BROWSE_VIEW));
        if busy {
            self.touch();
            return None;
        }
        Some(self.active.load(Ordering::Relaxed))
    }

    /// Ends live runs of this host, of one name or all; returns whose they were.
    pub fn stop_runs(&self, name: Option<&str>) -> Vec<String> {
        let wanted = |run: &RunDoc| {
            run.live() && run.owner.lease.is_none() && name.is_none_or(|n| run.name == n)
        };
        let live: Vec<RunDoc> = self
            .runs()
            .unwrap_or_default()
            .into_iter()
            .filter(wanted)
            .collect();
        // Before they end: some are forgotten then.
        let names = live.iter().map(|run| match self.run_called(run.owner.pid) {
            Some(called) => format!("run {called} of {}", run.name),
            None => format!("a run of {}", run.name),
        });
        let names: Vec<String> = names.collect();
        for run in &live {
            aide::signal(run.owner.pid, nix::sys::signal::Signal::SIGTERM);
        }
        let deadline = Instant::now() + RUN_GRACE;
        for run in &live {
            while run.owner.lives() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if run.owner.lives() {
                aide::signal(run.owner.pid, nix::sys::signal::Signal::SIGKILL);
            }
            let _ = self.end_run(run.id);
        }
        names
    }

    /// What people call the run that this process supervises.
    pub fn run_called(&self, supervisor: u32) -> Option<String> {
        if supervisor == 0 {
            return None;
        }
        aide::called(&self.options, supervisor)
    }

    /// `pocker serve --stop`: runs first, then mounts, then the server itself.
    pub fn stop_everything(&self) -> Outcome<Stopped> {
        let mut stopped = Stopped {
            pid: std::process::id(),
            store: self.options.store.display().to_string(),
            runs: self.stop_runs(None),
            ..Stopped::default()
        };
        self.unmount_all(|_| true, &mut stopped);
        self.stop.send_replace(true);
        Ok(stopped)
    }

    /// Unmounts what commands left mounted, outermost first: the way to a mount inside
    /// another leads through that other one, and so through this server. What is inside goes with it.
    pub fn unmount_all(&self, which: impl Fn(&MountRecord) -> bool, stopped: &mut Stopped) {
        let own = self.mounts_of(None).unwrap_or_default();
        let mut mounts: Vec<MountRecord> = own.into_iter().filter(which).collect();
        mounts.sort_by_key(|m| m.target.len());
        let mounted = sys::mounted().unwrap_or_default();
        for mount in mounts {
            // As often as something is mounted there: mounts stack.
            let mut here = mounted.iter().filter(|m| *m == mount.target.as_bytes());
            match here.try_for_each(|_| aide::unmount(&mount.target)) {
                Ok(()) => {
                    stopped.mounts.push(mount.target.clone());
                    let _ = self.remove_mount(None, &mount.target);
                }
                Err(e) => stopped.left.push(format!("{}: {}", mount.target, e.desc())),
            }
        }
    }
}
