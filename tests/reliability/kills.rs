//! The server dies by SIGKILL, again and again, beside everything that changes a store. What a
//! command reported is there in the end.

use crate::support::World;
use crate::world::{Random, filled, holder, in_volume, into_volume, listed, long, sound, volumes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// What commands reported: of each thing, whether it is there; none where it is not known.
#[derive(Default)]
struct Reported(Mutex<BTreeMap<String, Option<bool>>>);

impl Reported {
    /// `there` holds where the command succeeded; where it did not, nobody knows.
    fn tell(&self, thing: String, ok: bool, there: bool) {
        self.0.lock().insert(thing, ok.then_some(there));
    }
}

/// One loop's turn. The things it makes are its own.
fn turn(w: &World, reported: &Reported, worker: usize, n: usize) -> usize {
    let name = format!("w{worker}n{n}");
    let said = |thing: String, args: &[&str], there| {
        let ok = w.pocker(args).status == 0;
        reported.tell(thing, ok, there);
        usize::from(ok)
    };
    match worker {
        0 => {
            let made = said(name.clone(), &["import", "a.tar", &name], true);
            if made == 0 || n.is_multiple_of(2) {
                return made;
            }
            made + said(name.clone(), &["rm", &name], false)
        }
        1 => {
            w.pockerfile(&name, &format!("EXEC echo {name} >/name\nRUN cat /name\n"));
            let file = format!("{name}.pockerfile");
            said(name.clone(), &["create", "-f", &file, &name], true)
        }
        2 => {
            let volume = format!("v{name}");
            let made = said(
                format!("volume {volume}"),
                &["volume", "create", &volume],
                true,
            );
            if made == 0 || n.is_multiple_of(2) {
                return made;
            }
            made + said(
                format!("volume {volume}"),
                &["volume", "rm", &volume],
                false,
            )
        }
        3 => {
            let ok = into_volume(w, "data", &name).status == 0;
            reported.tell(format!("file {name}"), ok, true);
            usize::from(ok)
        }
        _ => {
            let gc = w.pocker(&["gc"]).status == 0;
            let run = w.pocker(&["run", "box"]);
            assert!(run.status != 0 || run.out == "kept\n", "{run:?}");
            usize::from(gc) + usize::from(run.status == 0)
        }
    }
}

#[test]
fn whatever_was_reported_is_there_after_kills() {
    let w = filled();
    let mut random = Random::new();
    let turns = if long() { 60 } else { 5 };
    let reported = Reported::default();
    let (over, done, tried) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let mut kills = 0;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..5)
            .map(|worker| {
                let (w, reported, done, tried) = (&w, &reported, &done, &tried);
                scope.spawn(move || {
                    for n in 0..turns {
                        tried.fetch_add(1, SeqCst);
                        done.fetch_add(turn(w, reported, worker, n), SeqCst);
                    }
                })
            })
            .collect();
        let ended = scope.spawn(|| {
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            over.store(true, SeqCst);
            ended
        });
        let mut before = 0;
        while !over.load(SeqCst) {
            // A server that answers nobody before it is killed would let none of them go on.
            if done.load(SeqCst) == before {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            std::thread::sleep(Duration::from_millis(200 + random.below(800)));
            before = done.load(SeqCst);
            if let Some(pid) = holder(&w)
                && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
            {
                kills += 1;
            }
        }
        let ended = ended.join().expect("it only waits");
        assert!(
            ended.iter().all(Result::is_ok),
            "a command hung or said what is not so"
        );
    });
    let mut there = listed(&w);
    there.extend(volumes(&w).into_iter().map(|name| format!("volume {name}")));
    there.extend(
        in_volume(&w, "data")
            .into_iter()
            .map(|name| format!("file {name}")),
    );
    let mut lost = Vec::new();
    let reported = reported.0.into_inner();
    for (thing, state) in &reported {
        if state.is_some_and(|state| state != there.contains(thing)) {
            lost.push(thing);
        }
        if thing.starts_with("w1") && there.contains(thing) {
            assert_eq!(w.pocker(&["run", thing]).ok().out, format!("{thing}\n"));
        }
    }
    let known = reported.values().flatten().count();
    let (done, tried) = (done.into_inner(), tried.into_inner());
    eprintln!(
        "{kills} kills beside {tried} turns, {done} commands that succeeded, {known} things known; lost: {}",
        lost.len()
    );
    assert!(lost.is_empty(), "reported, and not so: {lost:?}");
    assert!(kills > 0 && known > 0, "nothing happened");
    sound(&w, "after all kills");
    w.pocker(&["gc"]).ok();
    sound(&w, "after a collection");
}
