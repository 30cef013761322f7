//! One method a procedure: NFSv3 (RFC 1813 §3.3), MOUNT, and our own program.

use super::replies::*;
use super::{Client, ClientError, Creds};
use crate::proto::*;
use crate::vfs::{CreateHow, Fh, FsInfo, FsStat, NodeKind, Stable, XattrHow};
use crate::xdr::{Decoded, Put, Reader};

type Done<T> = Result<T, ClientError>;

impl Client {
    /// An NFS call whose results follow nfsstat3.
    async fn nfs<T>(
        &self,
        who: &Creds,
        procedure: u32,
        args: impl FnOnce(&mut Vec<u8>),
        decode: impl FnOnce(&mut Reader<'_>) -> Decoded<T>,
    ) -> Done<T> {
        self.status_call(who, (NFS_PROGRAM, NFS_V3, procedure), args, decode)
            .await
    }

    async fn status_call<T>(
        &self,
        who: &Creds,
        what: (u32, u32, u32),
        args: impl FnOnce(&mut Vec<u8>),
        decode: impl FnOnce(&mut Reader<'_>) -> Decoded<T>,
    ) -> Done<T> {
        let record = self.call(who, what, args).await?;
        let mut r = results(&record)?;
        ok(&mut r)?;
        Ok(decode(&mut r)?)
    }

    pub async fn null(&self) -> Done<()> {
        let nobody = Creds {
            uid: 65534,
            gid: 65534,
            gids: Vec::new(),
        };
        let record = self.call(&nobody, (NFS_PROGRAM, NFS_V3, 0), |_| {}).await?;
        results(&record).map(drop)
    }

    /// MNT: an export's root handle.
    pub async fn mount(&self, path: &[u8]) -> Done<Fh> {
        let root = Creds {
            uid: 0,
            gid: 0,
            gids: Vec::new(),
        };
        let what = (MOUNT_PROGRAM, MOUNT_V3, 1);
        let record = self.call(&root, what, |out| out.opaque(path)).await?;
        let mut r = results(&record)?;
        match r.u32()? {
            0 => Ok(r.fh()?),
            status => Err(ClientError::Mount(status)),
        }
    }

    /// UMNT: the server may forget that this client has mounted the path.
    pub async fn umount(&self, path: &[u8]) -> Done<()> {
        let root = Creds {
            uid: 0,
            gid: 0,
            gids: Vec::new(),
        };
        let what = (MOUNT_PROGRAM, MOUNT_V3, 3);
        let record = self.call(&root, what, |out| out.opaque(path)).await?;
        results(&record).map(drop)
    }

    pub async fn getattr(&self, who: &Creds, fh: &Fh) -> Done<fattr3> {
        self.nfs(who, 1, |out| out.fh(fh), |r| r.fattr()).await
    }

    pub async fn setattr(
        &self,
        who: &Creds,
        fh: &Fh,
        new: &sattr3,
        guard: Option<nfstime3>,
    ) -> Done<Option<fattr3>> {
        let args = |out: &mut Vec<u8>| {
            out.fh(fh);
            out.xdr(new);
            out.bool(guard.is_some());
            if let Some(guard) = &guard {
                out.xdr(guard);
            }
        };
        self.nfs(who, 2, args, |r| r.wcc_after()).await
    }

    pub async fn lookup(&self, who: &Creds, dir: &Fh, name: &[u8]) -> Done<LookupReply> {
        let decode = |r: &mut Reader<'_>| {
            Ok(LookupReply {
                fh: r.fh()?,
                attr: r.post_op_attr()?,
                dir: r.post_op_attr()?,
            })
        };
        self.nfs(who, 3, |out| entry(out, dir, name), decode).await
    }

    /// The bits of `want` that are granted, and the attributes.
    pub async fn access(&self, who: &Creds, fh: &Fh, want: u32) -> Done<(u32, Option<fattr3>)> {
        let args = |out: &mut Vec<u8>| {
            out.fh(fh);
            out.u32(want);
        };
        self.nfs(who, 4, args, |r| {
            let attr = r.post_op_attr()?;
            Ok((r.u32()?, attr))
        })
        .await
    }

    pub async fn readlink(&self, who: &Creds, fh: &Fh) -> Done<(Vec<u8>, Option<fattr3>)> {
        self.nfs(
            who,
            5,
            |out| out.fh(fh),
            |r| {
                let attr = r.post_op_attr()?;
                Ok((r.opaque(PATH_MAX)?.to_vec(), attr))
            },
        )
        .await
    }

    pub async fn read(&self, who: &Creds, fh: &Fh, offset: u64, count: u32) -> Done<ReadReply> {
        let args = |out: &mut Vec<u8>| {
            out.fh(fh);
            out.u64(offset);
            out.u32(count);
        };
        self.nfs(who, 6, args, |r| {
            let attr = r.post_op_attr()?;
            r.u32()?;
            let eof = r.bool()?;
            Ok(ReadReply {
                attr,
                eof,
                data: r.opaque(count as usize)?.to_vec(),
            })
        })
        .await
    }

    pub async fn write(
        &self,
        who: &Creds,
        fh: &Fh,
        offset: u64,
        data: &[u8],
        stable: Stable,
    ) -> Done<WriteReply> {
        let args = |out: &mut Vec<u8>| {
            out.fh(fh);
            out.u64(offset);
            out.u32(data.len() as u32);
            out.u32(stable as u32);
            out.opaque(data);
        };
        self.nfs(who, 7, args, |r| {
            Ok(WriteReply {
                attr: r.wcc_after()?,
                count: r.u32()?,
                committed: super::replies::stable(r)?,
                verifier: r.array()?,
            })
        })
        .await
    }

    pub async fn create(
        &self,
        who: &Creds,
        dir: &Fh,
        name: &[u8],
        how: &CreateHow,
    ) -> Done<MadeReply> {
        let args = |out: &mut Vec<u8>| {
            entry(out, dir, name);
            match how {
                CreateHow::Unchecked(attr) => {
                    out.u32(0);
                    out.xdr(attr);
                }
                CreateHow::Guarded(attr) => {
                    out.u32(1);
                    out.xdr(attr);
                }
                CreateHow::Exclusive(verifier) => {
                    out.u32(2);
                    out.extend_from_slice(verifier);
                }
            }
        };
        self.nfs(who, 8, args, made).await
    }

    pub async fn mkdir(
        &self,
        who: &Creds,
        dir: &Fh,
        name: &[u8],
        attr: &sattr3,
    ) -> Done<MadeReply> {
        let args = |out: &mut Vec<u8>| {
            entry(out, dir, name);
            out.xdr(attr);
        };
        self.nfs(who, 9, args, made).await
    }

    pub async fn symlink(
        &self,
        who: &Creds,
        dir: &Fh,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Done<MadeReply> {
        let args = |out: &mut Vec<u8>| {
            entry(out, dir, name);
            out.xdr(attr);
            out.opaque(target);
        };
        self.nfs(who, 10, args, made).await
    }

    pub async fn mknod(
        &self,
        who: &Creds,
        dir: &Fh,
        name: &[u8],
        kind: NodeKind,
        attr: &sattr3,
    ) -> Done<MadeReply> {
        let args = |out: &mut Vec<u8>| {
            entry(out, dir, name);
            let (number, device) = match kind {
                NodeKind::Block(device) => (3, Some(device)),
                NodeKind::Char(device) => (4, Some(device)),
                NodeKind::Socket => (6, None),
                NodeKind::Fifo => (7, None),
            };
            out.u32(number);
            out.xdr(attr);
            if let Some(device) = &device {
                out.xdr(device);
            }
        };
        self.nfs(who, 11, args, made).await
    }

    /// The directory's attributes afterwards.
    pub async fn remove(&self, who: &Creds, dir: &Fh, name: &[u8]) -> Done<Option<fattr3>> {
        self.nfs(who, 12, |out| entry(out, dir, name), |r| r.wcc_after())
            .await
    }

    pub async fn rmdir(&self, who: &Creds, dir: &Fh, name: &[u8]) -> Done<Option<fattr3>> {
        self.nfs(who, 13, |out| entry(out, dir, name), |r| r.wcc_after())
            .await
    }

    /// Both directories' attributes afterwards, the source's first.
    pub async fn rename(
        &self,
        who: &Creds,
        from: &Fh,
        name: &[u8],
        to: &Fh,
        new: &[u8],
    ) -> Done<(Option<fattr3>, Option<fattr3>)> {
        let args = |out: &mut Vec<u8>| {
            entry(out, from, name);
            entry(out, to, new);
        };
        self.nfs(who, 14, args, |r| Ok((r.wcc_after()?, r.wcc_after()?)))
            .await
    }

    /// The file's attributes and the directory's afterwards.
    pub async fn link(
        &self,
        who: &Creds,
        fh: &Fh,
        dir: &Fh,
        name: &[u8],
    ) -> Done<(Option<fattr3>, Option<fattr3>)> {
        let args = |out: &mut Vec<u8>| {
            out.fh(fh);
            entry(out, dir, name);
        };
        self.nfs(who, 15, args, |r| Ok((r.post_op_attr()?, r.wcc_after()?)))
            .await
    }

    pub async fn readdir(
        &self,
        who: &Creds,
        dir: &Fh,
        cookie: u64,
        verifier: [u8; 8],
        count: u32,
    ) -> Done<DirReply> {
        let args = |out: &mut Vec<u8>| {
            out.fh(dir);
            out.u64(cookie);
            out.extend_from_slice(&verifier);
            out.u32(count);
        };
        self.nfs(who, 16, args, |r| directory(r, false)).await
    }

    pub async fn readdirplus(
        &self,
        who: &Creds,
        dir: &Fh,
        cookie: u64,
        verifier: [u8; 8],
        dircount: u32,
        maxcount: u32,
    ) -> Done<DirReply> {
        let args = |out: &mut Vec<u8>| {
            out.fh(dir);
            out.u64(cookie);
            out.extend_from_slice(&verifier);
            out.u32(dircount);
            out.u32(maxcount);
        };
        self.nfs(who, 17, args, |r| directory(r, true)).await
    }

    pub async fn fsstat(&self, who: &Creds, fh: &Fh) -> Done<FsStat> {
        self.nfs(
            who,
            18,
            |out| out.fh(fh),
            |r| {
                r.post_op_attr()?;
                Ok(FsStat {
                    total_bytes: r.u64()?,
                    free_bytes: r.u64()?,
                    avail_bytes: r.u64()?,
                    total_files: r.u64()?,
                    free_files: r.u64()?,
                    avail_files: r.u64()?,
                })
            },
        )
        .await
    }

    /// FSINFO; the link limit comes from `pathconf`.
    pub async fn fsinfo(&self, who: &Creds, fh: &Fh) -> Done<FsInfo> {
        self.nfs(
            who,
            19,
            |out| out.fh(fh),
            |r| {
                r.post_op_attr()?;
                let read_max = r.u32()?;
                r.bytes(4 * 2)?;
                let write_max = r.u32()?;
                r.bytes(4 * 3)?;
                Ok(FsInfo {
                    io_max: read_max.min(write_max),
                    max_file_size: r.u64()?,
                    link_max: 0,
                })
            },
        )
        .await
    }

    pub async fn pathconf(&self, who: &Creds, fh: &Fh) -> Done<PathConf> {
        self.nfs(
            who,
            20,
            |out| out.fh(fh),
            |r| {
                r.post_op_attr()?;
                Ok(PathConf {
                    link_max: r.u32()?,
                    name_max: r.u32()?,
                    no_trunc: r.bool()?,
                    chown_restricted: r.bool()?,
                    case_insensitive: r.bool()?,
                    case_preserving: r.bool()?,
                })
            },
        )
        .await
    }

    /// The write verifier.
    pub async fn commit(&self, who: &Creds, fh: &Fh, offset: u64, count: u32) -> Done<[u8; 8]> {
        let args = |out: &mut Vec<u8>| {
            out.fh(fh);
            out.u64(offset);
            out.u32(count);
        };
        self.nfs(who, 21, args, |r| {
            r.wcc_after()?;
            r.array()
        })
        .await
    }

    async fn own<T>(
        &self,
        who: &Creds,
        procedure: u32,
        args: impl FnOnce(&mut Vec<u8>),
        decode: impl FnOnce(&mut Reader<'_>) -> Decoded<T>,
    ) -> Done<T> {
        self.status_call(who, (POCKER_PROGRAM, POCKER_V1, procedure), args, decode)
            .await
    }

    /// NFS3ERR_NOENT: no such attribute.
    pub async fn getxattr(&self, who: &Creds, fh: &Fh, name: &[u8]) -> Done<Vec<u8>> {
        self.own(
            who,
            2,
            |out| entry(out, fh, name),
            |r| Ok(r.opaque(64 << 10)?.to_vec()),
        )
        .await
    }

    pub async fn listxattr(&self, who: &Creds, fh: &Fh) -> Done<Vec<Vec<u8>>> {
        self.own(
            who,
            3,
            |out| out.fh(fh),
            |r| {
                let count = r.u32()?;
                (0..count)
                    .map(|_| Ok(r.opaque(NAME_MAX)?.to_vec()))
                    .collect()
            },
        )
        .await
    }

    pub async fn setxattr(
        &self,
        who: &Creds,
        fh: &Fh,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Done<()> {
        let args = |out: &mut Vec<u8>| {
            entry(out, fh, name);
            out.opaque(value);
            out.u32(match how {
                XattrHow::Either => 0,
                XattrHow::Create => 1,
                XattrHow::Replace => 2,
            });
        };
        self.own(who, 4, args, |_| Ok(())).await
    }

    pub async fn removexattr(&self, who: &Creds, fh: &Fh, name: &[u8]) -> Done<()> {
        self.own(who, 5, |out| entry(out, fh, name), |_| Ok(()))
            .await
    }
}

/// diropargs3: a directory and a name in it.
fn entry(out: &mut Vec<u8>, dir: &Fh, name: &[u8]) {
    out.fh(dir);
    out.opaque(name);
}
