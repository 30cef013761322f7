//! Hits, misses, claims, failures, interrupts.

use super::fake::{NOT_CANCELLED, World};
use crate::build::*;
use crate::control::api::StepInfo;
use crate::sandbox::Exit;
use std::sync::atomic::AtomicBool;

const SEED: &str =
    "PROOT   # a chroot modelled on this host\nPKG nginx\nRUN nginx -g 'daemon off;'\n";

fn outcomes(built: &Built) -> Vec<Outcome> {
    built.steps.iter().map(|(_, outcome)| *outcome).collect()
}

#[test]
fn the_seeds_example_makes_two_steps_and_a_run() {
    let mut world = World::new();
    let built = world.build("nginx", SEED).expect("builds");
    assert!(built.changed);
    insta::assert_snapshot!(world.workshop.take_log().join("\n"), @r#"
    claim rebuild=false
    ingest 0 entries
    put PROOT
    claim rebuild=false
    tree of snapshot2 for nginx step 2
    seal PKG nginx
    claim rebuild=false
    put RUN nginx -g 'daemon off;'
    point nginx at 3 steps
    "#);
    insta::assert_snapshot!(world.events.join("\n"), @r#"
    1/3 PROOT
      why: nothing has this key yet
      Built
    2/3 PKG nginx
      why: nothing has this key yet
      Built
    3/3 RUN nginx -g 'daemon off;'
      why: nothing has this key yet
      Built
    "#);
    assert_eq!(built.config.command, "nginx -g 'daemon off;'");
    let [_, pkg, run] = built.steps.as_slice() else {
        panic!("{} steps", built.steps.len());
    };
    assert_eq!(
        pkg.0.snapshot, run.0.snapshot,
        "RUN's tree is the one before"
    );
    world.assert_nothing_left();
}

#[test]
fn a_second_build_only_looks_up() {
    let mut world = World::new();
    world.write("a", "x");
    let file = "PROOT\nPKG nginx\nCOPY a /a\nEXEC make\nRUN x\n";
    world.build("nginx", file).expect("builds");
    let runs = world.shell.specs.borrow().len();
    world.workshop.take_log();
    let built = world.build("nginx", file).expect("builds");
    assert!(outcomes(&built).iter().all(|o| *o == Outcome::Cached));
    assert!(!built.changed);
    assert_eq!(world.shell.specs.borrow().len(), runs, "no sandbox");
    assert_eq!(world.workshop.take_log(), Vec::<String>::new(), "no change");
    assert_eq!(world.host.made.get(), 1);
    // Another name shares all steps, and is pointed at them.
    let other = world.build("other", file).expect("builds");
    assert!(other.changed);
    assert!(outcomes(&other).iter().all(|o| *o == Outcome::Cached));
    assert_eq!(world.workshop.take_log(), ["point other at 5 steps"]);
}

#[test]
fn explain_says_why() {
    let mut world = World::new();
    world.write("a", "1");
    let file = "ARG V=1\nPROOT\nPKG nginx\nCOPY a /a\nEXEC make\nRUN x\n";
    world.build("web", file).expect("builds");
    let mut all = Vec::new();
    let mut why = |world: &mut World, file: &str| {
        world.build("web", file).expect("builds");
        all.extend(
            world
                .events
                .iter()
                .filter(|e| !e.starts_with("  Built") && !e.starts_with("  Cached"))
                .cloned(),
        );
        all.push(String::new());
    };
    world.write("a", "2");
    why(&mut world, file);
    why(&mut world, &file.replace("nginx", "nginx curl"));
    world.args.push(("V".to_owned(), "2".to_owned()));
    why(&mut world, &file.replace("nginx", "nginx curl"));
    world.host.release.get_mut().codename = "trixie".to_owned();
    why(
        &mut world,
        &file
            .replace("RUN x", "ENV A=1\nRUN x")
            .replace("EXEC make\n", ""),
    );
    insta::assert_snapshot!(all.join("\n"), @r#"
    1/5 PROOT
      why: its key is in the store
    2/5 PKG nginx
      why: its key is in the store
    3/5 COPY a /a
      why: the copied files changed
    4/5 EXEC make
      why: the step before it changed
    5/5 RUN x
      why: the step before it changed

    1/5 PROOT
      why: its key is in the store
    2/5 PKG curl nginx
      why: the instruction changed; it was `PKG nginx`
    3/5 COPY a /a
      why: the step before it changed
    4/5 EXEC make
      why: the step before it changed
    5/5 RUN x
      why: the step before it changed

    1/5 PROOT
      why: its key is in the store
    2/5 PKG curl nginx
      why: its key is in the store
    3/5 COPY a /a
      why: its key is in the store
    4/5 EXEC make
      why: ENV, ARG, USER or WORKDIR changed
    5/5 RUN x
      why: the step before it changed

    1/4 PROOT
      why: this host's release, its mirrors or --source-date-epoch changed
    2/4 PKG nginx
      why: the instruction changed; it was `PKG curl nginx`
    3/4 COPY a /a
      why: the step before it changed
    4/4 RUN x
      why: the instruction changed; it was `EXEC make`
    "#);
}

#[test]
fn no_cache_builds_every_step_again() {
    let mut world = World::new();
    world.build("nginx", SEED).expect("builds");
    world.no_cache = true;
    let built = world.build("nginx", SEED).expect("builds");
    assert!(outcomes(&built).iter().all(|o| *o == Outcome::Built));
    assert!(built.changed, "the same keys, but other trees");
    assert_eq!(world.host.made.get(), 2);
    world.assert_nothing_left();
}

/// Keys do not tell that a parent was built anew, so a hit must stand on the parent's present tree.
#[test]
fn a_step_on_a_tree_that_was_replaced_is_built_again() {
    let mut world = World::new();
    world.build("a", SEED).expect("builds");
    world.build("b", SEED).expect("builds");
    world.no_cache = true;
    world.build("a", "PROOT\nRUN other\n").expect("builds");
    world.no_cache = false;
    let b = world.build("b", SEED).expect("builds");
    assert_eq!(
        outcomes(&b),
        [Outcome::Cached, Outcome::Built, Outcome::Built]
    );
    assert_eq!(b.steps[1].0.parent, Some(b.steps[0].0.snapshot.clone()));
    world.assert_nothing_left();
}

#[test]
fn two_builds_share_a_step_that_the_other_finished_first() {
    let mut world = World::new();
    let first = world.build("a", SEED).expect("builds");
    let mut second = World::new();
    let theirs: Vec<StepInfo> = first.steps.iter().map(|(info, _)| info.clone()).collect();
    for info in &theirs[..2] {
        second
            .workshop
            .faster
            .borrow_mut()
            .insert(info.key.clone(), info.clone());
    }
    let built = second.build("a", SEED).expect("builds");
    assert_eq!(
        outcomes(&built),
        [Outcome::Shared, Outcome::Shared, Outcome::Built]
    );
    assert_eq!(second.shell.specs.borrow().len(), 0);
    assert_eq!(built.steps[1].0, theirs[1]);
    second.assert_nothing_left();
}

#[test]
fn a_failed_step_keeps_its_tree_and_shows_the_last_output() {
    let mut world = World::new();
    world.shell.exit.set(Exit::Code(122));
    let output = "E: Unable to locate package nginxx\n\x1b[31mbye\x1b[0m";
    *world.shell.output.borrow_mut() = output.into();
    let error = world
        .build("web", "PROOT\nPKG nginxx\nRUN x\n")
        .expect_err("fails");
    insta::assert_snapshot!(format!("{error}\nhint: {}", error.hint().unwrap_or_default()), @r#"
    line 2: `PKG nginxx` failed: the package manager could not install this
      | E: Unable to locate package nginxx
      | bye
    hint: its tree is kept: `pocker debug web` enters it
    "#);
    insta::assert_snapshot!(world.workshop.take_log().join("\n"), @r#"
    claim rebuild=false
    ingest 0 entries
    put PROOT
    claim rebuild=false
    tree of snapshot2 for web step 2
    keep for web
    release
    "#);
    assert!(world.workshop.pockers.borrow().is_empty());
    world.assert_nothing_left();
    // What was finished before counts next time.
    world.shell.exit.set(Exit::Code(0));
    let built = world
        .build("web", "PROOT\nPKG nginx\nRUN x\n")
        .expect("builds");
    assert_eq!(
        outcomes(&built),
        [Outcome::Cached, Outcome::Built, Outcome::Built]
    );
}

#[test]
fn the_status_of_a_failed_command_is_told() {
    let mut world = World::new();
    let mut all = String::new();
    for exit in [
        Exit::Code(3),
        Exit::Code(127),
        Exit::Signal(9),
        Exit::Code(120),
        Exit::Code(121),
    ] {
        world.shell.exit.set(exit);
        for file in [
            "FROM scratch\nEXEC make\nRUN x\n",
            "FROM scratch\nPKG a\nRUN x\n",
        ] {
            let error = world.build("web", file).expect_err("fails");
            all.push_str(&format!("{error}\n"));
        }
    }
    insta::assert_snapshot!(all, @r#"
    line 2: `EXEC make` failed: exit status 3
    line 2: `PKG a` failed: exit status 3
    line 2: `EXEC make` failed: the command was not found (exit status 127)
    line 2: `PKG a` failed: the command was not found (exit status 127)
    line 2: `EXEC make` failed: killed by signal 9
    line 2: `PKG a` failed: killed by signal 9
    line 2: `EXEC make` failed: exit status 120
    line 2: `PKG a` failed: the tree has no package manager that pocker knows (apt-get, apk, dnf, pacman, xbps-install, pkg_add, pkg)
    line 2: `EXEC make` failed: exit status 121
    line 2: `PKG a` failed: the package index could not be updated
    "#);
}

#[test]
fn an_interrupt_drops_the_tree_and_the_claim() {
    static FLAG: AtomicBool = AtomicBool::new(false);
    let mut world = World::new();
    world.shell.interrupt = Some(&FLAG);
    world.shell.exit.set(Exit::Signal(2));
    let result = world.build_until("web", SEED, &FLAG);
    assert!(matches!(result, Err(BuildError::Cancelled)), "{result:?}");
    let log = world.workshop.take_log();
    assert_eq!(log[log.len() - 2..], ["drop", "release"]);
    world.assert_nothing_left();
    world.shell.interrupt = None;
    world.shell.exit.set(Exit::Code(0));
    world
        .build_until("web", SEED, &NOT_CANCELLED)
        .expect("the next create works");
}

#[test]
fn pull_builds_what_the_mirror_has_newer() {
    let mut world = World::new();
    let index = |world: &World, text: &str| {
        *world.shell.output.borrow_mut() =
            format!("Get:1\n\u{1}pocker-index {text}\ndone\n").into_bytes();
    };
    index(&world, "aaa");
    let built = world.build("web", SEED).expect("builds");
    assert_eq!(built.steps[0].0.upstream.as_deref(), Some("monday"));
    assert_eq!(built.steps[1].0.upstream.as_deref(), Some("aaa"));
    assert!(
        !world.events.iter().any(|e| e.contains("pocker-index")),
        "the mark is not shown"
    );

    world.pull = true;
    let same = world.build("web", SEED).expect("builds");
    assert!(outcomes(&same).iter().all(|o| *o == Outcome::Cached));
    world.assert_nothing_left();

    index(&world, "bbb");
    let newer = world.build("web", SEED).expect("builds");
    assert_eq!(
        outcomes(&newer),
        [Outcome::Cached, Outcome::Built, Outcome::Built]
    );

    *world.host.upstream.borrow_mut() = "tuesday".to_owned();
    let newest = world.build("web", SEED).expect("builds");
    assert!(outcomes(&newest).iter().all(|o| *o == Outcome::Built));
    world.pull = false;
    let cached = world.build("web", SEED).expect("builds");
    assert!(outcomes(&cached).iter().all(|o| *o == Outcome::Cached));
}

#[test]
fn what_exec_and_pkg_get_by_mount() {
    let mut world = World::new();
    let ca = world.dir.path().join("ca.pem");
    let token = world.dir.path().join("token");
    for file in [&ca, &token] {
        std::fs::write(file, "x").expect("written");
    }
    world.ca = Some(ca);
    world.secrets.push(("token".to_owned(), token));
    let passwd = b"app:x:5:6::/home/app:/bin/sh\n".to_vec();
    world
        .workshop
        .files
        .borrow_mut()
        .insert("/etc/passwd".to_owned(), passwd);
    let file = "ARG V=1\nFROM scratch\nENV TERM=vt100 V=2\nPKG b a\nUSER app\nWORKDIR /srv\nWORKDIR app\n\
                EXEC --secret id=token --cache=/root/.cache make\nRUN x\n";
    world.build("web", file).expect("builds");
    let cache_of = steady;
    let dir = world.dir.path().display().to_string();
    let specs: Vec<String> = world
        .shell
        .specs
        .borrow()
        .iter()
        .map(|spec| cache_of(&spec.replace(&dir, "DIR")))
        .collect();
    insta::assert_snapshot!(specs.join("\n"), @r#"
    nfs /build/5 ro=false Build Captured
    user None in Some("/")
      arg /bin/sh
      arg -c
      arg SCRIPT
      arg pocker-pkg
      arg install
      arg a
      arg b
      env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
      env HOME=/root
      env http_proxy=http://proxy:1
      env POCKER_CA=/run/pocker/ca.pem
      env SSL_CERT_FILE=/run/pocker/ca.pem
      env SSL_CA_CERT_FILE=/run/pocker/ca.pem
      env CURL_CA_BUNDLE=/run/pocker/ca.pem
      env REQUESTS_CA_BUNDLE=/run/pocker/ca.pem
      env PIP_CERT=/run/pocker/ca.pem
      env NODE_EXTRA_CA_CERTS=/run/pocker/ca.pem
      env GIT_SSL_CAINFO=/run/pocker/ca.pem
      env CARGO_HTTP_CAINFO=/run/pocker/ca.pem
      env TERM=vt100
      env V=2
      at /etc/resolv.conf file DIR/etc/resolv.conf
      at /run/pocker tmpfs 755
      at /run/pocker/ca.pem file DIR/ca.pem
      at /run/pocker/work dir DIR/cache/pkg-*

    nfs /build/8 ro=false Build Captured
    user Some("app") in Some("/srv/app")
      arg /bin/sh
      arg -c
      arg make
      env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
      env HOME=/home/app
      env http_proxy=http://proxy:1
      env POCKER_CA=/run/pocker/ca.pem
      env SSL_CERT_FILE=/run/pocker/ca.pem
      env SSL_CA_CERT_FILE=/run/pocker/ca.pem
      env CURL_CA_BUNDLE=/run/pocker/ca.pem
      env REQUESTS_CA_BUNDLE=/run/pocker/ca.pem
      env PIP_CERT=/run/pocker/ca.pem
      env NODE_EXTRA_CA_CERTS=/run/pocker/ca.pem
      env GIT_SSL_CAINFO=/run/pocker/ca.pem
      env CARGO_HTTP_CAINFO=/run/pocker/ca.pem
      env TERM=vt100
      env V=2
      at /etc/resolv.conf file DIR/etc/resolv.conf
      at /run/pocker tmpfs 755
      at /run/pocker/ca.pem file DIR/ca.pem
      at /run/secrets tmpfs 755
      at /run/secrets/token file DIR/token
      at /root/.cache dir DIR/cache/a592911711ff68f812379425aba75c955cf593664bf692a325d6166291637f06
    "#);
    world.secrets.clear();
    let error = world
        .build("web", &file.replace("make", "make all"))
        .expect_err("no secret");
    assert_eq!(error.to_string(), "line 8: no secret `token` was given");
    world.assert_nothing_left();
}

/// Hides what differs from run to run: names of scratch directories.
fn steady(spec: &str) -> String {
    spec.lines()
        .map(|line| match line.split_once("DIR/cache/pkg-") {
            Some((head, _)) => format!("{head}DIR/cache/pkg-*\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn a_base_pocker_hands_down_its_config() {
    let mut world = World::new();
    let base = "FROM scratch\nENV A=1 B=2\nUSER u\nWORKDIR /w\nVOLUME /v\nRUN base\n";
    let base = world.build("base", base).expect("builds");
    let built = world
        .build(
            "web",
            "ARG FROM=base\nFROM $FROM\nENV B=3\nWORKDIR x\nRUN web\n",
        )
        .expect("builds");
    insta::assert_debug_snapshot!(built.config, @r#"
    RunConfig {
        command: "web",
        env: [
            (
                "A",
                "1",
            ),
            (
                "B",
                "3",
            ),
        ],
        user: Some(
            "u",
        ),
        workdir: Some(
            "/w/x",
        ),
        volumes: [
            "/v",
        ],
    }
    "#);
    assert_eq!(built.steps[0].0.snapshot, base.steps[0].0.snapshot);
    let error = world
        .build("web", "FROM nowhere\nRUN x\n")
        .expect_err("no base");
    assert_eq!(
        error.to_string(),
        "line 1: there is no pocker `nowhere` to build from"
    );
}

#[test]
fn archives_are_verified_while_they_stream() {
    use sha2::{Digest, Sha256};
    use std::io::Write;
    let mut world = World::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, "etc/motd", b"hello".as_slice())
        .expect("added");
    let plain = tar.into_inner().expect("finished");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("written");
    let gzip = gzip.finish().expect("finished");
    let file = |bytes: &[u8]| {
        format!(
            "FROM root.tar sha256:{}\nRUN x\n",
            hex::encode(Sha256::digest(bytes))
        )
    };
    let write = |world: &World, bytes: &[u8]| {
        std::fs::write(world.dir.path().join("context/root.tar"), bytes).expect("written");
    };
    for bytes in [&plain, &gzip] {
        write(&world, bytes);
        let built = world.build("a", &file(bytes)).expect("builds");
        assert_eq!(outcomes(&built), [Outcome::Built, Outcome::Built]);
        assert_eq!(
            world.workshop.archives.borrow_mut().pop().as_deref(),
            Some("Regular 644 0:0 etc/motd 5 \"hello\"")
        );
    }
    // Other bytes under the same pin: told, and nothing kept.
    let mut longer = gzip.clone();
    longer.extend_from_slice(&gzip);
    let steps = world.workshop.steps.borrow().len();
    for bytes in [
        &longer[..],
        &gzip[..gzip.len() - 4],
        &[1; 2048],
        b"\xfd7zXZ\0....",
    ] {
        write(&world, bytes);
        world.no_cache = true;
        let error = world
            .build("b", &file(&plain))
            .expect_err("another archive");
        assert!(
            matches!(error, BuildError::Pin { .. } | BuildError::Archive { .. }),
            "{error}"
        );
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(world.workshop.steps.borrow().len(), steps);
    assert!(!world.workshop.pockers.borrow().contains_key("b"));
    world.assert_nothing_left();
}

#[test]
fn bad_requests_are_refused_before_anything_is_asked() {
    let mut world = World::new();
    for (name, file) in [
        ("run", SEED),
        ("a/b", SEED),
        ("web", "PROOT\n"),
        ("web", "PROOT\nUSER $X\nRUN x\n"),
    ] {
        world.build(name, file).expect_err("refused");
    }
    world.args.push(("V".to_owned(), "1".to_owned()));
    let error = world.build("web", SEED).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "--build-arg V: the Pockerfile has no ARG of that name"
    );
    assert_eq!(world.workshop.take_log(), Vec::<String>::new());
}
