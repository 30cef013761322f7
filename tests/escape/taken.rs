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

/// What each of the server's threads gets: every one gets the same.
fn taken(server: &Child, what: &[String]) -> Vec<String> {
    let done = Command::new(program("taken"))
        .arg(server.id().to_string())
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
fn with_graft_below_it_reaches_its_own_files_and_the_grafts_and_no_others() {
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
    let answers = taken(&server, &what);
    let mut expected = vec!["Permission denied"; refused];
    expected.extend(["Operation not permitted"; 3]);
    expected.extend(["ok", "ok"]);
    assert_eq!(answers, expected, "{what:?}");

    // It goes on as before.
    w.pocker(&["run", "-d", &graft, "box"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");

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
    assert_eq!(taken(&server, &what), expected, "{what:?}");
    w.pocker(&["serve", "--stop"]).ok();
    server.wait().expect("it ends");
}
