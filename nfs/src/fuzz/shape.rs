//! The shape of every reply, as RFC 1813, RFC 1833 and RFC 5531 have it: told apart from the
//! code that writes them, so that one does not repeat the other's mistake.
//!
//! A shape is a line of letters: `u` a word, `U` two, `8` eight opaque bytes, `b` a boolean,
//! `o` opaque data, `h` a handle, `H` a handle that may be absent, `F` attributes, `A` attributes
//! that may be absent, `W` wcc_data, `(…)` a list whose items each follow a TRUE, `[…]` an array
//! with its length before it.

use crate::proto::*;
use crate::xdr::{Decoded, Garbage, Reader};

/// NFSv3's results by procedure: of a success, and of a failure behind its status.
const NFS: [(&str, &str); 22] = [
    ("", ""),
    ("F", ""),
    ("W", "W"),
    ("hAA", "A"),
    ("Au", "A"),
    ("Ao", "A"),
    ("Aubo", "A"),
    ("Wuu8", "W"),
    ("HAW", "W"),
    ("HAW", "W"),
    ("HAW", "W"),
    ("HAW", "W"),
    ("W", "W"),
    ("W", "W"),
    ("WW", "WW"),
    ("AW", "AW"),
    ("A8(UoU)b", "A"),
    ("A8(UoUAH)b", "A"),
    ("AUUUUUUu", "A"),
    ("AuuuuuuuUUu", "A"),
    ("Auubbbb", "A"),
    ("W8", "W"),
];

/// What follows the header of a call that was accepted, where it has a status and where not.
enum Results {
    Status(&'static str, &'static str),
    Plain(&'static str),
}

fn results(program: u32, procedure: u32) -> Option<Results> {
    use Results::*;
    let at = procedure as usize;
    Some(match (program, procedure) {
        (NFS_PROGRAM, 0) => Plain(""),
        (NFS_PROGRAM, _) => {
            let (done, failed) = NFS.get(at)?;
            Status(done, failed)
        }
        (MOUNT_PROGRAM, 0 | 3 | 4) => Plain(""),
        (MOUNT_PROGRAM, 1) => Status("h[u]", ""),
        (MOUNT_PROGRAM, 2) => Plain("(oo)"),
        (MOUNT_PROGRAM, 5) => Plain("(o(o))"),
        (POCKER_PROGRAM, 0 | 1) => Plain(""),
        (POCKER_PROGRAM, 2) => Status("o", ""),
        (POCKER_PROGRAM, 3) => Status("[o]", ""),
        (POCKER_PROGRAM, 4 | 5) => Status("", ""),
        (crate::portmap::PORTMAP_PROGRAM, 0) => Plain(""),
        (crate::portmap::PORTMAP_PROGRAM, 1 | 2) => Plain("b"),
        (crate::portmap::PORTMAP_PROGRAM, 3) => Plain("u"),
        (crate::portmap::PORTMAP_PROGRAM, 4) => Plain("(uuuu)"),
        _ => return None,
    })
}

/// The status of results that have one. `None`: they are not what the procedure has.
pub fn check(program: u32, procedure: u32, mut r: Reader<'_>) -> Option<u32> {
    let (shape, status) = match results(program, procedure)? {
        Results::Plain(shape) => (shape, 0),
        Results::Status(done, failed) => match r.u32().ok()? {
            0 => (done, 0),
            status => (failed, status),
        },
    };
    follow(shape.as_bytes(), &mut r).ok()?;
    r.rest().is_empty().then_some(status)
}

/// What stands in the brackets at the front of `shape`, and what behind them.
fn inside(shape: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 0;
    for (at, letter) in shape.iter().enumerate() {
        match letter {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&shape[1..at], &shape[at + 1..]);
        }
    }
    panic!("brackets that do not close")
}

fn follow(mut shape: &[u8], r: &mut Reader<'_>) -> Decoded<()> {
    while let Some(letter) = shape.first() {
        let mut rest = &shape[1..];
        match letter {
            b'u' => drop(r.u32()?),
            b'U' => drop(r.u64()?),
            b'8' => drop(r.bytes(8)?),
            b'b' => drop(r.bool()?),
            b'o' => {
                let data = r.u32()?.to_be_bytes();
                let len = u32::from_be_bytes(data) as usize;
                r.bytes(len)?;
                // The server's own padding is zero, as RFC 4506 §4.10 says.
                if r.bytes(len.wrapping_neg() & 3)?.iter().any(|b| *b != 0) {
                    return Err(Garbage);
                }
            }
            b'h' => drop(r.fh()?),
            b'H' => drop(r.post_op_fh()?),
            b'F' => drop(r.fattr()?),
            b'A' => drop(r.post_op_attr()?),
            b'W' => drop(r.wcc_after()?),
            b'(' => {
                let item;
                (item, rest) = inside(shape);
                while r.bool()? {
                    follow(item, r)?;
                }
            }
            b'[' => {
                let item;
                (item, rest) = inside(shape);
                for _ in 0..r.u32()? {
                    follow(item, r)?;
                }
            }
            other => panic!("no shape: {other}"),
        }
        shape = rest;
    }
    Ok(())
}
