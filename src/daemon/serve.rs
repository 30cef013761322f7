//! Start-up, the main loop and the way out.

use super::docs::{self, Doc, RunDoc, TreeDoc};
use super::export::{Exports, read_only::ReadOnly};
use super::grafter::{self, Grafter};
use super::local::Local;
use super::state::Daemon;
use super::user::{GiveError, alone, become_user, give, is_given, take_back};
use super::{
    ServeOptions, aide, clock, failpoints, http, listen, local, outside, privileges, regraft,
};
use crate::control::api::{BROWSE_VIEW, MountRecord, Stopped};
use crate::sync::remote::Fetcher;
use parking_lot::Mutex;
use pocker_nfs::server::Service;
use pocker_nfs::vfs::Vfs;
use pocker_store::sync::SyncError;
use pocker_store::work::{WorkClass, Works};
use pocker_store::{OpenOptions, Store, StoreError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the server looks for what others left behind.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// How long replies in hand may take on the way out.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the server could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot open the store {path}")]
    Store {
        path: String,
        #[source]
        source: Box<StoreError>,
    },
    #[error("cannot open the work trees in {path}")]
    Works {
        path: String,
        #[source]
        source: Box<StoreError>,
    },
    #[error("cannot listen on {what}")]
    Listen {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot register with this host's portmapper")]
    Register(#[source] pocker_nfs::portmap::RegisterError),
    #[error("cannot use the upstream")]
    Upstream(#[from] SyncError),
    #[error("cannot serve other hosts")]
    Tls(#[from] crate::tls::TlsError),
    /// Serving with more rights than are needed is not done silently.
    #[error("cannot give up the rights that serving does not need: {0}")]
    Confine(crate::sys::Fault),
    #[error("cannot start the server's threads")]
    Runtime(#[source] std::io::Error),
    #[error("the server's aide, the process that unmounts for it, has ended")]
    Aide,
    #[error("the store {store} was given to the user of another server")]
    Given { store: String },
    #[error("the store cannot change hands: {0}")]
    Hands(crate::sys::Fault),
    #[error("cannot use {what}, where it is kept where grafts' files are")]
    Kept {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot begin to serve grafts")]
    Grafter(#[source] std::io::Error),
    #[error("the server's grafter, the process that serves directories of the host, has ended")]
    Graftless,
}

impl ServeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ServeError::Store { source, .. } | ServeError::Works { source, .. } => {
                store_hint(source)
            }
            ServeError::Listen { source, what } => match source.kind() {
                std::io::ErrorKind::AddrInUse => Some(format!(
                    "another program has {what}; stop it, or choose another with --listen"
                )),
                _ => None,
            },
            ServeError::Register(_) => Some(
                "start it (rpcbind, or portmap on OpenBSD), or be it: --portmap builtin"
                    .to_string(),
            ),
            ServeError::Upstream(e) => e.hint.clone(),
            ServeError::Tls(e) => e.hint(),
            ServeError::Given { .. } => Some(
                "serve it as before, with `--user NAME` or `user = \"NAME\"` in the settings; or have it be root's again, and believe what that user left in it: `pocker serve --user root`"
                    .to_string(),
            ),
            ServeError::Aide | ServeError::Graftless => Some(
                "somebody killed it, or the kernel did for want of memory; start the server again"
                    .to_string(),
            ),
            ServeError::Confine(_)
            | ServeError::Hands(_)
            | ServeError::Runtime(_)
            | ServeError::Grafter(_)
            | ServeError::Kept { .. } => None,
        }
    }
}

/// What to do about a store that cannot be opened.
pub fn store_hint(error: &StoreError) -> Option<String> {
    let hint = match error {
        StoreError::InUse { .. } => {
            "one server serves a store: commands find it by its sockets, so give them its --socket-dir, or stop it"
        }
        StoreError::LiveCopy { .. } => {
            "copy it with `pocker store backup`, or after `pocker serve --stop`; if that process has nothing to do with it, remove the file `lock` in it and check it with `pocker fsck`"
        }
        StoreError::OnNfs { .. } => {
            "put the store on a local disk; other hosts mount from its server"
        }
        StoreError::ReadOnly { .. } => "choose a place that can be written with --store",
        StoreError::Full { .. } => {
            "free space on that file system, or choose another place with --store"
        }
        StoreError::Newer { .. } | StoreError::Feature { .. } => {
            "a newer pocker wrote it: use that one, or another store with --store"
        }
        StoreError::NoIndex { .. } => {
            "put its index.db back from a backup, as nothing else says what the blobs are; or make a new store elsewhere with --store"
        }
        StoreError::Locked { .. } => {
            "only the server opens this file: end the program that has it open (fuser(1) says which)"
        }
        StoreError::Damaged { path, .. } if path.ends_with("volumes.db") => {
            "keep a copy of the store as it is; to serve all else without the volumes, move volumes.db*, volumes.journal.* and volumes/ out of it"
        }
        StoreError::Damaged { .. } => {
            "keep a copy of the store as it is; then put back a backup, or make a new store elsewhere with --store"
        }
        StoreError::Older { .. } => "`pocker store upgrade --dry-run` says what that does",
        StoreError::NoWay { .. } => {
            "use the pocker that wrote it: `pocker export` there and `pocker import` here carry its trees over"
        }
        StoreError::NotABackup { .. } => "give the folder that `pocker store backup` was given",
        StoreError::Occupied { .. } => {
            "choose another place with --store, or move what is there out of the way"
        }
        StoreError::InTheWay { .. } => {
            "choose another place with --store, or move it out of the way"
        }
        StoreError::Restoring { .. } => "wait for its end",
        StoreError::NotAStore { .. } => "choose another place with --store",
        _ => return None,
    };
    Some(hint.to_string())
}

/// Serves until it is told to stop. `ready` is called once clients are answered.
pub fn serve(options: ServeOptions, ready: impl FnOnce()) -> Result<(), ServeError> {
    // While there is one thread: what is given up is given up for those that come.
    aide::start(&options.netns_pin(), local::KERNEL_PORT).map_err(ServeError::Confine)?;
    let grafter = start_grafter(&options)?;
    let apart = grafter.is_some();
    let _ = super::sys::raise_descriptors();
    failpoints::listen();
    // A tree's modes are its own, not this process's habit.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    super::sys::become_io_flusher();
    let before = Before::of(grafter);
    let mut local = None;
    let mut _alone = None;
    match &options.user {
        None => {
            not_given(&options)?;
            privileges::confine(&options).map_err(ServeError::Confine)?;
        }
        // It opens nothing outside its store from here on.
        Some(user) => {
            _alone = Some(alone_there(&options)?);
            give(&options.store, user).map_err(|e| hands(&options, e))?;
            local = Some(Local::open(&options)?);
            become_user(&options.store, user).map_err(ServeError::Confine)?;
        }
    }
    // What is opened already is not left for commands to find where nobody will serve.
    let asked = options.clone();
    let cleaned = |e| {
        if asked.user.is_some() {
            aide::remove_sockets(&asked);
        }
        e
    };
    let daemon = open(options, before).map_err(cleaned)?;
    let local = match local {
        Some(local) => local,
        None => Local::open(&daemon.options)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let why = runtime.block_on(main_loop(daemon, local, ready));
    match apart {
        // A call that waits for a disk of the host's is not waited for.
        true => runtime.shutdown_timeout(DRAIN),
        false => drop(runtime),
    }
    why
}

/// A store that was given to a user is not opened by root unasked: who was that user's server may have left things in it.
fn not_given(options: &ServeOptions) -> Result<(), ServeError> {
    if !is_given(&options.store) {
        return Ok(());
    }
    match options.take_back {
        true => take_back(&options.store).map_err(|e| hands(options, e)),
        false => Err(ServeError::Given {
            store: options.store.display().to_string(),
        }),
    }
}

fn hands(options: &ServeOptions, error: GiveError) -> ServeError {
    match error {
        GiveError::Store(e) => unopened(&options.store)(e),
        GiveError::Failed(fault) => ServeError::Hands(fault),
    }
}

/// Nobody else opens sockets in that folder, as long as this is held.
fn alone_there(options: &ServeOptions) -> Result<impl Sized + use<>, ServeError> {
    let found = alone(&options.socket_dir).map_err(|source| ServeError::Listen {
        what: options.socket_dir.display().to_string(),
        source,
    })?;
    found.ok_or_else(|| {
        let path = options.store.clone();
        unopened(&options.store)(StoreError::InUse { path, pid: None })
    })
}

/// Where the server was told which directories may be grafted, it reaches those no more than others itself.
fn start_grafter(options: &ServeOptions) -> Result<Option<Grafter>, ServeError> {
    if options.graft_below.is_empty() {
        return Ok(None);
    }
    let made = pocker_store::make_folder(&options.store);
    made.map_err(unopened(&options.store))?;
    let kept = options.grafters_dir();
    grafter::make_kept(&kept).map_err(|source| ServeError::Kept {
        what: kept.display().to_string(),
        source,
    })?;
    privileges::make_backups(options);
    let setup = grafter::Setup {
        below: options.graft_below.clone(),
        kept,
        read_only: options.read_only,
        portable: portable(),
    };
    Grafter::start(&setup)
        .map(Some)
        .map_err(ServeError::Confine)
}

/// What was there, and known, before this process gave up what it does not need.
pub(super) struct Before {
    grafter: Option<Grafter>,
    boot_id: Vec<u8>,
}

impl Before {
    pub fn of(grafter: Option<Grafter>) -> Before {
        Before {
            grafter,
            boot_id: crate::control::sys::boot_id(),
        }
    }
}

fn unopened(store: &Path) -> impl Fn(StoreError) -> ServeError {
    let path = store.display().to_string();
    move |source| ServeError::Store {
        path: path.clone(),
        source: Box::new(source),
    }
}

fn open(options: ServeOptions, before: Before) -> Result<Arc<Daemon>, ServeError> {
    let daemon = assemble(options, before)?;
    super::leases::start(daemon.options.lease_term);
    daemon.know_hosts();
    regraft::reopen(&daemon);
    drop_unowned(&daemon);
    Ok(daemon)
}

/// The server's parts, before it knows whose what is.
pub(super) fn assemble(options: ServeOptions, before: Before) -> Result<Arc<Daemon>, ServeError> {
    let Before { grafter, boot_id } = before;
    let how = OpenOptions {
        create: true,
        boot_id,
    };
    let store = Store::open(options.store_within(), how);
    let store = store.map_err(unopened(&options.store))?;
    if options.verify_reads {
        store.verify_reads();
    }
    if let Some(upstream) = &options.upstream {
        let fetcher = Fetcher::open(&upstream.url, upstream.timeout)?;
        store.set_upstream(Arc::new(fetcher), upstream.cache);
        tracing::info!(
            url = upstream.url,
            cache = upstream.cache,
            "has an upstream"
        );
    }
    let works = Works::open_or_create(store.clone()).map_err(|source| ServeError::Works {
        path: options.store.display().to_string(),
        source: Box::new(source),
    })?;
    let works = Arc::new(works);
    let exports = Exports::open(store.clone(), works.clone(), grafter.map(Arc::new));
    let exports = Arc::new(exports.map_err(unopened(&options.store))?);
    if let Some(grafter) = &exports.grafter {
        grafter
            .begin(exports.graft_key())
            .map_err(ServeError::Grafter)?;
    }
    if portable() {
        exports.grafts.be_portable();
    }
    let vfs: Arc<dyn Vfs> = match options.read_only {
        true => Arc::new(ReadOnly(exports.clone())),
        false => exports.clone(),
    };
    Ok(Arc::new(Daemon {
        store,
        works,
        exports,
        nfs: Service::new(vfs),
        started: clock::now().secs,
        claims: Default::default(),
        syncs: Default::default(),
        crowds: Default::default(),
        change: Mutex::new(()),
        held: Mutex::new(Vec::new()),
        kernel: std::sync::OnceLock::new(),
        active: AtomicI64::new(clock::now().secs),
        calls: AtomicU64::new(0),
        stop: tokio::sync::watch::Sender::new(false),
        options,
    }))
}

/// A server that was killed right after it made a tree had not recorded for whom.
fn drop_unowned(daemon: &Daemon) {
    // By their ids alone: a document that cannot be read still speaks for its tree.
    let ids = |kind| daemon.store.records(kind);
    let (Ok(trees), Ok(runs)) = (ids(TreeDoc::KIND), ids(RunDoc::KIND)) else {
        return;
    };
    let owned = |tree: u64| {
        let of = |(id, _): &(Vec<u8>, Vec<u8>)| *id == tree.to_be_bytes();
        trees.iter().any(of) || runs.iter().any(of)
    };
    for tree in daemon.works.list() {
        let recorded = match tree.class {
            WorkClass::Build | WorkClass::Run | WorkClass::Mount => owned(tree.id),
            // They are listed elsewhere, and name themselves.
            WorkClass::Volume => true,
        };
        if !recorded {
            tracing::info!(tree = tree.id, "nobody knows whose it is: dropped");
            daemon.forget_tree(tree.id);
        }
    }
}

/// In the server's environment: grafts as OpenBSD has them, so that this can be tried elsewhere.
const PORTABLE: (&str, &str) = ("POCKER_GRAFTS", "portable");

fn portable() -> bool {
    std::env::var_os(PORTABLE.0).is_some_and(|how| how == PORTABLE.1)
}

async fn main_loop(
    daemon: Arc<Daemon>,
    local: Local,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    let nfs = listen::nfs(&daemon, local.nfs, local.owner).await?;
    let control = match local.control {
        Some(control) => control,
        // Whoever finds it finds all that is above.
        None => local::control(&daemon.options)?,
    };
    let control = UnixListener::from_std(control).map_err(ServeError::Runtime)?;
    let router = http::router(daemon.clone());
    let stop = daemon.stop.subscribe();
    let outside = outside::start(&daemon.options, router.clone(), stop).await?;
    let serving = tokio::spawn(listen::serve_control(
        control,
        local.owner,
        router,
        daemon.stop.subscribe(),
    ));
    if let (Some(listener), Some(addr)) = (local.metrics, daemon.options.metrics) {
        let router = http::metrics::router(daemon.clone());
        let listener = TcpListener::from_std(listener).map_err(ServeError::Runtime)?;
        tokio::spawn(listen::serve_metrics(
            listener,
            router,
            daemon.stop.subscribe(),
        ));
        tracing::info!(%addr, "serving metrics");
    }
    privileges::promise(&daemon.options).map_err(ServeError::Confine)?;
    tracing::info!(
        store = %daemon.options.store.display(),
        pid = std::process::id(),
        trees = daemon.works.list().len(),
        volumes = daemon.exports.volumes.list().len(),
        "serving"
    );
    ready();
    let why = until_told(&daemon).await;
    match &why {
        Ok(why) => tracing::info!("leaving: {why}"),
        Err(why) => tracing::error!("leaving: {why}"),
    }
    daemon.stop.send_replace(true);
    let left = daemon
        .runs()
        .map_or(0, |runs| runs.iter().filter(|r| r.live()).count());
    let mounts = docs::all::<MountRecord>(&daemon.store).map_or(0, |m| m.len());
    if left + mounts > 0 {
        tracing::warn!("{left} runs and {mounts} mounts wait for this store's server to come back");
    }
    let _ = tokio::time::timeout(DRAIN, async {
        let _ = serving.await;
        if let Some(outside) = outside {
            let _ = outside.await;
        }
    })
    .await;
    listen::unregister(&daemon).await;
    nfs.shutdown(DRAIN).await;
    daemon.exports.close_grafts();
    daemon.note_uses();
    daemon.works.close();
    if let Some(volumes) = daemon.exports.volumes.works() {
        volumes.close();
    }
    aide::remove_sockets(&daemon.options);
    why.map(drop)
}

/// Waits for a signal, `serve --stop`, or idleness; reaps meanwhile.
async fn until_told(daemon: &Arc<Daemon>) -> Result<String, ServeError> {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return Ok("signals cannot be received".to_string());
    };
    let mut stop = daemon.stop.subscribe();
    let mut tick = tokio::time::interval(REAP_EVERY);
    let mut helpless = std::pin::pin!(aide::ended());
    let grafter = daemon.exports.grafter.clone();
    let mut reaping = None;
    let mut graftless = std::pin::pin!(async {
        match &grafter {
            Some(grafter) => grafter.ended().await,
            None => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            _ = term.recv() => return Ok("SIGTERM".to_string()),
            _ = int.recv() => return Ok("SIGINT".to_string()),
            _ = told(&mut stop) => return Ok("told to stop".to_string()),
            () = &mut helpless => return Err(ServeError::Aide),
            () = &mut graftless => return Err(ServeError::Graftless),
            // Not waited for in here: it may wait for others, and what is told in between is heard.
            _ = tick.tick(), if reaping.is_none() => {
                let d = daemon.clone();
                reaping = Some(tokio::task::spawn_blocking(move || upkeep(&d)));
            }
            idle = async { reaping.as_mut().expect("it runs").await }, if reaping.is_some() => {
                reaping = None;
                if let Ok(Some(secs)) = idle {
                    return Ok(format!("idle for {secs} s"));
                }
            }
        }
    }
}

/// Who asked before anybody listened here is heard too: commands are answered before that.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|told| *told).await;
}

/// Reaps; returns for how long an auto-started server was idle when that is long enough.
fn upkeep(daemon: &Daemon) -> Option<i64> {
    daemon.reap();
    let since = daemon.idle_since()?;
    let idle = clock::now().secs - since;
    let limit = i64::try_from(daemon.options.idle_timeout.as_secs()).unwrap_or(i64::MAX);
    if !daemon.options.auto || idle < limit {
        return None;
    }
    // The browse view would wait for ever for a server that left.
    let mut stopped = Stopped::default();
    daemon.unmount_all(|m| m.what == BROWSE_VIEW, &mut stopped);
    Some(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_was_told_to_stop_before_it_listened_stops() {
        let sender = watch::Sender::new(false);
        sender.send_replace(true);
        let mut late = sender.subscribe();
        let patience = Duration::from_secs(5);
        let heard = tokio::time::timeout(patience, told(&mut late)).await;
        heard.expect("it is heard");
    }
}
