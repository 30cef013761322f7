//! What belongs to whom, and what is never opened.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn what_is_no_file_is_changed_and_nobody_waits_for_it() {
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
        let changed = w.setattr(&me, &made.fh, new);
        // A socket has no descriptor, and its name may be another's by then.
        if name == "socket" {
            assert_eq!(code(&changed), nfsstat3::NFS3ERR_PERM as u32);
            w.setattr(&root, &made.fh, new).expect("changed by root");
        } else {
            changed.expect("changed");
        }
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
