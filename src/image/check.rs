//! Bytes held against the digest that names them.

use super::ImageError;
use super::error::quoted;
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// `sha256:` and 64 lower-case hexadecimal digits: the only kind that is taken.
pub fn digits(digest: &str) -> Result<&str, ImageError> {
    let digits = digest.strip_prefix("sha256:").unwrap_or_default();
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match digits.len() == 64 && digits.bytes().all(lower) {
        true => Ok(digits),
        false => Err(ImageError::new(
            format!("the image names something by the digest {}", quoted(digest)),
            "digests that can be checked are sha256: and 64 hexadecimal digits",
        )),
    }
}

pub fn of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn differs(what: &str, wanted: &str, found: &str) -> ImageError {
    ImageError::new(
        format!("the digest of {what} is {found}, and the image says {wanted}"),
        "it was changed or damaged on its way: fetch it again; nothing was kept",
    )
}

pub fn bytes(what: &str, bytes: &[u8], wanted: &str) -> Result<(), ImageError> {
    digits(wanted)?;
    let found = of(bytes);
    match found == wanted {
        true => Ok(()),
        false => Err(differs(what, wanted, &found)),
    }
}

/// Gives its bytes, and an error in place of the end where they are not those that were meant.
pub struct Checked<R> {
    stream: R,
    hash: Sha256,
    what: String,
    wanted: String,
    done: bool,
}

impl<R: Read> Checked<R> {
    pub fn new(stream: R, what: &str, wanted: &str) -> Result<Checked<R>, ImageError> {
        digits(wanted)?;
        Ok(Checked {
            stream,
            hash: Sha256::new(),
            what: what.to_owned(),
            wanted: wanted.to_owned(),
            done: false,
        })
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.done {
            return Ok(0);
        }
        let n = self.stream.read(out)?;
        self.hash.update(&out[..n]);
        if n == 0 {
            self.done = true;
            let hash = std::mem::take(&mut self.hash);
            let found = format!("sha256:{}", hex::encode(hash.finalize()));
            if found != self.wanted {
                return Err(differs(&self.what, &self.wanted, &found).into());
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_end_in_an_error() {
        let read = |bytes: &[u8], wanted: &str| {
            let mut out = Vec::new();
            Checked::new(bytes, "layer 1", wanted)
                .expect("a digest")
                .read_to_end(&mut out)
        };
        assert_eq!(read(b"abc", &of(b"abc")).expect("the same"), 3);
        let error = read(b"abd", &of(b"abc")).expect_err("others");
        let said = ImageError::inside(&error).expect("ours").to_string();
        assert!(
            said.starts_with("the digest of layer 1 is sha256:"),
            "{said}"
        );
        assert!(bytes("x", b"abd", &of(b"abc")).is_err());
        for wrong in [
            "",
            "sha512:00",
            "sha256:../../etc/passwd",
            &of(b"").to_uppercase(),
        ] {
            assert!(digits(wrong).is_err(), "{wrong}");
        }
    }
}
