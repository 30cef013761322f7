//! What the scan found wrong, as findings.

use super::fault::{BlobFault, Fault, ObjectFault, Repair};
use super::report::Findings;
use super::scan::Scanned;
use crate::error::StoreError;
use crate::store::Store;
use nix::errno::Errno as Os;

impl Scanned {
    pub fn bad_objects(&self, findings: &mut Findings) {
        let mut bad: Vec<_> = self.bad_objects.iter().collect();
        bad.sort_by_key(|(digest, _)| **digest);
        for (digest, why) in bad {
            let repair = match why {
                ObjectFault::Rotted { .. } => Repair::Quarantine,
                // The same content would have the same bytes again.
                ObjectFault::Malformed(_) | ObjectFault::Missing => Repair::None,
            };
            let (digest, why) = (*digest, why.clone());
            findings.add(Fault::Object { digest, why }, repair);
        }
    }

    /// Once it is known which are used.
    pub fn bad_blobs(&mut self, store: &Store, findings: &mut Findings) -> Result<(), StoreError> {
        self.bad_blobs.sort_by_key(|(digest, _)| *digest);
        for (digest, why) in &self.bad_blobs {
            let known = self.blobs.get(digest);
            if known.is_some_and(|known| !known.listed) {
                // A file alone: an orphan where no tree needs it, and perhaps a batch's.
                let used = known.is_some_and(|known| known.used);
                let pinned = store.pins.lock().pinned(digest);
                if !used || pinned || store.index.large(digest)?.is_some() {
                    continue;
                }
            }
            let repair = match why {
                BlobFault::Rotted { .. } | BlobFault::Truncated { .. } => Repair::Quarantine,
                // A disk that cannot read it, not a mode that somebody changed.
                BlobFault::Unreadable { errno } if *errno == Os::EIO as i32 => Repair::Quarantine,
                BlobFault::NoFile { .. } => Repair::DropRow,
                BlobFault::RowSize { .. } => Repair::MendRow,
                _ => Repair::None,
            };
            let (digest, why) = (*digest, why.clone());
            findings.add(Fault::Blob { digest, why }, repair);
        }
        Ok(())
    }
}
