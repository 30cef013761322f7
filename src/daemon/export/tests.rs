//! The export adapter over the wire's own types, without a wire.

use super::*;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{Caller, CreateHow, Cx, NodeKind, OnceKey, Peer, Stable, Vfs, XattrHow};
use pocker_store::OpenOptions;
use pocker_store::object::Meta;
use pocker_store::types::Time;
use pocker_store::work::WorkClass;

pub struct World {
    _dir: tempfile::TempDir,
    pub exports: Arc<Exports>,
    store: Arc<Store>,
    pub works: Arc<Works>,
}

pub fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let options = OpenOptions {
        create: true,
        boot_id: b"boot".to_vec(),
    };
    let store = Store::open(&dir.path().join("store"), options).expect("a store");
    let works = Arc::new(Works::open_or_create(store.clone()).expect("work trees"));
    let exports = Arc::new(Exports::open(store.clone(), works.clone(), None).expect("exports"));
    World {
        _dir: dir,
        exports,
        store,
        works,
    }
}

fn meta(mode: u32) -> Meta {
    Meta {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time { secs: 5, nanos: 6 },
        xattrs: Vec::new(),
    }
}

pub fn snapshot(w: &World) -> Digest {
    let mut ingest = w.store.ingest();
    ingest.dir(b"etc", meta(0o755)).expect("dir");
    ingest
        .file(b"etc/f", meta(0o640), 5, &mut &b"hello"[..])
        .expect("file");
    ingest.finish(None).expect("sealed").snapshot
}

fn as_caller<T>(caller: &Caller, once: Option<u8>, call: impl FnOnce(&Cx) -> T) -> T {
    let once = once.map(|byte| OnceKey([byte; 32]));
    call(&Cx {
        nowait: false,
        caller,
        peer: &Peer::Memory,
        client: [0; 16],
        once,
    })
}

fn root<T>(call: impl FnOnce(&Cx) -> T) -> T {
    as_caller(
        &Caller {
            uid: 0,
            gid: 0,
            gids: vec![],
        },
        None,
        call,
    )
}

fn code<T>(result: pocker_nfs::vfs::Result<T>) -> u32 {
    result.err().map_or(0, |status| status as u32)
}

#[test]
fn the_browse_view_is_walked_like_any_tree() {
    let w = world();
    let snapshot = snapshot(&w);
    let steps = [
        ("step1-aa".to_string(), snapshot),
        ("run-bb".to_string(), snapshot),
    ];
    w.exports.browse_set("web", &steps).expect("shown");
    let v = &*w.exports;
    root(|cx| {
        let top = v.mount(cx, b"/chroot").expect("mounted");
        let web = v.lookup(cx, &top, b"web").expect("web");
        let step = v.lookup(cx, &web.fh, b"step1-aa").expect("step1");
        let run = v.lookup(cx, &web.fh, b"run-bb").expect("run");
        assert_ne!(
            step.attr.fileid, run.attr.fileid,
            "one directory at two places"
        );
        assert_eq!(step.attr.fsid, top_fsid(v, cx, &top));
        let link = v.lookup(cx, &web.fh, b"run").expect("the link");
        assert_eq!(v.readlink(cx, &link.fh).expect("target").0, b"run-bb");
        let etc = v.lookup(cx, &run.fh, b"etc").expect("etc");
        let file = v.lookup(cx, &etc.fh, b"f").expect("f");
        let mut data = Vec::new();
        v.read(cx, &file.fh, 1, 3, &mut data).expect("read");
        assert_eq!(data, b"ell");
        let above = v.lookup(cx, &run.fh, b"..").expect("above the step");
        assert_eq!(above.attr.fileid, web.attr.fileid);
        let mut names = Vec::new();
        v.readdir(cx, &web.fh, 0, true, &mut |e| {
            names.push(String::from_utf8_lossy(e.name).into_owned());
            true
        })
        .expect("list");
        names.sort();
        assert_eq!(names, [".", "..", "run", "run-bb", "step1-aa"]);
        assert_eq!(
            code(v.remove(cx, &etc.fh, b"f")),
            nfsstat3::NFS3ERR_ROFS as u32
        );
        assert_eq!(
            code(v.write(cx, &file.fh, 0, b"x", Stable::FileSync)),
            nfsstat3::NFS3ERR_ROFS as u32
        );
    });
    w.exports.browse_remove("web").expect("gone");
    root(|cx| assert!(v.mount(cx, b"/chroot/web").is_err()));
}

fn top_fsid(v: &Exports, cx: &Cx, top: &Fh) -> u64 {
    v.getattr(cx, top).expect("attributes").fsid
}

#[test]
fn a_work_tree_is_mounted_by_its_secret_only_and_outlives_the_server() {
    let w = world();
    let now = clock::now();
    let tree = w
        .works
        .create(Some(snapshot(&w)), WorkClass::Run, b"t", now)
        .expect("clone");
    let path = w.exports.tree_path("run", tree.id());
    let v = &*w.exports;
    let fh = root(|cx| {
        let top = v.mount(cx, path.as_bytes()).expect("mounted");
        for wrong in [
            format!("/run/{}", tree.id()),
            format!("/run/{}/{}", tree.id(), "0".repeat(32)),
        ] {
            assert_eq!(
                code(v.mount(cx, wrong.as_bytes())),
                nfsstat3::NFS3ERR_NOENT as u32
            );
        }
        let etc = v.lookup(cx, &top, b"etc").expect("etc");
        let how = CreateHow::Guarded(sattr3::default());
        let made = v.create(cx, &etc.fh, b"new", &how).expect("made");
        v.write(cx, &made.fh, 0, b"data", Stable::Unstable)
            .expect("written");
        let device = NodeKind::Char(specdata3 {
            specdata1: 1,
            specdata2: 3,
        });
        let refused = v.mknod(cx, &etc.fh, b"null", device, &sattr3::default());
        assert_eq!(code(refused), nfsstat3::NFS3ERR_PERM as u32);
        made.fh
    });
    // Another server process on the same store: the handle still names the file.
    let works = Arc::new(Works::open_or_create(w.store.clone()).expect("work trees"));
    let again = Exports::open(w.store.clone(), works, None).expect("exports");
    root(|cx| {
        let mut data = Vec::new();
        again.read(cx, &fh, 0, 100, &mut data).expect("read");
        assert_eq!(data, b"data");
    });
}

#[test]
fn a_call_that_came_twice_is_answered_twice_and_done_once() {
    let w = world();
    let tree = w
        .works
        .create(None, WorkClass::Build, b"t", clock::now())
        .expect("tree");
    let path = w.exports.tree_path("build", tree.id());
    let v = &*w.exports;
    let caller = Caller {
        uid: 0,
        gid: 0,
        gids: vec![],
    };
    let top = root(|cx| v.mount(cx, path.as_bytes()).expect("mounted"));
    for _ in 0..2 {
        let made = as_caller(&caller, Some(1), |cx| {
            v.mkdir(cx, &top, b"d", &sattr3::default())
        });
        assert_eq!(code(made), 0);
    }
    let other = as_caller(&caller, Some(2), |cx| {
        v.mkdir(cx, &top, b"d", &sattr3::default())
    });
    assert_eq!(code(other), nfsstat3::NFS3ERR_EXIST as u32);
}

#[test]
fn a_graft_passes_through_as_its_caller_and_ends_at_its_root() {
    passes_through(&world());
    // As where the system has neither handles nor threads that act as others.
    let portable = world();
    portable.exports.grafts.be_portable();
    passes_through(&portable);
}

fn passes_through(w: &World) {
    let host = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(
        host.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("chmod");
    std::fs::write(host.path().join("f"), "host").expect("write");
    w.exports.grafts.add(7, host.path(), false).expect("served");
    let path = w.exports.graft_path(7);
    let v = &*w.exports;
    let top = root(|cx| v.mount(cx, path.as_bytes()).expect("mounted"));
    root(|cx| {
        let found = v.lookup(cx, &top, b"f").expect("f");
        let mut data = Vec::new();
        let done = v.read(cx, &found.fh, 0, 10, &mut data).expect("read");
        assert!(done.eof && data == b"host");
        let above = v.lookup(cx, &top, b"..").expect("..");
        assert_eq!(above.attr.fileid, v.getattr(cx, &top).expect("attr").fileid);
    });
    let user = Caller {
        uid: 1234,
        gid: 1234,
        gids: vec![500],
    };
    as_caller(&user, None, |cx| {
        let made = v
            .create(cx, &top, b"mine", &CreateHow::Guarded(sattr3::default()))
            .expect("made");
        assert_eq!((made.attr.uid, made.attr.gid), (1234, 1234));
        let theirs = v.lookup(cx, &top, b"f").expect("f");
        assert_eq!(
            code(v.write(cx, &theirs.fh, 0, b"x", Stable::Unstable)),
            nfsstat3::NFS3ERR_ACCES as u32
        );
    });
    root(|cx| {
        let made = v.mkdir(cx, &top, b"d", &sattr3::default()).expect("made");
        let (_, _) = v.rename(cx, &top, b"f", &made.fh, b"g").expect("renamed");
        assert_eq!(
            std::fs::read(host.path().join("d/g")).expect("read"),
            b"host"
        );
        let mut names = Vec::new();
        v.readdir(cx, &top, 0, true, &mut |e| {
            names.push(e.name.to_vec());
            true
        })
        .expect("list");
        names.sort();
        assert_eq!(names, [&b"."[..], b"..", b"d", b"mine"]);
    });
    w.exports.grafts.remove(&[7]);
    root(|cx| assert_eq!(code(v.getattr(cx, &top)), nfsstat3::NFS3ERR_STALE as u32));
}

#[test]
fn a_secret_is_shown_to_nobody() {
    let w = world();
    let now = Time { secs: 5, nanos: 0 };
    let made = w.works.create(None, WorkClass::Build, b"t", now);
    let tree = made.expect("a tree").id();
    let path = w.exports.tree_path("build", tree);
    let shown = w.exports.shown(path.as_bytes());
    assert_eq!(shown, format!("/build/{tree}").as_bytes());
    assert_eq!(w.exports.shown(b"/chroot/box/run"), b"/chroot/box/run");
    assert_eq!(w.exports.shown(b"/"), b"/");
}

#[test]
fn a_read_only_server_refuses_what_would_change() {
    let w = world();
    let now = Time { secs: 5, nanos: 0 };
    let made = w.works.create(None, WorkClass::Build, b"t", now);
    let tree = made.expect("a tree").id();
    let path = w.exports.tree_path("build", tree);
    let none = sattr3::default();
    let ro = read_only::ReadOnly(w.exports.clone());
    root(|cx| {
        let top = w.exports.mount(cx, path.as_bytes()).expect("mounted");
        let unchecked = CreateHow::Unchecked(none);
        let f = w
            .exports
            .create(cx, &top, b"f", &unchecked)
            .expect("made")
            .fh;
        let rofs = nfsstat3::NFS3ERR_ROFS as u32;
        let refused = [
            code(ro.setattr(cx, &f, &none, None)),
            code(ro.write(cx, &f, 0, b"x", Stable::FileSync)),
            code(ro.create(cx, &top, b"g", &unchecked)),
            code(ro.mkdir(cx, &top, b"g", &none)),
            code(ro.symlink(cx, &top, b"g", b"f", &none)),
            code(ro.mknod(cx, &top, b"g", NodeKind::Fifo, &none)),
            code(ro.remove(cx, &top, b"f")),
            code(ro.rmdir(cx, &top, b"f")),
            code(ro.rename(cx, &top, b"f", &top, b"g")),
            code(ro.link(cx, &f, &top, b"g")),
            code(ro.setxattr(cx, &f, b"user.a", b"", XattrHow::Either)),
            code(ro.removexattr(cx, &f, b"user.a")),
        ];
        assert_eq!(refused, [rofs; 12]);
        let (granted, _) = ro.access(cx, &top, 0x3f).expect("answered");
        assert_eq!(granted, access::READ | access::LOOKUP);
        assert_eq!(code(ro.lookup(cx, &top, b"f")), 0);
        assert_eq!(
            code(ro.lookup(cx, &top, b"g")),
            nfsstat3::NFS3ERR_NOENT as u32
        );
    });
}

fn from<T>(peer: &str, call: impl FnOnce(&Cx) -> T) -> T {
    let caller = Caller {
        uid: 0,
        gid: 0,
        gids: vec![],
    };
    call(&Cx {
        nowait: false,
        caller: &caller,
        peer: &Peer::Tcp((peer.parse::<std::net::IpAddr>().expect("an address"), 700).into()),
        client: [0; 16],
        once: None,
    })
}

#[test]
fn handles_of_another_hosts_tree_are_of_no_use_elsewhere() {
    let w = world();
    let v = &*w.exports;
    let tree = w.works.create(None, WorkClass::Run, b"", Time::default());
    let tree = tree.expect("a tree").id();
    let path = v.tree_path("run", tree);
    let fh = from("192.0.2.1", |cx| v.mount(cx, path.as_bytes())).expect("its secret is known");
    let at = |peer: &str| from(peer, |cx| code(v.getattr(cx, &fh)));
    assert_eq!(
        (at("192.0.2.1"), at("192.0.2.2")),
        (0, 0),
        "nobody's in particular"
    );
    let host = Id([7; 16]);
    leases::is_seen_at(host, "192.0.2.1".parse().expect("an address"), "t", 0);
    v.lease(tree, Some(host));
    assert_eq!((at("192.0.2.1"), at("::ffff:192.0.2.1")), (0, 0));
    assert_eq!(at("192.0.2.2"), nfsstat3::NFS3ERR_ACCES as u32);
    root(|cx| assert_eq!(code(v.getattr(cx, &fh)), 0, "the server's own host"));
    // It has moved.
    leases::is_seen_at(host, "192.0.2.2".parse().expect("an address"), "t", 0);
    assert_eq!(at("192.0.2.1"), nfsstat3::NFS3ERR_ACCES as u32);
    assert_eq!(at("192.0.2.2"), 0);
    v.lease(tree, None);
    assert_eq!(at("192.0.2.1"), 0);
}

#[test]
fn a_host_that_lost_a_volume_writes_there_no_more() {
    let w = world();
    let v = &*w.exports;
    let made = v.volumes.create("data", "t", false, None, Time::default());
    made.expect("a volume");
    let volume = v.volumes.find("data").expect("it is there");
    let open = |read_only| {
        let path = v.volume_path(&volume, read_only);
        from("198.51.100.1", |cx| v.mount(cx, path.as_bytes())).expect("mounted")
    };
    let (writes, reads) = (open(false), open(true));
    let at = |peer: &str, fh: &Fh| from(peer, |cx| code(v.getattr(cx, fh)));
    let hosts = [Id([8; 16]), Id([9; 16])];
    for (host, addr) in hosts.iter().zip(["198.51.100.1", "198.51.100.2"]) {
        leases::is_seen_at(*host, addr.parse().expect("an address"), "t", 0);
    }
    v.written_by(volume.id, vec![Some(hosts[0])]);
    assert_eq!(at("198.51.100.1", &writes), 0);
    v.written_by(volume.id, vec![Some(hosts[1])]);
    assert_eq!(at("198.51.100.1", &writes), nfsstat3::NFS3ERR_ACCES as u32);
    assert_eq!(at("198.51.100.1", &reads), 0);
    assert_eq!(at("198.51.100.2", &writes), 0);
    // This host's own, and one that was mounted by hand where no pocker is.
    v.written_by(volume.id, vec![None]);
    assert_eq!(at("198.51.100.2", &writes), nfsstat3::NFS3ERR_ACCES as u32);
    assert_eq!(at("198.51.100.9", &writes), 0);
}
