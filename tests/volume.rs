//! Volumes: made, written by runs, kept when servers and machines go, removed.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pocker::control::ClientError;
use pocker::control::api::{MountVolume, NewVolume};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use support::server::Server;
use support::{Done, World, until, wait};

fn world() -> World {
    let world = World::new();
    world.create("box", "RUN true\n").ok();
    world
}

fn sh(w: &World, volume: &str, script: &str) -> Done {
    w.pocker(&["run", "-v", volume, "box", "--", "/bin/sh", "-c", script])
}

#[test]
fn what_one_run_writes_the_next_one_reads() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    let script = "
        cd /var/data && test -z \"$(ls -A)\" || exit 1
        echo small >small && mkdir -p a/b && ln -s small link || exit 2
        dd if=/dev/urandom of=large bs=1M count=3 2>/dev/null && sync || exit 3
        sha256sum large >sum && ln large a/b/second && mv small a/moved && chown www a";
    sh(&w, "data:/var/data", script).ok();
    let check = "
        cd /var/data && sha256sum -c sum >/dev/null && test \"$(cat a/moved)\" = small || exit 1
        test \"$(stat -c %h large)\" = 2 && test \"$(stat -c %U a)\" = www || exit 2
        test \"$(readlink link)\" = small || exit 3";
    sh(&w, "data:/var/data", check).ok();
    sh(
        &w,
        "data:/elsewhere:ro",
        &check.replace("/var/data", "/elsewhere"),
    )
    .ok();
    sh(&w, "data:/var/data:ro", "echo >/var/data/new").fails(&["Read-only"]);
    // The server goes and comes back, by its own will and by none.
    w.pocker(&["serve", "--stop"]).ok();
    sh(&w, "data:/var/data", check).ok();
    kill(Pid::from_raw(w.server_pid()), Signal::SIGKILL).expect("kill");
    sh(&w, "data:/var/data", check).ok();
    let listed = w.pocker(&["volume", "ls"]).ok().out;
    let line = listed.lines().nth(1).expect("a volume");
    assert!(
        line.starts_with("data ") && line.contains("3.1 MB"),
        "{line}"
    );
    let json = w.pocker(&["volume", "ls", "--json"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["name"], "data");
    assert_eq!(json[0]["files"], 3);
    // Neither collection nor check mind it, nor it them.
    w.pocker(&["gc"]).ok();
    w.pocker(&["fsck"]).ok();
    sh(&w, "data:/var/data", check).ok();
    w.pocker(&["volume", "rm", "data"]).ok();
    assert_eq!(w.pocker(&["volume", "ls"]).ok().out, "");
    sh(&w, "data:/var/data", "true").fails(&["no volume named data", "hint: "]);
}

/// A run with the volume that has said so, and goes on when a line comes.
fn holder(w: &World, volume: &str, script: &str) -> Child {
    let mut command = w.command(&["run", "-v", volume, "box", "--", "/bin/sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("pocker");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child.stdout = Some(out.into_inner());
    child
}

fn go_on(child: &mut Child) {
    let mut to = child.stdin.take().expect("a pipe");
    to.write_all(b"\n").expect("it listens");
}

#[test]
fn one_run_writes_at_a_time_and_any_number_reads() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    let script = "echo 1 >/data/f; echo ready; read line; echo 2 >>/data/f";
    let mut first = holder(&w, "data:/data", script);
    let pid = format!("process {}", first.id());
    let words = [
        "volume data is in use by run box of box",
        "of box",
        &pid,
        "hint: ",
        ":ro",
    ];
    sh(&w, "data:/data", "true").fails(&words);
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();
    w.pocker(&["mount", "--volume", "data", &mnt]).fails(&words);
    w.pocker(&["volume", "rm", "data"]).fails(&[
        "in use by run",
        &pid,
        "hint: stop it first: `pocker stop box`",
    ]);
    let table = w.pocker(&["volume", "ls"]).ok().out;
    assert!(table.contains("run box of box"), "{table}");
    let seen = sh(&w, "data:/data:ro", "cat /data/f").ok().out;
    assert_eq!(seen, "1\n");
    w.pocker(&["mount", "--volume", "data:ro", &mnt]).ok();
    let f = w.path("mnt/f");
    assert_eq!(std::fs::read_to_string(&f).expect("read"), "1\n");
    assert!(std::fs::write(&f, "x").is_err(), "read-only");
    let listed = w.pocker(&["volume", "ls"]).ok().out;
    assert!(listed.contains(&pid) && listed.contains(&mnt), "{listed}");
    go_on(&mut first);
    wait(first).ok();
    w.pocker(&["volume", "rm", "data"])
        .fails(&["in use by the mount on", &mnt, "pocker umount"]);
    w.pocker(&["umount", &mnt]).ok();
    assert_eq!(sh(&w, "data:/data", "cat /data/f").ok().out, "1\n2\n");
    w.pocker(&["volume", "rm", "data"]).ok();
}

/// kill -9 of the server under a run that writes: it waits, and all is there.
#[test]
fn a_run_goes_on_when_its_server_was_killed() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    let script = "
        cd /data; echo ready; read line
        for i in $(seq 200); do echo $i >n$i && echo $i || exit 1; done
        for i in $(seq 201 400); do echo $i >n$i && mv n$i m$i && echo $i || exit 2; done
        cat n* m* | wc -l";
    let mut run = holder(&w, "data:/data", script);
    let server = w.server_pid();
    go_on(&mut run);
    let mut out = BufReader::new(run.stdout.take().expect("a pipe")).lines();
    let mut next = || out.next().expect("a line").expect("text");
    // Right after a file was made: it is in the journal, and not yet in the database.
    while next() != "150" {}
    kill(Pid::from_raw(server), Signal::SIGKILL).expect("kill");
    while next() != "300" {}
    kill(Pid::from_raw(w.server_pid()), Signal::SIGKILL).expect("kill");
    while next() != "400" {}
    assert_eq!(next(), "400");
    wait(run).ok();
    let count =
        "cd /data; for i in $(seq 200); do test $(cat n$i) = $i || exit 1; done; ls | wc -l";
    assert_eq!(sh(&w, "data:/data", count).ok().out.trim(), "400");
    w.pocker(&["fsck"]).ok();
}

#[test]
fn a_volume_begins_as_a_step_and_is_mounted() {
    let w = world();
    w.pocker(&["volume", "create", "tree", "--from", "box@1"])
        .ok();
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();
    w.pocker(&["mount", "--volume", "tree", &mnt]).ok();
    let read = |name: &str| std::fs::read(w.path("mnt").join(name)).expect(name);
    let busybox = read("bin/busybox");
    // In the middle of a large file of the step: the rest is the step's.
    let path = w.path("mnt/bin/busybox");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("open");
    std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 100_000).expect("write");
    file.sync_all().expect("fsync");
    drop(file);
    std::fs::rename(w.path("mnt/etc/passwd"), w.path("mnt/etc/users")).expect("rename");
    w.pocker(&["umount", &mnt]).ok();
    // What it began as is still in use by it.
    w.pocker(&["rm", "box"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    w.pocker(&["gc"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    w.pocker(&["mount", "--volume", "tree", &mnt]).ok();
    let mut want = busybox;
    want[100_000..100_007].copy_from_slice(b"changed");
    assert!(read("bin/busybox") == want);
    assert!(read("etc/users").starts_with(b"root:"));
    let stats = w.pocker(&["serve", "--stats"]).ok().out;
    std::fs::create_dir(w.path("mnt/new")).expect("mkdir");
    let after = w.pocker(&["serve", "--stats"]).ok().out;
    assert!(
        after.contains("fdatasyncs of the journal") && after != stats,
        "{after}"
    );
    w.pocker(&["umount", &mnt]).ok();
    w.pocker(&["fsck"]).ok();
    let print = w.pocker(&["mount", "--volume", "tree", "--print"]).ok().out;
    assert!(
        print.contains("/volume/tree/") && print.contains("mount -t nfs"),
        "{print}"
    );
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_changed() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    let said = |args: &[&str], words: &[&str]| {
        let done = w.pocker(args).fails(words);
        assert_eq!(done.err.matches("error: ").count(), 1, "{}", done.err);
    };
    said(
        &["volume", "create", "data"],
        &["volume named data already", "hint: "],
    );
    for name in ["", "Data", "a/b", "..", "-x", &"a".repeat(65)] {
        said(&["volume", "create", "--", name], &["name"]);
    }
    said(
        &["volume", "create", "x", "--from", "none"],
        &["no pocker named none"],
    );
    said(
        &["volume", "create", "x", "--from", "box@9"],
        &["has no step 9"],
    );
    said(
        &["volume", "rm", "none"],
        &["no volume named none", "pocker volume ls"],
    );
    let run = |v: &str, words: &[&str]| said(&["run", "-v", v, "box"], words);
    run("none:/x", &["no volume named none", "pocker volume create"]);
    run("data", &["no colon", "-v data:/some/place"]);
    run("/srv:/x", &["-d /srv:/x"]);
    run("data:/proc", &["the sandbox's own"]);
    said(&["run", "-v", "data:/x", "none"], &["no pocker named none"]);
    said(
        &["volume", "create", "Data"],
        &["`Data` cannot be a name", "write data"],
    );
    said(
        &["mount", "--volume", "data"],
        &["say where to mount it", "pocker mount --volume data DIR"],
    );
    said(
        &["mount", "--volume", "none", "/mnt"],
        &["no volume named none"],
    );
    said(
        &["mount", "--volume", "data", "/no/such"],
        &["cannot mount on /no/such"],
    );
    // The mounts that failed do not have it.
    w.pocker(&["volume", "rm", "data"]).ok();
    assert_eq!(w.pocker(&["volume", "ls"]).ok().out, "");
}

/// However many mount a volume at once, one of them may write to it.
#[test]
fn of_those_who_mount_at_once_one_writes() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    let dirs: Vec<String> = (0..6)
        .map(|n| {
            let dir = w.path(&format!("mnt{n}"));
            std::fs::create_dir(&dir).expect("mkdir");
            dir.display().to_string()
        })
        .collect();
    for _ in 0..4 {
        let all: Vec<Child> = dirs
            .iter()
            .map(|dir| w.start(&["mount", "--volume", "data", dir]))
            .collect();
        let done: Vec<Done> = all.into_iter().map(wait).collect();
        let mut mounted = dirs.iter().zip(done).filter_map(|(dir, done)| {
            if done.status == 0 {
                return Some(dir);
            }
            done.fails(&["volume data is in use by the mount on", "hint: "]);
            None
        });
        let first = mounted.next().expect("one of them has it");
        assert_eq!(mounted.next(), None, "as well as {first}");
        w.pocker(&["umount", first]).ok();
    }
}

/// Who is about to mount a volume has it, until it is gone without having mounted it.
#[test]
fn who_is_about_to_mount_has_the_volume_while_it_lives() {
    let s = Server::start();
    let new = NewVolume {
        base: None,
        token: "t".to_owned(),
        shared: false,
    };
    s.ask(|c| c.new_volume("data", &new)).expect("a volume");
    // Ends with this process, whatever becomes of the test.
    let mut maker = Command::new("cat");
    maker.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut maker = maker.spawn().expect("cat");
    let ask = |target: &str, pid| {
        let how = MountVolume {
            target: Some(target.to_owned()),
            pid,
            read_only: false,
        };
        s.ask(|c| c.mount_volume("data", &how))
    };
    ask("/nowhere/a", maker.id()).expect("it is free");
    // Its answer was lost.
    ask("/nowhere/a", maker.id()).expect("it is the same one");
    let refused = |target: &str| match ask(target, std::process::id()) {
        Err(ClientError::Api(e)) => e.to_string(),
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("two have it"),
    };
    assert!(refused("/nowhere/b").contains("in use by the mount on /nowhere/a"));
    // Collecting looks at what is mounted, and another server at what the first one knew.
    s.ask(|c| c.gc(&Default::default())).expect("gc");
    s.restart();
    assert!(refused("/nowhere/b").contains("in use by the mount on /nowhere/a"));
    assert!(s.ask(|c| c.remove_volume("data", false)).is_err());
    let _ = maker.kill();
    maker.wait().expect("waited for");
    ask("/nowhere/b", std::process::id()).expect("nobody has it");
    let mut other = MountVolume {
        target: Some("/nowhere/b".to_owned()),
        pid: 1,
        read_only: true,
    };
    let taken = s.ask(|c| c.mount_volume("data", &other));
    assert!(taken.is_err(), "somebody is about to mount there");
    other.target = None;
    s.ask(|c| c.mount_volume("data", &other)).expect("read");
}

/// umount(8) tells the server nothing.
#[test]
fn a_volume_that_others_unmounted_is_free_at_once() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();
    w.pocker(&["mount", "--volume", "data", &mnt]).ok();
    let umount = Command::new("umount").arg(&mnt).status().expect("umount");
    assert!(umount.success());
    let listed = w.pocker(&["volume", "ls"]).ok().out;
    assert!(!listed.contains(&mnt), "{listed}");
    w.pocker(&["mount", "--volume", "data", &mnt]).ok();
    let umount = Command::new("umount").arg(&mnt).status().expect("umount");
    assert!(umount.success());
    sh(&w, "data:/data", "true").ok();
    w.pocker(&["mount", "--volume", "data", &mnt]).ok();
    let umount = Command::new("umount").arg(&mnt).status().expect("umount");
    assert!(umount.success());
    w.pocker(&["volume", "rm", "data"]).ok();
}

/// A server as on a machine that has just booted: `boot_id` says another boot.
struct Booted(Child);

impl Booted {
    fn server(w: &World, boot: &str) -> Booted {
        let id = w.write("boot_id", &format!("{boot}\n"));
        let pocker = w.command(&["serve"]);
        let script = "mount --make-rprivate / && mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(id);
        command.arg(pocker.get_program()).args(pocker.get_args());
        for (name, value) in pocker.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let server = command.stdin(Stdio::null()).spawn().expect("unshare");
        until("the server listens", || w.path("s/control.sock").exists());
        Booted(server)
    }

    /// As a crash: nothing is told to leave.
    fn crash(mut self, w: &World) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
        for socket in ["s/control.sock", "s/nfs.sock"] {
            let _ = std::fs::remove_file(w.path(socket));
        }
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_boot_keeps_volumes_and_drops_runs() {
    let w = World::new();
    let server = Booted::server(&w, "11111111-1111-1111-1111-111111111111");
    let file = w.pockerfile("box", "RUN true\n").display().to_string();
    // The view would be mounted where this server does not see it.
    w.pocker(&["create", "--no-browse", "-f", &file, "box"])
        .ok();
    w.pocker(&["volume", "create", "data"]).ok();
    let write =
        "cd /data; echo kept >f; dd if=/dev/zero of=large bs=100k count=1 2>/dev/null; sync";
    sh(&w, "data:/data", write).ok();
    w.pocker(&["debug", "box", "--", "/bin/true"]).ok();
    server.crash(&w);
    let server = Booted::server(&w, "22222222-2222-2222-2222-222222222222");
    w.pocker(&["debug", "box", "--", "/bin/true"])
        .fails(&["nothing is kept of box"]);
    let read = "cd /data; cat f; stat -c %s large";
    assert_eq!(sh(&w, "data:/data", read).ok().out, "kept\n102400\n");
    w.pocker(&["fsck"]).ok();
    drop(server);
}

/// A command in namespaces of its own.
fn apart(w: &World, unshare: &[&str], args: &[&str]) -> Done {
    let pocker = w.command(args);
    let mut command = Command::new("unshare");
    command.args(unshare).arg(pocker.get_program());
    command.args(pocker.get_args());
    for (name, value) in pocker.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("unshare"))
}

/// The server cannot see what is mounted in another namespace, nor look after a process that
/// has another number there: a second writer would come in.
#[test]
fn who_is_in_another_namespace_gets_no_volume() {
    let w = world();
    w.pocker(&["volume", "create", "data"]).ok();
    let server = w.server_pid().to_string();
    for dir in ["mnt", "other"] {
        std::fs::create_dir(w.path(dir)).expect("mkdir");
    }
    let (mnt, other) = (w.path("mnt"), w.path("other"));
    let (mnt, other) = (mnt.to_str().expect("text"), other.to_str().expect("text"));
    let refused = |unshare: &[&str], args: &[&str], words: &[&str]| {
        let done = apart(&w, unshare, args).fails(words);
        assert!(done.err.contains("hint: "), "{}", done.err);
        let free = w.pocker(&["volume", "ls"]).ok().out;
        assert!(!free.contains("mnt"), "{free}");
    };
    let words = [
        "another mount namespace than the server",
        "nsenter",
        &server,
    ];
    for volume in ["data", "data:ro"] {
        refused(&["-m"], &["mount", "--volume", volume, mnt], &words);
    }
    let words = ["another mount namespace", "nsenter", &server];
    refused(&["-m"], &["mount", "box", mnt], &words);
    refused(&["-m"], &["mount", "--rw", "box", mnt], &words);
    let file = w.pockerfile("again", "RUN true\n");
    let file = file.to_str().expect("text");
    let create = ["create", "-f", file, "again"];
    refused(
        &["-m"],
        &create,
        &["another mount namespace", "--no-browse"],
    );
    // Its number there is another process's here.
    let forked = ["-p", "-f", "--mount-proc"];
    let run = ["run", "-v", "data:/data", "box", "--", "/bin/true"];
    refused(
        &forked,
        &run,
        &["another PID namespace", "nsenter", &server],
    );
    // What needs no mount that lasts, nor a volume, works from there.
    apart(
        &w,
        &["-m"],
        &["run", "-v", "data:/data", "box", "--", "/bin/true"],
    )
    .ok();
    apart(&w, &["-m"], &["mount", "--volume", "data", "--print"]).ok();

    // One who unmounts its own copy of a mount does not unmount the mount.
    w.pocker(&["mount", "--volume", "data", mnt]).ok();
    apart(&w, &["-m"], &["umount", mnt]).fails(&["another mount namespace", "nsenter"]);
    w.pocker(&["mount", "--volume", "data", other])
        .fails(&["in use by the mount on", mnt]);
    std::fs::write(w.path("mnt/f"), "still there").expect("written");
    w.pocker(&["umount", mnt]).ok();
    w.pocker(&["mount", "--volume", "data", other]).ok();
    w.pocker(&["umount", other]).ok();
}

/// The answer to a removal is lost with the server: the command says what became of it.
#[test]
fn a_volume_is_removed_once() {
    let w = World::new();
    w.pocker(&["volume", "create", "data"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    let points = w.write("points", "drop.row.after 1 kill\n");
    let remove = || {
        let mut command = w.command(&["volume", "rm", "data"]);
        command
            .env("POCKER_FAILPOINTS", &points)
            .stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(command.spawn().expect("pocker"))
    };
    remove().ok();
    assert!(!points.exists(), "the server was killed");
    assert_eq!(w.pocker(&["volume", "ls"]).ok().out, "");
    remove().fails(&["no volume named data"]);
}
