//! A graft of a server that Landlock encloses, on a file system whose names the kernel is made to forget: a file that is
//! opened by its handle then has no directories above it, and is refused.

use super::super::{Grafts, HostFile, sys};
use super::{Codec, Name, user, with};
use crate::sys::os;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{Cx, Stable};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
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

fn read(grafts: &Grafts, file: &HostFile) -> Result<Vec<u8>, nfsstat3> {
    let mut out = Vec::new();
    as_root(|cx| grafts.read(cx, 1, file, 0, 100, &mut out))?;
    Ok(out)
}

fn as_root<T>(call: impl FnMut(&Cx) -> Result<T, nfsstat3>) -> Result<T, nfsstat3> {
    with(&user(0, 0), call)
}

#[test]
fn a_file_whose_name_the_kernel_forgot_is_found_in_its_graft() {
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
    let (graft, kept) = (disk.at("g"), disk.at("kept"));
    fs::create_dir(&kept).expect("mkdir");
    let handle = sys::file_of(fs::File::open(disk.at("g/a")).expect("open").as_fd());
    let handle = handle.expect("a handle");
    let (ask, asked) = channel::<(Task, Sender<()>)>();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let own = [graft.clone(), kept.clone()].map(|dir| (dir, "rwc"));
            let paths = [&own[..], &[("/proc".into(), "r")]].concat();
            assert!(os::enclose(&paths, &[], false).expect("enclosed"));
            enclosed(&graft, kept, &handle, &Outside { ask });
        });
        for (task, done) in asked {
            task(&disk);
            let _ = done.send(());
        }
        thread.join().expect("it ends");
    });
}

fn enclosed(graft: &Path, kept: PathBuf, handle: &HostFile, outside: &Outside) {
    let grafts = Grafts {
        names: true,
        ..Grafts::new(Codec::new(&[7; 32]), kept)
    };
    grafts.add(1, graft, false).expect("served");
    let file = |fh| match grafts.codec.decode(&fh) {
        Ok(Name::Host { file, .. }) => file,
        other => panic!("{other:?}"),
    };
    let root = file(grafts.root(1).expect("there"));
    let find = |dir: &HostFile, name: &[u8]| {
        let found = as_root(|cx| grafts.lookup(cx, 1, dir, name)).expect("found");
        file(found.fh)
    };
    let [a, deep, gone] = [&b"a"[..], b"deep", b"gone"].map(|name| find(&root, name));
    let b = find(&deep, b"b");

    outside.does(Disk::forget);
    let top = fs::File::open(graft).expect("open");
    let bare = sys::open(top.as_fd(), handle, libc::O_RDONLY).map(drop);
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

    as_root(|cx| grafts.rename(cx, 1, &root, b"a", &deep, b"a2")).expect("renamed");
    outside.does(Disk::forget);
    assert_eq!(read(&grafts, &a).expect("read"), b"G/");
    // The host moved it, and its directory.
    outside.does(|disk| {
        fs::rename(disk.at("g/deep/a2"), disk.at("g/deep/moved")).expect("renamed");
        fs::rename(disk.at("g/deep"), disk.at("g/deeper")).expect("renamed");
        disk.forget();
    });
    assert_eq!(read(&grafts, &a).expect("read"), b"G/");
    outside.does(Disk::forget);
    assert_eq!(read(&grafts, &b).expect("read"), b"g/deep/b");
    // And one out of the graft.
    outside.does(|disk| {
        fs::rename(disk.at("g/gone"), disk.at("out/gone")).expect("renamed");
        disk.forget();
    });
    assert!(matches!(read(&grafts, &gone), Err(nfsstat3::NFS3ERR_STALE)));
}
