//! The Nth change fails, or is where a crash is looked at.

use super::{Change, Judge, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// What happens to the changes chosen by a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// This one fails with this errno, all others succeed.
    Once(i32),
    /// This one and all after it fail, as on a disk that is full or gone; what frees or
    /// shortens succeeds on a full one.
    From(i32),
    Kill,
}

/// Which change, counted from 1, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub nth: u64,
    pub fate: Fate,
}

/// Counts changes, and keeps to a plan where there is one.
#[derive(Default)]
pub struct Injector {
    plan: Option<Plan>,
    on: AtomicBool,
    seen: AtomicU64,
    struck: AtomicU64,
}

impl Injector {
    /// It counts once it is switched on.
    pub fn new(plan: Option<Plan>) -> Arc<Injector> {
        Arc::new(Injector {
            plan,
            ..Injector::default()
        })
    }

    pub fn switch(&self, on: bool) {
        self.on.store(on, SeqCst);
    }

    /// Changes counted.
    pub fn seen(&self) -> u64 {
        self.seen.load(SeqCst)
    }

    /// Changes that were refused.
    pub fn struck(&self) -> u64 {
        self.struck.load(SeqCst)
    }

    pub fn judge(self: &Arc<Injector>) -> Judge {
        let own = Arc::clone(self);
        Arc::new(move |change| own.verdict(change))
    }

    fn verdict(&self, change: &Change) -> Verdict {
        if !self.on.load(SeqCst) {
            return Verdict::Go;
        }
        let now = self.seen.fetch_add(1, SeqCst) + 1;
        let Some(Plan { nth, fate }) = self.plan else {
            return Verdict::Go;
        };
        let verdict = match fate {
            Fate::Once(errno) if now == nth => Verdict::Fail(errno),
            Fate::From(errno) if now >= nth && hits(errno, change) => Verdict::Fail(errno),
            Fate::Kill if now == nth => Verdict::Kill,
            _ => return Verdict::Go,
        };
        self.struck.fetch_add(1, SeqCst);
        verdict
    }
}

/// A full disk still takes what needs no room.
fn hits(errno: i32, change: &Change) -> bool {
    let away = matches!(
        change.call,
        "unlink" | "unlinkat" | "rmdir" | "fchmod" | "utimensat"
    );
    errno != libc::ENOSPC || !away && !change.is_sync()
}
