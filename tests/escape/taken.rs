//! A server that somebody else's code runs in, acted for real: its threads are made to call the kernel (`taken.c`).

use super::host::program;
use super::support::{Done, World, until};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

fn serve(w: &World, more: &[&str]) -> Child {
    let args = [&["serve"], more].concat();
    let log = std::fs::File::create(w.path("log")).expect("a log");
    let mut command = w.command(&args);
    let server = command.stdin(Stdio::null()).stderr(log).spawn();
    until("the server listens", || w.path("s/control.sock").exists());
    // Its filters are complete with this line.
    until("the server serves", || {
        std::fs::read_to_string(w.path("log")).is_ok_and(|log| log.contains(" serving "))
    });
    server.expect("pocker starts")
}

/// The process of the server that serves grafts.
fn grafter(server: &Child) -> u32 {
    let children = format!("/proc/{0}/task/{0}/children", server.id());
    let children = std::fs::read_to_string(children).expect("read");
    let mut pids = children
        .split_whitespace()
        .map(|pid| pid.parse().expect("a pid"));
    // Its threads have that name.
    let serves = |pid: &u32| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("read");
        let mut names = tasks
            .flatten()
            .map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name == "graft\n"))
    };
    pids.find(serves).expect("a grafter")
}

/// What each of a process's threads gets: every one gets the same.
fn taken(pid: u32, what: &[String]) -> Vec<String> {
    let done = Command::new(program("taken"))
        .arg(pid.to_string())
        .args(what)
        .output()
        .expect("taken starts");
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).expect("text");
    let answers = |what: &String| -> Vec<String> {
        let mark = format!(" {what}: ");
        let of = said.lines().filter_map(|line| line.split_once(&mark));
        of.map(|(_, answer)| answer.to_owned()).collect()
    };
    let one = |what: &String| {
        let mut all = answers(what);
        assert!(all.len() > 2, "threads: {said}");
        all.dedup();
        assert_eq!(all.len(), 1, "{what}: {said}");
        all.remove(0)
    };
    what.iter().map(one).collect()
}

/// A file of the host's that is no concern of the server's, and places where it has nothing to write.
fn wants(w: &World) -> Vec<String> {
    let at = |how: &str, path: PathBuf| format!("{how}:{}", path.display());
    vec![
        "open:/etc/shadow".into(),
        "open:/proc/self/root/etc/shadow".into(),
        "write:/proc/sys/kernel/core_pattern".into(),
        "write:/etc/passwd".into(),
        at("open", w.path("others/secret")),
        at("open", w.path("below/../others/secret")),
        at("open", w.path("below/link")),
    ]
}

#[test]
fn with_graft_below_it_reaches_its_own_files_and_its_grafter_the_grafts() {
    let w = World::new();
    w.write("below/www/page", "of the host");
    w.write("others/secret", "of others");
    std::os::unix::fs::symlink(w.path("others/secret"), w.path("below/link")).expect("linked");
    let [below, others] = ["below", "others"].map(|name| w.path(name).display().to_string());
    let missing = w.path("missing").display().to_string();
    w.pocker(&["serve", "--graft-below", &missing])
        .fails(&["--graft-below", &missing, "mkdir -p"]);
    w.pocker(&["serve", "--graft-below", "/etc/passwd"])
        .fails(&["not a directory"]);

    let mut server = serve(&w, &["--graft-below", &below]);
    let line =
        "RUN cat /www/page && echo back >/www/new && cat /www/new && cp /www/new /www/newer\n";
    w.create("box", line).ok();
    let graft = format!("{below}/www:/www");
    let said = w.pocker(&["run", "-d", &graft, "box"]).ok().out;
    assert_eq!(said, "of the hostback\n");
    let new = std::fs::read_to_string(w.path("below/www/newer")).expect("read");
    assert_eq!(new, "back\n");
    let top = w.dir.path().display().to_string();
    std::os::unix::fs::symlink(&others, w.path("below/away")).expect("linked");
    for elsewhere in [others.clone(), top, format!("{below}/away")] {
        let graft = format!("{elsewhere}:/www");
        w.pocker(&["run", "-d", &graft, "box"])
            .fails(&["at or below", &below, "graft_below"]);
    }
    let dir = w.path("copies").display().to_string();
    w.pocker(&["store", "backup", &dir])
        .fails(&["/var/backups"]);

    let mut what = wants(&w);
    what.push(format!("make:{others}/new"));
    what.push("make:/tmp/pocker-was-here".into());
    let refused = what.len();
    what.extend(["unix".into(), "pair".into(), format!("cut:{others}/secret")]);
    what.push(format!("open:{below}/www/page"));
    what.push(format!("open:{}", w.path("store/index.db").display()));
    what.push("inet".into());
    let mut both = vec!["Permission denied"; refused];
    both.extend(["Operation not permitted"; 3]);
    let expected = [&both[..], &["Permission denied", "ok", "ok"]].concat();
    assert_eq!(taken(server.id(), &what), expected, "{what:?}");
    let expected = [
        &both[..],
        &["ok", "Permission denied", "Operation not permitted"],
    ]
    .concat();
    assert_eq!(taken(grafter(&server), &what), expected, "{what:?}");

    // It goes on as before.
    w.pocker(&["run", "-d", &graft, "box"]).ok();
    let its = grafter(&server);
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");
    let gone = || !std::path::Path::new(&format!("/proc/{its}")).exists();
    until("the grafter ends with its server", gone);

    // Nobody serves grafts then, so the next server is to.
    let mut server = serve(&w, &["--graft-below", &below]);
    let its = nix::unistd::Pid::from_raw(grafter(&server).cast_signed());
    nix::sys::signal::kill(its, nix::sys::signal::Signal::SIGKILL).expect("killed");
    assert!(!server.wait().expect("it ends").success());
    let log = std::fs::read_to_string(w.path("log")).expect("read");
    assert!(log.contains("grafter"), "{log}");

    // A server that a command starts has it from the settings.
    let settings = w.write("settings", &format!("graft_below = [{below:?}]\n"));
    let run = |graft: &str| {
        let mut command = w.command(&["run", "-d", graft, "box"]);
        command.env("POCKER_CONFIG", &settings);
        Done::from(command.output().expect("pocker starts"))
    };
    run(&graft).ok();
    run(&format!("{others}:/www")).fails(&["at or below"]);
}

/// What the one above is compared with.
#[test]
fn without_it_it_reaches_the_hosts_files_as_grafts_of_any_directory_need() {
    let w = World::new();
    w.write("others/secret", "of others");
    std::fs::create_dir(w.path("below")).expect("mkdir");
    std::os::unix::fs::symlink(w.path("others/secret"), w.path("below/link")).expect("linked");
    let mut server = serve(&w, &[]);
    let mut what = wants(&w);
    let reached = what.len();
    let secret = w.path("others/secret");
    what.extend([
        "unix".into(),
        "pair".into(),
        format!("cut:{}", secret.display()),
    ]);
    let mut expected = vec!["ok"; reached];
    // What listens on the host is out of reach always, and nothing is cut by its name.
    expected.extend(["Operation not permitted"; 3]);
    assert_eq!(taken(server.id(), &what), expected, "{what:?}");
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");
}

/// What /proc says of a process.
fn status(pid: u32, field: &str) -> String {
    let all = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
    let line = all.lines().find_map(|line| line.strip_prefix(field));
    line.expect("there").trim().to_owned()
}

#[test]
fn a_server_that_is_a_user_of_its_own_has_its_store_and_nothing_else() {
    let w = World::new();
    w.write("below/www/page", "of the host");
    w.pocker(&["serve", "--user", "nobody"])
        .fails(&["--user nobody", "--graft-below"]);
    let below = w.path("below").display().to_string();
    let apart = ["--user", "nobody", "--graft-below", &below];
    w.pocker(&["serve", "--user", "no-such-user", "--graft-below", &below])
        .fails(&["no-such-user", "no such user"]);
    w.pocker(&[&["serve", "--listen", "127.0.0.1:0"], &apart[..]].concat())
        .fails(&["--user nobody", "--listen"]);

    // Root's server makes the store first. Beside it nothing changes hands.
    let mut server = serve(&w, &[]);
    let owner = || {
        let meta = std::fs::metadata(w.path("store")).expect("there");
        std::os::unix::fs::MetadataExt::uid(&meta)
    };
    w.pocker(&[&["serve"], &apart[..]].concat())
        .fails(&["is in use by"]);
    assert_eq!(owner(), 0);
    w.create("box", "RUN cat /www/page && echo back >/www/new\n")
        .ok();
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");

    let mut server = serve(&w, &apart);
    let (pid, its) = (server.id(), grafter(&server));
    let nobody = nix::unistd::User::from_name("nobody").expect("asked");
    let uid = nobody.expect("Debian has it").uid;
    let all = vec![uid.to_string(); 4].join("\t");
    assert_eq!(status(pid, "Uid:"), all);
    assert_eq!(status(pid, "CapPrm:"), "0000000000000000");
    let root = std::fs::read_link(format!("/proc/{pid}/root")).expect("read");
    assert_eq!(root, w.path("store").canonicalize().expect("its path"));
    let what = ["/etc/shadow", "/etc/passwd", "/proc/self/root/etc/shadow"];
    let mut what: Vec<String> = what.iter().map(|path| format!("open:{path}")).collect();
    what.extend(["unix".into(), "pair".into()]);
    what.push("inet".into());
    what.push("open:/index.db".into());
    let nothing = "No such file or directory";
    let no = "Operation not permitted";
    let expected = [nothing, nothing, nothing, no, no, no, "ok"];
    assert_eq!(taken(pid, &what), expected, "{what:?}");
    assert_eq!(status(its, "Uid:"), "0\t0\t0\t0");
    w.pocker(&["serve", "--user", "root"])
        .fails(&["is in use by"]);
    assert_eq!(owner(), uid.as_raw());

    // It builds, runs, grafts and backs up.
    let graft = format!("{below}/www:/www");
    w.pocker(&["run", "-d", &graft, "box"]).ok();
    let new = w.path("below/www/new");
    assert_eq!(std::fs::read_to_string(new).expect("read"), "back\n");
    w.create("other", "RUN exec sleep 1000\n").ok();
    let copies = w.path("copies").display().to_string();
    let within = w.path("store/backups").display().to_string();
    w.pocker(&["store", "backup", &copies]).fails(&[&within]);
    let said = w.pocker(&["store", "backup", &format!("{within}/a")]).ok();
    assert!(said.out.starts_with(&format!("{within}/a: ")), "{said:?}");
    let restored = w.path("restored").display().to_string();
    let copy = format!("{within}/a");
    w.pocker(&["store", "restore", &copy, "--store", &restored])
        .ok();

    // A run is ended by whoever may.
    w.pocker(&["run", "--detach", "--name", "sleeper", "other"])
        .ok();
    let said = w.pocker(&["serve", "--stop"]).ok();
    let named = "stopped run sleeper of other";
    assert!(said.err.contains(named), "{said:?}");
    server.wait().expect("it ends");
    assert!(!w.path("s/control.sock").exists() && !w.path("s/nfs.sock").exists());
    until("the grafter ends", || {
        !std::path::Path::new(&format!("/proc/{its}")).exists()
    });

    // Root has it again only where that is said; and then it is that user's once more.
    w.pocker(&["ls"])
        .fails(&["was given to the user", "--user root"]);
    w.pocker(&["store", "upgrade"]).ok();
    let mut server = serve(&w, &["--user", "root"]);
    w.create("third", "EXEC echo third >/third\nRUN cat /third\n")
        .ok();
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");
    let mut server = serve(&w, &apart);
    let said = w.pocker(&["run", "third"]).ok().out;
    assert_eq!(said, "third\n");
    w.pocker(&["fsck"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");
}
