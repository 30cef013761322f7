//! Mounts whose server refuses, changes, goes away or comes back.

use super::*;

#[test]
fn a_read_only_mount_refuses_writes() {
    let mut w = World::new();
    w.fs.plant(b"f", b"sealed", 0o644);
    let target = w.target.clone();
    let m = w.try_mount("/t", &target, true, Cache::Sealed).unwrap();
    assert_eq!(fs::read(w.path("f")).unwrap(), b"sealed");
    for outcome in [
        fs::write(w.path("f"), b"x"),
        fs::write(w.path("new"), b"x"),
        fs::create_dir(w.path("d")),
        fs::remove_file(w.path("f")),
        fs::rename(w.path("f"), w.path("g")),
        fs::set_permissions(w.path("f"), Permissions::from_mode(0o600)),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    // Read twice: no call the second time.
    let calls: u64 = w.fs.calls.lock().values().sum();
    assert_eq!(fs::read(w.path("f")).unwrap(), b"sealed");
    assert_eq!(w.fs.calls.lock().values().sum::<u64>(), calls);
    m.unmount().unwrap();
}

#[test]
fn what_others_change_shows_on_a_shared_mount() {
    let mut w = World::new();
    w.fs.plant(b"f", b"one", 0o644);
    let m = w.mount(Cache::Shared);
    assert_eq!(fs::read(w.path("f")).unwrap(), b"one");
    assert!(!fs::exists(w.path("later")).unwrap());
    w.fs.overwrite(b"f", b"TWO");
    // At the next open, at once.
    assert_eq!(fs::read(w.path("f")).unwrap(), b"TWO");
    w.fs.plant(b"later", b"", 0o644);
    wait_for("the new name to show", || {
        fs::exists(w.path("later")).unwrap()
    });
    m.unmount().unwrap();
}

#[test]
fn what_is_appended_comes_after_what_others_wrote() {
    let mut w = World::new();
    w.fs.plant(b"log", b"1", 0o644);
    let m = w.mount(Cache::Shared);
    let append = || OpenOptions::new().append(true).open(w.path("log")).unwrap();
    let mut log = append();
    log.write_all(b"2").unwrap();
    // Longer and shorter than the kernel believes, opened before and after.
    w.fs.overwrite(b"log", b"1234");
    log.write_all(b"5").unwrap();
    assert_eq!(w.fs.contents("log"), b"12345");
    w.fs.overwrite(b"log", b"ab");
    append().write_all(b"c").unwrap();
    assert_eq!(w.fs.contents("log"), b"abc");
    log.write_all(b"d").unwrap();
    assert_eq!(w.fs.contents("log"), b"abcd");
    wait_for("the kernel to read it again", || {
        fs::read(w.path("log")).unwrap() == b"abcd"
    });
    m.unmount().unwrap();
}

#[test]
fn absent_names_are_asked_for_once() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    for _ in 0..10 {
        assert!(!fs::exists(w.path("absent")).unwrap());
    }
    assert_eq!(w.fs.count("lookup"), 1);
    fs::write(w.path("absent"), b"no more").unwrap();
    assert!(fs::exists(w.path("absent")).unwrap());
    m.unmount().unwrap();
}

#[test]
fn a_cut_connection_is_only_a_wait() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let target = w.target.clone();
    let (made, ends) = std::sync::mpsc::channel();
    // A thread of this one's mount namespace.
    let writer = std::thread::spawn(move || {
        for i in 0..400 {
            let (tmp, name) = (target.join("tmp"), target.join(format!("f{i}")));
            let mut f = File::create_new(&tmp).unwrap();
            f.write_all(format!("text {i}").as_bytes()).unwrap();
            f.sync_all().unwrap();
            fs::rename(&tmp, &name).unwrap();
            made.send(i).unwrap();
        }
    });
    for (n, i) in ends.iter().enumerate() {
        if i % 50 == 49 {
            w.cut();
            w.serve();
        }
        assert_eq!(n, i);
    }
    writer.join().unwrap();
    for i in 0..400 {
        let text = fs::read_to_string(w.path(&format!("f{i}"))).unwrap();
        assert_eq!(text, format!("text {i}"));
    }
    assert_eq!(w.fs.files(), 400);
    m.unmount().unwrap();
}

#[test]
fn a_server_that_stays_away_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    let restart = RestartCommand {
        argv: vec!["touch".into(), ran.clone().into()],
    };
    let mut w = World::with(Some(restart));
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("f"), b"x").unwrap();
    w.cut();
    wait_for("the restart command to run", || ran.exists());
    w.serve();
    assert_eq!(fs::read(w.path("f")).unwrap(), b"x");
    m.unmount().unwrap();
}

#[test]
fn an_fsync_writes_again_what_may_be_lost() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let mut f = File::create(w.path("f")).unwrap();
    f.sync_all().unwrap();
    assert_eq!(w.fs.count("commit"), 0);
    f.write_all(b"x").unwrap();
    f.sync_all().unwrap();
    f.sync_all().unwrap();
    assert_eq!(w.fs.count("commit"), 1);
    f.write_all(b"y").unwrap();
    f.write_all(b"z").unwrap();
    // The server loses it, as a machine does that goes down.
    w.fs.overwrite(b"f", b"x");
    w.fs.verifier.store(2, std::sync::atomic::Ordering::Relaxed);
    f.write_all(b"after").unwrap();
    let written = w.fs.count("write");
    f.sync_all().unwrap();
    assert_eq!(w.fs.count("write"), written + 3);
    f.sync_all().unwrap();
    assert_eq!(
        (w.fs.count("write"), w.fs.count("commit")),
        (written + 3, 2)
    );
    drop(f);
    let m = {
        m.unmount().unwrap();
        w.mount(Cache::Exclusive)
    };
    assert_eq!(fs::read(w.path("f")).unwrap(), b"xyzafter");
    m.unmount().unwrap();
}

#[test]
fn what_may_be_lost_is_bounded() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let chunk = vec![7; 1 << 20];
    // More than a mount keeps, twice, and nobody asks for it to be stable.
    for (name, commits) in [("f", 1), ("g", 2)] {
        let mut f = File::create(w.path(name)).unwrap();
        for _ in 0..24 {
            f.write_all(&chunk).unwrap();
        }
        assert!(w.fs.count("commit") >= commits);
    }
    m.unmount().unwrap();
}

#[test]
fn a_write_by_another_user_takes_set_id_bits_away() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let path = w.path("f");
    fs::write(&path, b"#!").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o6000, 0o6000);
    support::as_user(1000, || {
        let mut f = OpenOptions::new().append(true).open(&path).unwrap();
        f.write_all(b"evil").unwrap();
    });
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
    fs::set_permissions(&path, Permissions::from_mode(0o4777)).unwrap();
    support::as_user(1000, || {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap();
    });
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
    m.unmount().unwrap();
}

#[test]
fn the_kernel_checks_permissions_and_owners_are_the_callers() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("secret"), b"root's").unwrap();
    fs::set_permissions(w.path("secret"), Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(w.path("open")).unwrap();
    fs::set_permissions(w.path("open"), Permissions::from_mode(0o1777)).unwrap();
    let (secret, mine) = (w.path("secret"), w.path("open/mine"));
    support::as_user(1000, || {
        assert_eq!(
            fs::read(&secret).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
        let mut options = OpenOptions::new();
        options.create_new(true).read(true).write(true).mode(0o400);
        let mut f = options.open(&mine).unwrap();
        f.write_all(b"mine").unwrap();
    });
    let meta = fs::metadata(&mine).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o777),
        (1000, 1000, 0o400)
    );
    m.unmount().unwrap();
}

#[test]
fn bad_requests_fail_clearly_and_leave_nothing_mounted() {
    let mut w = World::new();
    let file = w.dir().join("file");
    fs::write(&file, b"").unwrap();
    let error = w
        .try_mount("/t", &file, false, Cache::Exclusive)
        .unwrap_err();
    assert_eq!(error.phase, Phase::Target);
    assert!(error.to_string().contains("not a directory"), "{error}");
    let missing = w.dir().join("missing");
    let error = w
        .try_mount("/t", &missing, false, Cache::Exclusive)
        .unwrap_err();
    assert_eq!(
        (error.phase, error.cause.kind()),
        (Phase::Target, ErrorKind::NotFound)
    );
    let target = w.target.clone();
    let error = w
        .try_mount("/none", &target, false, Cache::Exclusive)
        .unwrap_err();
    assert_eq!(
        (error.phase, error.cause.kind()),
        (Phase::Export, ErrorKind::NotFound)
    );
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(target.to_str().unwrap()), "{mounts}");
    // The session is still good.
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("f"), b"").unwrap();
    m.unmount().unwrap();
}

#[test]
fn a_mount_in_use_is_detached() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("f"), b"still").unwrap();
    let mut f = File::open(w.path("f")).unwrap();
    assert_eq!(m.unmount().unwrap(), Unmounted::Detached);
    assert!(!fs::exists(w.path("f")).unwrap());
    let mut text = String::new();
    f.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still");
}

#[test]
fn the_helper_ends_with_its_session_and_last_mount() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let (server, unlinked) = (w.fs.clone(), w.path("f"));
    fs::write(&unlinked, b"x").unwrap();
    m.leak();
    let socket = w
        .dir()
        .join("nfs.sock")
        .into_os_string()
        .into_string()
        .unwrap();
    wait_for("the helper to be connected", || {
        support::connections(&socket) == 1
    });
    // The session goes; the mount stays and works.
    let target = w.target.clone();
    let server_stays = w.close_session();
    fs::write(target.join("g"), b"y").unwrap();
    let f = File::open(target.join("f")).unwrap();
    fs::remove_file(target.join("f")).unwrap();
    assert_eq!(server.files(), 2);
    drop(f);
    nix::mount::umount(&target).unwrap();
    wait_for("the helper to disconnect", || {
        support::connections(&socket) == 0
    });
    wait_for("the hidden file to be removed", || server.files() == 1);
    drop(server_stays);
}

#[test]
fn names_known_absent_cost_no_call() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::create_dir(w.path("d")).unwrap();
    let before = w.fs.count("lookup");
    // As dpkg does it: the kernel itself forgets absence for O_EXCL and rename.
    for i in 0..20 {
        let (tmp, name) = (w.path(&format!("d/{i}.new")), w.path(&format!("d/{i}")));
        assert!(!fs::exists(&name).unwrap());
        File::create_new(&tmp).unwrap();
        fs::rename(&tmp, &name).unwrap();
        fs::remove_file(&name).unwrap();
        File::create_new(&name).unwrap();
    }
    assert_eq!(w.fs.count("lookup"), before);
    assert_eq!(fs::read_dir(w.path("d")).unwrap().count(), 20);
    m.unmount().unwrap();
}

/// A process that reads the attributes of a file that the kernel has not seen.
fn waits_for(w: &World, name: &str) -> std::process::Child {
    let mut stat = std::process::Command::new("stat");
    stat.arg(w.path(name)).stdout(std::process::Stdio::null());
    let child = stat.spawn().unwrap();
    let wchan = format!("/proc/{}/wchan", child.id());
    wait_for("the process to wait for FUSE", || {
        fs::read_to_string(&wchan).is_ok_and(|w| w.contains("request_wait_answer"))
    });
    child
}

#[test]
fn who_waits_for_an_absent_server_can_be_killed() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    for name in [&b"a"[..], b"b"] {
        w.fs.plant(name, b"x", 0o644);
    }
    w.cut();
    let mut killed = waits_for(&w, "a");
    let mut told = waits_for(&w, "b");
    killed.kill().unwrap();
    wait_for("the killed process to end", || {
        killed.try_wait().unwrap().is_some()
    });
    // A signal that ends nobody is not seen by who waits.
    let pid = nix::unistd::Pid::from_raw(told.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    let mut later = waits_for(&w, "c");
    later.kill().unwrap();
    wait_for("another one to end", || later.try_wait().unwrap().is_some());
    assert!(told.try_wait().unwrap().is_none());
    w.serve();
    assert!(told.wait().unwrap().success());
    assert_eq!(fs::read(w.path("a")).unwrap(), b"x");
    m.unmount().unwrap();
}
