//! What the NFS server did since it started.

use super::state::Daemon;
use crate::control::api::{MountedBy, ProcedureStats, Stats, VerifyStats, VolumeStats};
use pocker_nfs::server::{Count, SERVER_HELD};

impl Daemon {
    pub fn stats(&self) -> Stats {
        let mounted = self.nfs.mounts.list().into_iter().map(|row| MountedBy {
            client: row.client,
            path: String::from_utf8_lossy(&row.path).into_owned(),
        });
        let syncs = self.exports.volumes.sync_stats();
        Stats {
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
            started: self.started,
            read_only: self.options.read_only,
            connections: self.nfs.connections() as u64,
            refused: self.nfs.counters.refused(),
            held: self.nfs.pool.held() as u64,
            held_max: SERVER_HELD as u64,
            procedures: self.nfs.counters.snapshot().iter().map(procedure).collect(),
            mounted: mounted.collect(),
        }
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
