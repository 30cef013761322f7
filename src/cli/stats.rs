//! `pocker serve --stats`: the NFS server's counters.

use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::api::{CacheStats, Stats};
use std::fmt::Write as _;

/// Rotted blobs that are named; `--json` has them all.
const BAD_SHOWN: usize = 20;

pub fn run(settings: &Settings, json: bool) -> Result<(), CliError> {
    let stats = open::running_server(settings)?.stats()?;
    let now = crate::daemon::clock::now().secs;
    text::out(&if json {
        text::json(&stats)?
    } else {
        table(&stats, now)
    })
}

fn table(stats: &Stats, now: i64) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "up {}{}; {} connections; {} of {} of memory for calls; {} records refused",
        text::age(now - stats.started),
        if stats.read_only { ", read-only" } else { "" },
        stats.connections,
        text::bytes(stats.held),
        text::bytes(stats.held_max),
        stats.refused,
    );
    let _ = writeln!(
        out,
        "{} calls on threads, {} wait for memory; {} went to a thread",
        stats.on_threads, stats.waiting, stats.threaded,
    );
    store(&mut out, stats);
    if !stats.procedures.is_empty() {
        let _ = writeln!(
            out,
            "\n{:12} {:>10} {:>8} {:>10} {:>10} {:>9} {:>9} {:>9}",
            "PROCEDURE", "CALLS", "ERRORS", "RECEIVED", "SENT", "MEAN", "HALF <", "99 % <"
        );
    }
    for p in &stats.procedures {
        let _ = writeln!(
            out,
            "{:12} {:>10} {:>8} {:>10} {:>10} {:>9} {:>9} {:>9}",
            p.name,
            p.calls,
            p.errors,
            text::bytes(p.received),
            text::bytes(p.sent),
            micros(p.mean_us),
            micros(p.p50_us),
            micros(p.p99_us),
        );
    }
    let v = &stats.volumes;
    if v.calls > 0 {
        let each = v.calls as f64 / v.journal_syncs.max(1) as f64;
        let _ = writeln!(
            out,
            "\nvolumes: {} calls on disk by {} fdatasyncs of the journal, {each:.1} calls each; {} syncs of files",
            v.calls, v.journal_syncs, v.file_syncs,
        );
    }
    if let Some(v) = &stats.verified {
        let _ = writeln!(
            out,
            "\nreads checked: {} blobs, {}; {} rotted, {} reads refused",
            v.blobs,
            text::bytes(v.bytes),
            v.bad.len(),
            v.refused,
        );
        for bad in v.bad.iter().take(BAD_SHOWN) {
            let _ = writeln!(out, "rotted: {bad}");
        }
        if !v.bad.is_empty() {
            let _ = writeln!(out, "hint: `pocker fsck` says in which trees they are");
        }
    }
    if let Some(u) = &stats.upstream {
        let _ = writeln!(
            out,
            "\nupstream {}: {} files fetched, {}; {} reads failed, {} files let go; {} of {} kept",
            u.url,
            u.fetched,
            text::bytes(u.fetched_bytes),
            u.failed,
            u.evicted,
            text::bytes(u.held),
            text::bytes(u.held_max),
        );
    }
    if !stats.mounted.is_empty() {
        let _ = writeln!(out, "\n{:24} EXPORT", "CLIENT");
    }
    for m in &stats.mounted {
        let _ = writeln!(out, "{:24} {}", m.client, m.path);
    }
    out
}

fn store(out: &mut String, stats: &Stats) {
    let (s, l) = (&stats.store, &stats.leases);
    let _ = writeln!(
        out,
        "\nstore: {} pockers, {} steps, {} trees of {}, on disk {} ({:.1} times less); {} free",
        s.pockers,
        s.steps,
        s.trees,
        text::bytes(s.logical),
        text::bytes(s.index + s.large),
        s.dedup(),
        text::bytes(s.free),
    );
    let _ = writeln!(
        out,
        "held: {} runs, {} mounts, {} steps being built, {} volumes; trees of {} builds, {} runs, {} mounts",
        l.runs, l.mounts, l.claims, l.volumes, l.build_trees, l.run_trees, l.mount_trees,
    );
    for j in stats
        .journals
        .iter()
        .filter(|j| j.rows > 0 || j.small_memory > 0)
    {
        let _ = writeln!(
            out,
            "{} trees: {} changes ({}) on their way to the database; small files: {} in memory, {} beyond",
            j.name,
            j.rows,
            text::bytes(j.bytes),
            text::bytes(j.small_memory),
            text::bytes(j.small_file),
        );
    }
    let asked = |c: &&CacheStats| c.hits + c.misses > 0;
    for c in stats.caches.iter().filter(asked) {
        let all = c.hits + c.misses;
        let _ = writeln!(
            out,
            "cache of {}: {:.1} % of {all} found",
            c.name,
            c.hits as f64 * 100.0 / all as f64,
        );
    }
}

/// A time in its unit, three digits or so.
fn micros(us: f64) -> String {
    match us {
        ..10.0 => format!("{us:.1} us"),
        10.0..10_000.0 => format!("{us:.0} us"),
        10_000.0..10_000_000.0 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.0} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::*;

    #[test]
    fn counters_are_a_table() {
        let stats = Stats {
            started: 1000,
            read_only: true,
            connections: 2,
            refused: 1,
            held: 64_000,
            held_max: 268_435_456,
            on_threads: 1,
            threaded: 70_000,
            waiting: 0,
            store: StoreStats {
                pockers: 3,
                steps: 9,
                trees: 8,
                logical: 1_736_000_000,
                index: 50_000_000,
                large: 150_000_000,
                large_files: 1000,
                free: 70_000_000_000,
            },
            caches: vec![CacheStats {
                name: "directories".into(),
                hits: 3000,
                misses: 1000,
                held: 1,
                held_max: 2,
            }],
            leases: Leases {
                runs: 2,
                mounts: 4,
                claims: 0,
                build_trees: 0,
                run_trees: 2,
                mount_trees: 1,
                volumes: 5,
                calls: 1,
            },
            journals: vec![JournalStats {
                name: "work".into(),
                rows: 12,
                bytes: 3400,
                small_memory: 64_000_000,
                small_file: 100_000_000,
            }],
            volumes: VolumeStats {
                calls: 1000,
                journal_syncs: 80,
                file_syncs: 7,
            },
            verified: Some(VerifyStats {
                blobs: 12,
                bytes: 3_000_000,
                refused: 4,
                bad: vec!["ab12".into()],
            }),
            upstream: Some(crate::control::upstream::UpstreamStats {
                url: "s3://images/team".into(),
                fetched: 120,
                fetched_bytes: 4_000_000,
                failed: 1,
                evicted: 20,
                held: 3_000_000,
                held_max: 10_000_000_000,
            }),
            procedures: vec![ProcedureStats {
                program: 100_003,
                procedure: 1,
                name: "GETATTR".into(),
                calls: 1_234_567,
                errors: 3,
                received: 150_000_000,
                sent: 140_000_000,
                mean_us: 1.234,
                p50_us: 2.0,
                p99_us: 16_384.0,
                buckets: Vec::new(),
            }],
            mounted: vec![MountedBy {
                client: "192.0.2.7".into(),
                path: "/run/7".into(),
            }],
        };
        insta::assert_snapshot!(table(&stats, 1000 + 7200), @r"
        up 2 h, read-only; 2 connections; 64.0 kB of 268.4 MB of memory for calls; 1 records refused
        1 calls on threads, 0 wait for memory; 70000 went to a thread

        store: 3 pockers, 9 steps, 8 trees of 1.7 GB, on disk 200.0 MB (8.7 times less); 70.0 GB free
        held: 2 runs, 4 mounts, 0 steps being built, 5 volumes; trees of 0 builds, 2 runs, 1 mounts
        work trees: 12 changes (3.4 kB) on their way to the database; small files: 64.0 MB in memory, 100.0 MB beyond
        cache of directories: 75.0 % of 4000 found

        PROCEDURE         CALLS   ERRORS   RECEIVED       SENT      MEAN    HALF <    99 % <
        GETATTR         1234567        3   150.0 MB   140.0 MB    1.2 us    2.0 us     16 ms

        volumes: 1000 calls on disk by 80 fdatasyncs of the journal, 12.5 calls each; 7 syncs of files

        reads checked: 12 blobs, 3.0 MB; 1 rotted, 4 reads refused
        rotted: ab12
        hint: `pocker fsck` says in which trees they are

        upstream s3://images/team: 120 files fetched, 4.0 MB; 1 reads failed, 20 files let go; 3.0 MB of 10.0 GB kept

        CLIENT                   EXPORT
        192.0.2.7                /run/7
        ");
    }
}
