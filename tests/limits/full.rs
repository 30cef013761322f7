//! A full disk: each kind of change says NOSPC, nothing acknowledged is lost, also over a
//! killed server while it is full, and all goes on once there is room.

use crate::space::disk;
use crate::support::World;
use crate::support::server::Server;
use crate::wire::{ROOT, Wire, mode};
use pocker_nfs::client::ClientError;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{CreateHow, Fh, NodeKind, Stable, XattrHow};
use std::collections::BTreeSet;
use std::path::Path;

/// More changes than the smallest disk has room for.
const TRIES: usize = 200_000;

/// Changes of each kind before the disk is filled.
const WARM: usize = 5;

/// Takes all the room there is.
fn fill(store: &Path) {
    use std::io::Write;
    let mut ballast = std::fs::File::create(store.join("ballast")).expect("create");
    for step in [1 << 20, 4096] {
        while ballast.write_all(&vec![1; step]).is_ok() {}
    }
}

fn make_room(store: &Path) {
    std::fs::remove_file(store.join("ballast")).expect("removed");
}

fn full(error: &ClientError) -> bool {
    matches!(error, ClientError::Status(nfsstat3::NFS3ERR_NOSPC))
}

/// What changes a tree, each time anew, in a directory of its own.
const KINDS: [&str; 11] = [
    "create",
    "mkdir",
    "symlink",
    "mknod",
    "link",
    "rename",
    "small write",
    "large write",
    "setattr",
    "setxattr",
    "remove",
];

struct Place<'a> {
    wire: &'a Wire,
    dir: Fh,
    file: Fh,
}

impl Place<'_> {
    /// The `i`th change of a kind.
    fn change(&self, kind: &str, i: usize) -> Result<(), ClientError> {
        let (c, me, dir, file) = (&self.wire.client, &ROOT, &self.dir, &self.file);
        let name = format!("{i:06}-{}", "n".repeat(200)).into_bytes();
        self.wire.run(async {
            match kind {
                "create" => {
                    let how = CreateHow::Guarded(mode(0o644));
                    c.create(me, dir, &name, &how).await.map(drop)
                }
                "mkdir" => c.mkdir(me, dir, &name, &mode(0o755)).await.map(drop),
                "symlink" => {
                    let target = vec![b't'; 3000];
                    let attr = sattr3::default();
                    c.symlink(me, dir, &name, &target, &attr).await.map(drop)
                }
                "mknod" => {
                    let attr = mode(0o644);
                    let made = c.mknod(me, dir, &name, NodeKind::Fifo, &attr);
                    made.await.map(drop)
                }
                "link" => c.link(me, file, dir, &name).await.map(drop),
                "rename" => {
                    let old = match i {
                        0 => b"moved".to_vec(),
                        _ => format!("{:06}-{}", i - 1, "n".repeat(200)).into_bytes(),
                    };
                    c.rename(me, dir, &old, dir, &name).await.map(drop)
                }
                "small write" => {
                    let data = vec![i as u8; 16_000];
                    c.write(me, file, 0, &data, Stable::FileSync)
                        .await
                        .map(drop)
                }
                "large write" => {
                    let data = vec![i as u8; 64 << 10];
                    let at = (i as u64) << 16;
                    c.write(me, file, at, &data, Stable::FileSync)
                        .await
                        .map(drop)
                }
                "setattr" => {
                    let new = mode(0o600 + (i as u32 & 0o77));
                    c.setattr(me, file, &new, None).await.map(drop)
                }
                "setxattr" => {
                    let value = vec![i as u8; 8000];
                    c.setxattr(me, file, b"user.a", &value, XattrHow::Either)
                        .await
                }
                "remove" => {
                    let name = format!("gone-{i}");
                    c.remove(me, dir, name.as_bytes()).await.map(drop)
                }
                other => unreachable!("{other}"),
            }
        })
    }

    /// What `done` changes of a kind left.
    fn holds(&self, kind: &str, done: usize, when: &str) {
        let what = format!("{kind}, {done} times, {when}");
        let long = |i: usize| format!("{i:06}-{}", "n".repeat(200)).into_bytes();
        let names: BTreeSet<Vec<u8>> = self.wire.names(&self.dir, true).into_iter().collect();
        let file = self.wire.attr(&self.file);
        let (c, me) = (&self.wire.client, &ROOT);
        let read = |at: u64, len: u32| {
            let read = self.wire.run(c.read(me, &self.file, at, len));
            read.expect("READ").data
        };
        match kind {
            "create" | "mkdir" | "symlink" | "mknod" | "link" => {
                assert_eq!(names, (0..done).map(long).collect(), "{what}");
                let links = if kind == "link" { 1 + done as u32 } else { 1 };
                assert_eq!(file.nlink, links, "{what}");
            }
            "rename" => {
                let name = if done == 0 {
                    b"moved".to_vec()
                } else {
                    long(done - 1)
                };
                assert_eq!(names, BTreeSet::from([name]), "{what}");
            }
            "remove" => {
                let left = (done..REMOVABLE).map(|i| format!("gone-{i}").into_bytes());
                assert_eq!(names, left.collect(), "{what}");
            }
            "small write" if done > 0 => {
                assert_eq!(file.size, 16_000, "{what}");
                let data = read(0, 16_000);
                assert!(data.iter().all(|b| *b == (done - 1) as u8), "{what}");
            }
            "large write" => {
                // The refused one may have left a part of itself past the end of the rest.
                assert!(file.size >= (done as u64) << 16, "{what}");
                for i in 0..done {
                    let data = read((i as u64) << 16, 64 << 10);
                    assert!(data.iter().all(|b| *b == i as u8), "{what}: {i}");
                }
            }
            "setattr" if done > 0 => {
                assert_eq!(file.mode, 0o600 + ((done - 1) as u32 & 0o77), "{what}");
            }
            "setxattr" if done > 0 => {
                let value = self.wire.run(c.getxattr(me, &self.file, b"user.a"));
                assert_eq!(
                    value.expect("GETXATTR"),
                    vec![(done - 1) as u8; 8000],
                    "{what}"
                );
            }
            _ => {}
        }
    }
}

/// Names to remove on a full disk.
const REMOVABLE: usize = 50;

#[test]
fn a_full_disk_refuses_each_change_and_loses_none() {
    let world = World::new();
    let store = disk(&world, "store", "size=48m");
    let server = Server::of(world, vec![store.clone()]);
    let tree = server.clone_of(None);
    let wire = Wire::to(&server);
    let top = wire.mount(&tree.export.path);
    let mut places = Vec::new();
    for kind in KINDS {
        let attr = mode(0o755);
        let made = wire.client.mkdir(&ROOT, &top, kind.as_bytes(), &attr);
        let dir = wire.run(made).expect("MKDIR").fh.expect("a handle");
        let file = wire
            .create(&top, &format!("{kind}'s file"))
            .expect("CREATE");
        match kind {
            "rename" => drop(wire.create(&dir, "moved").expect("CREATE")),
            "remove" => (0..REMOVABLE).for_each(|i| {
                wire.create(&dir, &format!("gone-{i}")).expect("CREATE");
            }),
            _ => {}
        }
        let wire = &wire;
        places.push((kind, Place { wire, dir, file }, 0));
    }
    let hold = |places: &[(&str, Place, usize)], when: &str| {
        for (kind, place, done) in places {
            place.holds(kind, *done, when);
        }
    };
    hold(&places, "at first");
    for (kind, place, done) in &mut places {
        if *kind != "remove" {
            // So that the journal is somewhere within what it was promised.
            for i in 0..WARM {
                let done = place.change(kind, i);
                done.unwrap_or_else(|e| panic!("{kind}: there is room, and {e}"));
            }
            *done = WARM;
        }
        fill(&store);
        if *kind == "remove" {
            // Not even a name has room; names can go all the same.
            while !wire.create(&place.dir, "one more").is_err_and(|e| full(&e)) {
                let again = wire.client.remove(&ROOT, &place.dir, b"one more");
                wire.run(again).expect("REMOVE");
            }
        }
        let most = if *kind == "remove" { REMOVABLE } else { TRIES };
        let end = (*done..most).find_map(|i| place.change(kind, i).err().map(|e| (i, e)));
        *done = match end {
            None if *kind == "remove" => REMOVABLE,
            None => panic!("{kind}: the disk is never full"),
            Some((i, error)) => {
                assert!(
                    full(&error) && *kind != "remove",
                    "{kind}, the {i}th: {error}"
                );
                i
            }
        };
        place.holds(kind, *done, "on the full disk");
        make_room(&store);
    }
    let done: Vec<_> = places.iter().map(|p| (p.0, p.2)).collect();
    println!("done on a full disk: {done:?}");
    fill(&store);
    server.restart();
    hold(&places, "on the full disk, restarted");
    make_room(&store);
    for (kind, place, done) in &mut places {
        if *kind != "remove" {
            let again = place.change(kind, *done);
            again.unwrap_or_else(|e| panic!("{kind}: there is room, and {e}"));
            *done += 1;
        }
    }
    hold(&places, "with room again");
    server.restart();
    hold(&places, "with room again, restarted");

    // A seal that has no room leaves the tree as it was.
    fill(&store);
    let refused = server.try_seal(tree.id);
    assert!(refused.is_err(), "sealed on a full disk");
    hold(&places, "after a seal that had no room");
    make_room(&store);
    server.try_seal(tree.id).expect("sealed");
}
