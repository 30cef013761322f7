//! Which steps lack something once the repairs are made, so that the next build makes them anew.

use super::fault::{BlobFault, Fault, ObjectFault};
use super::report::{Finding, Outcome};
use crate::error::StoreError;
use crate::store::Store;
use crate::types::Digest;
use std::collections::HashMap;

/// What is noted of one step: one that lacks more is made anew whatever comes back.
const NOTED: usize = 256;

/// Blob or object that is not there any more, or never was.
fn gone(finding: &Finding) -> Option<Digest> {
    let (digest, missing, kept) = match &finding.fault {
        Fault::Blob { digest, why } => {
            let kept = matches!(why, BlobFault::NoRow | BlobFault::RowSize { .. });
            (*digest, matches!(why, BlobFault::Missing), kept)
        }
        Fault::Object { digest, why } => (*digest, matches!(why, ObjectFault::Missing), false),
        _ => return None,
    };
    let set_aside = !kept && finding.outcome == Outcome::Repaired;
    (missing || set_aside).then_some(digest)
}

pub(super) fn note(store: &Store, findings: &[Finding]) -> Result<(), StoreError> {
    let mut lost: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for finding in findings {
        let Some(digest) = gone(finding) else {
            continue;
        };
        for step in &finding.places.steps {
            lost.entry(*step).or_default().push(digest);
        }
        let more = finding.places.more_steps;
        if more > 0 {
            tracing::warn!("{more} steps more lack {digest}; build them with --no-cache");
        }
    }
    for (key, digests) in &mut lost {
        // What an earlier check noted may still be missing.
        digests.extend(store.index.lost(key)?.unwrap_or_default());
        digests.sort();
        digests.dedup();
        if digests.len() > NOTED {
            digests.clear();
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    store.index.put_lost(&lost)
}
