//! `SETS`: a tree of OpenBSD's sets, built and looked at on this host; and what ports' proot would make of an OpenBSD.

#[path = "support/release.rs"]
mod release;
mod support;

use pocker::build::proot::Bootstrap;
use pocker::build::proot::ports::{Kernel, Ports, populate};
use pocker::build::{Event, Progress};
use pocker::control::api::ArchiveDone;
use pocker::control::layers::Frames;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
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

struct Quiet;

impl Progress for Quiet {
    fn event(&mut self, _event: Event<'_>) {}
}

/// The unit tests have a server that only looks at archives.
#[test]
fn what_proot_made_becomes_a_tree_to_the_byte() {
    let w = World::new();
    let long = format!("usr/share/{}/{}", "d".repeat(120), "f".repeat(200));
    let script = format!(
        "#!/bin/sh\ncd \"$2\" && mkdir -m 711 -p bin var/empty usr/share/{d} && printf sh > bin/ksh && ln bin/ksh bin/sh &&\n\
         printf su > bin/su && chown 7:8 bin/su && chmod 4555 bin/su && printf x > {long} && ln {long} usr/long &&\n\
         ln -s ../../{long} usr/link && : > bin/empty && head -c 5000 /dev/zero > bin/five\n",
        d = "d".repeat(120),
    );
    for (path, text) in [
        ("ports/infrastructure/bin/proot", script.as_str()),
        ("usr/lib/locate/src.db", ""),
        ("dev/MAKEDEV", ""),
    ] {
        let path = w.path("host").join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let sysmerge = w.path("host/var/sysmerge");
    std::fs::create_dir_all(&sysmerge).expect("made");
    std::fs::write(sysmerge.join("etc.tgz"), release::set(&[])).expect("written");
    let program = w.path("host/ports/infrastructure/bin/proot");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("executable");

    let kernel = Kernel {
        release: "7.8".to_owned(),
        version: String::new(),
    };
    let ports = Ports::read(&w.path("host"), kernel, &program).expect("read");
    let options = Bootstrap {
        ca: None,
        source_date_epoch: None,
        proxies: &[],
        work_dir: &w.path("cache"),
    };
    let mut made = Vec::new();
    let mut sink = |stream: &mut dyn Read| {
        let mut frames = Frames::new(stream);
        assert!(frames.next_layer().expect("a layer"));
        frames.read_to_end(&mut made).expect("read");
        while frames.next_layer().expect("a layer") {
            std::io::copy(&mut frames, &mut std::io::sink()).expect("read");
        }
        Ok(ArchiveDone {
            snapshot: None,
            entries: 0,
            bytes: 0,
            sha256: String::new(),
        })
    };
    let go_on = AtomicBool::new(false);
    populate(&ports, &options, &mut Quiet, &go_on, &mut sink).expect("made");

    std::fs::write(w.path("made.tar"), made).expect("written");
    let archive = w.path("made.tar").display().to_string();
    w.pocker(&["import", &archive, "o"]).ok();
    let list = w.pocker(&["tree", "-l", "o"]).ok().out;
    for (path, starts, holds) in [
        ("/bin/su", "-r-sr-xr-x", " 7:8 "),
        ("/var/empty/", "drwx--x--x", " 0:0 "),
        ("/usr/link", "lrwxrwxrwx", " 0:0 "),
        ("/bin/sh", "-rw-r--r--", " 2 "),
    ] {
        let found = list
            .lines()
            .find(|l| l.split_whitespace().any(|w| w == path));
        let line = found.unwrap_or_else(|| panic!("no {path} in:\n{list}"));
        assert!(line.starts_with(starts) && line.contains(holds), "{line}");
    }
    for (path, bytes) in [
        ("/bin/sh", "sh"),
        ("/bin/ksh", "sh"),
        (&format!("/{long}"), "x"),
        ("/usr/long", "x"),
        ("/usr/link", "x"),
        ("/bin/empty", ""),
        ("/bin/five", &"\0".repeat(5000)),
    ] {
        let out = w.pocker(&["cat", &format!("o:{path}")]).ok().out;
        assert_eq!(out, *bytes, "{path}");
    }
}
