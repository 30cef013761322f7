//! Stores that earlier versions wrote open and read for ever. `scripts/store-fixture` writes one of
//! this version, to be committed beside the others when a version with another format is released.

use crate::bench::{named, prepare};
use crate::state::{Opened, State};
use pocker_testing::image::folder;
use std::path::Path;
use std::process::Command;

/// One for each format that was released.
const RELEASED: [&str; 1] = ["store-1.tar.gz"];

fn tar(args: &[&str], dir: &Path) {
    let done = Command::new("tar").args(args).current_dir(dir).status();
    assert!(done.expect("tar runs").success(), "tar {args:?}");
}

/// What a fixture holds, save work trees, which another boot or format takes away.
fn content(opened: &Opened) -> State {
    let mut state = opened.state();
    state.retain(|name, _| !name.starts_with("work "));
    state
}

fn made(dir: &Path) -> State {
    let opened = Opened::at(dir).expect("a store");
    prepare(&opened);
    named(&opened.store, "other", 2).expect("a pocker");
    content(&opened)
}

#[test]
fn every_released_format_opens_and_reads() {
    for name in RELEASED {
        let folder = folder();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        tar(&["-xzf", fixture.to_str().expect("text")], folder.path());
        let opened = Opened::at(&folder.path().join("store")).expect(name);
        let fresh = made(&folder.path().join("fresh"));
        assert_eq!(content(&opened), fresh, "{name}");
        assert_eq!(opened.fsck(false).expect("fsck").findings, [], "{name}");
        // It can be written to, too.
        named(&opened.store, "new", 6).expect("a pocker");
        drop(opened);
        let opened = Opened::at(&folder.path().join("store")).expect(name);
        assert!(content(&opened).contains_key("pocker new"), "{name}");
        assert_eq!(opened.fsck(false).expect("fsck").findings, [], "{name}");
    }
}

/// Where `POCKER_FIXTURE` names a file, the store is left there.
#[test]
fn this_format_is_written() {
    let folder = folder();
    let dir = folder.path().join("store");
    let before = made(&dir);
    assert_eq!(content(&Opened::at(&dir).expect("a store")), before);
    if let Some(fixture) = std::env::var_os("POCKER_FIXTURE") {
        let fixture = fixture.to_str().expect("text");
        tar(
            &["--sort=name", "--mtime=@0", "-czf", fixture, "store"],
            folder.path(),
        );
    }
}
