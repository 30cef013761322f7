//! SETS over a fake server: what goes into the tree, its key, and what is refused.

#[path = "../../../tests/support/release.rs"]
mod release;

use super::*;
use crate::build::tests::fake::World;
use release::{list, mirror, public, sets, signed, write};

const FILE: &str =
    "SETS --from=rel --key=rel/base.pub --arch=amd64 7.8 base comp man\nRUN exec ksh\n";

fn world() -> World {
    let world = World::new();
    write(&world.dir.path().join("context/rel"), &sets());
    world
}

fn put(world: &World, name: &str, bytes: impl AsRef<[u8]>) {
    let path = world.dir.path().join("context/rel/7.8/amd64").join(name);
    std::fs::write(path, bytes).expect("written");
}

/// The message and its hint, without this test's directory.
fn refused_on(world: &mut World, file: &str) -> String {
    let error = world.build("x", file).expect_err("refused");
    world.assert_nothing_left();
    let dir = world.dir.path().join("context").display().to_string();
    let text = format!("{error}\n  {}", error.hint().unwrap_or_default());
    text.replace(&dir, "CONTEXT")
}

/// The same, and nothing may be left.
fn refused(world: &mut World, file: &str) -> String {
    let text = refused_on(world, file);
    assert!(world.workshop.steps.borrow().is_empty(), "a step is kept");
    assert!(world.workshop.pockers.borrow().is_empty(), "a name is kept");
    let left = std::fs::read_dir(world.dir.path().join("cache")).expect("listed");
    assert_eq!(left.count(), 0, "something lies in the cache");
    text
}

#[test]
fn the_key_is_of_the_release_and_not_of_where_it_lies() {
    let mut world = world();
    let keys = |world: &mut World, file: &str| {
        let built = world.build("x", file).expect("builds");
        built.steps[0].0.key.clone()
    };
    let first = keys(&mut world, FILE);
    let other = world.dir.path().join("context/elsewhere");
    write(&other, &sets());
    let there = keys(
        &mut world,
        &FILE.replace("--from=rel", "--from=elsewhere/7.8/amd64"),
    );
    assert_eq!(first, there);
    let order = keys(&mut world, &FILE.replace("base comp", "comp base"));
    assert_ne!(first, order);
    let mut changed = sets();
    changed[2].1 = changed[1].1.clone();
    write(&other, &changed);
    assert_ne!(
        first,
        keys(&mut world, &FILE.replace("--from=rel", "--from=elsewhere"))
    );
}

#[test]
fn a_list_that_nobody_vouches_for_is_refused() {
    let mut world = world();
    let mut all = Vec::new();
    put(
        &world,
        "SHA256.sig",
        signed(1, &list(&sets())).replace(") = ", ") =  "),
    );
    all.push(refused(&mut world, FILE));
    put(&world, "SHA256.sig", signed(2, &list(&sets())));
    all.push(refused(&mut world, FILE));
    put(&world, "SHA256.sig", list(&sets()));
    all.push(refused(&mut world, FILE));
    put(&world, "SHA256.sig", signed(1, &list(&sets()[..2])));
    all.push(refused(&mut world, FILE));
    put(&world, "SHA256.sig", vec![b'x'; LIST_MAX as usize + 1]);
    all.push(refused(&mut world, FILE));
    put(&world, "SHA256.sig", signed(1, &list(&sets())));
    world.write("rel/base.pub", "untrusted comment: x\nRWQ=\n");
    all.push(refused(&mut world, FILE));
    world.write("rel/base.pub", &format!("{}{}", public(1), public(2)));
    all.push(refused(&mut world, FILE));
    all.push(refused(
        &mut world,
        &FILE.replace("rel/base.pub", "none.pub"),
    ));
    all.push(refused(
        &mut world,
        &FILE.replace(" --key=rel/base.pub", ""),
    ));
    insta::assert_snapshot!("lists", all.join("\n"));
}

#[test]
fn what_a_pockerfile_names_lies_in_its_context() {
    let mut world = world();
    let dir = world.dir.path().to_owned();
    std::fs::copy(dir.join("context/rel/base.pub"), dir.join("base.pub")).expect("copied");
    std::os::unix::fs::symlink(dir.join("base.pub"), dir.join("context/out.pub")).expect("linked");
    std::os::unix::fs::symlink("../..", dir.join("context/up")).expect("linked");
    let key = |to: &str| FILE.replace("rel/base.pub", to);
    let mut all = Vec::new();
    for file in [
        key("../base.pub"),
        key("out.pub"),
        key("/etc/signify/openbsd-78-base.pub"),
        key("rel"),
        FILE.replace("--from=rel", "--from=up/context/rel"),
        FILE.replace("--from=rel", "--from=/srv/rel"),
    ] {
        all.push(refused(&mut world, &file));
    }
    insta::assert_snapshot!("outside", all.join("\n"));
    // A link that stays inside is one.
    std::fs::rename(dir.join("base.pub"), dir.join("context/base.pub")).expect("moved");
    std::os::unix::fs::symlink("rel/../base.pub", dir.join("context/in.pub")).expect("linked");
    world.build("x", &key("in.pub")).expect("builds");
}

#[test]
fn a_list_may_be_pinned() {
    let mut world = world();
    let bytes = signed(1, &list(&sets()));
    let digest = hex::encode(Sha256::digest(bytes.as_bytes()));
    let pinned = |digest: &str| FILE.replace("comp man", &format!("comp man sha256:{digest}"));
    let built = world.build("x", &pinned(&digest)).expect("builds");
    let key = built.steps[0].0.key.clone();
    // It says which list, and the tree is of the sets.
    assert_eq!(world.build("y", FILE).expect("builds").steps[0].0.key, key);
    world.workshop.steps.borrow_mut().clear();
    world.workshop.pockers.borrow_mut().clear();
    let text = refused(&mut world, &pinned(&"0".repeat(64)));
    assert_eq!(
        text,
        format!(
            "line 1: SETS: CONTEXT/rel/7.8/amd64/SHA256.sig is not the one that the Pockerfile pins: it has sha256:{digest}\n  \
             the mirror has another snapshot of the release than was meant; where that is right, pin the new one"
        )
    );
}

#[test]
fn a_mirrors_password_is_neither_kept_nor_shown() {
    let mut world = world();
    let url = mirror(&world.dir.path().join("context/rel"), "");
    let file = |url: &str| FILE.replace("--from=rel", &format!("--from={url}"));
    let plain = world.build("x", &file(&url)).expect("builds");
    let open = world.workshop.archives.borrow().join("\n");
    world.workshop.archives.borrow_mut().clear();
    world.workshop.steps.borrow_mut().clear();
    let own = url.replace("http://", "http://me:secret@");
    let named = world.build("x", &file(&own)).expect("builds");
    // The tree is the same to the byte, /etc/installurl too.
    assert_eq!(world.workshop.archives.borrow().join("\n"), open);
    assert_eq!(named.steps[0].0.key, plain.steps[0].0.key);
    let nothing = file(&format!("{own}/none"));
    let text = refused_on(&mut world, &nothing);
    assert!(text.contains("404") && !text.contains("secret"), "{text}");
}

#[test]
fn a_set_that_is_not_the_releases_is_refused() {
    let mut world = world();
    let mut all = Vec::new();
    let comp = sets()[1].1.clone();
    put(&world, "comp78.tgz", &comp[..comp.len() / 2]);
    all.push(refused(&mut world, FILE));
    std::fs::remove_file(world.dir.path().join("context/rel/7.8/amd64/comp78.tgz")).expect("gone");
    all.push(refused(&mut world, FILE));
    // Signed, and no set at all.
    let odd = [
        ("base", b"no gzip".to_vec()),
        ("comp", comp),
        ("man", Vec::new()),
    ];
    write(&world.dir.path().join("context/rel"), &odd);
    all.push(refused(&mut world, FILE));
    insta::assert_snapshot!("sets", all.join("\n"));
}

#[test]
fn a_mirror_is_taken_at_its_word_and_at_nobody_elses() {
    let mut world = world();
    let dir = world.dir.path().join("context/rel");
    let mut all = Vec::new();
    for (cut, from) in [
        ("comp78.tgz", None),
        ("SHA256.sig", None),
        ("", Some("http://127.0.0.1:1/pub")),
        ("", Some("ftp://mirror/pub")),
    ] {
        let url = from.map_or_else(|| mirror(&dir, cut), str::to_owned);
        let file = FILE.replace("--from=rel", &format!("--from={url}"));
        all.push(refused(&mut world, &file).replace(&url, "MIRROR"));
    }
    let nothing = mirror(&dir.join("7.8"), "");
    let file = FILE.replace("--from=rel", &format!("--from={nothing}"));
    all.push(refused(&mut world, &file).replace(&nothing, "MIRROR"));
    insta::assert_snapshot!("mirrors", all.join("\n"));
    let url = mirror(&dir, "");
    let file = FILE.replace("--from=rel", &format!("--from={url}"));
    assert_eq!(world.build("x", &file).expect("builds").steps.len(), 2);
}

#[test]
fn an_interrupted_build_keeps_nothing() {
    let mut world = world();
    static NOW: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);
    let error = world.build_until("x", FILE, &NOW).expect_err("cancelled");
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    world.assert_nothing_left();
}

#[test]
fn proot_is_the_base_set_of_the_kernels_release_on_openbsd() {
    use crate::build::Model;
    use crate::build::plan::{Action, Base, of_host};
    let (canonical, action) = of_host(&Model::Sets("7.8".to_owned()));
    let Action::Base(Base::Sets(plan)) = action else {
        panic!("no sets")
    };
    assert_eq!(canonical, format!("SETS 7.8 {} base", plan.arch));
    assert_eq!(
        (plan.release.as_str(), plan.sets.as_slice()),
        ("7.8", &["base".to_owned()][..])
    );
    assert_eq!((plan.from, plan.key, plan.sha256), (None, None, None));
    assert!(matches!(
        of_host(&Model::Distribution),
        (_, Action::Base(Base::Host))
    ));
}

#[test]
fn a_release_runs_on_its_own_kernel() {
    runs_on("OpenBSD", "7.8", "7.8").expect("its own");
    runs_on("Linux", "6.1", "7.8").expect("built, not run");
    assert_eq!(named("SETS 7.8 amd64 base comp"), Some("7.8"));
    assert_eq!((named("PROOT"), named("FROM SETS")), (None, None));
    for (system, kernel, release) in [
        ("OpenBSD", "7.8", Some("7.8")),
        ("Linux", "6.1", None),
        ("OpenBSD", "7.7", None),
    ] {
        runs_under(system, kernel, release).expect("runs");
    }
    let refused = |system, kernel| {
        let done = runs_under(system, kernel, Some("7.8"));
        done.expect_err("refused").0
    };
    assert_eq!(
        refused("Linux", "7.8"),
        "a tree of OpenBSD's sets runs on OpenBSD 7.8, and this is Linux"
    );
    // The host was upgraded since.
    assert_eq!(
        refused("OpenBSD", "7.9"),
        "programs of OpenBSD 7.8 do not run on this kernel, which is 7.9"
    );
    let error = runs_on("OpenBSD", "7.7", "7.8").expect_err("another");
    assert_eq!(
        format!("{}; {}", error.why, error.hint),
        "programs of OpenBSD 7.8 do not run on this kernel, which is 7.7; write SETS 7.7, or upgrade this host with sysupgrade(8)"
    );
}

#[test]
fn what_is_made_from_a_pocker_of_sets_is_known_for_one() {
    let mut world = world();
    let of = |world: &World, name: &str| {
        let pockers = world.workshop.pockers.borrow();
        pockers[name].config.openbsd.clone()
    };
    world.build("x", FILE).expect("builds");
    world.build("y", "FROM x\nRUN exec ksh\n").expect("builds");
    world
        .build("z", "FROM y\nEXEC true\nRUN exec ksh\n")
        .expect("builds");
    for name in ["x", "y", "z"] {
        assert_eq!(of(&world, name).as_deref(), Some("7.8"), "{name}");
    }
    world
        .build("y", "FROM scratch\nRUN exec ksh\n")
        .expect("builds");
    assert_eq!(of(&world, "y"), None);
}
