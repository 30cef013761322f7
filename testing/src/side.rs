//! What is put beside the model, and the comparison: each call's outcome, and all that
//! can be seen of the tree.

use crate::call::Call;
use crate::language::{self, Op, Step};
use crate::model::{Id, Model};
use pocker_store::types::{Errno, Kind, Time};
use std::collections::{BTreeMap, HashMap};

/// What a side shows of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The same for each name of one file, and no other file's.
    pub number: u64,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub size: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub data: Vec<u8>,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One call as the model had it.
pub struct Turn<'a> {
    pub call: &'a Call,
    pub before: &'a Model,
    pub after: &'a Model,
    pub outcome: Result<Id, Errno>,
}

/// How a side does not answer as the model: the reason, and what it answers instead.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    pub reason: &'static str,
    /// None: the call cannot be made there.
    pub answer: Option<Result<(), Errno>>,
}

/// Something that answers calls.
pub trait Side {
    fn name(&self) -> &'static str;

    /// Makes the call and answers what it answered. Afterwards its tree must be the model's.
    fn make(&mut self, turn: &Turn<'_>) -> Result<(), Errno>;

    /// Where this side is known to answer otherwise.
    fn departs(&self, _turn: &Turn<'_>) -> Option<Departure> {
        None
    }

    /// Brings a tree from which its answer departed to what the model has.
    fn catch_up(&mut self, _turn: &Turn<'_>) {}

    /// All paths, directories' with a "/" at the end.
    fn look(&mut self, model: &Model) -> BTreeMap<Vec<u8>, Seen>;

    /// Its clock is the model's: all times are compared, not only those that a caller chose.
    fn exact(&self) -> bool {
        false
    }

    /// Its process was killed and started again.
    fn reopen(&mut self) {}

    /// Seals its tree, and goes on with a clone.
    fn seal(&mut self);

    /// Checks of its own, at the end.
    fn finish(&mut self) {}
}

/// A change time of the model, and the one that the side showed for it.
type Ctimes = HashMap<Id, (Time, Time)>;

/// The model and its sides.
pub struct Together<'a> {
    pub model: Model,
    pub sides: Vec<Box<dyn Side + 'a>>,
    /// Kills what the sides are served by and starts it again.
    pub restart: Box<dyn FnMut() + 'a>,
    ctimes: Vec<Ctimes>,
    /// Departures met, by reason.
    pub departed: BTreeMap<&'static str, usize>,
}

impl<'a> Together<'a> {
    pub fn new(model: Model, sides: Vec<Box<dyn Side + 'a>>) -> Together<'a> {
        let ctimes = sides.iter().map(|_| HashMap::new()).collect();
        Together {
            model,
            sides,
            restart: Box::new(|| ()),
            ctimes,
            departed: BTreeMap::new(),
        }
    }

    pub fn step(&mut self, step: &Step) {
        self.model.now.secs += step.later;
        match step.op {
            Op::Same => self.same("looked at"),
            Op::Reopen => self.reopen(),
            Op::Seal => self.seal(),
            _ => {
                let call = language::resolve(&self.model, step);
                let _ = self.call(&call);
            }
        }
    }

    /// The call on the model and on each side, which must answer alike.
    pub fn call(&mut self, call: &Call) -> Result<Id, Errno> {
        let before = self.model.clone();
        let outcome = self.model.apply(call);
        let turn = Turn {
            call,
            before: &before,
            after: &self.model,
            outcome,
        };
        for (side, ctimes) in self.sides.iter_mut().zip(&mut self.ctimes) {
            let departure = side.departs(&turn);
            let expected = match departure {
                None => outcome.map(drop),
                Some(d) => {
                    *self.departed.entry(d.reason).or_default() += 1;
                    match d.answer {
                        Some(answer) => answer,
                        None => {
                            // What was not done there has not changed.
                            outcome.ok().map(|id| ctimes.remove(&id));
                            side.catch_up(&turn);
                            continue;
                        }
                    }
                }
            };
            let answer = side.make(&turn);
            let name = side.name();
            assert_eq!(answer, expected, "{name}, then what is right: {call:?}");
            if departure.is_some() {
                side.catch_up(&turn);
            }
        }
        outcome
    }

    pub fn reopen(&mut self) {
        (self.restart)();
        for side in &mut self.sides {
            side.reopen();
        }
        self.same("reopened");
    }

    pub fn seal(&mut self) {
        for side in &mut self.sides {
            side.seal();
        }
        self.model.sealed();
        self.ctimes.iter_mut().for_each(HashMap::clear);
        self.same("sealed and cloned");
    }

    /// Every side's whole tree is the model's.
    pub fn same(&mut self, when: &str) {
        let paths = self.model.paths();
        for (side, ctimes) in self.sides.iter_mut().zip(&mut self.ctimes) {
            let seen = side.look(&self.model);
            let what = format!("{}, {when}", side.name());
            let (ours, theirs): (Vec<_>, Vec<_>) = (
                seen.keys().map(|p| shown(p)).collect(),
                paths.keys().map(|p| shown(p)).collect(),
            );
            assert_eq!(ours, theirs, "{what}: names, then what is right");
            let mut numbers = HashMap::new();
            for (path, id) in &paths {
                let what = format!("{what}: {}", shown(path));
                let found = &seen[path];
                let number = *numbers.entry(*id).or_insert(found.number);
                assert_eq!(number, found.number, "{what}: one file, one number");
                compare(&what, &self.model, *id, found, side.exact());
                forward(&what, ctimes, &self.model, *id, found.ctime);
            }
            let distinct: std::collections::HashSet<_> = numbers.values().collect();
            assert_eq!(
                distinct.len(),
                numbers.len(),
                "{what}: two files, one number"
            );
        }
    }

    pub fn finish(&mut self) {
        self.same("at the end");
        for side in &mut self.sides {
            side.finish();
        }
    }
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn compare(what: &str, model: &Model, id: Id, seen: &Seen, exact: bool) {
    let m = &model.nodes[&id];
    let ours = (seen.kind, seen.mode, seen.uid, seen.gid, seen.nlink);
    let theirs = (m.kind, m.mode, m.uid, m.gid, m.nlink);
    assert_eq!(
        ours, theirs,
        "{what}: kind, mode, owner, group, links, then what is right"
    );
    match m.kind {
        Kind::File => {
            assert_eq!(seen.size, m.data.len() as u64, "{what}: size");
            assert!(seen.data == m.data, "{what}: data");
        }
        Kind::Symlink => {
            assert_eq!(seen.size, m.target.len() as u64, "{what}: size");
            assert_eq!(seen.target, m.target, "{what}: target");
        }
        _ => {}
    }
    assert_eq!(seen.xattrs, m.xattrs, "{what}: extended attributes");
    if exact {
        let (ours, theirs) = ((seen.atime, seen.ctime), (m.atime, m.ctime));
        assert_eq!(ours, theirs, "{what}: atime and ctime");
    }
    if exact || m.given {
        assert_eq!(seen.mtime, m.mtime, "{what}: mtime");
    }
}

/// Clients take ctime for a change counter: it moves when something changed, and never back.
fn forward(what: &str, ctimes: &mut Ctimes, model: &Model, id: Id, seen: Time) {
    let now = model.nodes[&id].ctime;
    if let Some((before, shown)) = ctimes.insert(id, (now, seen)) {
        assert!(
            shown <= seen,
            "{what}: ctime went back from {shown:?} to {seen:?}"
        );
        assert!(
            before == now || shown < seen,
            "{what}: changed, and ctime is as before"
        );
    }
}
