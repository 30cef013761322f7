//! Against an S3 server that is none of ours (tests/suites/s3 installs it and runs these).

use super::support::{PATIENCE, World, until};
use super::{other, sent, stop, told, works_in, world};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const KEY: &str = "pockerkey";
const SECRET: &str = "hush-hush-hush";

struct S3 {
    child: Child,
    port: u16,
}

impl S3 {
    fn program() -> PathBuf {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/suites/bin/s3s-fs");
        assert!(dir.exists(), "tests/suites/s3 installs {}", dir.display());
        dir
    }

    fn start(w: &World) -> S3 {
        S3::at(w, free_port())
    }

    fn at(w: &World, port: u16) -> S3 {
        S3::with(w, port, &["--access-key", KEY, "--secret-key", SECRET])
    }

    /// It takes what nobody has signed.
    fn open_to_all(w: &World) -> S3 {
        S3::with(w, free_port(), &[])
    }

    fn with(w: &World, port: u16, more: &[&str]) -> S3 {
        let root = w.path("objects");
        std::fs::create_dir_all(root.join("bucket")).expect("mkdir");
        let child = Command::new(S3::program())
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(more)
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("s3s-fs starts");
        until("it answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        S3 { child, port }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A command of a store that asks here, as somebody.
    fn asked(&self, w: &World, name: &str, secret: &str, args: &[&str]) -> super::support::Done {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let env = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_ENDPOINT", &endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
        ];
        told(w, name, &env, args)
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
#[ignore = "wants s3s-fs: tests/suites/s3"]
fn to_s3_and_back() {
    let w = world();
    let s3 = S3::start(&w);
    let there = "s3://bucket/some/prefix";
    let all = s3
        .asked(
            &w,
            "store",
            SECRET,
            &["sync", "--json", "local", there, "box"],
        )
        .ok();
    assert!(sent(&all).2 > 3_000_000, "{}", all.out);
    let again = s3
        .asked(
            &w,
            "store",
            SECRET,
            &["sync", "--json", "local", there, "box"],
        )
        .ok();
    assert_eq!(sent(&again), (0, 0, 0));
    let got = s3
        .asked(
            &w,
            "second",
            SECRET,
            &["sync", "--json", there, "local", "box"],
        )
        .ok();
    assert_eq!(sent(&got), sent(&all));
    works_in(&w, "second");
    stop(&w, "second");
    // And into other places of it, without a store of ours between.
    s3.asked(
        &w,
        "store",
        SECRET,
        &["sync", there, "s3://bucket/copy", "--all"],
    )
    .ok();
    s3.asked(
        &w,
        "third",
        SECRET,
        &["sync", "s3://bucket/copy", "local", "box"],
    )
    .ok();
    works_in(&w, "third");
    stop(&w, "third");
}

#[test]
#[ignore = "wants s3s-fs: tests/suites/s3"]
fn s3_that_refuses_or_is_away() {
    let w = world();
    let mut s3 = S3::start(&w);
    let there = "s3://bucket/x";
    let wrong = s3
        .asked(&w, "store", "wrong-wrong", &["sync", "local", there, "box"])
        .fails(&["hint: ", "AWS_SECRET_ACCESS_KEY"]);
    assert!(
        !wrong.err.contains("wrong-wrong") && !wrong.err.contains(SECRET),
        "{}",
        wrong.err
    );
    s3.asked(&w, "store", SECRET, &["sync", there, "local", "box"])
        .fails(&["has no pockers", "hint: "]);
    s3.end();
    let began = Instant::now();
    s3.asked(&w, "store", SECRET, &["sync", "local", there, "box"])
        .fails(&["hint: ", "AWS_ENDPOINT"]);
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    let s3 = S3::at(&w, s3.port);
    s3.asked(&w, "store", SECRET, &["sync", "local", there, "box"])
        .ok();
    s3.asked(&w, "store", SECRET, &["sync", there, "local", "none"])
        .fails(&["no pocker named none", "hint: it has box"]);
    // Killed in the middle.
    let mut s3 = s3;
    s3.asked(
        &w,
        "store",
        SECRET,
        &["sync", "local", "s3://bucket/y", "box"],
    )
    .ok();
    s3.end();
    other(&w, "second", &["ls"]).ok();
    s3.asked(
        &w,
        "second",
        SECRET,
        &["sync", "s3://bucket/y", "local", "box"],
    )
    .fails(&["hint: "]);
    let s3 = S3::at(&w, s3.port);
    s3.asked(
        &w,
        "second",
        SECRET,
        &["sync", "s3://bucket/y", "local", "box"],
    )
    .ok();
    works_in(&w, "second");
    stop(&w, "second");
}

/// Before a server: takes out what Google's clients say of who they are, which servers of S3 do not understand.
fn without_bearer(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            let clone = |stream: &TcpStream| stream.try_clone().expect("another");
            let (from, into) = (clone(&client), clone(&server));
            std::thread::spawn(move || pass(from, into, true));
            std::thread::spawn(move || pass(server, client, false));
        }
    });
    own
}

fn pass(mut from: TcpStream, mut into: TcpStream, blank: bool) {
    const SAID: &[u8] = b"authorization: Bearer";
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..n];
        let found = bytes.windows(SAID.len()).position(|part| part == SAID);
        if let Some(at) = found.filter(|_| blank) {
            bytes[at] = b'x';
        }
        if into.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Write);
}

/// Google's XML API is that of S3 but for who asks, which nobody here wants to know.
#[test]
#[ignore = "wants s3s-fs: tests/suites/s3"]
fn googles_way_of_asking() {
    let w = world();
    let s3 = S3::open_to_all(&w);
    let account = serde_json::json!({
        "private_key": "x", "private_key_id": "x", "client_email": "x", "disable_oauth": true,
        "gcs_base_url": format!("http://127.0.0.1:{}", without_bearer(s3.port)),
    });
    w.write("account.json", &account.to_string());
    let account = w.path("account.json").display().to_string();
    let asked = |name: &str, args: &[&str]| {
        let env = [
            ("GOOGLE_SERVICE_ACCOUNT", account.as_str()),
            ("GOOGLE_ALLOW_HTTP", "true"),
        ];
        told(&w, name, &env, args)
    };
    let there = "gs://bucket/some/prefix";
    let push = ["sync", "--json", "local", there, "box"];
    let all = asked("store", &push).ok();
    assert!(sent(&all).2 > 3_000_000, "{}", all.out);
    assert_eq!(sent(&asked("store", &push).ok()), (0, 0, 0));
    let got = asked("second", &["sync", "--json", there, "local", "box"]).ok();
    assert_eq!(sent(&got), sent(&all));
    works_in(&w, "second");
    stop(&w, "second");
    asked("store", &["sync", there, "local", "none"])
        .fails(&["no pocker named none", "hint: it has box"]);
}
