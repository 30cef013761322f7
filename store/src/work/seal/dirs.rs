//! The directories of a seal, edited.

use super::Sealing;
use super::plan::Touch;
use crate::StoreError;
use crate::object::{Body, Counts, Entry};
use crate::types::{Digest, Errno, Kind, Node, ROOT};
use std::collections::BTreeMap;

/// A rewritten directory, and what is where in it, counted in nodes from its first entry.
pub(super) struct Done {
    pub digest: Digest,
    pub counts: Counts,
    pub places: Vec<(u64, Place)>,
}

pub(super) enum Place {
    /// Nodes of the base, so many from this one on, in their order.
    Base(Node, u64),
    /// An added name of a file, which may have more.
    File(Node),
    /// A directory that was rewritten too.
    Dir(Node),
}

/// A directory whose children are being rewritten first.
struct Frame {
    dir: Node,
    children: Vec<Node>,
}

type Changes = BTreeMap<Vec<u8>, Option<Entry>>;

impl Sealing<'_> {
    /// Rewrites what is planned and below the root. No recursion: a tree may be
    /// deeper than a stack.
    pub(super) fn directories(&mut self) -> Result<(), Errno> {
        if !self.plan.dirs.contains_key(&ROOT) {
            return Ok(());
        }
        let mut stack = vec![self.frame(ROOT)];
        while let Some(frame) = stack.last_mut() {
            if let Some(child) = frame.children.pop() {
                stack.push(self.frame(child));
            } else if let Some(frame) = stack.pop() {
                let done = self.directory(frame.dir)?;
                self.done.insert(frame.dir, done);
            }
        }
        Ok(())
    }

    fn frame(&self, dir: Node) -> Frame {
        let touched = self.plan.dirs.get(&dir).into_iter().flatten();
        let children = touched.filter_map(|(_, touch)| match touch {
            Touch::Added(n) | Touch::Changed(n) if self.plan.dirs.contains_key(n) => Some(*n),
            _ => None,
        });
        Frame {
            dir,
            children: children.collect(),
        }
    }

    fn directory(&mut self, dir: Node) -> Result<Done, Errno> {
        let touched = self.plan.dirs.remove(&dir).unwrap_or_default();
        let mut changes = Changes::new();
        for (name, touch) in &touched {
            let entry = match touch {
                Touch::Gone => None,
                Touch::Added(n) | Touch::Changed(n) => Some(self.entry(name, *n)?),
            };
            changes.insert(name.clone(), entry);
        }
        let places = self.places(dir, &touched, &changes)?;
        let (digest, counts) = match self.old_digest(dir)? {
            Some(old) => self.batch.edit_dir(&old, &changes),
            None => self.batch.put_dir(changes.into_values().flatten()),
        }
        .map_err(StoreError::log)?;
        Ok(Done {
            digest,
            counts,
            places,
        })
    }

    /// The directory object that `dir` has in the base.
    fn old_digest(&self, dir: Node) -> Result<Option<Digest>, Errno> {
        let Some(base) = self.st.base.as_ref().filter(|_| self.st.in_base(dir)) else {
            return Ok(None);
        };
        match base.base(dir)?.entry.body()? {
            Body::Dir { digest, .. } => Ok(Some(digest)),
            _ => Err(Errno::NotDir),
        }
    }

    fn entry(&mut self, name: &[u8], n: Node) -> Result<Entry, Errno> {
        let rewritten = self.done.get(&n).map(|done| Body::Dir {
            digest: done.digest,
            counts: done.counts,
        });
        let st = self.st;
        let old = match &st.base {
            Some(base) if st.in_base(n) => Some(base.base(n)?.entry),
            _ => None,
        };
        let (meta, body) = match (st.nodes.get(&n), rewritten, old) {
            (Some(node), Some(body), _) => (self.meta(node), body),
            (Some(node), None, old) => (self.meta(node), self.body(n, node, old.as_ref())?),
            (None, Some(body), Some(old)) => (old.meta()?, body),
            (None, None, Some(old)) => {
                let old = old.to_entry()?;
                (old.meta, old.body)
            }
            (None, _, None) => return Err(Errno::Io),
        };
        Ok(Entry {
            name: name.to_vec(),
            meta,
            body,
        })
    }

    /// Where in the new directory the base's nodes and the added ones are. Costs the changes.
    fn places(
        &self,
        dir: Node,
        touched: &BTreeMap<Vec<u8>, Touch>,
        changes: &Changes,
    ) -> Result<Vec<(u64, Place)>, Errno> {
        let base = self.st.base.as_ref().filter(|_| self.st.in_base(dir));
        let mut places = Vec::new();
        // The base's next node that has no place yet, and the next place.
        let (mut next, mut at) = (dir + 1, 0);
        for (name, touch) in touched {
            let mut found = None;
            if let Some(base) = base {
                let spot = base.seek(dir, name)?;
                if spot.place > next {
                    places.push((at, Place::Base(next, spot.place - next)));
                    at += spot.place - next;
                }
                next = spot.place;
                if let Some(child) = spot.found {
                    next += child.entry.body()?.nodes();
                    found = Some(child.place);
                }
            }
            let Some(Some(entry)) = changes.get(name) else {
                continue;
            };
            let nodes = entry.body.nodes();
            let place = match (touch, entry.body.kind()) {
                (Touch::Gone, _) => continue,
                (Touch::Added(n) | Touch::Changed(n), Kind::Dir) if self.done.contains_key(n) => {
                    Place::Dir(*n)
                }
                // A directory of the base is its own place, wherever it went.
                (Touch::Added(n) | Touch::Changed(n), Kind::Dir) => Place::Base(*n, nodes),
                (Touch::Added(n), _) => Place::File(*n),
                (Touch::Changed(_), _) => Place::Base(found.ok_or(Errno::Io)?, nodes),
            };
            places.push((at, place));
            at += nodes;
        }
        if let Some(base) = base
            && let Body::Dir { counts, .. } = base.base(dir)?.entry.body()?
        {
            let end = dir + 1 + counts.nodes;
            if end > next {
                places.push((at, Place::Base(next, end - next)));
            }
        }
        Ok(places)
    }
}
