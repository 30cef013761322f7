//! Other hosts that use a store: what they say of themselves, what they hold, and their tokens.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::str::FromStr;

/// Headers of each call that comes over TLS, beside `authorization`.
pub const VERSION: &str = "x-pocker-version";
pub const HOST: &str = "x-pocker-host";
pub const HOST_NAME: &str = "x-pocker-host-name";
pub const LEASE: &str = "x-pocker-lease";

/// Longest name of a host (hostname(7)), and of a token.
pub const NAME_MAX: usize = 64;

/// Whether that may be a token's name. It becomes part of a path.
pub fn names_token(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let dots = name.bytes().all(|b| b == b'.');
    !dots && name.len() <= NAME_MAX && name.bytes().all(plain)
}

/// A number that nobody else drew: a host's, or a lease's. 32 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

impl Id {
    pub fn draw() -> Result<Id, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Id(bytes))
    }

    /// Enough of it to tell a few apart.
    pub fn short(self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Id {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Id, hex::FromHexError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Id(bytes))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What a process of another host has, for as long as it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub host: Id,
    pub id: Id,
}

/// Whether NFS between hosts goes over TLS, as each side of it wants it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum RpcTls {
    /// Never
    Off,
    /// Where the other side can, too
    #[default]
    Offer,
    /// Always
    Require,
    /// Always, and a host shows a certificate too
    Mutual,
}

/// What a token is good for; each role may do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at pockers and run them, with volumes
    Run,
    /// Build, import, remove and pin pockers; make and remove volumes
    Build,
    /// Collect, check, stop the server; list and revoke tokens
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Run => "run",
            Role::Build => "build",
            Role::Admin => "admin",
        }
    }
}

/// `POST /v1/hosts/beat`: the lease of who calls is renewed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Beat {
    /// Seconds for which it holds from here on.
    pub term: u64,
}

/// `GET /v1/hosts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostInfo {
    /// The beginning of its number: who knows all of it is that host.
    pub id: String,
    pub name: String,
    pub address: String,
    /// The token that it showed last.
    pub token: String,
    /// Seconds since the epoch: when it first called, and last.
    pub since: i64,
    pub seen: i64,
    pub leases: Vec<LeaseInfo>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseInfo {
    pub id: String,
    /// As a person would say it: "run 7 of web", "build of web step 2".
    pub holds: Vec<String>,
    /// Seconds that are left of it; 0 where it is over and what it held is about to go.
    pub left: u64,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewToken {
    pub role: Role,
    /// Seconds that it is good for.
    pub lasts: u64,
    pub name: Option<String>,
}

/// `GET /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenInfo {
    pub name: String,
    pub role: Role,
    pub created: i64,
    pub expires: i64,
    pub revoked: bool,
    /// When it was last shown, and from where.
    pub used: Option<i64>,
    pub peer: Option<String>,
}

/// What is shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenMade {
    pub info: TokenInfo,
    pub token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_name_is_one_part_of_a_path() {
        let long = "x".repeat(NAME_MAX);
        for name in ["ci", "a.b_c-D9", "..a", long.as_str()] {
            assert!(names_token(name), "{name}");
        }
        let longer = format!("{long}x");
        for odd in [
            "a/b",
            "..",
            ".",
            "a?x",
            "a#x",
            "a b",
            "a%2f",
            "ä",
            longer.as_str(),
        ] {
            assert!(!names_token(odd), "{odd}");
        }
        assert!(!names_token(""));
    }
}
