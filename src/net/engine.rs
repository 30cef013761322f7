//! The programs that tie a network namespace to the host's network, and their arguments.

use super::{DNS, Protocol, Publish, Wanted};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// As large as these take; there is no wire that asks for less.
const MTU: u32 = 65_520;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Slirp4netns,
    Pasta,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Slirp4netns => "slirp4netns",
            Kind::Pasta => "pasta",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Engine {
    pub kind: Kind,
    pub program: PathBuf,
}

/// Descriptors and paths of a start.
pub struct Start<'a> {
    pub namespace: &'a Path,
    /// slirp4netns: the end of this ends it.
    pub exit_fd: i32,
    /// Says that it is ready: slirp4netns writes to it.
    pub ready_fd: i32,
    /// The same of pasta, which writes its pid there.
    pub ready_file: &'a Path,
    /// slirp4netns is told of ports here.
    pub socket: &'a Path,
}

/// The first that is on the PATH. slirp4netns first: pasta as Debian 12 has it is young.
pub fn find() -> Option<Engine> {
    let path = std::env::var_os("PATH")?;
    [Kind::Slirp4netns, Kind::Pasta]
        .into_iter()
        .find_map(|kind| {
            let program = std::env::split_paths(&path)
                .map(|dir| dir.join(kind.name()))
                .find(|program| program.is_file())?;
            Some(Engine { kind, program })
        })
}

/// Its name, for `pocker doctor`.
pub fn found() -> Option<&'static str> {
    find().map(|engine| engine.kind.name())
}

impl Engine {
    pub fn arguments(&self, wanted: &Wanted, start: &Start) -> Vec<OsString> {
        match self.kind {
            Kind::Slirp4netns => slirp(wanted, start),
            Kind::Pasta => pasta(wanted, start),
        }
    }
}

fn slirp(wanted: &Wanted, start: &Start) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "--configure",
        &format!("--mtu={MTU}"),
        "--enable-sandbox",
        "--enable-seccomp",
        &format!("--exit-fd={}", start.exit_fd),
        &format!("--ready-fd={}", start.ready_fd),
        "--netns-type=path",
        "--api-socket",
    ]
    .map(OsString::from)
    .to_vec();
    words.push(start.socket.into());
    if !wanted.host_loopback {
        words.push("--disable-host-loopback".into());
    }
    words.extend([start.namespace.into(), "tap0".into()]);
    words
}

/// In the foreground, as user 0: as another user it may not enter the namespace. It gives up
/// what it does not need by itself. Nothing is forwarded that was not asked for.
fn pasta(wanted: &Wanted, start: &Start) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "--foreground",
        "--quiet",
        "--ipv4-only",
        "--config-net",
        "--runas",
        "0:0",
        "--dns-forward",
        &DNS.to_string(),
        "--tcp-ns",
        "none",
        "--udp-ns",
        "none",
        "--no-netns-quit",
        "--pid",
    ]
    .map(OsString::from)
    .to_vec();
    words.push(start.ready_file.into());
    for (option, protocol) in [
        ("--tcp-ports", Protocol::Tcp),
        ("--udp-ports", Protocol::Udp),
    ] {
        let mut ports = wanted
            .ports
            .iter()
            .filter(|p| p.protocol == protocol)
            .peekable();
        if ports.peek().is_none() {
            words.extend([option.into(), "none".into()]);
        }
        for Publish { host, port, .. } in ports {
            let spec = format!("{}/{}:{port}", host.ip(), host.port());
            words.extend([option.into(), spec.into()]);
        }
    }
    if !wanted.host_loopback {
        words.push("--no-map-gw".into());
    }
    words.extend(["--netns".into(), start.namespace.into()]);
    words
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    fn words(kind: Kind, ports: &[&str], host_loopback: bool) -> String {
        let wanted = Wanted {
            mode: Mode::Private,
            ports: ports.iter().map(|text| text.parse().unwrap()).collect(),
            host_loopback,
        };
        let start = Start {
            namespace: Path::new("/s/ns"),
            exit_fd: 4,
            ready_fd: 5,
            ready_file: Path::new("/s/ready"),
            socket: Path::new("/s/api"),
        };
        let engine = Engine {
            kind,
            program: kind.name().into(),
        };
        let words = engine.arguments(&wanted, &start);
        words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_hosts_loopback_is_reached_only_where_asked() {
        assert!(words(Kind::Slirp4netns, &[], false).contains("--disable-host-loopback"));
        assert!(!words(Kind::Slirp4netns, &[], true).contains("loopback"));
        assert!(words(Kind::Pasta, &[], false).contains("--no-map-gw"));
        assert!(!words(Kind::Pasta, &[], true).contains("--no-map-gw"));
    }

    #[test]
    fn pasta_forwards_what_is_asked_for_and_nothing_else() {
        let none = words(Kind::Pasta, &[], false);
        for option in [
            "--tcp-ports none",
            "--udp-ports none",
            "--tcp-ns none",
            "--udp-ns none",
        ] {
            assert!(none.contains(option), "{none}");
        }
        let some = words(Kind::Pasta, &["127.0.0.1:8080:80", "53:5353/udp"], false);
        assert!(some.contains("--tcp-ports 127.0.0.1/8080:80 "), "{some}");
        assert!(some.contains("--udp-ports 0.0.0.0/53:5353 "), "{some}");
        assert!(!some.contains("ports none"), "{some}");
    }
}
