//! A store as the one that receives.

use super::{Room, Want};
use crate::batch::Batch;
use crate::blob::SMALL;
use crate::error::StoreError;
use crate::index::Step;
use crate::object::{BodyRef, Counts, DirObject, Malformed, ObjectSink, SnapshotData};
use crate::store::Store;
use crate::types::Digest;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes after which what was received is made durable, so that the next try finds it.
const DURABLE_BYTES: u64 = 64 << 20;
/// Things after which it is.
const DURABLE_COUNT: u64 = 4096;
/// Time after which it is: of a slow line little is lost either.
const DURABLE_TIME: Duration = Duration::from_secs(2);

/// What one transfer has brought so far, and what of the store it rests on: no collection takes
/// that as long as this is held.
pub struct Receipt {
    store: Arc<Store>,
    batch: Option<Batch>,
    /// When it was last made durable.
    settled: Instant,
    /// Received since.
    bytes: u64,
    count: u64,
    held: HashSet<Digest>,
    /// How many may be held, and beside others' receipts.
    most: usize,
    room: Option<Arc<Room>>,
    /// Blobs stay with the upstream until they are read.
    lazy: bool,
    promises: Vec<(Digest, u64)>,
    /// Objects that are here with all below them.
    whole: HashMap<Digest, Counts>,
}

/// A reference to a directory, a page of one or a blob.
enum Below {
    Dir(Digest, Counts),
    Blob(Digest),
}

impl Receipt {
    pub fn new(store: Arc<Store>) -> Receipt {
        Receipt {
            store,
            batch: None,
            settled: Instant::now(),
            bytes: 0,
            count: 0,
            held: HashSet::new(),
            most: usize::MAX,
            room: None,
            lazy: false,
            promises: Vec::new(),
            whole: HashMap::new(),
        }
    }

    /// Takes directories only: this store's upstream has the blobs.
    pub fn lazy(store: Arc<Store>) -> Receipt {
        let mut receipt = Receipt::new(store);
        receipt.lazy = true;
        receipt
    }

    /// It speaks of so many files and directories at most, and with others of no more than there is room for.
    pub fn within(mut self, most: usize, room: Option<Arc<Room>>) -> Receipt {
        (self.most, self.room) = (most, room);
        self
    }

    /// Before it is looked for, so that it is either seen and stays, or not seen.
    fn hold(&mut self, digest: Digest) -> Result<(), StoreError> {
        if self.held.contains(&digest) {
            return Ok(());
        }
        if self.held.len() >= self.most {
            return Err(StoreError::TooMany { most: self.most });
        }
        if let Some(room) = &self.room
            && !room.take()
        {
            return Err(StoreError::NoRoom { most: room.most });
        }
        self.held.insert(digest);
        self.store.pins.pin(digest);
        Ok(())
    }

    fn has_blob(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        self.hold(*digest)?;
        if !self.lazy {
            // Wanted whole: it is not to go again.
            self.store.blobs.own(digest)?;
        }
        Ok(self.store.blobs.has(digest)?
            || (self.lazy && self.store.index.promised(digest)?.is_some()))
    }

    /// True where it is not here, or something below it is not.
    pub fn lacks(&mut self, want: &Want) -> Result<bool, StoreError> {
        // What waits to be made durable is not seen, and sent again at worst.
        match want.blob {
            Some(size) => {
                let lacks = !self.has_blob(&want.digest)?;
                if lacks && self.lazy {
                    self.promises.push((want.digest, size));
                    self.count += 1;
                    if self.promises.len() as u64 >= DURABLE_COUNT {
                        self.settle()?;
                    }
                }
                Ok(lacks && !self.lazy)
            }
            None => Ok(self.whole(want.digest)?.is_none()),
        }
    }

    /// The store has a step of this key, with its tree; it stays.
    pub fn has_step(&mut self, key: Digest) -> Result<bool, StoreError> {
        self.hold(key)?;
        let Some(step) = self.store.step(&key)? else {
            return Ok(false);
        };
        if self.store.is_lost(&key)? {
            return Ok(false);
        }
        // What is only promised may be wanted whole now.
        Ok(self.lazy || !self.store.index.has_promises()? || self.whole(step.snapshot)?.is_some())
    }

    /// The counts of an object that is here with all below it.
    fn whole(&mut self, root: Digest) -> Result<Option<Counts>, StoreError> {
        let mut path: Vec<(Digest, Counts, Vec<Below>)> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(digest) = next.take()
                && !self.whole.contains_key(&digest)
            {
                let Some((counts, below)) = self.open(digest)? else {
                    return Ok(None);
                };
                path.push((digest, counts, below));
            }
            let Some((digest, counts, below)) = path.last_mut() else {
                return Ok(self.whole.get(&root).copied());
            };
            match below.pop() {
                None => {
                    self.whole.insert(*digest, *counts);
                    path.pop();
                }
                Some(Below::Blob(blob)) => {
                    if !self.has_blob(&blob)? {
                        return Ok(None);
                    }
                }
                Some(Below::Dir(dir, says)) => match self.whole.get(&dir) {
                    Some(found) if *found != says => {
                        let why = Malformed::new("directory", 0, "counts contradict what is below");
                        return Err(StoreError::corrupt(*digest, why));
                    }
                    Some(_) => {}
                    None => {
                        // Looked at again, for its counts, when all below it is.
                        below.push(Below::Dir(dir, says));
                        next = Some(dir);
                    }
                },
            }
        }
    }

    /// What an object says of itself and refers to; none where it is not here.
    fn open(&mut self, digest: Digest) -> Result<Option<(Counts, Vec<Below>)>, StoreError> {
        self.hold(digest)?;
        let bytes = match self.store.objects.bytes("object", &digest) {
            Ok(bytes) => bytes,
            // One that rotted is sent again; that does not mend it, and the end says so.
            Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        below(digest, bytes).map(Some)
    }

    /// Takes an object or a blob, whose bytes have to be those of its digest.
    pub fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), StoreError> {
        let differs = |found: u64| StoreError::BlobSize {
            digest: want.digest,
            expected: want.limit(),
            found,
        };
        self.hold(want.digest)?;
        let store = self.store.clone();
        let batch = self.batch.get_or_insert_with(|| store.write_batch());
        let limit = want.limit();
        let (found, size) = if want.blob.is_some_and(|size| size > SMALL) {
            let staged = store.blobs().stage(&mut bytes.take(limit + 1), limit + 1)?;
            if staged.size != limit {
                return Err(differs(staged.size));
            }
            if staged.digest == want.digest {
                batch.put_staged(staged)?;
                (want.digest, limit)
            } else {
                (staged.digest, limit)
            }
        } else {
            let mut all = Vec::new();
            let read = bytes.take(limit + 1).read_to_end(&mut all);
            read.map_err(StoreError::Input)?;
            let size = all.len() as u64;
            if size > limit || want.blob.is_some_and(|says| says != size) {
                return Err(differs(size));
            }
            let found = crate::object::digest_of(&all);
            if found == want.digest && want.blob.is_some() {
                batch.put_small_blob(all)?;
            } else if found == want.digest {
                crate::object::validate(&all).map_err(|e| StoreError::corrupt(found, e))?;
                batch.put_object(all)?;
            }
            (found, size)
        };
        if found != want.digest {
            return Err(StoreError::Differs {
                digest: want.digest,
                found,
            });
        }
        self.bytes += size;
        self.count += 1;
        let much = self.bytes >= DURABLE_BYTES || self.count >= DURABLE_COUNT;
        if much || self.settled.elapsed() >= DURABLE_TIME {
            self.settle()?;
        }
        Ok(())
    }

    /// Makes what was received durable.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        (self.bytes, self.count) = (0, 0);
        self.settled = Instant::now();
        if !self.promises.is_empty() {
            self.store
                .index
                .promise(&std::mem::take(&mut self.promises))?;
        }
        match self.batch.take() {
            Some(batch) => batch.commit().map(drop),
            None => Ok(()),
        }
    }

    /// Makes these steps known, at once. All of their trees have to be here. One whose key the store
    /// has stays what it is, unless it has lost something of its tree.
    pub fn steps(&mut self, steps: &[Step]) -> Result<(), StoreError> {
        self.settle()?;
        for step in steps {
            self.hold(step.key)?;
            if self.whole(step.snapshot)?.is_none() {
                return Err(StoreError::Missing {
                    kind: "part of the tree",
                    digest: step.snapshot,
                });
            }
        }
        let mut batch = self.store.write_batch();
        for step in steps {
            let data = self.store.objects.snapshot(&step.snapshot)?;
            let found = batch.put_snapshot(&data)?;
            if found != step.snapshot {
                return Err(StoreError::Differs {
                    digest: step.snapshot,
                    found,
                });
            }
            match self.store.is_lost(&step.key)? {
                true => batch.replace_step(step.clone())?,
                false => batch.put_step(step.clone())?,
            }
        }
        batch.commit().map(drop)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // What had come when it was given up is there for the next try.
        let _ = self.settle();
        if let Some(room) = &self.room {
            room.give(self.held.len());
        }
        self.store
            .pins
            .release(self.held.drain(), std::iter::empty());
    }
}

fn below(digest: Digest, bytes: Vec<u8>) -> Result<(Counts, Vec<Below>), StoreError> {
    let corrupt = |e| StoreError::corrupt(digest, e);
    if crate::object::is_snapshot(&bytes) {
        let data = SnapshotData::parse(&bytes).map_err(corrupt)?;
        let root = Below::Dir(data.root_dir, data.counts);
        return Ok((data.counts, vec![root]));
    }
    let dir = DirObject::parse(bytes).map_err(corrupt)?;
    let mut out = Vec::new();
    match &dir {
        DirObject::Index(index) => out.extend((0..index.len()).map(|at| {
            let page = index.page(at);
            Below::Dir(page.digest, page.counts)
        })),
        DirObject::Page(page) => {
            for slot in 0..page.len() {
                match page.entry(slot).map(|e| e.body) {
                    Some(BodyRef::Dir { digest, counts }) => out.push(Below::Dir(digest, counts)),
                    Some(BodyRef::File { blob, .. }) => out.push(Below::Blob(blob)),
                    _ => {}
                }
            }
        }
    }
    Ok((dir.counts(), out))
}
