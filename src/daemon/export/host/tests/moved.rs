//! Files that are moved, replaced and removed behind the server's back, and while it looks.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

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
    w.grafts.remove(&[GRAFT]);
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
fn a_file_that_was_taken_for_gone_and_is_looked_up_is_there() {
    let w = world();
    let root = user(0, 0);
    let f = w.create(&root, &w.top(), "f", mode(0o644)).expect("f").fh;
    let graft = w.grafts.get(GRAFT).expect("it is served");
    let names = graft.names().expect("by path");
    // The host gave it another name just before this one was removed.
    let node = graft.reach(&graft.root, b"f").expect("f");
    names.lost(&node, graft.root_ino, b"f");
    assert_eq!(code(&w.getattr(&f)), STALE);
    w.lookup(Path::new("f"));
    assert_eq!(code(&w.getattr(&f)), 0);
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
    let begun = std::sync::Barrier::new(3);
    std::thread::scope(|s| {
        let reads = || {
            begun.wait();
            let mut n = 0;
            loop {
                assert_eq!(w.read(&f).ok().as_deref(), Some(&b"text"[..]));
                w.setattr(&root, &f, mode(0o600 + n % 8)).expect("changed");
                n += 1;
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    return n;
                }
            }
        };
        let readers = [s.spawn(reads), s.spawn(reads)];
        begun.wait();
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

#[test]
fn calls_on_a_graft_that_is_served_later_wait_for_it() {
    let w = world();
    let top = w.top();
    let host = w.host.path();
    w.grafts.remove(&[GRAFT]);
    assert_eq!(code(&w.getattr(&top)), STALE);
    let later = |then: &dyn Fn()| {
        w.grafts.expect(GRAFT);
        std::thread::scope(|s| {
            let waits = s.spawn(|| code(&w.getattr(&top)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waits.is_finished(), "it waits");
            then();
            waits.join().expect("an answer")
        })
    };
    assert_eq!(later(&|| w.grafts.remove(&[GRAFT])), STALE);
    assert_eq!(later(&|| w.grafts.expect_none()), STALE);
    let serve = || w.grafts.add(GRAFT, host, false).expect("served");
    assert_eq!(later(&serve), 0);
}
