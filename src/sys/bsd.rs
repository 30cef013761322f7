//! What OpenBSD has for a process that gives things up; nothing elsewhere.

use super::Fault;

#[cfg(target_os = "openbsd")]
mod imp {
    use super::*;
    use crate::sys::Attempt;
    use nix::errno::Errno;
    use std::ffi::{CString, c_char, c_int, c_uint};
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    /// login_cap.h: priority, limits and umask, of what a class has.
    const LOGIN_SETPRIORITY: c_uint = 0x8;
    const LOGIN_SETRESOURCES: c_uint = 0x10;
    const LOGIN_SETUMASK: c_uint = 0x20;

    unsafe extern "C" {
        /// In the C library, and the crate has no binding for it (login_cap(3)).
        fn setclasscontext(class: *mut c_char, flags: c_uint) -> c_int;
    }

    fn text(what: &str) -> Result<CString, Fault> {
        CString::new(what).map_err(|_| Fault::new("a NUL byte"))
    }

    pub fn login_class(class: &str) -> Result<(), Fault> {
        let flags = LOGIN_SETPRIORITY | LOGIN_SETRESOURCES | LOGIN_SETUMASK;
        let class = text(class)?;
        // SAFETY: the name ends in NUL; the call reads it and changes this process's limits.
        let done = unsafe { setclasscontext(class.as_ptr().cast_mut(), flags) };
        Errno::result(done).map(drop).attempt("")
    }

    /// Not this process, which is about to exec, but what it becomes.
    pub fn promise(promises: &str) -> Result<(), Fault> {
        let promises = text(promises)?;
        // SAFETY: no promises of this process, and a string that ends in NUL.
        let done = unsafe { libc::pledge(std::ptr::null(), promises.as_ptr()) };
        Errno::result(done).map(drop).attempt("")
    }

    pub const CONFINES: bool = true;

    /// All of this process's threads: the paths that are left (unveil(2)), then the calls.
    pub fn promise_self(promises: &str, paths: &[(PathBuf, &str)]) -> Result<(), Fault> {
        for (path, rights) in paths {
            let shown = format!("unveil {}", path.display());
            let path = CString::new(path.as_os_str().as_bytes());
            let (path, rights) = (path.map_err(|_| Fault::new("a NUL byte"))?, text(rights)?);
            // SAFETY: both strings end in NUL and are read.
            let done = unsafe { libc::unveil(path.as_ptr(), rights.as_ptr()) };
            match Errno::result(done) {
                // A directory above it is missing, so there is nothing to be reached.
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno).attempt(shown),
            }
        }
        let promises = text(promises)?;
        // SAFETY: a string that ends in NUL, and no promises for what is executed: nothing is.
        let done = unsafe { libc::pledge(promises.as_ptr(), std::ptr::null()) };
        Errno::result(done).map(drop).attempt("pledge")
    }
}

#[cfg(not(target_os = "openbsd"))]
mod imp {
    use super::*;
    use std::path::PathBuf;

    pub fn login_class(_class: &str) -> Result<(), Fault> {
        Ok(())
    }

    pub fn promise(_promises: &str) -> Result<(), Fault> {
        Ok(())
    }

    pub const CONFINES: bool = false;

    pub fn promise_self(_promises: &str, _paths: &[(PathBuf, &str)]) -> Result<(), Fault> {
        Ok(())
    }
}

pub use imp::*;

/// Unmounts what nothing uses; never by force.
#[cfg(any(
    target_os = "openbsd",
    target_os = "netbsd",
    target_os = "freebsd",
    target_os = "dragonfly"
))]
pub fn unmount_unused(target: &std::path::Path) -> Result<(), Fault> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(target.as_os_str().as_bytes());
    let path = path.map_err(|_| Fault::new("a NUL byte"))?;
    // SAFETY: the path ends in NUL.
    let done = unsafe { libc::unmount(path.as_ptr(), 0) };
    super::Attempt::attempt(nix::errno::Errno::result(done).map(drop), "unmount")
}

/// Nothing is unmounted so where mounts are a sandbox's own.
#[cfg(not(any(
    target_os = "openbsd",
    target_os = "netbsd",
    target_os = "freebsd",
    target_os = "dragonfly"
)))]
pub fn unmount_unused(_target: &std::path::Path) -> Result<(), Fault> {
    Err(Fault::new("this system unmounts only by force"))
}
