//! resolv.conf(5) of a run with a network of its own: the engine's resolver, and the rest as
//! the host has it.

use super::{DNS, RESOLVER};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const HOST: &str = "/etc/resolv.conf";

/// A file that is there until it is mounted.
pub struct Resolver(PathBuf);

impl Resolver {
    pub fn make(dir: &Path) -> std::io::Result<Resolver> {
        let host = std::fs::read_to_string(HOST).unwrap_or_default();
        let path = dir.join(format!("{RESOLVER}{}", std::process::id()));
        // Of an earlier process of this pid that was killed.
        let _ = std::fs::remove_file(&path);
        let resolver = Resolver(path);
        // The run's users read it.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let mut file = options.open(&resolver.0)?;
        file.write_all(text(&host).as_bytes())?;
        Ok(resolver)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn text(host: &str) -> String {
    let mut text = format!("nameserver {DNS}\n");
    let kept = |line: &&str| {
        let words = ["search ", "domain ", "options "];
        words.iter().any(|word| line.starts_with(word))
    };
    for line in host.lines().map(str::trim).filter(kept) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_are_the_engines_and_the_rest_is_the_hosts() {
        let host = "# by hand\nnameserver 127.0.0.53\n search a.example b.example\noptions edns0\n";
        let expected = "nameserver 10.0.2.3\nsearch a.example b.example\noptions edns0\n";
        assert_eq!(text(host), expected);
        assert_eq!(text(""), "nameserver 10.0.2.3\n");
    }
}
