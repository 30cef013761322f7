//! seccomp(2) with SECCOMP_RET_USER_NOTIF: the kernel holds a thread in its call until the
//! supervisor has answered. The filter stays with a thread and what it starts, so that the
//! supervisor's own thread, started before, has none.
#![allow(unsafe_code)]

use super::super::{Change, Judge, Verdict};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Where a call says what it changes.
#[derive(Clone, Copy)]
enum At {
    /// The descriptor in this argument.
    Fd(usize),
    /// The path in this argument, relative to the working directory.
    Path(usize),
    /// The path in the second argument, relative to the descriptor in the first.
    Dir(usize, usize),
    /// As openat has it, where that makes or truncates a file.
    Create,
}

struct Watched {
    number: libc::c_long,
    name: &'static str,
    at: At,
}

macro_rules! calls {
    ($($number:ident $name:literal $at:expr;)*) => {
        [$(Watched { number: libc::$number, name: $name, at: $at }),*]
    };
}

/// What changes files. `openat` is looked at where it may make or truncate one.
static CALLS: &[Watched] = &calls! {
    SYS_write "write" At::Fd(0);
    SYS_pwrite64 "pwrite64" At::Fd(0);
    SYS_writev "writev" At::Fd(0);
    SYS_pwritev "pwritev" At::Fd(0);
    SYS_pwritev2 "pwritev2" At::Fd(0);
    SYS_copy_file_range "copy_file_range" At::Fd(2);
    SYS_sendfile "sendfile" At::Fd(0);
    SYS_ftruncate "ftruncate" At::Fd(0);
    SYS_fallocate "fallocate" At::Fd(0);
    SYS_fsync "fsync" At::Fd(0);
    SYS_fdatasync "fdatasync" At::Fd(0);
    SYS_syncfs "syncfs" At::Fd(0);
    SYS_fchmod "fchmod" At::Fd(0);
    SYS_renameat "renameat" At::Dir(2, 3);
    SYS_renameat2 "renameat2" At::Dir(2, 3);
    SYS_linkat "linkat" At::Dir(2, 3);
    SYS_symlinkat "symlinkat" At::Dir(1, 2);
    SYS_unlinkat "unlinkat" At::Dir(0, 1);
    SYS_mkdirat "mkdirat" At::Dir(0, 1);
    SYS_utimensat "utimensat" At::Dir(0, 1);
    SYS_openat "openat" At::Create;
};

/// Those that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
static OLD_CALLS: &[Watched] = &calls! {
    SYS_truncate "truncate" At::Path(0);
    SYS_rename "rename" At::Path(1);
    SYS_link "link" At::Path(1);
    SYS_symlink "symlink" At::Path(1);
    SYS_unlink "unlink" At::Path(0);
    SYS_rmdir "rmdir" At::Path(0);
    SYS_mkdir "mkdir" At::Path(0);
    SYS_chmod "chmod" At::Path(0);
};
#[cfg(not(target_arch = "x86_64"))]
static OLD_CALLS: &[Watched] = &[];

const PATH_MAX: usize = 4096;
/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6: whoever waits runs on the same processor at once.
const SYNC_WAKE_UP: libc::c_ulong = 1;

fn instruction(code: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k,
    }
}

/// Which calls are told of.
fn filter() -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};
    /// Of struct seccomp_data: the number, and the third argument's lower half.
    const NUMBER: u32 = 0;
    const FLAGS: u32 = 16 + 2 * 8;
    let notify = instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    let mut program = vec![instruction(BPF_LD | BPF_W | BPF_ABS, NUMBER, 0, 0)];
    let is =
        |number: libc::c_long, skip| instruction(BPF_JMP | BPF_JEQ | BPF_K, number as u32, 0, skip);
    let whole = |call: &&Watched| !matches!(call.at, At::Create);
    for call in CALLS.iter().chain(OLD_CALLS).filter(whole) {
        program.extend([is(call.number, 1), notify]);
    }
    let makes = (libc::O_CREAT | libc::O_TRUNC) as u32;
    program.extend([
        is(libc::SYS_openat, 3),
        instruction(BPF_LD | BPF_W | BPF_ABS, FLAGS, 0, 0),
        instruction(BPF_JMP | BPF_JSET | BPF_K, makes, 0, 1),
        notify,
        instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]);
    program
}

/// Puts the filter on this thread; the descriptor that its calls are told on. Async-signal-safe.
fn install(program: &mut [libc::sock_filter]) -> io::Result<RawFd> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: plain numbers; and a filter that lives over the call, which copies it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &program,
        )
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd as RawFd),
    }
}

pub fn watched<T: Send>(root: &Path, judge: Judge, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let (listener, listeners) = std::sync::mpsc::channel::<OwnedFd>();
        let supervisor = scope.spawn(move || match listeners.recv() {
            Ok(listener) => supervise(&listener, root, &judge),
            Err(_) => Ok(()),
        });
        let worker = scope.spawn(move || {
            let fd = install(&mut filter())?;
            // SAFETY: the kernel has just given it to us.
            let _ = listener.send(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(f())
        });
        let done = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        supervisor.join().expect("the supervisor does not panic")?;
        done
    })
}

pub fn spawn(command: &mut Command, root: &Path, judge: Judge) -> io::Result<Child> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut program = filter();
    let end = theirs.as_raw_fd();
    // SAFETY: between fork and exec this makes system calls, and asks for memory, which the C
    // libraries of our systems allow there.
    unsafe {
        command.pre_exec(move || {
            let listener = install(&mut program)?;
            let fds = [listener];
            send(end, &[ControlMessage::ScmRights(&fds)])?;
            libc::close(listener);
            Ok(())
        });
    }
    let root = root.to_path_buf();
    std::thread::spawn(move || supervise(&receive(&ours)?, &root, &judge));
    command.spawn()
}

fn send(socket: RawFd, rights: &[ControlMessage<'_>]) -> io::Result<()> {
    let one = [IoSlice::new(b"f")];
    sendmsg::<()>(socket, &one, rights, MsgFlags::empty(), None)?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!(RawFd);
    let mut into = [IoSliceMut::new(&mut byte)];
    let fd = socket.as_raw_fd();
    let got = recvmsg::<()>(fd, &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message
            && let [fd] = fds[..]
        {
            // SAFETY: it came with this message and is nobody else's.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::Error::other("the child sent no descriptor"))
}

/// Answers until nobody is left who has the filter.
fn supervise(listener: &OwnedFd, root: &Path, judge: &Judge) -> io::Result<()> {
    let flag = SYNC_WAKE_UP;
    let request = libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS;
    // SAFETY: a number goes by value. It saves time only, and older kernels do not know it.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, flag) };
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            done => done?,
        };
        let events = ready[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            one(listener.as_raw_fd(), root, judge)?;
        } else if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(());
        }
    }
}

fn one(listener: RawFd, root: &Path, judge: &Judge) -> io::Result<()> {
    // SAFETY: numbers only, for which zero is a value.
    let mut told: libc::seccomp_notif = unsafe { zeroed() };
    // SAFETY: the kernel fills the struct, which lives over the call.
    let got = unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut told) };
    if got != 0 {
        // The thread was killed meanwhile.
        return Ok(());
    }
    let verdict = match change(&told).filter(|c| c.path.starts_with(root)) {
        Some(change) => judge(&change),
        None => Verdict::Go,
    };
    // SAFETY: as above.
    let mut answer: libc::seccomp_notif_resp = unsafe { zeroed() };
    answer.id = told.id;
    match verdict {
        Verdict::Go => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Verdict::Fail(errno) => answer.error = -errno,
        Verdict::Kill => {
            // SAFETY: a number and a signal; the call that waits is never made.
            unsafe { libc::kill(told.pid as libc::pid_t, libc::SIGKILL) };
            return Ok(());
        }
    }
    // SAFETY: the struct lives over the call. Who was killed meanwhile needs no answer.
    unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) };
    Ok(())
}

/// `None` where it cannot be told what is changed: a socket's or a pipe's descriptor has no
/// absolute path, and who died has none at all.
fn change(told: &libc::seccomp_notif) -> Option<Change> {
    let mut calls = CALLS.iter().chain(OLD_CALLS);
    let call = calls.find(|c| c.number == libc::c_long::from(told.data.nr))?;
    let (pid, args) = (told.pid, told.data.args);
    let path = match call.at {
        At::Fd(at) => of_fd(pid, args[at] as i32)?,
        At::Path(at) => of_path(pid, libc::AT_FDCWD, args[at])?,
        At::Dir(dir, at) => of_path(pid, args[dir] as i32, args[at])?,
        At::Create => {
            let path = of_path(pid, args[0] as i32, args[1])?;
            let truncates = args[2] as i32 & libc::O_TRUNC != 0;
            // One that is there is only opened.
            if path.symlink_metadata().is_ok() && !truncates {
                return None;
            }
            path
        }
    };
    Some(Change {
        call: call.name,
        path,
    })
}

fn of_fd(pid: u32, fd: i32) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    path.is_absolute().then_some(path)
}

fn of_path(pid: u32, dir: i32, address: u64) -> Option<PathBuf> {
    let path = match address {
        // utimensat and the like, of the descriptor itself.
        0 => return of_fd(pid, dir),
        _ => text(pid, address)?,
    };
    if path.is_absolute() {
        return Some(path);
    }
    let above = match dir {
        libc::AT_FDCWD => std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?,
        dir => of_fd(pid, dir)?,
    };
    Some(above.join(path))
}

/// The string at an address of the process, up to its page's end at a time.
fn text(pid: u32, address: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = Vec::new();
    while bytes.len() < PATH_MAX {
        let at = address + bytes.len() as u64;
        let mut part = vec![0; (4096 - at % 4096) as usize];
        let got = memory.read_at(&mut part, at).ok()?;
        let part = &part[..got];
        if let Some(end) = part.iter().position(|b| *b == 0) {
            bytes.extend_from_slice(&part[..end]);
            return Some(PathBuf::from(OsString::from_vec(bytes)));
        }
        if got == 0 {
            return None;
        }
        bytes.extend_from_slice(part);
    }
    None
}
