//! What a run may take of its host: bytes, names, memory, processes, processor time, and what
//! setrlimit(2) counts.

mod amount;
pub mod cgroup;
mod cpus;
mod ulimit;

pub use amount::{Count, size};
pub use cpus::Cpus;
pub use ulimit::{Ulimit, all as rlimits};

/// Bytes of a tree's quota for each name that it may add, where `--inodes` says nothing: a
/// tree of small files has its names, and their rows never outweigh its bytes.
const BYTES_PER_NAME: u64 = 8 << 10;
/// As many names any tree may add, however few bytes it may hold.
const NAMES_LEAST: u64 = 4096;
/// As many names as a tree may add that may hold any number of bytes: the server has them in
/// its memory, some 300 bytes each.
const NAMES_DEFAULT: u64 = 1 << 20;

/// How many names a tree may add: as asked for, or what goes with its bytes.
pub fn names(asked: Option<Count>, disk: Option<u64>) -> Option<u64> {
    match (asked, disk) {
        (Some(asked), _) => asked.limit(),
        (None, Some(disk)) => Some((disk / BYTES_PER_NAME).clamp(NAMES_LEAST, NAMES_DEFAULT)),
        (None, None) => Some(NAMES_DEFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_with_bytes_unless_said_otherwise() {
        assert_eq!(names(None, None), Some(1 << 20));
        assert_eq!(names(None, Some(0)), Some(4096));
        assert_eq!(names(None, Some(512 << 20)), Some(65_536));
        assert_eq!(names(None, Some(u64::MAX)), Some(1 << 20));
        assert_eq!(names(Some(Count::Of(3)), Some(1 << 40)), Some(3));
        assert_eq!(names(Some(Count::Unlimited), Some(1)), None);
    }
}
