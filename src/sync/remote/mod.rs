//! An object store that keeps pockers: S3, Google's, Azure's, or a folder.
//!
//! ```text
//! PREFIX/pocker-store          {"format":1}
//! PREFIX/names/NAME            what NAME is, and the packs its steps' trees begin in
//! PREFIX/packs/aa/aabb…        a pack: objects and blobs up to 1 MiB, back to back
//! PREFIX/tables/aabb…          what is in the pack of that name ([`pack`])
//! PREFIX/large/aa/aabb…        a blob beyond that
//! ```
//! A pack counts once its table is there, and its table is put when all that its objects refer to is.
//! So what a table lists is whole, whoever died when. Nothing is ever written twice but a name.

mod error;
mod open;
mod pack;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod upstream;

pub use open::SCHEMES;
pub use upstream::Fetcher;

use super::named::NamedInfo;
use bytes::Bytes;
use error::failed;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use pack::{Places, Table};
use parking_lot::RwLock;
use pocker_store::sync::SyncError;
use pocker_store::types::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The layout this program writes and the newest it reads.
const FORMAT: u32 = 1;
/// Blobs up to this size are packed.
const PACKED_MAX: u64 = 1 << 20;
/// A marker, or what a name stands for, is smaller.
const TEXT_MAX: u64 = 8 << 20;
/// Packs that are known at once: 1 TiB of small things.
const PACKS_MAX: usize = 1 << 17;
/// Things in all of them, of which each takes some 150 bytes of memory.
const THINGS_MAX: usize = 1 << 24;
/// Blobs that are in no pack.
const LARGE_MAX: usize = 1 << 22;
/// Names of pockers at one place.
const NAMES_MAX: usize = 1 << 17;
/// Slower than so many bytes a second, beside the deadline, a read of a large file ends.
const SLOWEST: u64 = 256 << 10;
/// Requests under way at once.
const AT_ONCE: usize = 16;

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
}

/// What is kept under a name.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    #[serde(flatten)]
    named: NamedInfo,
    /// Those whose tables list the steps' snapshots.
    packs: Vec<String>,
}

/// A runtime that may end inside another one.
struct Background(Option<tokio::runtime::Runtime>);

impl Background {
    fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(runtime) => runtime.block_on(what),
            None => unreachable!("it ends when this is dropped"),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is believed of a place, and how patiently.
struct Bounds {
    packs: usize,
    things: usize,
    slowest: u64,
}

/// Pockers in an object store.
pub struct Remote {
    runtime: Background,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As it was named.
    place: String,
    places: RwLock<Places>,
    /// How long one request may take in all; none: as long as it goes on.
    deadline: Option<Duration>,
    /// Packs, things in them, and bytes a second of what has a deadline.
    bounds: Bounds,
    writer: sink::Writer,
}

impl Remote {
    /// `create`: to be sent to.
    pub fn open(url: &str, create: bool) -> Result<Remote, SyncError> {
        let opened = open::open(url, create).map_err(|e| e.sync(url))?;
        Remote::over(opened.store, opened.prefix, url)
    }

    fn over(store: Arc<dyn ObjectStore>, prefix: Path, place: &str) -> Result<Remote, SyncError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Ok(Remote {
            runtime: Background(Some(
                runtime.map_err(|e| SyncError::because("cannot start", e))?,
            )),
            store,
            prefix,
            place: place.to_owned(),
            places: RwLock::default(),
            deadline: None,
            bounds: Bounds {
                packs: PACKS_MAX,
                things: THINGS_MAX,
                slowest: SLOWEST,
            },
            writer: sink::Writer::default(),
        })
    }

    fn wait<T>(
        &self,
        what: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        self.runtime.block_on(async {
            let Some(deadline) = self.deadline else {
                return what.await;
            };
            let timed = tokio::time::timeout(deadline, what).await;
            timed.unwrap_or_else(|_| {
                let source = format!("no answer within {} s", deadline.as_secs());
                Err(object_store::Error::Generic {
                    store: "upstream",
                    source: source.into(),
                })
            })
        })
    }

    fn path(&self, parts: &[&str]) -> Path {
        parts
            .iter()
            .fold(self.prefix.clone(), |path, part| path.join(*part))
    }

    fn by_digest(&self, kind: &str, digest: &Digest) -> Path {
        let hex = digest.to_string();
        self.path(&[kind, &hex[..2], &hex])
    }

    fn table_path(&self, pack: &Digest) -> Path {
        self.path(&["tables", &pack.to_string()])
    }

    fn failed<'a>(&'a self, tried: &'a str) -> impl Fn(object_store::Error) -> SyncError + 'a {
        move |e| failed(&self.place, tried, e)
    }

    fn damaged(&self, what: &Path, why: impl std::fmt::Display) -> SyncError {
        SyncError::because(
            format!("{}: {what} is damaged", self.place),
            why.to_string(),
        )
        .hint("sync the pocker again from a store that has it, to another prefix")
    }

    /// A small object; none where it is not there.
    fn text(&self, path: &Path) -> Result<Option<Bytes>, SyncError> {
        let tried = format!("read {path}");
        let got = self.wait(async {
            let got = match self.store.get(path).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                got => got?,
            };
            let size = got.meta.size;
            let bytes = (size <= TEXT_MAX).then_some(got);
            Ok(match bytes {
                Some(got) => Some(Ok(got.bytes().await?)),
                None => Some(Err(size)),
            })
        });
        match got.map_err(self.failed(&tried))? {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(size)) => Err(self.damaged(path, format!("it has {size} bytes"))),
        }
    }

    /// False where nothing was ever sent there.
    fn is_ours(&self) -> Result<bool, SyncError> {
        let path = self.path(&["pocker-store"]);
        let Some(text) = self.text(&path)? else {
            return Ok(false);
        };
        let marker: Marker = serde_json::from_slice(&text).map_err(|e| self.damaged(&path, e))?;
        match marker.format {
            FORMAT => Ok(true),
            newer => Err(SyncError::new(format!(
                "{} has the layout {newer}; this program knows {FORMAT}",
                self.place
            ))
            .hint("a newer pocker wrote it: use that one, or another prefix")),
        }
    }

    /// What is known under the name; none where there is nothing.
    fn entry(&self, name: &str) -> Result<Option<Entry>, SyncError> {
        let path = self.path(&["names", name]);
        let Some(text) = self.text(&path)? else {
            return Ok(None);
        };
        let entry: Entry = serde_json::from_slice(&text).map_err(|e| self.damaged(&path, e))?;
        match entry.named.name == name && entry.format == FORMAT {
            true => Ok(Some(entry)),
            false => Err(self.damaged(&path, "it is of another name or format")),
        }
    }

    /// Learns what these packs hold, and with `all` what those hold that they rest on.
    fn learn(&self, packs: Vec<Digest>, all: bool) -> Result<(), SyncError> {
        let mut asked: HashSet<Digest> = packs.iter().copied().collect();
        let mut todo = packs;
        todo.retain(|pack| !self.places.read().knows(pack));
        while !todo.is_empty() {
            let rest = todo.split_off(todo.len().min(AT_ONCE));
            let now = std::mem::replace(&mut todo, rest);
            for (pack, table) in self.tables(now)? {
                let (packs, things) = self.places.read().counts();
                self.bounded("packs", packs + 1, self.bounds.packs)?;
                self.bounded("files", things + table.things.len(), self.bounds.things)?;
                self.places.write().add(pack, &table);
                let rests_on = table.rests_on.into_iter().filter(|_| all);
                todo.extend(rests_on.filter(|pack| asked.insert(*pack)));
                self.bounded("packs", asked.len(), self.bounds.packs)?;
            }
            todo.retain(|pack| !self.places.read().knows(pack));
        }
        Ok(())
    }

    fn bounded(&self, what: &str, found: usize, most: usize) -> Result<(), SyncError> {
        match found <= most {
            true => Ok(()),
            false => Err(
                SyncError::new(format!("{} has more than {most} {what}", self.place))
                    .hint("sync what is wanted of it to another prefix"),
            ),
        }
    }

    fn tables(&self, packs: Vec<Digest>) -> Result<Vec<(Digest, Table)>, SyncError> {
        let get = |pack: Digest| {
            let path = self.table_path(&pack);
            let store = self.store.clone();
            async move {
                let got = store.get(&path).await?;
                let bytes = match got.meta.size <= pack::TABLE_MAX as u64 {
                    true => got.bytes().await?,
                    false => Bytes::new(),
                };
                Ok((pack, path, bytes))
            }
        };
        let gets = futures_util::stream::iter(packs)
            .map(get)
            .buffer_unordered(AT_ONCE);
        let got: Result<Vec<(Digest, Path, Bytes)>, object_store::Error> =
            self.wait(gets.try_collect());
        let got = got.map_err(self.failed("read what a pack holds"))?;
        got.into_iter()
            .map(|(pack, path, bytes)| {
                let table = Table::decode(&bytes).map_err(|why| self.damaged(&path, why))?;
                Ok((pack, table))
            })
            .collect()
    }

    /// The names' last parts of all packs' tables.
    fn all_packs(&self) -> Result<Vec<Digest>, SyncError> {
        let all = self.list("tables", self.bounds.packs, |name| name.parse().ok())?;
        self.bounded("packs", all.len(), self.bounds.packs)?;
        Ok(all)
    }

    /// Of the objects below, one more than `most` at the most.
    fn list<T: Send>(
        &self,
        below: &str,
        most: usize,
        named: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, SyncError> {
        let below = self.path(&[below]);
        let list = self.store.list(Some(&below));
        let one = |meta: object_store::ObjectMeta| {
            let one = meta.location.filename().and_then(&named);
            async move { Ok(one) }
        };
        let all = self.wait(list.try_filter_map(one).take(most + 1).try_collect());
        all.map_err(self.failed("list what is there"))
    }
}
