//! Which groups are whose, so that those of a supervisor that was killed go with the next
//! command, and no others.

use super::{CgroupError, NAME, remove};
use crate::control::sys::process_start;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A directory of small files, one a run: its supervisor's pid and start, then a group a line.
pub struct Records(PathBuf);

/// A few paths.
const RECORD_MAX: usize = 64 << 10;

impl Records {
    /// In the server's socket directory, which only root enters and no boot outlives.
    pub fn of(socket_dir: &Path) -> Records {
        Records(socket_dir.join("cgroups"))
    }

    /// Notes groups of this process. None where there are none.
    pub(super) fn write(&self, groups: &[PathBuf]) -> Result<Option<PathBuf>, CgroupError> {
        if groups.is_empty() {
            return Ok(None);
        }
        let pid = std::process::id();
        let mut text = format!("{pid} {}\n", process_start(pid).unwrap_or(0)).into_bytes();
        for group in groups {
            text.extend_from_slice(group.as_os_str().as_bytes());
            text.push(b'\n');
        }
        let path = self.0.join(pid.to_string());
        let new = self.0.join(format!("{pid}.new"));
        std::fs::create_dir_all(&self.0)
            .and_then(|()| std::fs::write(&new, &text))
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(CgroupError::io("note the groups in", &path))?;
        Ok(Some(path))
    }

    /// Removes the groups of supervisors that are gone, and ends what is left in them.
    pub fn sweep(&self) {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        for file in files {
            let path = file.path();
            let Some(record) = read(&path) else { continue };
            if record.owner_lives() {
                continue;
            }
            let gone = record
                .groups
                .iter()
                .all(|group| !is_ours(group) || remove(group));
            if gone {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

struct Record {
    pid: u32,
    start: u64,
    groups: Vec<PathBuf>,
}

impl Record {
    fn owner_lives(&self) -> bool {
        process_start(self.pid) == Some(self.start)
    }
}

/// None for what is no whole record: its writer is still at it, or it is none.
fn read(path: &Path) -> Option<Record> {
    if path.extension().is_some() {
        return None;
    }
    let text = std::fs::read(path).ok().filter(|t| t.len() <= RECORD_MAX)?;
    let mut lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let owner = std::str::from_utf8(lines.next()?).ok()?;
    let (pid, start) = owner.split_once(' ')?;
    Some(Record {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
        groups: lines
            .map(|line| PathBuf::from(OsString::from_vec(line.to_vec())))
            .collect(),
    })
}

/// A group that one of us made: named like one, and a group.
fn is_ours(group: &Path) -> bool {
    let prefix = format!("{NAME}-");
    let name = group.file_name().map(OsStr::as_bytes);
    name.is_some_and(|name| name.starts_with(prefix.as_bytes()))
        && group.join("cgroup.procs").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_noted_is_taken_for_stale() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::of(dir.path());
        assert!(records.write(&[]).unwrap().is_none());
        let group = dir.path().join("pocker-group");
        std::fs::create_dir(&group).unwrap();
        let mine = records
            .write(std::slice::from_ref(&group))
            .unwrap()
            .unwrap();
        let record = read(&mine).unwrap();
        assert!(record.owner_lives() && record.groups == [group.clone()]);
        records.sweep();
        assert!(mine.exists() && group.exists());
        // The same pid at another time, and a directory that is no group of processes.
        let text = std::fs::read_to_string(&mine).unwrap();
        let other = text.replacen(' ', " 1", 1);
        std::fs::write(&mine, &other).unwrap();
        assert!(!read(&mine).unwrap().owner_lives() && !is_ours(&group));
        records.sweep();
        assert!(!mine.exists() && group.exists());
        for damaged in ["", "x y\n/a\n", "12\n"] {
            std::fs::write(&mine, damaged).unwrap();
            assert!(read(&mine).is_none(), "{damaged:?}");
        }
    }
}
