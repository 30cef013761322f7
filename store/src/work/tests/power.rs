//! The machine's power fails at any moment: what was answered is there after, what was not is
//! there whole or not at all, and life goes on from there.

use super::model::{Id, MNode, Model, ROOT_ID};
use super::ops::{self, Op};
use super::probe::{Image, Rng};
use super::world::{World, same_tree};
use super::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    let mut bench = Bench::volumes();
    let (snapshot, model, pairs) = base(&mut bench);
    let tree = bench.volume(Some(snapshot));
    let id = tree.id();
    drop(tree);
    let mut life = (bench, model, pairs);
    let mut crashes = 0;
    for _ in 0..LIVES {
        let (mut bench, model, pairs) = life;
        let states = live(&mut bench, id, model, pairs, &mut rng);
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

type Pairs = Vec<(Id, Node)>;

/// A snapshot with a file of each size and a few names.
fn base(bench: &mut Bench) -> (Digest, Model, Pairs) {
    let tree = Some(bench.empty());
    let mut w = World {
        bench,
        tree,
        model: Model::new(at(1)),
        pairs: vec![(ROOT_ID, ROOT)],
    };
    let top = (ROOT_ID, ROOT);
    let dir = ops::make(&mut w, Kind::Dir, top, 0, 0o777);
    for (name, len) in [(1, 10), (2, 16_384), (4, 250_000)] {
        let file = ops::make(&mut w, Kind::File, dir, name, 0o666);
        ops::given(&mut w, Op::Write(0, 0, len, name), file, top);
    }
    let sealed = w.seal();
    let id = w.tree().id();
    w.tree = None;
    let (model, pairs) = (w.model.clone(), w.pairs.clone());
    bench.works().drop_tree(id).unwrap();
    (sealed.snapshot, model, pairs)
}

/// What there was before a step, and what after.
struct State {
    before: Model,
    after: Model,
    /// A file whose bytes the step changed.
    file: Option<Id>,
    pairs: Pairs,
}

/// Random operations, each made stable before it is answered.
fn live(bench: &mut Bench, id: u64, model: Model, pairs: Pairs, rng: &mut Rng) -> Vec<State> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&rng.next().to_le_bytes());
    let generator = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), generator);
    let tree = Some(bench.works().get(id).unwrap());
    let syncs = Arc::clone(&bench.syncs);
    let dir = bench.store.dir().to_owned();
    let mut w = World {
        bench,
        tree,
        model,
        pairs,
    };
    w.tree().writer.turn_after(TURN);
    w.tree().writer.settle().unwrap();
    syncs.probe.watch(&dir, rng.next(), 8);
    let mut states = Vec::new();
    while states.len() < 150 {
        for step in ops::steps().new_tree(&mut runner).unwrap().current() {
            if matches!(step.op, Op::Seal | Op::Reopen) {
                continue;
            }
            let before = w.model.clone();
            ops::run(&mut w, &step);
            stable(&w.tree());
            let after = w.model.clone();
            let file = match step.op {
                Op::Write(..) | Op::Truncate(..) => changed(&before, &after),
                _ => None,
            };
            states.push(State {
                before,
                after,
                file,
                pairs: w.pairs.clone(),
            });
            syncs.probe.answered(states.len() - 1);
            if rng.one_in(20) {
                w.tree().writer.settle().unwrap();
            }
        }
    }
    w.same("at the end");
    // Of what was in flight in no step there is no image.
    states.push(State {
        before: w.model.clone(),
        after: w.model.clone(),
        file: None,
        pairs: w.pairs.clone(),
    });
    states
}

/// COMMIT of every file.
fn stable(tree: &WorkTree) {
    let files: Vec<Node> = {
        let st = tree.view().unwrap();
        let staged = st.nodes.iter().filter(|(_, n)| n.staged().is_some());
        staged.map(|(n, _)| *n).collect()
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
fn recovered(image: Image, id: u64, states: &[State]) -> (Bench, Model, Pairs) {
    let Image {
        dir,
        step,
        in_flight,
    } = image;
    let state = &states[step];
    let mut bench = Bench::at(dir, Durability::Disk, b"the next boot");
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
            half_done(&*tree, state, file, &mut model);
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
    for (id, n) in &state.pairs {
        if let Some(number) = numbers.get(id) {
            assert_eq!(number, n, "a handle names what it named before");
        }
    }
    model.now.secs += 10;
    let mut pairs: Pairs = numbers.into_iter().collect();
    pairs.sort_unstable();
    let mut w = World {
        bench: &mut bench,
        tree: Some(tree),
        model,
        pairs,
    };
    w.checked();
    let model = w.model.clone();
    let pairs = std::mem::take(&mut w.pairs);
    w.tree = None;
    (bench, model, pairs)
}

/// The file that a write or truncation was changing: any part of it may have been done, and
/// every byte is one that was there or is to be.
fn half_done(tree: &WorkTree, state: &State, file: Id, model: &mut Model) {
    let Some(node) = state.pairs.iter().find(|(id, _)| *id == file) else {
        return;
    };
    let Ok(attr) = tree.getattr(node.1) else {
        return;
    };
    let data = tree.slurp(node.1);
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
    (half.mtime, half.ctime, half.mode) = (attr.mtime, attr.ctime, attr.mode);
    assert!([old.mode, new.mode].contains(&attr.mode));
    if tree.listxattr(node.1).unwrap().len() == old.xattrs.len() {
        half.xattrs = old.xattrs.clone();
    } else {
        half.xattrs = new.xattrs.clone();
    }
}
