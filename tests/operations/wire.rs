//! The wire beside the model: NFSv3 calls on the server's socket, with each caller's
//! credentials, by this project's own client.

use crate::support::server::Server;
use pocker::control::api::TreeInfo;
use pocker_nfs::client::{Client, ClientError, ClientLimits, Creds, UnixConnect};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{CreateHow, Fh, NodeKind, Stable, XattrHow};
use pocker_store::types::{Errno, Kind, Time};
use pocker_testing::call::{TARGET, What, pattern};
use pocker_testing::model::{Id, Model, ROOT_ID};
use pocker_testing::side::{Departure, Seen, Side, Turn};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub struct WireSide<'a> {
    server: &'a Server,
    runtime: Runtime,
    client: Client,
    tree: TreeInfo,
    root: Fh,
    /// The handle of each model node ever seen in this tree.
    handles: HashMap<Id, Fh>,
}

fn root() -> Creds {
    Creds {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    }
}

impl<'a> WireSide<'a> {
    pub fn new(server: &'a Server, base: Option<&str>) -> WireSide<'a> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let connect = Arc::new(UnixConnect(server.nfs_socket()));
        let guard = runtime.enter();
        let client = Client::new(connect, [7; 16], ClientLimits::default());
        drop(guard);
        let tree = server.clone_of(base);
        let root = runtime.block_on(client.mount(tree.export.path.as_bytes()));
        let root = root.expect("mounted");
        WireSide {
            server,
            runtime,
            client,
            tree,
            root,
            handles: HashMap::from([(ROOT_ID, root)]),
        }
    }

    /// Calls name model nodes: a clone's handles are found by their paths.
    pub fn find_handles(&mut self, model: &Model) {
        let found = self.runtime.block_on(walk(self.client.clone(), self.root));
        for (path, id) in model.paths() {
            let (fh, _) = found.get(&path).unwrap_or_else(|| {
                panic!("wire: no {}", path.escape_ascii());
            });
            self.handles.entry(id).or_insert(*fh);
        }
    }

    /// Seals its tree: the snapshot's name.
    pub fn sealed(&mut self) -> String {
        let snapshot = self.server.seal(self.tree.id);
        let gone = self
            .runtime
            .block_on(self.client.getattr(&root(), &self.root));
        assert_eq!(
            errno(gone.map(drop)),
            Err(Errno::Stale),
            "wire: a sealed tree"
        );
        snapshot
    }
}

impl Side for WireSide<'_> {
    fn name(&self) -> &'static str {
        "wire"
    }

    fn departs(&self, turn: &Turn<'_>) -> Option<Departure> {
        (turn.outcome == Err(Errno::NoData)).then_some(Departure {
            reason: "a status of NFSv3's own, which has none for a missing attribute",
            answer: Some(Err(Errno::NoEnt)),
        })
    }

    fn make(&mut self, turn: &Turn<'_>) -> Result<(), Errno> {
        let who = Creds {
            uid: turn.call.who.uid,
            gid: turn.call.who.gid,
            gids: turn.call.who.gids.clone(),
        };
        let call = async {
            let (c, h) = (&self.client, |id: &Id| self.handles[id]);
            Ok::<_, ClientError>(match &turn.call.what {
                What::Make { .. } => make(c, &who, &h, &turn.call.what).await?,
                What::Link { file, dir, name } => {
                    c.link(&who, &h(file), &h(dir), name).await?;
                    None
                }
                What::Remove { dir, name } => {
                    c.remove(&who, &h(dir), name).await?;
                    None
                }
                What::Rmdir { dir, name } => {
                    c.rmdir(&who, &h(dir), name).await?;
                    None
                }
                What::Rename {
                    from,
                    name,
                    to,
                    new,
                } => {
                    c.rename(&who, &h(from), name, &h(to), new).await?;
                    None
                }
                What::Write {
                    file,
                    offset,
                    len,
                    seed,
                } => {
                    let (file, data) = (h(file), pattern(*seed, *len));
                    let done = c.write(&who, &file, *offset, &data, Stable::Unstable);
                    assert_eq!(done.await?.count as usize, *len);
                    None
                }
                What::SetXattr { node, name, value } => {
                    let how = XattrHow::Either;
                    c.setxattr(&who, &h(node), name, value, how).await?;
                    None
                }
                What::RemoveXattr { node, name } => {
                    c.removexattr(&who, &h(node), name).await?;
                    None
                }
                set => {
                    let (node, new) = attributes(set);
                    c.setattr(&who, &h(&node), &new, None).await?;
                    None
                }
            })
        };
        let made = self.runtime.block_on(call);
        if let (Ok(Some(fh)), Ok(id)) = (&made, turn.outcome) {
            let known = *self.handles.entry(id).or_insert(*fh);
            assert_eq!(known.as_bytes(), fh.as_bytes(), "wire: a node is itself");
        }
        errno(made.map(drop))
    }

    fn look(&mut self, model: &Model) -> BTreeMap<Vec<u8>, Seen> {
        let found = self.runtime.block_on(walk(self.client.clone(), self.root));
        for (path, id) in model.paths() {
            if let Some((fh, _)) = found.get(&path) {
                let known = *self.handles.entry(id).or_insert(*fh);
                assert_eq!(known.as_bytes(), fh.as_bytes(), "wire: a handle changed");
            }
        }
        for (id, fh) in &self.handles {
            if !model.nodes.contains_key(id) {
                let gone = self.runtime.block_on(self.client.getattr(&root(), fh));
                assert_eq!(
                    errno(gone.map(drop)),
                    Err(Errno::Stale),
                    "wire: {id} is gone"
                );
            }
        }
        found
            .into_iter()
            .map(|(path, (_, seen))| (path, seen))
            .collect()
    }

    fn seal(&mut self) {
        let snapshot = self.sealed();
        self.tree = self.server.clone_of(Some(&snapshot));
        let mount = self.client.mount(self.tree.export.path.as_bytes());
        self.root = self.runtime.block_on(mount).expect("mounted");
        self.handles.clear();
    }

    fn finish(&mut self) {
        self.server.drop_tree(self.tree.id);
    }
}

/// CREATE, MKDIR, SYMLINK or MKNOD: the new handle.
async fn make(
    c: &Client,
    who: &Creds,
    h: &impl Fn(&Id) -> Fh,
    what: &What,
) -> Result<Option<Fh>, ClientError> {
    let What::Make {
        kind,
        dir,
        name,
        mode,
        guarded,
    } = what
    else {
        unreachable!("a call that makes");
    };
    let (dir, attr) = (
        h(dir),
        sattr3 {
            mode: set_mode3::mode(*mode),
            ..sattr3::default()
        },
    );
    let made = match kind {
        Kind::File => {
            let how = if *guarded {
                CreateHow::Guarded(attr)
            } else {
                CreateHow::Unchecked(attr)
            };
            c.create(who, &dir, name, &how).await?
        }
        Kind::Dir => c.mkdir(who, &dir, name, &attr).await?,
        Kind::Symlink => c.symlink(who, &dir, name, TARGET, &attr).await?,
        Kind::Fifo => c.mknod(who, &dir, name, NodeKind::Fifo, &attr).await?,
        _ => {
            let device = NodeKind::Char(specdata3 {
                specdata1: 1,
                specdata2: 3,
            });
            c.mknod(who, &dir, name, device, &attr).await?
        }
    };
    Ok(Some(made.fh.expect("this server always gives a handle")))
}

/// SETATTR's arguments.
fn attributes(what: &What) -> (Id, sattr3) {
    let mut new = sattr3::default();
    let node = match what {
        What::Truncate { file, size } => {
            new.size = set_size3::size(*size);
            file
        }
        What::Chmod { node, mode } => {
            new.mode = set_mode3::mode(*mode);
            node
        }
        What::Chown { node, uid, gid } => {
            if let Some(uid) = uid {
                new.uid = set_uid3::uid(*uid);
            }
            if let Some(gid) = gid {
                new.gid = set_gid3::gid(*gid);
            }
            node
        }
        What::Utimes { node, at } => {
            let time = at.map(|t| nfstime3 {
                seconds: t.secs as u32,
                nseconds: t.nanos,
            });
            new.atime = time.map_or(set_atime::SET_TO_SERVER_TIME, set_atime::SET_TO_CLIENT_TIME);
            new.mtime = time.map_or(set_mtime::SET_TO_SERVER_TIME, set_mtime::SET_TO_CLIENT_TIME);
            node
        }
        _ => unreachable!("no attributes"),
    };
    (*node, new)
}

fn errno(done: Result<(), ClientError>) -> Result<(), Errno> {
    use nfsstat3::*;
    Err(match done {
        Ok(()) => return Ok(()),
        Err(ClientError::Status(status)) => match status {
            NFS3ERR_PERM => Errno::Perm,
            NFS3ERR_NOENT => Errno::NoEnt,
            NFS3ERR_ACCES => Errno::Access,
            NFS3ERR_EXIST => Errno::Exist,
            NFS3ERR_NOTDIR => Errno::NotDir,
            NFS3ERR_ISDIR => Errno::IsDir,
            NFS3ERR_INVAL => Errno::Inval,
            NFS3ERR_NOTEMPTY => Errno::NotEmpty,
            NFS3ERR_STALE => Errno::Stale,
            other => panic!("wire: {other:?}"),
        },
        Err(other) => panic!("wire: {other}"),
    })
}

/// READDIRPLUS from the root down; then what each node holds, many calls at a time.
async fn walk(c: Client, top: Fh) -> BTreeMap<Vec<u8>, (Fh, Seen)> {
    let me = root();
    let attr = c.getattr(&me, &top).await.expect("attributes");
    let mut stack = vec![(b"/".to_vec(), top)];
    let mut nodes = vec![(b"/".to_vec(), top, attr)];
    while let Some((path, dir)) = stack.pop() {
        let mut cookie = 0;
        loop {
            let reply = c.readdirplus(&me, &dir, cookie, [0; 8], 8 << 10, 16 << 10);
            let reply = reply.await.expect("READDIRPLUS");
            for e in reply.entries {
                cookie = e.cookie;
                if e.name == b"." || e.name == b".." {
                    continue;
                }
                let (fh, attr) = (e.fh.expect("a handle"), e.attr.expect("attributes"));
                assert_eq!(e.fileid, attr.fileid);
                let mut below = path.clone();
                below.extend_from_slice(&e.name);
                if matches!(attr.ftype, ftype3::NF3DIR) {
                    below.push(b'/');
                    stack.push((below.clone(), fh));
                }
                nodes.push((below, fh, attr));
            }
            if reply.eof {
                break;
            }
        }
    }
    let mut set = JoinSet::new();
    for (path, fh, attr) in nodes {
        let c = c.clone();
        set.spawn(async move { (path, (fh, seen(&c, fh, attr).await)) });
    }
    set.join_all().await.into_iter().collect()
}

async fn seen(c: &Client, fh: Fh, attr: fattr3) -> Seen {
    let me = root();
    let mut xattrs = BTreeMap::new();
    for name in c.listxattr(&me, &fh).await.expect("LISTXATTR") {
        let value = c.getxattr(&me, &fh, &name).await.expect("GETXATTR");
        xattrs.insert(name, value);
    }
    let (mut data, mut target) = (Vec::new(), Vec::new());
    match attr.ftype {
        ftype3::NF3LNK => target = c.readlink(&me, &fh).await.expect("READLINK").0,
        ftype3::NF3REG => loop {
            let read = c.read(&me, &fh, data.len() as u64, 64 << 10).await;
            let read = read.expect("READ");
            data.extend_from_slice(&read.data);
            if read.eof {
                break;
            }
            assert!(!read.data.is_empty(), "nothing read, and not the end");
        },
        _ => {}
    }
    let time = |t: nfstime3| Time {
        secs: t.seconds.into(),
        nanos: t.nseconds,
    };
    Seen {
        number: attr.fileid,
        kind: match attr.ftype {
            ftype3::NF3REG => Kind::File,
            ftype3::NF3DIR => Kind::Dir,
            ftype3::NF3LNK => Kind::Symlink,
            ftype3::NF3FIFO => Kind::Fifo,
            ftype3::NF3SOCK => Kind::Socket,
            ftype3::NF3CHR => Kind::Char,
            ftype3::NF3BLK => Kind::Block,
        },
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        size: attr.size,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        data,
        target,
        xattrs,
    }
}
