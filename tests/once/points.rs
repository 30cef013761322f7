//! The server is killed at each of its points, and comes back on the same store.

use crate::ops::{ALL, Op, Ready};
use crate::replies::runtime;
use crate::server::Server;
use crate::support::{PATIENCE, until};
use crate::tree::{Kind, Tree, base, root, seal};
use pocker::control::api::StepInfo;
use pocker_nfs::client::{Connect, UnixConnect};
use pocker_nfs::vfs::Stable;
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
pub fn lines(point: &str) -> String {
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

/// Does what takes a server, and starts another for each that dies meanwhile; how many did.
pub async fn survive<T>(server: &Server, what: &str, work: impl Future<Output = T>) -> (T, usize) {
    tokio::pin!(work);
    let (end, mut died) = (Instant::now() + PATIENCE, 0);
    loop {
        tokio::select! {
            done = &mut work => return (done, died),
            () = tokio::time::sleep(POLL) => died += usize::from(server.revive()),
        }
        assert!(Instant::now() < end, "{what} hangs; {died} servers died");
    }
}

pub fn socket(server: &Server) -> Arc<dyn Connect> {
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
        self.tree = Tree::new(
            &self.server,
            self.tree.kind,
            &self.base,
            socket(&self.server),
        )
        .await;
        self.used.1 = 0;
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
        let what = format!("{op:?} with a kill at {point}");
        let (made, died) = survive(&self.server, &what, ready.make()).await;
        made.unwrap_or_else(|e| panic!("{op:?}, killed {died} times at {point}: {e}"));
        ready.done();
        if wait {
            until(&format!("the server passes {point}"), || {
                !self.server.armed()
            });
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

/// What of a tree a seal has to do with.
const CHANGES: [Op; 9] = [
    Op::Mkdir,
    Op::Symlink,
    Op::WriteSmall,
    Op::WriteLarge,
    Op::RenameOver,
    Op::RenameBase,
    Op::RemoveBase,
    Op::TruncateBase,
    Op::CopyUp,
];

impl Place {
    async fn changed(&mut self) {
        self.fresh().await;
        for op in CHANGES {
            let ready = self.ready(op).await;
            ready.make().await.expect("made");
            ready.done();
        }
    }

    /// The server was killed at all that was armed.
    fn killed(&mut self, point: &str) {
        until(&format!("the server passes {point}"), || {
            !self.server.armed()
        });
        self.kills += 1;
    }

    /// Seals a changed tree; what comes out is what was in it.
    async fn seal(&mut self, point: &str, lines: &str) {
        self.changed().await;
        let (id, key) = (self.tree.id, 10 + self.kills as u8);
        self.server.arm(lines);
        let step = self.server.ask("seal", |c| c.seal(id, &seal(key)));
        self.killed(point);
        let sealed = Tree::new(&self.server, Kind::Build, &step, socket(&self.server)).await;
        let tree = Tree {
            model: self.tree.model.clone(),
            ..sealed
        };
        tree.check(point).await;
        self.fresh().await;
        assert_eq!(
            self.server.ask("the step", |c| c.step(&step.key)),
            Some(step)
        );
    }

    async fn new_tree(&mut self, point: &str) {
        let trees = |server: &Server| server.ask("status", |c| c.status()).trees;
        let before = trees(&self.server);
        self.server.arm(&lines(point));
        self.fresh().await;
        self.killed(point);
        until("nobody's tree is dropped", || {
            trees(&self.server) == before + 1
        });
    }

    async fn drop_tree(&mut self, point: &str) {
        self.changed().await;
        let id = self.tree.id;
        // The check has all rows carried to the database first.
        self.server.fsck("before a tree is dropped");
        self.server.arm(&lines(point));
        self.server.ask("drop", |c| c.drop_tree(id));
        self.killed(point);
        let staged = self.server.world.path(&format!("store/staging/{id}"));
        until("its files are gone", || {
            self.server.revive();
            !staged.exists()
        });
        let gone = self.tree.client.getattr(&root(), &self.tree.top).await;
        assert!(gone.is_err(), "a dropped tree is there");
        self.fresh().await;
    }

    /// So much that the journal's other file has its turn.
    async fn much(&mut self, point: &str) {
        let ready = self.ready(Op::CreateGuarded).await;
        ready.make().await.expect("made");
        ready.done();
        let (client, me) = (self.tree.client.clone(), root());
        let name = ready.name();
        let fh = client.lookup(&me, &self.tree.top, name.as_bytes()).await;
        let fh = fh.expect("LOOKUP").fh;
        self.server.arm(&lines(point));
        let server = self.server.clone();
        let write = async {
            let mut data = vec![0; 16_000];
            while server.armed() {
                data[0] += 1;
                for _ in 0..80 {
                    let wrote = client.write(&me, &fh, 0, &data, Stable::Unstable).await;
                    assert_eq!(wrote.expect("WRITE").count, 16_000);
                }
                tokio::time::sleep(POLL).await;
            }
            data
        };
        let (data, _) = survive(&server, point, write).await;
        std::fs::write(self.tree.model.join(name), data).expect("written");
        self.killed(point);
    }

    async fn at(&mut self, point: &str) {
        match when(point) {
            When::Call | When::First => unreachable!("{point} has a test of its own"),
            When::Carry => {
                for op in [Op::CreateGuarded, Op::Remove, Op::Truncate, Op::CopyUp] {
                    assert!(self.call(op, point, true).await, "{point} is never passed");
                }
            }
            When::Much => self.much(point).await,
            When::New => self.new_tree(point).await,
            When::Seal => self.seal(point, &lines(point)).await,
            When::Load => {
                let lines = format!("seal.link.after 1 kill\n{}", lines(point));
                self.seal(point, &lines).await;
            }
            When::Drop => {
                self.drop_tree(point).await;
                // The end of a seal, too.
                if point.starts_with("drop.row.") {
                    self.seal(point, &lines(point)).await;
                }
            }
        }
    }
}

#[test]
fn killed_between_calls() {
    runtime().block_on(async {
        let mut place = Place::new(Kind::Build).await;
        let points = points();
        let points = points
            .iter()
            .filter(|p| !matches!(when(p), When::Call | When::First));
        let mut count = 0;
        for point in points {
            place.at(point).await;
            place.server.ask("status", |c| c.status());
            place.tree.check(point).await;
            place.server.fsck(point);
            eprintln!("{point}: killed");
            count += 1;
        }
        eprintln!("{} kills at {count} points", place.kills);
    });
}

#[test]
fn killed_by_the_first_call_on_a_store() {
    runtime().block_on(async {
        let points = points();
        let first: Vec<_> = points.iter().filter(|p| when(p) == When::First).collect();
        assert!(!first.is_empty());
        for point in first {
            let server = Server::new();
            server.arm(&lines(point));
            let made = base(&server, socket(&server));
            let (base, died) = survive(&server, point, made).await;
            assert!(died == 1 && !server.armed(), "{point} is never passed");
            let tree = Tree::new(&server, Kind::Build, &base, socket(&server)).await;
            tree.check(point).await;
            server.fsck(point);
            eprintln!("{point}: killed");
        }
    });
}

/// Points before an I/O that may be refused.
fn refusable() -> BTreeSet<String> {
    let io = |p: &str| p.ends_with(".before") && !p.starts_with("reply") && when(p) == When::Call;
    let mut found = points();
    // A file that cannot be unlinked stays for the next start. A file's time is set when its
    // bytes are: that is in memory, and no file system refuses it after the bytes.
    found.retain(|p| io(p) && !p.starts_with("staged.unlink") && !p.starts_with("staged.time"));
    found
}

/// What a full or broken disk refuses is told to the client, and nothing of it is done.
#[test]
fn refused_in_a_call() {
    runtime().block_on(async {
        let mut place = Place::new(Kind::Build).await;
        let points = refusable();
        for point in &points {
            let mut under = 0;
            for (n, op) in ALL.into_iter().enumerate() {
                let ready = place.ready(op).await;
                let error = ["ENOSPC", "EIO"][n % 2];
                place.server.arm(&format!("{point} 1 {error}\n"));
                let made = ready.make().await;
                let refused = !place.server.disarm();
                under += usize::from(refused);
                assert_eq!(
                    made.is_err(),
                    refused,
                    "{op:?} with {error} at {point}: {made:?}"
                );
                if refused {
                    place
                        .tree
                        .check(&format!("{op:?} with {error} at {point}"))
                        .await;
                    let again = ready.make().await;
                    again.unwrap_or_else(|e| panic!("{op:?} after {error} at {point}: {e}"));
                }
                ready.done();
            }
            assert!(under > 0, "{point} is never passed");
            place.tree.check(point).await;
            place.server.kill();
            place.tree.check(&format!("{point} and a kill")).await;
            place.server.fsck(point);
            eprintln!("{point}: refused under {under}");
        }
    });
}
