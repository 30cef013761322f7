//! A record as the client meets it: a reply of a server that may be anybody's.

use crate::client::fuzz::{directory, made, results, stable};
use crate::vfs::Fh;
use crate::xdr::{Put, Reader};

/// Heap that decoding may take. An entry of 24 bytes is some 210 in memory, which is nine times
/// as much; a list has room for twice what is in it, and its old half beside it while it
/// grows. What it is encoded to and what came are beside it, and where the padding is.
pub fn replies_bound(data: &[u8]) -> usize {
    (16 << 10) + (2 * 9 + 9 + 2 + 1 + 3) * data.len()
}

/// What decodes is what its encoding decodes to; lengths that lie take no memory.
pub fn replies(data: &[u8]) {
    let Some((how, record)) = data.split_first() else {
        return;
    };
    let Ok(r) = results(record) else { return };
    match how % 4 {
        0 | 1 => listing(r, how % 4 == 1),
        2 => {
            let mut after = r;
            if let Ok(made) = made(&mut after)
                && let Some(fh) = made.fh
            {
                assert!(Fh::new(fh.as_bytes()) == Some(fh));
            }
        }
        _ => {
            let mut r = r;
            let _ = (r.fattr(), stable(&mut r), r.opaque(1 << 20));
        }
    }
}

fn listing(mut r: Reader<'_>, plus: bool) {
    let whole = r;
    let Ok(list) = directory(&mut r, plus) else {
        return;
    };
    let mut out = Vec::new();
    // Where the padding of opaque data is: any bytes may be there (RFC 4506 §4.10 says zero).
    let mut padding = Vec::new();
    let mut padded = |out: &mut Vec<u8>, len: usize| {
        padding.push(out.len() - (len.wrapping_neg() & 3)..out.len());
    };
    out.attr(list.attr.as_ref());
    out.extend_from_slice(&list.verifier);
    for entry in &list.entries {
        out.bool(true);
        out.u64(entry.fileid);
        out.opaque(&entry.name);
        padded(&mut out, entry.name.len());
        out.u64(entry.cookie);
        if plus {
            out.attr(entry.attr.as_ref());
            out.bool(entry.fh.is_some());
            if let Some(fh) = &entry.fh {
                out.fh(fh);
                padded(&mut out, fh.as_bytes().len());
            }
        }
    }
    out.bool(false);
    out.bool(list.eof);
    let read = whole.rest().len() - r.rest().len();
    let mut came = whole.rest()[..read].to_vec();
    assert_eq!(out.len(), read, "the listing, encoded again");
    for range in padding {
        came[range].fill(0);
    }
    assert!(out == came, "the listing, encoded again, is what came");
}
