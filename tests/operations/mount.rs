//! A mount beside the model: system calls, made by threads that are each somebody, on a
//! tree that the FUSE helper mounted.

use crate::kernel;
use crate::support::server::Server;
use crate::support::sys;
use nix::errno::Errno as Host;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmodat, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, truncate, unlinkat};
use pocker::control::api::TreeInfo;
use pocker_mount_helpers::fuse::FuseHelper;
use pocker_mount_helpers::{Cache, MountHelper, Mounted, Request, Session, Unmounted};
use pocker_store::types::{Creds, Errno, Kind, Time};
use pocker_testing::call::{Call, TARGET, What, pattern};
use pocker_testing::language::people;
use pocker_testing::model::{Id, Model};
use pocker_testing::side::{Departure, Seen, Side, Turn};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// A thread that is somebody.
struct Actor {
    who: Creds,
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Actor {
    fn new(who: Creds) -> Actor {
        let (work, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let me = who.clone();
        std::thread::spawn(move || {
            sys::become_user(&me);
            for job in todo {
                job();
            }
        });
        Actor { who, work }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = mpsc::channel();
        let job = Box::new(move || drop(done.send(job())));
        self.work.send(job).expect("the thread lives");
        outcome.recv().expect("the thread lives")
    }
}

pub struct MountSide<'a> {
    server: &'a Server,
    session: Box<dyn Session>,
    actors: Vec<Actor>,
    tree: TreeInfo,
    at: PathBuf,
    mounted: Option<Mounted>,
}

impl<'a> MountSide<'a> {
    pub fn new(server: &'a Server, base: Option<&str>) -> MountSide<'a> {
        let at = server.world.path("mnt");
        std::fs::create_dir_all(&at).expect("a place to mount");
        let helper = FuseHelper::with_program(
            env!("CARGO_BIN_EXE_pocker").into(),
            vec!["mount-helper".into(), "fuse".into()],
        );
        let socket = pocker_mount_helpers::Server::Unix(server.nfs_socket());
        let session = helper.session(&socket, None).expect("a helper");
        let mut side = MountSide {
            server,
            session,
            actors: people().into_iter().map(Actor::new).collect(),
            tree: server.clone_of(base),
            at,
            mounted: None,
        };
        side.mount();
        side
    }

    fn mount(&mut self) {
        let mounted = self.session.mount(&Request {
            export: self.tree.export.path.as_bytes(),
            target: &self.at,
            read_only: false,
            nosuid: false,
            nodev: false,
            noexec: false,
            cache: Cache::Exclusive,
            outlives: false,
        });
        self.mounted = Some(mounted.expect("mounted"));
    }

    fn unmount(&mut self) {
        let mounted = self.mounted.take().expect("a mount");
        assert_eq!(mounted.unmount().expect("unmounted"), Unmounted::Gone);
    }

    fn as_user(&self, who: &Creds) -> &Actor {
        let actor = self.actors.iter().find(|a| a.who == *who);
        actor.expect("one of the people")
    }

    /// Holds a node without opening it, whatever the caller may.
    fn hold(&self, model: &Model, id: Id) -> OwnedFd {
        let path = model.path(id).expect("a live node has a path");
        let below = path.strip_prefix(b"/").unwrap_or(&path);
        let path = self.at.join(OsStr::from_bytes(below));
        // A "/" at the end of a directory's path would follow nothing more.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        open(&path, flags, Mode::empty()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The call, made by `who`.
    fn run(&self, model: &Model, who: &Creds, what: &What) -> Result<(), Errno> {
        let call = Call {
            who: who.clone(),
            what: what.clone(),
        };
        let held: Vec<OwnedFd> = call
            .nodes()
            .iter()
            .map(|id| self.hold(model, *id))
            .collect();
        let done = self
            .as_user(who)
            .run(move || system_call(&call.what, &held));
        done.map_err(errno)
    }

    fn set_mode(&self, turn: &Turn<'_>, id: Id, mode: u32) {
        let done = self.run(turn.before, &Creds::ROOT, &What::Chmod { node: id, mode });
        assert_eq!(done, Ok(()), "mount: root may");
    }
}

/// One system call on nodes that are held, in the order of [`Call::nodes`].
fn system_call(what: &What, held: &[OwnedFd]) -> Result<(), Host> {
    // Where a call wants a path: following it ends at the very node, a symlink too.
    let path = PathBuf::from(format!("/proc/self/fd/{}", held[0].as_raw_fd()));
    let name = |name: &[u8]| Path::new(OsStr::from_bytes(name)).to_owned();
    match what {
        What::Make {
            kind,
            name: new,
            mode,
            ..
        } => {
            let (dir, new, mode) = (&held[0], name(new), Mode::from_bits_truncate(*mode));
            match kind {
                Kind::File => {
                    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
                    openat(dir, &new, flags, mode).map(drop)
                }
                Kind::Dir => mkdirat(dir, &new, mode),
                Kind::Symlink => symlinkat(OsStr::from_bytes(TARGET), dir, &new),
                Kind::Fifo => mknodat(dir, &new, SFlag::S_IFIFO, mode, 0),
                _ => mknodat(dir, &new, SFlag::S_IFCHR, mode, makedev(1, 3)),
            }
        }
        What::Link { name: new, .. } => {
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            linkat(AT_FDCWD, &path, &held[1], &name(new), follow)
        }
        What::Remove { name: old, .. } => {
            unlinkat(&held[0], &name(old), UnlinkatFlags::NoRemoveDir)
        }
        What::Rmdir { name: old, .. } => unlinkat(&held[0], &name(old), UnlinkatFlags::RemoveDir),
        What::Rename { name: old, new, .. } => renameat(&held[0], &name(old), &held[1], &name(new)),
        What::Write {
            offset, len, seed, ..
        } => {
            let file = File::from(open(&path, OFlag::O_WRONLY, Mode::empty())?);
            let done = file.write_all_at(&pattern(*seed, *len), *offset);
            done.map_err(host)
        }
        What::Truncate { size, .. } => truncate(&path, *size as i64),
        What::Chmod { mode, .. } => fchmodat(
            AT_FDCWD,
            &path,
            Mode::from_bits_truncate(*mode),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        ),
        What::Chown { uid, gid, .. } => {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            fchownat(&held[0], "", uid, gid, AtFlags::AT_EMPTY_PATH)
        }
        What::Utimes { at, .. } => {
            let time = at.map_or(TimeSpec::UTIME_NOW, |t| {
                TimeSpec::new(t.secs, t.nanos.into())
            });
            utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::FollowSymlink)
        }
        What::SetXattr { name, value, .. } => {
            xattr::set_deref(&path, OsStr::from_bytes(name), value).map_err(host)
        }
        What::RemoveXattr { name, .. } => {
            xattr::remove_deref(&path, OsStr::from_bytes(name)).map_err(host)
        }
    }
}

fn host(e: std::io::Error) -> Host {
    Host::from_raw(e.raw_os_error().unwrap_or_else(|| panic!("mount: {e}")))
}

fn errno(e: Host) -> Errno {
    match e {
        Host::EPERM => Errno::Perm,
        Host::ENOENT => Errno::NoEnt,
        Host::EACCES => Errno::Access,
        Host::EEXIST => Errno::Exist,
        Host::ENOTDIR => Errno::NotDir,
        Host::EISDIR => Errno::IsDir,
        Host::EINVAL => Errno::Inval,
        Host::ENOTEMPTY => Errno::NotEmpty,
        Host::ENODATA => Errno::NoData,
        Host::ESTALE => Errno::Stale,
        other => panic!("mount: {other}"),
    }
}

impl Side for MountSide<'_> {
    fn name(&self) -> &'static str {
        "mount"
    }

    fn departs(&self, turn: &Turn<'_>) -> Option<Departure> {
        kernel::departs(turn)
    }

    fn make(&mut self, turn: &Turn<'_>) -> Result<(), Errno> {
        self.run(turn.before, &turn.call.who, &turn.call.what)
    }

    /// As root, what the kernel kept the caller from.
    fn catch_up(&mut self, turn: &Turn<'_>) {
        let (Ok(id), what) = (turn.outcome, &turn.call.what) else {
            return;
        };
        match what {
            What::Make { .. } => {
                let made = !turn.before.nodes.contains_key(&id);
                let mode = turn.after.nodes[&id].mode;
                if made {
                    let chmod = What::Chmod { node: id, mode };
                    assert_eq!(self.run(turn.after, &Creds::ROOT, &chmod), Ok(()));
                }
            }
            What::Write { file, .. } | What::Truncate { file, .. } => {
                let mode = |m: &Model| m.nodes[file].mode;
                if kernel::owner_without_write(turn.before, &turn.call.who, *file) {
                    self.set_mode(turn, *file, mode(turn.before) | 0o200);
                    let done = self.run(turn.before, &turn.call.who, what);
                    assert_eq!(done, Ok(()), "mount: an owner who may");
                }
                self.set_mode(turn, *file, mode(turn.after));
            }
            What::Link { .. } | What::SetXattr { .. } | What::RemoveXattr { .. } => {
                assert_eq!(self.run(turn.before, &Creds::ROOT, what), Ok(()));
            }
            _ => {}
        }
    }

    fn look(&mut self, _model: &Model) -> BTreeMap<Vec<u8>, Seen> {
        let mut all = BTreeMap::new();
        let mut stack = vec![(b"/".to_vec(), self.at.clone())];
        while let Some((mut path, place)) = stack.pop() {
            let found = seen(&place);
            if found.kind == Kind::Dir {
                if path.last() != Some(&b'/') {
                    path.push(b'/');
                }
                for entry in std::fs::read_dir(&place).expect("a directory") {
                    let entry = entry.expect("an entry");
                    let below = [path.clone(), entry.file_name().into_vec()].concat();
                    stack.push((below, entry.path()));
                }
            }
            all.insert(path, found);
        }
        all
    }

    fn seal(&mut self) {
        self.unmount();
        let snapshot = self.server.seal(self.tree.id);
        self.tree = self.server.clone_of(Some(&snapshot));
        self.mount();
    }

    fn finish(&mut self) {
        self.unmount();
        self.server.drop_tree(self.tree.id);
    }
}

fn seen(place: &Path) -> Seen {
    let a = std::fs::symlink_metadata(place).expect("attributes");
    let kind = a.file_type();
    let time = |secs, nanos: i64| Time {
        secs,
        nanos: nanos as u32,
    };
    let names = xattr::list(place).expect("listed");
    let value = |name: std::ffi::OsString| {
        let value = xattr::get(place, &name).expect("read");
        (name.into_vec(), value.expect("listed"))
    };
    Seen {
        number: a.ino(),
        kind: match kind {
            k if k.is_file() => Kind::File,
            k if k.is_dir() => Kind::Dir,
            k if k.is_symlink() => Kind::Symlink,
            k if k.is_fifo() => Kind::Fifo,
            k if k.is_char_device() => Kind::Char,
            k if k.is_block_device() => Kind::Block,
            _ => Kind::Socket,
        },
        mode: a.mode() & 0o7777,
        uid: a.uid(),
        gid: a.gid(),
        nlink: a.nlink() as u32,
        size: a.len(),
        atime: time(a.atime(), a.atime_nsec()),
        mtime: time(a.mtime(), a.mtime_nsec()),
        ctime: time(a.ctime(), a.ctime_nsec()),
        data: if kind.is_file() {
            std::fs::read(place).expect("read")
        } else {
            Vec::new()
        },
        target: if kind.is_symlink() {
            std::fs::read_link(place)
                .expect("a target")
                .into_os_string()
                .into_vec()
        } else {
            Vec::new()
        },
        xattrs: names.map(value).collect(),
    }
}
