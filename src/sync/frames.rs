//! What is asked for and what is given, as bytes: on the control socket.
//!
//! A want is 41 bytes: the digest, 1 for a blob or 0, the blob's size u64. A frame is a want whose
//! size is that of the bytes which follow it. Little-endian.

use pocker_store::sync::Want;
use pocker_store::types::Digest;
use std::io::{self, Read, Write};

pub const WANT: usize = 41;
/// Asked for in one call.
pub const WANTS_MAX: usize = 4096;

pub fn head(want: &Want, size: u64) -> [u8; WANT] {
    let mut out = [0; WANT];
    out[..32].copy_from_slice(&want.digest.0);
    out[32] = want.blob.is_some().into();
    out[33..].copy_from_slice(&size.to_le_bytes());
    out
}

fn parse(bytes: &[u8; WANT]) -> io::Result<(Want, u64)> {
    let bad = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let (mut digest, mut size) = ([0; 32], [0; 8]);
    digest.copy_from_slice(&bytes[..32]);
    size.copy_from_slice(&bytes[33..]);
    let size = u64::from_le_bytes(size);
    let want = match bytes[32] {
        0 => Want::object(Digest(digest)),
        1 => Want::blob(Digest(digest), size),
        _ => return bad("what is asked for is neither an object nor a blob"),
    };
    Ok((want, size))
}

pub fn wants_to_bytes(wants: &[Want]) -> Vec<u8> {
    let head = |want: &Want| head(want, want.blob.unwrap_or(0));
    wants.iter().flat_map(head).collect()
}

pub fn wants_of_bytes(bytes: &[u8]) -> io::Result<Vec<Want>> {
    let (heads, rest) = bytes.as_chunks();
    if !rest.is_empty() || heads.len() > WANTS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "that is no list of digests",
        ));
    }
    heads.iter().map(|head| Ok(parse(head)?.0)).collect()
}

pub fn write(out: &mut dyn Write, want: &Want, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
    out.write_all(&head(want, size))?;
    match io::copy(&mut bytes.take(size), out)? == size {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Calls `each` with every frame until the input ends, which it may between frames only; `cut` is
/// what becomes of the input's own errors.
pub fn read<E>(
    input: &mut dyn Read,
    cut: impl Fn(io::Error) -> E,
    mut each: impl FnMut(&Want, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let mut head = [0; WANT];
        let mut got = 0;
        while got < WANT {
            match input.read(&mut head[got..]) {
                Ok(0) if got == 0 => return Ok(()),
                Ok(0) => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(cut(e)),
            }
        }
        let (want, size) = parse(&head).map_err(&cut)?;
        let mut bytes = Whole { input, left: size };
        each(&want, &mut bytes)?;
        if bytes.left > 0 {
            return Err(cut(io::Error::other("it was not read to its end")));
        }
    }
}

/// So many bytes: an end before them is an error.
struct Whole<'a> {
    input: &'a mut dyn Read,
    left: u64,
}

impl Read for Whole<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        if most == 0 {
            return Ok(0);
        }
        let got = self.input.read(&mut out[..most])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_no_cut_is_taken_for_an_end() {
        let things = [
            (Want::object(Digest([1; 32])), &b"an object"[..]),
            (Want::blob(Digest([2; 32]), 0), b""),
            (Want::blob(Digest([3; 32]), 4), b"blob"),
        ];
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for (want, mut content) in things {
            let size = content.len() as u64;
            write(&mut bytes, &want, size, &mut content).expect("written");
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let mut got = Vec::new();
            let read = read(
                &mut &bytes[..cut],
                |e| e,
                |want, content| {
                    let mut all = Vec::new();
                    content.read_to_end(&mut all)?;
                    got.push((*want, all));
                    Ok(())
                },
            );
            assert_eq!(read.is_ok(), ends.contains(&cut), "cut at {cut}");
            for ((want, content), (expected, whole)) in got.iter().zip(things) {
                assert_eq!((*want, &content[..]), (expected, whole));
            }
        }
    }

    #[test]
    fn wants_come_back_and_others_are_refused() {
        let wants = [
            Want::object(Digest([1; 32])),
            Want::blob(Digest([2; 32]), 9),
        ];
        let bytes = wants_to_bytes(&wants);
        assert_eq!(wants_of_bytes(&bytes).expect("wants"), wants);
        assert!(wants_of_bytes(&bytes[1..]).is_err());
        assert!(wants_of_bytes(&vec![0; WANT * (WANTS_MAX + 1)]).is_err());
        let mut odd = bytes;
        odd[32] = 2;
        assert!(wants_of_bytes(&odd).is_err());
    }
}
