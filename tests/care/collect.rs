//! `pocker gc`: what it takes, what it keeps, what it says, and who goes on meanwhile.

use super::support::{World, until, wait};
use super::{go_on, json, key, waiting_run};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A pocker whose second step writes this word.
fn build(w: &World, name: &str, word: &str) {
    w.create(name, &format!("EXEC echo {word} >/word\nRUN cat /word\n"))
        .ok();
}

fn instructions(gone: &serde_json::Value) -> Vec<String> {
    let removed = gone["removed"].as_array().expect("a list");
    let text = |step: &serde_json::Value| step["instruction"].as_str().expect("text").to_string();
    removed.iter().map(text).collect()
}

/// Bytes that the blobs' files and the databases take.
fn taken(dir: &Path) -> u64 {
    let sum = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().expect("stat");
        match meta.is_dir() {
            true => taken(&entry.path()),
            false if entry.path().extension().is_some() => meta.len(),
            false => meta.blocks() * 512,
        }
    };
    let entries = std::fs::read_dir(dir).expect("list");
    entries.map(|entry| sum(entry.expect("an entry"))).sum()
}

#[test]
fn a_dry_run_names_what_goes_and_the_disk_has_again_what_it_said() {
    let w = World::new();
    build(&w, "box", "kept");
    // 6 MB that nothing packs, in a pocker that goes.
    w.create(
        "big",
        "EXEC dd if=/dev/urandom of=/noise bs=1M count=6 2>/dev/null\nRUN true\n",
    )
    .ok();
    w.pocker(&["rm", "big"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    let before = taken(&w.path("store"));
    let text = w.pocker(&["gc", "--dry-run"]).ok().out;
    let named = text.lines().next().expect("a line");
    assert!(
        named.starts_with("step ") && text.contains("EXEC dd if=/dev/urandom"),
        "{text}"
    );
    assert!(text.contains("\nwould free 2 steps, "), "{text}");
    let dry = json(&w, &["gc", "--dry-run"]);
    let gone = json(&w, &["gc"]);
    assert_eq!(dry, gone, "a dry run says what then goes");
    let said = gone["bytes"].as_u64().expect("bytes");
    assert!(said > 6 << 20, "{gone}");
    w.pocker(&["serve", "--stop"]).ok();
    let freed = before - taken(&w.path("store"));
    // The index gives whole pages back.
    assert!(
        freed.abs_diff(said) < 256 << 10,
        "said {said}, freed {freed}"
    );
    let nothing = json(&w, &["gc"]);
    assert_eq!(
        (&nothing["steps"], &nothing["bytes"]),
        (&0.into(), &0.into())
    );
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    w.pocker(&["fsck"]).ok();
}

#[test]
fn the_newest_builds_of_a_pocker_are_kept_when_that_is_asked_for() {
    let w = World::new();
    for word in ["one", "two", "three", "four"] {
        build(&w, "box", word);
    }
    // Not a build: all of it is there.
    build(&w, "box", "four");
    let dry = json(&w, &["gc", "--dry-run", "--keep", "3"]);
    let gone = instructions(&dry);
    assert!(
        gone.len() == 2 && gone.iter().any(|i| i.contains("echo one")),
        "{dry}"
    );
    assert_eq!(dry["removed"][0]["of"][0], "box");
    let text = w.pocker(&["gc", "--dry-run", "--keep", "3"]).ok().out;
    assert!(text.contains("(of box, unused for "), "{text}");
    w.pocker(&["gc", "--keep", "3"]).ok();
    // What was kept is taken from the cache, and is the present one again.
    let again = w
        .create("box", "EXEC echo two >/word\nRUN cat /word\n")
        .ok();
    assert!(!again.err.contains("built in"), "{}", again.err);
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "two\n");
    // Now two, four, three.
    let gone = instructions(&json(&w, &["gc", "--keep", "2"]));
    assert!(
        gone.len() == 2 && gone.iter().any(|i| i.contains("echo three")),
        "{gone:?}"
    );
    // None was asked for: only the present one.
    let gone = instructions(&json(&w, &["gc"]));
    assert!(
        gone.len() == 2 && gone.iter().any(|i| i.contains("echo four")),
        "{gone:?}"
    );
    build(&w, "box", "five");
    w.pocker(&["rm", "box"]).ok();
    let gone = json(&w, &["gc", "--keep", "9"]);
    assert_eq!(
        gone["steps"], 5,
        "a pocker that is gone keeps nothing: {gone}"
    );
    w.pocker(&["fsck"]).ok();
    w.pocker(&["gc", "--keep", "0"]).fails(&["--keep"]);
}

#[test]
fn what_was_used_lately_is_kept_when_that_is_asked_for() {
    let w = World::new();
    build(&w, "box", "one");
    build(&w, "box", "two");
    let none = json(&w, &["gc", "--older", "1h"]);
    assert_eq!(none["steps"], 0, "{none}");
    // Unused for longer than no time at all, once the second is over.
    until("a second is over", || {
        json(&w, &["gc", "--dry-run", "--older", "0s"])["steps"] == 2
    });
    // As if all of it were long ago.
    w.pocker(&["serve", "--stop"]).ok();
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("the index");
    let sql = "UPDATE step SET created = 1000; DELETE FROM record WHERE kind = 'used'";
    db.execute_batch(sql).expect("long ago");
    drop(db);
    let old = json(&w, &["gc", "--dry-run", "--older", "1h"]);
    assert_eq!(old["steps"], 2, "{old}");
    assert_eq!(old["removed"][0]["last_used"], 1000);
    // A build that finds a step uses it, though no pocker comes of it.
    w.pockerfile("other", "EXEC echo one >/word\nEXEC false\nRUN true\n");
    w.pocker(&["create", "-f", "other.pockerfile", "other"])
        .fails(&["EXEC false"]);
    // The failed build's tree stands on it.
    w.pocker(&["reset", "other"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    let gone = instructions(&json(&w, &["gc", "--older", "1h"]));
    assert!(gone.len() == 1 && gone[0].contains("cat /word"), "{gone:?}");
    for wrong in ["", "1", "h", "1y", "1 h", "+1h"] {
        w.pocker(&["gc", "--older", wrong]).fails(&["--older"]);
    }
    assert_eq!(json(&w, &["gc"])["steps"], 1);
}

/// Ends those who go on until they are told, also where an assertion fails.
struct Ends<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn collection_goes_on_beside_builds_runs_imports_and_reads() {
    let w = World::new();
    build(&w, "box", "kept");
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();
    w.pocker(&["mount", "box", &mnt]).ok();
    w.pocker(&["volume", "create", "data", "--from", "box"])
        .ok();
    // The tree of a pocker that is gone, under a run and in a volume.
    let run = waiting_run(&w, &["-v", "data:/data"], "cat /word /data/word");
    w.pocker(&["export", "box", "-o", "box.tar"]).ok();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (w, stop) = (&w, &stop);
        let ends = Ends(stop);
        let collector = scope.spawn(move || {
            let mut rounds = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let done = w.pocker(&["gc"]);
                // A check or another collection may be under way; nothing else is in the way.
                assert!(
                    done.status == 0 || done.err.contains("under way"),
                    "{}",
                    done.err
                );
                rounds += 1;
            }
            rounds
        });
        let reader = scope.spawn(move || {
            let mut reads = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let word = std::fs::read(w.path("mnt/word")).expect("read");
                assert_eq!(word, b"kept\n");
                reads += 1;
            }
            reads
        });
        let builders = ["a", "b"].map(|name| {
            scope.spawn(move || {
                for round in 0..4 {
                    // The first step is garbage whenever no pocker has it, and found again here.
                    build(w, name, &format!("{}", round % 2));
                    let said = w.pocker(&["run", name]).ok().out;
                    assert_eq!(said, format!("{}\n", round % 2));
                    w.pocker(&["rm", name]).ok();
                }
            })
        });
        let importer = scope.spawn(move || {
            for round in 0..4 {
                let name = format!("import{round}");
                w.pocker(&["import", "box.tar", &name, "--run", "cat /word"])
                    .ok();
                assert_eq!(w.pocker(&["run", &name]).ok().out, "kept\n");
                w.pocker(&["rm", &name]).ok();
            }
        });
        for builder in builders {
            builder.join().expect("a builder");
        }
        importer.join().expect("an importer");
        drop(ends);
        assert!(collector.join().expect("a collector") > 1);
        assert!(reader.join().expect("a reader") > 1);
    });
    go_on(&w);
    assert_eq!(wait(run).ok().out, "kept\nkept\n");
    w.pocker(&["umount", &mnt]).ok();
    w.pocker(&["gc"]).ok();
    assert!(!key(&w, "box", 0).is_empty());
    let done = w.pocker(&["fsck"]).ok();
    assert!(!done.out.contains("nothing refers to"), "{}", done.out);
}

/// A build that found its steps and has not come to its end holds them, also those that it did
/// not make itself and that no pocker has.
#[test]
fn a_build_in_progress_keeps_the_steps_it_found() {
    let w = World::new();
    build(&w, "box", "kept");
    w.create("base", "EXEC echo early >/early\nRUN true\n").ok();
    w.pocker(&["rm", "base"]).ok();
    let early = |gone: &serde_json::Value| {
        let gone = instructions(gone);
        gone.iter().any(|i| i.contains("echo early"))
    };
    assert!(early(&json(&w, &["gc", "--dry-run"])), "garbage until then");
    let lines = "EXEC echo early >/early\nEXEC sleep 2; echo late >/late\nRUN cat /early /late\n";
    w.pockerfile("slow", lines);
    let mut child = w.start(&["create", "-f", "slow.pockerfile", "slow"]);
    let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.starts_with("[3/4]") {
        line.clear();
        assert!(
            said.read_line(&mut line).expect("a line") > 0,
            "no third step"
        );
    }
    for _ in 0..3 {
        assert!(!early(&json(&w, &["gc"])));
    }
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("the rest");
    assert_eq!(wait(child).status, 0, "{rest}");
    assert_eq!(w.pocker(&["run", "slow"]).ok().out, "early\nlate\n");
}
