//! What rotted is named with every tree it is in, set aside, and made anew by the next build.

use super::json;
use super::support::World;
use std::os::unix::fs::FileExt;

const LINES: &str = "EXEC echo first >/first\nEXEC yes kept | head -c 3000000 >/large\nEXEC echo last >/last\nRUN head -c 5 /large\n";

#[test]
fn a_build_makes_only_the_steps_that_lack_something() {
    let w = World::new();
    w.create("box", LINES).ok();
    w.pocker(&["pin", "box@4"]).ok();
    w.pocker(&["volume", "create", "data", "--from", "box"])
        .ok();
    w.create("other", "RUN true\n").ok();
    w.pocker(&["serve", "--stop"]).ok();
    let large = {
        use sha2::Digest;
        let bytes: Vec<u8> = b"kept\n".iter().copied().cycle().take(3_000_000).collect();
        hex::encode(sha2::Sha256::digest(bytes))
    };
    let blob = w.path("store/blobs").join(&large[..2]).join(&large);
    let file = std::fs::File::options()
        .write(true)
        .open(&blob)
        .expect("the blob");
    file.write_all_at(b"K", 2_000_000).expect("write");
    let done = w.pocker(&["fsck"]);
    assert_eq!(done.status, 4, "{}", done.err);
    for line in [
        "at /large",
        "in box (step3, step4, run)",
        "in the step pinned as box@step4",
        "in volume data",
        "can be repaired",
    ] {
        assert!(
            done.out.lines().any(|l| l.trim() == line),
            "no {line:?} in:\n{}",
            done.out
        );
    }
    assert!(!done.out.contains("other"), "{}", done.out);
    let found = json_of(&w.pocker(&["fsck", "--json"]).out);
    assert_eq!(found["volumes"], 1);
    assert_eq!(found["findings"][0]["volumes"][0], "data");

    w.pocker(&["fsck", "--repair"]);
    assert!(
        w.path("store/quarantine")
            .join(format!("blob-{large}"))
            .exists()
    );
    let left = w.pocker(&["fsck"]);
    assert!(
        left.out.contains("referred to, but not there"),
        "{}",
        left.out
    );
    w.pocker(&["run", "box"]).fails(&[]);
    // The steps before it, and other pockers, are none the worse.
    let other = w.create("other", "RUN true\n").ok();
    assert_eq!(other.err.matches("built in").count(), 0, "{}", other.err);
    let again = w.create("box", LINES).ok();
    assert_eq!(again.err.matches("cached").count(), 2, "{}", again.err);
    w.pocker(&["fsck"]).ok();
    assert_eq!(w.pocker(&["run", "box"]).ok().out, "kept\n");
    // It came back for all who had it.
    let sum = [
        "run",
        "-v",
        "data:/data",
        "box",
        "--",
        "/bin/sh",
        "-c",
        "sha256sum </data/large",
    ];
    assert!(w.pocker(&sum).ok().out.starts_with(&large));
    let cached = w.create("box", LINES).ok();
    assert_eq!(cached.err.matches("cached").count(), 5, "{}", cached.err);
    assert!(json(&w, &["fsck"])["sound"].as_bool() == Some(true));
}

fn json_of(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}
