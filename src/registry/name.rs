//! An image's name: registry, repository, and a tag or digest.

use super::RegistryError;
use oci_client::Reference;

/// The whole name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    reference: Reference,
    host: String,
}

/// Whether a base can only be meant as an image: what stands before its first `/` names a host, and
/// it does not end as an archive does.
pub fn is_image(text: &str) -> bool {
    const ENDINGS: [&str; 7] = [".tar", ".tgz", ".gz", ".xz", ".txz", ".zst", ".bz2"];
    let Some((host, rest)) = text.split_once('/') else {
        return false;
    };
    let named = host == "localhost" || host.contains(':') || host.contains('.');
    let path = host.starts_with('.') || host.is_empty() || rest.starts_with('/');
    named && !path && !rest.is_empty() && !ENDINGS.iter().any(|end| rest.ends_with(end))
}

impl Name {
    pub fn parse(text: &str) -> Result<Name, RegistryError> {
        let bad = |why: &str| {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
            RegistryError::new(
                format!("`{shown}` names no image: {why}"),
                "an image is REGISTRY/NAME, REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, as docker.io/library/debian:12",
            )
        };
        let (host, _) = text
            .split_once('/')
            .ok_or_else(|| bad("it has no registry"))?;
        if !is_image(text) {
            return Err(bad("it has no registry"));
        }
        let reference: Reference = text
            .parse()
            .map_err(|e: oci_client::ParseError| bad(&e.to_string()))?;
        Ok(Name {
            reference,
            host: host.to_owned(),
        })
    }

    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// As it was written: a registry may answer by another name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What it is called without its registry.
    pub fn repository(&self) -> &str {
        self.reference.repository()
    }

    pub fn digest(&self) -> Option<&str> {
        self.reference.digest()
    }

    /// Another tag or digest of it.
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.host, self.repository())
    }

    /// It is on this host, so that nobody is in between.
    pub fn is_loopback(&self) -> bool {
        let host = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.repository())?;
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, tag) => write!(f, ":{}", tag.unwrap_or("latest")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_from_pockers_and_archives() {
        for image in [
            "docker.io/library/debian:12",
            "localhost/x",
            "127.0.0.1:5000/a/b:v1",
            "[::1]:5000/a",
            "host:5000/a",
        ] {
            assert!(is_image(image), "{image}");
        }
        for other in [
            "web",
            "web:1",
            "./a.tar",
            "../x/y",
            "/a/b",
            "dir/root.tar",
            "dir.d/root.tar.zst",
            "https://x.org/a",
            "x.org/",
        ] {
            assert!(!is_image(other), "{other}");
        }
    }

    #[test]
    fn names_are_whole_or_refused_with_their_form() {
        let name = |text: &str| Name::parse(text).expect("an image");
        assert_eq!(
            name("127.0.0.1:5000/a").to_string(),
            "127.0.0.1:5000/a:latest"
        );
        assert_eq!(name("docker.io/library/debian:12").host(), "docker.io");
        for (text, here) in [
            ("localhost:1/a", true),
            ("127.3.2.1/a", true),
            ("[::1]:5/a", true),
            ("10.0.0.1:5/a", false),
            ("localhost.org/a", false),
        ] {
            assert_eq!(name_or(text), Some(here), "{text}");
        }
        for bad in [
            "debian",
            "debian:12",
            "x.org/UPPER",
            "x.org/a:b:c",
            "x.org/a@sha256:12",
        ] {
            let error = Name::parse(bad).expect_err(bad);
            assert!(error.hint.contains("REGISTRY/NAME"), "{bad}");
        }
    }

    /// An address in brackets is not a host that the library knows.
    fn name_or(text: &str) -> Option<bool> {
        match Name::parse(text) {
            Ok(name) => Some(name.is_loopback()),
            Err(_) if text.starts_with('[') => Some(true),
            Err(_) => None,
        }
    }
}
