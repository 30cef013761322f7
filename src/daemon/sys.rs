//! Processes, mounts and network namespaces, as the daemon meets them.
#![allow(unsafe_code)]

mod peer;
mod unmount;

use nix::errno::Errno;
use nix::sys::signal::Signal;
pub use peer::{TELLS_KERNELS, is_a_process};
pub use unmount::{Unmounted, unmount_ours};

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) -> Result<(), Errno> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
    let pid = nix::unistd::Pid::from_raw(pid.ok_or(Errno::EINVAL)?);
    match nix::sys::signal::kill(pid, signal) {
        Err(Errno::ESRCH) => Ok(()),
        sent => sent,
    }
}

/// Raises the number of descriptors that this process may have to the most it is allowed
/// (setrlimit(2)); that number.
pub fn raise_descriptors() -> Result<usize, Errno> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

#[cfg(target_os = "linux")]
mod imp {
    use super::*;
    use nix::fcntl::{OFlag, openat};
    use nix::mount::MntFlags;
    use nix::sched::{CloneFlags, setns, unshare};
    use nix::sys::stat::Mode;
    use nix::sys::statfs::{FsType, fstatfs};
    use nix::unistd::{UnlinkatFlags, unlinkat};
    use parking_lot::Mutex;
    use std::ffi::{OsStr, OsString};
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::sync::OnceLock;

    /// linux/prctl.h; libc does not have it.
    const PR_SET_IO_FLUSHER: libc::c_int = 57;

    /// Where this namespace's mounts are told once /proc is out of reach.
    static MOUNTINFO: OnceLock<Mutex<File>> = OnceLock::new();

    /// [`mounted`] works on where /proc is no more, and tells paths as they are from here.
    pub fn keep_mounts() {
        if let Ok(file) = File::open("/proc/self/mountinfo") {
            let _ = MOUNTINFO.set(Mutex::new(file));
        }
    }

    fn mountinfo() -> std::io::Result<Vec<u8>> {
        let Some(kept) = MOUNTINFO.get() else {
            return std::fs::read("/proc/self/mountinfo");
        };
        let mut file = kept.lock();
        let mut text = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut text)?;
        Ok(text)
    }

    /// Every mount point of this mount namespace (proc(5), mountinfo).
    pub fn mounted() -> std::io::Result<Vec<Vec<u8>>> {
        let text = mountinfo()?;
        Ok(text
            .split(|b| *b == b'\n')
            .filter_map(|line| line.split(|b| *b == b' ').nth(4))
            .map(unescape)
            .collect())
    }

    /// linux/magic.h
    const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

    /// Whether the mount of that number is of pocker's making, by its helper or the kernel's client.
    pub(super) fn is_ours(mountinfo: &[u8], mount: u64) -> bool {
        let mut lines = mountinfo.split(|b| *b == b'\n');
        let number = mount.to_string();
        let of_it = |line: &&[u8]| line.split(|b| *b == b' ').next() == Some(number.as_bytes());
        let Some(line) = lines.find(of_it) else {
            return false;
        };
        // Behind a dash, which no field before it is: the kind, the source, the options.
        let mut fields = line
            .split(|b| *b == b' ')
            .skip_while(|field| *field != b"-");
        let kind = fields.nth(1).unwrap_or_default();
        let source = fields.next().unwrap_or_default();
        let mut options = fields.next().unwrap_or_default().split(|b| *b == b',');
        match kind {
            b"fuse.pocker" => true,
            // Of the private network: a host's own has another server, or a mountd with a port of its own.
            b"nfs" => {
                let port = options.find_map(|option| option.strip_prefix(b"mountport="));
                source.starts_with(b"127.0.0.1:/") && port.is_none_or(|port| port == b"2049")
            }
            _ => false,
        }
    }

    /// Whether process `pid` is in this process's namespace of that kind ("mnt", "pid";
    /// namespaces(7)). Of one that cannot be looked at this is not known: false.
    pub fn shares_namespace(pid: i32, kind: &str) -> bool {
        let of = |who: &str| {
            let found = std::fs::metadata(format!("/proc/{who}/ns/{kind}")).ok()?;
            Some((found.dev(), found.ino()))
        };
        let own = of("self");
        own.is_some() && of(&pid.to_string()) == own
    }

    /// mountinfo writes space, tab, newline and backslash as three octal digits.
    fn unescape(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let code = text
                .get(at + 1..at + 4)
                .filter(|_| text[at] == b'\\')
                .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
            match code {
                Some(byte) => {
                    out.push(byte);
                    at += 4;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    /// Unmounts; a busy mount is detached, so that it goes with its last user.
    pub fn unmount(target: &str) -> Result<(), Errno> {
        super::unmount::detach(target.as_ref())
    }

    /// Kernel clients' listener has a network namespace of its own.
    pub const PRIVATE_NETNS: bool = true;

    /// Most bytes that the kernel's client reads or writes at once.
    pub const KERNEL_TRANSFER: u32 = 1 << 20;

    /// Whether PR_SET_IO_FLUSHER is allowed (prctl(2)); asked for, as there is no other way to know.
    pub fn io_flusher() -> bool {
        // SAFETY: the call takes plain numbers and changes a flag of this thread alone.
        let set = |on: libc::c_ulong| unsafe { libc::prctl(PR_SET_IO_FLUSHER, on, 0, 0, 0) };
        set(1) == 0 && set(0) == 0
    }

    /// The serving threads' writes are not throttled behind their own clients' (prctl(2)).
    pub fn become_io_flusher() {
        // SAFETY: as above.
        unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    }

    /// Has this thread, and those that it starts, run when no other wants to (setpriority(2):
    /// Linux has a priority for each thread).
    pub(super) fn give_way() {
        // SAFETY: takes numbers only; 0 is the calling thread.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    }

    /// Whether this kernel has an NFS client.
    pub fn kernel_nfs() -> bool {
        std::fs::read_to_string("/proc/filesystems").is_ok_and(|all| {
            all.lines()
                .any(|l| l.trim_start_matches("nodev").trim() == "nfs")
        })
    }

    /// A listener in a network namespace of its own, pinned at `name` in `dir` so that the mount
    /// helper can enter it and a restarted server finds it again: no process of the
    /// host, nor of a pocker, can connect to it.
    pub fn private_listener(dir: &File, name: &OsStr, port: u16) -> std::io::Result<TcpListener> {
        let dir = dir.try_clone()?;
        let name = name.to_owned();
        // Namespaces belong to threads: this one is left to end in the namespace.
        std::thread::spawn(move || {
            enter(&dir, &name)?;
            loopback_up()?;
            TcpListener::bind(("0.0.0.0", port))
        })
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the namespace thread ended early")))
    }

    /// By descriptors: the directory may be written to by one who would have something else unmounted, or hidden.
    fn enter(dir: &File, name: &OsStr) -> std::io::Result<()> {
        if let Some(old) = pinned(dir, name) {
            let old = File::open(by_descriptor(&old))?;
            if setns(&old, CloneFlags::CLONE_NEWNET).is_ok() {
                return Ok(());
            }
            // Of another kind.
            unpin(dir, name)?;
        }
        unshare(CloneFlags::CLONE_NEWNET)?;
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(dir, name, new, Mode::S_IRUSR | Mode::S_IWUSR)?;
        nix::mount::mount(
            Some("/proc/thread-self/ns/net"),
            by_descriptor(&made).as_os_str(),
            None::<&str>,
            nix::mount::MsFlags::MS_BIND,
            None::<&str>,
        )?;
        Ok(())
    }

    /// The namespace that is pinned there; none where anything else is.
    fn pinned(dir: &File, name: &OsStr) -> Option<OwnedFd> {
        let here = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(dir, name, here, Mode::empty()).ok()?;
        let kind = fstatfs(&found).ok()?.filesystem_type();
        (kind == NSFS_MAGIC).then_some(found)
    }

    fn unpin(dir: &File, name: &OsStr) -> Result<(), Errno> {
        let mut at = by_descriptor(dir);
        at.push("/");
        at.push(name);
        let how = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH;
        nix::mount::umount2(at.as_os_str(), how)
    }

    fn by_descriptor(fd: &impl AsRawFd) -> OsString {
        format!("/proc/thread-self/fd/{}", fd.as_raw_fd()).into()
    }

    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

    fn loopback_up() -> std::io::Result<()> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let fd = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        // SAFETY: ifreq is plain data, valid when all zero.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        // SAFETY: the kernel reads one ifreq from a live reference.
        unsafe { set_flags(fd.as_raw_fd(), &raw const request)? };
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn namespaces_are_told_apart() {
            let me = std::process::id() as i32;
            assert!(super::shares_namespace(me, "mnt") && super::shares_namespace(me, "pid"));
            // A peer of whom the kernel tells no number.
            assert!(!super::shares_namespace(0, "mnt"));
        }

        #[test]
        fn what_pocker_mounted_is_told_from_the_hosts() {
            let all = b"22 1 0:5 / /proc rw - proc proc rw\n\
                30 1 8:1 / /a rw - ext4 /dev/sda rw\n\
                31 30 0:40 / /a ro shared:1 - fuse.pocker pocker ro\n\
                32 1 0:41 / /b\\040c rw - nfs 127.0.0.1:/x rw,mountport=2049,addr=127.0.0.1\n\
                33 1 0:42 / /d rw - fuse.sshfs pocker rw\n\
                34 1 0:43 / /n rw - nfs 10.0.0.1:/x rw,mountport=2049\n\
                35 1 0:44 / /m rw - nfs 127.0.0.1:/x rw,mountport=20048\n";
            let ours = (1..40).filter(|mount| super::is_ours(all, *mount));
            assert_eq!(ours.collect::<Vec<_>>(), [31, 32]);
        }

        #[test]
        fn a_pin_is_made_anew_and_never_through_a_link() {
            if !nix::unistd::geteuid().is_root() {
                return;
            }
            let temp = tempfile::tempdir().expect("a directory");
            let (dir, other) = (temp.path().join("dir"), temp.path().join("other"));
            std::fs::create_dir(&dir).expect("mkdir");
            std::fs::write(&other, b"the host's").expect("written");
            std::os::unix::fs::symlink(&other, dir.join("netns")).expect("linked");
            let open = std::fs::File::open(&dir).expect("opened");
            let name = std::ffi::OsStr::new("netns");
            let inode = || {
                let pinned = super::pinned(&open, name)?;
                let stat = nix::sys::stat::fstat(&pinned).expect("looked at");
                Some(stat.st_ino)
            };
            // What a link leads to is nothing that is pinned.
            assert_eq!(inode(), None);
            drop(super::private_listener(&open, name, 2049).expect("opened"));
            assert_eq!(std::fs::read(&other).expect("read"), b"the host's");
            let first = inode();
            assert!(first.is_some());
            drop(super::private_listener(&open, name, 2049).expect("opened again"));
            assert_eq!(inode(), first);
            super::unpin(&open, name).expect("unpinned");
        }

        #[test]
        fn mount_points_are_unescaped() {
            assert_eq!(super::unescape(br"/a\040b\134c"), b"/a b\\c");
            assert_eq!(super::unescape(br"/end\04"), br"/end\04");
            assert!(
                super::mounted()
                    .expect("mountinfo")
                    .contains(&b"/".to_vec())
            );
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::*;
    use std::net::TcpListener;

    /// They are told without any path.
    pub fn keep_mounts() {}

    /// Every mount, as the kernel has them; none is asked for anything, for its server may be gone.
    #[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
    fn table() -> std::io::Result<Vec<libc::statfs>> {
        // sys/mount.h: what is known, not what is asked.
        const MNT_NOWAIT: libc::c_int = 2;
        /// Mounts that came between the two calls.
        const MORE: usize = 64;
        // SAFETY: with no buffer the call only counts.
        let there = unsafe { libc::getfsstat(std::ptr::null_mut(), 0, MNT_NOWAIT) };
        let room = usize::try_from(Errno::result(there)?).unwrap_or(0) + MORE;
        // SAFETY: statfs is plain data, valid when all zero.
        let mut all: Vec<libc::statfs> = vec![unsafe { std::mem::zeroed() }; room];
        let bytes = size_of_val(all.as_slice());
        // SAFETY: the kernel fills at most that many bytes of a buffer of that size.
        let got = unsafe { libc::getfsstat(all.as_mut_ptr(), bytes as _, MNT_NOWAIT) };
        all.truncate(usize::try_from(Errno::result(got)?).unwrap_or(0));
        Ok(all)
    }

    #[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
    pub(super) fn text(field: &[libc::c_char]) -> Vec<u8> {
        let bytes = field.iter().map(|c| *c as u8);
        bytes.take_while(|byte| *byte != 0).collect()
    }

    /// Every mount point.
    #[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
    pub fn mounted() -> std::io::Result<Vec<Vec<u8>>> {
        Ok(table()?.iter().map(|fs| text(&fs.f_mntonname)).collect())
    }

    /// By what mount(8) says: `WHAT on WHERE type KIND …`.
    #[cfg(not(any(target_os = "openbsd", target_os = "freebsd")))]
    pub fn mounted() -> std::io::Result<Vec<Vec<u8>>> {
        let out = std::process::Command::new("/sbin/mount").output()?;
        Ok(out
            .stdout
            .split(|b| *b == b'\n')
            .filter_map(|line| {
                let text = std::str::from_utf8(line).ok()?;
                let (_, rest) = text.split_once(" on ")?;
                Some(rest.split_once(" type ")?.0.as_bytes().to_vec())
            })
            .collect())
    }

    /// Whether it is an NFS file system of pocker's making, by what its helper shows as the source, or this system's
    /// own mount_nfs(8) for it.
    #[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
    pub(super) fn is_ours(fs: &libc::statfs) -> bool {
        let from = text(&fs.f_mntfromname);
        let known = from == b"pocker" || from.starts_with(b"127.0.0.1:/");
        text(&fs.f_fstypename) == b"nfs" && known
    }

    /// There is one of each.
    pub fn shares_namespace(_pid: i32, _kind: &str) -> bool {
        true
    }

    /// Plainly, so that nothing is lost; a busy mount by force, with what is mounted below it.
    #[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
    pub fn unmount(target: &str) -> Result<(), Errno> {
        unmount_at(&std::ffi::CString::new(target).map_err(|_| Errno::EINVAL)?)
    }

    #[cfg(any(target_os = "openbsd", target_os = "freebsd"))]
    pub(super) fn unmount_at(target: &std::ffi::CStr) -> Result<(), Errno> {
        // SAFETY: the path ends in NUL.
        let with = |flags| Errno::result(unsafe { libc::unmount(target.as_ptr(), flags) });
        let done = match with(0) {
            Err(Errno::EBUSY) => with(libc::MNT_FORCE),
            done => done,
        };
        match done {
            // Nothing is mounted there any more.
            Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
            done => done.map(drop),
        }
    }

    #[cfg(not(any(target_os = "openbsd", target_os = "freebsd")))]
    pub fn unmount(target: &str) -> Result<(), Errno> {
        let done = std::process::Command::new("/sbin/umount")
            .args(["-f", target])
            .status();
        match done {
            Ok(status) if status.success() => Ok(()),
            _ => Err(Errno::EBUSY),
        }
    }

    pub fn kernel_nfs() -> bool {
        true
    }

    /// Only Linux has network namespaces.
    pub const PRIVATE_NETNS: bool = false;

    /// OpenBSD's client takes a reply of this and its header, in one fragment, and no more
    /// (NFS_MAXPACKET).
    pub const KERNEL_TRANSFER: u32 = 64 << 10;

    /// Linux alone has it.
    pub fn io_flusher() -> bool {
        false
    }

    pub fn become_io_flusher() {}

    /// A priority is a whole process's, and this one's clients come first.
    pub(super) fn give_way() {}

    /// Only Linux has network namespaces: elsewhere the listener is on the loopback.
    pub fn private_listener(
        _dir: &std::fs::File,
        _name: &std::ffi::OsStr,
        port: u16,
    ) -> std::io::Result<TcpListener> {
        TcpListener::bind(("127.0.0.1", port))
    }
}

/// Runs `f` behind everything else on a thread of its own: clients do not notice it much.
pub fn humbly<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            imp::give_way();
            f()
        });
        done.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub use imp::*;
