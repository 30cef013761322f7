//! The files and ports that are left to a process, whatever its user may (landlock(7)).
//!
//! It is asked where something is opened, made, removed or renamed, by the directories above it. It is not asked for
//! a file's owner, mode, times and attributes, nor for unix sockets with a path.

use super::super::{Attempt, Fault};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::path::PathBuf;

/// The first that lets a file go from one directory to another (Linux 5.19).
const LEAST: i32 = 2;
/// What is asked for where the kernel has it; older ones bound less.
const WANTED: ABI = ABI::V6;

/// The version that this kernel has, where that is enough.
pub fn landlock() -> Option<i32> {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no memory, and answers a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            none,
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    i32::try_from(version).ok().filter(|v| *v >= LEAST)
}

/// Leaves this thread, and those that it starts, what is listed: paths with rights as unveil(2) writes them, but that
/// nothing is executed, and no device made; TCP ports to listen on, and connections where `connects`. False: the kernel
/// cannot. What is not there is not reached later either.
pub fn enclose(paths: &[(PathBuf, &str)], ports: &[u16], connects: bool) -> Result<bool, Fault> {
    if landlock().is_none() {
        return Ok(false);
    }
    let failed = |e: RulesetError| Fault::new(format!("landlock: {e}"));
    let mut net = BitFlags::from(AccessNet::BindTcp);
    if !connects {
        net |= AccessNet::ConnectTcp;
    }
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))
        .and_then(|rules| rules.handle_access(net))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    for (path, rights) in paths {
        let shown = format!("open {}", path.display());
        let place = match open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(errno) => return Err(errno).attempt(shown),
        };
        let stat = fstat(&place).attempt(shown)?;
        let mut granted = access(rights)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
            granted &= AccessFs::from_file(WANTED);
        }
        let rule = PathBeneath::new(place, granted);
        rules = rules.add_rule(rule).map_err(failed)?;
    }
    for port in ports {
        let rule = NetPort::new(*port, AccessNet::BindTcp);
        rules = rules.add_rule(rule).map_err(failed)?;
    }
    rules.restrict_self().map_err(failed)?;
    Ok(true)
}

fn access(rights: &str) -> Result<BitFlags<AccessFs>, Fault> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{WriteFile | Truncate});
    let change = make_bitflags!(AccessFs::{
        MakeReg | MakeDir | MakeSym | MakeFifo | MakeSock | RemoveFile | RemoveDir | Refer
    });
    match rights {
        "r" => Ok(read),
        "rw" => Ok(read | write),
        "rwc" => Ok(read | write | change),
        other => Err(Fault::new(format!("{other} is no right to a path"))),
    }
}

#[cfg(test)]
#[path = "landlock_tests.rs"]
mod tests;
