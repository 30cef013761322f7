//! The host's side: programs to attack with, and decoys for them, which a test made and looks after.

use crate::support::{Done, World, until};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// What the witness says, so that another file is not taken for it.
const SECRET: &str = "of-the-host-alone";
const DISK: &str = "bytes-of-the-decoy-disk ";

/// Compiled once for all tests of this process; any root takes it.
pub fn program(name: &str) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let dir = MADE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("escape");
        std::fs::create_dir_all(&dir).expect("mkdir");
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/escape/");
        for (name, parts) in [
            ("attack", &["attack.c", "kernel.c", "help.c"][..]),
            ("nfs", &["nfs.c"]),
            #[cfg(target_arch = "x86_64")]
            ("taken", &["taken.c"]),
        ] {
            // Under its own name only once it is whole: another process may be at it too.
            let made = dir.join(format!("{name}.{}", std::process::id()));
            let done = Command::new("cc")
                .args(["-static", "-O1", "-Wall", "-Wno-unused-result", "-o"])
                .arg(&made)
                .args(parts.iter().map(|part| format!("{sources}{part}")))
                .status()
                .expect("cc, which cargo needs too (Debian: gcc libc6-dev)");
            assert!(done.success(), "cc {name}");
            std::fs::rename(&made, dir.join(name)).expect("rename");
        }
        dir
    });
    dir.join(name)
}

/// Runs the program on the host: what it says, a line.
fn attack(args: &[&str]) -> String {
    let done = Command::new(program("attack"))
        .args(args)
        .output()
        .expect("attack starts");
    assert!(done.status.success(), "attack {args:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// What attacks are aimed at. It is all there still, and as it was, when this is checked.
pub struct Decoys {
    witness: PathBuf,
    process: Child,
    address: String,
    disk: String,
    key: String,
    graft: PathBuf,
}

impl Decoys {
    pub fn new(world: &World) -> Decoys {
        let witness = world.write("witness", SECRET);
        let image = world.write("disk", &DISK.repeat(4096));
        let made = Command::new("losetup")
            .args(["--find", "--show", "--read-only"])
            .arg(&image)
            .output()
            .expect("losetup");
        assert!(made.status.success(), "{made:?}");
        let disk = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        let mut process = Command::new(program("attack"))
            .arg("--decoy")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the decoy starts");
        let mut line = String::new();
        let mut said = BufReader::new(process.stdout.take().expect("stdout"));
        said.read_line(&mut line).expect("read");
        let (_, address) = line.trim().split_once(' ').expect("pid and address");
        let name = world.dir.path().file_name().expect("a name");
        let key = format!("pocker-decoy-{}", name.display());
        attack(&["--add-key", &key, SECRET]);
        let graft = world.path("graft");
        std::fs::create_dir(&graft).expect("mkdir");
        let suid = graft.join("attack-suid");
        std::fs::copy(program("attack"), &suid).expect("copy");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&suid, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let block = nix::sys::stat::SFlag::S_IFBLK;
        let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        nix::sys::stat::mknod(&graft.join("node"), block, mode, device(&disk)).expect("mknod");
        nix::sys::stat::umask(old);
        Decoys {
            address: address.to_owned(),
            witness,
            process,
            disk,
            key,
            graft,
        }
    }

    /// Of the attack program, so that it finds all of it.
    pub fn values(&self, socket: &Path) -> Vec<String> {
        let device = device(&self.disk);
        let witness = self.witness.display().to_string();
        let handle = attack(&["--handle", &witness]);
        let (kind, bytes) = handle.split_once(' ').expect("kind and bytes");
        let value = |name: &str, value: &str| format!("{name}={value}");
        vec![
            value("witness", &witness),
            value("secret", SECRET),
            value("decoy", &self.process.id().to_string()),
            value("address", &self.address),
            value("major", &nix::sys::stat::major(device).to_string()),
            value("minor", &nix::sys::stat::minor(device).to_string()),
            value("key", &self.key),
            value("handle_type", kind),
            value("handle", bytes),
            value("socket", &socket.display().to_string()),
            value("other", "mark-of-another-run"),
        ]
    }

    pub fn graft(&self) -> String {
        format!("{}:/graft", self.graft.display())
    }

    /// Nothing was done to any of it.
    #[track_caller]
    pub fn unharmed(&mut self) {
        assert_eq!(
            self.process.try_wait().expect("wait"),
            None,
            "the decoy ended"
        );
        let at = u64::from_str_radix(self.address.trim_start_matches("0x"), 16).expect("address");
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.process.id()));
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&memory.expect("mem"), &mut bytes, at)
            .expect("read");
        assert_eq!(&bytes, b"unharmed");
        assert_eq!(
            std::fs::read_to_string(&self.witness).expect("read"),
            SECRET
        );
        let tracer = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        assert!(tracer.expect("status").contains("TracerPid:\t0"));
    }

    /// How the decoy ended, if something ended it.
    pub fn ended(&mut self) -> bool {
        let mut status = None;
        until("the decoy ends", || {
            status = self.process.try_wait().expect("wait");
            status.is_some()
        });
        use std::os::unix::process::ExitStatusExt;
        status.and_then(|s| s.signal()) == Some(nix::libc::SIGUSR1)
    }
}

fn device(path: &str) -> nix::libc::dev_t {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).expect("the loop device").rdev()
}

impl Drop for Decoys {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("losetup")
            .args(["--detach", &self.disk])
            .status();
        let _ = Command::new(program("attack"))
            .args(["--drop-key", &self.key])
            .status();
    }
}

/// Builds a pocker that has the attacks in it, one of them with a setuid bit.
pub fn create(world: &World, more: &str) -> Done {
    for name in ["attack", "nfs"] {
        std::fs::copy(program(name), world.path(name)).expect("copy");
    }
    world.create(
        "box",
        &format!(
            "COPY attack nfs /\nEXEC cp /attack /attack-suid && chmod 4755 /attack-suid\n{more}RUN true\n"
        ),
    )
}

/// `ATTACK got: …` and `ATTACK refused: …`, wherever they are in what was said.
pub fn outcomes(said: &str) -> Vec<(String, bool, String)> {
    said.lines()
        .filter_map(|line| {
            let line = line.trim_start_matches("  | ");
            let (name, rest) = line.split_once(' ')?;
            let (kind, what) = rest.split_once(": ")?;
            let got = match kind {
                "got" => true,
                "refused" => false,
                "ended" => panic!("{line}"),
                _ => return None,
            };
            Some((name.to_owned(), got, what.to_owned()))
        })
        .collect()
}
