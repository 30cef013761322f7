//! Snapshots of volumes that are written to, roll backs and clones: each is what a model says,
//! also after the machine's power failed.

use super::probe::Rng;
use super::world::{Numbers, make, same_tree};
use super::*;
use pocker_testing::language::{self, Op};
use pocker_testing::model::{Model, ROOT_ID};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const LARGE: usize = 3 << 20;

/// A number at an offset of a file: which write it was.
fn stamp(tree: &WorkTree, file: Node, offset: usize, nth: u64) {
    let block = nth.to_le_bytes().repeat(512);
    tree.write(&root(9), file, offset as u64, &block).unwrap();
}

/// Where write `nth` goes: file and offset.
fn place(nth: u64) -> (usize, usize) {
    let blocks = (LARGE / 4096) as u64;
    let at = nth.wrapping_mul(7919) % (2 * blocks);
    ((at / blocks) as usize, (at % blocks) as usize * 4096)
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of two files that are written to all the time a snapshot has what was there after one write,
/// and nothing of a later one.
#[test]
fn a_snapshot_is_of_one_moment() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let files = [b"one", b"two"].map(|name| tree.file(ROOT, name, &vec![0; LARGE]));
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            for nth in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (file, offset) = place(nth);
                stamp(&tree, files[file], offset, nth);
                written.store(nth, Ordering::Relaxed);
            }
        });
        // Also where this fails.
        let _ended = Ends(&stop);
        let mut made = Vec::new();
        for round in 1..=6 {
            let begun = written.load(Ordering::Relaxed) + 50 * round;
            while written.load(Ordering::Relaxed) < begun {
                std::thread::yield_now();
            }
            made.push(bench.works().snapshot(tree.id()).unwrap());
        }
        made
    });
    for snapshot in made {
        let sealed = bench.store.sealed(&snapshot.sealed.snapshot).unwrap();
        let contents = [&b"one"[..], b"two"].map(|name| {
            let found = sealed.lookup(&Creds::ROOT, ROOT, name).unwrap();
            slurp(&*sealed, found.node.node)
        });
        let stamps = contents.iter().flat_map(|c| c.chunks(4096)).map(|block| {
            let nth: [u8; 8] = block[..8].try_into().unwrap();
            assert!(block.chunks(8).all(|word| word == nth), "a torn block");
            u64::from_le_bytes(nth)
        });
        let last = stamps.max().unwrap();
        assert!(last > 0);
        let mut model = [vec![0; LARGE], vec![0; LARGE]];
        for nth in 1..=last {
            let (file, offset) = place(nth);
            model[file][offset..offset + 4096].copy_from_slice(&nth.to_le_bytes().repeat(512));
        }
        assert!(contents == model, "not what there was after write {last}");
    }
    let mut model = [vec![0; LARGE], vec![0; LARGE]];
    for nth in 1..=written.load(Ordering::Relaxed) {
        let (file, offset) = place(nth);
        model[file][offset..offset + 4096].copy_from_slice(&nth.to_le_bytes().repeat(512));
    }
    assert!(
        files.map(|file| tree.slurp(file)) == model,
        "the volume lost a write"
    );
    sound(&bench);
}

/// What changes between the snapshot's moment and its end is not in it, whatever it is.
#[test]
fn what_comes_later_is_not_in_it() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let before = vec![1; 1 << 20];
    let names = [
        &b"same"[..],
        b"written",
        b"cut",
        b"longer",
        b"gone",
        b"moved",
    ];
    let nodes = names.map(|name| tree.file(ROOT, name, &before));
    let (mut moment, batch) = bench.works().moment(&tree).unwrap();
    tree.write(&root(9), nodes[1], 500_000, &[2; 100_000])
        .unwrap();
    let size = Some(70_000);
    let none = SetAttr::default();
    tree.setattr(&root(9), nodes[2], &SetAttr { size, ..none }, None)
        .unwrap();
    tree.write(&root(9), nodes[2], 200_000, &[3; 10]).unwrap();
    tree.write(&root(9), nodes[3], 1 << 20, &[4; 10]).unwrap();
    tree.remove(&root(9), ROOT, b"gone").unwrap();
    tree.rename(&root(9), ROOT, b"moved", ROOT, b"away")
        .unwrap();
    let after = [0, 1, 2, 3, 5].map(|n| tree.slurp(nodes[n]));
    let made = bench
        .works()
        .seal_moment(&tree, &mut moment, batch)
        .unwrap();
    bench.works().retire(&tree, &moment.shots);
    drop(moment);
    let sealed = bench.store.sealed(&made.0.snapshot).unwrap();
    let listed = list(&*sealed, ROOT, 10);
    assert_eq!(listed.len(), names.len());
    for (name, node, _) in listed {
        assert!(slurp(&*sealed, node) == before, "{}", name.escape_ascii());
    }
    assert!([0, 1, 2, 3, 5].map(|n| tree.slurp(nodes[n])) == after);
    // The one that did not change is the snapshot's blob, and is not when it is written to.
    let path = bench.store.dir().join(format!("volumes/{}", tree.id()));
    assert!(!path.join(nodes[0].to_string()).exists());
    assert!(path.join(nodes[1].to_string()).exists());
    tree.write(&root(10), nodes[0], 5, b"new").unwrap();
    tree.commit(nodes[0]).unwrap();
    let same = sealed.lookup(&Creds::ROOT, ROOT, b"same").unwrap();
    assert!(slurp(&*sealed, same.node.node) == before);
    sound(&bench);
}

/// Between the link into the blob area and the end of a snapshot a writer gets a copy, and so it
/// does after a snapshot that failed.
#[test]
fn a_writer_never_reaches_a_blob() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let file = tree.file(ROOT, b"file", &vec![1; 1 << 20]);
    let (mut moment, batch) = bench.works().moment(&tree).unwrap();
    let made = bench
        .works()
        .seal_moment(&tree, &mut moment, batch)
        .unwrap()
        .0;
    // Sealed, and not yet told the volume.
    tree.write(&root(9), file, 10, &[2; 10]).unwrap();
    bench.works().retire(&tree, &moment.shots);
    drop(moment);
    let sealed = bench.store.sealed(&made.snapshot).unwrap();
    let found = sealed.lookup(&Creds::ROOT, ROOT, b"file").unwrap();
    assert!(slurp(&*sealed, found.node.node) == vec![1; 1 << 20]);
    assert_eq!(
        tree.slurp(file)[8..22],
        [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1]
    );
    tree.commit(file).unwrap();
    sound(&bench);
}

/// A write that failed halfway has changed the file all the same: the file as it is then does not
/// become the blob of what it was.
#[test]
fn a_write_that_failed_halfway_is_a_change() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let file = tree.file(ROOT, b"file", &vec![1; 1 << 20]);
    let (mut moment, batch) = bench.works().moment(&tree).unwrap();
    bench.syncs.probe.torn.store(true, Ordering::Relaxed);
    let torn = tree.write(&root(9), file, 0, &vec![2; 1 << 19]);
    assert_eq!(torn, Err(Errno::Io));
    let made = bench
        .works()
        .seal_moment(&tree, &mut moment, batch)
        .unwrap()
        .0;
    bench.works().retire(&tree, &moment.shots);
    drop(moment);
    let sealed = bench.store.sealed(&made.snapshot).unwrap();
    let found = sealed.lookup(&Creds::ROOT, ROOT, b"file").unwrap();
    assert!(slurp(&*sealed, found.node.node) == vec![1; 1 << 20]);
    assert_eq!(tree.slurp(file)[(1 << 18) - 1..][..2], [2, 1]);
    // One that made the file longer leaves nothing behind its end.
    let file = tree.file(ROOT, b"longer", &vec![1; 100_000]);
    bench.syncs.probe.torn.store(true, Ordering::Relaxed);
    let torn = tree.write(&root(9), file, 100_000, &[2; 10_000]);
    assert_eq!(torn, Err(Errno::Io));
    bench.works().snapshot(tree.id()).unwrap();
    bench.syncs.probe.torn.store(true, Ordering::Relaxed);
    let torn = tree.write(&root(9), file, 100_000, &[2; 10_000]);
    assert_eq!(torn, Err(Errno::Io));
    tree.write(&root(9), file, 110_000, &[3]).unwrap();
    let data = tree.slurp(file);
    assert!(data[..100_000].iter().all(|b| *b == 1) && data[100_000..110_000] == [0; 10_000]);
    sound(&bench);
}

/// A file takes its name over from the blob that it was while another COMMIT syncs what was there
/// before: that has not made the new name stable.
#[test]
fn a_name_that_changes_under_a_sync_is_synced_after_it() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let file = tree.file(ROOT, b"file", &vec![1; 1 << 20]);
    tree.commit(file).unwrap();
    tree.write(&root(9), file, 0, &[2; 10]).unwrap();
    let (mut moment, batch) = bench.works().moment(&tree).unwrap();
    bench
        .works()
        .seal_moment(&tree, &mut moment, batch)
        .unwrap();
    drop(moment);
    let (syncs, files) = (&bench.syncs, || bench.syncs.stats().files);
    let before = files();
    std::thread::scope(|scope| {
        syncs.probe.stick(true);
        let commit = scope.spawn(|| tree.commit(file));
        while files() == before {
            std::thread::yield_now();
        }
        let wrote = tree.write(&root(9), file, 0, &[3; 10]);
        syncs.probe.stick(false);
        commit.join().unwrap().unwrap();
        wrote.unwrap();
    });
    let before = files();
    tree.commit(file).unwrap();
    assert_eq!(files() - before, 2, "the file and its folder");
    sound(&bench);
}

/// The next snapshot reads only what changed since.
#[test]
fn what_it_costs_follows_what_changed() {
    let mut bench = Bench::volumes();
    let tree = bench.volume(None);
    let files: Vec<Node> = (0..20)
        .map(|n| tree.file(ROOT, format!("f{n}").as_bytes(), &vec![n; 200_000]))
        .collect();
    let first = bench.works().snapshot(tree.id()).unwrap().sealed;
    assert_eq!((first.files, first.bytes), (20, 20 * 200_000));
    let own = tree.own().unwrap();
    assert_eq!(
        own,
        (20, 20 * 200_000),
        "the volume has them, wherever they are"
    );
    tree.write(&root(9), files[3], 70_000, b"x").unwrap();
    let second = bench.works().snapshot(tree.id()).unwrap().sealed;
    assert_eq!((second.files, second.bytes), (1, 200_000));
    let third = bench.works().snapshot(tree.id()).unwrap().sealed;
    assert_eq!((third.files, third.snapshot), (0, second.snapshot));
    let (id, held) = (tree.id(), tree.held().unwrap());
    assert_eq!(held.bytes, 0, "the files are blobs");
    drop(tree);
    bench.reopen();
    assert_eq!(bench.works().get(id).unwrap().held().unwrap(), held);
    sound(&bench);
}

/// Collection leaves what only the volume has of a snapshot that is gone.
#[test]
fn collection_knows_a_volumes_blobs() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let file = tree.file(ROOT, b"file", &vec![1; 200_000]);
    let small = tree.file(ROOT, b"small", &vec![1; 20_000]);
    let made = bench.works().snapshot(tree.id()).unwrap();
    let snapshot = made.sealed.snapshot;
    drop(made);
    let collect = || collect(&bench);
    assert_eq!(collect().snapshots, 1);
    assert!(bench.store.sealed(&snapshot).is_err());
    assert!(tree.slurp(file) == vec![1; 200_000]);
    assert!(tree.slurp(small) == vec![1; 20_000]);
    tree.remove(&root(9), ROOT, b"file").unwrap();
    assert_eq!(collect().blobs, 1);
    assert!(tree.slurp(small) == vec![1; 20_000]);
    sound(&bench);
}

fn collect(bench: &Bench) -> crate::GcReport {
    let roots = || {
        let blobs = bench.works().blobs().unwrap();
        let roots = crate::GcRoots {
            blobs,
            ..Default::default()
        };
        Ok((crate::GcOptions::default(), roots))
    };
    bench.store.gc_with(roots).unwrap()
}

/// Collection leaves what a snapshot in the making has of files that are gone from the volume.
#[test]
fn collection_knows_a_snapshot_in_the_making() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let names = [&b"whole"[..], b"based"];
    let nodes = [1, 2].map(|n| tree.file(ROOT, names[n - 1], &vec![n as u8; 200_000]));
    drop(bench.works().snapshot(tree.id()).unwrap());
    // Over its blob now.
    tree.write(&root(9), nodes[1], 0, &[2]).unwrap();
    let (mut moment, batch) = bench.works().moment(&tree).unwrap();
    for name in names {
        tree.remove(&root(9), ROOT, name).unwrap();
    }
    assert_eq!(collect(&bench).blobs, 0);
    let made = bench.works().seal_moment(&tree, &mut moment, batch);
    let sealed = made.unwrap().0.snapshot;
    drop(moment);
    let sealed = bench.store.sealed(&sealed).unwrap();
    for (name, byte) in names.into_iter().zip(1..) {
        let found = sealed.lookup(&Creds::ROOT, ROOT, name).unwrap();
        assert!(slurp(&*sealed, found.node.node) == vec![byte; 200_000]);
    }
    sound(&bench);
}

/// Who has handles of a tree that was rolled back finds them stale.
#[test]
fn a_roll_back_is_another_tree() {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let file = tree.file(ROOT, b"file", b"old");
    let made = bench.works().snapshot(tree.id()).unwrap().sealed.snapshot;
    tree.write(&root(9), file, 0, b"new").unwrap();
    let new = bench.works().roll_back(tree.id(), made).unwrap();
    assert_eq!(tree.getattr(file), Err(Errno::Stale));
    assert!(bench.works().get(tree.id()).is_err());
    assert_ne!(new.id(), tree.id());
    let found = new.find(ROOT, b"file").unwrap();
    assert_eq!(new.slurp(found.node), b"old");
    let (old, new) = (tree.info(), new.info());
    assert_eq!((&old.label, old.created), (&new.label, new.created));
    let missing = bench.works().roll_back(new.id, Digest([9; 32]));
    assert!(missing.is_err());
    assert!(bench.works().get(new.id).is_ok(), "nothing was changed");
    sound(&bench);
}

/// The power fails wherever it can, while a snapshot is made, written over and gone back to.
#[test]
fn a_snapshot_and_a_roll_back_are_done_or_not() {
    (1..=4).for_each(done_or_not);
}

fn done_or_not(seed: u64) {
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let contents = [
        vec![1; 70_000],
        vec![1; 70_000],
        vec![2; 70_000],
        vec![1; 70_000],
    ];
    let file = tree.file(ROOT, b"file", &contents[0]);
    tree.commit(file).unwrap();
    let probe = &bench.syncs.probe;
    probe.watch(bench.store.dir(), seed, 1);
    let made = bench.works().snapshot(tree.id()).unwrap();
    probe.answered(0);
    tree.write(&root(9), file, 0, &contents[2]).unwrap();
    tree.commit(file).unwrap();
    probe.answered(1);
    let snapshot = made.sealed.snapshot;
    bench.works().roll_back(tree.id(), snapshot).unwrap();
    probe.answered(2);
    let images = probe.images();
    assert!(images.len() > 8, "{} crashes", images.len());
    for image in images {
        let bench = Bench::at(image.dir, Durability::Disk, b"the next boot");
        let all = bench.works().list();
        let what = format!("step {}, in flight: {}", image.step, image.in_flight);
        assert_eq!(all.len(), 1, "{what}: the volume is there once");
        let tree = bench.works().get(all[0].id).unwrap();
        let data = tree.slurp(tree.find(ROOT, b"file").unwrap().node);
        let after = data == contents[image.step + 1];
        // A write may have been done in part.
        let before = image.in_flight && (image.step == 1 || data == contents[image.step]);
        assert!(after || before, "{what}");
    }
}

fn sound(bench: &Bench) {
    let options = crate::FsckOptions {
        volumes: Some(bench.works()),
        ..Default::default()
    };
    let report = bench.store.fsck(&options, &|_| ()).unwrap();
    assert_eq!(report.findings, []);
    let left = std::fs::read_dir(bench.store.dir().join("volumes")).unwrap();
    let mut names = left.map(|file| file.unwrap().file_name());
    let shots = names.any(|name| name.to_str().unwrap().contains("shots"));
    assert!(!shots, "a snapshot left something");
}

/// Random operations, snapshots, roll backs, clones and restarts.
#[test]
fn any_history_is_the_models() {
    for seed in seeds() {
        println!("seed {seed}");
        history(seed, None);
    }
}

/// The same, with a power that fails.
#[test]
fn any_history_survives_the_machine() {
    let seed = seeds().start;
    println!("seed {seed}");
    history(seed, Some(seed));
}

fn seeds() -> std::ops::Range<u64> {
    let first = std::env::var("POCKER_TEST_SEED").map_or(1, |s| s.parse().unwrap());
    first..first + 2
}

/// What a volume was, for a crash to be compared with.
struct Known {
    before: Model,
    after: Model,
}

struct History {
    bench: Bench,
    tree: Arc<WorkTree>,
    model: Model,
    numbers: Numbers,
    snapshots: Vec<(Digest, Model)>,
    known: Vec<Known>,
}

fn history(seed: u64, power: Option<u64>) {
    let mut rng = Rng(seed);
    let bench = Bench::volumes();
    let tree = bench.volume(None);
    let mut h = History {
        tree,
        bench,
        model: Model::new(language::at(1)),
        numbers: Numbers::from([(ROOT_ID, ROOT)]),
        snapshots: Vec::new(),
        known: Vec::new(),
    };
    if let Some(seed) = power {
        h.bench.syncs.probe.watch(h.bench.store.dir(), seed, 6);
    }
    for round in 0..24 {
        h.some(&mut rng, power.is_some());
        match rng.below(5) {
            // Something to go back to first.
            _ if round == 2 => h.snapshot(),
            0 | 1 => h.snapshot(),
            2 if !h.snapshots.is_empty() => h.roll_back(&mut rng),
            3 if !h.snapshots.is_empty() => h.clone_one(&mut rng),
            4 if power.is_none() => h.reopen(),
            _ => {}
        }
    }
    same_tree("at the end", &*h.tree, &h.model);
    assert!(!h.snapshots.is_empty());
    let Some(_) = power else {
        return sound(&h.bench);
    };
    let images = h.bench.syncs.probe.images();
    println!("{} crashes", images.len());
    assert!(images.len() > 10, "{} crashes", images.len());
    let History { bench, known, .. } = h;
    drop((h.tree, bench));
    for (n, image) in images.into_iter().enumerate() {
        let boot = format!("boot {n}");
        let bench = Bench::at(image.dir, Durability::Disk, boot.as_bytes());
        let all = bench.works().list();
        let volumes: Vec<_> = all.iter().filter(|info| info.label == b"v").collect();
        assert_eq!(volumes.len(), 1, "the volume is there once");
        let tree = bench.works().get(volumes[0].id).unwrap();
        let known = &known[image.step];
        let is = |model: &Model| {
            let same = || same_tree("after a crash", &*tree, model);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(same)).is_ok()
        };
        let found = is(&known.after) || (image.in_flight && is(&known.before));
        assert!(found, "step {}, in flight {}", image.step, image.in_flight);
        if n % 8 == 0 {
            sound(&bench);
        }
    }
}

impl History {
    fn some(&mut self, rng: &mut Rng, power: bool) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&rng.next().to_le_bytes());
        let generator = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), generator);
        for step in language::steps(16).new_tree(&mut runner).unwrap().current() {
            // A write that a crash cut is the test's of power alone.
            let torn = matches!(step.op, Op::Write(..) | Op::Truncate(..)) && power;
            if torn || matches!(step.op, Op::Seal | Op::Reopen | Op::Same) {
                continue;
            }
            self.model.now.secs += step.later;
            let call = language::resolve(&self.model, &step);
            let before = self.model.clone();
            let outcome = self.model.apply(&call);
            make(&self.tree, &mut self.numbers, &self.model, &call, outcome);
            self.answered(before);
        }
    }

    fn answered(&mut self, before: Model) {
        let after = self.model.clone();
        self.known.push(Known { before, after });
        if self.bench.syncs.probe.holds_the_carrier() {
            self.bench.syncs.probe.answered(self.known.len() - 1);
        }
    }

    fn snapshot(&mut self) {
        let made = self.bench.works().snapshot(self.tree.id()).unwrap();
        let mut sealed = self.model.clone();
        sealed.sealed();
        same_tree("a snapshot", &*made.tree, &sealed);
        same_tree("the volume after it", &*self.tree, &self.model);
        self.snapshots.push((made.sealed.snapshot, sealed));
        self.answered(self.model.clone());
    }

    fn roll_back(&mut self, rng: &mut Rng) {
        let to = rng.below(self.snapshots.len() as u64) as usize;
        let (digest, model) = self.snapshots[to].clone();
        let old = self.tree.id();
        self.tree = self.bench.works().roll_back(old, digest).unwrap();
        assert!(self.bench.works().get(old).is_err());
        let now = self.model.now;
        let before = std::mem::replace(&mut self.model, model);
        self.model.now = now;
        self.numbers = same_tree("rolled back", &*self.tree, &self.model);
        self.answered(before);
    }

    /// What is written to a clone is its own.
    fn clone_one(&mut self, rng: &mut Rng) {
        let from = rng.below(self.snapshots.len() as u64) as usize;
        let (digest, model) = self.snapshots[from].clone();
        let works = self.bench.works();
        let clone = works.create(Some(digest), WorkClass::Volume, b"clone", at(1));
        let clone = clone.unwrap();
        same_tree("a clone", &*clone, &model);
        clone.dir(ROOT, b"the clone's own");
        same_tree("the volume beside a clone", &*self.tree, &self.model);
        works.drop_tree(clone.id()).unwrap();
    }

    fn reopen(&mut self) {
        let id = self.tree.id();
        self.bench.reopen();
        self.tree = self.bench.works().get(id).unwrap();
        same_tree("opened again", &*self.tree, &self.model);
    }
}
