//! The whole path against a real Debian: apt installs, nginx serves, and a server
//! killed in the middle of PKG changes nothing.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::{World, until, wait_for};

/// A root from the mirror and a few packages take minutes on a slow machine.
const BUILD: Duration = Duration::from_secs(900);
const PORT: u16 = 18_980;

fn fetch(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n")
        .map(|(_, body)| body.to_string())
}

#[test]
fn from_a_pockerfile_to_a_served_page_with_the_server_killed_meanwhile() {
    let w = World::new();
    let text = format!(
        "PROOT\nPKG nginx libcap2-bin iputils-ping python3 git\n\
         EXEC sed -i 's/listen 80 default_server/listen 127.0.0.1:{PORT} default_server/; /\\[::\\]:80/d' /etc/nginx/sites-available/default\n\
         RUN nginx -g 'daemon off;'\n"
    );
    w.write("Pockerfile", &text);
    let mut build = w.start(&["create", "nginx"]);
    let mut err = BufReader::new(build.stderr.take().expect("stderr"));
    let mut said = String::new();
    // Once dpkg unpacks, the server dies three times.
    let mut kills = 0;
    loop {
        let mut line = String::new();
        if err.read_line(&mut line).expect("read") == 0 {
            break;
        }
        said.push_str(&line);
        let at_work = line.contains("| Unpacking") || line.contains("| Setting up");
        if at_work && kills < 3 {
            kills += 1;
            let pid = nix::unistd::Pid::from_raw(w.server_pid());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
            until("the server is back", || w.pocker(&["ls"]).status == 0);
        }
    }
    let done = wait_for(build, BUILD);
    assert_eq!(done.status, 0, "{said}");
    assert_eq!(kills, 3, "{said}");

    // A postinst ran setcap: the file capability is sealed and read back.
    let caps = w
        .pocker(&["run", "nginx", "--", "getcap", "/bin/ping"])
        .ok()
        .out;
    assert!(caps.contains("cap_net_raw"), "{caps:?}");
    // dpkg's own account of what it unpacked.
    let check = w
        .pocker(&[
            "run",
            "nginx",
            "--",
            "/bin/sh",
            "-c",
            "dpkg --verify nginx-common libc6 perl-base",
        ])
        .ok();
    let altered: Vec<&str> = check
        .out
        .lines()
        .filter(|l| !l.contains("sites-available/default"))
        .collect();
    assert!(altered.is_empty(), "{altered:?}");

    real_programs_work(&w);

    std::fs::create_dir(w.path("www")).expect("mkdir");
    std::fs::write(w.path("www/index.html"), "hello from the host\n").expect("write");
    let graft = format!("{}:/var/www/html/", w.path("www").display());
    let run = w.start(&["-d", &graft, "nginx"]);
    until("nginx serves", || fetch("/").is_some());
    assert_eq!(fetch("/").as_deref(), Some("hello from the host\n"));
    std::fs::write(w.path("www/new.html"), "put there later\n").expect("write");
    until("a new file shows", || {
        fetch("/new.html").as_deref() == Some("put there later\n")
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(run.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("kill");
    let ended = support::wait(run);
    assert!([0, 143].contains(&ended.status), "{ended:?}");
    assert!(fetch("/").is_none(), "nginx is still there");

    let again = w.pocker(&["create", "nginx"]).ok();
    assert_eq!(again.err.matches("cached").count(), 4, "{}", again.err);

    the_readme_shows_what_a_person_sees(&w);
}

/// What the filter and the bounds leave is enough for programs that use much of a system.
fn real_programs_work(w: &World) {
    let python = "
import asyncio, concurrent.futures, ctypes, mmap, multiprocessing, os, resource, signal, socket, sqlite3, subprocess, threading, time
with multiprocessing.Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    assert sum(threads.map(len, ['a', 'bb', 'ccc'])) == 6
assert subprocess.run(['true'], preexec_fn=os.setsid, cwd='/tmp').returncode == 0
db = sqlite3.connect('/var/x.db'); db.execute('pragma journal_mode=wal'); db.execute('create table t(a)'); db.commit()
async def main():
    server = await asyncio.start_server(lambda r, w: (w.write(b'x'), w.close()), '127.0.0.1', 0)
    reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    assert await reader.read() == b'x'
asyncio.run(main())
signal.setitimer(signal.ITIMER_REAL, 10); os.sched_getaffinity(0); os.nice(1); os.urandom(8); os.memfd_create('x')
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); mmap.mmap(-1, 4096).flush()
print('python works')
";
    let git = "set -e; export HOME=/tmp; cd /tmp; git init -q a; cd a
        git config user.email a@b; git config user.name a
        for i in 1 2 3; do echo $i >f; git add f; git commit -qm $i; done
        git clone -q . ../b; git -C ../b log --oneline | wc -l; git gc -q; git fsck";
    let jobs = "script -qec \"bash -mc 'sleep 50 & kill -STOP %1; sleep 0.2; jobs; kill -CONT %1; \
        kill %1; wait %1; echo ended \\$?; sleep 0.1 & fg %1; echo job control works'\" /dev/null";
    for (flags, argv, said) in [
        (&[][..], &["python3", "-c", python][..], "python works"),
        (
            &["-u", "www-data"],
            &["python3", "-c", &python.replace("/var/x", "/tmp/x")],
            "python works",
        ),
        (&["-u", "www-data"], &["/bin/sh", "-c", git], "3"),
        (&[], &["/bin/sh", "-c", jobs], "job control works"),
        (
            &["--cap-add", "NET_RAW"],
            &["ping", "-c", "1", "-W", "5", "127.0.0.1"],
            "1 received",
        ),
        (
            &["-u", "www-data", "--cap-add", "NET_RAW"],
            &["ping", "-c", "1", "-W", "5", "127.0.0.1"],
            "1 received",
        ),
        (
            &[],
            &[
                "perl",
                "-e",
                "for (1..3) { fork || exit 0 } wait; print qq(perl works)",
            ],
            "perl works",
        ),
        (
            &[
                "--read-only",
                "--tmpfs",
                "/var/lib/nginx",
                "--tmpfs",
                "/var/log/nginx",
                "--tmpfs",
                "/run",
            ],
            &["nginx", "-t"],
            "",
        ),
    ] {
        let done = w
            .pocker(&[&["run"], flags, &["nginx", "--"], argv].concat())
            .ok();
        assert!(done.out.contains(said), "{argv:?}: {done:?}");
    }
}

/// The README's screen against this run's: pids, times, sizes, keys and paths aside.
fn the_readme_shows_what_a_person_sees(w: &World) {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nginx");
    let built = w.start(&["create", "--no-cache", "nginx", example]);
    let done = wait_for(built, BUILD).ok();
    let readme = include_str!("../README.md");
    let screen: Vec<&str> = readme
        .lines()
        .skip_while(|l| *l != "    $ pocker create nginx examples/nginx")
        .skip(1)
        .take_while(|l| *l != "    $ ls /var/pocker/chroot/nginx/")
        .filter_map(|l| l.strip_prefix("    "))
        .filter(|l| !l.starts_with("started a server") && l.trim() != "…")
        .collect();
    let seen: Vec<&str> = done.err.lines().filter(|l| !l.starts_with("  |")).collect();
    let plain = |lines: &[&str]| lines.iter().map(|l| aside(l)).collect::<Vec<_>>();
    assert_eq!(
        plain(&seen),
        plain(&screen),
        "the README's screen is out of date"
    );
    let listed: Vec<String> = readme
        .lines()
        .skip_while(|l| *l != "    $ ls /var/pocker/chroot/nginx/")
        .skip(1)
        .map_while(|l| l.strip_prefix("    "))
        .map(aside)
        .collect();
    let mut names: Vec<String> = std::fs::read_dir(w.path("chroot/nginx"))
        .expect("the browse view")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let names: Vec<String> = names.iter().map(|n| aside(n)).collect();
    assert_eq!(names, listed);
}

/// Words with what differs between two runs left out: numbers and keys.
fn aside(line: &str) -> String {
    let word = |w: &str| {
        let core = w.trim_end_matches([',', ';']);
        let (head, tail) = core.rsplit_once('-').unwrap_or(("", core));
        let hex = tail.len() >= 12 && tail.bytes().all(|b| b.is_ascii_hexdigit());
        let number = core.parse::<f64>().is_ok();
        match (hex, number) {
            (true, _) if head.is_empty() => "KEY".to_string(),
            (true, _) => format!("{head}-KEY"),
            (_, true) => "N".to_string(),
            _ => core.to_string(),
        }
    };
    line.split_whitespace()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}
