//! `pocker store upgrade`.

use super::support::World;

fn sql(w: &World, text: &str) {
    let db = rusqlite::Connection::open(w.path("store/index.db")).expect("the index");
    db.execute_batch(text).expect(text);
}

#[test]
fn a_store_says_what_it_is_in_and_a_newer_one_is_left_alone() {
    let w = World::new();
    w.create("box", "RUN echo kept\n").ok();
    w.pocker(&["volume", "create", "data"]).ok();
    // Looked at while it is in use; changed only when it is not.
    let plan = w.pocker(&["store", "upgrade", "--dry-run"]).ok().out;
    for line in [
        "format 1 found, 1 known",
        "volumes: format 5 found, 5 known",
        "nothing to do",
    ] {
        assert!(plan.lines().any(|l| l == line), "no {line:?} in {plan}");
    }
    w.pocker(&["store", "upgrade"])
        .fails(&["in use by process", "hint: ", "pocker serve --stop"]);
    w.pocker(&["serve", "--stop"]).ok();
    let done = w.pocker(&["store", "upgrade"]).ok().out;
    assert!(done.contains("nothing to do"), "{done}");

    sql(&w, "INSERT INTO feature VALUES ('zstd-blobs', 1)");
    let plan = w.pocker(&["store", "upgrade", "--dry-run"]).ok().out;
    assert!(plan.contains("feature zstd-blobs: unknown"), "{plan}");
    w.pocker(&["store", "upgrade"])
        .fails(&["zstd-blobs", "hint: "]);
    sql(&w, "DELETE FROM feature; PRAGMA user_version = 7");
    let plan = w.pocker(&["store", "upgrade", "--dry-run"]).ok().out;
    assert!(
        plan.contains("format 7 found, 1 known") && plan.contains("newer pocker"),
        "{plan}"
    );
    w.pocker(&["store", "upgrade"])
        .fails(&["format 7", "hint: "]);
    sql(&w, "PRAGMA user_version = 0");
    w.pocker(&["ls"])
        .fails(&["older format 0", "pocker store upgrade", "hint: "]);
    w.pocker(&["store", "upgrade"]).fails(&["no way", "hint: "]);
    sql(&w, "PRAGMA user_version = 1");
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
}

/// One of the time before collection gave space back.
#[test]
fn an_index_that_cannot_give_space_back_is_written_anew() {
    let w = World::new();
    w.create("box", "RUN echo kept\n").ok();
    w.pocker(&["serve", "--stop"]).ok();
    sql(
        &w,
        "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM",
    );
    let plan = w.pocker(&["store", "upgrade", "--dry-run"]).ok().out;
    assert!(plan.contains("to do: write index.db anew"), "{plan}");
    let done = w.pocker(&["store", "upgrade"]).ok().out;
    let copy = w.path("store/before-upgrade-1/index.db");
    assert!(
        done.contains("done: write index.db anew") && done.contains(&copy.display().to_string()),
        "{done}"
    );
    assert!(copy.exists());
    let again = w.pocker(&["store", "upgrade"]).ok().out;
    assert!(again.contains("nothing to do"), "{again}");
    w.pocker(&["fsck"]).ok();
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
}
