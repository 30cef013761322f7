//! `GET /metrics`: what `pocker serve --stats` says, for Prometheus.

use crate::control::api::*;
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::state::Daemon;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// OpenMetrics 1.0, which Prometheus reads since 2.5.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A scrape is no use of the server: one that was started by a command may leave.
pub async fn all(State(daemon): State<Arc<Daemon>>) -> Outcome<impl IntoResponse> {
    let read = tokio::task::spawn_blocking(move || daemon.stats()).await;
    let stats = read.map_err(|e| Fail::internal("the call ended in the middle", &e))??;
    let text = encode(stats).map_err(|e| Fail::internal("cannot write the metrics", &e))?;
    Ok(([(CONTENT_TYPE, TEXT)], text))
}

/// For a listener of its own: nothing else is answered there.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new().route("/metrics", get(all)).with_state(daemon)
}

fn encode(stats: Stats) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("pocker");
    registry.register_collector(Box::new(Reading(stats)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Reading(Stats);

/// Labels by name.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let e = &mut encoder;
        let s = &self.0;
        calls(e, &s.procedures)?;
        gauge(
            e,
            "start_time_seconds",
            "When the server started",
            s.started as u64,
        )?;
        gauge(
            e,
            "nfs_connections",
            "Connections that are open",
            s.connections,
        )?;
        counter(
            e,
            "nfs_refused",
            "Records that reached no procedure",
            s.refused,
        )?;
        gauge(
            e,
            "nfs_held_bytes",
            "Memory that calls under way hold",
            s.held,
        )?;
        gauge(
            e,
            "nfs_held_max_bytes",
            "The most they may hold",
            s.held_max,
        )?;
        gauge(
            e,
            "nfs_waiting_calls",
            "Calls that wait for memory",
            s.waiting,
        )?;
        gauge(
            e,
            "nfs_thread_calls",
            "Calls on threads, as they may wait for a disk",
            s.on_threads,
        )?;
        counter(e, "nfs_threaded", "Calls that went to a thread", s.threaded)?;
        store(e, &s.store)?;
        leases(e, &s.leases)?;
        let caches = |of: fn(&CacheStats) -> u64| -> Vec<(Labels, u64)> {
            let rows = s.caches.iter();
            rows.map(|c| (vec![("cache", &*c.name)], of(c))).collect()
        };
        counters(e, "cache_hits", "Found in memory", &caches(|c| c.hits))?;
        counters(
            e,
            "cache_misses",
            "Not found in memory",
            &caches(|c| c.misses),
        )?;
        gauges(
            e,
            "cache_held",
            "Bytes, or descriptors, held",
            &caches(|c| c.held),
        )?;
        gauges(
            e,
            "cache_held_max",
            "The most that is held",
            &caches(|c| c.held_max),
        )?;
        upstream(e, s)?;
        let journals = |of: fn(&JournalStats) -> u64| -> Vec<(Labels, u64)> {
            let rows = s.journals.iter();
            rows.map(|j| (vec![("trees", &*j.name)], of(j))).collect()
        };
        let (rows, bytes) = (journals(|j| j.rows), journals(|j| j.bytes));
        gauges(
            e,
            "journal_rows",
            "Changes on their way to the database",
            &rows,
        )?;
        gauges(e, "journal_bytes", "Their bytes", &bytes)?;
        let (memory, file) = (journals(|j| j.small_memory), journals(|j| j.small_file));
        gauges(
            e,
            "small_memory_bytes",
            "Contents of small changed files in memory",
            &memory,
        )?;
        gauges(e, "small_file_bytes", "The file for those beyond it", &file)?;
        let v = &s.volumes;
        counter(
            e,
            "volume_calls",
            "Calls answered when what they did was on disk",
            v.calls,
        )?;
        counter(
            e,
            "volume_journal_syncs",
            "fdatasync of their journal",
            v.journal_syncs,
        )?;
        counter(
            e,
            "volume_file_syncs",
            "Syncs of large files and folders",
            v.file_syncs,
        )
    }
}

fn upstream(e: &mut DescriptorEncoder, s: &Stats) -> fmt::Result {
    let Some(u) = &s.upstream else {
        return Ok(());
    };
    counter(e, "upstream_fetched", "Files that were fetched", u.fetched)?;
    let what = "Bytes that were fetched";
    counter(e, "upstream_fetched_bytes", what, u.fetched_bytes)?;
    counter(e, "upstream_failed", "Reads that failed", u.failed)?;
    let what = "Fetched files that were let go";
    counter(e, "upstream_evicted", what, u.evicted)?;
    gauge(e, "upstream_held_bytes", "Bytes kept of them", u.held)?;
    gauge(e, "upstream_held_max_bytes", "The most kept", u.held_max)
}

fn calls(e: &mut DescriptorEncoder, procedures: &[ProcedureStats]) -> fmt::Result {
    let rows = |of: fn(&ProcedureStats) -> u64| -> Vec<(Labels, u64)> {
        procedures.iter().map(|p| (labels(p), of(p))).collect()
    };
    let (failed, received, sent) = (rows(|p| p.errors), rows(|p| p.received), rows(|p| p.sent));
    counters(
        e,
        "nfs_errors",
        "Calls answered with another status than OK",
        &failed,
    )?;
    counters(e, "nfs_received_bytes", "Bytes of calls", &received)?;
    counters(e, "nfs_sent_bytes", "Bytes of replies", &sent)?;
    let what = "How long calls took";
    let mut family = e.encode_descriptor("nfs_call_seconds", what, None, MetricType::Histogram)?;
    for p in procedures {
        let sum = p.mean_us * p.calls as f64 / 1e6;
        let last = p.buckets.len().saturating_sub(1);
        let bound = |i: usize| match i == last {
            true => f64::INFINITY,
            false => (1_u64 << i) as f64 / 1e6,
        };
        let buckets: Vec<(f64, u64)> = (0..).map(bound).zip(p.buckets.iter().copied()).collect();
        let labels = labels(p);
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(sum, p.calls, &buckets, None)?;
    }
    Ok(())
}

fn labels(p: &ProcedureStats) -> Labels<'_> {
    let program = match p.program {
        pocker_nfs::proto::NFS_PROGRAM => "nfs",
        pocker_nfs::proto::MOUNT_PROGRAM => "mount",
        pocker_nfs::portmap::PORTMAP_PROGRAM => "portmap",
        _ => "pocker",
    };
    vec![("program", program), ("procedure", &p.name)]
}

fn store(e: &mut DescriptorEncoder, s: &StoreStats) -> fmt::Result {
    let kinds = [
        ("pocker", s.pockers),
        ("step", s.steps),
        ("tree", s.trees),
        ("large_file", s.large_files),
    ];
    let kinds: Vec<(Labels, u64)> = kinds.map(|(k, n)| (vec![("kind", k)], n)).into();
    gauges(e, "store_objects", "What the store holds", &kinds)?;
    let parts = [("index", s.index), ("large", s.large)];
    let parts: Vec<(Labels, u64)> = parts.map(|(k, n)| (vec![("part", k)], n)).into();
    gauges(e, "store_bytes", "Bytes on disk", &parts)?;
    gauge(
        e,
        "store_logical_bytes",
        "Bytes of all trees' files by name",
        s.logical,
    )?;
    gauge(
        e,
        "store_free_bytes",
        "Free on the store's file system",
        s.free,
    )?;
    let what = "How many times what is on disk its trees would take";
    let mut metric = e.encode_descriptor("store_dedup_ratio", what, None, MetricType::Gauge)?;
    metric.encode_gauge(&s.dedup())
}

fn leases(e: &mut DescriptorEncoder, l: &Leases) -> fmt::Result {
    let rows = [
        ("run", l.runs),
        ("mount", l.mounts),
        ("claim", l.claims),
        ("build_tree", l.build_trees),
        ("run_tree", l.run_trees),
        ("mount_tree", l.mount_trees),
        ("volume", l.volumes),
        ("control_call", l.calls),
    ];
    let rows: Vec<(Labels, u64)> = rows.map(|(kind, n)| (vec![("kind", kind)], n)).into();
    gauges(e, "leases", "What somebody has and gives back", &rows)
}

fn counter(e: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    e.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, f64>(&value, None)
}

fn gauge(e: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    e.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

fn counters<L: EncodeLabelSet>(
    e: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: &[(L, u64)],
) -> fmt::Result {
    let mut family = e.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        let mut metric = family.encode_family(labels)?;
        metric.encode_counter::<NoLabelSet, _, f64>(value, None)?;
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet>(
    e: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: &[(L, u64)],
) -> fmt::Result {
    let mut family = e.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        family.encode_family(labels)?.encode_gauge(value)?;
    }
    Ok(())
}
