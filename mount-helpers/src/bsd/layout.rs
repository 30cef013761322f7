//! OpenBSD's and NetBSD's `struct nfs_args` and the numbers that go with them, for every system, so that tests can hold
//! them against those systems' headers: `layout.c` and `layout_netbsd.c` are compiled with them by `scripts/cross-openbsd`.

/// OpenBSD's sys/mount.h, 64 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NfsArgs {
    pub version: i32,
    pub addr: *mut u8,
    pub addrlen: i32,
    pub sotype: i32,
    pub proto: i32,
    pub fh: *mut u8,
    pub fhsize: i32,
    pub flags: i32,
    pub wsize: i32,
    pub rsize: i32,
    pub readdirsize: i32,
    pub timeo: i32,
    pub retrans: i32,
    pub maxgrouplist: i32,
    pub readahead: i32,
    pub leaseterm: i32,
    pub deadthresh: i32,
    pub hostname: *mut u8,
    pub acregmin: i32,
    pub acregmax: i32,
    pub acdirmin: i32,
    pub acdirmax: i32,
}

/// NetBSD's nfs/nfsmount.h, 64 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NetBsdArgs {
    pub version: i32,
    pub addr: *mut u8,
    pub addrlen: i32,
    pub sotype: i32,
    pub proto: i32,
    pub fh: *mut u8,
    pub fhsize: i32,
    pub flags: i32,
    pub wsize: i32,
    pub rsize: i32,
    pub readdirsize: i32,
    pub timeo: i32,
    pub retrans: i32,
    pub maxgrouplist: i32,
    pub readahead: i32,
    pub leaseterm: i32,
    pub deadthresh: i32,
    pub hostname: *mut u8,
}

pub mod openbsd {
    pub const NFS_ARGSVERSION: i32 = 4;
    pub const SOCK_STREAM: i32 = 1;
    pub const MNAMELEN: i32 = 90;

    pub const MNT_RDONLY: i32 = 0x1;
    pub const MNT_SYNCHRONOUS: i32 = 0x2;
    pub const MNT_NOEXEC: i32 = 0x4;
    pub const MNT_NOSUID: i32 = 0x8;
    pub const MNT_NODEV: i32 = 0x10;
    pub const MNT_FORCE: i32 = 0x80000;

    pub const NFSMNT_WSIZE: i32 = 0x2;
    pub const NFSMNT_RSIZE: i32 = 0x4;
    pub const NFSMNT_INT: i32 = 0x40;
    pub const NFSMNT_NFSV3: i32 = 0x200;
    pub const NFSMNT_READAHEAD: i32 = 0x2000;
    pub const NFSMNT_ACREGMIN: i32 = 0x40000;
    pub const NFSMNT_ACREGMAX: i32 = 0x80000;
    pub const NFSMNT_ACDIRMIN: i32 = 0x10_0000;
    pub const NFSMNT_ACDIRMAX: i32 = 0x20_0000;

    pub const MOUNT_FLAGS: &[(&str, i32)] = &[
        ("MNT_RDONLY", MNT_RDONLY),
        ("MNT_SYNCHRONOUS", MNT_SYNCHRONOUS),
        ("MNT_NOEXEC", MNT_NOEXEC),
        ("MNT_NOSUID", MNT_NOSUID),
        ("MNT_NODEV", MNT_NODEV),
        ("MNT_FORCE", MNT_FORCE),
    ];

    pub const NFS_FLAGS: &[(&str, i32)] = &[
        ("NFSMNT_WSIZE", NFSMNT_WSIZE),
        ("NFSMNT_RSIZE", NFSMNT_RSIZE),
        ("NFSMNT_INT", NFSMNT_INT),
        ("NFSMNT_NFSV3", NFSMNT_NFSV3),
        ("NFSMNT_READAHEAD", NFSMNT_READAHEAD),
        ("NFSMNT_ACREGMIN", NFSMNT_ACREGMIN),
        ("NFSMNT_ACREGMAX", NFSMNT_ACREGMAX),
        ("NFSMNT_ACDIRMIN", NFSMNT_ACDIRMIN),
        ("NFSMNT_ACDIRMAX", NFSMNT_ACDIRMAX),
    ];
}

pub mod netbsd {
    /// Its kernel takes no other (EPROGMISMATCH).
    pub const NFS_ARGSVERSION: i32 = 3;

    pub const NFSMNT_WSIZE: i32 = 0x2;
    pub const NFSMNT_RSIZE: i32 = 0x4;
    pub const NFSMNT_INT: i32 = 0x40;
    pub const NFSMNT_NFSV3: i32 = 0x200;
    pub const NFSMNT_READAHEAD: i32 = 0x2000;
    pub const NFSMNT_RESVPORT: i32 = 0x8000;
    pub const NFSMNT_NOAC: i32 = 0x80000;

    pub const NFS_FLAGS: &[(&str, i32)] = &[
        ("NFSMNT_WSIZE", NFSMNT_WSIZE),
        ("NFSMNT_RSIZE", NFSMNT_RSIZE),
        ("NFSMNT_INT", NFSMNT_INT),
        ("NFSMNT_NFSV3", NFSMNT_NFSV3),
        ("NFSMNT_READAHEAD", NFSMNT_READAHEAD),
        ("NFSMNT_RESVPORT", NFSMNT_RESVPORT),
        ("NFSMNT_NOAC", NFSMNT_NOAC),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::mem::{offset_of, size_of};

    const SOCKADDR: [(&str, usize); 4] = [
        // sin_len, sin_family, sin_port, sin_addr, as `sys` fills them by libc's definition.
        ("sizeof(struct sockaddr_in)", 16),
        ("offsetof(struct sockaddr_in, sin_family)", 1),
        ("offsetof(struct sockaddr_in, sin_port)", 2),
        ("offsetof(struct sockaddr_in, sin_addr)", 4),
    ];

    macro_rules! layout {
        ($args:ty: $($field:ident)*) => {{
            let mut says = vec![("sizeof(struct nfs_args)", size_of::<$args>())];
            $(says.push((
                concat!("offsetof(struct nfs_args, ", stringify!($field), ")"),
                offset_of!($args, $field),
            ));)*
            says
        }};
    }

    /// The C that says of a system's headers what this file says.
    fn assertions(
        system: &str,
        headers: &[&str],
        layout: Vec<(&'static str, usize)>,
        numbers: &[&[(&'static str, i32)]],
    ) -> String {
        let mut c = format!(
            "/* Made by the tests of layout.rs; compiled with {system}'s headers by scripts/cross-openbsd. */\n"
        );
        for header in headers {
            let _ = writeln!(c, "#include <{header}>");
        }
        c.push('\n');
        let numbers = numbers.iter().copied().flatten();
        let numbers = numbers.map(|(name, value)| (*name, *value as usize));
        for (what, value) in layout.into_iter().chain(SOCKADDR).chain(numbers) {
            let _ = writeln!(c, "_Static_assert({what} == {value}, \"{what}\");");
        }
        c
    }

    fn openbsd() -> String {
        assertions(
            "OpenBSD",
            &[
                "sys/param.h",
                "sys/mount.h",
                "sys/socket.h",
                "netinet/in.h",
                "stddef.h",
            ],
            layout!(NfsArgs: version addr addrlen sotype proto fh fhsize flags wsize rsize readdirsize timeo
                retrans maxgrouplist readahead leaseterm deadthresh hostname acregmin acregmax acdirmin acdirmax),
            &[
                &[
                    ("NFS_ARGSVERSION", openbsd::NFS_ARGSVERSION),
                    ("SOCK_STREAM", openbsd::SOCK_STREAM),
                    ("MNAMELEN", openbsd::MNAMELEN),
                ],
                openbsd::MOUNT_FLAGS,
                openbsd::NFS_FLAGS,
            ],
        )
    }

    /// Its flags of mount(2) are OpenBSD's.
    fn netbsd() -> String {
        assertions(
            "NetBSD",
            &[
                "sys/param.h",
                "sys/mount.h",
                "sys/socket.h",
                "netinet/in.h",
                "nfs/rpcv2.h",
                "nfs/nfsproto.h",
                "nfs/nfs.h",
                "nfs/nfsmount.h",
                "stddef.h",
            ],
            layout!(NetBsdArgs: version addr addrlen sotype proto fh fhsize flags wsize rsize readdirsize timeo
                retrans maxgrouplist readahead leaseterm deadthresh hostname),
            &[
                &[
                    ("NFS_ARGSVERSION", netbsd::NFS_ARGSVERSION),
                    ("SOCK_STREAM", openbsd::SOCK_STREAM),
                    // What a READ and a WRITE may carry over TCP.
                    ("NFS_MAXDATA", crate::bsd::plan::IO_SIZE),
                ],
                openbsd::MOUNT_FLAGS,
                netbsd::NFS_FLAGS,
            ],
        )
    }

    #[test]
    fn the_c_that_is_held_against_the_systems_headers_says_what_is_here() {
        for (file, want) in [("layout.c", openbsd()), ("layout_netbsd.c", netbsd())] {
            let path = format!("{}/src/bsd/{file}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("POCKER_UPDATE_LAYOUT").is_some() {
                std::fs::write(&path, &want).unwrap();
            }
            let have = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(have, want, "{file}: POCKER_UPDATE_LAYOUT=1 writes it anew");
        }
    }
}
