//! Paths of an archive.

use super::error::{IngestError, IngestLimits, bad, limit};
use crate::object::limits::NAME;

/// The components of a relative path; none for the root. "." and empty ones are left out, as
/// archives write "./a/".
pub(super) fn split<'a>(
    path: &'a [u8],
    limits: &IngestLimits,
) -> Result<Vec<&'a [u8]>, IngestError> {
    if path.first() == Some(&b'/') {
        return Err(bad(path, "absolute path"));
    }
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(bad(path, "path with a \"..\"")),
            _ if part.contains(&0) => return Err(bad(path, "path with a NUL")),
            _ if part.len() > NAME => return Err(limit(path, "bytes in a name", NAME as u64)),
            _ => parts.push(part),
        }
        if parts.len() > limits.depth {
            return Err(limit(path, "components", limits.depth as u64));
        }
    }
    Ok(parts)
}
