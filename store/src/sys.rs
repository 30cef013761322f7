//! What differs between operating systems.

use nix::sys::statfs::Statfs;
use std::fs::File;
use std::io;
use std::path::Path;

/// True where `path` lies on NFS.
pub(crate) fn on_nfs(path: &Path) -> io::Result<bool> {
    Ok(is_nfs(&nix::sys::statfs::statfs(path)?))
}

#[cfg(target_os = "linux")]
fn is_nfs(fs: &Statfs) -> bool {
    is_nfs_type(fs.filesystem_type())
}

#[cfg(target_os = "linux")]
fn is_nfs_type(kind: nix::sys::statfs::FsType) -> bool {
    kind == nix::sys::statfs::NFS_SUPER_MAGIC
}

#[cfg(not(target_os = "linux"))]
fn is_nfs(fs: &Statfs) -> bool {
    fs.filesystem_type_name() == "nfs"
}

/// Makes durable what was written to `files`, which lie on the file system of `dir`: with one
/// syncfs(2), whose errors are checked, where there is one.
#[cfg(target_os = "linux")]
pub(crate) fn sync_files(
    dir: &File,
    files: &mut dyn Iterator<Item = io::Result<File>>,
) -> io::Result<()> {
    if files.next().is_none() {
        return Ok(());
    }
    Ok(nix::unistd::syncfs(dir)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_files(
    _dir: &File,
    files: &mut dyn Iterator<Item = io::Result<File>>,
) -> io::Result<()> {
    for file in files {
        file?.sync_all()?;
    }
    Ok(())
}

/// Lets the disk begin with what was written to `file`, so that the sync that is to come
/// finds little left. A hint: it promises nothing.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn begin_writing(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is passed.
    let _ = unsafe {
        nix::libc::sync_file_range(file.as_raw_fd(), 0, 0, nix::libc::SYNC_FILE_RANGE_WRITE)
    };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn begin_writing(_file: &File) {}

/// Makes renames into `dirs` durable: as [`sync_files`], but a few fsync(2) are cheaper than
/// one syncfs.
pub(crate) fn sync_dirs(store: &File, dirs: &[File]) -> io::Result<()> {
    /// Above this many, one syncfs beats them.
    const FEW: usize = 8;
    if dirs.len() > FEW && cfg!(target_os = "linux") {
        return sync_files(store, &mut std::iter::once(store.try_clone()));
    }
    for dir in dirs {
        dir.sync_all()?;
    }
    Ok(())
}

/// What statvfs(3) says of the file system of `path`.
pub(crate) fn space(path: &Path) -> io::Result<crate::FsSpace> {
    let fs = nix::sys::statvfs::statvfs(path)?;
    let unit = wide(fs.fragment_size());
    Ok(crate::FsSpace {
        total_bytes: wide(fs.blocks()).saturating_mul(unit),
        free_bytes: wide(fs.blocks_free()).saturating_mul(unit),
        avail_bytes: wide(fs.blocks_available()).saturating_mul(unit),
        total_files: wide(fs.files()),
        free_files: wide(fs.files_free()),
        avail_files: wide(fs.files_available()),
    })
}

/// Whether a file in `dir` can be given no room. Asked by writing one, as statvfs(3) knows no quotas.
pub(crate) fn is_full(dir: &Path) -> bool {
    use io::Write;
    let tried = unnamed(dir).and_then(|mut file| file.write_all(&[0; 4096]));
    tried.is_err_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    })
}

/// A file that is gone once it is closed, whatever becomes of this process.
#[cfg(target_os = "linux")]
fn unnamed(dir: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).mode(0o600);
    options.custom_flags(nix::libc::O_TMPFILE).open(dir)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("room.{}", std::process::id()));
    let file = File::create_new(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The fields' types differ between systems.
fn wide(n: impl TryInto<u64>) -> u64 {
    n.try_into().unwrap_or(u64::MAX)
}

/// Appends `len` bytes from `offset` where all of them are in memory: preadv2(2) with
/// RWF_NOWAIT, or where the file system has no such reads, when cachestat(2) says so. False
/// where they are not, or where the system cannot tell; then `out` is as it was.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn read_cached(file: &File, out: &mut Vec<u8>, offset: u64, len: usize) -> bool {
    use nix::errno::Errno;
    use nix::libc;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    /// The store's file system refused once; it would each time.
    static REFUSED: AtomicBool = AtomicBool::new(false);
    let Ok(at) = libc::off_t::try_from(offset) else {
        return false;
    };
    out.reserve(len);
    let before = out.len();
    let room = out.spare_capacity_mut();
    let iov = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: len.min(room.len()),
    };
    let read = |flags| {
        // SAFETY: one iovec, over the vector's own spare capacity, which lives over the call;
        // the descriptor is open as long as `file` is borrowed.
        let got = unsafe { libc::preadv2(file.as_raw_fd(), &iov, 1, at, flags) };
        usize::try_from(got).map_err(|_| Errno::last())
    };
    let got = match REFUSED.load(Ordering::Relaxed) {
        false => read(libc::RWF_NOWAIT),
        true => Err(Errno::EOPNOTSUPP),
    };
    let got = match got {
        Err(Errno::EOPNOTSUPP) => {
            REFUSED.store(true, Ordering::Relaxed);
            if !is_cached(file, offset, len as u64) {
                return false;
            }
            read(0)
        }
        got => got,
    };
    if got != Ok(len) {
        return false;
    }
    // SAFETY: the kernel filled `len` bytes of the capacity behind `before`.
    unsafe { out.set_len(before + len) };
    true
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_cached(_file: &File, _out: &mut Vec<u8>, _offset: u64, _len: usize) -> bool {
    false
}

/// True where `len` bytes from `offset` are in memory: cachestat(2), Linux 6.5. False where they
/// are not, or where the system cannot tell.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn is_cached(file: &File, offset: u64, len: u64) -> bool {
    use std::os::fd::AsRawFd;
    /// The same number on every architecture that this is built for.
    const CACHESTAT: nix::libc::c_long = 451;
    const PAGE: u64 = 4096;
    let range = [offset, len];
    // nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted.
    let mut stat = [0u64; 5];
    // SAFETY: struct cachestat_range is two u64, struct cachestat five; both live over the call.
    let failed = unsafe {
        nix::libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            stat.as_mut_ptr(),
            0,
        )
    };
    let pages = (offset + len).div_ceil(PAGE) - offset / PAGE;
    failed == 0 && stat[0] >= pages
}

/// Where data begins from `at` on (lseek(2), SEEK_DATA), or no file reaches; `at` where the
/// system or the file system cannot tell.
#[cfg(target_os = "linux")]
pub(crate) fn next_data(file: &File, at: u64) -> u64 {
    use nix::errno::Errno;
    match seek(file, at, nix::unistd::Whence::SeekData) {
        Err(Errno::ENXIO) => u64::MAX,
        found => found.unwrap_or(at),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn next_data(_file: &File, at: u64) -> u64 {
    at
}

/// Where a hole begins from `at` on, the end of the file being one; where no file reaches if
/// the system or the file system cannot tell.
#[cfg(target_os = "linux")]
pub(crate) fn next_hole(file: &File, at: u64) -> u64 {
    seek(file, at, nix::unistd::Whence::SeekHole).unwrap_or(u64::MAX)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn next_hole(_file: &File, _at: u64) -> u64 {
    u64::MAX
}

/// The descriptor's own position moves, which nothing here reads by.
#[cfg(target_os = "linux")]
fn seek(file: &File, at: u64, whence: nix::unistd::Whence) -> nix::Result<u64> {
    let at = i64::try_from(at).map_err(|_| nix::errno::Errno::EOVERFLOW)?;
    Ok(wide(nix::unistd::lseek64(file, at, whence)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::error::StoreError;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC};

    /// As SQLite says it of a database whose log cannot be made.
    fn cannot_open(path: &Path) -> StoreError {
        let open = rusqlite::Connection::open(path.join("no/such"));
        StoreError::db("open", path, open.expect_err("there is no such folder"))
    }

    #[test]
    fn a_full_disk_is_said_to_be_full_and_another_failure_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let size = Some("size=64k");
        mount(
            Some("none"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            size,
        )
        .expect("mount");
        let database = dir.path().join("index.db");
        let roomy = (is_full(dir.path()), cannot_open(&database));
        let fill = std::fs::write(dir.path().join("fill"), vec![0; 1 << 20]);
        let full = (is_full(dir.path()), cannot_open(&database));
        umount2(dir.path(), MntFlags::MNT_DETACH).expect("unmounted");
        assert_eq!(
            fill.expect_err("too large").kind(),
            io::ErrorKind::StorageFull
        );
        assert!(
            !roomy.0 && matches!(roomy.1, StoreError::Db { .. }),
            "{}",
            roomy.1
        );
        assert!(
            full.0 && matches!(full.1, StoreError::Full { .. }),
            "{}",
            full.1
        );
        assert!(!is_full(Path::new("/no/such/folder")));
    }

    #[test]
    fn nfs_is_told_from_local_disks() {
        // As <linux/magic.h> has it, for every version of NFS.
        assert!(is_nfs_type(FsType(0x6969)));
        assert!(!is_nfs_type(EXT4_SUPER_MAGIC) && !is_nfs_type(TMPFS_MAGIC));
        assert!(!on_nfs(Path::new("/proc")).expect("statfs"));
    }
}
