//! PROOT with a stand-in for ports' proot: what it is told, what becomes a tree, and what is said when it fails.

use super::*;
use crate::build::tests::fake::{NOT_CANCELLED, World};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "PROOT\nRUN exec ksh\n";

/// What a host has beside the base: its own secrets among them.
const STANDS_IN: &str = r#"#!/bin/sh
# $OpenBSD: proot,v 1.69 2020/04/15 16:18:48 espie Exp $
printf '%s\n' "$@" > "$HOST/args"
echo "PORTSDIR=$PORTSDIR"
echo "Can't say more" >&2
umask 0
root=$2
cd "$root" || exit 1
mkdir -m 755 -p bin dev etc/ssl/private etc/ssh usr/bin root var/db
ln "$HOST/bin/ksh" bin/ksh && ln "$HOST/bin/ksh" bin/sh
ln -s ../bin/ksh usr/bin/login-shell
echo su > usr/bin/su && chmod 4555 usr/bin/su
chmod 1777 var/db
echo cert > etc/ssl/cert.pem && chmod 444 etc/ssl/cert.pem
# What sets=etc and extra= would bring.
for secret in etc/master.passwd etc/spwd.db etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_ed25519_key.pub \
  etc/soii.key etc/random.seed etc/ssl/private/server.key root/notes var/db/host.random; do
  echo secret > $secret && chmod 644 $secret
done
echo secret > etc/of-this-host-alone && chmod 640 etc/of-this-host-alone
mkfifo dev/queue
eval "$THEN"
"#;

struct Stage {
    world: World,
    host: tempfile::TempDir,
}

impl Stage {
    fn path(&self, path: &str) -> PathBuf {
        self.host.path().join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    /// What the stand-in does when it has made its tree.
    fn then(&self, then: &str) {
        let head = format!("HOST='{}'\nTHEN='{then}'\n", self.host.path().display());
        let script = STANDS_IN.replacen('\n', &format!("\n{head}"), 1);
        self.put("ports/infrastructure/bin/proot", script);
        let path = self.path("ports/infrastructure/bin/proot");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// The message and its hint, without this test's directories; nothing may be left.
    fn refused(&mut self) -> String {
        let error = self.world.build("x", FILE).expect_err("refused");
        self.nothing_left();
        assert!(
            self.world.workshop.pockers.borrow().is_empty(),
            "a name is kept"
        );
        let text = format!("{error}\n  hint: {}", error.hint().unwrap_or_default());
        text.replace(&self.host.path().display().to_string(), "HOST")
    }

    fn nothing_left(&self) {
        self.world.assert_nothing_left();
        let cache = self.world.dir.path().join("cache");
        let left: Vec<_> = fs::read_dir(cache).expect("listed").flatten().collect();
        assert!(left.is_empty(), "left: {left:?}");
        let ksh = fs::metadata(self.path("bin/ksh")).expect("the host's own");
        assert_eq!(
            std::os::unix::fs::MetadataExt::nlink(&ksh),
            1,
            "a link is left"
        );
    }

    fn key(&mut self) -> String {
        let built = self.world.build("x", FILE).expect("builds");
        built.steps[0].0.key.clone()
    }
}

/// What a new system has, of one file.
fn etc(passwd: &str) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(passwd.len() as u64);
    tar.append_data(&mut header, "etc/master.passwd", passwd.as_bytes())
        .expect("an entry");
    tar.into_inner().expect("a tar").finish().expect("a gzip")
}

/// A host with OpenBSD 7.8 and a ports tree.
fn stage() -> Stage {
    let host = tempfile::tempdir().expect("a directory");
    let world = World::new();
    let stage = Stage { world, host };
    stage.put("bin/ksh", "\u{7f}ELF ksh");
    stage.put("usr/lib/locate/src.db", "base78:/bin/ksh");
    stage.put("dev/MAKEDEV", "M null\tc 2 2 666\nM mem\tc 2 0 640\n");
    stage.put(
        "etc/installurl",
        "# mirror\nhttps://mirror.example/pub/OpenBSD\n",
    );
    stage.put("ports/infrastructure/lib/DPB/User.pm", "1;\n");
    stage.put("var/sysmerge/etc.tgz", etc("root:*:0:0"));
    stage.then("");
    let model = Model::Ports {
        release: "7.8".to_owned(),
        program: stage.path("ports/infrastructure/bin/proot"),
    };
    *stage.world.host.model.borrow_mut() = model;
    *stage.world.host.root.borrow_mut() = stage.host.path().to_owned();
    stage
}

/// A layer as another tar reads it.
fn listed(layer: &[u8]) -> String {
    let mut tar = Command::new("tar")
        .args(["-t", "-v", "--numeric-owner", "--full-time", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar starts");
    tar.stdin
        .take()
        .expect("a pipe")
        .write_all(layer)
        .expect("taken");
    let done = tar.wait_with_output().expect("ends");
    assert!(done.status.success());
    let mut out = String::new();
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let _ = writeln!(out, "{} {} {}", words[0], words[2], words[5..].join(" "));
    }
    out
}

#[test]
fn proot_copies_the_base_and_runs_nothing_there() {
    let stage = stage();
    let kernel = Kernel {
        release: "7.8".to_owned(),
        version: "GENERIC.MP#1".to_owned(),
    };
    let program = stage.path("ports/infrastructure/bin/proot");
    let ports = Ports::read(stage.host.path(), kernel, &program).expect("read");
    assert_eq!(ports.revision, "1.69");
    let words = ports.arguments(Path::new("/var/pocker/cache/ports-proot-1/root"));
    let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
    let shown = words.join("\n");
    let shown = shown.replace(&stage.host.path().display().to_string(), "HOST");
    insta::assert_snapshot!("arguments", shown);
}

#[test]
fn a_tree_has_what_proot_copied_a_new_etc_and_none_of_the_hosts_secrets() {
    let mut stage = stage();
    let built = stage.world.build("x", FILE).expect("builds");
    assert_eq!(built.config.openbsd.as_deref(), Some("7.8"));
    stage.nothing_left();
    let mut all = stage.world.events.join("\n");
    let layers = stage.world.workshop.layers.borrow();
    assert_eq!(layers.len(), 3);
    for layer in [&layers[0], &layers[2]] {
        let _ = write!(all, "\n\n{}", listed(layer).trim_end());
    }
    insta::assert_snapshot!(
        "tree",
        all.replace(&stage.host.path().display().to_string(), "HOST")
    );
    let etc = fs::read(stage.path("var/sysmerge/etc.tgz")).expect("read");
    let mut plain = Vec::new();
    let mut gzip = flate2::read::MultiGzDecoder::new(etc.as_slice());
    std::io::Read::read_to_end(&mut gzip, &mut plain).expect("unpacked");
    assert!(layers[1] == plain, "another etc");
    let whole = layers.concat();
    let secret = whole.windows(6).filter(|w| w == b"secret").count();
    assert_eq!(secret, 0, "a secret of the host's is in the tree");
    let told = fs::read_to_string(stage.path("args")).expect("called");
    assert!(told.ends_with("root\nactions=none\nactions=locate\nsets=-comp\nsets=-etc\nsets=-xbase\nsets=-xetc\nsets=-xfont\nsets=-xshare\n"), "{told}");
}

#[test]
fn the_key_is_of_the_system_its_patches_and_proot() {
    let mut stage = stage();
    let first = stage.key();
    assert_eq!(stage.key(), first);
    let built = stage.world.build("x", FILE).expect("builds");
    assert!(built.steps[0].0.instruction == "PROOT");
    let mut keys = vec![first];
    for change in 0..6 {
        match change {
            0 => stage.put("var/syspatch/78-001_expat/rollback.tgz", "x"),
            1 => stage.put("usr/lib/locate/src.db", "base78:/bin/ksh base78:/bin/sh"),
            2 => stage.then(":"),
            3 => stage.put("etc/installurl", "https://other.example/pub/OpenBSD\n"),
            4 => stage.put("var/sysmerge/etc.tgz", etc("root:*:0:1")),
            _ => "GENERIC.MP#2".clone_into(&mut stage.world.host.version.borrow_mut()),
        }
        let key = stage.key();
        assert!(!keys.contains(&key), "change {change} is not in the key");
        keys.push(key);
    }
}

#[test]
fn what_fails_is_told_and_leaves_nothing() {
    let mut stage = stage();
    let mut all = Vec::new();
    // Half way; what makes nothing and says that all is well; what cannot be read again.
    for then in [
        "echo \"Can not copy /usr/bin/su: No space left on device\" >&2; exit 1",
        "kill -9 $$",
        "rm -rf bin",
    ] {
        stage.then(then);
        all.push(stage.refused());
    }
    stage.then("");
    stage.put("var/sysmerge/etc.tgz", "no archive");
    all.push(stage.refused());
    for missing in [
        "var/sysmerge/etc.tgz",
        "usr/lib/locate/src.db",
        "ports/infrastructure/bin/proot",
    ] {
        fs::remove_file(stage.path(missing)).expect("removed");
        all.push(stage.refused());
    }
    insta::assert_snapshot!("failures", all.join("\n"));
}

#[test]
fn a_proot_that_others_may_change_is_not_started() {
    let mut stage = stage();
    let mut all = Vec::new();
    for (path, mode) in [
        ("ports/infrastructure/bin/proot", 0o757),
        ("ports/infrastructure/bin", 0o777),
        ("ports/infrastructure/lib/DPB/User.pm", 0o646),
        ("ports/infrastructure/lib/DPB", 0o1777),
    ] {
        let path = stage.path(path);
        let was = fs::metadata(&path).expect("there").permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        all.push(stage.refused());
        fs::set_permissions(&path, was).expect("set");
    }
    assert!(!stage.path("args").exists(), "it was started");
    let shown = all.join("\n");
    let numbers = format!(
        "(owner {}, group {},",
        nix::unistd::getuid(),
        nix::unistd::getgid()
    );
    insta::assert_snapshot!("trust", shown.replace(&numbers, "(owner O, group G,"));
}

/// The interrupt comes with the stand-in's first word.
#[test]
fn an_interrupted_build_leaves_nothing() {
    let mut stage = stage();
    stage.then("sleep 1000");
    let flag: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    stage.world.interrupt = Some(flag);
    let error = stage
        .world
        .build_until("x", FILE, flag)
        .expect_err("interrupted");
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    assert!(flag.load(Ordering::Relaxed));
    stage.nothing_left();
}

#[test]
fn what_a_killed_build_left_is_removed_and_what_is_in_use_is_not() {
    let mut stage = stage();
    let cache = stage.world.dir.path().join("cache");
    for name in [
        "ports-proot-dead",
        "ports-proot-used",
        "ports-proot-new",
        "other",
    ] {
        fs::create_dir(cache.join(name)).expect("made");
        if name != "ports-proot-new" {
            fs::write(cache.join(name).join("lock"), "").expect("written");
        }
    }
    let file = fs::File::open(cache.join("ports-proot-used/lock")).expect("opened");
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).expect("locked");
    stage.key();
    drop(lock);
    let list = fs::read_dir(&cache).expect("listed").flatten();
    let mut left: Vec<_> = list
        .map(|e| e.file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, ["other", "ports-proot-new", "ports-proot-used"]);
    assert!(!NOT_CANCELLED.load(Ordering::Relaxed));
}

#[test]
fn proot_is_known_by_the_system_and_not_by_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let put = |path: &str, mode: u32| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        path
    };
    let (tree, bin) = (dir.path().join("ports"), dir.path().join("bin"));
    let of = |system: &str, choice: &Choice| {
        Model::of(
            system,
            "7.8",
            choice,
            Some(tree.as_os_str()),
            bin.as_os_str(),
        )
    };
    let sets = || Model::Sets("7.8".to_owned());
    let ports = |program: &Path| Model::Ports {
        release: "7.8".to_owned(),
        program: program.to_owned(),
    };
    let usual = Choice::WhenPresent;
    assert_eq!(of("OpenBSD", &usual), sets());
    put("ports/infrastructure/bin/proot", 0o644);
    assert_eq!(of("OpenBSD", &usual), sets());
    let on_path = put("bin/proot", 0o755);
    assert_eq!(of("OpenBSD", &usual), ports(&on_path));
    let in_tree = put("ports/infrastructure/bin/proot", 0o755);
    assert_eq!(of("OpenBSD", &usual), ports(&in_tree));
    assert_eq!(of("Linux", &usual), Model::Distribution);
    assert_eq!(of("OpenBSD", &Choice::Sets), sets());
    let mine = Choice::parse("/opt/proot").expect("a path");
    assert_eq!(of("OpenBSD", &mine), ports(Path::new("/opt/proot")));
    assert_eq!(Choice::parse("sets"), Some(Choice::Sets));
    assert_eq!((Choice::parse("proot"), Choice::parse("")), (None, None));
}
