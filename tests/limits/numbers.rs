//! A tree of more than 2^32 nodes, made of five directory objects as each holds the next one
//! 256 times: fileids, st_ino and handles past 32 bits, over the wire and in a mount.

use crate::support::World;
use crate::support::server::Server;
use crate::wire::{ROOT, Wire, fuse};
use pocker_store::object::{Body, Entry, Meta, SnapshotData};
use pocker_store::types::Time;
use pocker_store::{OpenOptions, Step, Store};
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const WIDE: usize = 256;
const DEEP: usize = 4;
/// The last one's number is the tree's largest.
const LAST: &str = "d255";

fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time { secs: 5, nanos: 6 },
        xattrs: Vec::new(),
    }
}

/// The snapshot's name, in hexadecimal.
fn many_nodes(dir: &Path) -> String {
    let boot_id = std::fs::read("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let options = OpenOptions {
        create: true,
        boot_id,
    };
    let store = Store::open(dir, options).expect("a store");
    let mut batch = store.write_batch();
    let blob = batch.put_small_blob(b"deep".to_vec()).expect("a blob");
    let file = Entry {
        name: b"f".to_vec(),
        meta: meta(0o644),
        body: Body::File { blob, size: 4 },
    };
    let (mut digest, mut counts) = batch.put_dir([file]).expect("a directory");
    for _ in 0..DEEP {
        let child = |i| Entry {
            name: format!("d{i:03}").into_bytes(),
            meta: meta(0o755),
            body: Body::Dir { digest, counts },
        };
        (digest, counts) = batch.put_dir((0..WIDE).map(child)).expect("a directory");
    }
    assert!(counts.nodes > 1 << 32);
    let data = SnapshotData {
        root_meta: meta(0o755),
        root_dir: digest,
        counts,
        groups: Default::default(),
    };
    let snapshot = batch.put_snapshot(&data).expect("a snapshot");
    let step = Step {
        key: pocker_store::types::Digest([9; 32]),
        snapshot,
        parent: None,
        instruction: b"EXEC many".to_vec(),
        inputs: Vec::new(),
        upstream: None,
        created: 1,
    };
    batch.put_step(step).expect("a step");
    batch.commit().expect("committed");
    snapshot.to_string()
}

#[test]
fn a_tree_of_more_than_two_to_the_32nd_nodes() {
    let world = World::new();
    let snapshot = many_nodes(&world.path("store"));
    let server = Server::of(world, Vec::new());
    let tree = server.clone_of(Some(&snapshot));
    let wire = Wire::to(&server);
    let mut dir = wire.mount(&tree.export.path);
    for _ in 0..DEEP {
        dir = wire.find(&dir, LAST);
    }
    let f = wire.find(&dir, "f");
    let number = wire.attr(&f).fileid;
    assert!(number > 1 << 32, "the last node is {number}");
    let read = wire.run(wire.client.read(&ROOT, &f, 0, 100));
    assert_eq!(read.expect("READ").data, b"deep");
    // What is new is numbered above all of them.
    let new = wire.create(&dir, "new").expect("CREATE");
    assert!(wire.attr(&new).fileid > number);
    server.restart();
    assert!(wire.attr(&new).fileid > number && wire.attr(&f).fileid == number);
    let later = wire.create(&dir, "later").expect("CREATE");
    assert!(wire.attr(&later).fileid > wire.attr(&new).fileid);
    assert_eq!(wire.names(&dir, true).len(), 3);

    let at = server.world.path("mnt");
    let mounted = fuse(&server, &tree, &at);
    let below = |names: [&str; DEEP]| names.iter().fold(at.clone(), |path, name| path.join(name));
    let deep = below([LAST; DEEP]);
    let ino = |name: &str| std::fs::metadata(deep.join(name)).expect("stat").ino();
    assert_eq!(ino("f"), number);
    assert_eq!(std::fs::read(deep.join("f")).expect("read"), b"deep");
    std::fs::write(deep.join("mine"), "x").expect("write");
    assert!(ino("mine") > ino("later"));
    // Numbers that agree in their low 32 bits are still two files.
    let first = std::fs::metadata(below(["d000"; DEEP]).join("f")).expect("stat");
    let all: HashSet<u64> = ["f", "new", "later", "mine"].map(ino).into_iter().collect();
    assert!(all.len() == 4 && !all.contains(&first.ino()));
    let listed = std::fs::read_dir(&deep).expect("list");
    use std::os::unix::fs::DirEntryExt;
    let listed: HashSet<u64> = listed.map(|e| e.expect("an entry").ino()).collect();
    assert_eq!(listed, all);
    mounted.unmount().expect("unmounted");
    let sealed = server.seal(tree.id);
    let clone = server.clone_of(Some(&sealed));
    let mut dir = wire.mount(&clone.export.path);
    for _ in 0..DEEP {
        dir = wire.find(&dir, LAST);
    }
    assert_eq!(wire.names(&dir, false).len(), 4);
}
