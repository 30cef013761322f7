//! Backups of stores that are in use, and the stores made of them.

use super::*;
use crate::OpenOptions;
use crate::tests::{open, step, two_files};
use crate::tree::Tree;
use crate::types::{Create, Creds, Kind, Node, OpCx, ROOT, SetAttr, Time};
use crate::work::{WorkClass, WorkTree};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NOW: Time = Time { secs: 9, nanos: 0 };

static CALLER: Creds = Creds::ROOT;

fn cx() -> OpCx<'static> {
    OpCx {
        creds: &CALLER,
        now: NOW,
        once: None,
    }
}

fn reopen(dir: &Path) -> Arc<Store> {
    let options = OpenOptions {
        create: false,
        boot_id: b"boot".to_vec(),
    };
    Store::open(dir, options).expect("the store opens")
}

/// A file of a volume.
fn create(tree: &WorkTree, name: &[u8]) -> Node {
    let attrs = SetAttr {
        mode: Some(0o644),
        ..SetAttr::default()
    };
    let made = tree.create(&cx(), ROOT, name, Create::Unchecked, &attrs);
    made.expect("made").node.node
}

fn content(tree: &WorkTree, name: &[u8]) -> Vec<u8> {
    let node = tree.lookup(&Creds::ROOT, ROOT, name).expect("there").node;
    assert_eq!(node.kind, Kind::File);
    let mut out = Vec::new();
    tree.read(&Creds::ROOT, node.node, 0, 1 << 20, &mut out)
        .expect("read");
    out
}

/// Sound, and nothing of it is waste.
fn sound(store: &Store, volumes: Option<&Works>) {
    let options = crate::FsckOptions {
        volumes,
        ..Default::default()
    };
    let report = store.fsck(&options, &|_| ()).expect("fsck");
    assert_eq!(report.findings, [], "{report:?}");
}

struct Bench {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    volumes: Arc<Works>,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = open(dir.path());
        store
            .put_step(step(1, two_files(&store, 1).snapshot))
            .expect("step");
        let volumes = Arc::new(Works::volumes(store.clone()).expect("volumes"));
        Bench {
            dir,
            store,
            volumes,
        }
    }

    fn volume(&self) -> Arc<WorkTree> {
        let base = self.store.steps().expect("steps")[0].snapshot;
        let made = self
            .volumes
            .create(Some(base), WorkClass::Volume, b"data", NOW);
        made.expect("a volume")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn backup(&self) -> Result<Backup, StoreError> {
        self.backup_to(&self.path("backup"))
    }

    fn backup_to(&self, dir: &Path) -> Result<Backup, StoreError> {
        let options = BackupOptions {
            volumes: Some(&self.volumes),
            leave: &["run"],
        };
        self.store.backup(dir, &options)
    }

    fn restored(&self, name: &str) -> (Arc<Store>, Works) {
        restore(&self.path("backup"), &self.path(name)).expect("restored");
        let store = reopen(&self.path(name));
        let volumes = Works::volumes(store.clone()).expect("volumes");
        (store, volumes)
    }
}

#[test]
fn all_that_was_there_is_there_again_and_is_another_store() {
    let bench = Bench::new();
    let volume = bench.volume();
    let small = create(&volume, b"small");
    volume
        .write(&cx(), small, 0, b"a few bytes")
        .expect("write");
    let large = create(&volume, b"large");
    volume
        .write(&cx(), large, 100_000, &[7; 50_000])
        .expect("write");
    let store = &bench.store;
    store.put_record("run", b"1", b"gone").expect("a record");
    store.put_record("build", b"1", b"kept").expect("a record");
    let done = bench.backup().expect("a backup");
    assert_eq!((done.volumes, done.blobs, done.copied), (1, 1, 0));
    assert_eq!((done.rotted, done.missing), (vec![], vec![]));
    assert_eq!(
        done.path,
        bench.path("backup/1").canonicalize().expect("it")
    );
    // What changes then is not in it.
    volume.write(&cx(), large, 0, &[8; 150_000]).expect("write");
    create(&volume, b"later");

    let (copy, volumes) = bench.restored("new/place");
    sound(&copy, Some(&volumes));
    assert_ne!(copy.store_id(), store.store_id());
    assert_ne!(copy.secret(), store.secret(), "old handles mean nothing");
    assert_eq!(copy.steps().expect("steps"), store.steps().expect("steps"));
    assert!(copy.records("run").expect("records").is_empty());
    assert_eq!(copy.records("build").expect("records").len(), 1);
    let id = volumes.list()[0].id;
    let tree = volumes.get(id).expect("the volume");
    assert_eq!(content(&tree, b"small"), b"a few bytes");
    let large = content(&tree, b"large");
    assert!(large[..100_000].iter().all(|b| *b == 0) && large[100_000..] == [7; 50_000]);
    assert!(tree.lookup(&Creds::ROOT, ROOT, b"later").is_err());
    assert!(tree.lookup(&Creds::ROOT, ROOT, b"dir").is_ok(), "its base");
    // It goes on as any store does.
    create(&tree, b"new");
    let again = two_files(&copy, 9);
    assert!(again.ordinal > 1);
    sound(&copy, Some(&volumes));
    let hole = bench.path("new/place/volumes").join(id.to_string());
    let file = std::fs::read_dir(hole).expect("list").next().expect("one");
    let meta = file.expect("one").metadata().expect("stat");
    assert!(meta.blocks() * 512 < meta.len(), "holes are holes");
}

#[test]
fn the_next_backup_copies_what_is_new_and_takes_the_place_of_the_last() {
    let bench = Bench::new();
    let first = bench.backup().expect("a backup").path;
    let inode = |at: &Path| {
        let mut files = Vec::new();
        files_below(&at.join("blobs"), &mut files).expect("list");
        let is_file = |path: &&PathBuf| path.is_file();
        let inode = |path: &PathBuf| path.metadata().expect("stat").ino();
        files.iter().filter(is_file).map(inode).collect::<Vec<_>>()
    };
    let old = inode(&first);
    assert_eq!(old.len(), 1);
    two_files(&bench.store, 2);
    // What a crash left in the making, and moved.
    std::fs::create_dir_all(bench.path("backup/2.partial/blobs")).expect("mkdir");
    std::fs::create_dir(bench.path("backup/77")).expect("mkdir");
    std::os::unix::fs::symlink("77", bench.path("backup/current.partial")).expect("a link");
    let second = bench.backup().expect("a backup");
    assert_eq!((second.blobs, second.copied), (2, 0), "both are linked");
    let new = inode(&second.path);
    assert!(new.contains(&old[0]) && new.len() == 2);
    let mut names: Vec<_> = std::fs::read_dir(bench.path("backup"))
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["2", "current", "pocker-backup"]);
    // Collected in the store, it is still in the backup, and takes no space in the store.
    let report = bench.store.gc(Default::default(), &[]).expect("gc");
    assert_eq!(report.blobs, 4, "no pocker has any of it");
    let (copy, volumes) = bench.restored("store2");
    sound(&copy, Some(&volumes));
    assert_eq!(copy.snapshots().expect("snapshots").len(), 2);
}

/// Ends the writer, also where an assertion fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every image that a volume writer makes while backups are made is one that it was in: a counter
/// is written to a large file and then to a small one, and renamed in between.
#[test]
fn a_volume_that_is_written_to_is_as_it_was_at_one_moment() {
    const FILE: u64 = 6 << 20;
    const PART: u64 = 1 << 20;
    let bench = Bench::new();
    let volume = bench.volume();
    let (first, second) = (create(&volume, b"first"), create(&volume, b"second"));
    // So large that a copy takes longer than a round of the writer.
    for file in [first, second] {
        for part in 0..FILE / PART {
            let written = volume.write(&cx(), file, part * PART, &[5; PART as usize]);
            written.expect("write");
        }
    }
    for file in [first, second] {
        volume.write(&cx(), file, FILE - 9, &[0; 4]).expect("write");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let bytes = round.to_le_bytes();
                volume.write(&cx(), first, FILE - 9, &bytes).expect("write");
                volume
                    .write(&cx(), second, FILE - 9, &bytes)
                    .expect("write");
                let name = format!("f{}", round % 5);
                let node = create(&volume, name.as_bytes());
                volume
                    .write(&cx(), node, 0, &vec![round as u8; 20_000])
                    .expect("write");
                volume
                    .remove(&cx(), ROOT, name.as_bytes())
                    .expect("removed");
                // Each costs every backup that comes.
                if round.is_multiple_of(7) && round < 280 {
                    bench.volume();
                }
            }
            round
        });
        let ends = Ends(&stop);
        let mut seen = 0;
        for n in 0..6 {
            bench.backup().expect("a backup");
            let (copy, volumes) = bench.restored(&format!("store{n}"));
            sound(&copy, Some(&volumes));
            let tree = volumes.get(volumes.list()[0].id).expect("the volume");
            let count = |name: &[u8]| {
                let node = tree.lookup(&Creds::ROOT, ROOT, name).expect("there").node;
                let mut out = Vec::new();
                tree.read(&Creds::ROOT, node.node, FILE - 9, 4, &mut out)
                    .expect("read");
                u32::from_le_bytes(out.try_into().expect("four"))
            };
            let (a, b) = (count(b"first"), count(b"second"));
            assert!(a == b || a == b + 1, "{a} {b}");
            assert!(a >= seen);
            seen = a;
        }
        drop(ends);
        assert!(writer.join().expect("a writer") >= seen && seen > 0);
    });
    sound(&bench.store, Some(&bench.volumes));
}

/// A backup waits for a volume that has its row and is not listed yet, however long that takes.
#[test]
fn a_volume_may_be_made_meanwhile() {
    let bench = Bench::new();
    bench.volume();
    let go_on = bench.volumes.stop_in_the_making();
    std::thread::scope(|scope| {
        scope.spawn(|| bench.volume());
        while !bench.volumes.is_in_the_making() {
            std::thread::yield_now();
        }
        let backup = scope.spawn(|| bench.backup());
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(go_on);
        let done = backup.join().expect("no panic").expect("a backup");
        assert_eq!(done.volumes, 2);
    });
    let (copy, volumes) = bench.restored("store2");
    sound(&copy, Some(&volumes));
}

/// On another file system blobs are copied, and what rotted is told of.
#[test]
fn copies_are_checked() {
    let bench = Bench::new();
    let shm = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let dir = shm.path().join("backup");
    let options = BackupOptions::default();
    let done = bench.store.backup(&dir, &options).expect("a backup");
    assert_eq!((done.copied, done.copied_bytes), (1, 50_000));
    let again = bench.store.backup(&dir, &options).expect("a backup");
    assert_eq!((again.blobs, again.copied), (1, 0), "linked to the last");

    two_files(&bench.store, 2);
    two_files(&bench.store, 3);
    let mut blobs = Vec::new();
    let area = &bench.store.blobs.area;
    area.each(&mut |digest| {
        blobs.push(digest);
        Ok(())
    })
    .expect("list");
    blobs.retain(|digest| !again.path.join(copy::blob_name(digest)).exists());
    let [rotted, missing] = blobs[..] else {
        panic!("{blobs:?}")
    };
    let file = std::fs::File::options()
        .write(true)
        .open(area.path(&rotted));
    file.expect("open").write_all_at(b"rot", 9).expect("write");
    std::fs::remove_file(area.path(&missing)).expect("remove");
    let third = bench.store.backup(&dir, &options).expect("a backup");
    assert_eq!((third.rotted, third.missing), (vec![rotted], vec![missing]));
    // What was copied before is whole, and what rots there is told of when it is restored.
    let restored = restore(&dir, &shm.path().join("store")).expect("restored");
    assert_eq!(restored.rotted, [rotted]);
    assert_eq!(restored.blobs, 2);
}

#[test]
fn places_that_are_something_else_are_refused() {
    let bench = Bench::new();
    let options = BackupOptions::default();
    let refused = |dir: &Path| match bench.store.backup(dir, &options) {
        Err(StoreError::NotABackup { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(&bench.path("store/inside")).contains("inside"));
    assert!(refused(bench.dir.path()).contains("inside"));
    std::fs::create_dir(bench.path("store/backups")).expect("mkdir");
    assert!(refused(&bench.path("store/backups")).contains("inside"));
    let within = bench.store.backup(&bench.path("store/backups/a"), &options);
    within.expect("there they may be");
    std::fs::create_dir(bench.path("home")).expect("mkdir");
    std::fs::write(bench.path("home/letter"), "dear").expect("write");
    assert!(refused(&bench.path("home")).contains("something else"));
    assert!(bench.path("home/letter").exists());
    std::fs::write(bench.path("file"), "").expect("write");
    assert!(bench.store.backup(&bench.path("file"), &options).is_err());
    assert!(
        bench
            .store
            .backup(&bench.path("no/where"), &options)
            .is_err()
    );
    assert!(!bench.path("no").exists());

    // Restored from what is none, and to what is something.
    let none = restore(&bench.path("home"), &bench.path("new"));
    assert!(
        matches!(none, Err(StoreError::NotABackup { .. })),
        "{none:?}"
    );
    bench.backup().expect("a backup");
    for taken in ["store", "home", "file"] {
        let done = restore(&bench.path("backup"), &bench.path(taken));
        assert!(matches!(done, Err(StoreError::Occupied { .. })), "{done:?}");
    }
    std::fs::create_dir(bench.path("empty")).expect("mkdir");
    restore(&bench.path("backup"), &bench.path("empty")).expect("an empty folder will do");
    let held = Place::open(&bench.path("backup")).expect("held");
    assert!(refused(&bench.path("backup")).contains("at work"));
    drop(held);
    // Of a program to come.
    let db = Connection::open(bench.path("backup/current/index.db")).expect("open");
    db.pragma_update(None, "user_version", 99)
        .expect("a format");
    drop(db);
    let newer = restore(&bench.path("backup"), &bench.path("new"));
    assert!(
        matches!(newer, Err(StoreError::Newer { found: 99, .. })),
        "{newer:?}"
    );
    assert!(!bench.path("new").exists() && !bench.path("new.restoring").exists());
}

/// A collection waits for no backup, and the other way round.
#[test]
fn collections_and_backups_are_one_at_a_time() {
    let bench = Bench::new();
    let between = || {
        let done = bench.backup();
        assert!(matches!(done, Err(StoreError::Collecting)), "{done:?}");
    };
    bench
        .store
        .collect(Default::default(), &[], between)
        .expect("gc");
    bench.backup().expect("a backup");
}

#[test]
fn a_disk_without_room_for_the_backup_is_the_one_that_is_named() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let bench = Bench::new();
    bench.volume();
    let disk = tempfile::tempdir().expect("tempdir");
    let mut failed = 0;
    // Of every size up to one that is enough: another file meets the end of it each time.
    for pages in (8..).step_by(3) {
        let size = format!("size={}k", 4 * pages);
        let kind = Some("tmpfs");
        mount(
            kind,
            disk.path(),
            kind,
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .expect("mount");
        let done = bench.backup_to(&disk.path().join("backups"));
        umount2(disk.path(), MntFlags::MNT_DETACH).expect("unmounted");
        let Err(e) = done else { break };
        let there = matches!(&e, StoreError::Full { path, .. } if path.starts_with(disk.path()));
        assert!(there, "{size}: {e}");
        failed += 1;
    }
    assert!(failed > 3, "{failed}");
}
