//! Calls that must not run twice, and those that move data: each is made ready, made, and
//! done to the model.

use crate::tree::{LARGE, LARGE_BYTES, Tree, root, set_mode};
use pocker_nfs::client::ClientError;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{CreateHow, Fh, NodeKind, Stable, XattrHow};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    CreateGuarded,
    CreateExclusive,
    CreateUnchecked,
    CreateOver,
    Mkdir,
    Symlink,
    Mknod,
    Link,
    Rename,
    RenameOver,
    RenameDir,
    RenameBase,
    Remove,
    RemoveLarge,
    RemoveBase,
    Rmdir,
    Chmod,
    Grow,
    Truncate,
    TruncateBase,
    SetXattr,
    RemoveXattr,
    WriteSmall,
    WriteLarge,
    Overwrite,
    CopyUp,
    WriteSync,
    Commit,
}

use Op::*;

pub const ALL: [Op; 28] = [
    CreateGuarded,
    CreateExclusive,
    CreateUnchecked,
    CreateOver,
    Mkdir,
    Symlink,
    Mknod,
    Link,
    Rename,
    RenameOver,
    RenameDir,
    RenameBase,
    Remove,
    RemoveLarge,
    RemoveBase,
    Rmdir,
    Chmod,
    Grow,
    Truncate,
    TruncateBase,
    SetXattr,
    RemoveXattr,
    WriteSmall,
    WriteLarge,
    Overwrite,
    CopyUp,
    WriteSync,
    Commit,
];

impl Op {
    /// Uses up one of the large files.
    pub fn takes_base(self) -> bool {
        matches!(self, RenameBase | RemoveBase | TruncateBase | CopyUp)
    }

    pub fn writes(self) -> bool {
        matches!(
            self,
            WriteSmall | WriteLarge | Overwrite | CopyUp | WriteSync | Commit
        )
    }
}

pub fn mode(mode: u32) -> sattr3 {
    sattr3 {
        mode: set_mode3::mode(mode),
        ..sattr3::default()
    }
}

fn size(size: u64) -> sattr3 {
    sattr3 {
        size: set_size3::size(size),
        ..sattr3::default()
    }
}

const BYTES: usize = 30_000;

/// No two operations' bytes are the same.
fn data(n: usize) -> Vec<u8> {
    let mut data = vec![b'd'; BYTES];
    data[..8].copy_from_slice(&n.to_le_bytes());
    data
}

/// One operation with a name of its own, ready to be made.
pub struct Ready {
    pub op: Op,
    tree: Tree,
    dir: Fh,
    /// What it is done to, where that is there before.
    fh: Option<Fh>,
    /// What a guarded SETATTR goes by.
    ctime: nfstime3,
    name: String,
    new: String,
    data: Vec<u8>,
}

async fn make(tree: &Tree, dir: &Fh, name: &str, data: &[u8]) -> Fh {
    let me = root();
    let how = CreateHow::Guarded(mode(0o640));
    let made = tree.client.create(&me, dir, name.as_bytes(), &how);
    let fh = made.await.expect("CREATE").fh.expect("a handle");
    if !data.is_empty() {
        let wrote = tree.client.write(&me, &fh, 0, data, Stable::FileSync);
        assert_eq!(wrote.await.expect("WRITE").count as usize, data.len());
    }
    let file = tree.model.join(name);
    std::fs::write(&file, data).expect("written");
    set_mode(&file, 0o640);
    fh
}

impl Ready {
    /// `n` was never given before for this tree; `base` counts what takes a large file.
    pub async fn new(tree: &Tree, op: Op, n: usize, base: usize) -> Ready {
        let me = root();
        let client = &tree.client;
        let (mut dir, mut fh) = (tree.top, None);
        let (mut name, mut new) = (format!("n{n}"), format!("new{n}"));
        let data = data(n);
        match op {
            CreateGuarded | CreateExclusive | CreateUnchecked | Mkdir | Symlink | Mknod => {}
            CreateOver | Link | Rename | Remove | Chmod | Grow | SetXattr | WriteSmall
            | WriteLarge | WriteSync | Commit => {
                fh = Some(make(tree, &tree.top, &name, b"small").await)
            }
            RemoveLarge | Truncate | Overwrite => {
                fh = Some(make(tree, &tree.top, &name, &data).await);
            }
            RenameOver => {
                fh = Some(make(tree, &tree.top, &name, &data).await);
                make(tree, &tree.top, &new, b"below").await;
            }
            RemoveXattr => {
                let file = make(tree, &tree.top, &name, b"x").await;
                let set = client.setxattr(&me, &file, b"user.a", b"v", XattrHow::Create);
                set.await.expect("SETXATTR");
                xattr::set(tree.model.join(&name), "user.a", b"v").expect("set");
                fh = Some(file);
            }
            RenameDir | Rmdir => {
                let made = client
                    .mkdir(&me, &tree.top, name.as_bytes(), &mode(0o750))
                    .await;
                let made = made.expect("MKDIR").fh.expect("a handle");
                std::fs::create_dir(tree.model.join(&name)).expect("mkdir");
                set_mode(&tree.model.join(&name), 0o750);
                if op == RenameDir {
                    make(tree, &tree.top, &format!("in{n}"), b"").await;
                    let inside = format!("in{n}");
                    let moved = client.rename(&me, &tree.top, inside.as_bytes(), &made, b"in");
                    moved.await.expect("RENAME");
                    std::fs::rename(
                        tree.model.join(format!("in{n}")),
                        tree.model.join(&name).join("in"),
                    )
                    .expect("rename");
                }
            }
            RenameBase | RemoveBase | TruncateBase | CopyUp => {
                assert!(base < LARGE, "no large file is left");
                let large = client.lookup(&me, &tree.top, b"large").await;
                dir = large.expect("LOOKUP").fh;
                let found = client.lookup(&me, &dir, base.to_string().as_bytes()).await;
                fh = Some(found.expect("LOOKUP").fh);
                (name, new) = (format!("large/{base}"), format!("large/new{n}"));
            }
        }
        let ctime = match &fh {
            Some(fh) => client.getattr(&me, fh).await.expect("GETATTR").ctime,
            None => nfstime3::default(),
        };
        Ready {
            op,
            tree: tree.clone(),
            dir,
            fh,
            ctime,
            name,
            new,
            data,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the call; it must succeed, whatever becomes of the server meanwhile.
    pub async fn make(&self) -> Result<(), ClientError> {
        let (me, c) = (root(), &self.tree.client);
        let dir = &self.dir;
        let last = |path: &'_ str| path.rsplit('/').next().unwrap_or_default().to_string();
        let (name, new) = (last(&self.name), last(&self.new));
        let (name, new) = (name.as_bytes(), new.as_bytes());
        let fh = || self.fh.expect("a handle");
        let guard = Some(self.ctime);
        match self.op {
            CreateGuarded => drop(
                c.create(&me, dir, name, &CreateHow::Guarded(mode(0o640)))
                    .await?,
            ),
            CreateExclusive => {
                let made = c.create(&me, dir, name, &CreateHow::Exclusive([7; 8]));
                let fh = made.await?.fh.expect("a handle");
                c.setattr(&me, &fh, &mode(0o640), None).await?;
            }
            CreateUnchecked => drop(
                c.create(&me, dir, name, &CreateHow::Unchecked(mode(0o640)))
                    .await?,
            ),
            CreateOver => drop(
                c.create(&me, dir, name, &CreateHow::Unchecked(size(0)))
                    .await?,
            ),
            Mkdir => drop(c.mkdir(&me, dir, name, &mode(0o750)).await?),
            Symlink => drop(
                c.symlink(&me, dir, name, b"where", &sattr3::default())
                    .await?,
            ),
            Mknod => drop(
                c.mknod(&me, dir, name, NodeKind::Fifo, &mode(0o640))
                    .await?,
            ),
            Link => drop(c.link(&me, &fh(), dir, new).await?),
            Rename | RenameOver | RenameDir | RenameBase => {
                c.rename(&me, dir, name, dir, new).await?;
            }
            Remove | RemoveLarge | RemoveBase => drop(c.remove(&me, dir, name).await?),
            Rmdir => drop(c.rmdir(&me, dir, name).await?),
            Chmod => drop(c.setattr(&me, &fh(), &mode(0o604), guard).await?),
            Grow => drop(c.setattr(&me, &fh(), &size(25_000), guard).await?),
            Truncate | TruncateBase => {
                c.setattr(&me, &fh(), &size(20_001), guard).await?;
            }
            SetXattr => {
                c.setxattr(&me, &fh(), b"user.a", b"v", XattrHow::Create)
                    .await?
            }
            RemoveXattr => c.removexattr(&me, &fh(), b"user.a").await?,
            WriteSmall => drop(self.write(2, b"written").await?),
            WriteLarge => drop(self.write(0, &self.data).await?),
            Overwrite => drop(self.write(5_000, b"written over").await?),
            // In the middle of a block, up into another.
            CopyUp => {
                let middle = LARGE_BYTES as u64 / 2;
                self.write(middle, &self.data[..9_000]).await?;
            }
            WriteSync => {
                self.write_so(0, &self.data, Stable::FileSync).await?;
            }
            Commit => {
                let wrote = self.write(0, &self.data).await?;
                let committed = c.commit(&me, &fh(), 0, 0).await?;
                assert_eq!(committed, wrote, "a killed server lost nothing");
            }
        }
        Ok(())
    }

    /// The verifier.
    async fn write(&self, at: u64, data: &[u8]) -> Result<[u8; 8], ClientError> {
        self.write_so(at, data, Stable::Unstable).await
    }

    async fn write_so(&self, at: u64, data: &[u8], how: Stable) -> Result<[u8; 8], ClientError> {
        let fh = self.fh.expect("a handle");
        let client = &self.tree.client;
        let wrote = client.write(&root(), &fh, at, data, how).await?;
        assert_eq!(wrote.count as usize, data.len());
        assert!(wrote.committed >= how, "no less than asked for");
        Ok(wrote.verifier)
    }

    /// The same, to the model.
    pub fn done(&self) {
        let (at, to): (PathBuf, PathBuf) = (
            self.tree.model.join(&self.name),
            self.tree.model.join(&self.new),
        );
        let open = || {
            std::fs::File::options()
                .write(true)
                .open(&at)
                .expect("opened")
        };
        match self.op {
            CreateGuarded | CreateExclusive | CreateUnchecked => {
                std::fs::write(&at, b"").expect("written");
                set_mode(&at, 0o640);
            }
            CreateOver => open().set_len(0).expect("truncated"),
            Mkdir => {
                std::fs::create_dir(&at).expect("mkdir");
                set_mode(&at, 0o750);
            }
            Symlink => std::os::unix::fs::symlink("where", &at).expect("symlink"),
            Mknod => {
                nix::unistd::mkfifo(&at, nix::sys::stat::Mode::from_bits_truncate(0o640))
                    .expect("mkfifo");
                set_mode(&at, 0o640);
            }
            Link => std::fs::hard_link(&at, &to).expect("link"),
            Rename | RenameOver | RenameDir | RenameBase => {
                std::fs::rename(&at, &to).expect("rename");
            }
            Remove | RemoveLarge | RemoveBase => std::fs::remove_file(&at).expect("unlink"),
            Rmdir => std::fs::remove_dir(&at).expect("rmdir"),
            Chmod => set_mode(&at, 0o604),
            Grow => open().set_len(25_000).expect("grown"),
            Truncate | TruncateBase => open().set_len(20_001).expect("truncated"),
            SetXattr => xattr::set(&at, "user.a", b"v").expect("set"),
            RemoveXattr => xattr::remove(&at, "user.a").expect("removed"),
            WriteSmall => open().write_all_at(b"written", 2).expect("written"),
            WriteLarge | WriteSync | Commit => open().write_all_at(&self.data, 0).expect("written"),
            Overwrite => open()
                .write_all_at(b"written over", 5_000)
                .expect("written"),
            CopyUp => open()
                .write_all_at(&self.data[..9_000], LARGE_BYTES as u64 / 2)
                .expect("written"),
        }
    }
}
