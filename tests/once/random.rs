//! The server is killed at any moment, again and again, while clients work.

use crate::ops::{ALL, Ready};
use crate::replies::runtime;
use crate::server::Server;
use crate::support::PATIENCE;
use crate::tree::{Kind, LARGE, Tree, base};
use pocker_nfs::client::UnixConnect;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const KILLS: usize = 25;
/// Operations under way at a time.
const TOGETHER: u64 = 6;
/// Longest life of a server, in milliseconds.
const LIFE: u64 = 120;

/// xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("ONCE_SEED").ok();
    let seed = given.map_or_else(
        || {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("random bytes");
            u64::from_le_bytes(bytes) | 1
        },
        |text| text.parse().expect("ONCE_SEED is a number"),
    );
    eprintln!("ONCE_SEED={seed}");
    seed
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    names: AtomicUsize,
    bases: AtomicUsize,
    done: AtomicUsize,
}

async fn work(tree: Tree, shared: Arc<Shared>, mut random: Random) {
    while !shared.over.load(Ordering::SeqCst) {
        let op = ALL[random.below(ALL.len() as u64) as usize];
        let base = match op.takes_base() {
            true => shared.bases.fetch_add(1, Ordering::SeqCst),
            false => 0,
        };
        if base >= LARGE {
            continue;
        }
        let n = shared.names.fetch_add(1, Ordering::SeqCst);
        let ready = Ready::new(&tree, op, n, base).await;
        let made = ready.make().await;
        made.unwrap_or_else(|e| panic!("{op:?} number {n}: {e}"));
        ready.done();
        shared.done.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn killed_at_any_moment() {
    kill_at_any_moment(Kind::Build);
}

#[test]
fn killed_at_any_moment_with_a_volume() {
    kill_at_any_moment(Kind::Volume);
}

fn kill_at_any_moment(kind: Kind) {
    let seed = seed();
    let server = Server::new();
    runtime().block_on(async {
        let connect = || Arc::new(UnixConnect(server.nfs_socket()));
        let base = base(&server, connect()).await;
        let tree = Tree::new(&server, kind, &base, connect()).await;
        let shared = Arc::new(Shared::default());
        let mut clients = tokio::task::JoinSet::new();
        for nth in 1..=TOGETHER {
            let random = Random(seed.wrapping_mul(nth * 2 + 1) | 1);
            clients.spawn(work(tree.clone(), shared.clone(), random));
        }
        let mut random = Random(seed);
        for kill in 0..KILLS {
            let before = shared.done.load(Ordering::SeqCst);
            let some = async {
                while shared.done.load(Ordering::SeqCst) == before {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let moved = tokio::time::timeout(PATIENCE, some).await;
            moved.unwrap_or_else(|_| panic!("nothing is done after kill {kill}"));
            tokio::time::sleep(Duration::from_millis(random.below(LIFE))).await;
            server.kill();
        }
        shared.over.store(true, Ordering::SeqCst);
        let ended = tokio::time::timeout(PATIENCE, clients.join_all()).await;
        ended.expect("the clients end");
        tree.check("after all kills").await;
        let done = shared.done.load(Ordering::SeqCst);
        eprintln!("{kind:?}: {done} operations, {KILLS} kills");
    });
    server.fsck("after all kills");
}
