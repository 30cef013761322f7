//! Whether a large file that is changed holds other bytes than the blob that had its place.

use crate::types::{Digest, Errno};
use crate::work::area::Area;
use crate::work::staged::{Staged, parts};
use std::sync::Arc;

/// Compared at once.
const BUFFER: u64 = 1 << 20;

/// A staged file, and a blob of the same size.
pub(super) struct Doubt {
    pub staged: Arc<Staged>,
    pub old: Digest,
    pub size: u64,
}

impl Doubt {
    /// What cannot be read differs: a file that has just been removed or cut.
    pub fn differs(&self, area: &Area) -> bool {
        self.compare(area).unwrap_or(true)
    }

    fn compare(&self, area: &Area) -> Result<bool, Errno> {
        let (size, parts) = {
            let st = self.staged.state();
            (st.size, parts(&st, 0, st.size))
        };
        if size != self.size {
            return Ok(true);
        }
        let same_base = self.staged.base.is_some_and(|base| base.digest == self.old);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // What is still the base's need not be read.
        for part in parts.iter().filter(|part| !(part.base && same_base)) {
            let mut at = part.from;
            while at < part.to {
                let count = (part.to - at).min(BUFFER) as u32;
                ours.clear();
                theirs.clear();
                self.staged.read(area, at, count, &mut ours)?;
                area.read_blob(&self.old, self.size, at, count, &mut theirs)?;
                if ours != theirs {
                    return Ok(true);
                }
                at += u64::from(count);
            }
        }
        Ok(false)
    }
}
