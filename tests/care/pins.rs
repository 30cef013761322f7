//! `pocker pin` and `unpin`.

use super::support::World;
use super::{json, key};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn world() -> World {
    let w = World::new();
    w.create("box", "EXEC echo one >/word\nRUN cat /word\n")
        .ok();
    w
}

#[test]
fn a_pinned_step_outlives_its_pocker_a_kill_and_collections() {
    let w = world();
    let (step, run) = (key(&w, "box", 1), key(&w, "box", 2));
    let said = w.pocker(&["pin", "box@step2"]).ok().out;
    assert_eq!(said, format!("pinned {step}\n"));
    let one = w.pocker(&["ls", "box"]).ok().out;
    let line = one.lines().find(|l| l.contains("echo one")).expect("it");
    assert!(
        line.ends_with("(pinned)") && one.matches("(pinned)").count() == 1,
        "{one}"
    );
    w.pocker(&["rm", "box"]).ok();
    kill(Pid::from_raw(w.server_pid()), Signal::SIGKILL).expect("kill");
    let gone = json(&w, &["gc"]);
    assert_eq!(gone["steps"], 2, "{gone}");
    let ls = w.pocker(&["ls"]).ok().out;
    assert!(
        ls.starts_with("PINNED") && ls.contains("box@step2") && ls.contains(&step[..12]),
        "{ls}"
    );
    let pins = json(&w, &["pin", "--list"]);
    assert_eq!(pins[0]["key"], step.as_str());
    assert_eq!(pins[0]["label"], "box@step2");
    assert!(pins[0]["step"]["bytes"].as_u64() > Some(0), "{pins}");
    w.pocker(&["fsck"]).ok();
    // Whole: what is built on it again finds it.
    let again = w
        .create("box", "EXEC echo one >/word\nRUN cat /word\n")
        .ok();
    assert_eq!(again.err.matches("cached").count(), 1, "{}", again.err);
    assert_eq!(key(&w, "box", 2), run);
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "one\n");
    // Pinned by its key too, and let go as it was pinned first.
    w.pocker(&["pin", &step[..8]]).ok();
    w.pocker(&["unpin", "box@2"]).ok();
    assert_eq!(w.pocker(&["pin", "--list"]).ok().out, "");
    w.pocker(&["rm", "box"]).ok();
    assert_eq!(json(&w, &["gc"])["steps"], 3);
}

#[test]
fn pins_say_what_they_mean_and_what_they_do_not() {
    let w = world();
    w.pocker(&["pin", "box"]).ok();
    let first = key(&w, "box", 2);
    w.create("box", "EXEC echo two >/word\nRUN cat /word\n")
        .ok();
    // Another step by now; the pin is of that one.
    w.pocker(&["gc"]).ok();
    assert_eq!(json(&w, &["pin", "--list"])[0]["key"], first.as_str());
    w.pocker(&["pin", "box@run"]).ok();
    let second = key(&w, "box", 2);
    assert_ne!(first, second);
    w.pocker(&["unpin", "box"]).ok();
    let left = json(&w, &["pin", "--list"]);
    assert_eq!(left[0]["key"], first.as_str(), "what the name means now");
    w.pocker(&["unpin", "box"]).ok();
    w.pocker(&["unpin", "box"])
        .fails(&["box is not pinned", "hint: "]);
    for unknown in [
        "nobody",
        "nobody@1",
        "0123456789",
        "box@7",
        &"f".repeat(64),
        "1",
    ] {
        w.pocker(&["pin", unknown])
            .fails(&["there is no", "hint: "].map(|s| {
                // A pocker that is there says which step it has not.
                if unknown == "box@7" && s == "there is no" {
                    "box has no step 7"
                } else {
                    s
                }
            }));
    }
    w.pocker(&["unpin", &second[..8]]).fails(&["is not pinned"]);
    w.pocker(&["pin"]).fails(&["NAME[@STEP]|KEY"]);
}

/// The row of a pinned step is lost: the check says so.
#[test]
fn a_pin_of_what_is_not_there_is_found() {
    let w = world();
    let step = key(&w, "box", 1);
    w.pocker(&["pin", "box@2"]).ok();
    w.pocker(&["rm", "box"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("the index");
    let sql = "DELETE FROM step WHERE hex(key) = upper(?1)";
    assert_eq!(db.execute(sql, [&step]).expect("delete"), 1);
    drop(db);
    let done = w.pocker(&["fsck"]);
    assert_eq!(done.status, 4, "{}", done.err);
    assert!(
        done.out.contains(&step) && done.out.contains("pinned") && done.out.contains("box@step2"),
        "{}",
        done.out
    );
    w.pocker(&["pin", "--list"]).ok();
    w.pocker(&["gc"]).ok();
    w.pocker(&["unpin", "box@step2"]).ok();
    w.pocker(&["fsck"]).ok();
}
