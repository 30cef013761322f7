//! Grafts whose files are found by path and whose rights are checked here, as on OpenBSD.

use super::super::handle::{Codec, Name};
use super::Grafts;
use nix::unistd::UnlinkatFlags;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
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

fn with<T>(caller: &Caller, call: impl FnOnce(&Cx) -> T) -> T {
    call(&Cx {
        nowait: false,
        caller,
        peer: &Peer::Memory,
        client: [0; 16],
        once: None,
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
        self.grafts.getattr(GRAFT, &self.file(fh))
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

#[test]
fn a_handle_follows_its_file_wherever_the_host_moves_it() {
    let w = world();
    let root = user(0, 0);
    let d = w.mkdir(&root, &w.top(), "d", mode(0o755)).expect("d").fh;
    let e = w.mkdir(&root, &d, "e", mode(0o755)).expect("e").fh;
    let f = w.create(&root, &e, "f", mode(0o644)).expect("f").fh;
    w.write(&root, &f, b"text").expect("written");
    let follows = |what: &str| {
        assert_eq!(w.read(&f).ok().as_deref(), Some(&b"text"[..]), "{what}");
        assert_eq!(code(&w.getattr(&e)), 0, "{what}");
    };
    follows("where it was made");
    fs::rename(w.at("d"), w.at("x")).expect("renamed");
    follows("the directory above is called something else");
    fs::rename(w.at("x/e"), w.at("e2")).expect("renamed");
    follows("a directory is elsewhere");
    fs::hard_link(w.at("e2/f"), w.at("x/g")).expect("linked");
    fs::remove_file(w.at("e2/f")).expect("removed");
    follows("it has another name alone");
    // What takes its place is another.
    fs::rename(w.at("x/g"), w.at("x/h")).expect("renamed");
    fs::write(w.at("x/g"), "another").expect("written");
    follows("another has its name");
    fs::remove_file(w.at("x/h")).expect("removed");
    assert_eq!(code(&w.read(&f)), STALE);
    fs::remove_dir(w.at("e2")).expect("removed");
    assert_eq!(code(&w.getattr(&e)), STALE);
}

#[test]
fn another_server_finds_what_the_last_one_gave_handles_for() {
    let mut w = world();
    let root = user(0, 0);
    let d = w.mkdir(&root, &w.top(), "d", mode(0o755)).expect("d").fh;
    let f = w.create(&root, &d, "f", mode(0o644)).expect("f").fh;
    w.write(&root, &f, b"text").expect("written");
    let gone = w.create(&root, &d, "gone", mode(0o644)).expect("made").fh;
    let file = UnlinkatFlags::NoRemoveDir;
    w.remove(&root, &d, "gone", file).expect("removed");
    w.rename(&root, (&d, "f"), (&w.top(), "g")).expect("moved");
    let number = w.getattr(&f).expect("it").fileid;
    w.start();
    let graft = w.grafts.get(GRAFT).expect("it is served");
    let names = graft.names().expect("by path");
    assert!(names.knows(graft.root_ino, number), "it was not kept");
    assert_eq!(w.read(&f).ok().as_deref(), Some(&b"text"[..]));
    assert_eq!(code(&w.getattr(&gone)), STALE);
    // What was kept is lost, or damaged: they are looked for.
    let kept = w.kept.path().join("grafts").join(GRAFT.to_string());
    for damage in [
        None,
        Some(&b"pockerg1\x01nonsense"[..]),
        Some(b"no such file"),
    ] {
        match damage {
            None => fs::remove_file(&kept).expect("it is there"),
            Some(bytes) => fs::write(&kept, bytes).expect("written"),
        }
        w.start();
        assert_eq!(w.read(&f).ok().as_deref(), Some(&b"text"[..]));
        assert_eq!(code(&w.getattr(&d)), 0);
        assert_eq!(code(&w.getattr(&gone)), STALE);
    }
    // Not what is kept of grafts that are no more.
    w.grafts.sweep();
    assert!(kept.exists());
    w.grafts.remove(GRAFT);
    assert!(!kept.exists());
}

#[test]
fn a_link_that_takes_a_directorys_place_leads_nowhere() {
    let w = world();
    let root = user(0, 0);
    let away = tempfile::tempdir().expect("a directory");
    fs::write(away.path().join("f"), "outside").expect("written");
    let d = w.mkdir(&root, &w.top(), "d", mode(0o755)).expect("d").fh;
    let f = w.create(&root, &d, "f", mode(0o644)).expect("f").fh;
    fs::rename(w.at("d"), away.path().join("d")).expect("moved away");
    symlink(away.path(), w.at("d")).expect("a link");
    assert_eq!(code(&w.write(&root, &f, b"x")), STALE);
    assert_eq!(code(&w.getattr(&d)), STALE);
    let made = w.create(&root, &d, "g", mode(0o644));
    assert_eq!(code(&made), STALE);
    assert_eq!(
        fs::read(away.path().join("f")).ok().as_deref(),
        Some(&b"outside"[..])
    );
    assert!(!away.path().join("g").exists());
    // The link itself is a link.
    let link = w.lookup(Path::new("d"));
    let (target, _) = w.grafts.readlink(GRAFT, &w.file(&link)).expect("a link");
    assert_eq!(
        Path::new(std::str::from_utf8(&target).expect("text")),
        away.path()
    );
    assert_eq!(
        code(&w.try_lookup(&root, &link, b"f")),
        nfsstat3::NFS3ERR_NOTDIR as u32
    );
}

#[test]
fn what_is_no_file_is_changed_without_being_opened() {
    let w = world();
    let root = user(0, 0);
    let me = user(1000, 1000);
    let open = mode(0o777);
    let d = w.mkdir(&root, &w.top(), "d", open).expect("d").fh;
    let dir = w.file(&d);
    let make = |name: &str, kind| {
        with(&me, |cx| {
            let name = name.as_bytes();
            w.grafts.mknod(cx, GRAFT, &dir, name, kind, &mode(0o640))
        })
    };
    // A FIFO that is opened waits for a writer.
    for (name, kind) in [("fifo", NodeKind::Fifo), ("socket", NodeKind::Socket)] {
        let made = make(name, kind).expect("made");
        assert_eq!(
            (made.attr.mode, made.attr.uid, made.attr.gid),
            (0o640, 1000, 1000)
        );
        let new = sattr3 {
            mode: set_mode3::mode(0o600),
            mtime: set_mtime::SET_TO_CLIENT_TIME(nfstime3 {
                seconds: 77,
                nseconds: 0,
            }),
            ..sattr3::default()
        };
        w.setattr(&me, &made.fh, new).expect("changed");
        let attr = w.getattr(&made.fh).expect("it is there");
        assert_eq!((attr.mode, attr.mtime.seconds), (0o600, 77));
        assert_eq!(code(&w.read(&made.fh)), nfsstat3::NFS3ERR_INVAL as u32);
        w.link(&me, &made.fh, &d, "link").expect("linked");
        w.rename(&me, (&d, "link"), (&d, "over")).expect("renamed");
    }
    let device = make(
        "dev",
        NodeKind::Char(specdata3 {
            specdata1: 1,
            specdata2: 3,
        }),
    );
    assert_eq!(code(&device), nfsstat3::NFS3ERR_PERM as u32);
    let made = with(&me, |cx| {
        w.grafts
            .symlink(cx, GRAFT, &dir, b"lead", b"/etc", &sattr3::default())
    });
    let made = made.expect("made");
    assert_eq!((made.attr.uid, made.attr.gid), (1000, 1000));
    let give = sattr3 {
        uid: set_uid3::uid(5),
        ..sattr3::default()
    };
    w.setattr(&root, &made.fh, give).expect("given");
    assert_eq!(w.getattr(&made.fh).expect("it").uid, 5);
    assert_eq!(fs::metadata("/etc").expect("it").uid(), 0);
}

#[test]
fn what_is_made_is_its_makers_and_never_a_program_of_roots() {
    let w = world();
    let (root, me, other) = (user(0, 0), user(1000, 1001), user(2000, 2000));
    let top = w.top();
    fs::set_permissions(w.host.path(), fs::Permissions::from_mode(0o1777)).expect("chmod");
    let made = w.create(&me, &top, "f", mode(0o6755)).expect("made");
    assert_eq!(
        (made.attr.uid, made.attr.gid, made.attr.mode),
        (1000, 1001, 0o6755)
    );
    // Who writes to a program that is not his takes its rights away.
    w.setattr(&me, &made.fh, mode(0o6777)).expect("chmod");
    w.write(&other, &made.fh, b"x").expect("written");
    assert_eq!(w.getattr(&made.fh).expect("it").mode, 0o777);
    let shared = w
        .mkdir(&root, &top, "shared", mode(0o2777))
        .expect("made")
        .fh;
    w.setattr(
        &root,
        &shared,
        sattr3 {
            gid: set_gid3::gid(500),
            ..mode(0o2777)
        },
    )
    .expect("given");
    let inside = w.mkdir(&me, &shared, "d", mode(0o755)).expect("made");
    assert_eq!((inside.attr.gid, inside.attr.mode), (500, 0o2755));
    let inside = w.create(&me, &shared, "f", mode(0o2711)).expect("made");
    assert_eq!((inside.attr.gid, inside.attr.mode), (500, 0o711));

    let file = UnlinkatFlags::NoRemoveDir;
    let refused = nfsstat3::NFS3ERR_PERM as u32;
    assert_eq!(code(&w.remove(&other, &top, "f", file)), refused);
    assert_eq!(code(&w.rename(&other, (&top, "f"), (&top, "g"))), refused);
    assert_eq!(code(&w.setattr(&other, &made.fh, mode(0o777))), refused);
    let closed = w.mkdir(&me, &top, "closed", mode(0o700)).expect("made").fh;
    w.create(&me, &closed, "f", mode(0o666)).expect("made");
    let no = nfsstat3::NFS3ERR_ACCES as u32;
    assert_eq!(code(&w.try_lookup(&other, &closed, b"f")), no);
    assert_eq!(code(&w.create(&other, &closed, "g", mode(0o666))), no);
    assert_eq!(code(&w.link(&other, &made.fh, &closed, "h")), no);
    // What is there is said to be there before it is said who may not make it.
    let d = w
        .mkdir(&me, &top, "readable", mode(0o755))
        .expect("made")
        .fh;
    w.create(&me, &d, "f", mode(0o666)).expect("made");
    let exists = nfsstat3::NFS3ERR_EXIST as u32;
    assert_eq!(code(&w.create(&other, &d, "f", mode(0o666))), exists);
    assert_eq!(code(&w.mkdir(&other, &d, "f", mode(0o777))), exists);
    assert_eq!(code(&w.create(&other, &d, "g", mode(0o666))), no);
    let granted = with(&other, |cx| w.grafts.access(cx, GRAFT, &w.file(&d), 0x3f));
    assert_eq!(granted.expect("asked").0, access::READ | access::LOOKUP);
}

#[test]
fn a_number_that_is_used_again_is_another_file() {
    for untagged in [false, true] {
        let w = world_of(untagged);
        let root = user(0, 0);
        let again = (0..200).any(|n| {
            let name = format!("f{n}");
            let made = w.create(&root, &w.top(), &name, mode(0o600)).expect("made");
            let file = UnlinkatFlags::NoRemoveDir;
            w.remove(&root, &w.top(), &name, file).expect("removed");
            // By the host.
            fs::write(w.at("next"), "another").expect("written");
            let same = fs::metadata(w.at("next")).expect("it").ino() == made.attr.fileid;
            let next = w.lookup(Path::new("next"));
            assert_eq!(w.read(&next).ok().as_deref(), Some(&b"another"[..]));
            assert_eq!(code(&w.read(&made.fh)), STALE, "untagged: {untagged}");
            fs::remove_file(w.at("next")).expect("removed");
            same
        });
        assert!(again, "no number was used again");
    }
}

#[test]
fn names_that_move_meanwhile_are_lost_by_nobody() {
    let w = world();
    let root = user(0, 0);
    let top = w.top();
    let a = w.mkdir(&root, &top, "a", mode(0o755)).expect("a").fh;
    let d = w.mkdir(&root, &top, "d", mode(0o755)).expect("d").fh;
    let f = w.create(&root, &d, "f", mode(0o644)).expect("f").fh;
    w.write(&root, &f, b"text").expect("written");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        let reads = || {
            let mut n = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(w.read(&f).ok().as_deref(), Some(&b"text"[..]));
                w.setattr(&root, &f, mode(0o600 + n % 8)).expect("changed");
                n += 1;
            }
            n
        };
        let readers = [s.spawn(reads), s.spawn(reads)];
        for _ in 0..500 {
            w.rename(&root, (&top, "d"), (&a, "e")).expect("there");
            w.rename(&root, (&d, "f"), (&a, "g")).expect("out");
            w.rename(&root, (&a, "e"), (&top, "d")).expect("and back");
            w.rename(&root, (&a, "g"), (&d, "f")).expect("in");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let read = readers.map(|reader| reader.join().expect("no error"));
        assert!(read.iter().all(|n| *n > 0));
    });
}

/// What there is, by path: the number of each thing; that of a directory is below 0.
type Model = BTreeMap<PathBuf, i64>;

fn pick<'a>(all: &'a [PathBuf], n: u8) -> Option<&'a PathBuf> {
    all.get(usize::from(n) % all.len().max(1))
}

/// Through the graft or by the host itself; what, to which of the things there, where to, by which name.
#[derive(Clone, Copy, Debug)]
struct Step {
    inside: bool,
    what: u8,
    which: u8,
    to: u8,
    name: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), 0..12u8, any::<u8>(), any::<u8>(), 0..6u8);
    let step = step.prop_map(|(inside, what, which, to, name)| Step {
        inside,
        what,
        which,
        to,
        name,
    });
    proptest::collection::vec(step, 1..40)
}

struct Held {
    world: World,
    model: Model,
    /// Every handle that was ever given.
    handles: BTreeMap<i64, Fh>,
    next: i64,
}

impl Held {
    fn take(&mut self, step: Step) {
        let root = user(0, 0);
        let w = &self.world;
        let is_dir = |n: &i64| *n < 0;
        let mut dirs: Vec<PathBuf> = vec![PathBuf::new()];
        dirs.extend(
            self.model
                .iter()
                .filter(|(_, n)| is_dir(n))
                .map(|(p, _)| p.clone()),
        );
        let all: Vec<PathBuf> = self.model.keys().cloned().collect();
        let to = pick(&dirs, step.to).expect("the root").clone();
        let name = format!("n{}", step.name);
        let target = to.join(&name);
        let there = self.model.get(&target).copied();
        let host = |path: &Path| w.host.path().join(path);
        let parent = |path: &Path| path.parent().expect("below the root").to_owned();
        let last = |path: &Path| {
            let name = path.file_name().expect("a name");
            name.to_str().expect("text").to_owned()
        };
        let which = pick(&all, step.which).cloned();
        let empty = |path: &Path| {
            let below = self.model.keys().filter(|p| p.starts_with(path));
            below.count() == 1
        };
        match (step.what, which) {
            (0..=2, _) if there.is_none() => {
                self.next += 1;
                let n = if step.what == 2 {
                    -self.next
                } else {
                    self.next
                };
                match (step.inside, n < 0) {
                    (true, true) => {
                        let made = w.mkdir(&root, &w.lookup(&to), &name, mode(0o755));
                        self.handles.insert(n, made.expect("made").fh);
                    }
                    (true, false) => {
                        let made = w.create(&root, &w.lookup(&to), &name, mode(0o644));
                        let fh = made.expect("made").fh;
                        let text = n.to_string();
                        w.write(&root, &fh, text.as_bytes()).expect("written");
                        self.handles.insert(n, fh);
                    }
                    (false, true) => fs::create_dir(host(&target)).expect("made"),
                    (false, false) => fs::write(host(&target), n.to_string()).expect("made"),
                }
                self.model.insert(target, n);
            }
            (3 | 4, Some(path)) => {
                let n = self.model[&path];
                if is_dir(&n) && !empty(&path) {
                    return;
                }
                // Unseen by the server, where nothing else tells what comes after.
                if step.inside || w.untagged {
                    let what = match is_dir(&n) {
                        true => UnlinkatFlags::RemoveDir,
                        false => UnlinkatFlags::NoRemoveDir,
                    };
                    let dir = w.lookup(&parent(&path));
                    w.remove(&root, &dir, &last(&path), what).expect("removed");
                } else if is_dir(&n) {
                    fs::remove_dir(host(&path)).expect("removed");
                } else {
                    fs::remove_file(host(&path)).expect("removed");
                }
                self.model.remove(&path);
            }
            (5, Some(path)) if there.is_none() && self.model[&path] > 0 => {
                if step.inside {
                    let (file, dir) = (w.lookup(&path), w.lookup(&to));
                    w.link(&root, &file, &dir, &name).expect("linked");
                } else {
                    fs::hard_link(host(&path), host(&target)).expect("linked");
                }
                self.model.insert(target, self.model[&path]);
            }
            (6..=9, Some(path)) => {
                let n = self.model[&path];
                let over = match there {
                    None => true,
                    Some(m) => {
                        m != n && is_dir(&m) == is_dir(&n) && (!is_dir(&m) || empty(&target))
                    }
                };
                let unseen = !step.inside && there.is_some() && w.untagged;
                if !over || unseen || to.starts_with(&path) || path.starts_with(&target) {
                    return;
                }
                if step.inside {
                    let (from, to) = (w.lookup(&parent(&path)), w.lookup(&to));
                    let moved = w.rename(&root, (&from, &last(&path)), (&to, &name));
                    moved.expect("moved");
                } else {
                    fs::rename(host(&path), host(&target)).expect("moved");
                }
                let below: Vec<PathBuf> = self
                    .model
                    .keys()
                    .filter(|p| p.starts_with(&path))
                    .cloned()
                    .collect();
                for old in below {
                    let n = self.model.remove(&old).expect("it");
                    let rest = old.strip_prefix(&path).expect("below");
                    let new = match rest.as_os_str().is_empty() {
                        true => target.clone(),
                        false => target.join(rest),
                    };
                    self.model.insert(new, n);
                }
            }
            (10, Some(path)) => {
                let fh = w.lookup(&path);
                self.handles.insert(self.model[&path], fh);
            }
            (11, _) => {
                if step.inside && !w.untagged {
                    let _ = fs::remove_dir_all(w.kept.path().join("grafts"));
                }
                self.world.start();
            }
            _ => {}
        }
    }

    fn check(&self) {
        for (n, fh) in &self.handles {
            let path = self.model.iter().find(|(_, m)| *m == n).map(|(p, _)| p);
            let found = |fh: &Fh| match *n < 0 {
                true => self.world.getattr(fh).map(|attr| attr.fileid.to_string()),
                false => {
                    let text = self.world.read(fh);
                    text.map(|text| String::from_utf8(text).expect("text"))
                }
            };
            let Some(path) = path else {
                assert_eq!(code(&found(fh)), STALE, "{n} is gone");
                continue;
            };
            let ought = match *n < 0 {
                true => {
                    let meta = fs::metadata(self.world.host.path().join(path));
                    meta.expect("it").ino().to_string()
                }
                false => n.to_string(),
            };
            // Right after a search in vain nobody searches again.
            let mut is = found(fh);
            for _ in 0..500 {
                if code(&is) != STALE {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
                is = found(fh);
            }
            assert_eq!(is.ok(), Some(ought), "{n} at {path:?}");
        }
    }
}

/// A fifth: each looks at every handle after every step.
fn fewer() -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig {
        cases: all.cases.div_ceil(5),
        ..all
    }
}

proptest! {
    #![proptest_config(fewer())]

    /// Names are made, moved, linked and removed, through the graft and behind its back, and servers come
    /// and go: a handle always leads to the file that it was given for, and to none where that is gone.
    #[test]
    fn a_handle_is_always_its_files(steps in steps(), untagged in any::<bool>()) {
        let mut held = Held {
            world: world_of(untagged),
            model: Model::new(),
            handles: BTreeMap::new(),
            next: 0,
        };
        for step in steps {
            held.take(step);
            held.check();
        }
    }
}
