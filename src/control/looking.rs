//! Looking into trees: the shapes of it, and the client's calls.

use super::client::{Client, ClientError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// Differences in one reply.
pub const DIFF_PAGE: usize = 20_000;

/// `GET /v1/diff/{old}/{new}?skip=N`: of two snapshots, a directory before what is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiffPage {
    /// [`DIFF_PAGE`] at most.
    pub entries: Vec<DiffEntry>,
    /// There are others after these.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffEntry {
    /// Bytes, relative to the root, whose own is empty.
    pub path: Vec<u8>,
    /// file, directory, symlink, fifo, socket, char or block.
    pub kind: String,
    pub change: Change,
    /// Of what changed: content, mode, owner, mtime, xattrs.
    pub parts: Vec<String>,
    /// Bytes of a regular file, before and after.
    pub before: u64,
    pub after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

/// `GET /v1/du`: what is on disk for sealed trees.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DiskUse {
    /// By name.
    pub pockers: Vec<PockerUse>,
    /// What pinned steps hold, whichever pocker's they are.
    pub pinned: u64,
    /// All of these, each content once.
    pub stored: u64,
    /// What live runs, and ended ones whose tree is kept, hold of their own.
    pub runs: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PockerUse {
    pub name: String,
    /// Bytes of the files of its last step, by name: what they would take unshared and unpacked.
    pub apparent: u64,
    /// What all its steps take on disk, each content once.
    pub stored: u64,
    /// Of this, what no other pocker and no pin has: `pocker rm` and `gc` give it back.
    pub own: u64,
    pub shared: u64,
    pub steps: Vec<StepUse>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepUse {
    pub key: String,
    pub instruction: String,
    pub apparent: u64,
    /// What it has on disk that no step before it has.
    pub added: u64,
}

/// What `gc --compress cold` packed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Packed {
    pub blobs: u64,
    /// Bytes on disk, before and after.
    pub before: u64,
    pub after: u64,
}

/// A tree that can be looked into, as a path of this API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeRef {
    /// By its digest.
    Snapshot(String),
    /// A run's or a build's, by its number.
    Work(u64),
    Volume(String),
}

impl std::fmt::Display for TreeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TreeRef::Snapshot(digest) => write!(f, "s{digest}"),
            TreeRef::Work(id) => write!(f, "w{id}"),
            TreeRef::Volume(name) => write!(f, "v{name}"),
        }
    }
}

impl std::str::FromStr for TreeRef {
    type Err = ();
    fn from_str(text: &str) -> Result<TreeRef, ()> {
        match text.split_at_checked(1).ok_or(())? {
            ("s", digest) => Ok(TreeRef::Snapshot(digest.to_owned())),
            ("w", id) => Ok(TreeRef::Work(id.parse().map_err(|_| ())?)),
            ("v", name) => Ok(TreeRef::Volume(name.to_owned())),
            _ => Err(()),
        }
    }
}

/// A node: `GET /v1/look/{tree}/stat?path=HEX&follow=BOOL`, and a line of
/// `GET /v1/look/{tree}/list?path=HEX&depth=N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Bytes, from the root without links; the root's own is empty.
    pub path: Vec<u8>,
    /// As in [`DiffEntry`].
    pub kind: String,
    /// 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// Bytes of a regular file or of a link's target; of a directory nothing that means something.
    pub size: u64,
    /// Seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// A symlink's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Vec<u8>>,
    /// Of a device, its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
}

impl NodeInfo {
    pub fn is_dir(&self) -> bool {
        self.kind == "directory"
    }

    /// Its own name; the root has none.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }
}

impl Client {
    /// What is at a path of a tree, links in it followed inside the tree; none where nothing is.
    pub fn stat(
        &self,
        tree: &TreeRef,
        path: &[u8],
        follow: bool,
    ) -> Result<Option<NodeInfo>, ClientError> {
        let path = hex::encode(path);
        self.get(&format!("/v1/look/{tree}/stat?path={path}&follow={follow}"))
    }

    /// All below a directory, itself first, as deep as is said, told one by one.
    pub fn list(
        &self,
        tree: &TreeRef,
        path: &[u8],
        depth: usize,
        each: impl FnMut(NodeInfo),
    ) -> Result<(), ClientError> {
        let path = hex::encode(path);
        self.lines(
            &format!("/v1/look/{tree}/list?path={path}&depth={depth}"),
            each,
        )
    }

    pub fn disk_use(&self) -> Result<DiskUse, ClientError> {
        self.get("/v1/du")
    }

    /// A file's bytes; how many.
    pub fn cat(
        &self,
        tree: &TreeRef,
        path: &[u8],
        out: &mut dyn Write,
    ) -> Result<u64, ClientError> {
        let path = hex::encode(path);
        self.download(&format!("/v1/look/{tree}/file?path={path}"), out)
    }

    /// What is at a path, and all below it, as tar: its entries begin with `name`.
    pub fn tar(
        &self,
        tree: &TreeRef,
        (path, follow): (&[u8], bool),
        name: &[u8],
        out: &mut dyn Write,
    ) -> Result<u64, ClientError> {
        let (path, name) = (hex::encode(path), hex::encode(name));
        let call = format!("/v1/look/{tree}/tar?path={path}&follow={follow}&name={name}");
        self.download(&call, out)
    }

    /// What a work tree changed of the tree that it was cloned from, as it is at one moment.
    pub fn changes(&self, tree: &TreeRef, each: impl FnMut(DiffEntry)) -> Result<(), ClientError> {
        self.lines(&format!("/v1/look/{tree}/diff"), each)
    }

    /// A reply that is a JSON value a line.
    fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        each: impl FnMut(T),
    ) -> Result<(), ClientError> {
        let mut lines = Lines {
            each,
            rest: Vec::new(),
            of: std::marker::PhantomData,
        };
        self.download(path, &mut lines)?;
        match lines.rest.is_empty() {
            true => Ok(()),
            false => Err(self.garbled("it ends in the middle of a line".to_owned())),
        }
    }

    /// How the snapshot `new` differs from `old`, told one by one.
    pub fn diff(
        &self,
        old: &str,
        new: &str,
        mut each: impl FnMut(&DiffEntry),
    ) -> Result<(), ClientError> {
        let mut skip = 0;
        loop {
            let page: DiffPage = self.get(&format!("/v1/diff/{old}/{new}?skip={skip}"))?;
            page.entries.iter().for_each(&mut each);
            skip += page.entries.len();
            if !page.more || page.entries.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Takes a stream apart into lines, each a JSON value.
struct Lines<T, F> {
    each: F,
    rest: Vec<u8>,
    of: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned, F: FnMut(T)> Write for Lines<T, F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut left = bytes;
        while let Some(end) = left.iter().position(|b| *b == b'\n') {
            self.rest.extend_from_slice(&left[..end]);
            (self.each)(serde_json::from_slice(&self.rest)?);
            self.rest.clear();
            left = &left[end + 1..];
        }
        self.rest.extend_from_slice(left);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
