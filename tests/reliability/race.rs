//! Many processes that want one store: one has it, and the others say which.

use crate::support::{World, until, wait};
use crate::world::{Random, holder, long, sound};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pocker_testing::faults::{Fate, Injector, Plan, spawn};
use std::process::{Child, Stdio};

const TOGETHER: usize = 20;

/// `pocker serve` with sockets of its own.
fn serve(w: &World, n: usize) -> Child {
    let mut command = w.command(&["serve"]);
    command.env("POCKER_SOCKET_DIR", w.path(&format!("s{n}")));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    child.expect("pocker starts")
}

#[test]
fn twenty_at_once_and_some_are_killed() {
    let w = World::new();
    let mut random = Random::new();
    let rounds = if long() { 40 } else { 4 };
    let (mut refused, mut killed) = (0, 0);
    for round in 0..rounds {
        // The first round's store is not even there.
        let mut all: Vec<(usize, Child)> = (0..TOGETHER).map(|n| (n, serve(&w, n))).collect();
        for _ in 0..random.below(5) {
            let (_, mut child) = all.swap_remove(random.below(all.len() as u64) as usize);
            std::thread::sleep(std::time::Duration::from_millis(random.below(30)));
            child.kill().expect("killed");
            wait(child);
            killed += 1;
        }
        // All but one end, or all where the one was killed.
        until("all but one have ended", || {
            let alive = |child: &mut Child| child.try_wait().expect("wait").is_none();
            all.iter_mut()
                .map(|(_, child)| usize::from(alive(child)))
                .sum::<usize>()
                <= 1
        });
        let mut winners = 0;
        for (_, mut child) in all {
            let own = child.id() as i32;
            // The last one may have come late, and has yet to take it.
            until("it has the store, or has ended", || {
                holder(&w) == Some(own) || child.try_wait().expect("wait").is_some()
            });
            if child.try_wait().expect("wait").is_none() {
                winners += 1;
                kill(Pid::from_raw(own), Signal::SIGTERM).expect("told to leave");
                wait(child);
                continue;
            }
            let done = wait(child);
            refused += 1;
            done.fails(&["cannot open the store", "is in use by process ", "hint: "]);
        }
        assert!(winners <= 1, "round {round}");
        w.pocker(&["ls"]).ok();
        sound(&w, "after a race");
        w.pocker(&["serve", "--stop"]).ok();
    }
    eprintln!(
        "{rounds} races of {TOGETHER}: {refused} refused by name, {killed} killed; two at once: 0"
    );
}

/// A command starts a server, which is killed at once: it is told, and starts another.
#[test]
fn a_server_that_is_killed_before_it_answers() {
    let w = World::new();
    for nth in [1, 40, 300] {
        w.pocker(&["serve", "--stop"]).ok();
        let _ = std::fs::remove_dir_all(w.path("store"));
        let injector = Injector::new(Some(Plan {
            nth,
            fate: Fate::Kill,
        }));
        injector.switch(true);
        let mut command = w.command(&["ls"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = spawn(&mut command, &w.path("store"), injector.judge());
        wait(child.expect("pocker starts")).ok();
        assert_eq!(injector.struck(), 1, "change {nth}");
    }
}
