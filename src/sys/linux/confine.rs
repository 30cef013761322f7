//! What a sandbox's command gives up, root or not: its host's keys, capabilities, what
//! programs could give back to it, and most system calls.

use super::super::{Attempt, Capabilities, Capability, Fault};
use super::filter;
use nix::errno::Errno;
use nix::sys::prctl;

/// Until the next exec the caller keeps what is in force now; what it may have from then on
/// is bounded by `granted`.
pub fn confine(granted: Capabilities, setuid: bool) -> Result<(), Fault> {
    leave_keyring().attempt("leave the host's keyring")?;
    bound(granted).attempt("bound the capabilities")?;
    if !setuid {
        prctl::set_no_new_privs().attempt("give up what setuid programs give")?;
    }
    // While SYS_ADMIN is in force: without no_new_privs nobody else may.
    filter::install(granted)
}

/// For a process that supervises inside the sandbox. What is to be had of it there is the
/// right to send signals; and its memory, which knows the paths of exports, is not to be read
/// even by the root whose capabilities are more.
pub fn confine_supervisor() -> Result<(), Fault> {
    prctl::set_dumpable(false).attempt("hide the supervisor's memory")?;
    let kept = Capabilities::of(&[Capability::KILL]);
    bound(kept).attempt("bound the capabilities")?;
    prctl::set_no_new_privs().attempt("give up what setuid programs give")?;
    set_capabilities(kept, Capabilities::NONE).attempt("give up capabilities")?;
    filter::install(Capabilities::NONE)
}

/// For the process that serves, and the threads that it starts from here on: `kept` and no more, for good.
pub fn confine_server(kept: Capabilities) -> Result<(), Fault> {
    match bound(kept) {
        // Without SETPCAP the bound stays; nothing is executed that could make use of it.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno).attempt("bound the capabilities"),
    }
    prctl::set_no_new_privs().attempt("give up what setuid programs give")?;
    set_capabilities(kept, Capabilities::NONE).attempt("give up capabilities")?;
    filter::install_server(kept)
}

/// A session keyring that holds nothing: the caller's is that of whoever started it.
/// Kernels without keys have none to leave.
fn leave_keyring() -> nix::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) };
    match Errno::result(done) {
        Err(Errno::ENOSYS) | Ok(_) => Ok(()),
        // A keyring more than the user may have: one in which the host's keys are not
        // must be there all the same.
        Err(errno) => Err(errno),
    }
}

/// Bounds what any later exec can have. What is in force now stays until then.
pub fn bound(granted: Capabilities) -> nix::Result<()> {
    for number in 0..64 {
        if granted.bits() & (1 << number) != 0 {
            continue;
        }
        // SAFETY: takes numbers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
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
    let mut sets = get()?;
    for half in &mut sets {
        half.inheritable = 0;
    }
    set(&sets)
}

/// After setuid(2) to `uid`, which is not root: `kept` stays, over exec too. The caller
/// called [`keep_over_setuid`] before.
pub fn raise(kept: Capabilities) -> nix::Result<()> {
    set_capabilities(kept, kept)?;
    for number in (0..64).filter(|n| kept.bits() & (1 << n) != 0) {
        // SAFETY: takes numbers only.
        let done = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                number,
                0,
                0,
            )
        };
        Errno::result(done)?;
    }
    Ok(())
}

pub fn keep_over_setuid() -> nix::Result<()> {
    prctl::set_keepcaps(true)
}

/// _LINUX_CAPABILITY_VERSION_3 (capget(2)).
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const HERE: Header = Header {
    version: VERSION,
    pid: 0,
};

fn get() -> nix::Result<[Data; 2]> {
    let mut header = HERE;
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads and writes the header and two data, which these are.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &mut header, data.as_mut_ptr()) })?;
    Ok(data)
}

fn set(data: &[Data; 2]) -> nix::Result<()> {
    let mut header = HERE;
    // SAFETY: as in `get`; the data are only read.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_ptr()) })?;
    Ok(())
}

/// What is in force; what of `wanted` this process does not have is left out, as a kernel
/// or an outer sandbox may know fewer.
fn set_capabilities(wanted: Capabilities, inheritable: Capabilities) -> nix::Result<()> {
    let half = |bits: u64, shift: u32| u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or(0);
    let had = get()?;
    let mut sets = had;
    for (at, shift) in [(0, 0), (1, 32)] {
        let kept = half(wanted.bits(), shift) & had[at].permitted;
        sets[at] = Data {
            effective: kept,
            permitted: kept,
            inheritable: half(inheritable.bits(), shift) & kept,
        };
    }
    set(&sets)
}
