//! What is asked of a BSD's kernel for one mount, as values.

use super::layout::{netbsd, openbsd as flag};
use crate::helper::{Cache, Request};
use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// mount(2) of OpenBSD copies at most MNAMELEN (90) bytes of the target, NUL included (sys/mount.h). The others take
/// more, and are not asked to.
pub const NAME_MAX: usize = 89;

/// READ and WRITE: a power of two, and the most that OpenBSD and NetBSD do over TCP (MAXBSIZE).
pub const IO_SIZE: i32 = 64 << 10;

/// Blocks that are read ahead of a sealed tree's reader; the kernel takes no more.
const READ_AHEAD: i32 = 4;

/// What mount(8) and df(1) show in place of a server and an export.
const SHOWN: &str = "pocker";

/// A system with an NFS client that takes the root's handle from its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    OpenBsd,
    FreeBsd,
    NetBsd,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            System::OpenBsd => "OpenBSD",
            System::FreeBsd => "FreeBSD",
            System::NetBsd => "NetBSD",
        })
    }
}

/// Flags of mount(2) and nmount(2), which the BSDs number alike (sys/mount.h; the layout test holds them
/// against OpenBSD's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountFlags(pub i32);

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub target: PathBuf,
    pub flags: MountFlags,
    pub call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// mount(2) with `struct nfs_args`.
    OpenBsd(Args),
    /// nmount(2): names and values; one without a value has none at all.
    FreeBsd {
        addr: SocketAddrV4,
        root: Vec<u8>,
        options: Vec<(&'static str, Option<String>)>,
    },
    /// mount(2) with another `struct nfs_args`, and its length.
    NetBsd(Args),
}

/// What goes into `struct nfs_args`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    pub addr: SocketAddrV4,
    pub root: Vec<u8>,
    pub shown: CString,
    pub flags: i32,
    pub wsize: i32,
    pub rsize: i32,
    pub readahead: i32,
    /// Seconds for which attributes are believed: all four bounds. NetBSD has none, only believing nothing.
    pub attributes: Option<i32>,
}

/// Whether the kernel takes a target of this length.
pub fn check_length(target: &Path) -> io::Result<()> {
    let len = target.as_os_str().len();
    if len <= NAME_MAX {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidFilename,
        format!("{len} bytes, and the kernel mounts on paths of at most {NAME_MAX}"),
    ))
}

impl Plan {
    /// A writable mount is synchronous: on loopback, dirty NFS buffers and the server's own writes wait for
    /// each other.
    pub fn new(system: System, addr: SocketAddrV4, root: &[u8], req: &Request<'_>) -> Plan {
        let mut flags = 0;
        for (asked, bit) in [
            (req.read_only, flag::MNT_RDONLY),
            (!req.read_only, flag::MNT_SYNCHRONOUS),
            (req.noexec, flag::MNT_NOEXEC),
            (req.nosuid, flag::MNT_NOSUID),
            // FreeBSD has none any more: device nodes work in no file system but devfs.
            (req.nodev && system != System::FreeBsd, flag::MNT_NODEV),
        ] {
            if asked {
                flags |= bit;
            }
        }
        let seconds = match req.cache {
            Cache::Sealed | Cache::Exclusive => 3600,
            Cache::View | Cache::LargeView | Cache::Shared => 1,
        };
        let call = match system {
            System::OpenBsd => Call::OpenBsd(openbsd(addr, root, req.read_only, seconds)),
            System::FreeBsd => freebsd(addr, root, req.read_only, seconds),
            System::NetBsd => Call::NetBsd(netbsd(addr, root, req)),
        };
        Plan {
            target: req.target.to_path_buf(),
            flags: MountFlags(flags),
            call,
        }
    }
}

fn openbsd(addr: SocketAddrV4, root: &[u8], read_only: bool, seconds: i32) -> Args {
    let mut flags = flag::NFSMNT_NFSV3
        | flag::NFSMNT_INT
        | flag::NFSMNT_RSIZE
        | flag::NFSMNT_WSIZE
        | flag::NFSMNT_ACREGMIN
        | flag::NFSMNT_ACREGMAX
        | flag::NFSMNT_ACDIRMIN
        | flag::NFSMNT_ACDIRMAX;
    if read_only {
        flags |= flag::NFSMNT_READAHEAD;
    }
    args(addr, root, read_only, flags, Some(seconds))
}

/// Its attributes are believed for 5 to 60 s, a tenth of their age, or not at all: what others change meanwhile is
/// asked for each time (sys/nfs/nfs_subs.c, `nfs_attrtimeo`). A reserved port has to be asked for.
fn netbsd(addr: SocketAddrV4, root: &[u8], req: &Request<'_>) -> Args {
    let mut flags = netbsd::NFSMNT_NFSV3
        | netbsd::NFSMNT_INT
        | netbsd::NFSMNT_RESVPORT
        | netbsd::NFSMNT_RSIZE
        | netbsd::NFSMNT_WSIZE;
    if req.read_only {
        flags |= netbsd::NFSMNT_READAHEAD;
    }
    match req.cache {
        Cache::Sealed | Cache::Exclusive => {}
        Cache::View | Cache::LargeView | Cache::Shared => flags |= netbsd::NFSMNT_NOAC,
    }
    args(addr, root, req.read_only, flags, None)
}

fn args(
    addr: SocketAddrV4,
    root: &[u8],
    read_only: bool,
    flags: i32,
    attributes: Option<i32>,
) -> Args {
    Args {
        addr,
        root: root.to_vec(),
        shown: CString::new(SHOWN).unwrap_or_default(),
        flags,
        wsize: IO_SIZE,
        rsize: IO_SIZE,
        readahead: if read_only { READ_AHEAD } else { 0 },
        attributes,
    }
}

/// The options that FreeBSD's client reads (sys/fs/nfsclient/nfs_clvfsops.c, `nfs_opts`).
fn freebsd(addr: SocketAddrV4, root: &[u8], read_only: bool, seconds: i32) -> Call {
    let mut options = vec![
        ("fstype", Some("nfs".to_string())),
        ("hostname", Some(SHOWN.to_string())),
        ("sec", Some("sys".to_string())),
        ("nfsv3", None),
        ("tcp", None),
        ("resvport", None),
        ("nolockd", None),
        ("intr", None),
        ("rsize", Some(IO_SIZE.to_string())),
        ("wsize", Some(IO_SIZE.to_string())),
        ("actimeo", Some(seconds.to_string())),
    ];
    if read_only {
        options.push(("readahead", Some(READ_AHEAD.to_string())));
        options.push(("nocto", None));
    } else {
        // What a name was, or was not, is asked again.
        options.push(("nametimeo", Some("0".to_string())));
        options.push(("negnametimeo", Some("0".to_string())));
    }
    Call::FreeBsd {
        addr,
        root: root.to_vec(),
        options,
    }
}

/// For tests and logs: what is asked for, and never the handle.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = names(self.flags.0, flag::MOUNT_FLAGS);
        match &self.call {
            Call::OpenBsd(args) | Call::NetBsd(args) => {
                let (known, len) = match &self.call {
                    Call::NetBsd(_) => (netbsd::NFS_FLAGS, ", sizeof args"),
                    _ => (flag::NFS_FLAGS, ""),
                };
                writeln!(f, "mount(\"nfs\", {:?}, {names}{len})", self.target)?;
                writeln!(f, "  addr {}, SOCK_STREAM", args.addr)?;
                writeln!(f, "  fh of {} bytes", args.root.len())?;
                let shown = OsStr::from_bytes(args.shown.as_bytes());
                writeln!(f, "  hostname {shown:?}")?;
                writeln!(f, "  flags {}", self::names(args.flags, known))?;
                let (w, r, a) = (args.wsize, args.rsize, args.readahead);
                writeln!(f, "  wsize {w}, rsize {r}, readahead {a}")?;
                match args.attributes {
                    Some(seconds) => writeln!(f, "  acreg and acdir {seconds} s"),
                    None => Ok(()),
                }
            }
            Call::FreeBsd {
                addr,
                root,
                options,
            } => {
                writeln!(f, "nmount({names})")?;
                writeln!(f, "  fspath {:?}", self.target)?;
                writeln!(f, "  addr {addr}")?;
                writeln!(f, "  fh of {} bytes", root.len())?;
                for (name, value) in options {
                    match value {
                        Some(value) => writeln!(f, "  {name} {value}")?,
                        None => writeln!(f, "  {name}")?,
                    }
                }
                Ok(())
            }
        }
    }
}

fn names(bits: i32, known: &[(&str, i32)]) -> String {
    let set = known.iter().filter(|(_, bit)| bits & bit != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(system: System, read_only: bool, cache: Cache) -> String {
        let req = Request {
            export: b"/run/secret",
            target: Path::new("/pk/1a2b3c4d"),
            read_only,
            nosuid: true,
            nodev: true,
            noexec: false,
            cache,
            outlives: true,
        };
        let addr = "127.0.0.1:2049".parse().unwrap();
        let plan = Plan::new(system, addr, &[7; 44], &req);
        let shown = plan.to_string();
        assert!(!shown.contains("secret"));
        shown
    }

    #[test]
    fn openbsd_is_given_the_roots_handle() {
        insta::assert_snapshot!("openbsd_sealed", plan(System::OpenBsd, true, Cache::Sealed));
        let exclusive = plan(System::OpenBsd, false, Cache::Exclusive);
        insta::assert_snapshot!("openbsd_exclusive", exclusive);
        insta::assert_snapshot!(
            "openbsd_shared",
            plan(System::OpenBsd, false, Cache::Shared)
        );
    }

    #[test]
    fn freebsd_is_given_the_roots_handle() {
        insta::assert_snapshot!("freebsd_sealed", plan(System::FreeBsd, true, Cache::Sealed));
        insta::assert_snapshot!(
            "freebsd_shared",
            plan(System::FreeBsd, false, Cache::Shared)
        );
    }

    #[test]
    fn netbsd_is_given_the_roots_handle() {
        insta::assert_snapshot!("netbsd_sealed", plan(System::NetBsd, true, Cache::Sealed));
        let exclusive = plan(System::NetBsd, false, Cache::Exclusive);
        insta::assert_snapshot!("netbsd_exclusive", exclusive);
        insta::assert_snapshot!("netbsd_shared", plan(System::NetBsd, false, Cache::Shared));
    }

    #[test]
    fn a_target_too_long_for_the_kernel_is_refused() {
        let longest = format!("/{}", "x".repeat(NAME_MAX - 1));
        check_length(Path::new(&longest)).unwrap();
        let error = check_length(Path::new(&format!("{longest}x"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
        assert!(error.to_string().contains("90 bytes"), "{error}");
    }
}
