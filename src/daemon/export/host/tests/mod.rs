//! Grafts whose files are found by path and whose rights are checked here, as on OpenBSD.

mod enclosed;
mod model;
mod moved;
mod owners;
mod turns;

use super::super::handle::{Codec, Name};
use super::Grafts;
use nix::unistd::UnlinkatFlags;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::path::{Path, PathBuf};

const GRAFT: u64 = 7;
const STALE: u32 = nfsstat3::NFS3ERR_STALE as u32;

struct World {
    host: tempfile::TempDir,
    kept: tempfile::TempDir,
    grafts: Grafts,
    codec: Codec,
    untagged: bool,
}

fn world_of(untagged: bool) -> World {
    let codec = Codec::new(&[7; 32]);
    let mut world = World {
        host: tempfile::tempdir().expect("a directory"),
        kept: tempfile::tempdir().expect("a directory"),
        grafts: Grafts::new(codec.clone(), PathBuf::new()),
        codec,
        untagged,
    };
    world.start();
    world
}

fn world() -> World {
    world_of(false)
}

/// As a client does it: what has to wait for a search comes again.
fn patiently<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(nfsstat3::NFS3ERR_JUKEBOX) => std::thread::yield_now(),
            done => return done,
        }
    }
}

fn with<T>(caller: &Caller, mut call: impl FnMut(&Cx) -> Result<T>) -> Result<T> {
    patiently(|| {
        call(&Cx {
            nowait: false,
            caller,
            peer: &Peer::Memory,
            client: [0; 16],
            once: None,
        })
    })
}

fn user(uid: u32, gid: u32) -> Caller {
    Caller {
        uid,
        gid,
        gids: Vec::new(),
    }
}

fn code<T>(result: &Result<T>) -> u32 {
    result.as_ref().err().map_or(0, |e| *e as u32)
}

fn mode(mode: u32) -> sattr3 {
    sattr3 {
        mode: set_mode3::mode(mode),
        ..sattr3::default()
    }
}

impl World {
    /// Another server, which has what the last one kept.
    fn start(&mut self) {
        self.grafts = Grafts::new(self.codec.clone(), self.kept.path().join("grafts"));
        self.grafts.untagged = self.untagged;
        self.grafts.be_portable();
        self.grafts
            .add(GRAFT, self.host.path(), false)
            .expect("served");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.host.path().join(path)
    }

    fn top(&self) -> Fh {
        self.grafts.root(GRAFT).expect("a root")
    }

    fn file(&self, fh: &Fh) -> super::HostFile {
        match self.codec.decode(fh) {
            Ok(Name::Host { file, .. }) => file,
            other => panic!("not of a graft: {other:?}"),
        }
    }

    fn try_lookup(&self, caller: &Caller, dir: &Fh, name: &[u8]) -> Result<Found> {
        with(caller, |cx| {
            self.grafts.lookup(cx, GRAFT, &self.file(dir), name)
        })
    }

    /// A path's handle, looked up name by name.
    fn lookup(&self, path: &Path) -> Fh {
        path.iter().fold(self.top(), |dir, name| {
            let name = std::os::unix::ffi::OsStrExt::as_bytes(name);
            let found = self.try_lookup(&user(0, 0), &dir, name);
            found.unwrap_or_else(|e| panic!("{path:?}: {e:?}")).fh
        })
    }

    fn getattr(&self, fh: &Fh) -> Result<fattr3> {
        patiently(|| self.grafts.getattr(GRAFT, &self.file(fh)))
    }

    fn read(&self, fh: &Fh) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        with(&user(0, 0), |cx| {
            self.grafts
                .read(cx, GRAFT, &self.file(fh), 0, 100, &mut out)
        })?;
        Ok(out)
    }

    fn write(&self, caller: &Caller, fh: &Fh, data: &[u8]) -> Result<Written> {
        let file = self.file(fh);
        let stable = Stable::Unstable;
        with(caller, |cx| {
            self.grafts.write(cx, GRAFT, &file, 0, data, stable)
        })
    }

    fn create(&self, caller: &Caller, dir: &Fh, name: &str, attr: sattr3) -> Result<Made> {
        let how = CreateHow::Guarded(attr);
        let dir = self.file(dir);
        with(caller, |cx| {
            self.grafts.create(cx, GRAFT, &dir, name.as_bytes(), &how)
        })
    }

    fn mkdir(&self, caller: &Caller, dir: &Fh, name: &str, attr: sattr3) -> Result<Made> {
        let dir = self.file(dir);
        with(caller, |cx| {
            self.grafts.mkdir(cx, GRAFT, &dir, name.as_bytes(), &attr)
        })
    }

    fn setattr(&self, caller: &Caller, fh: &Fh, new: sattr3) -> Result<Wcc> {
        let file = self.file(fh);
        with(caller, |cx| {
            self.grafts.setattr(cx, GRAFT, &file, &new, None)
        })
    }

    fn remove(&self, caller: &Caller, dir: &Fh, name: &str, what: UnlinkatFlags) -> Result<Wcc> {
        let dir = self.file(dir);
        with(caller, |cx| {
            self.grafts.unlink(cx, GRAFT, &dir, name.as_bytes(), what)
        })
    }

    fn rename(&self, caller: &Caller, from: (&Fh, &str), to: (&Fh, &str)) -> Result<(Wcc, Wcc)> {
        let (a, b) = (self.file(from.0), self.file(to.0));
        let (name, new) = (from.1.as_bytes(), to.1.as_bytes());
        with(caller, |cx| {
            self.grafts.rename(cx, GRAFT, &a, name, &b, new)
        })
    }

    fn link(&self, caller: &Caller, fh: &Fh, dir: &Fh, name: &str) -> Result<(fattr3, Wcc)> {
        let (file, dir) = (self.file(fh), self.file(dir));
        with(caller, |cx| {
            self.grafts.link(cx, GRAFT, &file, &dir, name.as_bytes())
        })
    }
}
