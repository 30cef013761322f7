//! On a file system of the test's own, whose names the kernel is made to forget.

use super::super::{Codec, Grafts};
use super::*;
use crate::sys::os;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{Caller, Cx, Peer, Stable};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let disk = Disk(tempfile::tempdir().expect("a directory"));
        let image = disk.0.path().join("image");
        let file = fs::File::create(&image).expect("made");
        file.set_len(8 << 20).expect("sized");
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            let done = command.args(args).arg(&image).arg(disk.at("")).output();
            let done = done.unwrap_or_else(|e| panic!("{program}: {e}"));
            assert!(done.status.success(), "{done:?}");
        };
        fs::create_dir(disk.at("")).expect("mkdir");
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output();
        let made = made.expect("mkfs.ext4 (Debian: e2fsprogs)");
        assert!(made.status.success(), "{made:?}");
        run("mount", &["-o", "loop"]);
        disk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join("disk").join(name)
    }

    /// Remounted, a file system drops what it knows of names that nobody has open.
    fn forget(&self) {
        let none = None::<&str>;
        mount(none, &self.at(""), none, MsFlags::MS_REMOUNT, none).expect("remounted");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.at(""), MntFlags::MNT_DETACH);
    }
}

/// What the enclosed thread has the other one do.
type Task = Box<dyn FnOnce(&Disk) + Send>;

struct Outside {
    ask: Sender<(Task, Sender<()>)>,
}

impl Outside {
    fn does(&self, task: impl FnOnce(&Disk) + Send + 'static) {
        let (done, wait) = channel();
        self.ask.send((Box::new(task), done)).expect("it listens");
        wait.recv().expect("done");
    }
}

fn file(path: &Path) -> HostFile {
    sys::file_of(fs::File::open(path).expect("open").as_fd()).expect("a handle")
}

fn read(grafts: &Grafts, file: &HostFile) -> Result<Vec<u8>, nfsstat3> {
    let mut out = Vec::new();
    as_root(|cx| grafts.read(cx, 1, file, 0, 100, &mut out))?;
    Ok(out)
}

fn as_root<T>(call: impl FnOnce(&Cx) -> T) -> T {
    let caller = Caller {
        uid: 0,
        gid: 0,
        gids: vec![],
    };
    call(&Cx {
        nowait: false,
        caller: &caller,
        peer: &Peer::Memory,
        client: [0; 16],
        once: None,
    })
}

#[test]
fn a_file_whose_name_the_kernel_forgot_is_found_in_its_graft_and_nowhere_else() {
    if !nix::unistd::geteuid().is_root() || os::landlock().is_none() {
        return;
    }
    let disk = Disk::new();
    for dir in ["g", "g/deep", "out"] {
        fs::create_dir(disk.at(dir)).expect("mkdir");
    }
    for name in ["g/a", "g/deep/b", "g/gone", "out/c"] {
        fs::write(disk.at(name), name).expect("written");
    }
    let [graft, gone, theirs] = ["g", "g/gone", "out/c"].map(|name| disk.at(name));
    let (gone, theirs) = (file(&gone), file(&theirs));
    let (ask, asked) = channel::<(Task, Sender<()>)>();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let paths = [(graft.clone(), "rwc"), ("/proc".into(), "r")];
            assert!(os::enclose(&paths, &[], false).expect("enclosed"));
            enclosed(&graft, &gone, &theirs, &Outside { ask });
        });
        for (task, done) in asked {
            task(&disk);
            let _ = done.send(());
        }
        thread.join().expect("it ends");
    });
}

fn enclosed(graft: &Path, gone: &HostFile, theirs: &HostFile, outside: &Outside) {
    let grafts = Grafts {
        places: Some(Arc::new(Places::new())),
        ..Grafts::new(Codec::new(&[7; 32]))
    };
    grafts.add(1, graft, false).expect("served");
    let live = grafts.get(1).expect("there");
    let root = live.root_file;
    let find = |dir: &HostFile, name: &[u8]| {
        let found = as_root(|cx| grafts.lookup(cx, 1, dir, name)).expect("found");
        match grafts.codec.decode(&found.fh) {
            Ok(super::super::Name::Host { file, .. }) => file,
            other => panic!("{other:?}"),
        }
    };
    let [a, deep] = [&b"a"[..], b"deep"].map(|name| find(&root, name));
    let b = find(&deep, b"b");

    // By the name that was given out.
    outside.does(Disk::forget);
    let bare = sys::open(live.root.as_fd(), &a, libc::O_RDONLY).map(drop);
    assert_eq!(bare, Err(Errno::EACCES), "else nothing is shown here");
    assert_eq!(read(&grafts, &a).expect("read"), b"g/a");
    outside.does(Disk::forget);
    assert_eq!(read(&grafts, &b).expect("read"), b"g/deep/b");
    outside.does(Disk::forget);
    let write =
        |file: &HostFile| as_root(|cx| grafts.write(cx, 1, file, 0, b"G", Stable::FileSync));
    write(&a).expect("written");
    outside.does(Disk::forget);
    let new = sattr3 {
        size: set_size3::size(2),
        ..sattr3::default()
    };
    as_root(|cx| grafts.setattr(cx, 1, &a, &new, None)).expect("cut");
    outside.does(Disk::forget);
    grafts.commit(1, &a).expect("committed");
    assert_eq!(read(&grafts, &a).expect("read"), b"G/");

    // By the name that a client gave it since.
    as_root(|cx| grafts.rename(cx, 1, &root, b"a", &deep, b"a2")).expect("renamed");
    outside.does(Disk::forget);
    assert!(
        live.known(live.places.as_ref().expect("kept"), &a)
            .is_some()
    );
    assert_eq!(read(&grafts, &a).expect("read"), b"G/");

    // By none: the host moved it, and its directory.
    outside.does(|disk| {
        fs::rename(disk.at("g/deep/a2"), disk.at("g/deep/moved")).expect("renamed");
        fs::rename(disk.at("g/deep"), disk.at("g/deeper")).expect("renamed");
        disk.forget();
    });
    assert_eq!(read(&grafts, &a).expect("read"), b"G/");
    outside.does(Disk::forget);
    assert_eq!(read(&grafts, &b).expect("read"), b"g/deep/b");

    // What is elsewhere, or nowhere.
    let stale = |error: Option<nfsstat3>| matches!(error, Some(nfsstat3::NFS3ERR_STALE));
    assert!(stale(read(&grafts, theirs).err()));
    assert!(stale(write(theirs).err()));
    outside.does(|disk| {
        fs::rename(disk.at("g/gone"), disk.at("out/gone")).expect("renamed");
        disk.forget();
    });
    assert!(stale(read(&grafts, gone).err()));
    outside.does(|disk| assert_eq!(fs::read(disk.at("out/c")).expect("read"), b"out/c"));
}
