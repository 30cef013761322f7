//! Small blobs as their rows hold them: LZ4 where that saves enough.

use crate::blob::SMALL;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use std::borrow::Cow;

/// Packed only where at least one byte in this many is saved: unpacking costs time on each read.
const SAVES: usize = 8;

/// A small blob's row.
pub(crate) struct Packed {
    pub bytes: Vec<u8>,
    /// The blob's size where `bytes` is an LZ4 block.
    pub plain: Option<u32>,
}

impl Packed {
    pub fn new(bytes: Vec<u8>) -> Packed {
        let packed = lz4_flex::block::compress(&bytes);
        match u32::try_from(bytes.len()) {
            Ok(plain) if packed.len() <= bytes.len() - bytes.len() / SAVES && plain > 0 => Packed {
                bytes: packed,
                plain: Some(plain),
            },
            _ => Packed { bytes, plain: None },
        }
    }
}

/// The blob in columns `at` (bytes) and `at + 1` (plain). What does not unpack is given as it
/// is: its digest will tell, and so will its size.
pub(super) fn unpacked<'r>(row: &'r Row<'_>, at: usize) -> rusqlite::Result<Cow<'r, [u8]>> {
    let bytes = match row.get_ref(at)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes,
        _ => &[],
    };
    let plain = match row.get_ref(at + 1)? {
        ValueRef::Integer(plain) if (1..=SMALL as i64).contains(&plain) => plain as usize,
        _ => return Ok(Cow::Borrowed(bytes)),
    };
    Ok(match lz4_flex::block::decompress(bytes, plain) {
        Ok(blob) if blob.len() == plain => Cow::Owned(blob),
        _ => Cow::Borrowed(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(blob: &[u8]) -> (Vec<u8>, usize) {
        let packed = Packed::new(blob.to_vec());
        let db = rusqlite::Connection::open_in_memory().expect("a database");
        let got = db.query_row("SELECT ?1, ?2", (&packed.bytes, packed.plain), |row| {
            Ok(unpacked(row, 0)?.into_owned())
        });
        (got.expect("a row"), packed.bytes.len())
    }

    proptest! {
        #[test]
        fn every_blob_comes_back(blob in prop::collection::vec(any::<u8>(), 0..SMALL as usize), runs in 1usize..64) {
            let (got, _) = there_and_back(&blob);
            prop_assert_eq!(got, blob.clone());
            let repetitive: Vec<u8> = blob.chunks(runs).flat_map(|c| c.first().map_or(vec![], |b| vec![*b; c.len()])).collect();
            prop_assert_eq!(there_and_back(&repetitive).0, repetitive);
        }
    }

    #[test]
    fn text_is_packed_and_noise_is_not() {
        let text = b"the same line again\n".repeat(400);
        assert!(there_and_back(&text).1 < text.len() / 10);
        let noise: Vec<u8> = (0..500u64)
            .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
            .collect();
        assert_eq!(Packed::new(noise).plain, None);
    }

    #[test]
    fn what_does_not_unpack_is_given_as_it_is() {
        let db = rusqlite::Connection::open_in_memory().expect("a database");
        for plain in [1i64, 100, 16_384, 16_385, -1, i64::MAX] {
            let got = db.query_row("SELECT ?1, ?2", (&[0xff_u8, 0, 0], plain), |row| {
                Ok(unpacked(row, 0)?.into_owned())
            });
            assert_eq!(got.expect("a row"), [0xff, 0, 0]);
        }
    }
}
