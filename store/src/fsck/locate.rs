//! In which trees and steps the damage is, with one path to it.
//!
//! Only where something is damaged: one more walk, each object once, which remembers for
//! every directory what of the damage is below it.

use super::report::{ALL_PLACES, Findings, PLACES, Places};
use crate::error::StoreError;
use crate::object::{BodyRef, DirObject};
use crate::store::Store;
use crate::types::Digest;
use std::collections::{BTreeSet, HashMap};

/// A snapshot that is looked at.
pub(super) struct Root {
    pub snapshot: Digest,
    /// Unknown where it cannot be read.
    pub dir: Option<Digest>,
    pub steps: Vec<Digest>,
    pub work_trees: Vec<u64>,
}

struct Locate<'a> {
    store: &'a Store,
    /// Numbers of what is looked for.
    subjects: HashMap<Digest, u32>,
    /// What is in and below each object; most have nothing.
    below: HashMap<Digest, Box<[u32]>>,
}

/// An object whose parts are being looked at.
struct Frame {
    digest: Digest,
    parts: Vec<Digest>,
    found: BTreeSet<u32>,
}

/// Fills in the places of findings. Where not all is `complete`ly known, what is in no
/// known place may be in an unknown one.
pub(super) fn locate(
    store: &Store,
    roots: &[Root],
    complete: bool,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let mut locate = Locate {
        store,
        subjects: HashMap::new(),
        below: HashMap::new(),
    };
    let mut places: Vec<(Digest, Places)> = Vec::new();
    for subject in findings.list.iter().filter_map(|f| f.fault.subject()) {
        locate.subjects.entry(subject).or_insert_with(|| {
            places.push((subject, Places::default()));
            places.len() as u32 - 1
        });
    }
    if places.is_empty() {
        return Ok(());
    }
    let mut room = ALL_PLACES;
    for root in roots {
        locate.root(root, &mut places, &mut room)?;
    }
    for finding in &mut findings.list {
        let number = finding
            .fault
            .subject()
            .and_then(|s| locate.subjects.get(&s));
        if let Some(number) = number {
            finding.places = places[*number as usize].1.clone();
            finding.severity = finding
                .fault
                .severity(!complete || !finding.places.is_empty());
        }
    }
    Ok(())
}

impl Locate<'_> {
    fn root(
        &mut self,
        root: &Root,
        places: &mut [(Digest, Places)],
        room: &mut usize,
    ) -> Result<(), StoreError> {
        let mut hits: BTreeSet<u32> = self
            .subjects
            .get(&root.snapshot)
            .copied()
            .into_iter()
            .collect();
        if let Some(dir) = root.dir {
            hits.extend(self.below(dir)?.iter());
        }
        for hit in hits {
            let (subject, places) = &mut places[hit as usize];
            if places.is_empty() {
                places.example = match root.dir {
                    Some(dir) if *subject != root.snapshot => self.path(dir, *subject, hit)?,
                    _ => Some(Vec::new()),
                };
            }
            places.add(root, room);
        }
        Ok(())
    }

    /// What is looked for and lies in or below `top`.
    fn below(&mut self, top: Digest) -> Result<Box<[u32]>, StoreError> {
        let mut stack = Vec::new();
        if !self.below.contains_key(&top) {
            stack.push(self.open(top)?);
        }
        while let Some(frame) = stack.last_mut() {
            if let Some(part) = frame.parts.pop() {
                match self.below.get(&part) {
                    Some(known) => frame.found.extend(known.iter()),
                    None => {
                        let opened = self.open(part)?;
                        stack.push(opened);
                    }
                }
                continue;
            }
            let (digest, found) = (frame.digest, std::mem::take(&mut frame.found));
            stack.pop();
            if let Some(above) = stack.last_mut() {
                above.found.extend(&found);
            }
            self.below.insert(digest, found.into_iter().collect());
        }
        Ok(self.below.get(&top).cloned().unwrap_or_default())
    }

    fn open(&self, digest: Digest) -> Result<Frame, StoreError> {
        let mut frame = Frame {
            digest,
            parts: Vec::new(),
            found: self.subjects.get(&digest).copied().into_iter().collect(),
        };
        match self.read(&digest)? {
            Some(DirObject::Index(index)) => {
                frame
                    .parts
                    .extend((0..index.len()).map(|at| index.digest(at)));
            }
            Some(DirObject::Page(page)) => {
                for slot in 0..page.len() {
                    match page.entry(slot).map(|e| e.body) {
                        Some(BodyRef::Dir { digest, .. }) => frame.parts.push(digest),
                        Some(BodyRef::File { blob, .. }) => {
                            frame.found.extend(self.subjects.get(&blob));
                        }
                        _ => {}
                    }
                }
            }
            None => {}
        }
        Ok(frame)
    }

    /// `None` where it cannot be read, which is a finding of its own.
    fn read(&self, digest: &Digest) -> Result<Option<DirObject>, StoreError> {
        match self.store.objects.read_dir(digest) {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn holds(&self, digest: &Digest, number: u32) -> bool {
        self.below
            .get(digest)
            .is_some_and(|found| found.binary_search(&number).is_ok())
    }

    /// The path from `dir` to `subject`, which is below it. It ends, as objects named by
    /// their digests have no cycles.
    fn path(
        &self,
        dir: Digest,
        subject: Digest,
        number: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = dir;
        while at != subject {
            let next = match self.read(&at)? {
                Some(DirObject::Index(index)) => (0..index.len())
                    .map(|page| index.digest(page))
                    .find(|page| self.holds(page, number)),
                Some(DirObject::Page(page)) => {
                    let part = |slot| {
                        let entry = page.entry(slot)?;
                        let part = match entry.body {
                            BodyRef::Dir { digest, .. } if self.holds(&digest, number) => digest,
                            BodyRef::File { blob, .. } if blob == subject => blob,
                            _ => return None,
                        };
                        Some((entry.name.to_vec(), part))
                    };
                    let found = (0..page.len()).find_map(part);
                    found.map(|(name, part)| {
                        names.push(name);
                        part
                    })
                }
                None => None,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(names.join(&b'/')))
    }
}

impl Places {
    fn add(&mut self, root: &Root, room: &mut usize) {
        let mut take = |listed: usize| {
            // One each has its place whatever the others have.
            let takes = listed < PLACES && (*room > 0 || listed == 0);
            *room = room.saturating_sub(usize::from(takes));
            takes
        };
        match take(self.snapshots.len()) {
            true => self.snapshots.push(root.snapshot),
            false => self.more_snapshots += 1,
        }
        for step in &root.steps {
            match take(self.steps.len()) {
                true => self.steps.push(*step),
                false => self.more_steps += 1,
            }
        }
        for tree in &root.work_trees {
            if take(self.work_trees.len()) {
                self.work_trees.push(*tree);
            }
        }
    }
}
