//! Paths of writable exports hold a secret: whoever knows it may mount them.

use crate::host::create;
use crate::nfs::client;
use crate::support::World;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Below `dir`, what a user who is not its owner could read: (path, bytes).
fn readable(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mode = |path: &Path| {
        path.symlink_metadata()
            .map_or(0, |m| m.permissions().mode())
    };
    if mode(dir) & 0o055 == 0 {
        return;
    }
    for entry in std::fs::read_dir(dir).expect("read").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            readable(&path, found);
        } else if kind.is_file() && mode(&path) & 0o044 != 0 {
            found.push((path.clone(), std::fs::read(&path).expect("read")));
        }
    }
}

#[test]
fn no_secret_is_in_a_log_an_argument_or_a_file_that_others_may_read() {
    let w = World::new();
    create(&w, "").ok();
    w.pocker(&["volume", "create", "data"]).ok();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    std::fs::set_permissions(w.path(""), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let graft = format!("{}:/g", w.path("g").display());
    let env = w.write("env", "TOKEN=token-of-the-run\n");
    std::fs::set_permissions(&env, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let env = env.display().to_string();
    let script = "mount; cat /proc/*/mountinfo /proc/*/cmdline; echo ready; sleep 600";
    let args = [
        "run",
        "-d",
        &graft,
        "-v",
        "data:/data",
        "--env-file",
        &env,
        "box",
        "--",
        "/bin/sh",
        "-c",
        script,
    ];
    let mut run = w.start(&args);
    let mut said = Vec::new();
    let mut out = run.stdout.take().expect("stdout");
    while !said.ends_with(b"ready\n") {
        let mut byte = [0];
        assert_ne!(std::io::Read::read(&mut out, &mut byte).expect("read"), 0);
        said.push(byte[0]);
    }
    // One in the background, which the server keeps a record and a log of.
    let detached = [
        "run",
        "--detach",
        "--name",
        "behind",
        "--restart=always",
        "--env-file",
        &env,
        "box",
        "--",
        "/bin/sleep",
        "600",
    ];
    w.pocker(&detached).ok();
    // Everything is looked at while the run goes on; its secret is asked for when it has ended.
    let mut seen = vec![("the run".to_owned(), said)];
    for args in [
        &["ls", "box", "--json"][..],
        &["serve", "--stats", "--json"],
        &["doctor", "--json"],
        &["volume", "ls", "--json"],
    ] {
        let done = w.pocker(args);
        seen.push((format!("{args:?}"), (done.out + &done.err).into_bytes()));
    }
    let environs = w.processes();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.bytes().all(|b| b.is_ascii_digit()) {
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            seen.push((format!("arguments of {pid}"), read("cmdline")));
            if environs.iter().any(|p| p.to_string() == pid) {
                seen.push((format!("environment of {pid}"), read("environ")));
            }
            seen.push((format!("mounts of {pid}"), read("mountinfo")));
        }
    }
    let log = std::fs::read(w.path("s/serve.log")).expect("the log");
    assert!(!log.is_empty());
    seen.push(("the log".to_owned(), log));
    let mut files = Vec::new();
    readable(&w.path(""), &mut files);
    let found = |name: &str| files.iter().any(|(path, _)| path.ends_with(name));
    assert!(found("box.pockerfile"), "nothing was looked at");
    let readable = files.into_iter();
    seen.extend(readable.map(|(path, bytes)| (path.display().to_string(), bytes)));
    for private in ["store", "s"] {
        let mode = std::fs::metadata(w.path(private))
            .expect("a directory")
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{private} is open to others: {mode:o}");
    }

    w.pocker(&["stop", "-t", "0", "behind"]).ok();
    let pid = nix::unistd::Pid::from_raw(run.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    let mut err = String::new();
    let said = run.stderr.take().expect("stderr");
    std::io::Read::read_to_string(&mut std::io::BufReader::new(said), &mut err).expect("read");
    let _ = run.wait();
    seen.push(("what the run said".to_owned(), err.into_bytes()));
    let tree = client(&w)
        .debug_tree("box")
        .expect("asked")
        .expect("a tree");
    let volume = w.pocker(&["mount", "--print", "--volume", "data"]).ok().out;
    let volume = volume
        .lines()
        .find_map(|l| l.strip_prefix("export "))
        .expect("an export");
    let secret = |path: &str| {
        path.trim()
            .rsplit('/')
            .next()
            .expect("a secret")
            .as_bytes()
            .to_vec()
    };
    let secrets = [
        secret(&tree.export.path),
        secret(volume),
        b"token-of-the-run".to_vec(),
    ];
    assert!(secrets.iter().all(|s| s.len() >= 16), "{secrets:?}");
    for (what, bytes) in &seen {
        let holds = secrets
            .iter()
            .any(|s| bytes.windows(s.len()).any(|w| w == &s[..]));
        assert!(!holds, "{what}: {}", String::from_utf8_lossy(bytes));
    }
}
