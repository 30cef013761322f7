//! What only some systems have: sharing a file's blocks.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

#[cfg(target_os = "linux")]
mod ioctl {
    // linux/fs.h: FICLONE = _IOW(0x94, 9, int)
    nix::ioctl_write_int!(ficlone, 0x94, 9);
}

/// Makes `to` share all of `from`'s blocks (ioctl_ficlone(2)); fails where the
/// file system, or the pair of files, cannot.
#[cfg(target_os = "linux")]
pub(crate) fn reflink(from: &File, to: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let source = nix::libc::c_ulong::try_from(from.as_raw_fd())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: FICLONE takes a descriptor by value and touches no memory of
    // ours; both descriptors are open for as long as the call lasts.
    unsafe { ioctl::ficlone(to.as_raw_fd(), source) }?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn reflink(_from: &File, _to: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Has the file system promise `len` more bytes at `at`, the end of the file.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn allocate(file: &File, at: u64, len: u64) -> io::Result<()> {
    let wide = |n| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    Ok(nix::fcntl::posix_fallocate(file, wide(at)?, wide(len)?)?)
}

/// As above: zeros are the portable way to be promised space.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn allocate(file: &File, at: u64, len: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
    let mut at = at;
    let end = at + len;
    while at < end {
        let part = (end - at).min(ZEROS.len() as u64) as usize;
        file.write_all_at(&ZEROS[..part], at)?;
        at += part as u64;
    }
    Ok(())
}
