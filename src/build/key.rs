//! Step keys: SHA-256 over the parent's key, the instruction in canonical form, and every input.
//!
//! Fields are framed (tag, length, bytes), so that no two lists of fields have the same encoding.
//! Secrets, caches, proxy variables and `--ca` are not fields.

use super::plan::{Action, Planned};
use sha2::{Digest, Sha256};

/// Moves when the meaning of an instruction changes, so that old steps are no longer found.
const VERSION: &str = "pocker step 1";

/// A hash over framed fields.
pub struct Fields(Sha256);

impl Fields {
    pub fn new(version: &str) -> Fields {
        Fields(Sha256::new()).field("version", version.as_bytes())
    }

    pub fn field(mut self, tag: &str, bytes: &[u8]) -> Fields {
        self.add(tag, bytes);
        self
    }

    pub fn add(&mut self, tag: &str, bytes: &[u8]) {
        for part in [tag.as_bytes(), bytes] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
    }

    pub fn hex(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// The key of a planned step. `input` identifies what comes from outside the Pockerfile: the release that
/// PROOT models, a base's snapshot, the digest of COPY's files. `epoch` changes every file's time, from the base on.
pub fn step_key(
    parent: Option<&str>,
    step: &Planned,
    input: Option<&str>,
    epoch: Option<i64>,
) -> String {
    let mut fields = Fields::new(VERSION)
        .field("parent", parent.unwrap_or_default().as_bytes())
        .field("instruction", step.canonical.as_bytes());
    if let Some(input) = input {
        fields.add("input", input.as_bytes());
    }
    let state = &step.state;
    let (env, args, place, volumes) = match step.action {
        Action::Base(_) => {
            if let Some(epoch) = epoch {
                fields.add("epoch", epoch.to_string().as_bytes());
            }
            (false, false, false, false)
        }
        // Packages are installed as root in /, but their scripts see ENV.
        Action::Pkg(_) => (true, false, false, false),
        Action::Exec(_) => (true, true, true, false),
        // Owner, mode and absolute target are in the canonical form.
        Action::Copy(_) => (false, false, false, false),
        Action::Run(_) => (true, false, true, true),
    };
    let mut pairs = |tag: &str, list: &[(String, String)]| {
        for (name, value) in list {
            fields.add(tag, name.as_bytes());
            fields.add("value", value.as_bytes());
        }
    };
    if env {
        pairs("env", &state.env);
    }
    if args {
        pairs("arg", &state.args);
    }
    if place {
        fields.add("user", state.user.as_deref().unwrap_or_default().as_bytes());
        let workdir = state.workdir.as_deref().unwrap_or("/");
        fields.add("workdir", workdir.as_bytes());
    }
    if volumes {
        for volume in &state.volumes {
            fields.add("volume", volume.as_bytes());
        }
    }
    fields.hex()
}
