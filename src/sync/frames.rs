//! What is asked for and what is given, as bytes: on the control socket.
//!
//! A want is 41 bytes: the digest, 1 for a blob or 0, the blob's size u64. A frame is a want with the
//! thing's size, the number of bytes that follow u64, and those: the thing, or an LZ4 block where that is shorter.
//! Little-endian.

use super::squeeze;
use pocker_store::sync::Want;
use pocker_store::types::Digest;
use std::io::{self, Read, Write};

pub const WANT: usize = 41;
/// Asked for in one call.
pub const WANTS_MAX: usize = 4096;

const HEAD: usize = WANT + 8;
/// Things up to this size are sent as they are shorter.
const SQUEEZED_MAX: u64 = 1 << 20;

fn head(want: &Want, size: u64) -> [u8; WANT] {
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

/// The head of a frame whose thing follows as it is.
pub fn head_of_plain(want: &Want, size: u64) -> [u8; HEAD] {
    frame_head(want, size, size)
}

fn frame_head(want: &Want, size: u64, stored: u64) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[..WANT].copy_from_slice(&head(want, size));
    out[WANT..].copy_from_slice(&stored.to_le_bytes());
    out
}

pub fn write_bytes(out: &mut dyn Write, want: &Want, bytes: &[u8]) -> io::Result<()> {
    let size = bytes.len() as u64;
    let squeezed = (size <= SQUEEZED_MAX).then(|| squeeze::squeezed(bytes));
    let squeezed = squeezed.flatten();
    let stored = squeezed.as_deref().unwrap_or(bytes);
    out.write_all(&frame_head(want, size, stored.len() as u64))?;
    out.write_all(stored)
}

pub fn write(out: &mut dyn Write, want: &Want, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
    if size <= SQUEEZED_MAX {
        let mut all = Vec::with_capacity(size as usize);
        bytes.take(size).read_to_end(&mut all)?;
        return match all.len() as u64 == size {
            true => write_bytes(out, want, &all),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
    out.write_all(&head_of_plain(want, size))?;
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
        let mut head = [0; HEAD];
        let mut got = 0;
        while got < HEAD {
            match input.read(&mut head[got..]) {
                Ok(0) if got == 0 => return Ok(()),
                Ok(0) => return Err(cut(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(cut(e)),
            }
        }
        let (want, size, stored) = frame(&head).map_err(&cut)?;
        let mut bytes = Whole {
            input,
            left: stored,
        };
        if stored == size {
            each(&want, &mut bytes)?;
        } else {
            let mut all = Vec::with_capacity(stored as usize);
            bytes.read_to_end(&mut all).map_err(&cut)?;
            let thing = squeeze::plain(&all, size as usize).map_err(&cut)?;
            each(&want, &mut &thing.unwrap_or(all)[..])?;
        }
        if bytes.left > 0 {
            return Err(cut(io::Error::other("it was not read to its end")));
        }
    }
}

/// A want, its size, and how many bytes follow.
fn frame(bytes: &[u8; HEAD]) -> io::Result<(Want, u64, u64)> {
    let (mut want, mut stored) = ([0; WANT], [0; 8]);
    want.copy_from_slice(&bytes[..WANT]);
    stored.copy_from_slice(&bytes[WANT..]);
    let (want, size) = parse(&want)?;
    let stored = u64::from_le_bytes(stored);
    match stored == size || (stored < size && size <= SQUEEZED_MAX) {
        true => Ok((want, size, stored)),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame's sizes contradict each other",
        )),
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
        let squeezed = [7; 300];
        let things = [
            (Want::blob(Digest([4; 32]), 300), &squeezed[..]),
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
        assert!(bytes.len() < 300, "it is shorter than what it holds");
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
