//! A store as the one that sends.

use super::Want;
use crate::blob::SMALL;
use crate::error::StoreError;
use crate::store::Store;
use std::io::Read;

impl Store {
    /// Size and bytes of an object or blob, as they are in the store: whoever takes them checks them.
    pub fn give(&self, want: &Want) -> Result<(u64, Box<dyn Read + Send>), StoreError> {
        let digest = &want.digest;
        match want.blob {
            Some(size) if size > SMALL => {
                let file = self.blobs.open(digest)?;
                let path = || self.blobs.area.path(digest);
                let meta = file.metadata();
                let meta = meta.map_err(|e| StoreError::io("stat blob", &path(), e))?;
                Ok((meta.len(), Box::new(file)))
            }
            Some(_) => {
                let bytes = self.blobs.small(digest)?;
                Ok((bytes.len() as u64, Box::new(std::io::Cursor::new(bytes))))
            }
            None => {
                let bytes = self.objects.bytes("object", digest)?;
                Ok((bytes.len() as u64, Box::new(std::io::Cursor::new(bytes))))
            }
        }
    }
}
