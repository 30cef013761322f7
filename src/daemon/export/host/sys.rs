//! The system calls behind a grafted host directory (Linux: open_by_handle_at(2),
//! per-thread file-system ids). Elsewhere grafts are refused by name.
#![allow(unsafe_code)]

use super::super::handle::HostFile;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

#[cfg(target_os = "linux")]
mod imp {
    use super::*;
    use nix::fcntl::AtFlags;
    use std::ffi::CStr;
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

    /// Reads names after `cookie`, a position the file system itself gave out (0 = start).
    pub fn names(dir: BorrowedFd, cookie: u64, each: Each<'_>) -> Result<bool, Errno> {
        let position = i64::try_from(cookie).map_err(|_| Errno::EINVAL)?;
        nix::unistd::lseek(dir, position, nix::unistd::Whence::SeekSet)?;
        let mut buffer = vec![0u8; 32 << 10];
        loop {
            // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
            let got = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    dir.as_raw_fd(),
                    buffer.as_mut_ptr(),
                    buffer.len(),
                )
            };
            let got = Errno::result(got)? as usize;
            if got == 0 {
                return Ok(true);
            }
            let mut at = 0;
            // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name (getdents(2)).
            while at + 19 < got {
                let word = |i: usize| {
                    let mut w = [0; 8];
                    w.copy_from_slice(&buffer[at + i..at + i + 8]);
                    u64::from_ne_bytes(w)
                };
                let (ino, next) = (word(0), word(8));
                let reclen = usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
                let name = CStr::from_bytes_until_nul(&buffer[at + 19..at + reclen])
                    .map_err(|_| Errno::EIO)?;
                if !each(ino, next, name.to_bytes())? {
                    return Ok(false);
                }
                at += reclen;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::*;

    pub const O_PATH: libc::c_int = libc::O_RDONLY;
    pub const NO_ATTRIBUTE: Errno = Errno::ENOATTR;

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

    pub fn names(_dir: BorrowedFd, _cookie: u64, _each: Each<'_>) -> Result<bool, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

pub use imp::*;

/// Takes a name: its inode number, the position after it, its bytes; answers whether to go on.
pub type Each<'a> = &'a mut dyn FnMut(u64, u64, &[u8]) -> Result<bool, Errno>;

/// A path that reaches exactly the file `fd` is open on, symlink or not.
pub fn path_of(fd: BorrowedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
