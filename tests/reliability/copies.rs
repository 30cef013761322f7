//! `pocker store restore` and `pocker store upgrade`, which need no server: the Nth change that they
//! make to files fails, finds the disk full, or is where they die. What is there then is no store, or
//! a whole one; tried again, they succeed.

use crate::support::{Done, World};
use crate::world::{Random, copy, filled, in_volume, listed, long};
use nix::libc::{EIO, ENOSPC};
use pocker_testing::faults::{Fate, Injector, Plan, spawn};
use std::process::{Command, Stdio};

/// Points of a command where not all are taken, for each fate.
const SOME: u64 = 3;

fn of(w: &World, store: &str, args: &[&str]) -> Command {
    let mut command = w.command(args);
    command.env("POCKER_STORE", w.path(store));
    command.env("POCKER_SOCKET_DIR", w.path(&format!("s-{store}")));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn pocker(w: &World, store: &str, args: &[&str]) -> Done {
    let child = of(w, store, args).spawn().expect("pocker starts");
    crate::support::wait(child)
}

/// A store of the last backup.
pub fn restore(w: &World, store: &str) -> Done {
    pocker(w, store, &["store", "restore", "backups"])
}

/// It is sound and has all of [`filled`]; its server is gone then.
#[track_caller]
pub fn whole(w: &World, store: &str) {
    pocker(w, store, &["fsck"]).ok();
    assert_eq!(pocker(w, store, &["run", "box"]).ok().out, "kept\n");
    let volumes = pocker(w, store, &["volume", "ls", "--json"]).ok().out;
    assert!(volumes.contains("\"data\""), "{volumes}");
    pocker(w, store, &["serve", "--stop"]).ok();
}

/// The command on the store `new`, with a fate; how many changes it made, and whether it struck.
fn once(w: &World, args: &[&str], plan: Option<Plan>) -> (u64, bool) {
    let injector = Injector::new(plan);
    injector.switch(true);
    let mut command = of(w, "new", args);
    let child = spawn(&mut command, w.dir.path(), injector.judge()).expect("pocker starts");
    let done = crate::support::wait(child);
    let struck = injector.struck() > 0;
    let when = format!("{args:?} with {plan:?}: {}{}", done.out, done.err);
    assert!(!done.err.contains("panicked"), "{when}");
    assert!(struck || done.status == 0, "{when}");
    if let Some(Plan {
        fate: Fate::From(_),
        ..
    }) = plan
        && done.status != 0
    {
        // The others are SQLite's where it cannot make its log's index.
        let full = [
            "no space left",
            "unable to open database file",
            "disk I/O error",
        ];
        let said = full.iter().any(|words| done.err.contains(words));
        assert!(said, "{when}: it is not said why");
    }
    // The store is there and whole, or the command is given again.
    if done.status != 0 {
        let again = pocker(w, "new", args);
        let there = again.err.contains("is there already");
        assert!(again.status == 0 || there, "{when}: again: {}", again.err);
    }
    whole(w, "new");
    (injector.seen(), struck)
}

fn under(w: &World, args: &[&str], fresh: impl Fn(&World)) {
    let mut random = Random::new();
    fresh(w);
    let (count, _) = once(w, args, None);
    let (mut points, mut struck) = (0, 0);
    for fate in [Fate::Once(EIO), Fate::From(ENOSPC), Fate::Kill] {
        let stride = if long() {
            1
        } else {
            count.div_ceil(SOME).max(1)
        };
        let first = 1 + random.below(stride);
        for nth in (first..=count).step_by(stride as usize) {
            fresh(w);
            struck += u64::from(once(w, args, Some(Plan { nth, fate })).1);
            points += 1;
        }
    }
    eprintln!(
        "{args:?}: {count} changes, {points} points, {struck} struck; half of a store seen: 0"
    );
    assert!(struck > 0, "nothing happened");
}

#[test]
fn a_restore() {
    let w = filled();
    assert!(listed(&w).contains(&"box".to_owned()) && !in_volume(&w, "data").is_empty());
    w.pocker(&["store", "backup", "backups"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    under(&w, &["store", "restore", "backups"], |w| {
        let _ = std::fs::remove_dir_all(w.path("new"));
    });
    assert!(!w.path("new.restoring").exists());
}

/// Of a store that cannot give space back.
#[test]
fn an_upgrade() {
    let w = filled();
    w.pocker(&["serve", "--stop"]).ok();
    let older = "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM";
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("the index");
    db.execute_batch(older).expect("older");
    drop(db);
    under(&w, &["store", "upgrade"], |w| {
        let _ = std::fs::remove_dir_all(w.path("new"));
        copy(&w.path("store"), &w.path("new"));
    });
}
