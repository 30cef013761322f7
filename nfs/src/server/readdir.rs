//! READDIR and READDIRPLUS (RFC 1813 §3.3.16, §3.3.17): as many entries as the
//! client's buffer takes, counted as the RFC counts them.

use super::nfs3::{Answered, Proc};
use crate::proto::*;
use crate::vfs::{Entry, Fh};
use crate::xdr::{Put, Reader};

/// The cookie verifier never changes: cookies stay good while names come and go.
const VERIFIER: u64 = 0;
/// What READDIR3resok holds beside entries: attributes, verifier, end of list, eof. The
/// status stands before it and does not count.
const FRAME: usize = 4 + 84 + 8 + 4 + 4;

fn padded(len: usize) -> usize {
    len.div_ceil(4) * 4
}

/// value follows, fileid, name, cookie.
fn entry_size(name: &[u8]) -> usize {
    4 + 8 + 4 + padded(name.len()) + 8
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    out.bool(true);
    out.u64(entry.fileid);
    out.opaque(entry.name);
    out.u64(entry.cookie);
}

pub fn readdir(call: &mut Proc<'_>, args: &mut Reader<'_>) -> Answered {
    let dir = args.fh()?;
    let cookie = args.u64()?;
    args.u64()?;
    let max = args.u32()?.min(call.transfer) as usize;
    list(call, &dir, cookie, false, usize::MAX, max);
    Ok(())
}

pub fn readdirplus(call: &mut Proc<'_>, args: &mut Reader<'_>) -> Answered {
    let dir = args.fh()?;
    let cookie = args.u64()?;
    args.u64()?;
    let dir_max = args.u32()? as usize;
    let max = args.u32()?.min(call.transfer) as usize;
    list(call, &dir, cookie, true, dir_max, max);
    Ok(())
}

/// `dir_max` counts names, fileids and cookies only; `max` the whole result.
fn list(call: &mut Proc<'_>, dir: &Fh, cookie: u64, plus: bool, dir_max: usize, max: usize) {
    let mut entries = Vec::with_capacity(max.min(64 << 10));
    let mut names = 0;
    let mut full = false;
    let done = call.vfs.readdir(&call.cx, dir, cookie, plus, &mut |entry| {
        let name_part = entry_size(entry.name);
        let extra = match (&entry.plus, plus) {
            (_, false) => 0,
            (None, true) => 8,
            (Some((fh, _)), true) => 4 + 84 + 4 + 4 + padded(fh.as_bytes().len()),
        };
        if names + name_part > dir_max || FRAME + entries.len() + name_part + extra > max {
            full = true;
            return false;
        }
        names += name_part;
        put_entry(&mut entries, &entry);
        if plus {
            match &entry.plus {
                Some((fh, attr)) => {
                    entries.attr(Some(attr));
                    entries.bool(true);
                    entries.fh(fh);
                }
                None => {
                    entries.bool(false);
                    entries.bool(false);
                }
            }
        }
        true
    });
    match done {
        Ok(_) if entries.is_empty() && (full || FRAME > max) => {
            call.fail_attr(nfsstat3::NFS3ERR_TOOSMALL, dir);
        }
        Ok(done) => {
            call.out.u32(0);
            call.out.attr(Some(&done.attr));
            call.out.u64(VERIFIER);
            call.out.extend_from_slice(&entries);
            call.out.bool(false);
            call.out.bool(done.eof && !full);
        }
        Err(status) => call.fail_attr(status, dir),
    }
}
