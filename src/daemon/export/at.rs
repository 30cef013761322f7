//! What a file handle leads to.

use super::handle::{HostFile, May, Name};
use super::{Exports, FSID_BROWSE, FSID_READ_ONLY, FSID_WORK, convert};
use crate::daemon::clock;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use pocker_store::SealedTree;
use pocker_store::types::{self as st, Node, OpCx};
use pocker_store::work::WorkTree;
use std::sync::Arc;

pub(super) const STALE: nfsstat3 = nfsstat3::NFS3ERR_STALE;
pub(super) const ROFS: nfsstat3 = nfsstat3::NFS3ERR_ROFS;

/// What a handle leads to.
pub(super) enum At {
    Sealed {
        tree: Arc<SealedTree>,
        row: u64,
        node: Node,
        name: String,
    },
    Work {
        tree: Arc<WorkTree>,
        id: Which,
        node: Node,
    },
    Synthetic(u64),
    Host(u64, HostFile),
}

/// A work tree or volume, as a handle reaches it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Which {
    id: u64,
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Tree,
    Volume(May),
}

impl Which {
    pub fn read_only(self) -> bool {
        self.by == By::Volume(May::Read)
    }

    /// Two mounts of a volume, of which one may be changed, are two file systems to a client.
    fn fsid(self) -> u64 {
        match self.by {
            By::Tree | By::Volume(May::Write { .. }) => FSID_WORK | self.id,
            By::Volume(May::Read) => FSID_READ_ONLY | self.id,
        }
    }

    fn name(self, node: Node) -> Name {
        let tree = self.id;
        match self.by {
            By::Tree => Name::Work { tree, node },
            By::Volume(may) => Name::Volume { tree, node, may },
        }
    }
}

impl Exports {
    pub(super) fn at(&self, cx: &Cx, fh: &Fh) -> Result<At> {
        match self.codec.decode(fh)? {
            Name::Work { tree: id, node } => {
                self.leased_to(cx.peer, id)?;
                let tree = self.works.get(id).map_err(convert::status)?;
                let id = Which { id, by: By::Tree };
                Ok(At::Work { tree, id, node })
            }
            Name::Volume {
                tree: id,
                node,
                may,
            } => {
                if let May::Write { generation } = may {
                    self.written_at(cx.peer, id, generation)?;
                }
                let tree = self.volumes.tree(id).map_err(convert::status)?;
                let by = By::Volume(may);
                let id = Which { id, by };
                Ok(At::Work { tree, id, node })
            }
            Name::Browse { row, node } => {
                let (tree, name) = self.row_tree(row)?;
                Ok(At::Sealed {
                    tree,
                    row,
                    node,
                    name,
                })
            }
            Name::Synthetic { id } => Ok(At::Synthetic(id)),
            // Its disk may be any, and each call takes on its caller's identity.
            Name::Host { .. } if !pocker_store::may_wait() => Err(WOULD_BLOCK),
            Name::Host { graft, file } => Ok(At::Host(graft, file)),
        }
    }

    /// Where it may be changed.
    pub(super) fn work(&self, cx: &Cx, fh: &Fh) -> Result<(Arc<WorkTree>, Which, Node)> {
        match self.at(cx, fh)? {
            At::Work { tree, id, node } if !id.read_only() => Ok((tree, id, node)),
            _ => Err(ROFS),
        }
    }

    pub(super) fn row_attr(row: u64, attr: &st::Attr) -> fattr3 {
        convert::attr(attr, FSID_BROWSE, Exports::browse_fileid(row, attr.node))
    }

    pub(super) fn row_handle(&self, row: u64, node: Node) -> Fh {
        self.codec.encode(&Name::Browse { row, node })
    }

    pub(super) fn work_handle(&self, tree: Which, node: Node) -> Fh {
        self.codec.encode(&tree.name(node))
    }

    pub(super) fn made(&self, id: Which, changed: &st::Changed) -> Made {
        Made {
            fh: self.work_handle(id, changed.node.node),
            attr: work_attr(id, &changed.node),
            dir: wcc(id, &changed.wcc),
        }
    }
}

pub(super) fn work_attr(tree: Which, attr: &st::Attr) -> fattr3 {
    convert::attr(attr, tree.fsid(), attr.node)
}

pub(super) fn wcc(id: Which, wcc: &st::Wcc) -> Wcc {
    Wcc {
        before: convert::wcc_before(&wcc.before),
        after: work_attr(id, &wcc.after),
    }
}

/// Runs a change of a work tree with the call's credentials, clock and once key.
pub(super) fn change<T>(
    cx: &Cx,
    op: impl FnOnce(&OpCx) -> std::result::Result<T, st::Errno>,
) -> Result<T> {
    let creds = convert::creds(cx.caller);
    let op_cx = OpCx {
        creds: &creds,
        now: clock::now(),
        once: cx.once.map(|key| key.0),
    };
    op(&op_cx).map_err(convert::status)
}
