//! The server is killed at each of its points, and comes back on the same store.

use crate::list::{When, lines, passed, points, refusable, when};
use crate::ops::{ALL, Op, Ready};
use crate::replies::runtime;
use crate::server::Server;
use crate::support::{PATIENCE, until};
use crate::tree::{Kind, Tree, base, root, seal};
use pocker::control::api::StepInfo;
use pocker_nfs::client::{Connect, UnixConnect};
use pocker_nfs::vfs::Stable;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the server is looked after.
const POLL: Duration = Duration::from_millis(2);

/// A server, and what is changed there.
pub struct Place {
    pub server: Arc<Server>,
    pub base: StepInfo,
    pub tree: Tree,
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
    pub async fn new(kind: Kind) -> Place {
        let server = Server::new();
        let base = base(&server, socket(&server)).await;
        Place::over(server, base, kind).await
    }

    async fn over(server: Arc<Server>, base: StepInfo, kind: Kind) -> Place {
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

    /// One that was never given before.
    pub fn number(&mut self) -> usize {
        self.used.0 += 1;
        self.used.0
    }

    pub async fn ready(&mut self, op: Op) -> Ready {
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
        let (server, what) = (
            self.server.clone(),
            format!("{op:?} with a kill at {point}"),
        );
        let (ready, died) = survive(&server, "what is done before", self.ready(op)).await;
        assert_eq!(
            died, 0,
            "before {what}: a server was killed that was not to be"
        );
        self.server.arm(&lines(point));
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
            let here = passed(point, kind);
            assert_eq!(!under.is_empty(), here, "{kind:?}: {point}: {under:?}");
            eprintln!("{kind:?}: {point}: killed under {}", under.len());
            hits += under.len();
            place.tree.check(point).await;
            place.server.fsck(point);
        }
        eprintln!("{kind:?}: {hits} kills at {} points", points.len());
    });
}

fn in_calls() -> BTreeSet<String> {
    let points = points().into_iter().filter(|p| when(p) == When::Call);
    points.collect()
}

#[test]
fn killed_in_a_call() {
    kill_in_calls(Kind::Build, &in_calls());
}

#[test]
fn killed_in_a_call_to_a_volume() {
    kill_in_calls(Kind::Volume, &in_calls());
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
        let kind = self.tree.kind;
        let trees = move |server: &Server| {
            let status = server.ask("status", |c| c.status());
            match kind {
                Kind::Volume => status.volumes,
                _ => status.trees,
            }
        };
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
        let staged = self.server.staged(self.tree.kind);
        assert!(
            staged
                .iter()
                .any(|dir| dir.read_dir().is_ok_and(|d| d.count() > 0))
        );
        // The check has all rows carried to the database first.
        self.server.fsck("before a tree is dropped");
        self.server.arm(&lines(point));
        let (kind, id, name) = (self.tree.kind, self.tree.id, self.tree.name.clone());
        self.server.ask_away("drop", |c| match kind {
            Kind::Volume => c.remove_volume(&name, false),
            _ => c.drop_tree(id),
        });
        self.killed(point);
        until("its files are gone", || {
            self.server.revive();
            self.server.staged(kind).len() < staged.len()
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

    /// Loads the tree again, where a kill left a file longer than its row says.
    async fn cut(&mut self, point: &str) {
        let grown = format!("staged.write.after 1 kill\n{}", lines(point));
        let ready = self.ready(Op::WriteLarge).await;
        self.server.arm(&grown);
        let (made, died) = survive(&self.server, point, ready.make()).await;
        made.unwrap_or_else(|e| panic!("a write, killed {died} times: {e}"));
        ready.done();
        self.killed(point);
    }

    async fn at(&mut self, point: &str) {
        match when(point) {
            When::Call | When::First | When::Open => unreachable!("{point} has its own test"),
            When::Cut => self.cut(point).await,
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
                if point.starts_with("drop.row.") && self.tree.kind != Kind::Volume {
                    self.seal(point, &lines(point)).await;
                }
            }
        }
    }
}

fn kill_between_calls(kind: Kind) {
    runtime().block_on(async {
        let mut place = Place::new(kind).await;
        let points = points();
        let points = points.iter().filter(|p| passed(p, kind));
        let points = points.filter(|p| !matches!(when(p), When::Call | When::First | When::Open));
        let mut count = 0;
        for point in points {
            // Nothing is left for the other trees' carrier.
            place.server.fsck("before");
            place.at(point).await;
            place.server.ask("status", |c| c.status());
            place.tree.check(point).await;
            place.server.fsck(point);
            eprintln!("{kind:?}: {point}: killed");
            count += 1;
        }
        eprintln!("{kind:?}: {} kills at {count} points", place.kills);
    });
}

#[test]
fn killed_between_calls() {
    kill_between_calls(Kind::Build);
}

#[test]
fn killed_between_calls_to_a_volume() {
    kill_between_calls(Kind::Volume);
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
            // The first call on a volume.
            let mut place = Place::over(server, base, Kind::Volume).await;
            assert!(place.call(Op::Mkdir, point, false).await, "{point}");
            place.tree.check(point).await;
            place.server.fsck(point);
            eprintln!("{point}: killed twice");
        }
    });
}

/// As a server starts, and as the first volume is made.
#[test]
fn killed_as_trees_are_opened() {
    runtime().block_on(async {
        let points = points();
        let open: Vec<_> = points.iter().filter(|p| when(p) == When::Open).collect();
        assert!(!open.is_empty());
        for point in open {
            let mut place = Place::new(Kind::Build).await;
            place.changed().await;
            place.server.arm(&lines(point));
            place.server.kill();
            place.server.ask("status", |c| c.status());
            place.killed(point);
            place.tree.check(point).await;
            // The first volume; its database is opened second when a server starts.
            place.server.arm(&lines(point));
            let (server, base) = (place.server.clone(), place.base.clone());
            let mut volumes = Place::over(server, base, Kind::Volume).await;
            volumes.killed(point);
            volumes.changed().await;
            place.server.arm(&format!("{point} 2 kill\n"));
            place.server.kill();
            place.server.ask("status", |c| c.status());
            place.killed(point);
            place.tree.check(point).await;
            volumes.tree.check(point).await;
            place.server.fsck(point);
            eprintln!("{point}: killed three times");
        }
    });
}

/// What a full or broken disk refuses is told to the client, and nothing of it is done.
fn refuse_in_calls(kind: Kind) {
    runtime().block_on(async {
        let mut place = Place::new(kind).await;
        let points = refusable(kind);
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
                    // A volume's row comes after the bytes: those of a WRITE that failed may be there.
                    if kind == Kind::Volume && op.writes() && !place.tree.same().await {
                        ready.done();
                    }
                    let when = format!("{op:?} with {error} at {point}");
                    place.tree.check(&when).await;
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
            eprintln!("{kind:?}: {point}: refused under {under}");
        }
    });
}

#[test]
fn refused_in_a_call() {
    refuse_in_calls(Kind::Build);
}

#[test]
fn refused_in_a_call_to_a_volume() {
    refuse_in_calls(Kind::Volume);
}
