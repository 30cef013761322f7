//! The store's volumes: their database is opened where there is one, and made with the first.

use parking_lot::Mutex;
use pocker_store::types::{Digest, Errno, Time};
use pocker_store::work::{SyncStats, WorkClass, WorkInfo, WorkTree, WorkUse, Works};
use pocker_store::{Store, StoreError};
use std::sync::{Arc, OnceLock};

/// In its label, between a volume's name, the token of the call that made it, whether it is shared, and
/// the token of the call that rolled it back last.
const NUL: u8 = 0;
/// Many may write to it at once.
const SHARED: &str = "shared";

fn label(name: &str, token: &str, shared: bool, rolled: &str) -> Vec<u8> {
    let shared = if shared { SHARED } else { "" };
    let mut parts = vec![name, token, shared, rolled];
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    let parts: Vec<&[u8]> = parts.into_iter().map(str::as_bytes).collect();
    parts.join(&NUL)
}

pub struct Volumes {
    store: Arc<Store>,
    works: OnceLock<Arc<Works>>,
    /// Held by who makes the database.
    making: Mutex<()>,
}

/// A volume as its label has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub id: u64,
    pub name: String,
    /// Of the call that made it, which may come again.
    pub token: String,
    pub shared: bool,
    /// Of the call that rolled it back last, which may come again too.
    pub rolled: String,
    pub base: Option<Digest>,
    pub created: Time,
}

impl Volume {
    fn of(info: &WorkInfo) -> Volume {
        let mut parts = info.label.splitn(4, |b| *b == NUL);
        let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        Volume {
            id: info.id,
            name: text(),
            token: text(),
            shared: text() == SHARED,
            rolled: text(),
            base: info.base,
            created: info.created,
        }
    }
}

impl Volumes {
    pub fn open(store: Arc<Store>) -> Result<Volumes, StoreError> {
        let works = OnceLock::new();
        if Works::has_volumes(&store) {
            let _ = works.set(Arc::new(Works::volumes(store.clone())?));
        }
        Ok(Volumes {
            store,
            works,
            making: Mutex::new(()),
        })
    }

    /// None before the first volume.
    pub fn works(&self) -> Option<&Arc<Works>> {
        self.works.get()
    }

    fn made(&self) -> Result<&Arc<Works>, StoreError> {
        let _one = self.making.lock();
        if let Some(works) = self.works.get() {
            return Ok(works);
        }
        let works = Arc::new(Works::volumes(self.store.clone())?);
        Ok(self.works.get_or_init(|| works))
    }

    pub fn list(&self) -> Vec<Volume> {
        let all = self.works().map(|works| works.list()).unwrap_or_default();
        all.iter().map(Volume::of).collect()
    }

    pub fn find(&self, name: &str) -> Option<Volume> {
        self.list().into_iter().find(|volume| volume.name == name)
    }

    pub fn create(
        &self,
        name: &str,
        token: &str,
        shared: bool,
        base: Option<Digest>,
        now: Time,
    ) -> Result<Arc<WorkTree>, Errno> {
        let works = self.made()?;
        let label = label(name, token, shared, "");
        works.create(base, WorkClass::Volume, &label, now)
    }

    pub fn remove(&self, id: u64) -> Result<(), Errno> {
        self.works().ok_or(Errno::Stale)?.drop_tree(id)
    }

    /// The volume is what `base` is from here on; `call` is known of it with that.
    pub fn roll_back(&self, volume: &Volume, base: Digest, call: &str) -> Result<(), Errno> {
        let label = label(&volume.name, &volume.token, volume.shared, call);
        let works = self.works().ok_or(Errno::Stale)?;
        works.roll_back_as(volume.id, base, Some(label)).map(drop)
    }

    /// Blobs that volumes have beside those of their bases.
    pub fn blobs(&self) -> Result<Vec<Digest>, Errno> {
        self.works().map_or(Ok(Vec::new()), |works| works.blobs())
    }

    pub fn tree(&self, id: u64) -> Result<Arc<WorkTree>, Errno> {
        self.works().ok_or(Errno::Stale)?.get(id)
    }

    pub fn usage(&self) -> WorkUse {
        self.works().map(|works| works.usage()).unwrap_or_default()
    }

    pub fn sync_stats(&self) -> SyncStats {
        let stats = self.works().map(|works| works.sync_stats());
        stats.unwrap_or_default()
    }
}
