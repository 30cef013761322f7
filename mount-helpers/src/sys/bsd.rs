//! OpenBSD's, FreeBSD's and NetBSD's calls for mounts: a plan in, the kernel's word out.

use crate::bsd::plan::{Call, Plan, System};
use crate::helper::Unmounted;
use nix::errno::Errno;
use std::ffi::{CString, c_char};
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[cfg(target_os = "openbsd")]
pub(crate) const BSD: Option<System> = Some(System::OpenBsd);
#[cfg(target_os = "freebsd")]
pub(crate) const BSD: Option<System> = Some(System::FreeBsd);
#[cfg(target_os = "netbsd")]
pub(crate) const BSD: Option<System> = Some(System::NetBsd);

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn sockaddr(addr: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: sockaddr_in is plain data, valid when all zero.
    let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    raw.sin_len = size_of::<libc::sockaddr_in>() as u8;
    raw.sin_family = libc::AF_INET as libc::sa_family_t;
    raw.sin_port = addr.port().to_be();
    raw.sin_addr.s_addr = u32::from(*addr.ip()).to_be();
    raw
}

fn wrong_system() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a plan for another system than this",
    )
}

#[cfg(target_os = "openbsd")]
pub(crate) fn bsd_mount(plan: &Plan) -> io::Result<()> {
    use crate::bsd::layout::{NfsArgs, openbsd};
    use std::ffi::{c_int, c_void};
    use std::ptr::{from_mut, from_ref};

    // libc has no binding for mount(2) here; its struct, made by hand as ours, must be as large.
    unsafe extern "C" {
        fn mount(kind: *const c_char, dir: *const c_char, flags: c_int, data: *mut c_void)
        -> c_int;
    }
    const _: () = assert!(size_of::<NfsArgs>() == size_of::<libc::nfs_args>());
    const _: () = assert!(openbsd::NFS_ARGSVERSION == libc::NFS_ARGSVERSION);

    let Call::OpenBsd(asked) = &plan.call else {
        return Err(wrong_system());
    };
    let target = c_path(&plan.target)?;
    let addr = sockaddr(asked.addr);
    let fhsize = i32::try_from(asked.root.len()).map_err(io::Error::other)?;
    let seconds = asked.attributes.unwrap_or_default();
    let mut args = NfsArgs {
        version: openbsd::NFS_ARGSVERSION,
        addr: from_ref(&addr).cast_mut().cast(),
        addrlen: size_of::<libc::sockaddr_in>() as i32,
        sotype: openbsd::SOCK_STREAM,
        proto: 0,
        fh: asked.root.as_ptr().cast_mut(),
        fhsize,
        flags: asked.flags,
        wsize: asked.wsize,
        rsize: asked.rsize,
        readdirsize: 0,
        timeo: 0,
        retrans: 0,
        maxgrouplist: 0,
        readahead: asked.readahead,
        leaseterm: 0,
        deadthresh: 0,
        hostname: asked.shown.as_ptr().cast_mut().cast(),
        acregmin: seconds,
        acregmax: seconds,
        acdirmin: seconds,
        acdirmax: seconds,
    };
    // SAFETY: strings end in NUL; the kernel copies what `args` points to, all of which lives until here.
    let done = unsafe {
        mount(
            c"nfs".as_ptr(),
            target.as_ptr(),
            plan.flags.0,
            from_mut(&mut args).cast(),
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

#[cfg(target_os = "netbsd")]
pub(crate) fn bsd_mount(plan: &Plan) -> io::Result<()> {
    use crate::bsd::layout::{NetBsdArgs, netbsd};
    use std::ptr::{from_mut, from_ref};

    let Call::NetBsd(asked) = &plan.call else {
        return Err(wrong_system());
    };
    let target = c_path(&plan.target)?;
    let addr = sockaddr(asked.addr);
    let fhsize = i32::try_from(asked.root.len()).map_err(io::Error::other)?;
    let mut args = NetBsdArgs {
        version: netbsd::NFS_ARGSVERSION,
        addr: from_ref(&addr).cast_mut().cast(),
        addrlen: size_of::<libc::sockaddr_in>() as i32,
        sotype: libc::SOCK_STREAM,
        proto: 0,
        fh: asked.root.as_ptr().cast_mut(),
        fhsize,
        flags: asked.flags,
        wsize: asked.wsize,
        rsize: asked.rsize,
        readdirsize: 0,
        timeo: 0,
        retrans: 0,
        maxgrouplist: 0,
        readahead: asked.readahead,
        leaseterm: 0,
        deadthresh: 0,
        hostname: asked.shown.as_ptr().cast_mut().cast(),
    };
    // SAFETY: strings end in NUL; the kernel copies what `args` points to, all of which lives until here, and no
    // more of it than is said.
    let done = unsafe {
        libc::mount(
            c"nfs".as_ptr(),
            target.as_ptr(),
            plan.flags.0,
            from_mut(&mut args).cast(),
            size_of::<NetBsdArgs>(),
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

#[cfg(target_os = "freebsd")]
pub(crate) fn bsd_mount(plan: &Plan) -> io::Result<()> {
    use std::ffi::CStr;

    let Call::FreeBsd {
        addr,
        root,
        options,
    } = &plan.call
    else {
        return Err(wrong_system());
    };
    let target = c_path(&plan.target)?;
    let addr = sockaddr(*addr);
    // What the kernel has to say beside its number.
    let mut said = [0u8; 256];
    let mut texts = Vec::new();
    for (name, value) in options {
        texts.push((
            CString::new(*name)?,
            value.as_deref().map(CString::new).transpose()?,
        ));
    }
    let mut parts: Vec<libc::iovec> = Vec::new();
    let mut pair = |name: &CStr, value: *const u8, len: usize| {
        for (base, len) in [
            (name.as_ptr().cast::<u8>(), name.count_bytes() + 1),
            (value, len),
        ] {
            parts.push(libc::iovec {
                iov_base: base.cast_mut().cast(),
                iov_len: len,
            });
        }
    };
    pair(c"fspath", target.as_ptr().cast(), target.count_bytes() + 1);
    pair(
        c"addr",
        std::ptr::from_ref(&addr).cast(),
        size_of::<libc::sockaddr_in>(),
    );
    pair(c"fh", root.as_ptr(), root.len());
    for (name, value) in &texts {
        match value {
            Some(value) => pair(name, value.as_ptr().cast(), value.count_bytes() + 1),
            None => pair(name, std::ptr::null(), 0),
        }
    }
    pair(c"errmsg", said.as_mut_ptr(), said.len());
    // SAFETY: every part points to bytes that live until here, of at least its length.
    let done = unsafe {
        libc::nmount(
            parts.as_mut_ptr(),
            parts.len() as libc::c_uint,
            plan.flags.0,
        )
    };
    match Errno::result(done) {
        Ok(_) => Ok(()),
        Err(errno) => {
            let said = CStr::from_bytes_until_nul(&said).unwrap_or_default();
            match said.to_string_lossy() {
                text if text.is_empty() => Err(errno.into()),
                text => Err(io::Error::other(format!("{errno}: {text}"))),
            }
        }
    }
}

/// Whether an NFS mount begins at `target`: where mount(2) did nothing, the directory may still be one of
/// another's.
pub(crate) fn is_nfs(target: &Path) -> io::Result<bool> {
    let path = c_path(target)?;
    let found = mount_of(&path)?;
    // The other way to write the same path: FreeBSD and NetBSD record it without symlinks.
    let plain = std::fs::canonicalize(target)?;
    let on = text(&found.f_mntonname);
    let begins = on == target.as_os_str().as_bytes() || on == plain.as_os_str().as_bytes();
    Ok(begins && text(&found.f_fstypename) == b"nfs")
}

#[cfg(not(target_os = "netbsd"))]
fn mount_of(path: &CString) -> io::Result<libc::statfs> {
    // SAFETY: statfs is plain data, valid when all zero.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and the kernel fills one struct.
    Errno::result(unsafe { libc::statfs(path.as_ptr(), &raw mut found) })?;
    Ok(found)
}

/// Its statvfs(2) tells where a mount begins, and there is no other.
#[cfg(target_os = "netbsd")]
fn mount_of(path: &CString) -> io::Result<libc::statvfs> {
    // SAFETY: statvfs is plain data, valid when all zero.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and the kernel fills one struct.
    Errno::result(unsafe { libc::statvfs(path.as_ptr(), &raw mut found) })?;
    Ok(found)
}

/// The bytes before the NUL that ends a text of the kernel's.
fn text(field: &[c_char]) -> Vec<u8> {
    let bytes = field.iter().map(|c| *c as u8);
    bytes.take_while(|byte| *byte != 0).collect()
}

fn unmount_with(target: &Path, flags: i32) -> io::Result<()> {
    let path = c_path(target)?;
    // SAFETY: the path ends in NUL.
    let done = unsafe { libc::unmount(path.as_ptr(), flags) };
    Ok(Errno::result(done).map(drop)?)
}

/// Unmounts: plainly, else, where it is in use, by force.
pub(crate) fn unmount(target: &Path) -> io::Result<Unmounted> {
    match unmount_with(target, 0) {
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => unmount_dead(target),
        done => done.map(|()| Unmounted::Gone),
    }
}

/// By force, what is mounted below it too.
pub(crate) fn unmount_dead(target: &Path) -> io::Result<Unmounted> {
    unmount_with(target, libc::MNT_FORCE)?;
    Ok(Unmounted::Gone)
}
