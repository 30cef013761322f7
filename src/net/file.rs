//! A file that a run sees below /etc: made in the socket directory, and there until it is mounted.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Removed with the value: a mount of it stays.
pub struct EtcFile(PathBuf);

impl EtcFile {
    pub(super) fn make(dir: &Path, kind: &str, text: &[u8]) -> std::io::Result<EtcFile> {
        let path = dir.join(format!("{kind}{}", std::process::id()));
        // Of an earlier process of this pid that was killed.
        let _ = std::fs::remove_file(&path);
        let made = EtcFile(path);
        // The run's users read it.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let mut file = options.open(&made.0)?;
        // Whatever the umask is.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.write_all(text)?;
        Ok(made)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for EtcFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
