//! Programs on a mount of ours, while the server dies under their calls and connections break:
//! they see nothing but a wait.

use crate::list::lines;
use crate::points::socket;
use crate::replies::runtime;
use crate::server::Server;
use crate::support::{PATIENCE, wait_for};
use crate::tree::{base, differences};
use pocker::control::api::{PutPocker, RunConfig};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Unmounted with the value, whatever became of the server.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// What is run in the mount, and beside it on this host's own file system.
fn commands(n: usize) -> Vec<Vec<String>> {
    let name = |of: &str| format!("{of}{n}");
    let line = |words: &[&str]| words.iter().map(|w| w.to_string()).collect();
    vec![
        line(&["mkdir", &name("dir")]),
        line(&["sh", "-c", &format!("set -C; echo text > {}", name("file"))]),
        line(&["ln", &name("file"), &name("hard")]),
        line(&["ln", "-s", &name("file"), &name("soft")]),
        line(&["mv", &name("file"), &format!("dir{n}/in")]),
        line(&["chmod", "600", &name("hard")]),
        line(&["truncate", "-s", "30000", &name("hard")]),
        line(&["mkfifo", &name("pipe")]),
        line(&["rm", &name("hard"), &name("pipe")]),
        line(&["mv", &name("dir"), &name("moved")]),
        line(&["rm", &format!("moved{n}/in")]),
        line(&["rmdir", &name("moved")]),
        line(&["rm", &format!("large/{n}")]),
    ]
}

/// Runs a program to its end, which must be a good one.
fn run(server: &Server, dir: &Path, argv: &[String], when: &str) {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).current_dir(dir).env("LC_ALL", "C");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("wait").is_none() {
        server.revive();
        assert!(Instant::now() < end, "{when}: {argv:?} hangs");
        std::thread::sleep(Duration::from_millis(2));
    }
    let done = wait_for(child, PATIENCE);
    assert!(
        done.status == 0 && done.err.is_empty(),
        "{when}: {argv:?} ended with {}: {}",
        done.status,
        done.err
    );
}

#[test]
fn programs_on_a_mount_see_no_more_than_a_wait() {
    let server = Server::new();
    let step = runtime().block_on(base(&server, socket(&server)));
    let put = PutPocker {
        steps: vec![step.key],
        config: RunConfig::default(),
    };
    server.ask("a pocker", |c| c.put_pocker("p", &put));
    let at = server.world.path("mnt");
    let model = server.world.path("model");
    std::fs::create_dir(&at).expect("mkdir");
    std::fs::create_dir(&model).expect("mkdir");
    crate::tree::large_files(&model);
    let target = at.to_str().expect("text");
    server.world.pocker(&["mount", "--rw", "p", target]).ok();
    let mounted = Mounted(at.clone());
    let mut events = vec![
        lines("journal.append.before"),
        lines("journal.append.torn"),
        lines("journal.append.after"),
        lines("call.done"),
    ];
    // The first call of a program is most often a LOOKUP.
    for nth in 1..=3 {
        events.push(format!("reply.write.before {nth} EIO\n"));
        events.push(format!("reply.write.before {nth} kill\n"));
        events.push(format!(
            "reply.write.tear {nth} EIO\nreply.write.torn 1 EIO\n"
        ));
    }
    let mut happened = 0;
    for (n, event) in events.iter().enumerate() {
        for argv in commands(n) {
            let when = event.replace('\n', ", ");
            server.arm(event);
            run(&server, &at, &argv, &when);
            happened += usize::from(!server.disarm());
            run(&server, &model, &argv, "on this host");
        }
        let wrong = differences(&at, &model);
        assert!(wrong.is_empty(), "after {event}: {wrong:?}");
    }
    eprintln!("{happened} deaths and cut connections under programs");
    assert!(happened > events.len() * 6, "only {happened} happened");
    server.revive();
    server.ask("status", |c| c.status());
    server.world.pocker(&["umount", target]).ok();
    drop(mounted);
    server.fsck("after programs");
}
