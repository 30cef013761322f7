//! What changes a key and what does not.

use super::fake::{World, keys};
use std::os::unix::fs::PermissionsExt;

const BASE: &str = "FROM scratch\n";

/// The key before RUN's, of a file in a fresh world that `prepare` has set up.
fn key(file: &str, prepare: impl FnOnce(&mut World)) -> String {
    let mut world = World::new();
    world.write("a", "contents");
    world.write("d/b", "more");
    let secret = world.dir.path().join("secret");
    std::fs::write(&secret, "s3cret").expect("written");
    world.secrets.push(("t".to_owned(), secret));
    prepare(&mut world);
    let mut keys = keys(&mut world, &format!("{BASE}{file}RUN x\n"));
    keys.pop();
    keys.pop().expect("a step")
}

#[test]
fn these_are_the_same_step() {
    let same = [
        ("PKG a b\n", "PKG   b \\\n  a  # why\n"),
        ("EXEC make\n", "EXEC --cache=/c make\n"),
        ("EXEC make\n", "EXEC --secret id=t make\n"),
        ("EXEC make\n", "VOLUME /v\nEXEC make\n"),
        ("COPY a /x\n", "COPY 'a' \"/x\"\n"),
        ("COPY a /x\n", "ENV A=1\nCOPY a /x\n"),
        ("WORKDIR /x\nCOPY a y\n", "COPY a /x/y\n"),
        ("ENV A=1\nEXEC m\n", "ENV A=0\nENV A='1'\nEXEC m\n"),
        ("USER u\nPKG a\n", "PKG a\n"),
        ("ARG A=1\nPKG a\n", "PKG a\n"),
        ("ARG A=a\nPKG $A\n", "PKG a\n"),
    ];
    for (one, other) in same {
        assert_eq!(key(one, |_| {}), key(other, |_| {}), "{one} / {other}");
    }
}

#[test]
fn these_are_different_steps() {
    let different = [
        ("PKG a\n", "PKG b\n"),
        ("PKG a\n", "EXEC a\n"),
        ("EXEC make\n", "EXEC make \n\nEXEC make\n"),
        ("EXEC cat <<E\n1\nE\n", "EXEC cat <<E\n2\nE\n"),
        ("EXEC m\n", "ENV A=1\nEXEC m\n"),
        ("EXEC m\n", "ARG A=1\nEXEC m\n"),
        ("ENV A=1\nEXEC m\n", "ARG A=1\nEXEC m\n"),
        ("EXEC m\n", "USER u\nEXEC m\n"),
        ("EXEC m\n", "WORKDIR /w\nEXEC m\n"),
        ("ENV A=1\nPKG a\n", "ENV A=2\nPKG a\n"),
        ("COPY a /x\n", "COPY a /y\n"),
        ("COPY a /x\n", "COPY a /x/\n"),
        ("COPY a /x\n", "COPY --chown=1 a /x\n"),
        ("COPY a /x\n", "COPY --chmod=600 a /x\n"),
    ];
    for (one, other) in different {
        assert_ne!(key(one, |_| {}), key(other, |_| {}), "{one} / {other}");
    }
}

#[test]
fn copied_files_count_by_content_mode_and_link_target() {
    let copy = "COPY . /x\n";
    let plain = key(copy, |_| {});
    let at = |world: &World, path: &str| world.dir.path().join("context").join(path);
    let touched = key(copy, |world| {
        let file = std::fs::File::options()
            .write(true)
            .open(at(world, "a"))
            .expect("opened");
        file.set_modified(std::time::UNIX_EPOCH).expect("touched");
    });
    assert_eq!(plain, touched, "times are no input");
    let changed = key(copy, |world| world.write("d/b", "MORE"));
    let mode = key(copy, |world| {
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(at(world, "a"), mode).expect("set");
    });
    let renamed = key(copy, |world| {
        std::fs::rename(at(world, "a"), at(world, "c")).expect("renamed");
    });
    let link = |target: &'static str| {
        key(copy, move |world| {
            std::os::unix::fs::symlink(target, at(world, "l")).expect("linked");
        })
    };
    let all = [plain.clone(), changed, mode, renamed, link("a"), link("b")];
    for (i, one) in all.iter().enumerate() {
        assert!(!all[i + 1..].contains(one), "case {i} has another's key");
    }
    let ignored = key(copy, |world| {
        world.write("d/huge", "x");
        world.write(".pockerignore", "d/huge\n.pockerignore\n");
    });
    assert_eq!(plain, ignored, "what is ignored is no input");
}

#[test]
fn secrets_ca_and_arguments_of_the_build() {
    let file = "ARG A=1\nEXEC --secret id=t m\n";
    let plain = key(file, |_| {});
    let secret = key(file, |world| {
        std::fs::write(world.dir.path().join("secret"), "other").expect("written");
    });
    let ca = key(file, |world| world.ca = Some("/ca.pem".into()));
    assert_eq!([&secret, &ca], [&plain, &plain]);
    let given = |value: &str| {
        key(file, |world| {
            world.args.push(("A".to_owned(), value.to_owned()))
        })
    };
    assert_eq!(given("1"), plain, "a default given is the default");
    assert_ne!(given("2"), plain);
    assert_ne!(key(file, |world| world.epoch = Some(1)), plain);
}

#[test]
fn the_hosts_release_is_an_input_of_proot_and_of_all_after_it() {
    let file = "PROOT\nPKG a\nRUN x\n";
    let one = keys(&mut World::new(), file);
    let two = keys(&mut World::new(), file);
    assert_eq!(one, two);
    let mut world = World::new();
    world.host.release.get_mut().codename = "trixie".to_owned();
    let other = keys(&mut world, file);
    assert!(one.iter().zip(&other).all(|(a, b)| a != b));
    assert!(
        one.iter()
            .all(|key| key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()))
    );
}

#[test]
fn run_counts_command_and_config() {
    let run = |text: &str| keys(&mut World::new(), &format!("{BASE}{text}")).pop();
    let plain = run("RUN x\n");
    for other in [
        "RUN y\n",
        "ENV A=1\nRUN x\n",
        "USER u\nRUN x\n",
        "WORKDIR /w\nRUN x\n",
        "VOLUME /v\nRUN x\n",
    ] {
        assert_ne!(run(other), plain, "{other}");
    }
    assert_eq!(run("ARG A=1\nRUN x\n"), plain, "ARG is for the build only");
}

/// The encoding of keys is a format: a change makes every store build everything again.
#[test]
fn keys_are_stable() {
    let mut world = World::new();
    world.write("a", "contents");
    let path = world.dir.path().join("context/a");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("set");
    let file = "PROOT\nENV A=1\nPKG nginx\nCOPY a /x\nEXEC m\nRUN x\n";
    insta::assert_snapshot!(keys(&mut world, file).join("\n"), @r#"
    363d5a2529bcb41b6e04c02d7e9337b0ebb3c406898e42e6b6499c8498ae1994
    cc7909ac8fd34d232461b1a56cd553dca5a98353f84e332bf7017d0eb3a86012
    b30408bfa65e720634f25e3c7161f8a39953ab7c868543402ac086dfc06e41fb
    f88dedb255bcd565ca38e1a21ae3367c0aae14588e17731d3e6722c61644ef16
    54d3cca1daa1d46c71ea8800a217e46086b9854efc96f2f850e722b3a9c28ad2
    "#);
}
