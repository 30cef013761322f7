//! This program's own file, out of reach of what runs in a sandbox.
//!
//! A tree can have the command that enters it execute `/proc/self/exe`, which is the host's
//! `pocker`; a process of the sandbox then has that file, and its root could write to it once
//! nobody executes it any more. So who enters a sandbox is executed anew, from a read-only
//! mount of the file that is nowhere in the file system.

use crate::sys::fault::{Attempt, Fault};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::execveat;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const OWN: &CStr = c"/proc/self/exe";
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

/// Returns once this process executes a file that nobody can write to; until then it executes
/// itself anew, with the arguments `argv`, the first of which becomes the program's path. Descriptors and the environment stay. The caller has
/// one thread, and is root.
pub fn protect<S: AsRef<OsStr>>(argv: &[S]) -> Result<(), Fault> {
    let own = File::open(OsStr::from_bytes(OWN.to_bytes())).attempt("open this program's file")?;
    if unwritable(&own) {
        // Executed by a descriptor, it has that one's number for a name.
        let _ = nix::sys::prctl::set_name(c"pocker");
        return Ok(());
    }
    let copy = match mounted() {
        Ok(mounted) => mounted,
        // Before Linux 5.12 there is no mount_setattr(2).
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => {
            copied(own).attempt("copy this program's file to memory")?
        }
        Err(errno) => return Err(errno).attempt("mount this program's file read-only"),
    };
    if !unwritable(&copy) {
        return Err(Fault::new(
            "this program's file can be written to whatever is done",
        ));
    }
    let text = |bytes: &[u8]| {
        CString::new(bytes)
            .map_err(io::Error::from)
            .attempt("pass an argument on")
    };
    let path = std::env::current_exe().attempt("find this program's file")?;
    let words = argv.iter().skip(1).map(AsRef::as_ref);
    let argv: Vec<CString> = std::iter::once(path.as_os_str())
        .chain(words)
        .map(|word| text(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let env: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<_, _>>()?;
    let executed = execveat(&copy, c"", &argv, &env, AtFlags::AT_EMPTY_PATH);
    executed
        .map(|never| match never {})
        .attempt("execute this program from there")
}

/// Through its mount, or by its seals.
fn unwritable(file: &impl AsFd) -> bool {
    let sealed = fcntl(file, FcntlArg::F_GET_SEALS);
    sealed.is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
        || fstatvfs(file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
}

/// A mount of this program's file alone, attached nowhere.
fn mounted() -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a string that ends, and flags; the result is a descriptor of ours alone.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, OWN.as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: made above, and owned by nobody else.
    let tree = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the structure lives until the call is over, and its size is told.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    Errno::result(set)?;
    Ok(tree)
}

fn copied(mut own: File) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create(c"pocker", flags)?);
    io::copy(&mut own, &mut copy)?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn neither_form_can_be_opened_for_writing() {
        for form in [
            mounted().unwrap(),
            copied(File::open("/proc/self/exe").unwrap()).unwrap(),
        ] {
            assert!(unwritable(&form));
            let path = format!("/proc/self/fd/{}", form.as_raw_fd());
            let opened = OpenOptions::new().write(true).open(&path);
            // A sealed file opens, and takes no byte.
            let written =
                opened.and_then(|file| nix::unistd::write(&file, b"x").map_err(Into::into));
            let errno = written.unwrap_err().raw_os_error();
            let expected = [libc::EROFS, libc::EPERM, libc::ETXTBSY];
            assert!(expected.contains(&errno.unwrap()), "{errno:?}");
        }
    }
}
