//! What a run's command gives up, root or not: with these a sandbox's root is the host's.

use nix::errno::Errno;

/// What of /proc is the kernel's and not a process's (proc(5)).
pub const KERNEL: &[&str] = &[
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
];

/// What services use to set up files, users and low ports (capabilities(7)). Not among
/// them: MKNOD and SYS_ADMIN, which reach the host's disks, and NET_RAW, as the network is
/// the host's.
const KEPT: &[libc::c_ulong] = &[
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    18, // SYS_CHROOT
    29, // AUDIT_WRITE
];

/// _LINUX_CAPABILITY_VERSION_3 (capget(2)).
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Bounds what any later exec can have. What is in force now stays until then.
pub fn capabilities() -> nix::Result<()> {
    for cap in 0..64 {
        if KEPT.contains(&cap) {
            continue;
        }
        // SAFETY: takes numbers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) };
        match Errno::result(done) {
            Ok(_) => {}
            // Past the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: takes numbers only.
    Errno::result(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    })?;
    // The bound does not hold for inheritable ones.
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads and writes the header and two data, which these are.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()) })?;
    for half in &mut data {
        half.inheritable = 0;
    }
    // SAFETY: as above; nothing is written.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) })?;
    Ok(())
}
