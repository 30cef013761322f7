//! hosts(5) and hostname(5) of a run: its own name and `localhost`, which no DNS server need
//! know. With the host's network the host's file comes first.

use super::file::EtcFile;
use super::{HOSTNAME, HOSTS, Mode};
use std::io::Read;
use std::path::Path;

const HOST: &str = "/etc/hosts";
/// Most that is taken of the host's: some block advertisers with a megabyte or two.
const HOST_MAX: u64 = 8 << 20;
/// Where the run's name leads, as Debian has it.
const OWN: &str = "127.0.1.1";

pub fn hosts(dir: &Path, mode: Mode, name: &str) -> std::io::Result<EtcFile> {
    let host = match mode {
        Mode::Host => host(),
        Mode::None | Mode::Private => Vec::new(),
    };
    EtcFile::make(dir, HOSTS, &text(host, name))
}

pub fn hostname(dir: &Path, name: &str) -> std::io::Result<EtcFile> {
    EtcFile::make(dir, HOSTNAME, format!("{name}\n").as_bytes())
}

fn host() -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(HOST).and_then(|f| f.take(HOST_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// What `host` lacks is added: what it says stands.
fn text(mut host: Vec<u8>, name: &str) -> Vec<u8> {
    if host.last().is_some_and(|last| *last != b'\n') {
        host.push(b'\n');
    }
    let mut lines = String::new();
    if !knows(&host, "localhost") {
        lines.push_str("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    }
    if name != "localhost" && !knows(&host, name) {
        let short = name.split('.').next().filter(|short| *short != name);
        let short = short.map(|short| format!(" {short}")).unwrap_or_default();
        lines.push_str(&format!("{OWN} {name}{short}\n"));
    }
    host.extend_from_slice(lines.as_bytes());
    host
}

fn knows(hosts: &[u8], name: &str) -> bool {
    hosts.split(|byte| *byte == b'\n').any(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace);
        let names = words.by_ref().filter(|word| !word.is_empty()).skip(1);
        names
            .into_iter()
            .any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, name: &str) -> String {
        String::from_utf8(text(host.into(), name)).expect("UTF-8")
    }

    #[test]
    fn localhost_and_the_runs_name_are_there() {
        let local = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
        assert_eq!(of("", "web"), format!("{local}127.0.1.1 web\n"));
        let long = of("", "web.example.org");
        assert_eq!(long, format!("{local}127.0.1.1 web.example.org web\n"));
        assert_eq!(of("", "localhost"), local);
    }

    #[test]
    fn what_the_host_says_stands() {
        let host = "127.0.0.1\tlocalhost here # web\n10.0.0.5 DB";
        assert_eq!(of(host, "web"), format!("{host}\n127.0.1.1 web\n"));
        assert_eq!(of(host, "db"), format!("{host}\n"));
        // An address is no name.
        assert_eq!(
            of(host, "10.0.0.5"),
            format!("{host}\n127.0.1.1 10.0.0.5 10\n")
        );
    }

    #[test]
    fn a_run_with_a_network_of_its_own_sees_nothing_of_the_hosts_file() {
        let dir = tempfile::tempdir().expect("a directory");
        for mode in [Mode::None, Mode::Private] {
            let made = hosts(dir.path(), mode, "web").expect("made");
            let text = std::fs::read_to_string(made.path()).expect("read");
            assert_eq!(text, of("", "web"));
        }
        let made = hosts(dir.path(), Mode::Host, "web").expect("made");
        let text = std::fs::read(made.path()).expect("read");
        assert!(text.starts_with(&host()), "the host's lines are missing");
        drop(made);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    }
}
