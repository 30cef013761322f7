//! `pocker store backup`: the store's backup, in the words of the control socket.

use super::docs::{Doc, RunDoc, TreeDoc};
use super::fail::{Fail, Outcome};
use super::privileges;
use super::state::Daemon;
use crate::control::api::{BackupDone, MountRecord};
use pocker_store::types::Digest;
use pocker_store::{BackupOptions, StoreError};
use std::path::Path;

impl Daemon {
    /// Copies the store to `dir` while everything else goes on.
    pub fn backup(&self, dir: &str) -> Outcome<BackupDone> {
        let dir = Path::new(dir);
        if !dir.is_absolute() {
            return Err(Fail::bad("a backup's folder is named from the root on"));
        }
        let Some(within) = privileges::reached(&self.options, dir) else {
            let backups = privileges::backups(&self.options);
            let backups = backups.display();
            return Err(Fail::bad(format!(
                "the server reaches no folder for backups but those below {backups}"
            ))
            .hint(format!(
                "pocker store backup {backups}/pocker, and copy it from there"
            )));
        };
        self.note_uses();
        let options = BackupOptions {
            volumes: self.exports.volumes.works().map(|works| &**works),
            // Processes and mounts of this host, and trees that are not copied.
            leave: &[TreeDoc::KIND, RunDoc::KIND, MountRecord::KIND],
        };
        let done = self.store.backup(&within, &options).map_err(|e| match e {
            StoreError::NotABackup { .. } => Fail::bad(e.to_string())
                .hint("give a folder that is new, empty, or has this store's backups"),
            e => Fail::caring(format!("cannot back up to {}", dir.display()), e),
        })?;
        let hex = |digests: &[Digest]| digests.iter().map(Digest::to_string).collect();
        Ok(BackupDone {
            path: match self.options.user {
                Some(_) => dir.display().to_string(),
                None => done.path.display().to_string(),
            },
            volumes: done.volumes,
            blobs: done.blobs,
            copied: done.copied,
            copied_bytes: done.copied_bytes,
            rotted: hex(&done.rotted),
            missing: hex(&done.missing),
            promised: done.promised,
        })
    }
}
