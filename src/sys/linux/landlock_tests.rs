use super::*;
use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// In a thread of its own, which alone is enclosed.
fn enclosed<T: Send>(
    paths: &[(PathBuf, &str)],
    ports: &[u16],
    connects: bool,
    then: impl FnOnce() -> T + Send,
) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            assert!(enclose(paths, ports, connects).expect("enclosed"));
            then()
        });
        thread.join().expect("it ends")
    })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(done: std::io::Result<T>) {
    let error = done.expect_err("it is out of reach");
    let kind = error.kind();
    // A name goes from one directory to another: "another file system".
    let across = kind == std::io::ErrorKind::CrossesDevices;
    assert!(kind == PermissionDenied || across, "{error:?}");
}

#[test]
fn what_is_not_listed_is_out_of_reach_by_every_way() {
    if landlock().is_none() {
        return;
    }
    let temp = tempfile::tempdir().expect("a directory");
    let at = |name: &str| temp.path().join(name);
    for dir in ["mine", "mine/sub", "theirs", "shown"] {
        fs::create_dir(at(dir)).expect("mkdir");
    }
    for file in ["mine/a", "theirs/a", "shown/a"] {
        fs::write(at(file), "words").expect("written");
    }
    symlink(at("theirs/a"), at("mine/link")).expect("linked");
    let gone = at("nowhere");
    let paths = [
        (at("mine"), "rwc"),
        (at("shown"), "r"),
        ("/proc".into(), "r"),
        (gone, "rwc"),
    ];
    enclosed(&paths, &[], false, || {
        let read = |path: &Path| fs::read(path);
        let proc = |path: PathBuf| {
            let mut through = std::ffi::OsString::from("/proc/self/root");
            through.push(path);
            PathBuf::from(through)
        };
        assert_eq!(read(&at("mine/a")).expect("read"), b"words");
        assert_eq!(read(&at("shown/a")).expect("read"), b"words");
        fs::write(at("mine/new"), "more").expect("made");
        fs::rename(at("mine/new"), at("mine/sub/new")).expect("renamed");
        fs::remove_file(at("mine/sub/new")).expect("removed");
        symlink("x", at("mine/sub/link")).expect("linked");
        read("/proc/self/stat".as_ref()).expect("read");

        refused(read(&at("theirs/a")));
        refused(read(&at("mine/link")));
        refused(read(&proc(at("theirs/a"))));
        refused(read("/etc/shadow".as_ref()));
        refused(fs::read_dir(at("theirs")));
        refused(fs::read_dir("/"));
        refused(fs::write(at("theirs/a"), ""));
        refused(fs::write(at("theirs/new"), ""));
        refused(fs::write(at("shown/a"), ""));
        refused(fs::create_dir(at("nowhere")));
        refused(fs::remove_file(at("theirs/a")));
        refused(fs::rename(at("theirs/a"), at("mine/b")));
        refused(fs::rename(at("mine/a"), at("theirs/b")));
        refused(fs::hard_link(at("theirs/a"), at("mine/b")));
        refused(fs::File::options().write(true).open("/proc/self/comm"));
        refused(fs::File::open("/dev/null"));
        // A program of its own is not started from what it may write to.
        fs::copy(at("shown/a"), at("mine/program")).expect("copied");
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(at("mine/program"), runs).expect("chmod");
        refused(std::process::Command::new(at("mine/program")).status());
        refused(std::process::Command::new("/bin/true").status());
    });
    assert_eq!(fs::read(at("theirs/a")).expect("read"), b"words");
}

#[test]
fn ports_that_are_not_listed_are_not_listened_on() {
    // The network's part came later (6.7).
    if landlock().is_none_or(|version| version < 4) {
        return;
    }
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("an address").port()
    };
    let (mine, other) = (free(), free());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let there = listener.local_addr().expect("an address");
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    enclosed(&[], &[mine], false, || {
        bind(mine).expect("bound");
        refused(bind(other));
        refused(bind(0));
        refused(TcpStream::connect(there));
    });
    enclosed(&[], &[], true, || {
        TcpStream::connect(there).expect("connected");
    });
}
