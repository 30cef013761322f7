//! What a command sees around it.

use crate::Case;
use crate::world::{World, output, place, refused, run};
use pocker::sandbox::{Exit, Privileges, Stdio, What};

pub const CASES: &[Case] = &[
    ("it_sees_its_own_processes_only", processes),
    ("it_has_a_host_name_of_its_own", hostname),
    ("dev_has_what_programs_expect", devices),
    ("no_descriptor_but_0_to_2_is_open", descriptors),
    ("a_directory_as_stdin_is_refused", directory_stdin),
    ("it_has_its_own_session_and_umask", session),
    ("the_environment_is_the_given_one", environment),
    ("mounts_have_their_profiles_flags", flags),
    ("nothing_of_the_host_is_mounted", mounts),
    ("a_tmpfs_has_its_mode_and_stays_out_of_the_tree", tmpfs),
];

fn processes() {
    let world = World::new();
    let text = output(&world.sh("ps -o pid,args; echo $$; ls -d /proc/[0-9]* | wc -l"));
    let lines: Vec<&str> = text.lines().collect();
    // Header, pid 1, the shell, ps.
    assert_eq!(lines.len(), 6, "{text}");
    assert_eq!(lines[4], "2", "{text}");
}

fn hostname() {
    let world = World::new();
    let host = nix::unistd::gethostname().unwrap();
    let mut spec = world.spec(&["hostname"]);
    assert_eq!(output(&spec), "box\n");
    spec.hostname = Some("n".repeat(200));
    assert_eq!(output(&spec).trim().len(), 63);
    assert_eq!(nix::unistd::gethostname().unwrap(), host);
}

fn devices() {
    let world = World::new();
    assert_eq!(
        output(&world.sh("ls /dev | sort | tr '\\n' ' '")),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    let text = output(&world.sh(
        "echo lost > /dev/null && echo err > /dev/stderr && head -c 3 /dev/zero | wc -c && \
         head -c 5 /dev/urandom | wc -c && echo shared > /dev/shm/x && cat /dev/shm/x && \
         ls -l /dev/null | cut -c 1-10 && readlink /dev/fd && ls /dev/pts && \
         (echo x > /dev/full) 2>&1 | grep -c 'No space'",
    ));
    assert_eq!(
        text,
        "err\n3\n5\nshared\ncrw-rw-rw-\n/proc/self/fd\nptmx\n1\n"
    );
    // The tree's own /dev is as empty as it was.
    assert_eq!(
        std::fs::read_dir(world.tree().join("dev")).unwrap().count(),
        0
    );
}

fn descriptors() {
    let world = World::new();
    let leaky = std::fs::File::open("/").unwrap();
    let high = nix::fcntl::fcntl(&leaky, nix::fcntl::FcntlArg::F_DUPFD(200)).unwrap();
    assert!(high >= 200);
    // Not the shell, which opens some of its own.
    let text = output(&world.spec(&["ls", "/proc/self/fd"]));
    // 3 is the directory that ls reads.
    assert_eq!(text, "0\n1\n2\n3\n");
    // The supervisors hold nothing of the host's either.
    let text = output(&world.sh("ls -l /proc/1/fd"));
    assert!(
        !text.contains("-> /\n") && !text.contains("busybox"),
        "{text}"
    );
}

fn directory_stdin() {
    let world = World::new();
    let mut spec = world.sh("ls /proc/self/fd/0/");
    spec.stdio = Stdio::Inherit;
    let dir = std::fs::File::open("/").unwrap();
    nix::unistd::dup2_stdin(&dir).unwrap();
    let error = refused(&spec).to_string();
    assert!(error.contains("descriptor 0 is a directory"), "{error}");
}

fn session() {
    let world = World::new();
    let text = output(&world.sh("umask; cut -d ' ' -f 1,5,6 /proc/$$/stat"));
    assert_eq!(text, "0022\n2 2 2\n");
}

fn environment() {
    let world = World::new();
    let mut spec = world.spec(&["env"]);
    spec.env.push(("A".into(), "b=c d".into()));
    assert_eq!(output(&spec), "PATH=/bin\nA=b=c d\nHOME=/root\n");
    spec.env.push(("HOME".into(), "/elsewhere".into()));
    assert_eq!(output(&spec), "PATH=/bin\nA=b=c d\nHOME=/elsewhere\n");
}

fn flags() {
    let world = World::new();
    let host = world.host("data");
    let root_options = |privileges, read_only| {
        let mut spec = world.spec(&["cat", "/proc/mounts"]);
        spec.privileges = privileges;
        spec.mounts.push(crate::world::graft(&host, "/tmp"));
        if let What::Nfs(tree) = &mut spec.mounts[0].what {
            tree.read_only = read_only;
        }
        let text = output(&spec);
        let options = |at: &str| {
            let line = text
                .lines()
                .find(|l| l.split(' ').nth(1) == Some(at))
                .unwrap();
            line.split(' ').nth(3).unwrap().to_owned()
        };
        (options("/"), options("/tmp"))
    };
    let (root, graft) = root_options(Privileges::RUN, true);
    assert!(root.starts_with("rw,nosuid,nodev"), "{root}");
    assert!(graft.starts_with("ro,nosuid,nodev"), "{graft}");
    let (root, graft) = root_options(Privileges::BUILD, false);
    assert!(root.starts_with("rw,nodev"), "{root}");
    assert!(graft.starts_with("rw,nosuid,nodev"), "{graft}");
}

fn mounts() {
    let world = World::new();
    // The kernel's own part of /proc lies on itself, to be read only.
    let text =
        output(&world.sh("cut -d ' ' -f 2,4 /proc/mounts | grep -v '^/proc/' | cut -d , -f 1-3"));
    let node = |name| format!("/dev/{name} rw,nosuid,noexec\n");
    let nodes = ["null", "zero", "full", "random", "urandom", "tty"].map(node);
    // Devices are in force where one lies, and nowhere else.
    assert_eq!(
        text,
        format!(
            "/ rw,nosuid,nodev\n/dev rw,nosuid,nodev\n{}/dev/pts rw,nosuid,noexec\n/dev/shm rw,nosuid,nodev\n/proc rw,nosuid,nodev\n",
            nodes.concat()
        )
    );
    let sealed = output(&world.sh("grep '^proc /proc/' /proc/mounts | cut -d ' ' -f 4"));
    assert!(sealed.lines().count() >= 2, "{sealed}");
    assert!(
        sealed
            .lines()
            .all(|o| o.starts_with("ro,nosuid,nodev,noexec")),
        "{sealed}"
    );
    for (hidden, size) in [
        ("interrupts", "0"),
        ("keys", "0"),
        ("timer_list", "0"),
        ("sys/kernel/hostname", "4"),
    ] {
        let text = output(&world.sh(&format!("head -c 10 /proc/{hidden} | wc -c")));
        assert_eq!(text.trim(), size, "{hidden}");
    }
}

fn tmpfs() {
    let world = World::new();
    let mut spec = world.sh("touch /tmp/x && stat -c %a /tmp && exit 6");
    spec.mounts.push(place(
        "/tmp",
        What::Tmpfs {
            mode: 0o1777,
            size: None,
        },
    ));
    let (text, exit) = run(&spec);
    assert_eq!((text.as_str(), exit), ("1777\n", Exit::Code(6)));
    assert!(!world.tree().join("tmp/x").exists());
}
