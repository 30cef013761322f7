//! A piece of work of which each change is refused once, and is once where the process dies.

use super::{Fate, Injector, Judge, Plan, watched};
use crate::image::{Empty, copy, folder};
use libc::{EIO, ENOSPC};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// How many points of a [`Work`] are taken where not all are.
const SOME: u64 = 12;

/// In a folder of its own, of which every change is seen.
pub struct Work<O> {
    pub name: &'static str,
    /// Puts into the folder what is there before.
    pub prepare: fn(&Path),
    /// What is open meanwhile. Changes are counted from here on, and not yet here.
    pub open: fn(&Path) -> O,
    /// May be called again after it failed, also where it had an effect after all.
    pub run: fn(&O, &Path) -> Result<(), String>,
}

/// Looks at a folder, which it may use up: whether the work is done there, or is as if it had
/// not been begun. It must be done where the second argument says so.
pub type Check<'a> = &'a (dyn Fn(&Path, bool, &str) + Sync);

pub fn long() -> bool {
    std::env::var_os("POCKER_LONG").is_some()
}

/// Which of `count` points, counted from 1, are taken: all in the long form, else `all` of these
/// and `some` at equal distances, the first at random.
pub fn points(count: u64, some: u64, all: &[u64]) -> impl Iterator<Item = u64> {
    let stride = if long() {
        1
    } else {
        count.div_ceil(some).max(1)
    };
    let first = 1 + RandomState::new().hash_one(count) % stride;
    let mut taken: BTreeSet<u64> = (first..=count).step_by(stride as usize).collect();
    taken.extend(all);
    taken.into_iter()
}

/// All of it; says what it hit.
pub fn each<O>(work: &Work<O>, check: Check<'_>) {
    let dir = folder();
    let template = dir.path().join("at");
    std::fs::create_dir(&template).expect("mkdir");
    (work.prepare)(&template);
    let bench = Bench {
        work,
        check,
        template,
    };
    let (count, names, kinds) = bench.count();
    let crashes = bench.crashes(count, &names);
    let mut fates = vec![Fate::Once(EIO), Fate::From(ENOSPC)];
    if long() {
        fates.extend([Fate::Once(ENOSPC), Fate::From(EIO)]);
    }
    let refused: u64 = fates
        .iter()
        .map(|fate| bench.refused(count, &names, *fate))
        .sum();
    eprintln!(
        "{}: {count} changes ({kinds}): {crashes} crashes, {refused} refused; \
         acknowledged and lost: 0",
        work.name
    );
}

struct Bench<'a, O> {
    work: &'a Work<O>,
    check: Check<'a>,
    template: PathBuf,
}

impl<O> Bench<'_, O> {
    /// How many changes there are without a fault, which of them move a name, and the kinds of all.
    fn count(&self) -> (u64, Vec<u64>, String) {
        let injector = Injector::new(None);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let judge: Judge = {
            let (injector, count) = (Arc::clone(&injector), injector.judge());
            let calls = Arc::clone(&calls);
            Arc::new(move |change| {
                let before = injector.seen();
                let verdict = count(change);
                if injector.seen() > before {
                    calls.lock().expect("calls").push(change.call);
                }
                verdict
            })
        };
        let (_dir, place) = self.place();
        let when = format!("{} without a fault", self.work.name);
        self.run(&place, &injector, judge, &AtomicBool::new(false), &when)
            .unwrap_or_else(|e| panic!("{when}: {e}"));
        (self.check)(&place, true, &when);
        let calls = calls.lock().expect("calls");
        let mut kinds = BTreeMap::<_, u32>::new();
        for call in calls.iter() {
            *kinds.entry(*call).or_default() += 1;
        }
        let kinds: Vec<_> = kinds
            .iter()
            .map(|(call, n)| format!("{n} {call}"))
            .collect();
        let names = (1..).zip(calls.iter());
        let names =
            names.filter(|(_, call)| call.starts_with("rename") || call.starts_with("symlink"));
        let names = names.map(|(nth, _)| nth).collect();
        (injector.seen(), names, kinds.join(", "))
    }

    /// What a process that dies before each change leaves behind.
    fn crashes(&self, count: u64, names: &[u64]) -> usize {
        let (_dir, place) = self.place();
        let images = folder();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let acked = Arc::new(AtomicBool::new(false));
        let injector = Injector::new(None);
        let judge: Judge = {
            let (injector, number) = (Arc::clone(&injector), injector.judge());
            let (from, to) = (place.clone(), images.path().to_path_buf());
            let (taken, acked) = (Arc::clone(&taken), Arc::clone(&acked));
            let wanted: BTreeSet<u64> = points(count, SOME, names).collect();
            Arc::new(move |change| {
                let before = injector.seen();
                let verdict = number(change);
                let nth = injector.seen();
                if nth > before && wanted.contains(&nth) {
                    let image = to.join(nth.to_string());
                    // Before the copy: another thread's last change, let through, may come during it.
                    let acked = acked.load(SeqCst);
                    copy(&from, &image, Empty::Left);
                    let when = format!("{nth}, before {change:?}");
                    taken.lock().expect("images").push((image, acked, when));
                }
                verdict
            })
        };
        let name = self.work.name;
        self.run(&place, &injector, judge, &acked, name)
            .expect("no fault, no error");
        let taken = std::mem::take(&mut *taken.lock().expect("images"));
        for (image, acked, at) in &taken {
            let when = format!("{name}: a crash at {at}");
            self.look(image, *acked, &when);
            self.again(image, &when);
            std::fs::remove_dir_all(image).expect("removed");
        }
        taken.len()
    }

    /// Each change refused, until none is left to be: another run may make a few more or less.
    fn refused(&self, count: u64, names: &[u64], fate: Fate) -> u64 {
        let mut total = 0;
        for nth in points(count, SOME, names).chain(count + 1..) {
            let name = self.work.name;
            assert!(nth < 2 * count + 100, "{name}: no end of changes");
            let plan = Plan { nth, fate };
            let (_dir, place) = self.place();
            let injector = Injector::new(Some(plan));
            let acked = AtomicBool::new(false);
            let when = format!("{name}: {plan:?}");
            let done = self.run(&place, &injector, injector.judge(), &acked, &when);
            if injector.struck() == 0 {
                assert!(done.is_ok(), "{when}: {done:?} without a fault");
                if injector.seen() < nth {
                    return total;
                }
                continue;
            }
            total += 1;
            if let (Err(e), Fate::From(ENOSPC)) = (&done, fate) {
                let said = ["no space left", "No space left", "disk is full"];
                let said = said.iter().any(|words| e.contains(words));
                assert!(said, "{when}: it is not said why: {e}");
            }
            (self.check)(&place, true, &when);
        }
        unreachable!("the loop ends itself")
    }

    /// Where it fails, it is looked at, and tried again in the same process.
    fn run(
        &self,
        place: &Path,
        injector: &Arc<Injector>,
        judge: Judge,
        acked: &AtomicBool,
        when: &str,
    ) -> Result<(), String> {
        let run = || {
            let open = (self.work.open)(place);
            injector.switch(true);
            let done = (self.work.run)(&open, place);
            acked.store(done.is_ok(), SeqCst);
            if let Err(e) = &done {
                injector.switch(false);
                let when = format!("{when}: {e}");
                self.look(place, false, &format!("{when}; the process dies"));
                let again = (self.work.run)(&open, place);
                again.unwrap_or_else(|e| panic!("{when}; again: {e}"));
            }
            drop(open);
            injector.switch(false);
            done
        };
        watched(place, judge, run).expect("calls can be watched; this needs Linux and root")
    }

    /// By another process.
    fn again(&self, place: &Path, when: &str) {
        let open = (self.work.open)(place);
        (self.work.run)(&open, place).unwrap_or_else(|e| panic!("{when}; again: {e}"));
        drop(open);
        (self.check)(place, true, &format!("{when}; again"));
    }

    /// At a copy, so that the folder is as it was.
    fn look(&self, place: &Path, done: bool, when: &str) {
        let images = folder();
        let image = images.path().join("at");
        copy(place, &image, Empty::Left);
        (self.check)(&image, done, when);
    }

    fn place(&self) -> (tempfile::TempDir, PathBuf) {
        let dir = folder();
        let place = dir.path().join("at");
        copy(&self.template, &place, Empty::Left);
        (dir, place)
    }
}
