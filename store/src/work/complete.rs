//! A staged file completed and hashed, for a seal.

use super::area::{Area, failed};
use super::staged::{Staged, parts};
use crate::blob::write_sparse;
use crate::failpoint;
use crate::types::{Digest, Errno};
use sha2::{Digest as _, Sha256};

/// Read and hashed at once.
const SEAL_BUFFER: usize = 1 << 20;

impl Staged {
    /// Completes the file from its base and hashes it, for a seal: nothing writes meanwhile.
    pub fn complete(&self, area: &Area) -> Result<(Digest, u64), Errno> {
        let (size, parts) = {
            let st = self.state();
            (st.size, parts(&st, 0, st.size))
        };
        let file = area.file(self.key)?;
        let mut hash = Sha256::new();
        let mut buffer = Vec::with_capacity(SEAL_BUFFER);
        for part in parts {
            let mut at = part.from;
            // Where the data that is looked at ends, and a hole may begin.
            let mut data_to = at;
            while at < part.to {
                if part.base {
                    data_to = part.to;
                } else if at == data_to {
                    // Holes are hashed unread: reading would fill the page cache with them.
                    let data = crate::sys::next_data(&file, at).min(part.to);
                    hash_zeros(&mut hash, data - at);
                    at = data;
                    data_to = crate::sys::next_hole(&file, at).min(part.to);
                    continue;
                }
                let count = (data_to - at).min(SEAL_BUFFER as u64);
                buffer.clear();
                match (part.base, self.base) {
                    (true, Some(b)) => {
                        area.read_blob(&b.digest, b.size, at, count as u32, &mut buffer)?;
                        // The file has a hole there, so the base's holes stay holes.
                        failpoint::hit("seal.complete.before")
                            .and_then(|()| write_sparse(&file, &buffer, at))
                            .map_err(|e| {
                                failed("complete staged file", &area.path(self.key), &e)
                            })?;
                        failpoint::pass("seal.complete.after");
                    }
                    _ => self.read_file(area, &file, at, count as usize, &mut buffer)?,
                }
                if buffer.len() as u64 != count {
                    tracing::error!(path = %area.path(self.key).display(), at, "short read while sealing");
                    return Err(Errno::Io);
                }
                hash.update(&buffer);
                at += count;
            }
        }
        Ok((Digest(hash.finalize().into()), size))
    }
}

pub(super) fn hash_zeros(hash: &mut Sha256, mut len: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while len > 0 {
        let part = len.min(ZEROS.len() as u64);
        hash.update(&ZEROS[..part as usize]);
        len -= part;
    }
}
