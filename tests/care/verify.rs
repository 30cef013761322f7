//! `pocker serve --verify-reads`: what rotted is an I/O error, by every way to it.

use super::json;
use super::support::{World, until};
use pocker_nfs::client::{Client, ClientLimits, Creds, UnixConnect};
use pocker_nfs::descriptors;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;

struct Serving(Child);

fn serve(w: &World, args: &[&str]) -> Serving {
    let mut log = std::fs::File::options();
    let log = log.create(true).append(true).open(w.path("log"));
    let log = log.expect("a log");
    let mut server = w.command(&[&["serve"], args].concat());
    let server = server.stderr(log).spawn().expect("pocker starts");
    until("it serves", || w.pocker(&["serve", "--stats"]).status == 0);
    Serving(server)
}

fn stop(w: &World, mut server: Serving) {
    w.pocker(&["serve", "--stop"]).ok();
    server.0.wait().expect("waited for");
}

/// The largest blob's file: busybox, or what a test made larger.
fn largest(w: &World) -> PathBuf {
    let mut found = Vec::new();
    for sub in std::fs::read_dir(w.path("store/blobs")).expect("blobs") {
        for file in std::fs::read_dir(sub.expect("a folder").path()).expect("a folder") {
            let file = file.expect("a file");
            found.push((file.metadata().expect("stat").len(), file.path()));
        }
    }
    found.into_iter().max().expect("a blob").1
}

fn flip(path: &PathBuf, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 8], at).expect("write");
}

fn eio(path: PathBuf) {
    let failed = std::fs::read(&path).expect_err("it rotted");
    let eio = nix::errno::Errno::EIO as i32;
    assert_eq!(
        failed.raw_os_error(),
        Some(eio),
        "{}: {failed}",
        path.display()
    );
}

#[test]
fn a_rotted_blob_is_an_io_error_in_mounts_runs_and_archives() {
    let w = World::new();
    let noise = "EXEC dd if=/dev/urandom of=/noise bs=1M count=9 2>/dev/null\nRUN true\n";
    w.create("box", noise).ok();
    // Large files on the average: the kernel gets their descriptors itself, where it takes any.
    let noise = std::fs::read(w.path("chroot/box/run/noise")).expect("read");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(noise.len() as u64);
    tar.append_data(&mut header, "noise", &noise[..])
        .expect("tar");
    std::fs::write(w.path("large.tar"), tar.into_inner().expect("tar")).expect("write");
    w.pocker(&["import", "large.tar", "large"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    let blob = largest(&w);
    flip(&blob, 5 << 20);
    std::fs::create_dir(w.path("mnt")).expect("mkdir");
    let mnt = w.path("mnt").display().to_string();

    // Unchecked it is read, rotted as it is.
    let server = serve(&w, &[]);
    w.pocker(&["mount", "box", &mnt]).ok();
    assert_eq!(
        std::fs::read(w.path("mnt/noise")).expect("read").len(),
        9 << 20
    );
    assert!(json(&w, &["serve", "--stats"])["verified"].is_null());
    w.pocker(&["umount", &mnt]).ok();
    stop(&w, server);

    let server = serve(&w, &["--verify-reads"]);
    for name in ["box", "large"] {
        w.pocker(&["mount", name, &mnt]).ok();
        eio(w.path("mnt/noise"));
        eio(w.path("mnt/noise"));
        w.pocker(&["umount", &mnt]).ok();
    }
    w.pocker(&["mount", "box", &mnt]).ok();
    assert!(
        std::fs::read(w.path("mnt/bin/busybox"))
            .expect("read")
            .len()
            > 100_000
    );
    w.pocker(&["umount", &mnt]).ok();
    let script = "cat /noise >/dev/null && echo read; echo more >>/noise && echo written";
    let run = w.pocker(&["run", "box", "--", "/bin/sh", "-c", script]);
    assert!(run.err.contains("Input/output error"), "{}", run.err);
    assert_eq!(run.out, "", "neither read nor written");
    w.pocker(&["export", "box", "-o", "box.tar"]).fails(&[]);
    let name = blob
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let stats = json(&w, &["serve", "--stats"]);
    assert_eq!(stats["verified"]["bad"][0], name.as_str());
    let shown = w.pocker(&["serve", "--stats"]).ok().out;
    assert!(shown.contains(&format!("rotted: {name}")), "{shown}");
    let log = std::fs::read_to_string(w.path("log")).expect("the log");
    let line = log.lines().find(|l| l.contains(&name)).expect("a line");
    assert!(
        line.contains("ERROR") && line.contains("fsck --repair"),
        "{line}"
    );
    stop(&w, server);
}

/// On the sockets themselves: whoever asks for the descriptor gets what whoever reads gets. The
/// settings file says it as well as the command line does.
#[test]
fn a_descriptor_is_no_way_around_it() {
    let w = World::new();
    w.create("box", "RUN true\n").ok();
    let key = super::key(&w, "box", 0);
    w.pocker(&["serve", "--stop"]).ok();
    let ask = |args: &[&str]| {
        let server = serve(&w, args);
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let fh = runtime.block_on(async {
            let connect = std::sync::Arc::new(UnixConnect(w.path("s/nfs.sock")));
            let client = Client::new(connect, [1; 16], ClientLimits::default());
            let root = Creds {
                uid: 0,
                gid: 0,
                gids: Vec::new(),
            };
            let path = format!("/chroot/box/step1-{key}");
            let top = client.mount(path.as_bytes()).await.expect("mounted");
            let bin = client.lookup(&root, &top, b"bin").await.expect("found").fh;
            let found = client.lookup(&root, &bin, b"busybox").await;
            let fh = found.expect("found").fh;
            (client.read(&root, &fh, 0, 100).await.is_ok(), fh)
        });
        let socket = UnixStream::connect(w.path("s/files.sock"));
        let mut socket = socket.expect("connects");
        socket
            .write_all(&descriptors::request(&fh.1))
            .expect("asked");
        let mut answer = [0; descriptors::ANSWER];
        socket.read_exact(&mut answer).expect("answered");
        stop(&w, server);
        (fh.0, u32::from_be_bytes(answer))
    };
    const NFS3ERR_IO: u32 = 5;
    std::fs::write(w.path("conf"), "verify_reads = true\n").expect("write");
    let conf = w.path("conf").display().to_string();
    assert_eq!(ask(&["--config", &conf]), (true, 0));
    flip(&largest(&w), 5000);
    assert_eq!(ask(&[]), (true, 0), "nobody looked");
    assert_eq!(ask(&["--config", &conf]), (false, NFS3ERR_IO));
}
