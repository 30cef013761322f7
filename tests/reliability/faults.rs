//! The Nth change that the server makes to its store's files finds the disk full, or is where the
//! server dies, under each command that changes a store. Commands start another server where
//! there is none, so that a death may go unnoticed.

use crate::copies::{restore, whole};
use crate::support::{Done, World, until};
use crate::world::{
    Random, copy, filled, holder, in_volume, into_volume, listed, long, names, sound, volumes,
};
use nix::libc::ENOSPC;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pocker_testing::faults::{Fate, Injector, Plan, spawn};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Points of a command where not all are taken, for each fate.
const SOME: u64 = 3;

struct Mutation {
    name: &'static str,
    /// The folder whose changes are counted.
    of: &'static str,
    /// Done to the store before the server starts.
    hurt: fn(&World),
    run: fn(&World) -> Done,
    /// Whether what the command makes is there. It is not before.
    there: fn(&World) -> bool,
    /// A step of it failed on a full disk where its own output says so.
    words: &'static [&'static str],
}

const FULL: &[&str] = &["no space left", "No space left", "disk is full"];

fn unhurt(_: &World) {}

fn large_in_volume(w: &World) {
    let script = "head -c 200000 /dev/urandom >/v/.large && sync";
    let args = ["run", "-v", "data:/v", "box", "--", "/bin/sh", "-c", script];
    w.pocker(&args).ok();
}

/// Names of the volume's snapshots.
fn snapshots(w: &World) -> Vec<String> {
    let json = w.pocker(&["volume", "snapshots", "--json", "data"]).ok();
    names(&json.out)
}

fn largest(w: &World) -> std::path::PathBuf {
    let mut found = Vec::new();
    for sub in std::fs::read_dir(w.path("store/blobs")).expect("blobs") {
        for file in std::fs::read_dir(sub.expect("an entry").path()).expect("a folder") {
            let file = file.expect("a file");
            found.push((file.metadata().expect("stat").len(), file.path()));
        }
    }
    found.into_iter().max().expect("a blob").1
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "create",
        of: "store",
        hurt: unhurt,
        run: |w| w.pocker(&["create", "-f", "new.pockerfile", "new"]),
        there: |w| {
            listed(w).contains(&"new".to_owned()) && w.pocker(&["run", "new"]).ok().out == "new\n"
        },
        words: FULL,
    },
    Mutation {
        name: "import",
        of: "store",
        hurt: unhurt,
        run: |w| w.pocker(&["import", "a.tar", "imported"]),
        there: |w| {
            let there = listed(w).contains(&"imported".to_owned());
            if there {
                w.pocker(&["export", "imported", "-o", "out.tar"]).ok();
            }
            there
        },
        words: FULL,
    },
    Mutation {
        name: "run",
        of: "store",
        hurt: unhurt,
        run: |w| {
            let script = "dd if=/dev/zero of=/big bs=64k count=8 && cat /kept";
            w.pocker(&["run", "box", "--", "/bin/sh", "-c", script])
        },
        there: |_| false,
        words: FULL,
    },
    Mutation {
        name: "volume create",
        of: "store",
        hurt: unhurt,
        run: |w| w.pocker(&["volume", "create", "more"]),
        there: |w| volumes(w).contains(&"more".to_owned()),
        words: FULL,
    },
    Mutation {
        name: "volume write",
        of: "store",
        hurt: unhurt,
        run: |w| into_volume(w, "data", "second"),
        there: |w| in_volume(w, "data").contains(&"second".to_owned()),
        words: &[
            "no space left",
            "No space left",
            "disk is full",
            "Input/output error",
        ],
    },
    Mutation {
        name: "volume rm",
        of: "store",
        hurt: unhurt,
        run: |w| w.pocker(&["volume", "rm", "data"]),
        there: |w| !volumes(w).contains(&"data".to_owned()),
        words: FULL,
    },
    Mutation {
        name: "volume snapshot",
        of: "store",
        hurt: large_in_volume,
        run: |w| {
            let done = w.pocker(&["volume", "snapshot", "data", "s"]);
            // It was done, and its answer was lost with the server.
            match done.err.contains("has a snapshot s already") {
                true => w.pocker(&["volume", "snapshots", "data"]),
                false => done,
            }
        },
        there: |w| snapshots(w) == ["s"],
        words: FULL,
    },
    Mutation {
        name: "volume rollback",
        of: "store",
        hurt: |w| {
            large_in_volume(w);
            w.pocker(&["volume", "snapshot", "data", "s"]).ok();
            into_volume(w, "data", "second").ok();
        },
        run: |w| w.pocker(&["volume", "rollback", "data@s"]),
        there: |w| {
            let found = in_volume(w, "data");
            assert!(found.contains(&"first".to_owned()) && snapshots(w) == ["s"]);
            !found.contains(&"second".to_owned())
        },
        words: FULL,
    },
    Mutation {
        name: "volume clone",
        of: "store",
        hurt: large_in_volume,
        run: |w| w.pocker(&["volume", "clone", "data", "more"]),
        there: |w| {
            let there = volumes(w).contains(&"more".to_owned());
            assert!(!there || in_volume(w, "more").contains(&"first".to_owned()));
            there
        },
        words: FULL,
    },
    Mutation {
        name: "volume import",
        of: "store",
        hurt: unhurt,
        run: |w| w.pocker(&["volume", "import", "more", "a.tar"]),
        there: |w| {
            let there = volumes(w).contains(&"more".to_owned());
            if there {
                w.pocker(&["volume", "export", "more", "-o", "out.tar"])
                    .ok();
            }
            there
        },
        words: FULL,
    },
    Mutation {
        name: "rm",
        of: "store",
        hurt: unhurt,
        run: |w| w.pocker(&["rm", "gone"]),
        there: |w| !listed(w).contains(&"gone".to_owned()),
        words: FULL,
    },
    Mutation {
        name: "gc",
        of: "store",
        hurt: |w| drop(w.pocker(&["rm", "gone"]).ok()),
        run: |w| w.pocker(&["gc"]),
        there: |_| false,
        words: FULL,
    },
    Mutation {
        name: "fsck --repair",
        of: "store",
        hurt: |w| {
            w.pocker(&["serve", "--stop"]).ok();
            let blob = largest(w);
            let mut bytes = std::fs::read(&blob).expect("read");
            bytes[4096] ^= 1;
            std::fs::write(&blob, bytes).expect("write");
        },
        run: |w| w.pocker(&["fsck", "--repair"]),
        there: |w| {
            let kept = std::fs::read_dir(w.path("store/quarantine"));
            kept.is_ok_and(|mut kept| kept.next().is_some()) && !largest_is_rotten(w)
        },
        words: &["no space left", "No space left", "repair failed"],
    },
    Mutation {
        name: "store backup",
        of: "backups",
        hurt: unhurt,
        run: |w| w.pocker(&["store", "backup", "backups"]),
        there: |w| {
            // One that was cut short is none.
            let done = restore(w, "restored");
            let there = done.status == 0;
            let none = done.err.contains("is no place for backups");
            let none = none || !w.path("backups").exists();
            assert!(there || none, "{}", done.err);
            if there {
                whole(w, "restored");
            }
            std::fs::remove_dir_all(w.path("restored")).is_ok()
        },
        words: FULL,
    },
];

/// Some blob's file still has other bytes than its name says.
fn largest_is_rotten(w: &World) -> bool {
    use sha2::Digest;
    let path = largest(w);
    let bytes = std::fs::read(&path).expect("read");
    let name = hex::encode(sha2::Sha256::digest(bytes));
    path.file_name().is_some_and(|file| file != name.as_str())
}

/// A server whose changes are counted, and which meets the plan's fate.
fn faulty(w: &World, of: &str, plan: Option<Plan>) -> (Server, Arc<Injector>) {
    let injector = Injector::new(plan);
    let mut command = w.command(&["serve"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = spawn(&mut command, &w.path(of), injector.judge()).expect("pocker starts");
    let client = || w.pocker(&["serve", "--stats"]).status == 0;
    until("the server answers", client);
    (Server::of(w, child), injector)
}

/// Waited for as soon as it ends: whoever looks for it is to find nobody. Where it died of a fault
/// another one comes, as a service manager has it.
struct Server {
    pid: Pid,
    ended: JoinHandle<()>,
}

impl Server {
    fn of(w: &World, mut child: Child) -> Server {
        let mut next = w.command(&["serve"]);
        next.stdout(Stdio::null()).stderr(Stdio::null());
        let pid = Pid::from_raw(child.id() as i32);
        let ended = std::thread::spawn(move || {
            let status = child.wait().expect("waited for");
            if status.signal() == Some(Signal::SIGKILL as i32) {
                // It ends when it is told to; a zombie is nobody's holder.
                let mut next = next.spawn().expect("pocker starts");
                std::thread::spawn(move || next.wait());
            }
        });
        Server { pid, ended }
    }

    fn kill(self) {
        if !self.ended.is_finished() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        self.ended.join().expect("waited for");
    }
}

/// The store as it was at first, and no server.
fn fresh(w: &World) {
    w.pocker(&["serve", "--stop"]);
    let lock = w.path("store/lock");
    let closed = || holder(w).is_none_or(|pid| !crate::support::runs(pid));
    until("the store is closed", || !lock.exists() || closed());
    // Where no server was there to be stopped, nobody unmounted what the next store knows nothing of.
    for view in ["chroot", "s/view", "s/view.large"] {
        let _ = nix::mount::umount2(&w.path(view), nix::mount::MntFlags::MNT_DETACH);
    }
    std::fs::remove_dir_all(w.path("store")).expect("removed");
    copy(&w.path("template"), &w.path("store"));
    let _ = std::fs::remove_dir_all(w.path("backups"));
}

/// One run of the command; how many changes it made, and whether the fate struck.
fn once(w: &World, mutation: &Mutation, plan: Option<Plan>) -> (u64, bool) {
    fresh(w);
    let when = format!("{} with {plan:?}", mutation.name);
    let (server, injector) = faulty(w, mutation.of, plan);
    injector.switch(true);
    let done = (mutation.run)(w);
    injector.switch(false);
    let struck = injector.struck() > 0;
    assert!(!done.err.contains("panicked"), "{when}: {}", done.err);
    let full = matches!(
        plan,
        Some(Plan {
            fate: Fate::From(_),
            ..
        })
    );
    if done.status != 0 {
        assert!(struck, "{when}: {}{}", done.out, done.err);
        let said = |word: &&str| done.err.contains(*word) || done.out.contains(*word);
        let named = !full || mutation.words.iter().any(said);
        assert!(
            named,
            "{when}: it is not said why:\n{}{}",
            done.out, done.err
        );
    }
    let acknowledged = done.status == 0;
    let visible = (mutation.there)(w);
    let shows = (mutation.there)(w) || matches!(mutation.name, "run" | "gc");
    assert!(
        !acknowledged || shows,
        "{when}: reported, and not so: {}",
        done.out
    );
    // There is room again, or a server.
    if !acknowledged && !visible {
        let again = (mutation.run)(w);
        assert_eq!(
            again.status, 0,
            "{when}: again:\n{}{}",
            again.out, again.err
        );
    }
    if mutation.name == "fsck --repair" {
        w.pocker(&["create", "--no-cache", "-f", "box.pockerfile", "box"])
            .ok();
    }
    sound(w, &when);
    // A server that is killed after it, too.
    server.kill();
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n", "{when}");
    assert!(
        (mutation.there)(w) || matches!(mutation.name, "run" | "gc"),
        "{when}: after a kill"
    );
    sound(w, &when);
    w.pocker(&["gc"]).ok();
    sound(w, &when);
    (injector.seen(), struck)
}

fn under(names: &[&str]) {
    at(SOME, names);
}

/// At `some` points of each command for each fate, where not all are taken.
fn at(some: u64, names: &[&str]) {
    let w = filled();
    w.pocker(&["serve", "--stop"]).ok();
    copy(&w.path("store"), &w.path("whole"));
    let mut random = Random::new();
    for mutation in MUTATIONS.iter().filter(|m| names.contains(&m.name)) {
        let _ = std::fs::remove_dir_all(w.path("template"));
        copy(&w.path("whole"), &w.path("template"));
        fresh(&w);
        (mutation.hurt)(&w);
        w.pocker(&["serve", "--stop"]).ok();
        std::fs::remove_dir_all(w.path("template")).expect("removed");
        copy(&w.path("store"), &w.path("template"));
        let (count, _) = once(&w, mutation, None);
        let (mut points, mut struck) = (0, 0);
        for fate in [Fate::From(ENOSPC), Fate::Kill] {
            let stride = if long() {
                1
            } else {
                count.div_ceil(some).max(1)
            };
            let first = 1 + random.below(stride);
            for nth in (first..=count).step_by(stride as usize) {
                struck += u64::from(once(&w, mutation, Some(Plan { nth, fate })).1);
                points += 1;
            }
        }
        let name = mutation.name;
        eprintln!(
            "{name}: {count} changes, {points} points, {struck} struck; reported and lost: 0"
        );
        assert!(struck > 0 || some == 1, "{name}: nothing happened");
    }
}

#[test]
fn under_create_and_import() {
    under(&["create", "import"]);
}

#[test]
fn under_run_gc_and_rm() {
    under(&["run", "gc", "rm"]);
}

#[test]
fn under_volumes() {
    under(&["volume create", "volume write", "volume rm"]);
}

#[test]
fn under_snapshots() {
    at(1, &["volume snapshot", "volume rollback"]);
}

// What these have of their own is done once; the store's own test has each change of it.
#[test]
fn under_clones_and_archives_of_volumes() {
    at(1, &["volume clone", "volume import"]);
}

#[test]
fn under_repair() {
    under(&["fsck --repair"]);
}

#[test]
fn under_a_backup() {
    under(&["store backup"]);
}
