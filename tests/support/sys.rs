//! System calls that the standard library lacks.
#![allow(unsafe_code)]

use pocker_store::types::Creds;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The command, and all that it starts, finds a kernel that has no such call yet.
pub fn on_a_kernel_without(call: libc::c_long, command: &mut Command) {
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        std::env::consts::ARCH.try_into().expect("an architecture"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    // SAFETY: two system calls between fork and exec; the program was made before.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::Error::last_os_error())
        });
    }
}

/// Makes this thread act as somebody from now on, with a umask of 0 of its own.
pub fn become_user(who: &Creds) {
    let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS);
    unshared.expect("a umask of its own");
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    // SAFETY: raw calls that change this thread alone, where libc's wrappers would change
    // all; the groups' pointer and length are one vector's.
    unsafe {
        let groups = libc::syscall(libc::SYS_setgroups, who.gids.len(), who.gids.as_ptr());
        assert_eq!(groups, 0);
        let (gid, uid) = (who.gid, who.uid);
        assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
        assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
    }
}
