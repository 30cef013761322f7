//! What a run said: lines as the CRI has them (`TIME stdout|stderr F|P TEXT`, P for a part whose
//! rest comes), in `log` and, once that was full, `log.1` before it.

mod read;

pub use read::{Follow, Line, read};

use super::time::Stamp;
use crate::sandbox::Source;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How large one of the two files grows unless told.
pub const DEFAULT_MAX: u64 = 4 << 20;
const LOG: &str = "log";
const OLD: &str = "log.1";

/// Whether one was kept there.
pub fn exists(dir: &Path) -> bool {
    dir.join(LOG).exists()
}

/// Writes a run's log. What cannot be written is lost: a run never waits for its log.
pub struct Writer {
    dir: PathBuf,
    file: Option<File>,
    size: u64,
    max: u64,
}

impl Writer {
    /// Goes on where an earlier one ended.
    pub fn open(dir: &Path, max: u64) -> Writer {
        let mut writer = Writer {
            dir: dir.to_owned(),
            file: None,
            size: 0,
            max,
        };
        writer.reopen();
        writer
    }

    fn reopen(&mut self) {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        self.file = options.open(self.dir.join(LOG)).ok();
        let length = |file: &File| file.metadata().map(|m| m.len()).ok();
        self.size = self.file.as_ref().and_then(length).unwrap_or(0);
    }

    pub fn say(&mut self, from: Source, bytes: &[u8], now: Stamp) {
        let stream = match from {
            Source::Output => "stdout",
            Source::Errors => "stderr",
        };
        let time = now.rfc3339();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, tag) = match part.strip_suffix(b"\n") {
                Some(text) => (text, 'F'),
                None => (part, 'P'),
            };
            let head = format!("{time} {stream} {tag} ");
            let length = head.len() + text.len() + 1;
            let full = self.size + (out.len() + length) as u64 > self.max;
            if full && self.size + out.len() as u64 > 0 {
                self.put(&out);
                out.clear();
                let _ = std::fs::rename(self.dir.join(LOG), self.dir.join(OLD));
                self.reopen();
            }
            out.extend(head.bytes());
            out.extend(text);
            out.push(b'\n');
        }
        self.put(&out);
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.size += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
