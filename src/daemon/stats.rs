//! What the NFS server did since it started.

use super::docs::{self, Owner, RunDoc};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use crate::control::api::*;
use crate::control::upstream::UpstreamStats;
use pocker_nfs::server::{Count, SERVER_HELD};
use pocker_store::work::WorkUse;
use std::sync::atomic::Ordering;

impl Daemon {
    pub fn stats(&self) -> Outcome<Stats> {
        let works = self.works.usage();
        let volumes = self.exports.volumes.usage();
        let (on_threads, threaded) = self.nfs.counters.threads();
        let mounted = self.nfs.mounts.list().into_iter().map(|row| MountedBy {
            client: row.client,
            path: String::from_utf8_lossy(&row.path).into_owned(),
        });
        let syncs = self.exports.volumes.sync_stats();
        Ok(Stats {
            on_threads,
            threaded,
            waiting: self.nfs.pool.waiting() as u64,
            store: self.store_stats()?,
            caches: self.caches(),
            leases: self.leases(&works, &volumes)?,
            journals: vec![journal("work", &works), journal("volumes", &volumes)],
            volumes: VolumeStats {
                calls: syncs.calls,
                journal_syncs: syncs.journal,
                file_syncs: syncs.files,
            },
            verified: self.store.verified().map(|found| VerifyStats {
                blobs: found.blobs,
                bytes: found.bytes,
                refused: found.refused,
                bad: found.bad.iter().map(|(bad, _)| bad.to_string()).collect(),
            }),
            upstream: self.upstream_stats(),
            started: self.started,
            read_only: self.options.read_only,
            connections: self.nfs.connections() as u64,
            refused: self.nfs.counters.refused(),
            held: self.nfs.pool.held() as u64,
            held_max: SERVER_HELD as u64,
            procedures: self.nfs.counters.snapshot().iter().map(procedure).collect(),
            mounted: mounted.collect(),
        })
    }

    fn store_stats(&self) -> Outcome<StoreStats> {
        let usage = self.store.usage();
        let usage = usage.map_err(|e| Fail::internal("cannot count what the store holds", &e))?;
        let space = self.store.statfs();
        Ok(StoreStats {
            pockers: usage.pockers,
            steps: usage.steps,
            trees: usage.snapshots,
            logical: usage.logical_bytes,
            index: usage.index_bytes,
            large: usage.large_bytes,
            large_files: usage.large_blobs,
            free: space.map_or(0, |s| s.avail_bytes),
        })
    }

    fn caches(&self) -> Vec<CacheStats> {
        let caches = self.store.caches().into_iter();
        let stats = caches.map(|(name, c)| CacheStats {
            name: name.to_string(),
            hits: c.hits,
            misses: c.misses,
            held: c.weight,
            held_max: c.capacity,
        });
        stats.collect()
    }

    fn leases(&self, works: &WorkUse, volumes: &WorkUse) -> Outcome<Leases> {
        let mounts = docs::all::<MountRecord>(&self.store);
        let mounts = mounts.map_err(|e| Fail::internal("cannot list mounts", &e))?;
        let lives = Owner::lives;
        let [build_trees, run_trees, mount_trees, _] = works.trees;
        Ok(Leases {
            runs: self.runs()?.iter().filter(|r| RunDoc::live(r)).count() as u64,
            mounts: mounts.len() as u64,
            claims: self.claims.live(lives) as u64,
            build_trees,
            run_trees,
            mount_trees,
            volumes: volumes.trees.iter().sum(),
            calls: self.calls.load(Ordering::Relaxed),
        })
    }
}

impl Daemon {
    fn upstream_stats(&self) -> Option<UpstreamStats> {
        let used = self.store.blobs().upstream_use()?;
        Some(UpstreamStats {
            url: self.options.upstream.as_ref()?.url.clone(),
            fetched: used.fetched,
            fetched_bytes: used.fetched_bytes,
            failed: used.failed,
            evicted: used.evicted,
            held: used.held_bytes,
            held_max: used.held_max,
        })
    }
}

fn journal(name: &str, of: &WorkUse) -> JournalStats {
    JournalStats {
        name: name.to_string(),
        rows: of.queued_rows,
        bytes: of.queued_bytes,
        small_memory: of.small_memory,
        small_file: of.small_file,
    }
}

fn procedure(count: &Count) -> ProcedureStats {
    let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
    ProcedureStats {
        program: count.program,
        procedure: count.procedure,
        name: count.name.to_string(),
        calls: count.calls,
        errors: count.errors,
        received: count.received,
        sent: count.sent,
        mean_us: micros(count.times.mean()),
        p50_us: micros(count.times.below(0.5)),
        p99_us: micros(count.times.below(0.99)),
        buckets: count.times.buckets.to_vec(),
    }
}
