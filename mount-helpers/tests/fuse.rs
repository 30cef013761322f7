//! A file system served by the real engine and mounted by FUSE. Runs as root.

mod support;

#[path = "fuse/server.rs"]
mod server;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pocker_mount_helpers::{Cache, Phase, RestartCommand, Unmounted};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::time::{Duration, SystemTime};
use support::{HIDDEN, World, wait_for};

const CACHES: [Cache; 2] = [Cache::Exclusive, Cache::Shared];

fn rw() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

#[test]
fn files_are_made_written_read_and_renamed() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("a"), b"hello").unwrap();
    assert_eq!(fs::read(w.path("a")).unwrap(), b"hello");
    // More than one WRITE takes, and more than the server takes at once.
    let big: Vec<u8> = (0..3_000_001u32).map(|i| (i % 251) as u8).collect();
    fs::write(w.path("big"), &big).unwrap();
    assert_eq!(fs::metadata(w.path("big")).unwrap().len(), big.len() as u64);
    assert!(fs::read(w.path("big")).unwrap() == big);
    fs::rename(w.path("a"), w.path("b")).unwrap();
    assert_eq!(fs::read(w.path("b")).unwrap(), b"hello");
    assert_eq!(
        fs::metadata(w.path("a")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    fs::write(w.path("b"), b"x").unwrap();
    assert_eq!(fs::read(w.path("b")).unwrap(), b"x");
    fs::remove_file(w.path("b")).unwrap();
    assert_eq!(
        fs::read(w.path("b")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(m.unmount().unwrap(), Unmounted::Gone);
}

#[test]
fn what_one_mount_wrote_the_next_one_reads() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::create_dir(w.path("d")).unwrap();
    fs::write(w.path("d/f"), b"kept").unwrap();
    symlink("d/f", w.path("s")).unwrap();
    m.unmount().unwrap();
    let m = w.mount(Cache::Sealed);
    assert_eq!(fs::read(w.path("s")).unwrap(), b"kept");
    assert_eq!(fs::read_link(w.path("s")).unwrap().as_os_str(), "d/f");
    let names: Vec<_> = fs::read_dir(w.path("d"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["f"]);
    m.unmount().unwrap();
}

#[test]
fn exclusive_create_and_appending() {
    let mut w = World::new();
    for cache in CACHES {
        let m = w.mount(cache);
        let name = w.path(&format!("{cache:?}"));
        let mut f = File::create_new(&name).unwrap();
        assert_eq!(
            File::create_new(&name).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        f.write_all(b"one").unwrap();
        let mut end = OpenOptions::new().append(true).open(&name).unwrap();
        end.write_all(b"two").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"onetwo");
        assert_eq!(f.seek(SeekFrom::End(0)).unwrap(), 6);
        drop((f, end));
        m.unmount().unwrap();
    }
}

#[test]
fn links_count_and_share() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("a"), b"1").unwrap();
    fs::hard_link(w.path("a"), w.path("b")).unwrap();
    let (a, b) = (
        fs::metadata(w.path("a")).unwrap(),
        fs::metadata(w.path("b")).unwrap(),
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::write(w.path("b"), b"22").unwrap();
    assert_eq!(fs::read(w.path("a")).unwrap(), b"22");
    // Renaming one name of a file over another does nothing (rename(2)).
    fs::rename(w.path("a"), w.path("b")).unwrap();
    assert!(fs::exists(w.path("a")).unwrap());
    fs::remove_file(w.path("a")).unwrap();
    assert_eq!(fs::metadata(w.path("b")).unwrap().nlink(), 1);
    m.unmount().unwrap();
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let mut w = World::new();
    for cache in CACHES {
        let m = w.mount(cache);
        let name = w.path("gone");
        fs::write(&name, b"before").unwrap();
        let f = rw().open(&name).unwrap();
        fs::remove_file(&name).unwrap();
        assert_eq!(f.metadata().unwrap().nlink(), 0);
        f.write_all_at(b"AFTER", 0).unwrap();
        let mut back = [0; 6];
        f.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"AFTERe");
        f.set_len(3).unwrap();
        assert_eq!(f.metadata().unwrap().len(), 3);
        // Its name is free, and what took its place is another file.
        fs::write(&name, b"new").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"new");
        assert_eq!(w.fs.files(), 2);
        // Nobody sees where it went.
        let names: Vec<_> = fs::read_dir(&w.target)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["gone"]);
        let hidden = w.target.join(std::ffi::OsStr::from_bytes(HIDDEN));
        assert_eq!(
            fs::metadata(&hidden).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            fs::create_dir(&hidden).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
        drop(f);
        wait_for("the hidden file to be removed", || w.fs.files() == 1);
        fs::remove_file(&name).unwrap();
        assert_eq!(w.fs.files(), 0);
        m.unmount().unwrap();
    }
}

#[test]
fn a_file_renamed_over_while_open_lives_until_it_is_closed() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("old"), b"old").unwrap();
    fs::write(w.path("new"), b"new").unwrap();
    let mut f = File::open(w.path("old")).unwrap();
    fs::rename(w.path("new"), w.path("old")).unwrap();
    let mut text = String::new();
    f.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    assert_eq!(f.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read(w.path("old")).unwrap(), b"new");
    drop(f);
    wait_for("the hidden file to be removed", || w.fs.files() == 1);
    m.unmount().unwrap();
}

#[test]
fn the_hidden_directory_goes_with_the_mount_and_comes_again_when_it_is_missed() {
    let mut w = World::new();
    let m = w.mount(Cache::Shared);
    let unlinked = |name: &str| {
        fs::write(w.path(name), name).unwrap();
        let f = File::open(w.path(name)).unwrap();
        fs::remove_file(w.path(name)).unwrap();
        f
    };
    drop(unlinked("one"));
    wait_for("the hidden file to be removed", || w.fs.files() == 0);
    assert_eq!(w.fs.names(), [HIDDEN]);
    // As another client's unmount does.
    w.fs.remove_name(HIDDEN);
    let mut f = unlinked("two");
    let mut text = String::new();
    f.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two");
    drop(f);
    wait_for("the hidden file to be removed", || w.fs.files() == 0);
    m.unmount().unwrap();
    // The helper ends after the mount does.
    wait_for("an empty export", || w.fs.names().is_empty());
}

#[test]
fn an_open_file_that_keeps_another_name_is_not_hidden() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("a"), b"1").unwrap();
    fs::hard_link(w.path("a"), w.path("b")).unwrap();
    let f = File::open(w.path("a")).unwrap();
    fs::remove_file(w.path("a")).unwrap();
    assert_eq!(f.metadata().unwrap().nlink(), 1);
    // Its name was learnt before it was opened.
    fs::remove_file(w.path("b")).unwrap();
    assert_eq!(f.metadata().unwrap().nlink(), 0);
    let mut back = [0; 1];
    f.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"1");
    drop(f);
    wait_for("the file to be removed", || w.fs.files() == 0);
    m.unmount().unwrap();
}

#[test]
fn a_large_directory_is_listed_whole_and_emptied() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let all: BTreeSet<_> = (0..5000)
        .map(|i| format!("a rather long name {i:05}"))
        .collect();
    for name in &all {
        w.fs.plant(name.as_bytes(), b"", 0o644);
    }
    let list = || -> Vec<_> {
        let entries = fs::read_dir(&w.target).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    for _ in 0..2 {
        let seen = list();
        assert_eq!(seen.len(), all.len());
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);
    }
    // A page of the kernel's takes some 30 names: far fewer calls than pages.
    assert!(
        w.fs.count("readdir") < 40,
        "{} READDIRs",
        w.fs.count("readdir")
    );
    // Removing while reading, as rm -r does.
    for entry in fs::read_dir(&w.target).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(list().is_empty());
    assert_eq!(w.fs.files(), 0);
    m.unmount().unwrap();
}

#[test]
fn inode_numbers_that_mean_something_to_the_kernel_are_avoided() {
    let mut w = World::new();
    w.fs.plant_id(b"zero", b"0", 0);
    w.fs.plant_id(b"one", b"1", 1);
    let m = w.mount(Cache::Exclusive);
    for (name, text) in [("zero", b"0"), ("one", b"1")] {
        assert_eq!(fs::read(w.path(name)).unwrap(), text);
        let listed = fs::read_dir(&w.target).unwrap().map(|e| e.unwrap());
        let entry = listed.into_iter().find(|e| e.file_name() == name).unwrap();
        use std::os::unix::fs::DirEntryExt;
        assert_eq!(entry.ino(), fs::metadata(w.path(name)).unwrap().ino());
    }
    m.unmount().unwrap();
}

#[test]
fn attributes_are_set_and_kept() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("f"), b"12345").unwrap();
    fs::set_permissions(w.path("f"), Permissions::from_mode(0o640)).unwrap();
    chown(w.path("f"), Some(33), Some(44)).unwrap();
    let f = rw().open(w.path("f")).unwrap();
    f.set_len(2).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    f.set_times(fs::FileTimes::new().set_modified(then).set_accessed(then))
        .unwrap();
    let meta = fs::metadata(w.path("f")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o640);
    assert_eq!((meta.uid(), meta.gid(), meta.len()), (33, 44, 2));
    assert_eq!(meta.modified().unwrap(), then);
    assert_eq!(meta.accessed().unwrap(), then);
    f.set_modified(SystemTime::now()).unwrap();
    assert!(f.metadata().unwrap().modified().unwrap() > then);
    drop(f);
    m.unmount().unwrap();
}

#[test]
fn a_setgid_directory_hands_down_its_group() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::create_dir(w.path("d")).unwrap();
    chown(w.path("d"), None, Some(50)).unwrap();
    fs::set_permissions(w.path("d"), Permissions::from_mode(0o2775)).unwrap();
    fs::write(w.path("d/f"), b"").unwrap();
    fs::create_dir(w.path("d/sub")).unwrap();
    symlink("x", w.path("d/s")).unwrap();
    assert_eq!(fs::metadata(w.path("d/f")).unwrap().gid(), 50);
    assert_eq!(fs::symlink_metadata(w.path("d/s")).unwrap().gid(), 50);
    let sub = fs::metadata(w.path("d/sub")).unwrap();
    assert_eq!((sub.gid(), sub.mode() & 0o2000), (50, 0o2000));
    fs::write(w.path("plain"), b"").unwrap();
    assert_eq!(fs::metadata(w.path("plain")).unwrap().gid(), 0);
    m.unmount().unwrap();
}

#[test]
fn special_files_and_symlinks() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let mode = Mode::from_bits_truncate(0o600);
    for (name, kind, dev) in [
        ("fifo", SFlag::S_IFIFO, 0),
        ("socket", SFlag::S_IFSOCK, 0),
        ("null", SFlag::S_IFCHR, makedev(1, 3)),
        ("disk", SFlag::S_IFBLK, makedev(8, 300)),
    ] {
        mknod(&w.path(name), kind, mode, dev).unwrap();
        let meta = fs::symlink_metadata(w.path(name)).unwrap();
        assert_eq!(meta.mode() & libc::S_IFMT, kind.bits(), "{name}");
        assert_eq!(meta.rdev(), dev, "{name}");
    }
    // The device works, as the mount is not nodev.
    let mut null = OpenOptions::new().write(true).open(w.path("null")).unwrap();
    null.write_all(b"away").unwrap();
    drop(null);
    // So does a bound socket, by connecting to it.
    let listener = std::os::unix::net::UnixListener::bind(w.path("bound")).unwrap();
    std::os::unix::net::UnixStream::connect(w.path("bound")).unwrap();
    drop(listener);
    let long = "x/".repeat(2000);
    symlink(&long, w.path("long")).unwrap();
    assert_eq!(
        fs::read_link(w.path("long")).unwrap().as_os_str(),
        long.as_str()
    );
    m.unmount().unwrap();
}

#[test]
fn names_are_bytes() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe \n\x01");
    fs::write(w.target.join(name), b"x").unwrap();
    let longest = "n".repeat(255);
    fs::write(w.path(&longest), b"y").unwrap();
    let names: BTreeSet<_> = fs::read_dir(&w.target)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, BTreeSet::from([name.to_owned(), longest.into()]));
    let error = fs::write(w.path(&"n".repeat(256)), b"z").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    m.unmount().unwrap();
}

#[test]
fn a_name_too_long_is_not_just_absent() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    // All names of a directory that this mount made are known.
    fs::create_dir(w.path("d")).unwrap();
    let long = w.path("d").join("n".repeat(256));
    for outcome in [fs::metadata(&long).err(), fs::remove_file(&long).err()] {
        assert_eq!(outcome.unwrap().raw_os_error(), Some(libc::ENAMETOOLONG));
    }
    let absent = fs::metadata(w.path("d").join("n".repeat(255))).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    m.unmount().unwrap();
}

#[test]
fn a_running_program_is_not_truncated() {
    for cache in CACHES {
        let mut w = World::new();
        let m = w.mount(cache);
        let path = w.path("program");
        fs::copy("/bin/sleep", &path).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut running = std::process::Command::new(&path).arg("60").spawn().unwrap();
        for flags in [libc::O_RDONLY, libc::O_WRONLY] {
            let mut options = OpenOptions::new();
            options.read(flags == libc::O_RDONLY);
            options.write(flags == libc::O_WRONLY);
            let refused = options.custom_flags(libc::O_TRUNC).open(&path);
            let why = refused.unwrap_err().raw_os_error();
            assert_eq!(why, Some(libc::ETXTBSY));
        }
        let kept = w.fs.contents("program") == whole;
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(kept, "the server's file was truncated");
        // Once it has ended, it may be.
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        m.unmount().unwrap();
    }
}

#[test]
fn extended_attributes() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let path = w.path("f");
    fs::write(&path, b"x").unwrap();
    assert_eq!(support::getxattr(&path, "user.a"), Err(Errno::ENODATA));
    support::setxattr(&path, "user.a", b"1").unwrap();
    support::setxattr(&path, "user.b", &[7; 5000]).unwrap();
    assert_eq!(support::getxattr(&path, "user.a").unwrap(), b"1");
    assert_eq!(support::getxattr(&path, "user.b").unwrap(), vec![7; 5000]);
    assert_eq!(support::listxattr(&path).unwrap(), b"user.a\0user.b\0");
    support::removexattr(&path, "user.a").unwrap();
    assert_eq!(support::listxattr(&path).unwrap(), b"user.b\0");
    assert_eq!(support::removexattr(&path, "user.a"), Err(Errno::ENODATA));
    // A file capability, as setcap writes it: cap_net_bind_service=ep.
    let caps = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        support::getxattr(&path, "security.capability"),
        Err(Errno::ENODATA)
    );
    support::setxattr(&path, "security.capability", &caps).unwrap();
    assert_eq!(
        support::getxattr(&path, "security.capability").unwrap(),
        caps
    );
    // An ACL that grants nothing beyond the mode: version 2, owner, group, others.
    let mut acl = vec![2, 0, 0, 0];
    for tag in [0x01, 0x04, 0x20] {
        acl.extend([tag, 0, 4, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    let set = support::setxattr(&path, "system.posix_acl_access", &acl);
    assert_eq!(set, Err(Errno::EOPNOTSUPP));
    m.unmount().unwrap();
}

#[test]
fn writing_asks_for_no_capabilities() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let f = File::create(w.path("f")).unwrap();
    for i in 0..50u64 {
        f.write_all_at(b"x", i).unwrap();
        f.metadata().unwrap();
    }
    assert_eq!(w.fs.count("getxattr"), 0);
    // Attributes came with the WRITEs.
    assert!(
        w.fs.count("getattr") <= 2,
        "{} GETATTRs",
        w.fs.count("getattr")
    );
    drop(f);
    m.unmount().unwrap();
}

#[test]
fn a_memory_mapping_reads_and_writes() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    fs::write(w.path("f"), vec![b'a'; 10_000]).unwrap();
    let f = rw().open(w.path("f")).unwrap();
    let mut map = support::Map::shared(&f, 10_000);
    assert!(map.bytes().iter().all(|b| *b == b'a'));
    map.bytes()[5000] = b'Z';
    // Unlinked and closed, the mapping alone keeps the file.
    fs::hard_link(w.path("f"), w.path("g")).unwrap();
    fs::remove_file(w.path("f")).unwrap();
    drop(f);
    map.sync();
    drop(map);
    m.unmount().unwrap();
    let m = w.mount(Cache::Sealed);
    assert_eq!(fs::read(w.path("g")).unwrap()[5000], b'Z');
    m.unmount().unwrap();
}

#[test]
fn statistics_are_the_servers() {
    let mut w = World::new();
    let m = w.mount(Cache::Exclusive);
    let stat = nix::sys::statvfs::statvfs(&w.target).unwrap();
    let bytes = |blocks: u64| blocks * stat.fragment_size();
    assert_eq!(bytes(stat.blocks()), 1 << 30);
    assert_eq!(bytes(stat.blocks_free()), 1 << 29);
    assert_eq!(bytes(stat.blocks_available()), 1 << 28);
    assert_eq!((stat.files(), stat.name_max()), (1000, 255));
    m.unmount().unwrap();
}
