//! `pocker fsck` on a store that somebody's disk has hurt.

mod support;

use support::World;

/// The largest file below `dir`: busybox itself, in these stores.
fn largest(dir: &std::path::Path) -> std::path::PathBuf {
    let mut found = Vec::new();
    for sub in std::fs::read_dir(dir).expect("blobs") {
        let sub = sub.expect("an entry").path();
        for file in std::fs::read_dir(sub).expect("a folder") {
            let file = file.expect("a file");
            found.push((file.metadata().expect("stat").len(), file.path()));
        }
    }
    found.into_iter().max().expect("a blob").1
}

#[test]
fn a_sound_store_says_so_and_a_rotted_blob_is_named_and_set_aside() {
    let w = World::new();
    w.create("box", "EXEC echo kept >/kept\nRUN cat /kept\n")
        .ok();
    let done = w.pocker(&["fsck"]).ok();
    assert!(done.out.ends_with(": sound\n"), "{}", done.out);

    let blob = largest(&w.path("store/blobs"));
    let mut bytes = std::fs::read(&blob).expect("read");
    bytes[4096] ^= 1;
    std::fs::write(&blob, bytes).expect("write");
    let done = w.pocker(&["fsck"]);
    assert_eq!(done.status, 4, "{}", done.err);
    let name = blob.file_name().expect("a name").to_string_lossy();
    for word in [
        &*name,
        "damage: ",
        "in box",
        "at /",
        "can be repaired",
        "hint:",
    ] {
        assert!(done.out.contains(word), "no {word:?} in:\n{}", done.out);
    }

    let json = w.pocker(&["fsck", "--repair", "--json"]);
    assert!(json.out.contains("\"repaired\""), "{}", json.out);
    assert!(w.path("store/quarantine").read_dir().expect("it").count() > 0);
    // What the archive has is put again, and everything is whole.
    w.pocker(&["create", "--no-cache", "-f", "box.pockerfile", "box"])
        .ok();
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    w.pocker(&["fsck"]).ok();
}
