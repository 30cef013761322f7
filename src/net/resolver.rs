//! resolv.conf(5) of a run with a network of its own: the engine's resolver, and the rest as
//! the host has it.

use super::file::EtcFile;
use super::{DNS, RESOLVER};
use std::path::Path;

const HOST: &str = "/etc/resolv.conf";

pub fn resolver(dir: &Path) -> std::io::Result<EtcFile> {
    let host = std::fs::read_to_string(HOST).unwrap_or_default();
    EtcFile::make(dir, RESOLVER, text(&host).as_bytes())
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
