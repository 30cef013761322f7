//! How sandboxes start, fail and end.

use crate::Case;
use crate::world::{World, alone, exists, graft, output, place, refused, run, start, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pocker::sandbox::{Exit, Fault, SandboxError, Stdio, TreeMount, TreeMounter, What, spawn};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio as Pipe};

pub const CASES: &[Case] = &[
    ("the_exit_code_is_the_commands", exit_code),
    ("a_command_that_is_not_there_is_127", not_found),
    ("a_command_that_cannot_run_is_126", not_executable),
    ("output_is_captured_whole", captured),
    ("output_can_be_taken", taken),
    ("what_the_command_leaves_running_ends_with_it", orphans_end),
    ("orphans_are_reaped_while_it_runs", orphans_reaped),
    ("a_failed_phase_is_named", phases),
    ("a_second_sandbox_waits_its_turn", busy),
    ("a_process_with_threads_is_refused", threads),
    ("dropping_it_ends_everything", dropped),
    ("killing_its_parent_ends_everything", parent_killed),
    (
        "killing_its_parent_while_it_mounts_ends_everything",
        parent_killed_early,
    ),
];

pub const HELPERS: &[Case] = &[("hold", hold), ("hang", hang)];

fn exit_code() {
    let world = World::new();
    for (script, want) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255)] {
        let (_, exit) = run(&world.sh(script));
        assert_eq!(exit, Exit::Code(want));
    }
    let (_, exit) = run(&world.sh("kill -SEGV $$"));
    assert_eq!(exit, Exit::Signal(11));
    assert_eq!(exit.status(), 139);
}

fn not_found() {
    let world = World::new();
    let error = refused(&world.spec(&["no-such-thing"]));
    assert_eq!(error.status(), 127);
    assert_eq!(
        error.to_string(),
        "no-such-thing: No such file or directory"
    );
    assert_eq!(refused(&world.spec(&["/bin/nope"])).status(), 127);
    std::fs::write(world.tree().join("bin/odd"), "#!/no/interpreter\n").unwrap();
    executable(&world.tree().join("bin/odd"));
    let error = refused(&world.spec(&["odd"]));
    assert_eq!(error.status(), 127);
    assert!(error.to_string().contains("interpreter"), "{error}");
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn not_executable() {
    let world = World::new();
    std::fs::write(world.tree().join("bin/data"), "x").unwrap();
    assert_eq!(refused(&world.spec(&["data"])).status(), 126);
    executable(&world.tree().join("bin/data"));
    let error = refused(&world.spec(&["/bin/data"]));
    assert_eq!(error.status(), 126);
    assert_eq!(error.to_string(), "/bin/data: Exec format error");
    assert_eq!(refused(&world.spec(&["/etc"])).status(), 126);
}

fn captured() {
    let world = World::new();
    let text = output(&world.sh("seq 1 100000; echo end >&2"));
    assert_eq!(text.lines().count(), 100_001);
    assert!(text.ends_with("100000\nend\n"));
    assert_eq!(output(&world.sh("cat; echo eof")), "eof\n");
}

fn taken() {
    use std::io::Read;
    let world = World::new();
    let mut sandbox = start(&world.sh("seq 1 100000; exit 4")).unwrap();
    let output = sandbox.take_output().unwrap();
    assert!(sandbox.take_output().is_none());
    let mut text = String::new();
    std::fs::File::from(output)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text.lines().count(), 100_000);
    assert_eq!(sandbox.wait(), Exit::Code(4));
    assert_eq!(sandbox.wait(), Exit::Code(4));
    assert!(sandbox.signal(Signal::SIGTERM).is_err());
    alone();
}

fn orphans_end() {
    let world = World::new();
    // The reader's end of file comes only when nobody has the pipe open any more.
    let (text, exit) = run(&world.sh("setsid sleep 1000 & sleep 1000 & echo started; exit 5"));
    assert_eq!((text.as_str(), exit), ("started\n", Exit::Code(5)));
}

fn orphans_reaped() {
    let world = World::new();
    let script = "for i in 1 2 3 4 5; do (true & exit 0); done; \
        while ps -o stat,args | grep -q '^Z'; do :; done; echo none";
    assert_eq!(output(&world.sh(script)), "none\n");
}

struct Broken;

impl TreeMounter for Broken {
    fn mount(&mut self, _tree: &TreeMount<'_>) -> Result<(), Fault> {
        Err(Fault::new("the helper said no"))
    }

    fn unmount(&mut self, _target: &Path, _force: pocker::sandbox::Force) -> Result<(), Fault> {
        Ok(())
    }
}

fn phases() {
    let world = World::new();
    let root = match spawn(&world.sh("true"), &mut Broken) {
        Err(error) => error,
        Ok(_) => panic!("it started"),
    };
    alone();
    assert_eq!(root.to_string(), "mount the root: the helper said no");
    assert_eq!(root.status(), 125);

    let before = world.listing();
    let with = |what| {
        let mut spec = world.sh("true");
        spec.mounts.push(place("/new/place", what));
        refused(&spec).to_string()
    };
    let host = "/no/such/host".into();
    assert_eq!(
        with(What::BindFile { host }),
        "mount /new/place: look at /no/such/host: No such file or directory"
    );
    let mut spec = world.sh("true");
    spec.mounts.push(graft(&world.host("www"), "/made/first"));
    spec.mounts.push(graft(&world.host("www"), "/etc/passwd"));
    assert_eq!(
        refused(&spec).to_string(),
        "mount graft HOST:/etc/passwd: /etc/passwd is not a directory in the tree"
    );
    assert_eq!(before, world.listing());
}

fn busy() {
    let world = World::new();
    let mut first = start(&world.sh("sleep 1000")).unwrap();
    assert!(matches!(start(&world.sh("true")), Err(SandboxError::Busy)));
    first.signal(Signal::SIGTERM).unwrap();
    assert_eq!(first.wait(), Exit::Signal(15));
    drop(first);
    output(&world.sh("true"));
}

fn threads() {
    let world = World::new();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv());
    let error = refused(&world.sh("true"));
    assert!(matches!(error, SandboxError::Threads(2)), "{error}");
    drop(stop);
    let _ = thread.join();
    // The kernel forgets a joined thread a moment later.
    until("one thread", || {
        std::fs::read_dir("/proc/self/task").unwrap().count() == 1
    });
    output(&world.sh("true"));
}

fn dropped() {
    let world = World::new();
    drop(start(&world.sh("setsid sleep 1000 & sleep 1000")).unwrap());
    alone();
}

/// Starts a sandbox that stays, and says its process.
fn hold() {
    let world = World::new();
    let mut spec = world.sh("setsid sleep 1000 & sleep 1000");
    spec.stdio = Stdio::Inherit;
    let mut sandbox = start(&spec).unwrap();
    println!("{}", sandbox.pid());
    sandbox.wait();
}

struct Hang;

impl TreeMounter for Hang {
    fn mount(&mut self, _tree: &TreeMount<'_>) -> Result<(), Fault> {
        println!("{}", std::process::id());
        loop {
            nix::unistd::pause();
        }
    }

    fn unmount(&mut self, _target: &Path, _force: pocker::sandbox::Force) -> Result<(), Fault> {
        Ok(())
    }
}

fn hang() {
    let world = World::new();
    let _ = spawn(&world.sh("true"), &mut Hang);
}

fn parent_killed() {
    kill_helper("hold");
}

fn parent_killed_early() {
    kill_helper("hang");
}

fn kill_helper(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--helper", name])
        .env("TMPDIR", dir.path())
        .stdout(Pipe::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(helper.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let stage: u32 = line.trim().parse().unwrap();
    assert!(exists(stage));
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    kill(Pid::from_raw(helper.id() as i32), Signal::SIGKILL).unwrap();
    helper.wait().unwrap();
    // Reaps what was left, which must all be ending.
    while nix::sys::wait::waitpid(None::<Pid>, None).is_ok() {}
    assert!(!exists(stage));
    // All that held the helper's output is gone.
    line.clear();
    assert_eq!(output.read_line(&mut line).unwrap(), 0);
}
