//! Extended attributes (setxattr(2), removexattr(2)); NFSv3 has none, our helper
//! carries them by a program of its own.

use super::clock::bump;
use super::perm;
use super::tree::WorkTree;
use crate::object::limits;
use crate::types::{Attr, Changed, Creds, Errno, Kind, Node, OpCx, Perm};

/// XATTR_NAME_MAX of Linux.
pub const XATTR_NAME_MAX: usize = 255;
/// XATTR_SIZE_MAX of Linux, here for all of a node's attributes together: they are one row.
pub const XATTR_TOTAL_MAX: usize = 64 * 1024;

/// How an existing name is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrHow {
    Either,
    /// `Exist` where there is one.
    Create,
    /// `NoData` where there is none.
    Replace,
}

impl WorkTree {
    pub fn setxattr(
        &self,
        cx: &OpCx,
        node: Node,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<Changed, Errno> {
        if name.is_empty() || name.contains(&0) {
            return Err(Errno::Inval);
        }
        if name.len() > XATTR_NAME_MAX {
            return Err(Errno::NameTooLong);
        }
        self.change_xattrs(cx, node, name, |xattrs| {
            let at = xattrs.binary_search_by(|(n, _)| n.as_slice().cmp(name));
            match (at, how) {
                (Ok(_), XattrHow::Create) => return Err(Errno::Exist),
                (Err(_), XattrHow::Replace) => return Err(Errno::NoData),
                (Ok(i), _) => xattrs[i].1 = value.to_vec(),
                (Err(i), _) => xattrs.insert(i, (name.to_vec(), value.to_vec())),
            }
            let total: usize = xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
            if total > XATTR_TOTAL_MAX || xattrs.len() > limits::XATTRS {
                Err(Errno::NoSpc)
            } else {
                Ok(())
            }
        })
    }

    pub fn removexattr(&self, cx: &OpCx, node: Node, name: &[u8]) -> Result<Changed, Errno> {
        self.change_xattrs(cx, node, name, |xattrs| {
            let at = xattrs
                .binary_search_by(|(n, _)| n.as_slice().cmp(name))
                .map_err(|_| Errno::NoData)?;
            xattrs.remove(at);
            Ok(())
        })
    }

    fn change_xattrs(
        &self,
        cx: &OpCx,
        node: Node,
        name: &[u8],
        change: impl FnOnce(&mut crate::object::Xattrs) -> Result<(), Errno>,
    ) -> Result<Changed, Errno> {
        self.mutate(cx, |tx| {
            let before = tx.st.attr(node)?;
            check(cx.creds, &before, name)?;
            let now = tx.now;
            let mut xattrs = tx.touch(node)?.xattrs.to_vec();
            let total = |xattrs: &[(Vec<u8>, Vec<u8>)]| -> usize {
                xattrs.iter().map(|(n, v)| n.len() + v.len()).sum()
            };
            let had = total(&xattrs);
            change(&mut xattrs)?;
            tx.admit(total(&xattrs).saturating_sub(had) as u64, 0)?;
            let inode = tx.touch(node)?;
            inode.xattrs = xattrs.into();
            inode.set_ctime(bump(now, before.ctime));
            tx.put(node);
            Ok(Changed {
                node: tx.st.attr(node)?,
                wcc: tx.wcc(before)?,
                to: None,
            })
        })
    }
}

/// xattr(7): `user.` by who may write a file or directory, all else by root.
fn check(who: &Creds, attr: &Attr, name: &[u8]) -> Result<(), Errno> {
    if name.starts_with(b"user.") {
        if !matches!(attr.kind, Kind::File | Kind::Dir) {
            return Err(Errno::Perm);
        }
        return perm::need(who, attr, Perm::WRITE);
    }
    if who.uid == 0 {
        Ok(())
    } else {
        Err(Errno::Perm)
    }
}
