//! The loops over all changes that a script makes.

use super::script::{Known, Script, open};
use crate::state::{Opened, State};
use libc::{EIO, ENOSPC};
use parking_lot::Mutex;
use pocker_testing::faults::{Fate, Injector, Judge, Plan, Verdict, long, points, watched};
use pocker_testing::image::{Empty, copy, folder};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

/// How many of a script's points are taken where not all are.
const SOME: u64 = 24;

/// All of it; says what it hit.
pub fn every_point(script: Script) {
    let known = Known::of(script);
    let (crashes, syncs, count, kinds) = crashes(&known);
    let mut fates = vec![Fate::Once(EIO), Fate::From(ENOSPC)];
    if long() {
        fates.extend([Fate::Once(ENOSPC), Fate::From(EIO)]);
    }
    // What a failed sync leaves is the least known.
    let of = |fate: &Fate| match fate {
        Fate::Once(EIO) => refused(&known, count, &syncs, *fate),
        fate => refused(&known, count, &[], *fate),
    };
    let refused: u64 = fates.iter().map(of).sum();
    eprintln!(
        "{}: {count} changes ({kinds}): {crashes} crashes, {refused} refused; \
         acknowledged and lost: 0",
        known.script.name
    );
}

/// The state after a fault while step `acked` (counted from 0) was under way.
fn agrees(known: &Known, acked: usize, found: &State, when: &str) {
    let last = known.states.len() - 1;
    let mut allowed = known.states[acked..=(acked + 1).min(last)].to_vec();
    let mut found = found.clone();
    if let Some((step, name)) = known.script.may_stay
        && acked >= step
    {
        let mut all: Vec<&mut State> = allowed.iter_mut().chain([&mut found]).collect();
        all.iter_mut()
            .for_each(|state| state.retain(|line, _| !line.starts_with(name)));
    }
    if allowed.contains(&found) {
        return;
    }
    let wrong: Vec<_> = found
        .iter()
        .filter(|(name, line)| allowed.iter().all(|s| s.get(*name) != Some(line)))
        .collect();
    let lost: Vec<_> = allowed[0]
        .iter()
        .filter(|(name, line)| found.get(*name) != Some(line))
        .collect();
    panic!(
        "{when}: {acked} steps were acknowledged; not expected: {wrong:#?}; not there: {lost:#?}"
    );
}

/// The store opens, is as it may be, and a check finds nothing; after a collection not even
/// waste. Answers its state.
fn whole(known: &Known, dir: &Path, acked: usize, when: &str) {
    if known.script.hurt.is_some() && dir.join("lock").exists() {
        // A copy's files are all new, and what a killed process left last goes if it has no row.
        let lock = std::fs::File::options().write(true).open(dir.join("lock"));
        let soon = SystemTime::now() + Duration::from_secs(1);
        lock.and_then(|lock| lock.set_modified(soon))
            .expect("the lock's time");
    }
    let opened = Opened::at(dir).unwrap_or_else(|e| panic!("{when}: {e}"));
    let damaged = known.script.hurt.is_some() && acked < known.script.steps.len();
    agrees(known, acked, &opened.state(), when);
    if damaged {
        // The repair goes on where it was cut short.
        again(known, &opened, 0, when);
    }
    let report = opened.fsck(false).expect("fsck");
    assert!(report.is_sound(), "{when}: {:#?}", report.findings);
    opened.gc().expect("gc");
    let report = opened.fsck(false).expect("fsck");
    assert_eq!(report.findings, [], "{when}, after gc");
}

/// The store as each change finds it: what a process that dies there leaves behind.
fn crashes(known: &Known) -> (usize, Vec<u64>, u64, String) {
    let (_dir, place) = known.place();
    let images = folder();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let acked = Arc::new(AtomicUsize::new(0));
    let injector = Injector::new(None);
    let judge: Judge = {
        let (to, from) = (images.path().to_path_buf(), place.clone());
        let (acked, count) = (Arc::clone(&acked), injector.judge());
        let (injector, taken) = (Arc::clone(&injector), Arc::clone(&taken));
        Arc::new(move |change| {
            let before = injector.seen();
            let verdict = count(change);
            if injector.seen() > before && from.exists() {
                let image = to.join(before.to_string());
                // Before the copy: another thread's last change, let through, may come during it.
                let acked = acked.load(SeqCst);
                copy(&from, &image, Empty::Left);
                taken.lock().push((image, acked, change.clone()));
            }
            verdict
        })
    };
    run(known, &place, &injector, judge, &acked).expect("no fault, no error");
    let taken = std::mem::take(&mut *taken.lock());
    let mut kinds = BTreeMap::<_, u32>::new();
    for (_, _, change) in &taken {
        *kinds.entry(change.call).or_default() += 1;
    }
    let numbered = (1..).zip(&taken);
    let syncs = numbered.filter(|(_, (_, _, change))| change.is_sync());
    let syncs = syncs.map(|(nth, _)| nth).collect();
    let mut crashed = 0;
    for nth in points(taken.len() as u64, SOME, &[]) {
        let (image, acked, change) = &taken[nth as usize - 1];
        let when = format!("{}: a crash at {nth}, before {change:?}", known.script.name);
        whole(known, image, *acked, &when);
        std::fs::remove_dir_all(image).expect("removed");
        crashed += 1;
    }
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(call, n)| format!("{n} {call}"))
        .collect();
    (crashed, syncs, injector.seen(), kinds.join(", "))
}

/// Runs the script; how many steps were acknowledged is in `acked`. After an error everything
/// is tried again without faults, and must succeed; the store is looked at in between, as
/// it is on the disk.
fn run(
    known: &Known,
    place: &Path,
    injector: &Arc<Injector>,
    judge: Judge,
    acked: &AtomicUsize,
) -> Result<(), String> {
    std::thread::scope(|scope| {
        // Not watched, so that what it does costs less: who looks at images.
        let (ask, asked) = channel::<String>();
        let (tell, told) = channel();
        scope.spawn(move || {
            for when in asked {
                image(known, place, acked.load(SeqCst), &when);
                let _ = tell.send(());
            }
        });
        let look = move |when: String| {
            ask.send(when).expect("somebody looks");
            told.recv().expect("what is on the disk is whole");
        };
        let cut = Arc::new(Cut::default());
        let judge = cut.judge(judge);
        watched(place, judge, move || {
            script(known, place, injector, &cut, acked, look)
        })
        .expect("calls can be watched; this needs Linux and root")
    })
}

/// Lets a collection end at its first removal of a blob's file: what comes behind might make good
/// what it left.
#[derive(Default)]
struct Cut {
    on: AtomicBool,
    over: AtomicBool,
}

impl Cut {
    fn judge(self: &Arc<Cut>, inner: Judge) -> Judge {
        let cut = Arc::clone(self);
        Arc::new(move |change| {
            if !cut.on.load(SeqCst) {
                return inner(change);
            }
            if cut.over.load(SeqCst) {
                return Verdict::Fail(EIO);
            }
            let blob = change.path.components().any(|c| c.as_os_str() == "blobs");
            cut.over.store(blob && change.call == "unlink", SeqCst);
            Verdict::Go
        })
    }

    fn switch(&self, on: bool) {
        self.on.store(on, SeqCst);
        self.over.store(false, SeqCst);
    }
}

fn script(
    known: &Known,
    place: &Path,
    injector: &Arc<Injector>,
    cut: &Cut,
    acked: &AtomicUsize,
    look: impl Fn(String),
) -> Result<(), String> {
    injector.switch(known.script.from_open);
    let opened = Opened::at(place).map_err(|e| e.to_string());
    injector.switch(opened.is_ok());
    let opened = opened?;
    let mut failed = None;
    for (n, step) in known.script.steps.iter().enumerate() {
        acked.store(n, SeqCst);
        if let Err(e) = step(&opened) {
            failed = Some(e);
            break;
        }
        acked.store(n + 1, SeqCst);
    }
    if let Some(error) = &failed {
        injector.switch(false);
        let when = format!("{}: {error}", known.script.name);
        look(format!("{when}; the process dies"));
        cut.switch(true);
        let collected = opened.gc_beside_builds();
        look(format!(
            "{when}; a collection: {collected:?}, and the process dies"
        ));
        cut.switch(false);
        if !known.script.restarts {
            again(known, &opened, acked.load(SeqCst), &when);
        }
    }
    drop(opened);
    injector.switch(false);
    failed.map_or(Ok(()), Err)
}

/// The store as it is on the disk now.
fn image(known: &Known, place: &Path, acked: usize, when: &str) {
    let images = folder();
    let image = images.path().join("store");
    copy(place, &image, Empty::Left);
    whole(known, &image, acked, when);
}

/// Each change refused, until none is left to be. A run may make a few more or less than the
/// `count` of another, as threads of the store's own are at work.
fn refused(known: &Known, count: u64, all: &[u64], fate: Fate) -> u64 {
    let mut total = 0;
    for nth in points(count, SOME, all).chain(count + 1..) {
        assert!(
            nth < 2 * count + 100,
            "{}: no end of changes",
            known.script.name
        );
        let plan = Plan { nth, fate };
        let (_dir, place) = known.place();
        let injector = Injector::new(Some(plan));
        let acked = AtomicUsize::new(0);
        let done = run(known, &place, &injector, injector.judge(), &acked);
        let when = format!("{}: {plan:?}: {done:?}", known.script.name);
        if injector.struck() == 0 {
            assert!(done.is_ok(), "{when}: without a fault");
            if injector.seen() < nth {
                return total;
            }
            continue;
        }
        total += 1;
        if done.is_err() && (known.script.from_open || known.script.restarts) {
            // It did not even open, or takes no more before it is opened again.
            again(known, &open(&place), acked.load(SeqCst), &when);
        }
        whole(known, &place, known.script.steps.len(), &when);
    }
    unreachable!("the loop ends itself")
}

/// What is not done yet, without faults.
fn again(known: &Known, opened: &Opened, acked: usize, when: &str) {
    for (n, step) in known.script.steps.iter().enumerate().skip(acked) {
        step(opened).unwrap_or_else(|e| panic!("{when}: step {n} again: {e}"));
    }
    assert_eq!(
        opened.state(),
        *known.states.last().expect("a state"),
        "{when}: tried again"
    );
}
