//! A node of the base as the delta would hold it.

use super::node::{Content, Node as Inode, What};
use crate::object::Body;
use crate::sealed::{BaseChild, SealedTree};
use crate::types::{Attr, Errno, Kind, Node};

/// A copy of the base's node.
pub(super) fn load(base: &SealedTree, n: Node) -> Result<Inode, Errno> {
    let found = base.base(n)?;
    let view = found.entry.view()?;
    let attr = base.attr_of(n, &view)?;
    if attr.node != n {
        return Err(Errno::Stale);
    }
    let what = match view.body.to_body() {
        Body::File { blob, size } => What::File(Content::blob(blob, size)),
        Body::Dir { counts, .. } => What::dir(found.parent, counts.entries),
        Body::Symlink(target) => What::Symlink(target.into()),
        Body::Fifo => What::Fifo,
        Body::Socket => What::Socket,
        Body::Char(r) => What::Char(r),
        Body::Block(r) => What::Block(r),
    };
    let (owned, times) = (
        (attr.mode, attr.uid, attr.gid),
        [attr.atime, attr.mtime, attr.ctime],
    );
    Ok(Inode {
        xattrs: view.to_meta().xattrs.into(),
        ..Inode::new(owned, attr.nlink, times, what)
    })
}

pub(super) fn parent(base: &SealedTree, dir: Node) -> Result<Node, Errno> {
    let found = base.base(dir)?;
    match found.entry.kind()? {
        Kind::Dir => Ok(found.parent),
        _ => Err(Errno::NotDir),
    }
}

/// Attributes of an unchanged entry.
pub(super) fn child_attr(base: &SealedTree, child: &BaseChild) -> Result<Attr, Errno> {
    base.attr_of(child.node, &child.entry.view()?)
}
