//! What was read of a sealed tree is not read again: counted at the server, by FUSE.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Done, World};

/// Files and their content.
type Files = BTreeMap<String, Vec<u8>>;

/// A world whose mounts are FUSE's.
struct Warm {
    world: World,
}

impl Warm {
    fn new() -> Warm {
        Warm {
            world: World::new(),
        }
    }

    fn pocker(&self, args: &[&str]) -> Done {
        let mut command = self.world.command(args);
        command.env("POCKER_MOUNT_HELPER", "fuse");
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        support::wait(command.spawn().expect("pocker starts"))
    }

    fn import(&self, name: &str, files: &Files) {
        let tar = self.world.path(&format!("{name}.tar"));
        let mut out = tar::Builder::new(File::create(&tar).expect("create"));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            let mode = if path.starts_with("secret") {
                0o600
            } else {
                0o644
            };
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            header.set_mtime(1_700_000_000);
            out.append_data(&mut header, path, &content[..])
                .expect("tar");
        }
        out.finish().expect("tar");
        drop(out);
        self.pocker(&["import", &tar.to_string_lossy(), name]).ok();
    }

    fn mount(&self, name: &str, at: &str) -> PathBuf {
        let dir = self.world.path(at);
        std::fs::create_dir_all(&dir).expect("mkdir");
        self.pocker(&["mount", name, at]).ok();
        dir
    }

    /// Calls of a procedure since the server started.
    fn calls(&self, procedure: &str) -> u64 {
        let json = self.pocker(&["serve", "--stats", "--json"]).ok().out;
        let stats: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let rows = stats["procedures"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"] == procedure);
        row.map_or(0, |row| row["calls"].as_u64().expect("a number"))
    }

    fn reads(&self) -> u64 {
        self.calls("READ")
    }

    fn kill_server(&self) {
        kill(Pid::from_raw(self.world.server_pid()), Signal::SIGKILL).expect("kill");
    }
}

/// Bytes that differ from file to file and from block to block.
fn content(seed: usize, len: usize) -> Vec<u8> {
    let mut x = (seed as u32).wrapping_mul(2_654_435_761) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).flatten().take(len).collect();
    bytes.resize(len, 0);
    bytes
}

fn small_files() -> Files {
    let file = |i: usize| (format!("d{}/f{i}", i % 7), content(i, 1 + i * 191));
    (0..200).map(file).collect()
}

fn large_files() -> Files {
    let mut files: Files = (0..4)
        .map(|i| (format!("large{i}"), content(i, (8 << 20) + i * 4097 + 1)))
        .collect();
    files.insert("small".into(), content(9, 5000));
    files.insert("secret".into(), content(10, 4 << 20));
    files
}

#[track_caller]
fn same(dir: &Path, files: &Files) {
    for (path, content) in files {
        let read = std::fs::read(dir.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(read == *content, "{path} differs");
    }
}

/// Whether this kernel reads files for FUSE by itself: Linux 6.9 and later.
fn kernel_passes_through() -> bool {
    let name = nix::sys::utsname::uname().expect("uname");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 9)
}

#[test]
fn a_second_mount_of_small_files_reads_nothing() {
    let w = Warm::new();
    let files = small_files();
    w.import("small", &files);
    let first = w.mount("small", "first");
    same(&first, &files);
    let read = w.reads();
    assert!(read > 0, "the first mount read nothing");
    w.pocker(&["umount", "first"]).ok();
    let second = w.mount("small", "second");
    same(&second, &files);
    same(&second, &files);
    assert_eq!(w.reads(), read);
    assert_eq!(w.calls("DESCRIPTOR"), 0, "a tree of small files");
    w.pocker(&["umount", "second"]).ok();
}

#[test]
fn a_second_mount_of_large_files_reads_nothing() {
    let w = Warm::new();
    let files = large_files();
    w.import("large", &files);
    let first = w.mount("large", "first");
    same(&first, &files);
    let (read, given) = (w.reads(), w.calls("DESCRIPTOR"));
    if kernel_passes_through() {
        // One for the small file: the kernel reads the others without the server.
        assert_eq!((read, given), (1, files.len() as u64 - 1));
    }
    w.pocker(&["umount", "first"]).ok();
    let second = w.mount("large", "second");
    same(&second, &files);
    assert_eq!(w.reads(), read);
    w.pocker(&["umount", "second"]).ok();
}

#[test]
fn large_files_open_together_are_one_file() {
    let w = Warm::new();
    let files = large_files();
    w.import("large", &files);
    let dir = w.mount("large", "in");
    let path = dir.join("large1");
    let expected = &files["large1"];
    std::thread::scope(|scope| {
        for at in 0..8usize {
            let path = &path;
            scope.spawn(move || {
                for turn in 0..20 {
                    let file = File::open(path).expect("open");
                    let from = (at * 20 + turn) * 4001;
                    let mut some = [0; 3000];
                    file.read_exact_at(&mut some, from as u64).expect("read");
                    assert!(some == expected[from..from + 3000], "at {from}");
                }
            });
        }
    });
    let denied = Command::new("cat")
        .arg(dir.join("secret"))
        .uid(65534)
        .gid(65534)
        .output()
        .expect("cat starts");
    assert!(!denied.status.success() && denied.stdout.is_empty());
    w.pocker(&["umount", "in"]).ok();
}

#[test]
fn a_server_that_was_killed_gives_descriptors_again() {
    let w = Warm::new();
    let files = large_files();
    w.import("large", &files);
    let dir = w.mount("large", "in");
    let mut held = File::open(dir.join("large0")).expect("open");
    let mut all = vec![0; 1000];
    held.read_exact(&mut all).expect("read");
    w.kill_server();
    // The kernel has what it needs; whoever has not, waits for the next server.
    held.read_to_end(&mut all).expect("read on");
    assert!(all == files["large0"]);
    same(&dir, &files);
    // This one is there by now.
    let held = File::open(dir.join("large3")).expect("open");
    drop(held);
    assert!(w.reads() <= 40, "{} READs", w.reads());
    if kernel_passes_through() {
        assert!(w.calls("DESCRIPTOR") > 0);
    }
    w.pocker(&["umount", "in"]).ok();
}

#[test]
fn a_store_on_a_stacked_file_system_is_read_by_reads() {
    let w = Warm::new();
    let parts = ["low", "up", "work", "store"].map(|name| w.world.path(name));
    for part in &parts {
        std::fs::create_dir(part).expect("mkdir");
    }
    let [low, up, work, store] = parts.each_ref().map(|p| p.display());
    let options = format!("lowerdir={low},upperdir={up},workdir={work}");
    let mount = |args: &[&str]| {
        let done = Command::new(args[0]).args(&args[1..]).status();
        assert!(done.expect("it starts").success(), "{args:?}");
    };
    let store = store.to_string();
    mount(&["mount", "-t", "overlay", "-o", &options, "overlay", &store]);
    let files = large_files();
    w.import("large", &files);
    let first = w.mount("large", "first");
    same(&first, &files);
    let read = w.reads();
    assert!(read > 40, "only {read} READs");
    same(&first, &files);
    w.pocker(&["umount", "first"]).ok();
    let second = w.mount("large", "second");
    same(&second, &files);
    assert_eq!(w.reads(), read);
    assert!(w.calls("DESCRIPTOR") <= 1, "asked again after a refusal");
    w.pocker(&["umount", "second"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    mount(&["umount", &store]);
}

#[test]
fn descriptors_are_given_for_handles_only() {
    let w = Warm::new();
    w.import("small", &small_files());
    let socket = w.world.path("s/files.sock");
    let ask = |request: &[u8]| {
        let mut stream = UnixStream::connect(&socket).expect("connect");
        stream.write_all(request).expect("write");
        stream
    };
    for (len, fill) in [(0, 0), (64, 0), (64, 0xff), (65, 1), (255, 1), (32, 7)] {
        let mut request = [fill; 65];
        request[0] = len;
        let mut stream = ask(&request);
        let mut status = [0; 4];
        stream.read_exact(&mut status).expect("an answer");
        // NFS3ERR_BADHANDLE, NFS3ERR_STALE
        let status = u32::from_be_bytes(status);
        assert!(matches!(status, 10001 | 70), "{len} {fill}: {status}");
    }
    // Cut short, and never answered.
    drop(ask(&[64, 1, 2, 3]));
    let refused = Command::new("perl")
        .args(["-MIO::Socket::UNIX", "-e"])
        .arg("exit(IO::Socket::UNIX->new(Peer => $ARGV[0]) ? 0 : $!{EACCES} ? 13 : 1)")
        .arg(&socket)
        .uid(65534)
        .gid(65534)
        .status()
        .expect("perl starts");
    assert_eq!(refused.code(), Some(13));
}
