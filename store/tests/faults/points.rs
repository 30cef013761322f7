//! The loops over all changes that a script makes.

use crate::copy::{copy, folder};
use crate::script::{Known, Script, open};
use crate::state::{Opened, State};
use libc::{EIO, ENOSPC};
use parking_lot::Mutex;
use pocker_testing::faults::{Fate, Injector, Judge, Plan, watched};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// More changes than any script makes: the loop does not end.
const ENDLESS: u64 = 20_000;

pub fn long() -> bool {
    std::env::var_os("POCKER_LONG").is_some()
}

/// All of it; says what it hit.
pub fn every_point(script: Script) {
    let known = Known::of(script);
    let (crashes, kinds) = crashes(&known);
    let mut fates = vec![Fate::Once(EIO), Fate::From(ENOSPC)];
    if long() {
        fates.extend([Fate::Once(ENOSPC), Fate::From(EIO)]);
    }
    let refused: u64 = fates.into_iter().map(|fate| refused(&known, fate)).sum();
    eprintln!(
        "{}: {crashes} crash points ({kinds}), {refused} refused changes; acknowledged and lost: 0",
        known.script.name
    );
}

/// The state after a fault while step `acked` (counted from 0) was under way.
fn agrees(known: &Known, acked: usize, found: &State, when: &str) {
    let last = known.states.len() - 1;
    let allowed = &known.states[acked..=(acked + 1).min(last)];
    if allowed.contains(found) {
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
    panic!("{when}: {acked} steps were acknowledged; not expected: {wrong:#?}; not there: {lost:#?}");
}

/// The store opens, is as it may be, and a check finds nothing; after a collection not even
/// waste. Answers its state.
fn whole(known: &Known, dir: &Path, acked: usize, when: &str) {
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
fn crashes(known: &Known) -> (usize, String) {
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
                copy(&from, &image);
                let mut taken = taken.lock();
                taken.push((image, acked.load(SeqCst), change.clone()));
            }
            verdict
        })
    };
    run(known, &place, &injector, judge, &acked).expect("no fault, no error");
    let taken = std::mem::take(&mut *taken.lock());
    let mut kinds = BTreeMap::<_, u32>::new();
    let count = taken.len();
    for (n, (image, acked, change)) in taken.into_iter().enumerate() {
        let when = format!("{}: a crash at {n}, before {change:?}", known.script.name);
        whole(known, &image, acked, &when);
        std::fs::remove_dir_all(&image).expect("removed");
        *kinds.entry(change.call).or_default() += 1;
    }
    let kinds: Vec<_> = kinds.iter().map(|(call, n)| format!("{n} {call}")).collect();
    (count, kinds.join(", "))
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
    let all = watched(place, judge, || {
        injector.switch(known.script.from_open);
        let opened = Opened::at(place).map_err(|e| e.to_string());
        injector.switch(true);
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
            after_failure(known, &opened, place, acked.load(SeqCst), error);
        }
        drop(opened);
        injector.switch(false);
        failed.map_or(Ok(()), Err)
    });
    all.expect("calls can be watched; this needs Linux and root")
}

/// What a process that dies after the error leaves; then the steps that are not done.
fn after_failure(known: &Known, opened: &Opened, place: &Path, acked: usize, error: &str) {
    let image = |what: &str| {
        let images = folder();
        let image = images.path().join("store");
        copy(place, &image);
        let when = format!("{}: {error}; {what}", known.script.name);
        whole(known, &image, acked, &when);
    };
    image("the process dies");
    if opened.gc().is_ok() {
        image("a collection, and the process dies");
    }
    again(known, opened, acked, &format!("{}: {error}", known.script.name));
}

/// Each change refused, until none is left to be.
fn refused(known: &Known, fate: Fate) -> u64 {
    let mut total = 0;
    for nth in 1.. {
        assert!(nth < ENDLESS, "{}: no end of changes", known.script.name);
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
        if done.is_err() && known.script.from_open && acked.load(SeqCst) == 0 {
            // It did not even open.
            again(known, &open(&place), 0, &when);
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
    assert_eq!(opened.state(), *known.states.last().expect("a state"), "{when}: tried again");
}
