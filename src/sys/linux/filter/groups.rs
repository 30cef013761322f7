//! Which system calls a sandbox has, in groups with the reason for each.
//!
//! What is in no group is answered with ENOSYS, as on an older kernel: so io_uring, which does
//! what the filter cannot see, and clone3, whose flags lie in memory where no filter can look
//! (libraries then use clone). What is older than a kind of processor is not there on others
//! ([`LEGACY`]).

use crate::sys::Capability;
use libc::c_long;

/// Each has its reason beside it.
pub type Group = &'static [c_long];

/// Newer than the C library's list; the same number on every processor (since 5.x).
mod new {
    use libc::c_long;
    pub const CACHESTAT: c_long = 451;
    pub const FCHMODAT2: c_long = 452;
    pub const MAP_SHADOW_STACK: c_long = 453;
    pub const FUTEX_WAKE: c_long = 454;
    pub const FUTEX_WAIT: c_long = 455;
    pub const FUTEX_REQUEUE: c_long = 456;
    pub const STATMOUNT: c_long = 457;
    pub const LISTMOUNT: c_long = 458;
    pub const LSM_GET_SELF_ATTR: c_long = 459;
    pub const LSM_SET_SELF_ATTR: c_long = 460;
    pub const LSM_LIST_MODULES: c_long = 461;
    pub const MSEAL: c_long = 462;
    pub const SETXATTRAT: c_long = 463;
    pub const GETXATTRAT: c_long = 464;
    pub const LISTXATTRAT: c_long = 465;
    pub const REMOVEXATTRAT: c_long = 466;
    pub const OPEN_TREE_ATTR: c_long = 467;
}

pub const ALLOWED: &[Group] = &[
    // Files and directories: the mount's server and the kernel check each by its user.
    &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_preadv,
        libc::SYS_pwritev,
        libc::SYS_preadv2,
        libc::SYS_pwritev2,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_fcntl,
        libc::SYS_flock,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_sync,
        libc::SYS_syncfs,
        libc::SYS_truncate,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fadvise64,
        libc::SYS_readahead,
        libc::SYS_getcwd,
        libc::SYS_chdir,
        libc::SYS_fchdir,
        libc::SYS_umask,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        new::FCHMODAT2,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_getdents64,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        libc::SYS_sendfile,
        libc::SYS_splice,
        libc::SYS_tee,
        libc::SYS_vmsplice,
        libc::SYS_copy_file_range,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        libc::SYS_getxattr,
        libc::SYS_lgetxattr,
        libc::SYS_fgetxattr,
        libc::SYS_listxattr,
        libc::SYS_llistxattr,
        libc::SYS_flistxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        new::SETXATTRAT,
        new::GETXATTRAT,
        new::LISTXATTRAT,
        new::REMOVEXATTRAT,
        new::CACHESTAT,
    ],
    // Device nodes and fifos: devices need MKNOD, which a run does not have, and no mount lets them be opened.
    &[libc::SYS_mknodat],
    // Names of files that were opened already; by handle alone opens nothing without DAC_READ_SEARCH.
    &[libc::SYS_name_to_handle_at],
    // Waiting and events.
    &[
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_eventfd2,
        libc::SYS_signalfd4,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_settime,
        libc::SYS_timerfd_gettime,
        libc::SYS_inotify_init1,
        libc::SYS_inotify_add_watch,
        libc::SYS_inotify_rm_watch,
        libc::SYS_fanotify_mark,
        libc::SYS_pipe2,
        libc::SYS_io_setup,
        libc::SYS_io_destroy,
        libc::SYS_io_submit,
        libc::SYS_io_cancel,
        libc::SYS_io_getevents,
    ],
    // Memory of the caller's own.
    &[
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_process_madvise,
        libc::SYS_mincore,
        libc::SYS_msync,
        libc::SYS_mlock,
        libc::SYS_mlock2,
        libc::SYS_munlock,
        libc::SYS_mlockall,
        libc::SYS_munlockall,
        libc::SYS_membarrier,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_remap_file_pages,
        libc::SYS_pkey_alloc,
        libc::SYS_pkey_free,
        libc::SYS_pkey_mprotect,
        new::MAP_SHADOW_STACK,
        new::MSEAL,
        libc::SYS_process_mrelease,
    ],
    // Processes and threads: of the own pid namespace only (clone's flags are looked at apart).
    &[
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_wait4,
        libc::SYS_waitid,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_getpgid,
        libc::SYS_setpgid,
        libc::SYS_getsid,
        libc::SYS_setsid,
        libc::SYS_set_tid_address,
        libc::SYS_set_robust_list,
        libc::SYS_get_robust_list,
        libc::SYS_rseq,
        libc::SYS_futex,
        libc::SYS_futex_waitv,
        new::FUTEX_WAKE,
        new::FUTEX_WAIT,
        new::FUTEX_REQUEUE,
        libc::SYS_restart_syscall,
        libc::SYS_prctl,
        libc::SYS_seccomp,
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
    ],
    // Signals.
    &[
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigpending,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_rt_sigsuspend,
        libc::SYS_sigaltstack,
    ],
    // Users, groups and capabilities: the kernel lets nobody have more than the bounds.
    &[
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getresuid,
        libc::SYS_getresgid,
        libc::SYS_getgroups,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
        libc::SYS_setgroups,
        libc::SYS_capget,
        libc::SYS_capset,
    ],
    // Clocks and timers to be read and waited for; none is set.
    &[
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_nanosleep,
        libc::SYS_getitimer,
        libc::SYS_setitimer,
        libc::SYS_timer_create,
        libc::SYS_timer_settime,
        libc::SYS_timer_gettime,
        libc::SYS_timer_getoverrun,
        libc::SYS_timer_delete,
        libc::SYS_times,
        // With changes to make they need SYS_TIME; ntp daemons read by them.
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
    ],
    // What a process may know of its machine, and its share of it.
    &[
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_getrandom,
        libc::SYS_getcpu,
        libc::SYS_getrusage,
        libc::SYS_prlimit64,
        libc::SYS_getpriority,
        libc::SYS_setpriority,
        libc::SYS_ioprio_get,
        libc::SYS_ioprio_set,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_getparam,
        libc::SYS_sched_setparam,
        libc::SYS_sched_getscheduler,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_getattr,
        libc::SYS_sched_setattr,
        libc::SYS_sched_get_priority_max,
        libc::SYS_sched_get_priority_min,
        libc::SYS_sched_rr_get_interval,
        new::STATMOUNT,
        new::LISTMOUNT,
        new::LSM_GET_SELF_ATTR,
        new::LSM_SET_SELF_ATTR,
        new::LSM_LIST_MODULES,
    ],
    // Sockets once they are made (which families can be made is looked at apart).
    &[
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_connect,
        libc::SYS_shutdown,
        libc::SYS_sendto,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
    ],
    // System V IPC and POSIX queues: of the own IPC namespace.
    &[
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmdt,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semctl,
        libc::SYS_semtimedop,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_msgctl,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
        libc::SYS_mq_timedsend,
        libc::SYS_mq_timedreceive,
        libc::SYS_mq_notify,
        libc::SYS_mq_getsetattr,
    ],
    // Debuggers: a process of the same run that has no more capabilities than the caller.
    &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
    ],
    // NUMA placement of the caller's own memory, which databases look at.
    &[libc::SYS_get_mempolicy],
];

/// What programs of this processor's old interface still call; newer processors never had it.
#[cfg(target_arch = "x86_64")]
pub const LEGACY: &[Group] = &[
    // The same as above in the old way.
    &[
        libc::SYS_open,
        libc::SYS_creat,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_newfstatat,
        libc::SYS_access,
        libc::SYS_mkdir,
        libc::SYS_rmdir,
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_link,
        libc::SYS_unlink,
        libc::SYS_symlink,
        libc::SYS_readlink,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_mknod,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
        libc::SYS_getdents,
        libc::SYS_dup2,
        libc::SYS_pipe,
        libc::SYS_poll,
        libc::SYS_select,
        libc::SYS_epoll_create,
        libc::SYS_epoll_ctl_old,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_wait_old,
        libc::SYS_eventfd,
        libc::SYS_signalfd,
        libc::SYS_inotify_init,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_getpgrp,
        libc::SYS_alarm,
        libc::SYS_pause,
        libc::SYS_time,
        libc::SYS_arch_prctl,
        libc::SYS_getrlimit,
        libc::SYS_setrlimit,
        libc::SYS_sync_file_range,
        libc::SYS_set_thread_area,
        libc::SYS_get_thread_area,
    ],
];

#[cfg(target_arch = "aarch64")]
pub const LEGACY: &[Group] = &[
    // The same as above in the old way.
    &[
        libc::SYS_newfstatat,
        libc::SYS_renameat,
        // asm-generic/unistd.h: sync_file_range, getrlimit, setrlimit.
        84,
        163,
        164,
    ],
];

/// What a capability that was asked for needs, and nobody else.
pub const BY_CAPABILITY: &[(Capability, Group)] = &[
    (
        Capability::SYS_CHROOT,
        // Services shut themselves in; the old root is not there to be reached.
        &[libc::SYS_chroot],
    ),
    (
        Capability::DAC_READ_SEARCH,
        // Opening by handle.
        &[libc::SYS_open_by_handle_at],
    ),
    (
        Capability::SYS_ADMIN,
        // Administration of mounts, names, quotas and namespaces.
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            new::OPEN_TREE_ATTR,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_fanotify_init,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_clone,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_lookup_dcookie,
            libc::SYS_syslog,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
        ],
    ),
    (
        Capability::BPF,
        // Programs in the kernel.
        &[libc::SYS_bpf],
    ),
    (
        Capability::PERFMON,
        // The processor's counters.
        &[libc::SYS_perf_event_open],
    ),
    (
        Capability::SYSLOG,
        // The kernel's log.
        &[libc::SYS_syslog],
    ),
    (
        Capability::SYS_BOOT,
        // Restarting the host, or another kernel.
        &[
            libc::SYS_reboot,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
        ],
    ),
    (
        Capability::SYS_MODULE,
        // Kernel modules.
        &[
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
        ],
    ),
    (
        Capability::SYS_NICE,
        // Where memory lies.
        &[
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_set_mempolicy_home_node,
            libc::SYS_migrate_pages,
            libc::SYS_move_pages,
        ],
    ),
    (
        Capability::SYS_PACCT,
        // Accounting of processes.
        &[libc::SYS_acct],
    ),
    (
        Capability::SYS_TIME,
        // Setting the host's clock.
        &[libc::SYS_settimeofday, libc::SYS_clock_settime],
    ),
    (
        Capability::SYS_TTY_CONFIG,
        // Hanging up terminals.
        &[libc::SYS_vhangup],
    ),
    #[cfg(target_arch = "x86_64")]
    (
        Capability::SYS_RAWIO,
        // The machine's ports.
        &[libc::SYS_iopl, libc::SYS_ioperm],
    ),
];

/// Known, and an attack's or an administrator's: EPERM, which programs take for "not
/// allowed" and report as such, where ENOSYS would have them look for another way.
pub const REFUSED: &[Group] = &[
    // The caller's keys are its host user's: keyrings know no namespace.
    &[libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl],
    // Holds the kernel in the middle of a copy, which exploits use to win races.
    &[libc::SYS_userfaultfd],
    // Swap and NFS server of the host.
    &[libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_nfsservctl],
];

/// Of what is allowed to a sandbox, what the server never calls.
pub const NOT_A_SERVERS: &[Group] = &[
    // It starts no program: its aide was forked before, and threads are none.
    &[libc::SYS_execve, libc::SYS_execveat],
    // Other processes' memory and descriptors.
    &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
    ],
    // Shared memory and queues with other processes.
    &[
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_semget,
        libc::SYS_msgget,
        libc::SYS_mq_open,
    ],
    // Memory that nobody can look at, and habits of other systems.
    &[libc::SYS_memfd_secret, libc::SYS_personality],
    // By name, which Landlock asks about from Linux 6.2 on only: it cuts files that it has open.
    &[libc::SYS_truncate],
    // Limits and priorities of other processes are not its to change.
    &[libc::SYS_sched_setscheduler, libc::SYS_sched_setattr],
];
