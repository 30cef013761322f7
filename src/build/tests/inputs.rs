//! What comes from outside the Pockerfile: mounts, bases, archives, copied files.

use super::fake::World;
use super::steps::outcomes;
use crate::build::*;

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
        argv: [],
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
        image: ImageNotes {
            labels: {},
            ports: [],
            stop_signal: None,
            healthcheck: None,
        },
        openbsd: None,
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
    world.workshop.lazy.set(true);
    write(&world, &gzip);
    let error = world
        .build("b", &file(&plain))
        .expect_err("another archive");
    assert!(matches!(error, BuildError::Pin { .. }), "{error}");
    assert_eq!(world.workshop.steps.borrow().len(), steps);
    assert!(!world.workshop.pockers.borrow().contains_key("b"));
    world.assert_nothing_left();
}

#[test]
fn copy_looks_into_the_tree_for_owners_and_directories() {
    let mut world = World::new();
    world.write("site/index.html", "hello");
    world.write("conf", "x");
    let files = [
        ("/etc/passwd", "web:x:33:34::/:/bin/false\n"),
        ("/etc/group", "adm:x:4:\n"),
    ];
    for (path, text) in files {
        let text = text.as_bytes().to_vec();
        world
            .workshop
            .files
            .borrow_mut()
            .insert(path.to_owned(), text);
    }
    world.workshop.dirs.borrow_mut().push("/var/www".to_owned());
    let file = "FROM scratch\nCOPY --chown=web:adm --chmod=640 site /var/www\nCOPY conf /var/www\nCOPY conf /etc/app\nRUN x\n";
    world.build("web", file).expect("builds");
    let applied = world.workshop.take_log();
    let applied: Vec<_> = applied.iter().filter(|l| l.starts_with("apply")).collect();
    assert_eq!(
        applied,
        [
            "apply 1 entries to /var/www",
            "apply 1 entries to /var/www",
            "apply 1 entries to /etc"
        ]
    );
    insta::assert_snapshot!(world.workshop.archives.borrow().join("\n"), @r#"
    Regular 640 33:4 index.html 5 "hello"
    Regular 644 0:0 conf 1 "x"
    Regular 644 0:0 app 1 "x"
    "#);
    let error = world
        .build("web", &file.replace("web:adm", "nobody"))
        .expect_err("no such user");
    assert_eq!(
        error.to_string(),
        "line 2: COPY --chown=nobody: no user `nobody` in the tree's /etc/passwd"
    );
    world.assert_nothing_left();
}

#[test]
fn an_image_is_known_by_its_digest_and_brings_its_settings() {
    let mut world = World::new();
    *world.images.layer.borrow_mut() = b"one".to_vec();
    let file = "FROM registry.example:5000/team/base:1\nENV MORE=$FROM\nRUN x\n";
    let built = world.build("web", file).expect("builds");
    assert_eq!(outcomes(&built), [Outcome::Built, Outcome::Built]);
    let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        built.config.env,
        [env("FROM", "image"), env("MORE", "image")]
    );
    assert_eq!(
        (built.config.user.as_deref(), built.config.command.as_str()),
        (Some("web"), "x")
    );
    // The tag is asked for, and no more than that.
    world.images.log.borrow_mut().clear();
    let again = world.build("web", file).expect("builds");
    assert_eq!(outcomes(&again), [Outcome::Cached, Outcome::Cached]);
    assert_eq!(again.config, built.config);
    assert_eq!(world.images.log.take(), ["resolve"]);
    // It means another image now.
    *world.images.layer.borrow_mut() = b"two".to_vec();
    let moved = world.build("web", file).expect("builds");
    assert_eq!(outcomes(&moved), [Outcome::Built, Outcome::Built]);
    let keys = |b: &Built| {
        b.steps
            .iter()
            .map(|(s, _)| s.key.clone())
            .collect::<Vec<_>>()
    };
    assert_ne!(keys(&again), keys(&moved));
    // A digest is one image for ever, and needs no registry when its step is there.
    let pinned = format!(
        "FROM registry.example:5000/team/base@{}\nRUN x\n",
        crate::image::check::of(b"two")
    );
    world.build("pinned", &pinned).expect("builds");
    world.images.log.borrow_mut().clear();
    world.build("pinned", &pinned).expect("builds");
    assert!(world.images.log.borrow().is_empty());
    // Other bytes than the digest's.
    let wrong = pinned.replace(
        &crate::image::check::of(b"two"),
        &crate::image::check::of(b"three"),
    );
    let error = world.build("wrong", &wrong).expect_err("other bytes");
    assert!(
        matches!(error, BuildError::Image { line: 1, .. }),
        "{error}"
    );
    assert!(error.hint().is_some());
    world.assert_nothing_left();
}
