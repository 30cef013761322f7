//! `SETS`: a tree of OpenBSD's sets, built and looked at on this host.

#[path = "support/release.rs"]
mod release;
mod support;

use support::World;

const FILE: &str =
    "SETS --from=rel --key=rel/base.pub --arch=amd64 7.8 base comp man\nRUN exec ksh\n";

fn world() -> World {
    let world = World::new();
    release::write(&world.path("rel"), &release::sets());
    world.write("o.pockerfile", FILE);
    world
}

fn create(world: &World) -> support::Done {
    world.pocker(&["create", "--no-browse", "-f", "o.pockerfile", "o"])
}

#[test]
fn a_tree_of_sets_has_what_an_installed_system_has() {
    let w = world();
    let done = create(&w).ok();
    assert_eq!(done.err.matches("built in").count(), 2, "{}", done.err);
    let list = w.pocker(&["tree", "-l", "o"]).ok().out;
    let line = |path: &str| {
        let found = list
            .lines()
            .find(|l| l.split_whitespace().any(|w| w == path));
        found
            .unwrap_or_else(|| panic!("no {path} in:\n{list}"))
            .to_owned()
    };
    // Owners and modes are the sets'; what base carries for a new system is there; no node that reaches memory.
    for (path, starts, holds) in [
        ("/bin/ksh", "-r-xr-xr-x", "7"),
        ("/usr/bin/su", "-r-sr-xr-x", "0"),
        ("/usr/bin/cc", "-r-xr-xr-x", "0"),
        ("/etc/master.passwd", "-rw-------", "0"),
        ("/dev/null", "crw-rw-rw-", "2,"),
        ("/dev/tty", "crw-rw-rw-", "1,"),
    ] {
        let line = line(path);
        assert!(line.starts_with(starts) && line.contains(holds), "{line}");
    }
    assert!(!list.contains("/dev/mem"), "{list}");
    let cat = |path: &str| w.pocker(&["cat", &format!("o:{path}")]).ok().out;
    assert_eq!(cat("/bin/sh"), "\u{7f}ELF ksh");
    assert_eq!(cat("/etc/hosts"), "127.0.0.1 localhost\n");
    assert_eq!(
        cat("/etc/installurl"),
        "https://cdn.openbsd.org/pub/OpenBSD\n"
    );
    assert_eq!(cat("/usr/share/man/man1/cc.1"), ".Dt CC 1\n");

    // It is no use to this kernel, and nothing of a run is left.
    w.pocker(&["run", "o"]).fails(&[
        "o: a tree of OpenBSD's sets runs on OpenBSD 7.8, and this is Linux",
        "hint: it can be looked into here",
    ]);
    assert_eq!(w.pocker(&["run", "o"]).status, 125);
    let stats = w.pocker(&["serve", "--stats", "--json"]).ok().out;
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("json");
    assert_eq!(stats["leases"]["runs"], 0, "{stats}");

    let again = create(&w).ok();
    assert_eq!(again.err.matches("cached").count(), 2, "{}", again.err);
}

#[test]
fn a_mirror_that_breaks_off_leaves_nothing() {
    let w = world();
    let url = release::mirror(&w.path("rel"), "comp78.tgz");
    w.write(
        "o.pockerfile",
        &FILE.replace("--from=rel", &format!("--from={url}")),
    );
    create(&w).fails(&[
        "o.pockerfile",
        "line 1: SETS: cannot read",
        "comp78.tgz",
        "hint:",
    ]);
    assert_eq!(w.pocker(&["ls"]).ok().out, "");
    let left: Vec<_> = std::fs::read_dir(w.path("store/staging/in"))
        .expect("listed")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let url = release::mirror(&w.path("rel"), "");
    w.write(
        "o.pockerfile",
        &FILE.replace("--from=rel", &format!("--from={url}")),
    );
    create(&w).ok();
    assert_eq!(
        w.pocker(&["cat", "o:/etc/installurl"]).ok().out,
        format!("{url}\n")
    );
}
