//! The server is killed at each of its points, and comes back on the same store.

use crate::ops::{ALL, Op, Ready};
use crate::replies::runtime;
use crate::server::Server;
use crate::support::{PATIENCE, until};
use crate::tree::{Kind, Tree, base, seal};
use pocker::control::api::{StepInfo, TreeInfo};
use pocker_nfs::client::{Connect, UnixConnect};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the server is looked after.
const POLL: Duration = Duration::from_millis(2);

/// Every point that the source names: one that is added and never passed fails the test.
fn points() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut dirs = vec![top.join("store/src"), top.join("nfs/src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                for call in ["failpoint::hit(\"", "failpoint::pass(\""] {
                    for rest in text.split(call).skip(1) {
                        let name = rest.split('"').next().expect("a name");
                        assert!(found.insert(name.into()), "two points are named {name}");
                    }
                }
            }
        }
    }
    // Half a write: the way to what comes after it.
    found.retain(|name| !name.ends_with(".tear"));
    assert!(found.len() > 40, "{found:?}");
    found
}

/// The lines that have the server die at a point.
fn lines(point: &str) -> String {
    match point.strip_suffix(".torn") {
        Some(of) => format!("{of}.tear 1 EIO\n{point} 1 kill\n"),
        None => format!("{point} 1 kill\n"),
    }
}

/// When a point is passed.
#[derive(Debug, PartialEq)]
enum When {
    /// In a call, or right after it.
    Call,
    /// By the first call on a new store.
    First,
    /// A moment after a call, by the thread that carries rows to `work.db`.
    Carry,
    /// The same, once much was written.
    Much,
    New,
    Seal,
    /// When a tree is loaded whose seal was cut short.
    Load,
    Drop,
}

fn when(point: &str) -> When {
    match point.split('.').collect::<Vec<_>>()[..] {
        ["journal", "enlarge", _] => When::First,
        ["journal", "turn", _] => When::Much,
        ["carry", ..] => When::Carry,
        ["tree", ..] => When::New,
        ["seal" | "batch" | "blobs" | "index", ..] => When::Seal,
        ["unshare", ..] => When::Load,
        ["drop", ..] => When::Drop,
        _ => When::Call,
    }
}

/// A server, and what is changed there.
struct Place {
    server: Arc<Server>,
    base: StepInfo,
    tree: Tree,
    /// Names, and large files, that were given.
    used: (usize, usize),
    kills: usize,
}

fn socket(server: &Server) -> Arc<dyn Connect> {
    Arc::new(UnixConnect(server.nfs_socket()))
}

impl Place {
    async fn new(kind: Kind) -> Place {
        let server = Server::new();
        let base = base(&server, socket(&server)).await;
        let tree = Tree::new(&server, kind, &base, socket(&server)).await;
        Place {
            server,
            base,
            tree,
            used: (0, 0),
            kills: 0,
        }
    }

    async fn fresh(&mut self) {
        self.tree = Tree::new(&self.server, self.tree.kind, &self.base, socket(&self.server)).await;
        self.used = (0, 0);
    }

    async fn ready(&mut self, op: Op) -> Ready {
        if self.used.1 + 1 >= crate::tree::LARGE {
            self.tree.check("before a fresh tree").await;
            self.fresh().await;
        }
        let (n, base) = self.used;
        self.used = (n + 1, base + usize::from(op.takes_base()));
        Ready::new(&self.tree, op, n, base).await
    }

    /// Makes one call with the server dying at `point`, if it comes there; true if it did.
    /// `wait`: it comes there, if after the call.
    async fn call(&mut self, op: Op, point: &str, wait: bool) -> bool {
        let ready = self.ready(op).await;
        self.server.arm(&lines(point));
        let mut died = 0;
        let made = {
            let make = ready.make();
            tokio::pin!(make);
            let end = Instant::now() + PATIENCE;
            loop {
                tokio::select! {
                    made = &mut make => break made,
                    () = tokio::time::sleep(POLL) => died += usize::from(self.server.revive()),
                }
                assert!(Instant::now() < end, "{op:?}, killed {died} times at {point}: hangs");
            }
        };
        made.unwrap_or_else(|e| panic!("{op:?}, killed {died} times at {point}: {e}"));
        ready.done();
        if wait {
            until(&format!("the server passes {point}"), || !self.server.armed());
        }
        let killed = !self.server.disarm();
        if killed && died == 0 {
            until("the server is dead", || self.server.revive());
        }
        assert!(killed || died == 0, "something else killed the server");
        self.kills += usize::from(killed);
        killed
    }
}

/// Calls, each killed at each point that it passes.
fn kill_in_calls(kind: Kind, points: &BTreeSet<String>) {
    runtime().block_on(async {
        let mut place = Place::new(kind).await;
        let mut hits = 0;
        for point in points {
            let mut under = Vec::new();
            for op in ALL {
                if place.call(op, point, false).await {
                    under.push(op);
                }
            }
            assert!(!under.is_empty(), "{point} is never passed");
            eprintln!("{kind:?}: {point}: killed under {}", under.len());
            hits += under.len();
            place.tree.check(point).await;
            place.server.fsck(point);
        }
        eprintln!("{kind:?}: {hits} kills at {} points", points.len());
    });
}

#[test]
fn killed_in_a_call() {
    let points = points().into_iter().filter(|p| when(p) == When::Call);
    kill_in_calls(Kind::Build, &points.collect());
}
