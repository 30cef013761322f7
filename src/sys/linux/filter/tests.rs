//! Each on a thread of its own: a filter is a thread's.

use super::*;

/// What `calls` answer in a thread with the filter: 0, or the errno.
fn answers(granted: Capabilities, calls: &[(c_long, [u64; 3])]) -> Vec<i32> {
    let calls = calls.to_vec();
    let filtered = move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        install(granted).unwrap();
        calls.into_iter().map(|(n, args)| answer(n, args)).collect()
    };
    std::thread::spawn(filtered).join().unwrap()
}

fn answer(number: c_long, args: [u64; 3]) -> i32 {
    // SAFETY: the tests pass no pointers but null ones.
    let done = unsafe { libc::syscall(number, args[0], args[1], args[2], 0, 0, 0) };
    match Errno::result(done) {
        Ok(_) => 0,
        Err(errno) => errno as i32,
    }
}

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
const HIGH: u64 = 1 << 32;

#[test]
fn what_no_list_has_is_unknown_and_what_is_known_as_dangerous_is_refused() {
    let none = Capabilities::NONE;
    let unknown = [
        (9999, [0; 3]),
        (libc::SYS_clone3, [0; 3]),
        (libc::SYS_io_uring_setup, [0; 3]),
        // x32's getpid.
        (0x4000_0000 + 39, [0; 3]),
    ];
    assert_eq!(answers(none, &unknown), [libc::ENOSYS; 4]);
    let refused: Vec<(c_long, [u64; 3])> = REFUSED
        .iter()
        .chain(BY_CAPABILITY.iter().map(|(_, group)| group))
        .flat_map(|group| *group)
        // Without flags these are harmless.
        .filter(|call| ![libc::SYS_unshare, libc::SYS_clone].contains(call))
        .map(|call| (*call, [0; 3]))
        .collect();
    assert_eq!(answers(none, &refused), vec![libc::EPERM; refused.len()]);
}

#[test]
fn namespaces_are_refused_by_whichever_flag_asks() {
    let mut calls = vec![(libc::SYS_unshare, [CLONE_NEWTIME as u64, 0, 0])];
    for flag in NAMESPACES {
        let flag = flag.unsigned_abs().into();
        calls.push((libc::SYS_unshare, [flag, 0, 0]));
        calls.push((libc::SYS_clone, [flag | libc::SIGCHLD as u64, 0, 0]));
    }
    calls.push((libc::SYS_clone, [NEWUSER | HIGH, 0, 0]));
    let none = Capabilities::NONE;
    assert_eq!(answers(none, &calls), vec![libc::EPERM; calls.len()]);
    let harmless = [(libc::SYS_unshare, [libc::CLONE_FILES as u64, 0, 0])];
    assert_eq!(answers(none, &harmless), [0]);
}

#[test]
fn arguments_are_compared_as_the_kernel_reads_them() {
    let socket = |family: u64| (libc::SYS_socket, [family, libc::SOCK_DGRAM as u64, 0]);
    let refused = [
        socket(libc::AF_ALG as u64),
        socket(libc::AF_VSOCK as u64),
        socket(libc::AF_VSOCK as u64 | HIGH),
        socket(libc::AF_PACKET as u64),
        (libc::SYS_socketpair, [libc::AF_TIPC as u64, 0, 0]),
        // ADDR_NO_RANDOMIZE
        (libc::SYS_personality, [0x4_0000, 0, 0]),
        (libc::SYS_ioctl, [0, libc::TIOCSTI, 0]),
        (libc::SYS_ioctl, [0, libc::TIOCSTI | HIGH, 0]),
        (libc::SYS_ioctl, [0, TIOCLINUX, 0]),
    ];
    let none = Capabilities::NONE;
    assert_eq!(answers(none, &refused), [libc::EPERM; 9]);
    let fine = [
        socket(libc::AF_UNIX as u64),
        socket(libc::AF_INET as u64),
        (libc::SYS_personality, [0xffff_ffff, 0, 0]),
    ];
    assert_eq!(answers(none, &fine), [0; 3]);
}

#[test]
fn a_capability_brings_its_calls_and_no_others() {
    let calls = [
        (libc::SYS_mount, [0; 3]),
        (
            libc::SYS_unshare,
            [NEWUSER | libc::CLONE_THREAD as u64, 0, 0],
        ),
        (libc::SYS_delete_module, [0; 3]),
        (libc::SYS_keyctl, [u64::MAX, 0, 0]),
    ];
    let admin = Capabilities::of(&[Capability::SYS_ADMIN]);
    let answered = answers(admin, &calls);
    assert_ne!(answered[0], libc::EPERM);
    assert_ne!(answered[1], libc::EPERM);
    assert_eq!(answered[2..], [libc::EPERM; 2]);
    let raw = Capabilities::of(&[Capability::NET_RAW]);
    let packet = [(
        libc::SYS_socket,
        [libc::AF_PACKET as u64, libc::SOCK_RAW as u64, 0],
    )];
    assert_eq!(answers(raw, &packet), [0]);
}

#[test]
fn the_server_starts_nothing_and_looks_into_nobody() {
    let kept = Capabilities::of(&[Capability::DAC_READ_SEARCH]);
    let own = std::process::id().into();
    let refused: Vec<(c_long, [u64; 3])> = NOT_A_SERVERS
        .iter()
        .flat_map(|group| *group)
        .chain(&[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_setns,
            libc::SYS_bpf,
        ])
        .map(|call| (*call, [0; 3]))
        .collect();
    let filtered = move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        install_server(kept).unwrap();
        let no = refused.iter().map(|(n, args)| answer(*n, *args));
        let no: Vec<i32> = no.collect();
        // Files by handle, signals to runs, and the threads that come.
        let yes = [
            answer(libc::SYS_open_by_handle_at, [u64::MAX, 0, 0]),
            answer(libc::SYS_kill, [own, 0, 0]),
            std::thread::spawn(|| 0).join().unwrap(),
        ];
        (no, yes)
    };
    let (no, yes) = std::thread::spawn(filtered).join().unwrap();
    assert_eq!(no, vec![libc::EPERM; no.len()]);
    assert_eq!(yes, [libc::EFAULT, 0, 0]);
}

#[test]
fn each_call_is_in_one_list() {
    let mut free: Vec<c_long> = ALLOWED
        .iter()
        .chain(LEGACY)
        .chain(REFUSED)
        .flat_map(|group| *group)
        .copied()
        .collect();
    let listed = free.len();
    free.sort_unstable();
    free.dedup();
    assert_eq!(free.len(), listed, "one is listed twice");
    for call in BY_CAPABILITY.iter().flat_map(|(_, group)| *group) {
        assert!(
            !free.contains(call),
            "{call} is free and bound to a capability"
        );
    }
}
