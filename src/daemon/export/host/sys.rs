//! The system calls behind a grafted host directory that systems have each their own of: Linux's handles
//! (open_by_handle_at(2)) and per-thread file-system ids, listings with positions, what tells a
//! file from the next of its number.
#![allow(unsafe_code)]
// The widths of fields of struct stat differ.
#![allow(clippy::unnecessary_cast)]

use super::super::handle::HostFile;
use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
mod imp {
    use super::*;
    use nix::fcntl::AtFlags;
    use std::os::fd::FromRawFd;

    /// Longest handle the kernel gives (MAX_HANDLE_SZ, name_to_handle_at(2)).
    const KERNEL_MAX: usize = 128;

    #[repr(C)]
    struct RawHandle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        data: [u8; KERNEL_MAX],
    }

    pub const O_PATH: libc::c_int = libc::O_PATH;
    /// A file without the extended attribute that was asked for.
    pub const NO_ATTRIBUTE: Errno = Errno::ENODATA;
    /// A thread can act as the caller.
    pub const ACTS: bool = true;
    /// What is made has its directory's group, whatever that one's mode.
    pub const GROUP_OF_DIRECTORY: bool = false;
    /// mknod(2) makes sockets.
    pub const SOCKETS: bool = true;
    /// Where struct linux_dirent64 has the name (getdents(2)).
    pub const NAME_AT: usize = 19;

    /// Of the file `fd` is open on, a symlink too.
    pub fn chown(fd: BorrowedFd, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        nix::unistd::fchownat(fd, "", uid, gid, AtFlags::AT_EMPTY_PATH)
    }

    /// The kernel's name of the file `fd` is open on.
    pub fn file_of(fd: BorrowedFd) -> Result<HostFile, Errno> {
        let mut raw = RawHandle {
            bytes: KERNEL_MAX as u32,
            kind: 0,
            data: [0; KERNEL_MAX],
        };
        let mut mount = 0;
        // SAFETY: `raw` has the layout of struct file_handle with room for as many bytes as it says.
        let done = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                c"".as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        Errno::result(done)?;
        raw.data
            .get(..raw.bytes as usize)
            .and_then(|bytes| HostFile::new(raw.kind, bytes))
            .ok_or(Errno::EOVERFLOW)
    }

    /// Opens a file by the kernel's name of it; `mount` is any file of the same file system.
    pub fn open(mount: BorrowedFd, file: &HostFile, flags: libc::c_int) -> Result<OwnedFd, Errno> {
        let mut raw = RawHandle {
            bytes: file.bytes().len() as u32,
            kind: file.kind,
            data: [0; KERNEL_MAX],
        };
        raw.data[..file.bytes().len()].copy_from_slice(file.bytes());
        // SAFETY: as above; the kernel only reads it.
        let fd = unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                (&raw mut raw).cast(),
                flags | libc::O_CLOEXEC,
            )
        };
        let fd = Errno::result(fd)?;
        // SAFETY: the call just made it and nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// This thread acts as the caller on files until the guard goes (setfsuid(2)).
    pub struct ActAs(());

    impl ActAs {
        /// The server itself is root: acting as root needs nothing.
        pub fn caller(uid: u32, gid: u32, gids: &[u32]) -> Result<ActAs, Errno> {
            // To the calls below that id is no change, and the thread is root.
            if uid == u32::MAX || gid == u32::MAX {
                return Err(Errno::EPERM);
            }
            // The raw call: libc's wrapper would change every thread of the process.
            // SAFETY: the pointer and length describe a live slice.
            let done = unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) };
            Errno::result(done)?;
            nix::unistd::setfsgid(gid.into());
            nix::unistd::setfsuid(uid.into());
            Ok(ActAs(()))
        }
    }

    impl Drop for ActAs {
        fn drop(&mut self) {
            nix::unistd::setfsuid(0.into());
            nix::unistd::setfsgid(0.into());
            // SAFETY: zero groups, nothing is read.
            unsafe { libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<u32>()) };
        }
    }

    /// Whether birth times there stay a file's own: those of an overlay are the lower file's until the
    /// file is copied up, and what a FUSE server says is its own affair.
    pub fn tags_hold(root: BorrowedFd) -> bool {
        use nix::sys::statfs::{FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs};
        match fstatfs(root) {
            Ok(fs) => ![FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC].contains(&fs.filesystem_type()),
            Err(_) => false,
        }
    }

    /// When the file was made, which no two of a number have in common; 0 where nothing says. With no
    /// name: of the file `dir` is open on.
    pub fn tag(dir: BorrowedFd, name: &CStr, stat: &FileStat) -> Result<u64, Errno> {
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
        let mask = libc::STATX_BTIME | libc::STATX_INO;
        let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
        // SAFETY: the name ends with a NUL, and there is room for what the kernel writes.
        let done = unsafe {
            libc::statx(
                dir.as_raw_fd(),
                name.as_ptr(),
                flags,
                mask,
                found.as_mut_ptr(),
            )
        };
        Errno::result(done)?;
        // SAFETY: zeros are a value of it, and the call succeeded.
        let found = unsafe { found.assume_init() };
        if found.stx_ino != stat.st_ino {
            return Err(Errno::ESTALE);
        }
        let born = found.stx_btime;
        match found.stx_mask & libc::STATX_BTIME {
            0 => Ok(0),
            _ => Ok((born.tv_sec as u64) << 30 | u64::from(born.tv_nsec)),
        }
    }

    /// Where the directory is that `dir` is open on, links and all resolved.
    pub fn real(dir: BorrowedFd, _asked: &Path) -> std::io::Result<PathBuf> {
        std::fs::read_link(path_of(dir))
    }

    pub fn fill(dir: BorrowedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
        let got = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                dir.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        Errno::result(got).map(|got| got as usize)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::*;

    pub const O_PATH: libc::c_int = libc::O_RDONLY;
    pub const NO_ATTRIBUTE: Errno = Errno::ENOATTR;
    pub const ACTS: bool = false;
    pub const GROUP_OF_DIRECTORY: bool = true;
    pub const SOCKETS: bool = false;
    /// Of OpenBSD's struct dirent and of FreeBSD's since its version 12, whose first fields are Linux's too.
    pub const NAME_AT: usize = 24;

    pub fn chown(fd: BorrowedFd, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        nix::unistd::fchown(fd, uid, gid)
    }

    pub fn file_of(_fd: BorrowedFd) -> Result<HostFile, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    pub fn open(
        _mount: BorrowedFd,
        _file: &HostFile,
        _flags: libc::c_int,
    ) -> Result<OwnedFd, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    pub struct ActAs(());

    impl ActAs {
        pub fn caller(_uid: u32, _gid: u32, _gids: &[u32]) -> Result<ActAs, Errno> {
            Err(Errno::EOPNOTSUPP)
        }
    }

    /// Whether that file system has one or the other.
    pub fn tags_hold(root: BorrowedFd) -> bool {
        let stat = nix::sys::stat::fstat(root);
        stat.and_then(|stat| tag(root, c"", &stat))
            .is_ok_and(|tag| tag != 0)
    }

    /// The inode's generation, which the kernel tells root, and where the file system has it its birth.
    pub fn tag(_dir: BorrowedFd, _name: &CStr, stat: &FileStat) -> Result<u64, Errno> {
        let born = (stat.st_birthtime as u64) << 30 | stat.st_birthtime_nsec as u64 & 0x3fff_ffff;
        Ok(born ^ (stat.st_gen as u64) << 32)
    }

    /// A descriptor does not tell its path there.
    pub fn real(_dir: BorrowedFd, asked: &Path) -> std::io::Result<PathBuf> {
        std::fs::canonicalize(asked)
    }

    unsafe extern "C" {
        #[cfg(target_os = "openbsd")]
        fn getdents(fd: libc::c_int, buf: *mut libc::c_char, n: libc::size_t) -> libc::c_int;
        #[cfg(not(target_os = "openbsd"))]
        fn getdents(fd: libc::c_int, buf: *mut libc::c_char, n: libc::size_t) -> libc::ssize_t;
    }

    pub fn fill(dir: BorrowedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
        let got = unsafe {
            getdents(
                dir.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len() as libc::size_t,
            )
        };
        Errno::result(got).map(|got| got as usize)
    }
}

pub use imp::*;

/// Takes a name: its inode number, the position after it, whether it may be a directory's, its bytes;
/// answers whether to go on.
pub type Each<'a> = &'a mut dyn FnMut(u64, u64, bool, &[u8]) -> Result<bool, Errno>;

/// Reads names after `cookie`, a position the file system itself gave out (0 = start).
pub fn names(dir: BorrowedFd, cookie: u64, each: Each<'_>) -> Result<bool, Errno> {
    let position = i64::try_from(cookie).map_err(|_| Errno::EINVAL)?;
    nix::unistd::lseek(dir, position, nix::unistd::Whence::SeekSet)?;
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let got = fill(dir, &mut buffer)?;
        if got == 0 {
            return Ok(true);
        }
        let mut at = 0;
        // ino 8, off 8, reclen 2, type 1, and the name.
        while at + NAME_AT < got {
            let word = |i: usize| {
                let mut w = [0; 8];
                w.copy_from_slice(&buffer[at + i..at + i + 8]);
                u64::from_ne_bytes(w)
            };
            let (ino, next) = (word(0), word(8));
            let reclen = usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
            let kind = buffer[at + 18];
            let name = buffer.get(at + NAME_AT..at + reclen).ok_or(Errno::EIO)?;
            let name = CStr::from_bytes_until_nul(name).map_err(|_| Errno::EIO)?;
            at += reclen;
            // A name that was removed has no number.
            if ino == 0 {
                continue;
            }
            let may_be_dir = kind == libc::DT_DIR || kind == libc::DT_UNKNOWN;
            if !each(ino, next, may_be_dir, name.to_bytes())? {
                return Ok(false);
            }
        }
    }
}

/// A path that reaches exactly the file `fd` is open on, symlink or not.
pub fn path_of(fd: BorrowedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_as_an_id_that_means_no_change() {
        if ACTS {
            for (uid, gid) in [(u32::MAX, 1), (1, u32::MAX)] {
                assert_eq!(ActAs::caller(uid, gid, &[]).err(), Some(Errno::EPERM));
            }
        }
    }
}
