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
        "PROOT\nPKG nginx libcap2-bin iputils-ping\n\
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
}
