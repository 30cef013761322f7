//! One mutation's changes: made in memory, and as the rows that say the same.

use super::WorkInfo;
use super::area::Area;
use super::clock::bump;
use super::node::{Content, Node as Inode, What};
use super::quota::{DISK_BLOCK, Held, charge, content};
use super::rows::Row;
use super::small::Small;
use super::staged::Staged;
use super::state::{At, State, Target};
use super::writer::Writer;
use crate::patience::{may_block, see_it_through};
use crate::types::{Attr, Changed, Errno, Node, OnceKey, Time, Wcc};
use std::sync::Arc;

/// Numbers reserved at once, so that few creations write the tree's row.
const RESERVE: u64 = 1024;

pub(super) struct Tx<'a> {
    pub st: &'a mut State,
    pub area: &'a Area,
    pub tree: u64,
    pub now: Time,
    writer: &'a Writer,
    rows: Vec<Row>,
    after: After,
    /// What nodes held that may hold another number of bytes in the end.
    charged: Vec<(Node, u64)>,
    /// Names more than there were.
    names: i64,
}

/// What is left to do when a mutation's rows are kept and its tree's lock is free.
#[derive(Default)]
pub(super) struct After {
    /// Files to sync before anyone is told.
    pub sync: Vec<Arc<Staged>>,
    /// Files to unlink once the rows are as durable as they will be.
    pub unlink: Vec<Node>,
}

impl<'a> Tx<'a> {
    pub fn new(
        st: &'a mut State,
        info: &WorkInfo,
        area: &'a Area,
        writer: &'a Writer,
        now: Time,
    ) -> Tx<'a> {
        Tx {
            st,
            area,
            tree: info.id,
            now,
            writer,
            rows: Vec::with_capacity(6),
            after: After::default(),
            charged: Vec::new(),
            names: 0,
        }
    }

    /// The first row is the point of no return: what comes after may wait.
    fn push(&mut self, row: Row) {
        see_it_through();
        self.rows.push(row);
    }

    /// The rows to commit, and what comes after.
    pub fn finish(self) -> (Vec<Row>, After) {
        if let Some(quota) = &self.st.quota {
            let grown = self.charged.iter().map(|(n, before)| {
                let now = self.st.nodes.get(n).map_or(0, charge);
                now as i64 - *before as i64
            });
            quota.change(grown.sum(), self.names);
        }
        (self.rows, self.after)
    }

    /// Whether the tree may hold so much more. Asked before anything is changed.
    pub fn admit(&self, bytes: u64, names: u64) -> Result<(), Errno> {
        match &self.st.quota {
            Some(quota) => quota.admit(Held { bytes, names }),
            None => Ok(()),
        }
    }

    /// Whether a file's content may come to take so many bytes in place of what it takes.
    pub fn admit_content(&self, n: Node, will: u64) -> Result<(), Errno> {
        let has = self.st.nodes.get(&n).map_or(0, content);
        self.admit(will.saturating_sub(has), 0)
    }

    /// The same, where a staged file of `len` bytes is about to be made.
    pub fn admit_staged(&self, n: Node, len: u64) -> Result<(), Errno> {
        self.admit_content(n, len.next_multiple_of(DISK_BLOCK))
    }

    /// The node is about to be changed.
    fn note(&mut self, n: Node) {
        if self.st.quota.is_some() && self.charged.iter().all(|(known, _)| *known != n) {
            let before = self.st.nodes.get(&n).map_or(0, charge);
            self.charged.push((n, before));
        }
    }

    /// The file's size or bytes were changed, and are stable when this mutation is answered.
    pub fn sync(&mut self, staged: &Arc<Staged>) {
        if staged.is_disk() {
            self.after.sync.push(Arc::clone(staged));
        }
    }

    pub fn reply(&mut self, key: OnceKey, outcome: &Changed) {
        let seq = self.st.replies.record(key, *outcome);
        self.push(Row::reply(self.tree, seq, key, outcome));
    }

    /// The node in the delta, copied there if it was not. Nothing is changed yet.
    pub fn touch(&mut self, n: Node) -> Result<&mut Inode, Errno> {
        self.note(n);
        if !self.st.nodes.contains_key(&n) {
            let node = self.st.load(n)?;
            self.st.nodes.insert(n, node);
        }
        self.st.nodes.get_mut(&n).ok_or(Errno::Io)
    }

    /// Writes the node's row, its data left out.
    pub fn put(&mut self, n: Node) {
        if let Some(node) = self.st.nodes.get(&n) {
            self.push(Row::node(self.tree, n, node));
        }
    }

    /// Before a staged file is changed ahead of this mutation's rows. Where a kill comes in
    /// between the mutation never was: a call that is sent again finds the times that it was
    /// made for, and a SETATTR's guard holds. A volume's file has its times in its row only; for
    /// it too, a journal that takes no rows says so while the file still has all its bytes.
    pub fn hold_times(&mut self, n: Node) -> Result<(), Errno> {
        let tree = self.tree;
        let Some(node) = self.st.nodes.get(&n) else {
            return Ok(());
        };
        let (held, back) = (Row::held(tree, n, node), Row::node(tree, n, node));
        self.writer.append(vec![held])?;
        self.push(back);
        Ok(())
    }

    /// Replaces a file's content; the node's own row is for the caller to put.
    pub fn set_content(&mut self, n: Node, content: Content) -> Result<(), Errno> {
        let tree = self.tree;
        let node = self.touch(n)?;
        let (mtime, ctime) = node.times();
        let was_inline = matches!(node.what, What::File(Content::Inline(_)));
        (node.mtime, node.ctime) = (mtime.into(), ctime.into());
        node.what = What::File(content);
        if was_inline {
            self.push(Row::ContentGone { tree, node: n });
        }
        Ok(())
    }

    /// As [`Tx::set_content`], with the bytes themselves: at most a small blob's.
    pub fn set_small(&mut self, n: Node, bytes: Vec<u8>) -> Result<(), Errno> {
        if bytes.is_empty() {
            return self.set_content(n, Content::Inline(Small::default()));
        }
        let row = Row::Content {
            tree: self.tree,
            node: n,
            data: bytes.clone(),
        };
        let small = Small::new(&self.area.smalls, bytes);
        let node = self.touch(n)?;
        let (mtime, ctime) = node.times();
        (node.mtime, node.ctime) = (mtime.into(), ctime.into());
        node.what = What::File(Content::Inline(small));
        self.push(row);
        Ok(())
    }

    /// A number no node of this tree ever had.
    pub fn number(&mut self) -> Node {
        let n = self.st.next;
        if n >= self.st.reserved {
            self.st.reserved = n + RESERVE;
            self.push(Row::Reserved {
                tree: self.tree,
                reserved: self.st.reserved,
            });
        }
        self.st.next = n + 1;
        n
    }

    pub fn insert(&mut self, n: Node, node: Inode) {
        self.note(n);
        self.st.nodes.insert(n, node);
        self.put(n);
    }

    /// `dir` was touched; [`Tx::dir_changed`] writes its row.
    pub fn add_name(&mut self, dir: Node, name: &[u8], node: Node) -> Result<(), Errno> {
        let What::Dir(inode) = &mut self.touch(dir)?.what else {
            return Err(Errno::NotDir);
        };
        let seq = inode.next_seq;
        inode.next_seq += 1;
        inode.entries += 1;
        let names = self.st.names.entry(dir).or_default();
        names.add(seq, name, node)?;
        self.names += 1;
        self.push(Row::Added {
            tree: self.tree,
            dir,
            seq,
            name: name.into(),
            node,
        });
        Ok(())
    }

    pub fn drop_name(&mut self, dir: Node, name: &[u8], target: &Target) -> Result<(), Errno> {
        let tree = self.tree;
        let What::Dir(inode) = &mut self.touch(dir)?.what else {
            return Err(Errno::NotDir);
        };
        inode.entries = inode.entries.saturating_sub(1);
        let names = self.st.names.entry(dir).or_default();
        match target.at {
            At::Added(seq) => {
                names.remove(seq);
                self.names -= 1;
                self.push(Row::AddedGone { tree, dir, seq });
            }
            At::Base => {
                names.whiteouts.insert(name.into());
                self.push(Row::Whiteout {
                    tree,
                    dir,
                    name: name.to_vec(),
                });
            }
        }
        Ok(())
    }

    /// Moves a directory's times, for a change of its names, and writes its row.
    pub fn dir_changed(&mut self, dir: Node) -> Result<(), Errno> {
        let now = self.now;
        let node = self.touch(dir)?;
        node.mtime = bump(now, node.mtime.into()).into();
        node.ctime = bump(now, node.ctime.into()).into();
        self.put(dir);
        Ok(())
    }

    /// Adds to a directory's link count what its subdirectories changed by.
    pub fn add_subdirs(&mut self, dir: Node, by: i32) -> Result<(), Errno> {
        let node = self.touch(dir)?;
        node.nlink = node.nlink.saturating_add_signed(by);
        Ok(())
    }

    /// A staged file that loses its last name is unlinked, which may take its time.
    pub fn may_unname(&self, n: Node) -> Result<(), Errno> {
        let staged = self.st.nodes.get(&n).is_some_and(|n| n.staged().is_some());
        if staged { may_block() } else { Ok(()) }
    }

    /// One name fewer. The node as it is after; without a name left it is gone.
    pub fn unname(&mut self, n: Node) -> Result<Attr, Errno> {
        let now = self.now;
        let node = self.touch(n)?;
        node.set_ctime(bump(now, node.times().1));
        let is_dir = matches!(node.what, What::Dir(_));
        node.nlink = if is_dir {
            0
        } else {
            node.nlink.saturating_sub(1)
        };
        let attr = node.attr(n);
        if attr.nlink > 0 {
            self.put(n);
        } else {
            self.forget(n);
        }
        Ok(attr)
    }

    fn forget(&mut self, n: Node) {
        let tree = self.tree;
        if let Some(old) = self.st.nodes.remove(n) {
            match &old.what {
                What::File(Content::Staged(staged)) => {
                    self.after.unlink.push(n);
                    if staged.base.is_some() {
                        self.push(Row::PresentGone { tree, node: n });
                    }
                }
                What::File(Content::Inline(_)) => self.push(Row::ContentGone { tree, node: n }),
                What::Dir(_) => {
                    let whiteouts = self.st.names.remove(&n).map(|names| names.whiteouts);
                    if whiteouts.is_some_and(|w| !w.is_empty()) {
                        self.push(Row::WhiteoutsGone { tree, dir: n });
                    }
                }
                _ => {}
            }
        }
        if self.st.in_base(n) {
            self.st.gone.insert(n);
            self.push(Row::Node {
                tree,
                node: n,
                data: Vec::new(),
            });
        } else {
            self.push(Row::NodeGone { tree, node: n });
        }
    }

    /// `dir` as it is now, beside what it was.
    pub fn wcc(&self, before: Attr) -> Result<Wcc, Errno> {
        Ok(Wcc {
            before,
            after: self.st.attr(before.node)?,
        })
    }
}
