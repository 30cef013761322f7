//! The system calls that a sandbox's processes have left (seccomp(2)).
//!
//! Two programs, for each has one answer besides "allow": the first answers ENOSYS to what is
//! in no list, the second EPERM to what is known and refused. Where both refuse, the kernel
//! takes the answer of the one that was installed last. A call of another processor's kind
//! (32-bit programs) ends the process; x32 calls have numbers of their own, in no list.

mod groups;

use super::super::capability::Capabilities;
use super::super::{Attempt, Capability, Fault};
use groups::{ALLOWED, BY_CAPABILITY, LEGACY, NOT_A_SERVERS, REFUSED};
use libc::c_long;
use nix::errno::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Without TIME, which clone(2) has no room for.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// linux/sched.h; in clone(2) the same bit belongs to the signal.
const CLONE_NEWTIME: libc::c_int = 0x80;

/// What programs are made of: other families are little used and often attacked
/// (AF_ALG, AF_VSOCK, which leads to the hypervisor, and forty more).
const FAMILIES: [libc::c_int; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// personality(2): Linux as it is, as a 32-bit one, each with an old version's number, and
/// the question which it is. Others switch off what makes exploits hard.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Puts bytes into the input of a terminal: a command of whoever reads it next.
const INPUT_IOCTLS: [u64; 2] = [libc::TIOCSTI, TIOCLINUX];
/// ioctl_tty(2): pastes a selection the same way.
const TIOCLINUX: u64 = 0x541c;

/// What the caller and its children have from now on; `granted` may lift some.
/// Without no_new_privs the caller needs SYS_ADMIN.
pub fn install(granted: Capabilities) -> Result<(), Fault> {
    for program in programs(granted).map_err(|e| Fault::new(format!("filter system calls: {e}")))? {
        load(&program).attempt("filter system calls")?;
    }
    Ok(())
}

/// For the server: what a sandbox has, less what starts, traces or looks into processes.
pub fn install_server(kept: Capabilities) -> Result<(), Fault> {
    install(kept)?;
    let refuse = || -> Result<BpfProgram, BackendError> {
        let calls = NOT_A_SERVERS.iter().flat_map(|group| *group);
        let rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
        let arch = std::env::consts::ARCH.try_into()?;
        let refused = SeccompAction::Errno(Errno::EPERM as u32);
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
    };
    let program = refuse().map_err(|e| Fault::new(format!("filter system calls: {e}")))?;
    load(&program).attempt("filter system calls")
}

/// For all threads of this process: no socket of this host's is made any more, to be listened on or connected. One of
/// a pair of datagram sockets could be connected anew.
pub fn no_more_unix_sockets() -> Result<(), Fault> {
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let which = one_of(0, &[unix]).map_err(|e| Fault::new(format!("filter system calls: {e}")))?;
    refuse_sockets(which)
}

/// The same of any socket.
pub fn no_more_sockets() -> Result<(), Fault> {
    refuse_sockets(Vec::new())
}

fn refuse_sockets(which: Vec<SeccompRule>) -> Result<(), Fault> {
    let refuse = || -> Result<BpfProgram, BackendError> {
        let rules = Rules::from([
            (libc::SYS_socket, which.clone()),
            (libc::SYS_socketpair, which),
        ]);
        let arch = std::env::consts::ARCH.try_into()?;
        let refused = SeccompAction::Errno(Errno::EPERM as u32);
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
    };
    let program = refuse().map_err(|e| Fault::new(format!("filter system calls: {e}")))?;
    load_with(&program, libc::SECCOMP_FILTER_FLAG_TSYNC).attempt("filter system calls")
}

fn programs(granted: Capabilities) -> Result<[BpfProgram; 2], BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let errno = |errno: Errno| SeccompAction::Errno(errno as u32);
    let known = SeccompFilter::new(
        allowed(granted),
        errno(Errno::ENOSYS),
        SeccompAction::Allow,
        arch,
    )?;
    let refused = SeccompFilter::new(
        refused(granted)?,
        SeccompAction::Allow,
        errno(Errno::EPERM),
        arch,
    )?;
    Ok([known.try_into()?, refused.try_into()?])
}

/// Everything that is not answered with ENOSYS: what is allowed, and what the second
/// program refuses.
fn allowed(granted: Capabilities) -> Rules {
    let mut rules = Rules::new();
    let groups = ALLOWED.iter().chain(LEGACY).chain(REFUSED);
    // Of these some are refused by the second program.
    let guarded = [
        libc::SYS_clone,
        libc::SYS_unshare,
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_personality,
        libc::SYS_ioctl,
    ];
    let by_capability = BY_CAPABILITY.iter().flat_map(|(_, group)| *group);
    let calls = groups.flat_map(|group| *group);
    for call in calls.chain(&guarded).chain(by_capability) {
        rules.insert(*call, Vec::new());
    }
    // Its flags can be looked at by nobody; who may make namespaces anyway may have it.
    if granted.has(Capability::SYS_ADMIN) {
        rules.insert(libc::SYS_clone3, Vec::new());
    }
    rules
}

fn refused(granted: Capabilities) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    for call in REFUSED.iter().flat_map(|group| *group) {
        rules.insert(*call, Vec::new());
    }
    for call in BY_CAPABILITY.iter().flat_map(|(_, group)| *group) {
        rules.insert(*call, Vec::new());
    }
    rules.insert(libc::SYS_clone, any_bit(0, &NAMESPACES)?);
    let mut unshared = any_bit(0, &NAMESPACES)?;
    unshared.extend(any_bit(0, &[CLONE_NEWTIME])?);
    rules.insert(libc::SYS_unshare, unshared);
    let mut families: Vec<u64> = FAMILIES.iter().map(|f| f.unsigned_abs().into()).collect();
    if granted.has(Capability::NET_RAW) {
        families.push(libc::AF_PACKET.unsigned_abs().into());
    }
    rules.insert(libc::SYS_socket, none_of(0, &families)?);
    rules.insert(libc::SYS_socketpair, none_of(0, &families)?);
    rules.insert(libc::SYS_personality, none_of(0, &PERSONALITIES)?);
    rules.insert(libc::SYS_ioctl, one_of(1, &INPUT_IOCTLS)?);
    for (capability, group) in BY_CAPABILITY {
        if granted.has(*capability) {
            for call in *group {
                rules.remove(call);
            }
        }
    }
    Ok(rules)
}

/// The kernel looks at 32 bits of all these arguments, so no more are compared: a bit above
/// them would otherwise slip through.
fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

fn any_bit(argument: u8, bits: &[libc::c_int]) -> Result<Vec<SeccompRule>, BackendError> {
    bits.iter()
        .map(|bit| {
            let bit = u64::from(bit.cast_unsigned());
            SeccompRule::new(vec![condition(argument, SeccompCmpOp::MaskedEq(bit), bit)?])
        })
        .collect()
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .iter()
        .map(|value| SeccompRule::new(vec![condition(argument, SeccompCmpOp::Eq, *value)?]))
        .collect()
}

fn none_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let conditions = values
        .iter()
        .map(|value| condition(argument, SeccompCmpOp::Ne, *value))
        .collect::<Result<_, _>>()?;
    Ok(vec![SeccompRule::new(conditions)?])
}

/// seccompiler's own way always sets no_new_privs, which a build must not have.
fn load(program: &BpfProgram) -> nix::Result<()> {
    load_with(program, 0)
}

fn load_with(program: &BpfProgram, flags: libc::c_ulong) -> nix::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies `len` instructions of the shape of sock_filter, which is
    // what the program has, and writes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match Errno::result(done)? {
        0 => Ok(()),
        // A thread that has filters of its own.
        _ => Err(Errno::ESRCH),
    }
}

#[cfg(test)]
mod tests;
