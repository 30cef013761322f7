//! The way of trees from a source to a sink.

use super::{Named, Sink, Source, SyncError, Want};
use crate::object::{BodyRef, DirObject, Malformed, SnapshotData};
use crate::types::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read};

/// Asked for at once.
const BATCH: usize = 1024;
/// Bytes of blobs that are asked for at once.
const BATCH_BYTES: u64 = 16 << 20;
/// Bytes of objects that wait in memory: their blobs come first.
const OBJECTS_MAX: usize = 1 << 30;

/// What went over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub objects: u64,
    pub blobs: u64,
    pub bytes: u64,
    /// Steps that the sink took, and those that it had.
    pub steps: u64,
    pub had: u64,
}

/// A directory or snapshot that the sink lacks.
struct Held {
    bytes: Vec<u8>,
    below: Vec<Digest>,
}

struct Transfer<'a> {
    source: &'a mut dyn Source,
    sink: &'a mut dyn Sink,
    /// A file may hold the bytes of a directory: they are two things.
    seen: HashSet<(Digest, bool)>,
    objects: VecDeque<Digest>,
    blobs: Vec<Want>,
    held: HashMap<Digest, Held>,
    held_bytes: usize,
    held_max: usize,
    sent: Sent,
}

/// Brings the pocker from `source` to `sink`.
pub fn transfer(
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    named: &Named,
) -> Result<Sent, SyncError> {
    transfer_within(OBJECTS_MAX, source, sink, named)
}

/// With so many bytes of objects in memory.
pub(super) fn transfer_within(
    held_max: usize,
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    named: &Named,
) -> Result<Sent, SyncError> {
    let wanted = sink.begin(named)?;
    let mut roots = Vec::new();
    let mut sent = Sent::default();
    for (step, wanted) in named.steps.iter().zip(wanted) {
        match wanted {
            true => roots.push(step.snapshot),
            false => sent.had += 1,
        }
    }
    sent.steps = roots.len() as u64;
    let mut transfer = Transfer {
        source,
        sink,
        seen: HashSet::new(),
        objects: VecDeque::new(),
        blobs: Vec::new(),
        held: HashMap::new(),
        held_bytes: 0,
        held_max,
        sent,
    };
    for root in &roots {
        transfer.refer(*root);
    }
    transfer.look()?;
    for root in roots {
        transfer.send_objects(root)?;
    }
    transfer.sink.finish(named)?;
    Ok(transfer.sent)
}

impl Transfer<'_> {
    fn refer(&mut self, object: Digest) {
        if self.seen.insert((object, false)) {
            self.objects.push_back(object);
        }
    }

    /// Finds what the sink lacks, and sends the blobs of it.
    fn look(&mut self) -> Result<(), SyncError> {
        while !self.objects.is_empty() {
            let many = self.objects.len().min(BATCH);
            let asked: Vec<Want> = self.objects.drain(..many).map(Want::object).collect();
            let lacking = self.lacking(asked)?;
            self.take_objects(&lacking)?;
            self.send_blobs(BATCH)?;
        }
        self.send_blobs(1)
    }

    fn lacking(&mut self, asked: Vec<Want>) -> Result<Vec<Want>, SyncError> {
        let lacks = self.sink.lacks(&asked)?;
        let pairs = asked.into_iter().zip(lacks);
        Ok(pairs.filter_map(|(w, lacks)| lacks.then_some(w)).collect())
    }

    fn take_objects(&mut self, wants: &[Want]) -> Result<(), SyncError> {
        let mut got = Vec::with_capacity(wants.len());
        if !wants.is_empty() {
            let (held, most) = (&mut self.held_bytes, self.held_max);
            self.source.fetch(wants, &mut |want, bytes| {
                let mut all = Vec::new();
                let mut bytes = Checked::of(want, bytes);
                let left = most - *held;
                // Bounded before it is in memory.
                let read = (&mut bytes).take(left as u64 + 1).read_to_end(&mut all);
                read.map_err(|e| bytes.blamed().unwrap_or_else(|| unreadable(want, e)))?;
                if all.len() > left {
                    let tried = format!("the directories alone are more than {most} bytes");
                    return Err(SyncError::new(tried)
                        .hint("a tree of fewer files, or with shorter names, can be sent"));
                }
                *held += all.len();
                got.push((want.digest, all));
                Ok(())
            })?;
        }
        expect(wants.len(), got.len())?;
        for (digest, bytes) in got {
            let mut blobs = Vec::new();
            let below = below(&bytes, &mut blobs).map_err(|e| {
                SyncError::because(format!("the source's object {digest} is damaged"), e)
                    .hint("`pocker fsck` on the source says what else is")
            })?;
            below.iter().for_each(|d| self.refer(*d));
            for want in blobs {
                if self.seen.insert((want.digest, true)) {
                    self.blobs.push(want);
                }
            }
            self.held.insert(digest, Held { bytes, below });
        }
        Ok(())
    }

    /// Where at least so many wait.
    fn send_blobs(&mut self, least: usize) -> Result<(), SyncError> {
        if self.blobs.len() < least {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.blobs);
        for asked in waiting.chunks(BATCH) {
            let lacking = self.lacking(asked.to_vec())?;
            let mut rest = &lacking[..];
            while !rest.is_empty() {
                let mut bytes = 0;
                let fits = |w: &&Want| {
                    bytes += w.limit();
                    bytes <= BATCH_BYTES
                };
                let many = rest.iter().take_while(fits).count().max(1);
                self.send(&rest[..many])?;
                rest = &rest[many..];
            }
        }
        Ok(())
    }

    fn send(&mut self, wants: &[Want]) -> Result<(), SyncError> {
        let (sink, sent) = (&mut *self.sink, &mut self.sent);
        let before = sent.blobs;
        self.source.fetch(wants, &mut |want, bytes| {
            let mut bytes = Checked::of(want, bytes);
            let put = sink.put(want, &mut bytes);
            // Where the source failed the sink only says that it could not read.
            put.map_err(|e| bytes.blamed().unwrap_or(e))?;
            sent.blobs += 1;
            sent.bytes += want.limit();
            Ok(())
        })?;
        expect(wants.len(), (sent.blobs - before) as usize)
    }

    /// What is below an object before it.
    fn send_objects(&mut self, root: Digest) -> Result<(), SyncError> {
        let mut path = vec![(root, false)];
        while let Some((digest, ready)) = path.pop() {
            if !ready {
                if let Some(held) = self.held.get(&digest) {
                    path.push((digest, true));
                    path.extend(held.below.iter().map(|d| (*d, false)));
                }
                continue;
            }
            // Reached on two ways, it was sent the first time.
            let Some(held) = self.held.remove(&digest) else {
                continue;
            };
            let want = Want::object(digest);
            self.sink.put(&want, &mut &held.bytes[..])?;
            self.sent.objects += 1;
            self.sent.bytes += held.bytes.len() as u64;
        }
        Ok(())
    }
}

fn expect(wanted: usize, got: usize) -> Result<(), SyncError> {
    match wanted == got {
        true => Ok(()),
        false => Err(SyncError::new(format!(
            "the source gave {got} of {wanted} objects that were asked for"
        ))),
    }
}

/// What an object refers to: objects, and blobs to `blobs`.
pub fn below(bytes: &[u8], blobs: &mut Vec<Want>) -> Result<Vec<Digest>, Malformed> {
    if crate::object::is_snapshot(bytes) {
        return Ok(vec![SnapshotData::parse(bytes)?.root_dir]);
    }
    let mut out = Vec::new();
    match DirObject::parse(bytes.to_vec())? {
        DirObject::Index(index) => out.extend((0..index.len()).map(|at| index.digest(at))),
        DirObject::Page(page) => {
            for slot in 0..page.len() {
                match page.entry(slot).map(|e| e.body) {
                    Some(BodyRef::Dir { digest, .. }) => out.push(digest),
                    Some(BodyRef::File { blob, size }) => blobs.push(Want::blob(blob, size)),
                    _ => {}
                }
            }
        }
    }
    Ok(out)
}

fn unreadable(want: &Want, e: io::Error) -> SyncError {
    SyncError::because(format!("cannot take {} from the source", want.digest), e)
        .hint("run the command again: it goes on after what was sent")
}

/// Fails at its end where the bytes are not those of the digest, or not as many.
struct Checked<'a> {
    want: Want,
    bytes: &'a mut dyn Read,
    hash: Option<Sha256>,
    size: u64,
    failed: Option<SyncError>,
}

impl<'a> Checked<'a> {
    fn of(want: &Want, bytes: &'a mut dyn Read) -> Checked<'a> {
        Checked {
            want: *want,
            bytes,
            hash: Some(Sha256::new()),
            size: 0,
            failed: None,
        }
    }

    /// What was wrong with the source, if something was.
    fn blamed(&mut self) -> Option<SyncError> {
        self.failed.take()
    }

    fn damaged(&mut self, why: String) -> io::Result<usize> {
        let error = io::Error::new(io::ErrorKind::InvalidData, why.clone());
        let tried = format!("the source's {} is damaged", self.want.digest);
        self.failed = Some(SyncError::because(tried, why).hint(
            "of a store `pocker fsck` says what else is; an object store gets it anew under another prefix",
        ));
        Err(error)
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.hash.is_none() || out.is_empty() {
            return Ok(0);
        }
        let got = match self.bytes.read(out) {
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                let kind = e.kind();
                self.failed = Some(unreadable(&self.want, e));
                return Err(kind.into());
            }
        };
        self.size += got as u64;
        let limit = self.want.limit();
        if self.size > limit {
            return self.damaged(format!("it has more than {limit} bytes"));
        }
        if got > 0 {
            if let Some(hash) = &mut self.hash {
                hash.update(&out[..got]);
            }
            return Ok(got);
        }
        if self.want.blob.is_some_and(|size| size != self.size) {
            let has = self.size;
            return self.damaged(format!(
                "it has {has} bytes where its directory says {limit}"
            ));
        }
        let found = self.hash.take().map(|hash| Digest(hash.finalize().into()));
        match found {
            Some(found) if found != self.want.digest => {
                self.damaged(format!("its bytes are those of {found}"))
            }
            _ => Ok(0),
        }
    }
}
