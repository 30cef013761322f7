//! Hits, misses, claims, failures, interrupts.

use super::fake::{NOT_CANCELLED, World};
use crate::build::*;
use crate::control::api::StepInfo;
use crate::sandbox::Exit;
use std::sync::atomic::AtomicBool;

const SEED: &str =
    "PROOT   # a chroot modelled on this host\nPKG nginx\nRUN nginx -g 'daemon off;'\n";

pub fn outcomes(built: &Built) -> Vec<Outcome> {
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
