//! Whether the other end of a TCP connection on this host is the kernel's: its NFS client has sockets that no process has
//! open. OpenBSD tells; elsewhere the kernel's client comes by a network of its own.

use std::io;
use std::net::SocketAddrV4;

#[cfg(target_os = "openbsd")]
mod imp {
    use super::*;
    use nix::errno::Errno;
    use std::net::Ipv4Addr;

    pub const TELLS_KERNELS: bool = true;

    /// Both ends of each IPv4 socket that is an open file, one on its way to a process included (sysctl(2), KERN_FILE_BYFILE).
    pub fn open() -> io::Result<Vec<(SocketAddrV4, SocketAddrV4)>> {
        const SIZE: usize = size_of::<libc::kinfo_file>();
        /// Files that come between the two calls.
        const MORE: usize = 256;
        let mut mib = [
            libc::CTL_KERN,
            libc::KERN_FILE,
            libc::KERN_FILE_BYFILE,
            0,
            SIZE as libc::c_int,
            0,
        ];
        let ask = |mib: &[libc::c_int; 6], to: *mut libc::kinfo_file, bytes: &mut usize| {
            // SAFETY: six numbers are read, and at most `bytes` bytes are written where there is room for them.
            let done = unsafe {
                let (to, none) = (to.cast(), std::ptr::null_mut());
                libc::sysctl(mib.as_ptr(), mib.len() as _, to, bytes, none, 0)
            };
            Errno::result(done).map(drop)
        };
        // Files may come faster than there is room for.
        let mut bytes = 0;
        ask(&mib, std::ptr::null_mut(), &mut bytes)?;
        let room = bytes / SIZE + MORE;
        // SAFETY: numbers and characters, of which all zeros are values.
        let mut files: Vec<libc::kinfo_file> = vec![unsafe { std::mem::zeroed() }; room];
        mib[5] = libc::c_int::try_from(room).map_err(io::Error::other)?;
        bytes = room * SIZE;
        ask(&mib, files.as_mut_ptr(), &mut bytes)?;
        files.truncate(bytes / SIZE);
        let inet = |file: &&libc::kinfo_file| {
            file.f_type == libc::DTYPE_SOCKET as u32 && file.so_family == libc::AF_INET as u32
        };
        let end = |addr: u32, port: u32| {
            let addr = Ipv4Addr::from(addr.to_ne_bytes());
            SocketAddrV4::new(addr, u16::from_be(port as u16))
        };
        let both = |file: &libc::kinfo_file| {
            let own = end(file.inp_laddru[0], file.inp_lport);
            (own, end(file.inp_faddru[0], file.inp_fport))
        };
        Ok(files.iter().filter(inet).map(both).collect())
    }
}

#[cfg(not(target_os = "openbsd"))]
mod imp {
    use super::*;

    pub const TELLS_KERNELS: bool = false;

    pub fn open() -> io::Result<Vec<(SocketAddrV4, SocketAddrV4)>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub use imp::TELLS_KERNELS;

/// Whether the connection from `peer` to this host's port has a process at its other end, or will have.
pub fn is_a_process(peer: SocketAddrV4, port: u16) -> io::Result<bool> {
    Ok(has(&imp::open()?, peer, port))
}

fn has(open: &[(SocketAddrV4, SocketAddrV4)], peer: SocketAddrV4, port: u16) -> bool {
    let theirs = |(own, other): &(SocketAddrV4, SocketAddrV4)| {
        *own == peer && other.ip().is_loopback() && other.port() == port
    };
    open.iter().any(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_found_and_not_our_own() {
        let addr = |text: &str| text.parse::<SocketAddrV4>().expect("an address");
        let (peer, own) = (addr("127.0.0.1:1001"), addr("127.0.0.1:2049"));
        let other = addr("127.0.0.1:1002");
        // Ours of that connection, and somebody's to another server.
        let kernels = [(own, peer), (peer, addr("127.0.0.1:80")), (other, own)];
        assert!(!has(&kernels, peer, 2049));
        assert!(has(&kernels, other, 2049));
        assert!(has(&[(peer, own)], peer, 2049));
    }
}
