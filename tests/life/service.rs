//! RUN of a script of rc.d(8): it ends, and what it started is the run.

use super::*;

/// A script as OpenBSD's are, and a daemon that leaves its parent and its session.
fn service(daemon: &str) -> World {
    let w = World::new();
    let script = "#!/bin/sh\n\
        [ \"$1\" = -f ] && shift\n\
        [ \"$1\" = start ] || { echo usage; exit 1; }\n\
        [ ! -e /etc/broken ] || exit 4\n\
        (setsid /bin/boxd &)\n\
        echo 'box(ok)'\n";
    std::fs::create_dir(w.path("ctx")).expect("mkdir");
    w.write("ctx/box", script);
    w.write("ctx/boxd", &format!("#!/bin/sh\n{daemon}\n"));
    w
}

const MODES: &str =
    "COPY box /etc/rc.d/\nCOPY boxd /bin/\nEXEC chmod 755 /etc/rc.d/box /bin/boxd\n";

fn create(w: &World, run: &str) {
    w.pockerfile("box", &format!("{MODES}{run}\n"));
    let context = w.path("ctx").display().to_string();
    w.pocker(&["create", "-f", "box.pockerfile", "box", &context])
        .ok();
}

#[test]
fn a_service_is_followed_when_its_script_has_ended_and_stopped_as_a_group() {
    let w = service(
        "trap 'echo told; exit 7' TERM; trap 'echo reload' HUP; sleep 600 & echo up; \
         while :; do sleep 0.05; done",
    );
    create(&w, "RUN /etc/rc.d/box");
    let run = detach(&w, &[]);
    let says = |word: &str| w.pocker(&["logs", &run]).out.contains(word);
    until("the daemon is up", || says("up\n") && says("box(ok)\n"));
    // Its script is gone: whoever asked for a command's end would have ended all.
    until("its script has ended, and it is there", || {
        let names = w.pocker(&["top", &run]).ok().out;
        names.contains("boxd") && !names.contains("rc.d")
    });
    w.pocker(&["kill", "-s", "HUP", &run]).ok();
    until("it is told to reload", || says("reload\n"));
    w.pocker(&["stop", "-t", "600", &run]).ok();
    assert!(says("told\n"));
    assert_eq!(w.pocker(&["wait", &run]).out, "7\n");
}

#[test]
fn how_a_service_ended_is_how_its_run_did() {
    let w = service("exit 3");
    create(&w, "RUN /etc/rc.d/box start");
    assert_eq!(w.pocker(&["run", "box"]).status, 3);
    // A daemon that forks once more after setsid: its first process ends well, and says nothing of the service.
    let w = service("(sleep 0.3; exit 5) & exit 0");
    create(&w, "RUN /etc/rc.d/box start");
    assert_eq!(w.pocker(&["run", "box"]).status, 5);
    // A script that fails, and a script as a command, which is followed by nobody.
    create(&w, "EXEC touch /etc/broken\nRUN /etc/rc.d/box start");
    assert_eq!(w.pocker(&["run", "box"]).status, 4);
    assert_eq!(w.pocker(&["run", "box", "--", "/etc/rc.d/box"]).status, 1);
}
