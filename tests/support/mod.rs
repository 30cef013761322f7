//! What the black-box tests share: a world of their own (store, sockets, browse view)
//! that leaves nothing behind, and a small root made of busybox.
#![allow(dead_code)]

pub mod server;
pub mod sys;

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test calls it hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One store with its server, gone with the value.
pub struct World {
    pub dir: tempfile::TempDir,
}

/// How a command ended, as text.
#[derive(Debug)]
pub struct Done {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Done {
        assert_eq!(
            self.status, 0,
            "stdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        self
    }

    /// Asserts a failure whose message has these words.
    #[track_caller]
    pub fn fails(self, words: &[&str]) -> Done {
        assert_ne!(
            self.status, 0,
            "stdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Done {
            status: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl World {
    pub fn new() -> World {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests mount and chroot: run them as root"
        );
        let dir = tempfile::Builder::new()
            .prefix("pk")
            .tempdir_in("/tmp")
            .expect("a directory in /tmp");
        World { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocker"));
        command
            .args(args)
            .env("POCKER_STORE", self.path("store"))
            .env("POCKER_SOCKET_DIR", self.path("s"))
            .env("POCKER_BROWSE", self.path("chroot"))
            .env_remove("SOURCE_DATE_EPOCH")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs `pocker` to its end.
    #[track_caller]
    pub fn pocker<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("pocker starts");
        wait(child)
    }

    /// Starts `pocker` and leaves it running.
    pub fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("pocker starts")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("mkdir");
        std::fs::write(&path, text).expect("write");
        path
    }

    /// Writes a Pockerfile over the busybox root and builds it.
    #[track_caller]
    pub fn create(&self, name: &str, lines: &str) -> Done {
        self.pockerfile(name, lines);
        self.pocker(&["create", "-f", &format!("{name}.pockerfile"), name])
    }

    /// A Pockerfile whose base is the busybox root.
    pub fn pockerfile(&self, name: &str, lines: &str) -> PathBuf {
        let (root, sha256) = self.busybox();
        let text = format!("FROM {} sha256:{sha256}\n{lines}", root.display());
        self.write(&format!("{name}.pockerfile"), &text)
    }

    /// The busybox root as an archive, and its digest.
    pub fn busybox(&self) -> (PathBuf, String) {
        let path = self.path("busybox.tar");
        if !path.exists() {
            std::fs::write(&path, busybox_tar()).expect("write");
        }
        let bytes = std::fs::read(&path).expect("read");
        use sha2::Digest;
        (path, hex::encode(sha2::Sha256::digest(bytes)))
    }

    /// Every process whose arguments or environment name this world.
    pub fn processes(&self) -> Vec<u32> {
        use std::os::unix::ffi::OsStrExt;
        let ours = self.dir.path().as_os_str().as_bytes();
        let names = |pid: u32, file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            bytes.windows(ours.len()).any(|part| part == ours)
        };
        std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| names(*pid, "cmdline") || names(*pid, "environ"))
            .collect()
    }

    /// The running server's pid.
    pub fn server_pid(&self) -> i32 {
        let done = self.pocker(&["doctor", "--json"]);
        let text = done.out;
        let at = text
            .find("pid ")
            .unwrap_or_else(|| panic!("no server in {text}"));
        let digits: String = text[at + 4..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().expect("a pid")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let done = self.pocker(&["serve", "--stop"]);
        if done.status != 0 && !std::thread::panicking() {
            panic!("the server did not stop: {}", done.err);
        }
        let log = std::fs::read_to_string(self.path("s/serve.log")).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{log}");
        } else {
            assert!(!log.contains("panicked"), "the server panicked:\n{log}");
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let ours = self.dir.path().to_string_lossy().into_owned();
        let left: Vec<&str> = mounts
            .lines()
            .filter(|l| l.contains(&ours) && !l.contains("/s/netns"))
            .collect();
        // Whoever removes the folder would wait for ever inside one whose server is gone.
        for line in &left {
            let target = line.split(' ').nth(4).unwrap_or_default();
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
        if !left.is_empty() && !std::thread::panicking() {
            panic!("left mounted: {left:?}");
        }
        let _ = nix::mount::umount2(&self.path("s/netns"), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Waits for a child, with its output; kills it when it hangs.
#[track_caller]
pub fn wait(child: Child) -> Done {
    wait_for(child, PATIENCE)
}

#[track_caller]
pub fn wait_for(mut child: Child, patience: Duration) -> Done {
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = drain(
        child
            .stdout
            .take()
            .map(|p| Box::new(p) as Box<dyn Read + Send>),
    );
    let err = drain(
        child
            .stderr
            .take()
            .map(|p| Box::new(p) as Box<dyn Read + Send>),
    );
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let err = err.join().unwrap_or_default();
            panic!(
                "hung for {patience:?}; stderr so far:\n{}",
                String::from_utf8_lossy(&err)
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (out.join().expect("join"), err.join().expect("join"));
    Output {
        status,
        stdout,
        stderr,
    }
    .into()
}

/// Polls until `what` holds.
#[track_caller]
pub fn until(why: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < deadline, "{why}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs. One that has ended and that nobody has asked about does not.
pub fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A root of one static binary: enough for shells, files and processes.
fn busybox_tar() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|p| Path::new(p).exists())
        .expect("the tests need Debian's busybox-static; scripts/test installs it");
    let binary = std::fs::read(program).expect("read busybox");
    let list = Command::new(program)
        .arg("--list")
        .output()
        .expect("busybox runs")
        .stdout;
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header
    };
    for (dir, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
        ("var", 0o755),
        ("var/www", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("dev", 0o755),
    ] {
        let mut h = header(tar::EntryType::Directory, mode, 0);
        tar.append_data(&mut h, format!("{dir}/"), std::io::empty())
            .expect("tar");
    }
    let mut h = header(tar::EntryType::Regular, 0o755, binary.len() as u64);
    tar.append_data(&mut h, "bin/busybox", &binary[..])
        .expect("tar");
    for name in String::from_utf8_lossy(&list)
        .lines()
        .filter(|n| *n != "busybox")
    {
        let mut h = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut h, format!("bin/{name}"), "busybox")
            .expect("tar");
    }
    for (path, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\nmail:x:8:8::/home:/bin/sh\n",
        ),
        (
            "etc/group",
            "root:x:0:\nwww:x:33:\nmail:x:8:\nshared:x:500:www\n",
        ),
    ] {
        let mut h = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut h, path, text.as_bytes()).expect("tar");
    }
    tar.into_inner().expect("tar")
}
