//! The machine's power fails at any moment: what was answered is there after, what was not is
//! there whole or not at all, and life goes on from there.

use super::probe::{Image, Rng};
use super::world::{Numbers, make, same_tree};
use super::*;
use pocker_testing::call::{Call, What};
use pocker_testing::language::{self, Op};
use pocker_testing::model::{Id, MNode, Model, ROOT_ID};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The journal's files take turns often here, and the database is synced often.
const TURN: u64 = 24 << 10;
/// Crashes in a row, each from what the one before left.
const LIVES: usize = 3;
const SEEDS: u64 = 3;

#[test]
fn what_was_answered_survives_the_machine() {
    let first = std::env::var("POCKER_TEST_SEED").map_or(1, |s| s.parse().unwrap());
    for seed in first..first + SEEDS {
        println!("seed {seed}");
        one_history(seed);
    }
}

fn one_history(seed: u64) {
    let mut rng = Rng(seed);
    let bench = Bench::volumes();
    let (snapshot, model, numbers) = base(&bench);
    let id = bench.volume(Some(snapshot)).id();
    let mut life = (bench, model, numbers);
    let mut crashes = 0;
    for _ in 0..LIVES {
        let (bench, model, numbers) = life;
        let states = live(&bench, id, model, numbers, &mut rng);
        let images = bench.syncs.probe.images();
        crashes += images.len();
        drop(bench);
        let next = rng.below(images.len() as u64) as usize;
        let mut went_on = None;
        for (at, image) in images.into_iter().enumerate() {
            let found = recovered(image, id, &states);
            if at == next {
                went_on = Some(found);
            }
        }
        life = went_on.unwrap();
    }
    println!("seed {seed}: {crashes} crashes");
    assert!(crashes > 60, "{crashes} crashes");
}

impl Bench {
    pub fn volume(&self, base: Option<Digest>) -> Arc<WorkTree> {
        let works = self.works();
        let tree = works.create(base, WorkClass::Volume, b"v", at(1)).unwrap();
        tree.writer.turn_after(TURN);
        tree
    }
}

/// A snapshot with a file of each size and a few names.
fn base(bench: &Bench) -> (Digest, Model, Numbers) {
    let tree = bench.empty();
    let mut model = Model::new(language::at(1));
    let mut numbers = Numbers::from([(ROOT_ID, ROOT)]);
    let mut call = |what: What| {
        let call = Call::root(what);
        let outcome = model.apply(&call);
        make(&tree, &mut numbers, &model, &call, outcome);
        outcome.unwrap()
    };
    let new = |kind, dir, name: &[u8]| What::Make {
        kind,
        dir,
        name: name.to_vec(),
        mode: 0o777,
        guarded: true,
    };
    use pocker_testing::types::Kind::{Dir, File};
    let dir = call(new(Dir, ROOT_ID, b"a"));
    for (name, len) in [
        (&b"b"[..], 10),
        (b"c", 16_384),
        (b"e", 250_000),
        (b"g", 90_000),
    ] {
        let file = call(new(File, dir, name));
        call(What::Write {
            file,
            offset: 0,
            len,
            seed: name[0],
        });
    }
    let sealed = bench.works().seal(tree.id(), &SealOptions::default());
    let snapshot = sealed.unwrap().snapshot;
    model.sealed();
    let tree = bench.store.sealed(&snapshot).unwrap();
    let numbers = same_tree("sealed", &*tree, &model);
    (snapshot, model, numbers)
}

/// What there was before a step, and what after.
struct State {
    before: Model,
    after: Model,
    /// A file whose bytes the step changed.
    file: Option<Id>,
    numbers: Numbers,
}

/// Random operations, each made stable before it is answered.
fn live(
    bench: &Bench,
    id: u64,
    mut model: Model,
    mut numbers: Numbers,
    rng: &mut Rng,
) -> Vec<State> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&rng.next().to_le_bytes());
    let generator = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), generator);
    let tree = bench.works().get(id).unwrap();
    let probe = &bench.syncs.probe;
    tree.writer.turn_after(TURN);
    tree.writer.settle().unwrap();
    probe.watch(bench.store.dir(), rng.next(), 8);
    let mut states = Vec::new();
    while states.len() < 150 {
        for step in language::steps(80).new_tree(&mut runner).unwrap().current() {
            if matches!(step.op, Op::Seal | Op::Reopen | Op::Same) {
                continue;
            }
            model.now.secs += step.later;
            let call = language::resolve(&model, &step);
            let before = model.clone();
            let outcome = model.apply(&call);
            make(&tree, &mut numbers, &model, &call, outcome);
            stable(&tree);
            let file = match call.what {
                What::Write { .. } | What::Truncate { .. } => changed(&before, &model),
                _ => None,
            };
            states.push(State {
                before,
                after: model.clone(),
                file,
                numbers: numbers.clone(),
            });
            probe.answered(states.len() - 1);
            if rng.one_in(20) {
                tree.writer.settle().unwrap();
            }
        }
    }
    same_tree("at the end", &*tree, &model);
    states
}

/// COMMIT of every file.
fn stable(tree: &WorkTree) {
    let files: Vec<Node> = {
        let st = tree.view().unwrap();
        let staged = st.nodes.iter().filter(|(_, n)| n.staged().is_some());
        staged.map(|(n, _)| n).collect()
    };
    for node in files.into_iter().chain([ROOT]) {
        tree.commit(node).unwrap();
    }
}

fn changed(before: &Model, after: &Model) -> Option<Id> {
    let differs = |(id, node): &(&Id, &MNode)| {
        let old = before.nodes.get(id);
        old.is_some_and(|old| old.ctime != node.ctime)
    };
    after.nodes.iter().find(differs).map(|(id, _)| *id)
}

/// Opens what a crash left, on another boot, and finds the state before the step or after it.
fn recovered(image: Image, id: u64, states: &[State]) -> (Bench, Model, Numbers) {
    let Image {
        dir,
        step,
        in_flight,
    } = image;
    let state = &states[step];
    static BOOTS: AtomicU64 = AtomicU64::new(0);
    let boot = format!("boot {}", BOOTS.fetch_add(1, Ordering::Relaxed));
    let bench = Bench::at(dir, Durability::Disk, boot.as_bytes());
    let tree = bench.works().get(id).unwrap();
    let candidates = match in_flight {
        true => vec![&state.after, &state.before],
        false => vec![&state.after],
    };
    let mut failed = None;
    let mut found = None;
    for model in candidates {
        let mut model = model.clone();
        if in_flight && let Some(file) = state.file {
            half_done(&tree, state, file, &mut model);
        }
        let same = || same_tree("after the crash", &*tree, &model);
        match catch_unwind(AssertUnwindSafe(same)) {
            Ok(numbers) => {
                found = Some((model, numbers));
                break;
            }
            Err(panic) => failed = Some(panic),
        }
    }
    let Some((mut model, numbers)) = found else {
        println!("step {step}, in flight: {in_flight}");
        std::panic::resume_unwind(failed.unwrap());
    };
    for (id, n) in &state.numbers {
        if let Some(number) = numbers.get(id) {
            assert_eq!(number, n, "a handle names what it named before");
        }
    }
    // Those that are gone have theirs too: it leads nowhere.
    let mut all = state.numbers.clone();
    all.extend(numbers);
    all.retain(|id, _| model.drawn.contains(id));
    model.now.secs += 10;
    let options = crate::FsckOptions {
        volumes: Some(bench.works()),
        ..Default::default()
    };
    let report = bench.store.fsck(&options, &|_| ()).unwrap();
    assert_eq!(report.findings, []);
    (bench, model, all)
}

/// The file that a write or truncation was changing: any part of it may have been done, and
/// every byte is one that was there or is to be.
fn half_done(tree: &WorkTree, state: &State, file: Id, model: &mut Model) {
    let Some(node) = state.numbers.get(&file) else {
        return;
    };
    let Ok(attr) = tree.getattr(*node) else {
        return;
    };
    let data = tree.slurp(*node);
    let (old, new) = (&state.before.nodes[&file], &state.after.nodes[&file]);
    for (at, byte) in data.iter().enumerate() {
        let (old, new) = (old.data.get(at), new.data.get(at));
        let hole = *byte == 0 && (old.is_none() || new.is_none());
        assert!(
            old == Some(byte) || new == Some(byte) || hole,
            "byte {at} is {byte}, was {old:?}, was to be {new:?}"
        );
    }
    assert!(data.len() >= old.data.len().min(new.data.len()));
    let half = model.nodes.get_mut(&file).unwrap();
    half.data = data;
    let time = |t: Time| pocker_testing::types::Time {
        secs: t.secs,
        nanos: t.nanos,
    };
    (half.mtime, half.ctime) = (time(attr.mtime), time(attr.ctime));
    half.mode = attr.mode;
    assert!([old.mode, new.mode].contains(&attr.mode));
    if tree.listxattr(*node).unwrap().len() == old.xattrs.len() {
        half.xattrs = old.xattrs.clone();
    } else {
        half.xattrs = new.xattrs.clone();
    }
}
