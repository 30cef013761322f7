//! Every kind of place, both ways.

use super::support::World;
use super::{SAYS, json, other, sent, stop, url, works_in, world};

/// local → socket of another server → folder of a third store → object store → local of a fourth.
#[test]
fn a_pocker_goes_round_and_works_everywhere() {
    let w = world();
    other(&w, "second", &["ls"]).ok();
    let socket = w.path("s-second/control.sock").display().to_string();
    let all = w.pocker(&["sync", "--json", "local", &socket, "box"]).ok();
    let (objects, blobs, bytes) = sent(&all);
    assert!(
        objects > 5 && blobs > 200 && bytes > 3_000_000,
        "{}",
        all.out
    );
    works_in(&w, "second");
    other(&w, "third", &["ls"]).ok();
    stop(&w, "third");
    let third = w.path("third").display().to_string();
    let again = w.pocker(&["sync", "--json", &socket, &third, "--all"]).ok();
    let all = json(&again);
    assert_eq!(all[0]["name"], "box", "{all}");
    assert_eq!(all[0]["bytes"], bytes, "{all}");
    assert_eq!(all[1]["name"], "on", "{all}");
    works_in(&w, "third");
    stop(&w, "third");
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", &third, &bucket, "box"]).ok();
    other(&w, "fourth", &["sync", &bucket, "local", "box"]).ok();
    works_in(&w, "fourth");
    for name in ["second", "third", "fourth"] {
        stop(&w, name);
    }
}

#[test]
fn only_what_changed_goes_over_and_the_rest_stays() {
    let w = world();
    let bucket = url(&w.path("bucket"));
    let first = w.pocker(&["sync", "local", &bucket, "box"]).ok().out;
    assert!(
        first.starts_with("box: 4 steps; sent ") && first.contains(" MB\n"),
        "{first}"
    );
    other(&w, "second", &["sync", &bucket, "local", "box"]).ok();
    w.write("more.pockerfile", "FROM box\nEXEC head -c 200000 /dev/urandom >/data/many/new\nRUN cat /data/many/7; echo $WORD\n");
    w.pocker(&["create", "-f", "more.pockerfile", "box"]).ok();
    for (at, args) in [
        ("store", ["sync", "--json", "local", &bucket, "box"]),
        ("second", ["sync", "--json", &bucket, "local", "box"]),
    ] {
        let done = match at {
            "store" => w.pocker(&args),
            other_store => other(&w, other_store, &args),
        };
        let (objects, blobs, bytes) = sent(&done.ok());
        assert!(blobs == 1 && objects < 12, "{objects} {blobs}");
        assert!(bytes < 220_000, "{bytes} bytes for 200 000 that changed");
    }
    assert_eq!(other(&w, "second", &["run", "box"]).ok().out, SAYS);
    let there = other(&w, "second", &["sync", &bucket, "local", "box"])
        .ok()
        .out;
    assert!(there.ends_with(" steps, all of it was there\n"), "{there}");
    stop(&w, "second");
}

/// A collection in the store that sends and in the one that receives, over and over.
#[test]
fn collections_beside_it_take_nothing() {
    let w = world();
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    other(&w, "second", &["ls"]).ok();
    let socket = w.path("s-second/control.sock").display().to_string();
    let going = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while going.load(std::sync::atomic::Ordering::Relaxed) {
                w.pocker(&["gc"]).ok();
                other(&w, "second", &["gc"]).ok();
            }
        });
        for round in 0..4 {
            other(&w, "second", &["rm", "box"]);
            let from = if round % 2 == 0 { "local" } else { &bucket };
            let done = w.pocker(&["sync", from, &socket, "box"]);
            let checked = std::panic::catch_unwind(|| {
                done.ok();
                assert_eq!(other(&w, "second", &["run", "box"]).ok().out, SAYS);
            });
            if checked.is_err() {
                going.store(false, std::sync::atomic::Ordering::Relaxed);
                panic!("round {round}");
            }
        }
        going.store(false, std::sync::atomic::Ordering::Relaxed);
    });
    works_in(&w, "second");
    stop(&w, "second");
}

#[test]
fn a_read_only_server_sends_and_does_not_receive() {
    let w: World = world();
    w.pocker(&["serve", "--stop"]).ok();
    let log = std::fs::File::create(w.path("log")).expect("a log");
    let mut server = w.command(&["serve", "--read-only"]);
    let mut server = server.stderr(log).spawn().expect("pocker starts");
    super::support::until("it serves", || w.pocker(&["serve", "--stats"]).status == 0);
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    w.pocker(&["sync", &bucket, "local", "box"])
        .fails(&["read-only", "hint: "]);
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("waited for");
}
