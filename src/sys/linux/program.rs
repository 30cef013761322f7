//! The file of this program. Whoever runs in a sandbox can run it as well, by /proc/self/exe,
//! and is then the owner of a way to the host's own file: to its mode, its owner, its
//! attributes. So what starts sandboxes runs from a mount of that file that is read-only; where
//! the kernel makes no such mount (before 5.12), from a copy in memory that is sealed.

use crate::sys::fault::{Attempt, Fault};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const EXE: &CStr = c"/proc/self/exe";
/// Where the file is, for a process that cannot tell any more.
const NAME: &str = "POCKER_PROGRAM";
const COPY: &CStr = c"pocker";
/// What /proc/self/exe of it begins with: memfd_create(2).
const COPY_PATH: &str = "/memfd:pocker";

/// Returns where this process runs from one of them, or why it does not. For a process of one
/// thread that did nothing yet: it begins anew.
pub fn shield() -> Result<(), Fault> {
    if is_again() {
        let _ = prctl::set_name(c"pocker");
        return Ok(());
    }
    let flags = statvfs(EXE).attempt("look at this program's file")?.flags();
    if flags.contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    let file = match read_only_mount() {
        Ok(mount) => mount,
        Err(fault) => sealed_copy().map_err(|copy| Fault::new(format!("{fault}; {copy}")))?,
    };
    let path = std::env::current_exe().unwrap_or_default();
    let args: Vec<CString> = strings(std::env::args_os().map(|arg| arg.as_bytes().to_vec()));
    let others = std::env::vars_os().filter(|(name, _)| name != NAME);
    let join = |name: &OsStr, value: &OsStr| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let mut env = strings(others.map(|(name, value)| join(&name, &value)));
    env.extend(strings(std::iter::once(join(
        NAME.as_ref(),
        path.as_os_str(),
    ))));
    let pointers = |list: &[CString]| {
        let all = list.iter().map(|text| text.as_ptr());
        all.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    // SAFETY: both arrays end with null, and what they point at lives until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop).attempt("begin anew")
}

/// The mount that it runs from is nowhere, and so is the copy: there is no path to its file.
fn is_again() -> bool {
    let link = std::fs::read_link(OsStr::from_bytes(EXE.to_bytes()));
    link.is_ok_and(|path| {
        path == Path::new("/")
            || path
                .as_os_str()
                .as_bytes()
                .starts_with(COPY_PATH.as_bytes())
    })
}

/// This program's file, for those who start it again.
pub fn program() -> std::io::Result<PathBuf> {
    match is_again() {
        false => std::env::current_exe(),
        true => std::env::var_os(NAME)
            .map(PathBuf::from)
            .ok_or_else(|| std::io::Error::other("it cannot tell where its file is")),
    }
}

fn strings(all: impl Iterator<Item = Vec<u8>>) -> Vec<CString> {
    all.filter_map(|text| CString::new(text).ok()).collect()
}

/// Nobody can write to it any more; its mode and owner are nobody else's.
fn sealed_copy() -> Result<OwnedFd, Fault> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create(COPY, flags).attempt("memfd_create")?);
    let mut own = File::open(OsStr::from_bytes(EXE.to_bytes())).attempt("open this program")?;
    std::io::copy(&mut own, &mut copy).attempt("copy this program to memory")?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).attempt("seal the copy of this program")?;
    Ok(copy.into())
}

fn read_only_mount() -> Result<OwnedFd, Fault> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a string; the call makes a descriptor that nothing else owns.
    let mount = unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, EXE.as_ptr(), flags);
        OwnedFd::from_raw_fd(Errno::result(fd).attempt("open_tree (Linux 5.2 or later)")? as i32)
    };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the structure is read, and as long as is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).attempt("mount_setattr (Linux 5.12 or later)")?;
    Ok(mount)
}
