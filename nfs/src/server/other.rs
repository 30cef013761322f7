//! MOUNT v3 (RFC 1813 §5.2) and our own program: a helper's identity and
//! extended attributes.

use super::mounts::Mounts;
use crate::proto::*;
use crate::vfs::*;
use crate::xdr::{Decoded, Garbage, Put, Reader};

/// Longest name of an extended attribute (xattr(7)).
pub const XATTR_NAME_MAX: usize = 255;
/// Largest value of one (xattr(7), XATTR_SIZE_MAX).
pub const XATTR_VALUE_MAX: usize = 64 << 10;

/// MOUNT: `None` where there is no such procedure.
pub fn mount(
    vfs: &dyn Vfs,
    mounts: &Mounts,
    cx: &Cx<'_>,
    version: u32,
    procedure: u32,
    args: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Option<Decoded<()>> {
    Some(match procedure {
        0 => Ok(()),
        1 if version == MOUNT_V3 => mnt(vfs, mounts, cx, args, out),
        2 => {
            for row in mounts.list() {
                out.bool(true);
                out.opaque(row.client.as_bytes());
                out.opaque(&row.path);
            }
            out.bool(false);
            Ok(())
        }
        3 => args.opaque(PATH_MAX).map(|path| {
            mounts.remove(cx.peer, Some(&vfs.shown(path)));
            vfs.umount(cx, path);
        }),
        4 => {
            mounts.remove(cx.peer, None);
            Ok(())
        }
        5 => {
            for line in vfs.exports() {
                out.bool(true);
                out.opaque(&line.path);
                for host in &line.hosts {
                    out.bool(true);
                    out.opaque(host);
                }
                out.bool(false);
            }
            out.bool(false);
            Ok(())
        }
        _ => return None,
    })
}

fn mnt(
    vfs: &dyn Vfs,
    mounts: &Mounts,
    cx: &Cx<'_>,
    args: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Decoded<()> {
    let path = args.opaque(PATH_MAX)?;
    match vfs.mount(cx, path) {
        Ok(fh) => {
            mounts.add(cx.peer, vfs.shown(path));
            out.u32(0);
            out.fh(&fh);
            // The flavours served: AUTH_SYS.
            out.u32(1);
            out.u32(1);
        }
        // mountstat3 has the same numbers for what can happen here.
        Err(status) => out.u32(status as u32),
    }
    Ok(())
}

/// Our own program; HELLO's instance id comes back.
pub fn pocker(
    vfs: &dyn Vfs,
    cx: &Cx<'_>,
    procedure: u32,
    args: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Option<Decoded<()>> {
    Some(match procedure {
        0 => Ok(()),
        2 => getxattr(vfs, cx, args, out),
        3 => listxattr(vfs, cx, args, out),
        4 => setxattr(vfs, cx, args, out),
        5 => removexattr(vfs, cx, args, out),
        _ => return None,
    })
}

fn xattr_name<'a>(args: &mut Reader<'a>) -> Decoded<&'a [u8]> {
    let name = args.opaque(XATTR_NAME_MAX)?;
    if name.is_empty() || name.contains(&0) {
        Err(Garbage)
    } else {
        Ok(name)
    }
}

fn put<T>(
    out: &mut Vec<u8>,
    result: Result<T>,
    value: impl FnOnce(&mut Vec<u8>, T),
) -> Decoded<()> {
    match result {
        Ok(got) => {
            out.u32(0);
            value(out, got);
        }
        Err(status) => out.u32(status as u32),
    }
    Ok(())
}

fn getxattr(vfs: &dyn Vfs, cx: &Cx<'_>, args: &mut Reader<'_>, out: &mut Vec<u8>) -> Decoded<()> {
    let fh = args.fh()?;
    let name = xattr_name(args)?;
    put(out, vfs.getxattr(cx, &fh, name), |out, value| {
        out.opaque(&value)
    })
}

fn listxattr(vfs: &dyn Vfs, cx: &Cx<'_>, args: &mut Reader<'_>, out: &mut Vec<u8>) -> Decoded<()> {
    let fh = args.fh()?;
    put(out, vfs.listxattr(cx, &fh), |out, names| {
        out.u32(names.len() as u32);
        for name in &names {
            out.opaque(name);
        }
    })
}

fn setxattr(vfs: &dyn Vfs, cx: &Cx<'_>, args: &mut Reader<'_>, out: &mut Vec<u8>) -> Decoded<()> {
    let fh = args.fh()?;
    let name = xattr_name(args)?;
    let value = args.opaque(XATTR_VALUE_MAX)?;
    let how = match args.u32()? {
        0 => XattrHow::Either,
        1 => XattrHow::Create,
        2 => XattrHow::Replace,
        _ => return Err(Garbage),
    };
    put(out, vfs.setxattr(cx, &fh, name, value, how), |_, ()| {})
}

fn removexattr(
    vfs: &dyn Vfs,
    cx: &Cx<'_>,
    args: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Decoded<()> {
    let fh = args.fh()?;
    let name = xattr_name(args)?;
    put(out, vfs.removexattr(cx, &fh, name), |_, ()| {})
}
