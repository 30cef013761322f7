//! The host's package sources (sources.list(5)): only the distribution's own are taken.

/// One `deb` source of the distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub uri: String,
    pub suite: String,
    pub components: Vec<String>,
    /// `Check-Valid-Until: no`, as snapshots of the archive need.
    pub stale: bool,
}

impl Source {
    /// The one-line form that goes into the new root. `keyring` is the distribution's.
    pub fn line(&self, keyring: Option<&str>) -> String {
        let mut options = Vec::new();
        if let Some(keyring) = keyring {
            options.push(format!("signed-by={keyring}"));
        }
        if self.stale {
            options.push("check-valid-until=no".to_owned());
        }
        let options = match options.is_empty() {
            true => String::new(),
            false => format!("[{}] ", options.join(" ")),
        };
        let components = self.components.join(" ");
        format!("deb {options}{} {} {components}", self.uri, self.suite)
    }
}

/// A source as the host's files have it, before it is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stanza {
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    pub signed_by: Option<String>,
    pub stale: bool,
}

/// What tells the distribution's own sources from others.
pub struct Distribution<'a> {
    /// Such as `bookworm`.
    pub codename: &'a str,
    /// File names of its keyrings start so.
    pub keyring: &'a str,
    /// Hosts under these names are its mirrors.
    pub domains: &'a [&'a str],
}

/// The one-line format: `deb [options] uri suite component…`.
pub fn one_line(text: &str) -> Vec<Stanza> {
    text.lines().filter_map(one).collect()
}

fn one(line: &str) -> Option<Stanza> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb")
        .filter(|rest| rest.starts_with([' ', '\t']))?;
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let mut stanza = Stanza {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        ..Stanza::default()
    };
    for (key, value) in options.split_whitespace().filter_map(|o| o.split_once('=')) {
        stanza.option(key, value);
    }
    Some(stanza)
}

/// The deb822 format of `*.sources`.
pub fn deb822(text: &str) -> Vec<Stanza> {
    let mut out = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            out.extend(paragraph(&std::mem::take(&mut fields)));
        } else if line.starts_with('#') {
            continue;
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    out
}

fn paragraph(fields: &[(String, String)]) -> Option<Stanza> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, v)| v.as_str())
    };
    let words = |name: &str| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let off = |value: &str| {
        matches!(
            value.to_ascii_lowercase().as_str(),
            "no" | "false" | "0" | "off"
        )
    };
    if field("enabled").is_some_and(off) || !words("types").iter().any(|t| t == "deb") {
        return None;
    }
    let mut stanza = Stanza {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        ..Stanza::default()
    };
    for key in ["signed-by", "check-valid-until"] {
        if let Some(value) = field(key) {
            stanza.option(key, value);
        }
    }
    Some(stanza)
}

impl Stanza {
    fn option(&mut self, key: &str, value: &str) {
        match key {
            "signed-by" => self.signed_by = Some(value.to_owned()),
            "check-valid-until" => self.stale = value == "no",
            _ => {}
        }
    }

    /// Whether it is the distribution's: signed by its keyring, or of no named key and either on its own
    /// hosts or, as apt has seen (`origin` of a URI and suite), published by it.
    fn is_own(
        &self,
        uri: &str,
        suite: &str,
        d: &Distribution<'_>,
        origin: &dyn Fn(&str, &str) -> bool,
    ) -> bool {
        match self.signed_by.as_deref() {
            Some(key) => key
                .rsplit('/')
                .next()
                .is_some_and(|file| file.starts_with(d.keyring)),
            None => {
                let host = host(uri);
                let under = |domain: &str| {
                    let below = host.strip_suffix(domain);
                    below.is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
                };
                d.domains.iter().any(|domain| under(domain)) || origin(uri, suite)
            }
        }
    }
}

/// A password in a URI must not get into a sealed tree, so such a source is not taken.
fn is_plain_http(uri: &str) -> bool {
    let rest = uri
        .strip_prefix("http://")
        .or_else(|| uri.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.split('/').next().unwrap_or_default().contains('@'))
}

fn host(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.split(':').next().unwrap_or_default()
}

/// The distribution's sources for its release, updates and security suites, each once, in the order found.
pub fn own(
    stanzas: &[Stanza],
    d: &Distribution<'_>,
    origin: &dyn Fn(&str, &str) -> bool,
) -> Vec<Source> {
    let ours = |suite: &str| {
        let rest = suite.strip_prefix(d.codename);
        matches!(rest, Some("" | "-updates" | "-security" | "/updates"))
    };
    let mut out: Vec<Source> = Vec::new();
    for stanza in stanzas {
        for uri in &stanza.uris {
            for suite in stanza.suites.iter().filter(|suite| ours(suite)) {
                if !is_plain_http(uri) || !stanza.is_own(uri, suite, d, origin) {
                    continue;
                }
                let source = Source {
                    uri: uri.trim_end_matches('/').to_owned(),
                    suite: suite.clone(),
                    components: stanza.components.clone(),
                    stale: stanza.stale,
                };
                if !out.contains(&source) {
                    out.push(source);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: Distribution<'_> = Distribution {
        codename: "bookworm",
        keyring: "debian-archive-",
        domains: &["debian.org"],
    };

    #[test]
    fn both_formats_and_third_parties() {
        let mut stanzas = deb822(
            "Types: deb deb-src\n# a comment\nURIs: http://deb.debian.org/debian\nSuites: bookworm bookworm-updates\n \
             bookworm-backports\nComponents: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
             Types: deb\nURIs: https://deb.nodesource.com/node_20.x\nSuites: nodistro\nComponents: main\n\n\
             Enabled: no\nTypes: deb\nURIs: http://off.debian.org/debian\nSuites: bookworm\nComponents: main\n\n\
             Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\n",
        );
        stanzas.extend(one_line(
            "deb http://security.debian.org/debian-security bookworm-security main # kept\n\
             # deb http://commented.debian.org/debian bookworm main\n\
             deb-src http://deb.debian.org/debian bookworm main\n\
             deb [arch=amd64 signed-by=/usr/share/keyrings/other.gpg] https://pkgs.example.com/debian bookworm main\n\
             deb https://pkgs.example.org/debian bookworm main\n\
             deb [check-valid-until=no] http://mirror.corp/debian bookworm main\n\
             deb http://notdebian.org/debian bookworm main\n\
             deb cdrom:[Debian]/ bookworm main\n\
             deb http://u:p@ftp.debian.org/debian bookworm main\n\
             deb http://ftp.debian.org:80/debian/ bookworm main\n",
        ));
        let seen =
            |uri: &str, suite: &str| uri == "http://mirror.corp/debian" && suite == "bookworm";
        let lines: Vec<String> = own(&stanzas, &DEBIAN, &seen)
            .iter()
            .map(|source| source.line(None))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        deb http://deb.debian.org/debian bookworm main contrib
        deb http://deb.debian.org/debian bookworm-updates main contrib
        deb http://security.debian.org/debian-security bookworm-security main
        deb [check-valid-until=no] http://mirror.corp/debian bookworm main
        deb http://ftp.debian.org:80/debian bookworm main
        "#);
    }
}
