//! Which release this host runs, and where its packages come from: files only, no network, no programs.

use super::sources::{self, Distribution, Source, Stanza};
use crate::build::BuildError;
use crate::build::key::Fields;
use std::fs;
use std::path::Path;

/// Bigger source lists are no source lists.
const MAX_FILE: u64 = 1 << 20;

/// What PROOT models. Two hosts with equal values get the same step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `debian` or `ubuntu`.
    pub id: String,
    pub codename: String,
    /// As dpkg calls it.
    pub arch: String,
    pub sources: Vec<Source>,
    /// The distribution's keyring, at the same path on the host and in the new root.
    pub keyring: Option<String>,
}

impl Release {
    /// For the step's key.
    pub fn digest(&self) -> String {
        let mut fields = Fields::new("pocker release 1");
        for text in [&self.id, &self.codename, &self.arch] {
            fields.add("field", text.as_bytes());
        }
        for line in self.lines() {
            fields.add("source", line.as_bytes());
        }
        fields.hex()
    }

    /// The new root's sources.list.
    pub fn lines(&self) -> Vec<String> {
        let keyring = self.keyring.as_deref();
        self.sources.iter().map(|s| s.line(keyring)).collect()
    }
}

struct Known {
    id: &'static str,
    keyring: &'static str,
    keyring_file: &'static str,
    domains: &'static [&'static str],
}

const KNOWN: [Known; 2] = [
    Known {
        id: "debian",
        keyring: "debian-archive-",
        keyring_file: "/usr/share/keyrings/debian-archive-keyring.gpg",
        domains: &["debian.org"],
    },
    Known {
        id: "ubuntu",
        keyring: "ubuntu-archive-",
        keyring_file: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        domains: &["ubuntu.com"],
    },
];

/// Reads the release of the system whose files lie under `root` (`/`, or a test's directory).
pub fn read(root: &Path, os: &str, machine: &str) -> Result<Release, BuildError> {
    if os != "linux" {
        return Err(BuildError::Proot {
            why: format!(
                "this host runs {os}; modelling a root on the host works on Debian and Ubuntu"
            ),
            hint: match os {
                "openbsd" => {
                    "write SETS RELEASE base, as in SETS 7.8 base: a root of the release's own sets"
                        .to_owned()
                }
                _ => "start from an archive: FROM archive.tar sha256:DIGEST".to_owned(),
            },
        });
    }
    let text = read_small(&root.join("etc/os-release"))
        .or_else(|| read_small(&root.join("usr/lib/os-release")))
        .unwrap_or_default();
    let field = |name: &str| os_release_field(&text, name);
    let id = field("ID").unwrap_or_default();
    let Some(known) = KNOWN.iter().find(|known| known.id == id) else {
        let shown = field("PRETTY_NAME").unwrap_or_else(|| "an unknown system".to_owned());
        return Err(BuildError::Proot {
            why: format!(
                "this host runs {shown}; modelling a root on the host works on Debian and Ubuntu"
            ),
            hint: "start from an archive: FROM archive.tar sha256:DIGEST".to_owned(),
        });
    };
    let Some(codename) = field("VERSION_CODENAME").filter(|name| is_word(name)) else {
        return Err(BuildError::Proot {
            why: "/etc/os-release names no VERSION_CODENAME".to_owned(),
            hint: "add it, as in VERSION_CODENAME=bookworm".to_owned(),
        });
    };
    let arch = dpkg_arch(machine).ok_or_else(|| BuildError::Proot {
        why: format!("no architecture of Debian is known for {machine}"),
        hint: "start from an archive: FROM archive.tar sha256:DIGEST".to_owned(),
    })?;
    let distribution = Distribution {
        codename: &codename,
        keyring: known.keyring,
        domains: known.domains,
    };
    let origin = |uri: &str, suite: &str| published_by(root, known.id, uri, suite);
    let mut found = sources::own(&stanzas(root), &distribution, &origin);
    if !found.iter().any(|source| source.suite == codename) {
        found = defaults(known.id, &codename, arch);
    }
    let inside = known.keyring_file.trim_start_matches('/');
    let keyring = root
        .join(inside)
        .exists()
        .then(|| known.keyring_file.to_owned());
    Ok(Release {
        id,
        codename,
        arch: arch.to_owned(),
        sources: found,
        keyring,
    })
}

fn read_small(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok()?.len();
    if size > MAX_FILE {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// os-release(5): `NAME=value` with shell quotes.
fn os_release_field(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Every source that apt on this host has, in its files' order.
fn stanzas(root: &Path) -> Vec<Stanza> {
    let apt = root.join("etc/apt");
    let mut out = sources::one_line(&read_small(&apt.join("sources.list")).unwrap_or_default());
    let mut files: Vec<_> = fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    files.sort();
    for file in files {
        let text = || read_small(&file).unwrap_or_default();
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => out.extend(sources::one_line(&text())),
            Some("sources") => out.extend(sources::deb822(&text())),
            _ => {}
        }
    }
    for stanza in &mut out {
        for uri in &mut stanza.uris {
            if let Some(list) = uri.strip_prefix("mirror+file:") {
                *uri = first_mirror(root, list).unwrap_or_default();
            }
        }
    }
    out
}

/// `mirror+file:/etc/apt/mirrors/…` (cloud images): the first mirror in the file.
fn first_mirror(root: &Path, list: &str) -> Option<String> {
    let inside = list.trim_start_matches('/');
    let text = read_small(&root.join(inside))?;
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("http"))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Whether the release file that apt last fetched from there says that the distribution made it.
fn published_by(root: &Path, id: &str, uri: &str, suite: &str) -> bool {
    let place = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let place = place.rsplit_once('@').map_or(place, |(_, rest)| rest);
    let name = format!("{}/dists/{suite}", place.trim_end_matches('/')).replace('/', "_");
    ["InRelease", "Release"].iter().any(|file| {
        let path = root.join(format!("var/lib/apt/lists/{name}_{file}"));
        let text = read_small(&path).unwrap_or_default();
        let origin = text.lines().find_map(|line| line.strip_prefix("Origin:"));
        origin.is_some_and(|origin| origin.trim().eq_ignore_ascii_case(id))
    })
}

/// Where a host's apt says nothing usable: the distribution's own addresses.
fn defaults(id: &str, codename: &str, arch: &str) -> Vec<Source> {
    let (main, security, components): (&str, &str, &[&str]) = match (id, arch) {
        ("ubuntu", "amd64" | "i386") => (
            "http://archive.ubuntu.com/ubuntu",
            "http://security.ubuntu.com/ubuntu",
            &["main", "universe"],
        ),
        ("ubuntu", _) => (
            "http://ports.ubuntu.com/ubuntu-ports",
            "http://ports.ubuntu.com/ubuntu-ports",
            &["main", "universe"],
        ),
        _ => (
            "http://deb.debian.org/debian",
            "http://deb.debian.org/debian-security",
            &["main"],
        ),
    };
    let source = |uri: &str, suite: String| Source {
        uri: uri.to_owned(),
        suite,
        components: components.iter().map(|c| (*c).to_owned()).collect(),
        stale: false,
    };
    let mut out = vec![source(main, codename.to_owned())];
    // Unstable has neither updates nor security: fixes land in it.
    if !matches!(codename, "sid" | "unstable") {
        out.push(source(main, format!("{codename}-updates")));
        out.push(source(security, format!("{codename}-security")));
    }
    out
}

/// Rust's name of a machine to dpkg's.
fn dpkg_arch(machine: &str) -> Option<&'static str> {
    Some(match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "riscv64" => "riscv64",
        "powerpc64" => "ppc64el",
        "s390x" => "s390x",
        "loongarch64" => "loong64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    const BOOKWORM: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";

    #[test]
    fn a_debian_host() {
        let root = host(&[
            ("etc/os-release", BOOKWORM),
            (
                "etc/apt/sources.list.d/debian.sources",
                "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            ),
            (
                "etc/apt/mirrors/debian.list",
                "# mirrors\nhttps://deb.debian.org/debian\tpriority:1\n",
            ),
            (
                "etc/apt/sources.list",
                "deb http://mirror.corp/debian bookworm contrib\ndeb http://docker.example/debian bookworm stable\n",
            ),
            (
                "var/lib/apt/lists/mirror.corp_debian_dists_bookworm_InRelease",
                "Hash: SHA256\n\nOrigin: Debian\nLabel: Debian\n",
            ),
            (
                "var/lib/apt/lists/docker.example_debian_dists_bookworm_InRelease",
                "Origin: Docker\n",
            ),
            ("usr/share/keyrings/debian-archive-keyring.gpg", "keys"),
        ]);
        let release = read(root.path(), "linux", "x86_64").expect("known");
        insta::assert_snapshot!(release.lines().join("\n"), @r#"
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.corp/debian bookworm contrib
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://deb.debian.org/debian bookworm main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://deb.debian.org/debian bookworm-updates main
        "#);
        assert_eq!(
            (release.codename.as_str(), release.arch.as_str()),
            ("bookworm", "amd64")
        );
    }

    #[test]
    fn a_host_without_sources_gets_the_distributions() {
        let debian = host(&[("etc/os-release", BOOKWORM)]);
        let ubuntu = host(&[(
            "usr/lib/os-release",
            "ID='ubuntu'\nVERSION_CODENAME=\"noble\"\n",
        )]);
        let sid = host(&[("etc/os-release", "ID=debian\nVERSION_CODENAME=sid\n")]);
        let mut all = String::new();
        for (root, machine) in [
            (&debian, "aarch64"),
            (&ubuntu, "x86_64"),
            (&ubuntu, "aarch64"),
            (&sid, "x86_64"),
        ] {
            let release = read(root.path(), "linux", machine).expect("known");
            all.push_str(&release.lines().join("\n"));
            all.push('\n');
        }
        insta::assert_snapshot!(all, @r#"
        deb http://deb.debian.org/debian bookworm main
        deb http://deb.debian.org/debian bookworm-updates main
        deb http://deb.debian.org/debian-security bookworm-security main
        deb http://archive.ubuntu.com/ubuntu noble main universe
        deb http://archive.ubuntu.com/ubuntu noble-updates main universe
        deb http://security.ubuntu.com/ubuntu noble-security main universe
        deb http://ports.ubuntu.com/ubuntu-ports noble main universe
        deb http://ports.ubuntu.com/ubuntu-ports noble-updates main universe
        deb http://ports.ubuntu.com/ubuntu-ports noble-security main universe
        deb http://deb.debian.org/debian sid main
        "#);
    }

    #[test]
    fn other_hosts_are_told_what_to_do() {
        let fedora = host(&[(
            "etc/os-release",
            "ID=fedora\nPRETTY_NAME=\"Fedora Linux 42\"\n",
        )]);
        let bare = host(&[]);
        let testing = host(&[("etc/os-release", "ID=debian\n")]);
        let all: String = [
            read(fedora.path(), "linux", "x86_64"),
            read(bare.path(), "linux", "x86_64"),
            read(testing.path(), "linux", "x86_64"),
            read(bare.path(), "openbsd", "x86_64"),
        ]
        .into_iter()
        .map(|result| {
            let error = result.expect_err("not to be modelled");
            format!("{error}\n  hint: {}\n", error.hint().unwrap_or_default())
        })
        .collect();
        insta::assert_snapshot!(all, @r#"
        PROOT: this host runs Fedora Linux 42; modelling a root on the host works on Debian and Ubuntu
          hint: start from an archive: FROM archive.tar sha256:DIGEST
        PROOT: this host runs an unknown system; modelling a root on the host works on Debian and Ubuntu
          hint: start from an archive: FROM archive.tar sha256:DIGEST
        PROOT: /etc/os-release names no VERSION_CODENAME
          hint: add it, as in VERSION_CODENAME=bookworm
        PROOT: this host runs openbsd; modelling a root on the host works on Debian and Ubuntu
          hint: write SETS RELEASE base, as in SETS 7.8 base: a root of the release's own sets
        "#);
    }

    #[test]
    fn the_digest_follows_release_and_mirrors() {
        let debian = host(&[("etc/os-release", BOOKWORM)]);
        let one = read(debian.path(), "linux", "x86_64").expect("known");
        assert_eq!(one.digest(), one.clone().digest());
        let mut other = one.clone();
        other.sources[0].uri.push('2');
        assert_ne!(one.digest(), other.digest());
        let arm = read(debian.path(), "linux", "aarch64").expect("known");
        assert_ne!(one.digest(), arm.digest());
    }
}
