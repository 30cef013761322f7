//! System calls that the standard library lacks.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub fn setxattr(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    let (path, name) = (c(path), CString::new(name).unwrap());
    // SAFETY: both strings end in NUL, and the value's length is its own.
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(done).map(drop)
}

/// Asks for the size first, as most programs do.
pub fn getxattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let (path, name) = (c(path), CString::new(name).unwrap());
    let get = |buffer: &mut [u8]| {
        // SAFETY: both strings end in NUL, and the buffer's length is its own.
        Errno::result(unsafe {
            libc::getxattr(
                path.as_ptr(),
                name.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        })
    };
    let mut value = vec![0; get(&mut [])? as usize];
    let len = get(&mut value)?;
    value.truncate(len as usize);
    Ok(value)
}

pub fn listxattr(path: &Path) -> Result<Vec<u8>, Errno> {
    let path = c(path);
    let list = |buffer: &mut [u8]| {
        // SAFETY: the string ends in NUL, and the buffer's length is its own.
        Errno::result(unsafe {
            libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
        })
    };
    let mut names = vec![0; list(&mut [])? as usize];
    let len = list(&mut names)?;
    names.truncate(len as usize);
    Ok(names)
}

pub fn removexattr(path: &Path, name: &str) -> Result<(), Errno> {
    let (path, name) = (c(path), CString::new(name).unwrap());
    // SAFETY: both strings end in NUL.
    Errno::result(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// A shared writable mapping of a file's start.
pub struct Map {
    at: *mut libc::c_void,
    len: usize,
}

impl Map {
    pub fn shared(file: &File, len: usize) -> Map {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let at = unsafe {
            let null = std::ptr::null_mut();
            libc::mmap(null, len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        Map { at, len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` long, lives as long as self, and is only seen here.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.len) }
    }

    pub fn sync(&self) {
        // SAFETY: the range is mapped.
        let done = unsafe { libc::msync(self.at, self.len, libc::MS_SYNC) };
        Errno::result(done).unwrap();
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped in `shared`, and not used after.
        let done = unsafe { libc::munmap(self.at, self.len) };
        Errno::result(done).unwrap();
    }
}

/// Runs `work` on a thread with a user's file system identity and no privileges.
pub fn as_user(id: u32, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody: libc::c_long = 0;
            // SAFETY: raw calls that change this thread alone, which then ends; the wrappers
            // of libc would change all threads.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setgroups, 0, nobody), 0);
                assert_eq!(libc::syscall(libc::SYS_setresgid, id, id, id), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, id, id, id), 0);
            }
            work();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
