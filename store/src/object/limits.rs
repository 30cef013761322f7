//! The bounds of the object formats. They are part of the format: other numbers
//! would give other bytes for the same directory.

/// Entries of one page. A page of this size parses in well under a millisecond.
pub const PAGE_ENTRIES: usize = 1024;
/// Bytes of one page: entries with large xattrs make it end earlier.
pub const PAGE_BYTES: usize = 1 << 20;
/// Pages of one directory; with [`PAGE_ENTRIES`] far above any real directory.
pub const PAGES: usize = 1 << 20;
/// Longest name (POSIX NAME_MAX on all our systems).
pub const NAME: usize = 255;
/// Longest symlink target (PATH_MAX without its NUL).
pub const SYMLINK: usize = 4095;
/// Longest name of an extended attribute (Linux XATTR_NAME_MAX).
pub const XATTR_NAME: usize = 255;
/// Longest value of an extended attribute (Linux XATTR_SIZE_MAX).
pub const XATTR_VALUE: usize = 65_536;
/// Names and values of one node's extended attributes together (Linux
/// XATTR_LIST_MAX for names; most file systems hold less than this for both).
pub const XATTRS_BYTES: usize = 128 * 1024;
/// Extended attributes of one node.
pub const XATTRS: usize = 1024;
/// Nodes of one tree: numbers have 40 bits in a browse view's fileid.
pub const NODES: u64 = 1 << 40;
/// Size of one file: off_t is signed.
pub const FILE_SIZE: u64 = i64::MAX as u64;
/// Bytes of the largest snapshot object: 4 million hard-linked names and more.
pub const SNAPSHOT_BYTES: usize = 256 << 20;
