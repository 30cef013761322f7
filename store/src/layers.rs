//! What is noted of the layers of images that were made of trees: records of the store's own kind, which go
//! with their trees.

use crate::error::StoreError;
use crate::index::Sync;
use crate::store::Store;
use crate::types::Digest;
use rusqlite::{OptionalExtension, Transaction};

const LAYER: &str = "layer";
/// So many are noted; some of them make room for more.
pub(crate) const LAYERS_MAX: usize = 16_384;
/// How many go at once.
const ROOM: usize = 64;
/// Bytes of a digest.
const DIGEST: usize = 32;

/// Names a layer: the tree that it makes, the tree that it lies on, and in what form it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerId {
    pub tree: Digest,
    pub below: Option<Digest>,
    pub form: Vec<u8>,
}

impl LayerId {
    fn bytes(&self) -> Vec<u8> {
        let below = self.below.map_or([0; DIGEST], |below| below.0);
        [&self.tree.0[..], &below[..], &self.form].concat()
    }
}

impl Store {
    /// What was noted of a layer, in the caller's own bytes.
    pub fn layer(&self, id: &LayerId) -> Result<Option<Vec<u8>>, StoreError> {
        self.index.record(LAYER, &id.bytes())
    }

    /// False where the store does not have the trees. Not synced: what a crash forgets is found again.
    pub fn note_layer(&self, id: &LayerId, said: &[u8]) -> Result<bool, StoreError> {
        self.note_layer_within(id, said, LAYERS_MAX)
    }

    pub(crate) fn note_layer_within(
        &self,
        id: &LayerId,
        said: &[u8],
        most: usize,
    ) -> Result<bool, StoreError> {
        let bytes = said.len() as u64;
        self.index.write("note a layer", Sync::Ordered, bytes, |tx| {
            for tree in std::iter::once(id.tree).chain(id.below) {
                if !there(tx, &tree)? {
                    return Ok(false);
                }
            }
            let known: i64 = tx
                .prepare_cached("SELECT count(*) FROM record WHERE kind = ?1")?
                .query_row([LAYER], |row| row.get(0))?;
            if known >= most as i64 {
                let some = "DELETE FROM record WHERE kind = ?1 AND id IN \
                     (SELECT id FROM record WHERE kind = ?1 AND id <> ?2 ORDER BY random() LIMIT ?3)";
                tx.execute(some, (LAYER, id.bytes(), ROOM as i64))?;
            }
            tx.prepare_cached("INSERT OR REPLACE INTO record (kind, id, bytes) VALUES (?1, ?2, ?3)")?
                .execute((LAYER, id.bytes(), said))?;
            Ok(true)
        })
    }

    /// After a collection: of trees that are gone.
    pub(crate) fn forget_layers(&self) -> Result<(), StoreError> {
        self.index.write("forget layers", Sync::Ordered, 0, |tx| {
            let gone = "DELETE FROM record WHERE kind = ?1 AND (\
                     substr(id, 1, ?2) NOT IN (SELECT digest FROM snapshot) OR \
                     (substr(id, ?2 + 1, ?2) <> zeroblob(?2) AND \
                      substr(id, ?2 + 1, ?2) NOT IN (SELECT digest FROM snapshot)))";
            tx.execute(gone, (LAYER, DIGEST as i64)).map(drop)
        })
    }
}

fn there(tx: &Transaction<'_>, tree: &Digest) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM snapshot WHERE digest = ?1")?
        .query_row([&tree.0], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}
