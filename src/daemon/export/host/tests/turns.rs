//! What replies say was before and after, and what is done where others may come in between.

use super::super::change::before;
use super::super::make::{May, just_made};
use super::super::turn::tell_apart;
use super::*;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use std::collections::HashMap;

const OTHER: u64 = 8;

fn moment(t: nfstime3) -> (u32, u32) {
    (t.seconds, t.nseconds)
}

/// As a chain: each change's `before` is the `after` of another, but for the first.
fn is_chain(changes: &[Wcc]) {
    let mut open: HashMap<_, i64> = HashMap::new();
    for wcc in changes {
        let (was, is) = (&wcc.before, &wcc.after);
        *open
            .entry((moment(was.mtime), moment(was.ctime)))
            .or_default() += 1;
        *open
            .entry((moment(is.mtime), moment(is.ctime)))
            .or_default() -= 1;
    }
    let loose = open.values().filter(|n| **n != 0).count();
    assert!(
        loose <= 2,
        "{loose} moments of {} changes have no other side",
        changes.len()
    );
}

#[test]
fn nobody_elses_change_is_between_before_and_after() {
    let world = world();
    world
        .grafts
        .add(OTHER, world.host.path(), false)
        .expect("served");
    let root = user(0, 0);
    let file = world
        .create(&root, &world.top(), "f", mode(0o644))
        .expect("create")
        .fh;
    let dir = world
        .mkdir(&root, &world.top(), "d", mode(0o755))
        .expect("mkdir")
        .fh;
    let (file, dir) = (world.file(&file), world.file(&dir));
    let (mut written, mut named) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let both: Vec<_> = [GRAFT, OTHER, GRAFT, OTHER]
            .into_iter()
            .enumerate()
            .map(|(n, graft)| {
                let (world, root) = (&world, &root);
                scope.spawn(move || {
                    let (mut written, mut named) = (Vec::new(), Vec::new());
                    for round in 0..200_u64 {
                        let name = format!("{n} {round}");
                        let put = with(root, |cx| {
                            let grafts = &world.grafts;
                            grafts.write(cx, graft, &file, round, b"x", Stable::Unstable)
                        });
                        written.push(put.expect("write").wcc);
                        let made = with(root, |cx| {
                            let how = CreateHow::Guarded(mode(0o644));
                            world.grafts.create(cx, graft, &dir, name.as_bytes(), &how)
                        });
                        named.push(made.expect("create").dir);
                    }
                    (written, named)
                })
            })
            .collect();
        for one in both {
            let (w, n) = one.join().expect("a client");
            written.extend(w);
            named.extend(n);
        }
    });
    is_chain(&written);
    is_chain(&named);
}

#[test]
fn two_writes_in_one_tick_have_two_times() {
    let world = world();
    let fh = world
        .create(&user(0, 0), &world.top(), "f", mode(0o644))
        .expect("create")
        .fh;
    let graft = world.grafts.get(GRAFT).expect("it is there");
    let mut node = graft.open(&world.file(&fh)).expect("open");
    let data = node.data(OFlag::O_WRONLY).expect("data");
    let old = before(&graft, &node);
    assert!(tell_apart(&old, &node, &data));
    node.refresh_by(&data).expect("stat");
    let new = before(&graft, &node);
    assert!(moment(new.mtime) > moment(old.mtime));
    // The clock has ticked since.
    assert!(!tell_apart(&old, &node, &data));
    node.refresh_by(&data).expect("stat");
    assert_eq!(moment(before(&graft, &node).mtime), moment(new.mtime));
}

#[test]
fn what_is_given_away_is_what_was_made() {
    let world = world();
    let fh = world
        .create(&user(0, 0), &world.top(), "f", mode(0))
        .expect("create")
        .fh;
    let graft = world.grafts.get(GRAFT).expect("it is there");
    let node = || graft.open(&world.file(&fh)).expect("open");
    assert!(just_made(&node(), SFlag::S_IFREG));
    assert!(!just_made(&node(), SFlag::S_IFIFO));
    std::fs::hard_link(world.at("f"), world.at("g")).expect("link");
    assert!(!just_made(&node(), SFlag::S_IFREG));
    std::fs::remove_file(world.at("g")).expect("remove");
    world
        .setattr(&user(0, 0), &fh, mode(0o4711))
        .expect("chmod");
    assert!(!just_made(&node(), SFlag::S_IFREG));
    world.setattr(&user(0, 0), &fh, mode(0)).expect("chmod");
    std::os::unix::fs::chown(world.at("f"), Some(1000), None).expect("chown");
    assert!(!just_made(&node(), SFlag::S_IFREG));
}

#[test]
fn a_name_that_is_there_is_only_met_by_who_could_not_make_it() {
    let world = world();
    world
        .create(&user(0, 0), &world.top(), "f", mode(0o644))
        .expect("create");
    let graft = world.grafts.get(GRAFT).expect("it is there");
    let other = user(1000, 1000);
    std::os::unix::fs::chown(world.host.path(), Some(0), Some(0)).expect("chown");
    std::fs::set_permissions(
        world.host.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("chmod");
    let top = graft.open(&world.file(&world.top())).expect("open");
    let may = |caller: &Caller, name: &[u8]| with(caller, |cx| graft.may_make(cx, &top, name));
    assert!(matches!(may(&user(0, 0), b"f"), Ok(May::Make)));
    assert!(matches!(may(&other, b"f"), Ok(May::Meet)));
    assert_eq!(
        code(&with(&other, |cx| graft.may_make(cx, &top, b"g"))),
        nfsstat3::NFS3ERR_ACCES as u32
    );
    let met = world.create(&other, &world.top(), "f", mode(0o644));
    assert_eq!(code(&met), nfsstat3::NFS3ERR_EXIST as u32);
    let gone = world.remove(&user(0, 0), &world.top(), "g", UnlinkatFlags::NoRemoveDir);
    assert_eq!(code(&gone), nfsstat3::NFS3ERR_NOENT as u32);
}

#[test]
fn an_owner_that_the_system_takes_for_none_is_refused() {
    let world = world();
    let fh = world
        .create(&user(0, 0), &world.top(), "f", mode(0o644))
        .expect("create")
        .fh;
    let invalid = nfsstat3::NFS3ERR_INVAL as u32;
    let uid = sattr3 {
        uid: set_uid3::uid(u32::MAX),
        ..sattr3::default()
    };
    let gid = sattr3 {
        gid: set_gid3::gid(u32::MAX),
        ..sattr3::default()
    };
    assert_eq!(code(&world.setattr(&user(0, 0), &fh, uid)), invalid);
    assert_eq!(code(&world.setattr(&user(0, 0), &fh, gid)), invalid);
}
