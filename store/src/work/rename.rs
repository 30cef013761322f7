//! RENAME (RFC 1813 §3.3.14, rename(2)).

use super::clock::bump;
use super::names::check_name;
use super::node::What;
use super::perm;
use super::state::Target;
use super::tree::WorkTree;
use super::tx::Tx;
use crate::types::{Attr, Changed, Creds, Errno, Kind, Node, OpCx, Perm};

/// Both ends, looked up and allowed.
struct Plan {
    from: Attr,
    to: Attr,
    source: Target,
    moved: Attr,
    replaced: Option<(Target, Attr)>,
}

impl WorkTree {
    /// Touches the two names, the node and the two directories, whatever is below.
    pub fn rename(
        &self,
        cx: &OpCx,
        from: Node,
        name: &[u8],
        to: Node,
        new: &[u8],
    ) -> Result<Changed, Errno> {
        check_name(name)?;
        check_name(new)?;
        self.mutate(cx, |tx| {
            let plan = plan(tx, cx.creds, (from, name), (to, new))?;
            // Two names of one file: rename(2) does nothing.
            if plan
                .replaced
                .as_ref()
                .is_none_or(|(t, _)| t.node != plan.source.node)
            {
                apply(tx, &plan, name, new)?;
            }
            Ok(Changed {
                node: tx.st.attr(plan.source.node)?,
                wcc: tx.wcc(plan.from)?,
                to: Some(tx.wcc(plan.to)?),
            })
        })
    }
}

fn plan(
    tx: &Tx,
    who: &Creds,
    (from, name): (Node, &[u8]),
    (to, new): (Node, &[u8]),
) -> Result<Plan, Errno> {
    let st = &tx.st;
    let (from, to) = (st.attr(from)?, st.attr(to)?);
    perm::need_search(who, &from)?;
    perm::need_search(who, &to)?;
    let source = st.find(from.node, name)?.ok_or(Errno::NoEnt)?;
    let moved = st.attr(source.node)?;
    let is_dir = moved.kind == Kind::Dir;
    if is_dir && st.is_above(moved.node, to.node)? {
        return Err(Errno::Inval);
    }
    let replaced = match st.find(to.node, new)? {
        Some(t) => Some((t, st.attr(t.node)?)),
        None => None,
    };
    perm::need_change(who, &from)?;
    perm::need_unsticky(who, &from, &moved)?;
    perm::need_change(who, &to)?;
    if let Some((t, old)) = replaced.as_ref().filter(|(t, _)| t.node != source.node) {
        perm::need_unsticky(who, &to, old)?;
        match (is_dir, old.kind == Kind::Dir) {
            (true, false) => return Err(Errno::NotDir),
            (false, true) => return Err(Errno::IsDir),
            (true, true) if st.entries(t.node)? > 0 => return Err(Errno::NotEmpty),
            _ => {}
        }
    }
    if is_dir && from.node != to.node {
        // Its ".." is written.
        perm::need(who, &moved, Perm::WRITE)?;
    }
    Ok(Plan {
        from,
        to,
        source,
        moved,
        replaced,
    })
}

fn apply(tx: &mut Tx, plan: &Plan, name: &[u8], new: &[u8]) -> Result<(), Errno> {
    let (from, to, moved) = (plan.from.node, plan.to.node, plan.source.node);
    let is_dir = plan.moved.kind == Kind::Dir;
    for n in [from, to, moved] {
        tx.touch(n)?;
    }
    if let Some((old, attr)) = &plan.replaced {
        tx.touch(old.node)?;
        tx.may_unname(old.node)?;
        tx.drop_name(to, new, old)?;
        tx.unname(old.node)?;
        if attr.kind == Kind::Dir {
            tx.add_subdirs(to, -1)?;
        }
    }
    tx.drop_name(from, name, &plan.source)?;
    tx.add_name(to, new, moved)?;
    if is_dir {
        tx.add_subdirs(from, -1)?;
        tx.add_subdirs(to, 1)?;
    }
    let now = tx.now;
    let node = tx.touch(moved)?;
    if let What::Dir(dir) = &mut node.what {
        dir.parent = to;
    }
    node.set_ctime(bump(now, plan.moved.ctime));
    tx.put(moved);
    tx.dir_changed(from)?;
    if to != from {
        tx.dir_changed(to)?;
    }
    Ok(())
}
