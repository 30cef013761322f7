//! signify(1): Ed25519 over a text that stands below its signature.
//!
//! A key is a comment and the base64 of `Ed`, 8 bytes that number the key, and 32 of the key; a signed text
//! begins with a comment and the base64 of `Ed`, the number, and 64 of the signature.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

const ALGORITHM: &[u8] = b"Ed";
const NUMBER: usize = 8;
const COMMENT: &[u8] = b"untrusted comment: ";

/// Why a text is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The key is none.
    Key,
    /// The text has no signature above it.
    Form,
    OtherKey,
    Signature,
}

/// A comment's line, a line of base64, and what follows.
fn head(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let rest = bytes.strip_prefix(COMMENT)?;
    let rest = &rest[rest.iter().position(|b| *b == b'\n')? + 1..];
    let end = rest.iter().position(|b| *b == b'\n')?;
    let decoded = STANDARD.decode(rest[..end].trim_ascii_end()).ok()?;
    Some((decoded, &rest[end + 1..]))
}

/// The key's or the signature's number, and its bytes.
fn numbered(bytes: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(ALGORITHM)?;
    (rest.len() == NUMBER + len).then(|| rest.split_at(NUMBER))
}

/// The text of a signed file, if that key signed it.
pub fn verify(signed: &[u8], key: &[u8]) -> Result<Vec<u8>, Refused> {
    let (key, after) = head(key).ok_or(Refused::Key)?;
    let (number, key) = numbered(&key, 32).ok_or(Refused::Key)?;
    if !after.trim_ascii().is_empty() {
        return Err(Refused::Key);
    }
    let (signature, text) = head(signed).ok_or(Refused::Form)?;
    let (by, signature) = numbered(&signature, 64).ok_or(Refused::Form)?;
    if by != number {
        return Err(Refused::OtherKey);
    }
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key)
        .verify(text, signature)
        .map_err(|_| Refused::Signature)?;
    Ok(text.to_vec())
}

/// The lines `SHA256 (NAME) = DIGEST`, as cksum(1) writes them.
pub fn digests(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| {
        let (name, digest) = line.strip_prefix("SHA256 (")?.split_once(") = ")?;
        let whole = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        whole.then(|| (name.to_owned(), digest.to_ascii_lowercase()))
    });
    lines.collect()
}
