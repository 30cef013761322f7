//! The content of files: a large one, which is a file of the store, and a small one, a row.

use super::{blob, digest, seen, sql};
use crate::bench::{large, small};
use std::path::Path;

/// Writes over the row of a small blob, unpacked.
fn put_small(dir: &Path, bytes: &[u8]) {
    let (digest, hex) = (digest(&small(1)), hex::encode(bytes));
    let text =
        format!("UPDATE small_blob SET bytes = x'{hex}', plain = NULL WHERE digest = x'{digest}'");
    sql(dir, "index.db", &text, 1);
}

#[test]
fn a_large_blob_with_one_bit_flipped() {
    insta::assert_snapshot!(seen(|dir| {
        let path = blob(dir, &large(1));
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[20_000] ^= 1;
        std::fs::write(path, bytes).expect("write");
    }));
}

#[test]
fn a_large_blob_cut_off() {
    insta::assert_snapshot!(seen(|dir| {
        let path = blob(dir, &large(1));
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("open");
        file.set_len(20_000).expect("truncate");
    }));
}

#[test]
fn a_large_blob_gone() {
    insta::assert_snapshot!(seen(|dir| {
        std::fs::remove_file(blob(dir, &large(1))).expect("removed");
    }));
}

#[test]
fn a_large_blob_with_the_content_of_another() {
    insta::assert_snapshot!(seen(|dir| {
        std::fs::copy(blob(dir, &large(2)), blob(dir, &large(1))).expect("copied");
    }));
}

#[test]
fn a_small_blob_with_one_bit_flipped() {
    insta::assert_snapshot!(seen(|dir| {
        let mut bytes = small(1);
        bytes[50] ^= 1;
        put_small(dir, &bytes);
    }));
}

#[test]
fn a_small_blob_cut_off() {
    insta::assert_snapshot!(seen(|dir| put_small(dir, &small(1)[..40])));
}

#[test]
fn a_small_blob_with_the_content_of_another() {
    insta::assert_snapshot!(seen(|dir| put_small(dir, &small(2))));
}

#[test]
fn a_small_blob_gone() {
    insta::assert_snapshot!(seen(|dir| {
        let text = format!(
            "DELETE FROM small_blob WHERE digest = x'{}'",
            digest(&small(1))
        );
        sql(dir, "index.db", &text, 1);
    }));
}
