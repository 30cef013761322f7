//! Directories of very many names over the wire: made, listed, found, sealed, removed.
//! POCKER_LONG=1 makes it a million.

use crate::support::server::Server;
use crate::wire::{ROOT, Wire, mode};
use pocker_nfs::client::Client;
use pocker_nfs::proto::sattr3;
use pocker_nfs::vfs::{CreateHow, Fh, Stable};
use tokio::task::JoinSet;

/// Calls under way at once.
const DEPTH: usize = 64;

fn many() -> usize {
    match std::env::var_os("POCKER_LONG") {
        Some(_) => 1_000_000,
        None => 1 << 16,
    }
}

fn name(i: usize) -> Vec<u8> {
    format!("name-{i:07}").into_bytes()
}

/// Calls `one` for each number below `n`, many at a time.
async fn each<F>(c: &Client, n: usize, one: impl Fn(Client, usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut set = JoinSet::new();
    for i in 0..n {
        if set.len() == DEPTH {
            set.join_next()
                .await
                .expect("one of many")
                .expect("it held");
        }
        set.spawn(one(c.clone(), i));
    }
    set.join_all().await;
}

async fn remove(c: Client, dir: Fh, i: usize) {
    c.remove(&ROOT, &dir, &name(i)).await.expect("REMOVE");
}

#[test]
fn a_directory_of_very_many_names() {
    let n = many();
    let server = Server::start();
    let tree = server.clone_of(None);
    let wire = Wire::to(&server);
    let top = wire.mount(&tree.export.path);
    let dir = wire.run(wire.client.mkdir(&ROOT, &top, b"dir", &sattr3::default()));
    let dir = dir.expect("MKDIR").fh.expect("a handle");
    wire.run(each(&wire.client, n, |c, i| async move {
        let how = CreateHow::Guarded(mode(0o644));
        c.create(&ROOT, &dir, &name(i), &how).await.expect("CREATE");
    }));
    let holds = |dir: &Fh, n: usize| {
        for plus in [false, true] {
            let names = wire.names(dir, plus);
            assert_eq!(names.len(), n);
            assert!((0..n).all(|i| names.contains(&name(i))));
        }
        for i in (0..n).step_by(997) {
            let name = String::from_utf8(name(i)).expect("ASCII");
            wire.attr(&wire.find(dir, &name));
        }
    };
    holds(&dir, n);
    let sealed = server.seal(tree.id);
    let clone = server.clone_of(Some(&sealed));
    let top = wire.mount(&clone.export.path);
    let dir = wire.find(&top, "dir");
    holds(&dir, n);
    // Half, and then the rest after a restart.
    wire.run(each(&wire.client, n / 2, |c, i| remove(c, dir, n - 1 - i)));
    server.restart();
    holds(&dir, n - n / 2);
    wire.run(each(&wire.client, n - n / 2, |c, i| remove(c, dir, i)));
    assert!(wire.names(&dir, true).is_empty());
    let gone = wire.client.rmdir(&ROOT, &top, b"dir");
    wire.run(gone).expect("RMDIR");
}

/// What the server may hold, beside 64 MiB of small contents: an unoptimised build's code,
/// 16 000 nodes, rows on their way to `work.db`, SQLite's caches, replies.
const BESIDE: usize = 110 << 20;

/// A quarter of a gigabyte of small files that a build wrote is not held in memory: not when it
/// was written, not when it was read, not after a restart that loads it, nor by its seal.
#[test]
fn very_many_small_contents_are_not_all_in_memory() {
    const FILES: usize = 16_000;
    let content = |i: usize| -> Vec<u8> { (0..16_384).map(|at| (at * 7 + i) as u8).collect() };
    let server = Server::start();
    let tree = server.clone_of(None);
    let wire = Wire::to(&server);
    let top = wire.mount(&tree.export.path);
    wire.run(each(&wire.client, FILES, move |c, i| async move {
        let how = CreateHow::Guarded(mode(0o644));
        let made = c.create(&ROOT, &top, &name(i), &how).await;
        let fh = made.expect("CREATE").fh.expect("a handle");
        let bytes = content(i);
        let wrote = c.write(&ROOT, &fh, 0, &bytes, Stable::Unstable).await;
        assert_eq!(wrote.expect("WRITE").count as usize, bytes.len());
    }));
    let bounded = |when: &str| {
        let peak = server.peak_memory();
        assert!(peak < (64 << 20) + BESIDE, "{when}: {} MB", peak >> 20);
    };
    let holds = |step: usize| {
        for i in (0..FILES).step_by(step) {
            let fh = wire.find(&top, std::str::from_utf8(&name(i)).expect("ASCII"));
            let read = wire
                .run(wire.client.read(&ROOT, &fh, 0, 1 << 16))
                .expect("READ");
            assert!(read.eof && read.data == content(i), "{i} is another");
        }
    };
    bounded("written");
    holds(7);
    bounded("read");
    server.restart();
    holds(7);
    bounded("loaded again");
    server.seal(tree.id);
    bounded("sealed");
}
