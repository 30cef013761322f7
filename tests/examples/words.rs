//! Commands that a README shows.

use crate::support::{Done, World};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One example's blocks of commands, in order.
pub struct Words<'a> {
    world: &'a World,
    blocks: Vec<String>,
}

impl Words<'_> {
    pub fn of<'a>(world: &'a World, example: &str) -> Words<'a> {
        let path = top().join("examples").join(example).join("README.md");
        let text = std::fs::read_to_string(&path).expect("a README");
        let volumes = world.path("volumes").display().to_string();
        let mut blocks = Vec::new();
        for part in text.split("```sh\n").skip(1) {
            let (block, _) = part.split_once("```").expect("the end of a block");
            blocks.push(block.replace("/var/pocker/volumes", &volumes));
        }
        Words { world, blocks }
    }

    /// Runs the first block that has `mark` in it, less the lines with `without` in them (if any
    /// is said). What it printed.
    #[track_caller]
    pub fn run(&self, mark: &str, without: &str) -> String {
        let found = self.blocks.iter().find(|block| block.contains(mark));
        let block = found.unwrap_or_else(|| panic!("no block has {mark:?}"));
        let lines = block.lines();
        let kept = lines.filter(|line| without.is_empty() || !line.contains(without));
        let script: Vec<&str> = kept.collect();
        self.shell(&script.join("\n")).ok().out
    }

    fn shell(&self, script: &str) -> Done {
        let pocker = PathBuf::from(env!("CARGO_BIN_EXE_pocker"));
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = pocker.parent().expect("a directory").display();
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .env("PATH", format!("{bin}:{path}"))
            .env("POCKER_STORE", self.world.path("store"))
            .env("POCKER_SOCKET_DIR", self.world.path("s"))
            .env("POCKER_BROWSE", self.world.path("chroot"))
            .env("POCKER_CA", super::CERTIFICATES)
            .current_dir(top())
            .stdin(Stdio::null())
            .output()
            .expect("bash")
            .into()
    }

    /// How many letters anna has.
    pub fn letters(&self) -> usize {
        let new = ["new", "cur"].map(|dir| {
            let dir = self.world.path("volumes/mail/anna/Maildir").join(dir);
            std::fs::read_dir(dir).map_or(0, Iterator::count)
        });
        new.iter().sum()
    }
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// This thread, and what it starts, gets a network with nothing but a loopback.
pub fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network of its own");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("ip").success());
}
