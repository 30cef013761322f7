//! The NFS client as the operations want it: root's calls, errno for status, and
//! attributes that are always there, asked for where a reply left them out.

use super::attr::errno;
use fuser::Errno;
use pocker_nfs::client::{Client, ClientError, Creds, DirReply, MadeReply, ReadReply};
use pocker_nfs::proto::{fattr3, nfsstat3, sattr3};
use pocker_nfs::vfs::{CreateHow, Fh, FsStat, NodeKind, Stable, XattrHow};

/// Asked of READDIRPLUS: entries for a few hundred names, so that a large
/// directory takes few calls and a small one little memory.
const DIR_BYTES: u32 = 64 << 10;

/// One export's calls. The kernel has checked permissions, so all are root's.
#[derive(Clone)]
pub(crate) struct Remote {
    client: Client,
    root: Creds,
    /// Largest READ and WRITE, in bytes.
    io_max: usize,
}

/// What a call made.
#[derive(Debug)]
pub(crate) struct Made {
    pub fh: Fh,
    pub attr: fattr3,
    pub dir: Option<fattr3>,
}

/// What of a WRITE the server took.
#[derive(Debug)]
pub(crate) struct Wrote {
    pub count: u32,
    pub attr: Option<fattr3>,
    /// Set where the data is not yet stable: the write verifier.
    pub unstable: Option<[u8; 8]>,
}

type Done<T> = Result<T, Errno>;

fn failed(error: ClientError) -> Errno {
    match error {
        ClientError::Status(status) => errno(status),
        // Our own program is not there: a server without extended attributes.
        ClientError::Rpc("no such program" | "no such procedure") => Errno::EOPNOTSUPP,
        other => {
            tracing::warn!(%other, "an NFS call failed");
            Errno::EIO
        }
    }
}

impl Remote {
    /// Learns the export's limits.
    pub(crate) async fn new(client: Client, fh: &Fh) -> Done<Remote> {
        let root = Creds {
            uid: 0,
            gid: 0,
            gids: Vec::new(),
        };
        let info = client.fsinfo(&root, fh).await.map_err(failed)?;
        // At least a block; and no more than the kernel ever sends in one request.
        let io_max = info.io_max.clamp(512, 1 << 20) as usize;
        Ok(Remote {
            client,
            root,
            io_max,
        })
    }

    pub(crate) fn io_max(&self) -> usize {
        self.io_max
    }

    pub(crate) async fn getattr(&self, fh: &Fh) -> Done<fattr3> {
        self.client.getattr(&self.root, fh).await.map_err(failed)
    }

    async fn attr_or_ask(&self, attr: Option<fattr3>, fh: &Fh) -> Done<fattr3> {
        match attr {
            Some(attr) => Ok(attr),
            None => self.getattr(fh).await,
        }
    }

    pub(crate) async fn setattr(&self, fh: &Fh, new: &sattr3) -> Done<fattr3> {
        let after = self.client.setattr(&self.root, fh, new, None).await;
        self.attr_or_ask(after.map_err(failed)?, fh).await
    }

    pub(crate) async fn lookup(&self, dir: &Fh, name: &[u8]) -> Done<(Fh, fattr3)> {
        let found = self.client.lookup(&self.root, dir, name).await;
        let found = found.map_err(failed)?;
        Ok((found.fh, self.attr_or_ask(found.attr, &found.fh).await?))
    }

    pub(crate) async fn readlink(&self, fh: &Fh) -> Done<Vec<u8>> {
        let target = self.client.readlink(&self.root, fh).await;
        Ok(target.map_err(failed)?.0)
    }

    pub(crate) async fn read(&self, fh: &Fh, offset: u64, count: u32) -> Done<ReadReply> {
        let read = self.client.read(&self.root, fh, offset, count).await;
        read.map_err(failed)
    }

    pub(crate) async fn write(
        &self,
        fh: &Fh,
        offset: u64,
        data: &[u8],
        stable: Stable,
    ) -> Done<Wrote> {
        let reply = self.client.write(&self.root, fh, offset, data, stable);
        let reply = reply.await.map_err(failed)?;
        Ok(Wrote {
            count: reply.count,
            attr: reply.attr,
            unstable: (reply.committed == Stable::Unstable).then_some(reply.verifier),
        })
    }

    /// A server may leave out what it made.
    async fn made(
        &self,
        dir: &Fh,
        name: &[u8],
        made: Result<MadeReply, ClientError>,
    ) -> Done<Made> {
        let made = made.map_err(failed)?;
        let (fh, attr) = match made.fh {
            Some(fh) => (fh, self.attr_or_ask(made.attr, &fh).await?),
            None => self.lookup(dir, name).await?,
        };
        let dir = made.dir;
        Ok(Made { fh, attr, dir })
    }

    pub(crate) async fn create(&self, dir: &Fh, name: &[u8], how: &CreateHow) -> Done<Made> {
        let made = self.client.create(&self.root, dir, name, how).await;
        self.made(dir, name, made).await
    }

    pub(crate) async fn mkdir(&self, dir: &Fh, name: &[u8], attr: &sattr3) -> Done<Made> {
        let made = self.client.mkdir(&self.root, dir, name, attr).await;
        self.made(dir, name, made).await
    }

    pub(crate) async fn symlink(
        &self,
        dir: &Fh,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Done<Made> {
        let made = self.client.symlink(&self.root, dir, name, target, attr);
        let made = made.await;
        self.made(dir, name, made).await
    }

    pub(crate) async fn mknod(
        &self,
        dir: &Fh,
        name: &[u8],
        kind: NodeKind,
        attr: &sattr3,
    ) -> Done<Made> {
        let made = self.client.mknod(&self.root, dir, name, kind, attr).await;
        self.made(dir, name, made).await
    }

    pub(crate) async fn remove(&self, dir: &Fh, name: &[u8]) -> Done<Option<fattr3>> {
        let removed = self.client.remove(&self.root, dir, name).await;
        removed.map_err(failed)
    }

    pub(crate) async fn rmdir(&self, dir: &Fh, name: &[u8]) -> Done<Option<fattr3>> {
        let removed = self.client.rmdir(&self.root, dir, name).await;
        removed.map_err(failed)
    }

    pub(crate) async fn rename(
        &self,
        from: &Fh,
        name: &[u8],
        to: &Fh,
        new: &[u8],
    ) -> Done<(Option<fattr3>, Option<fattr3>)> {
        let renamed = self.client.rename(&self.root, from, name, to, new).await;
        renamed.map_err(failed)
    }

    pub(crate) async fn link(
        &self,
        fh: &Fh,
        dir: &Fh,
        name: &[u8],
    ) -> Done<(fattr3, Option<fattr3>)> {
        let linked = self.client.link(&self.root, fh, dir, name).await;
        let (attr, dir_attr) = linked.map_err(failed)?;
        Ok((self.attr_or_ask(attr, fh).await?, dir_attr))
    }

    pub(crate) async fn readdir(
        &self,
        dir: &Fh,
        cookie: u64,
        verifier: [u8; 8],
    ) -> Result<DirReply, DirFailed> {
        self.client
            .readdirplus(&self.root, dir, cookie, verifier, DIR_BYTES, DIR_BYTES)
            .await
            .map_err(|e| match e {
                ClientError::Status(nfsstat3::NFS3ERR_BAD_COOKIE) => DirFailed::BadCookie,
                other => DirFailed::Errno(failed(other)),
            })
    }

    pub(crate) async fn fsstat(&self, fh: &Fh) -> Done<FsStat> {
        self.client.fsstat(&self.root, fh).await.map_err(failed)
    }

    /// All of a file; the write verifier.
    pub(crate) async fn commit(&self, fh: &Fh) -> Done<[u8; 8]> {
        let committed = self.client.commit(&self.root, fh, 0, 0).await;
        committed.map_err(failed)
    }

    /// `None`: no such attribute.
    pub(crate) async fn getxattr(&self, fh: &Fh, name: &[u8]) -> Done<Option<Vec<u8>>> {
        match self.client.getxattr(&self.root, fh, name).await {
            Ok(value) => Ok(Some(value)),
            Err(ClientError::Status(nfsstat3::NFS3ERR_NOENT)) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    pub(crate) async fn listxattr(&self, fh: &Fh) -> Done<Vec<Vec<u8>>> {
        self.client.listxattr(&self.root, fh).await.map_err(failed)
    }

    pub(crate) async fn setxattr(
        &self,
        fh: &Fh,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Done<()> {
        let set = self.client.setxattr(&self.root, fh, name, value, how).await;
        set.map_err(no_xattr)
    }

    pub(crate) async fn removexattr(&self, fh: &Fh, name: &[u8]) -> Done<()> {
        let removed = self.client.removexattr(&self.root, fh, name).await;
        removed.map_err(no_xattr)
    }
}

fn no_xattr(error: ClientError) -> Errno {
    match error {
        ClientError::Status(nfsstat3::NFS3ERR_NOENT) => Errno::NO_XATTR,
        other => failed(other),
    }
}

/// Why a directory could not be read on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DirFailed {
    /// The server wants the directory read from its start.
    BadCookie,
    Errno(Errno),
}
