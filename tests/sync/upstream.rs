//! A server with an upstream: directories come at once, files when they are read.

use super::support::{Done, World, until, wait};
use super::{SAYS, json, url, world};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The second store, whose server has an upstream by its settings.
struct Second<'a> {
    w: &'a World,
}

impl<'a> Second<'a> {
    fn new(w: &'a World, upstream: &str, cache: &str) -> Second<'a> {
        w.write(
            "second.conf",
            &format!("upstream = {upstream:?}\nupstream_cache = {cache:?}\n"),
        );
        Second { w }
    }

    fn run(&self, args: &[&str]) -> Done {
        let store = self.w.path("second").display().to_string();
        let sockets = self.w.path("s-second").display().to_string();
        let dirs = ["--store", &store, "--socket-dir", &sockets];
        let mut command = self.w.command(&[&dirs[..], args].concat());
        command.env("POCKER_CONFIG", self.w.path("second.conf"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(command.spawn().expect("pocker starts"))
    }

    /// Of the upstream: files fetched, failed, evicted, and bytes held.
    fn used(&self) -> (u64, u64, u64, u64) {
        let stats = json(&self.run(&["serve", "--stats", "--json"]).ok());
        let of = |what: &str| stats["upstream"][what].as_u64().expect("a number");
        (of("fetched"), of("failed"), of("evicted"), of("held"))
    }

    fn cat(&self, path: &str) -> Done {
        self.run(&[
            "run",
            "box",
            "--",
            "/bin/sh",
            "-c",
            &format!("wc -c <{path}"),
        ])
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.w.path("s-second/serve.log")).unwrap_or_default()
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["serve", "--stop"]);
    }
}

fn moved(from: &Path, to: &Path) {
    std::fs::rename(from, to).expect("moved");
}

#[test]
fn directories_come_at_once_and_files_when_they_are_read() {
    let w = world();
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    let second = Second::new(&w, &bucket, "2M");
    let lazy = second
        .run(&["sync", "--lazy", &bucket, "local", "box"])
        .ok()
        .out;
    assert!(lazy.contains("and 0 files"), "{lazy}");
    assert_eq!(second.used(), (0, 0, 0, 0));
    let listed = second.run(&["ls", "--json", "box"]).ok();
    assert_eq!(
        super::steps(&listed),
        super::steps(&w.pocker(&["ls", "--json", "box"]).ok())
    );
    let fsck = second.run(&["fsck"]).ok().out;
    assert!(fsck.ends_with(": sound\n"), "{fsck}");
    assert_eq!(second.run(&["run", "box"]).ok().out, SAYS);
    let (fetched, failed, evicted, held) = second.used();
    assert!(
        fetched > 1 && failed == 0 && evicted == 0,
        "{fetched} {failed} {evicted}"
    );
    assert!(held < 3_000_000, "{held}: the large file was not read");
    // It is larger than the cache.
    let large = second.cat("/data/large");
    assert!(
        large.status != 0 || large.out.trim() != "3000000",
        "{large:?}"
    );
    assert!(
        second.log().contains("--upstream-cache"),
        "{}",
        second.log()
    );
    // What is built on it is its own, and what the build reads is fetched.
    w.write(
        "on.pockerfile",
        "FROM box\nEXEC cat /data/middle /data/many/9 >/data/own\nRUN wc -c </data/own\n",
    );
    second
        .run(&["create", "--no-browse", "-f", "on.pockerfile", "on"])
        .ok();
    assert_eq!(second.run(&["run", "on"]).ok().out.trim(), "40007");
    second.run(&["gc"]).ok();
    let fsck = second.run(&["fsck"]).ok().out;
    assert!(fsck.ends_with(": sound\n"), "{fsck}");
    // All of it, as it was meant to be had without the upstream.
    let whole = second.run(&["sync", &bucket, "local", "box"]).ok().out;
    assert!(
        whole.contains("1 file") || whole.contains("files, "),
        "{whole}"
    );
    moved(&w.path("bucket"), &w.path("away"));
    assert_eq!(second.cat("/data/large").ok().out.trim(), "3000000");
    assert_eq!(second.cat("/data/many/150").ok().out.trim(), "9");
    moved(&w.path("away"), &w.path("bucket"));
}

#[test]
fn an_upstream_that_is_gone_is_an_error_and_the_next_read_tries_again() {
    let w = world();
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    let second = Second::new(&w, &bucket, "20M");
    second
        .run(&["sync", "--lazy", &bucket, "local", "box"])
        .ok();
    assert_eq!(second.run(&["run", "box"]).ok().out, SAYS);
    moved(&w.path("bucket"), &w.path("away"));
    let gone = second.cat("/data/large");
    assert_ne!(gone.status, 0);
    assert!(
        gone.err.contains("I/O error") || gone.err.contains("nput/output"),
        "{}",
        gone.err
    );
    assert!(second.log().contains("from upstream"), "{}", second.log());
    // What is here is read all the same.
    assert_eq!(second.run(&["run", "box"]).ok().out, SAYS);
    moved(&w.path("away"), &w.path("bucket"));
    until("it is asked again", || {
        second.cat("/data/large").out.trim() == "3000000"
    });
    // Damaged there: of what was read not a byte is given, and it is asked for again.
    let (path, whole) = pack_with(&w, b"file 111\n");
    std::fs::write(&path, whole.iter().map(|b| b ^ 1).collect::<Vec<u8>>()).expect("write");
    assert_ne!(second.cat("/data/middle").status, 0);
    assert!(
        second.log().contains("has the bytes of"),
        "{}",
        second.log()
    );
    std::fs::write(&path, whole).expect("write");
    until("it is asked for again", || {
        second.cat("/data/middle").out.trim() == "40000"
    });
    let failed = second.used().1;
    assert!(failed >= 2, "{failed}");
}

/// The pack that holds these bytes.
fn pack_with(w: &World, bytes: &[u8]) -> (std::path::PathBuf, Vec<u8>) {
    for dir in std::fs::read_dir(w.path("bucket/packs")).expect("listed") {
        for pack in std::fs::read_dir(dir.expect("an entry").path()).expect("listed") {
            let path = pack.expect("an entry").path();
            let whole = std::fs::read(&path).expect("read");
            if whole.windows(bytes.len()).any(|part| part == bytes) {
                return (path, whole);
            }
        }
    }
    panic!("no pack has it");
}

#[test]
fn a_pocker_cannot_be_had_lazily_from_elsewhere() {
    let w = world();
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    w.pocker(&["sync", "--lazy", &bucket, "local", "box"])
        .fails(&["no upstream", "hint: ", "--upstream"]);
    w.pocker(&["sync", "--lazy", "local", &bucket, "box"])
        .fails(&["no object store", "hint: "]);
    let elsewhere = url(&w.path("elsewhere"));
    w.pocker(&["sync", "local", &elsewhere, "box"]).ok();
    let second = Second::new(&w, &elsewhere, "20M");
    second
        .run(&["sync", "--lazy", &bucket, "local", "box"])
        .fails(&["upstream is ", "hint: "]);
    w.pocker(&["serve", "--upstream", "ftp://x"]).fails(&[]);
    let nowhere = url(&w.path("nowhere"));
    let bad = w.path("third").display().to_string();
    w.pocker(&[
        "--store",
        &bad,
        "--socket-dir",
        &w.path("s-third").display().to_string(),
        "serve",
        "--upstream",
        &nowhere,
    ])
    .fails(&["upstream", "hint: "]);
}

/// One that takes connections and says nothing: a read of what it has fails when its time is over, and
/// others do not wait.
#[test]
fn a_silent_upstream_has_a_deadline_and_blocks_nobody() {
    let w = world();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    {
        let second = Second::new(&w, &bucket, "20M");
        second
            .run(&["sync", "--lazy", &bucket, "local", "box"])
            .ok();
        assert_eq!(second.run(&["run", "box"]).ok().out, SAYS);
        second.run(&["serve", "--stop"]).ok();
    }
    let second = Second::new(&w, &bucket, "20M");
    let store = w.path("second").display().to_string();
    let sockets = w.path("s-second").display().to_string();
    let mut server = w.command(&["--store", &store, "--socket-dir", &sockets, "serve"]);
    server
        .args(["--upstream", "s3://bucket/x", "--upstream-timeout", "2"])
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .stderr(std::fs::File::create(w.path("log")).expect("a log"));
    let mut server = server.spawn().expect("pocker starts");
    until("it serves", || {
        second.run(&["serve", "--stats"]).status == 0
    });
    let began = Instant::now();
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| (second.cat("/data/large"), began.elapsed()));
        let quick = Instant::now();
        assert_eq!(second.run(&["run", "box"]).ok().out, SAYS);
        let quick = quick.elapsed();
        let (gone, took) = reads.join().expect("read");
        assert_ne!(gone.status, 0);
        assert!(
            took >= Duration::from_secs(2) && took < Duration::from_secs(20),
            "{took:?}"
        );
        assert!(quick < took, "{quick:?} {took:?}");
    });
    let log = std::fs::read_to_string(w.path("log")).expect("a log");
    assert!(log.contains("no answer within 2 s"), "{log}");
    second.run(&["serve", "--stop"]).ok();
    server.wait().expect("waited for");
}
