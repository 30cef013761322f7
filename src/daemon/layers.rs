//! What is noted of layers that were made of trees. The command makes layers and speaks to registries; the
//! server keeps what it says of them, as long as it keeps the trees.

use super::fail::{Fail, Outcome};
use super::state::{Daemon, digest};
use crate::control::images::{Noted, REPOSITORIES_MAX};
use pocker_store::LayerId;
use serde::Deserialize;

/// Longest name of a form.
const FORM_MAX: usize = 32;
/// Longest HOST/NAME: a registry's host and port, and a repository's 255 bytes.
const REPOSITORY_MAX: usize = 520;

/// What of a tree is meant, beside its digest.
#[derive(Deserialize)]
pub struct Of {
    below: Option<String>,
    form: String,
}

fn id(tree: &str, of: &Of) -> Outcome<LayerId> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.';
    if of.form.is_empty() || of.form.len() > FORM_MAX || !of.form.bytes().all(plain) {
        return Err(Fail::bad(
            "a layer's form is up to 32 letters, digits and `.`",
        ));
    }
    Ok(LayerId {
        tree: digest(tree)?,
        below: of.below.as_deref().map(digest).transpose()?,
        form: of.form.clone().into_bytes(),
    })
}

fn good(noted: &Noted) -> bool {
    let named = |text: &String| {
        text.strip_prefix("sha256:")
            .is_some_and(|d| digest(d).is_ok())
    };
    let short = |name: &String| name.len() <= REPOSITORY_MAX;
    named(&noted.digest)
        && named(&noted.diff_id)
        && noted.repositories.len() <= REPOSITORIES_MAX
        && noted.repositories.iter().all(short)
}

impl Daemon {
    pub fn noted_layer(&self, tree: &str, of: &Of) -> Outcome<Option<Noted>> {
        let said = self.store.layer(&id(tree, of)?);
        let said = said.map_err(|e| Fail::internal("cannot read what is noted of a layer", &e))?;
        let noted = said.and_then(|said| serde_json::from_slice(&said).ok());
        // One that makes no sense is made again.
        Ok(noted.filter(good))
    }

    pub fn note_layer(&self, tree: &str, of: &Of, noted: &Noted) -> Outcome<()> {
        if !good(noted) {
            return Err(Fail::bad(
                "what is said of a layer is no digest, or too long",
            ));
        }
        // These types have nothing that JSON cannot say.
        let said = serde_json::to_vec(noted).unwrap_or_default();
        match self.store.note_layer(&id(tree, of)?, &said) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fail::not_found("there is no such tree")),
            Err(e) => Err(Fail::internal("cannot note a layer", &e)),
        }
    }
}
