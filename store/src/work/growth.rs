//! How much more of the disk a staged file takes: before it is written to, and after.

use super::area::Area;
use super::blocks::BLOCK;
use super::quota::DISK_BLOCK;
use super::staged::Staged;
use crate::patience::may_block;
use crate::types::Errno;

impl Staged {
    /// The most that a write may add to what the file takes on disk: whole blocks, and what is
    /// copied up beside it.
    pub fn may_add(&self, offset: u64, len: u64) -> u64 {
        let block = if self.base.is_some() {
            BLOCK
        } else {
            DISK_BLOCK
        };
        ((offset + len).div_ceil(block) - offset / block) * block
    }

    /// What a write adds, where it is known that nobody else writes: only what is a hole.
    pub fn will_add(&self, area: &Area, offset: u64, len: u64) -> Result<u64, Errno> {
        may_block()?;
        let file = area.file(self.key)?;
        let end = (offset + len).next_multiple_of(DISK_BLOCK);
        let from = offset / DISK_BLOCK * DISK_BLOCK;
        let (mut holes, mut at) = (0, from);
        while at < end {
            let data = crate::sys::next_data(&file, at).min(end);
            holes += data - at;
            at = crate::sys::next_hole(&file, data).min(end).max(data);
            if data == at {
                break;
            }
        }
        if self.base.is_some() {
            // The rest of the first and of the last block, which come along.
            let (first, last) = (
                offset / BLOCK * BLOCK,
                (offset + len).next_multiple_of(BLOCK),
            );
            let st = self.state();
            let absent = |block: u64| !st.present.has(block);
            let before = if absent(offset / BLOCK) {
                from - first
            } else {
                0
            };
            let after = if absent((offset + len - 1) / BLOCK) {
                last.min(st.limit.next_multiple_of(DISK_BLOCK))
                    .saturating_sub(end)
            } else {
                0
            };
            holes += before + after;
        }
        Ok(holes)
    }

    /// After a write that failed: how much more the file takes all the same.
    pub fn look_again(&self, area: &Area) -> i64 {
        let found = area.file(self.key).and_then(|file| self.stat(area, &file));
        found.map_or(0, |(_, disk)| {
            let mut st = self.state();
            let before = std::mem::replace(&mut st.disk, disk);
            disk as i64 - before as i64
        })
    }
}
