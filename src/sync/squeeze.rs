//! LZ4 where that saves something: of one thing by itself, so that each can be had without the others.

use std::io;

/// Things up to this size are tried.
const TRIED_MAX: usize = 4 << 20;

/// The bytes as they travel and lie: an LZ4 block where it is shorter than `bytes`, else `None`.
pub fn squeezed(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > TRIED_MAX {
        return None;
    }
    let packed = lz4_flex::block::compress(bytes);
    (packed.len() < bytes.len()).then_some(packed)
}

/// What `stored` bytes stand for: `plain` bytes, which whoever calls has bounded. As many are
/// the thing itself.
pub fn plain(stored: &[u8], plain: usize) -> io::Result<Option<Vec<u8>>> {
    if stored.len() == plain {
        return Ok(None);
    }
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let bytes = lz4_flex::block::decompress(stored, plain)
        .map_err(|e| wrong(format!("it cannot be unpacked: {e}")))?;
    match bytes.len() == plain {
        true => Ok(Some(bytes)),
        false => Err(wrong("it unpacks to another size".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_bytes_come_back(bytes in prop::collection::vec(0..4_u8, 0..5000)) {
            let stored = squeezed(&bytes).unwrap_or_else(|| bytes.clone());
            prop_assert!(stored.len() <= bytes.len());
            let back = plain(&stored, bytes.len()).expect("unpacked");
            prop_assert_eq!(back.unwrap_or(stored), bytes);
        }

        #[test]
        fn odd_bytes_are_refused_or_have_the_size(stored in prop::collection::vec(any::<u8>(), 0..300), size in 0..2000_usize) {
            if let Ok(Some(bytes)) = plain(&stored, size) {
                prop_assert_eq!(bytes.len(), size);
            }
        }
    }
}
