//! A grafter on threads of the test, which keeps what rights this process has.

use super::super::ServeOptions;
use super::*;
use crate::daemon::patience::FINDING;
use nix::errno::Errno;
use pocker_nfs::vfs::Elsewhere;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What a server with these options has.
pub fn threads(options: &ServeOptions) -> Option<Grafter> {
    if options.graft_below.is_empty() {
        return None;
    }
    let kept = options.grafters_dir();
    fs::create_dir_all(&kept).expect("mkdir");
    Some(start(&options.graft_below, &kept))
}

fn start(below: &[PathBuf], kept: &Path) -> Grafter {
    let setup = Setup {
        below: below.to_vec(),
        kept: kept.to_owned(),
        read_only: false,
        portable: false,
    };
    let (ours, its) = ends().expect("sockets");
    std::thread::spawn(move || attend::answer_all(its.control, its.calls, &setup, Ok(())));
    Grafter::with(ours, None).expect("a grafter")
}

#[test]
fn it_serves_what_it_opened_where_it_may_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = dir.path().canonicalize().expect("its path");
    let at = |name: &str| top.join(name);
    let text = |name: &str| at(name).display().to_string();
    for name in ["below", "below/g", "others", "kept"] {
        fs::create_dir(at(name)).expect("mkdir");
    }
    fs::write(at("below/file"), "").expect("written");
    std::os::unix::fs::symlink(at("others"), at("below/away")).expect("linked");

    let grafter = start(&[at("below")], &at("kept"));
    let before = grafter.look(&text("below/g")).map_err(|e| e.to_string());
    assert!(before.is_err(), "it has no key yet: {before:?}");
    let grafter = start(&[at("below")], &at("kept"));
    grafter.begin([7; 16]).expect("begun");
    assert!(grafter.begin([8; 16]).is_err(), "it has one key");

    let look = |name: &str| {
        let looked = grafter.look(&text(name)).expect("looked");
        (looked.kind, looked.covered, looked.real())
    };
    assert_eq!(look("below/g"), (Kind::Directory, true, at("below/g")));
    assert_eq!(look("below/away"), (Kind::Directory, false, at("others")));
    assert_eq!(look("below/file"), (Kind::Other, true, at("below/file")));
    assert_eq!(look("below/no"), (Kind::Missing, true, at("below/no")));
    assert_eq!(look("no"), (Kind::Missing, false, at("no")));
    let long = "x".repeat(70_000);
    let refused = grafter.look(&long).map_err(|e| e.raw_os_error());
    assert_eq!(refused, Err(Some(Errno::ENAMETOOLONG as i32)));

    let missing = grafter.open(&text("below/no"), FINDING).map(drop);
    let missing = missing.map_err(|e| e.raw_os_error());
    assert_eq!(missing, Err(Some(Errno::ENOENT as i32)), "as the host says");
    let opened = grafter.open(&text("below/g"), FINDING).expect("opened");
    assert!(opened.at.covered);
    opened.serve(1, false).expect("served");
    assert!(grafter.root(1).is_some() && grafter.root(2).is_none());
    let hidden = at("below/g/.pocker-hidden");
    fs::create_dir(&hidden).expect("mkdir");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).expect("mode");
    fs::write(hidden.join("1-1"), "").expect("written");
    grafter.remove(&[1]);
    assert!(grafter.root(1).is_none());
    assert!(
        !hidden.exists(),
        "what runs left is removed when it is told"
    );

    // Whoever asks: what is not below is not opened, nor is what it keeps for itself.
    let refused = |name: &str| {
        let opened = grafter.open(&text(name), FINDING).map(drop);
        opened.map_err(|e| e.raw_os_error())
    };
    for name in ["others", "below/away", "kept"] {
        assert_eq!(refused(name), Err(Some(Errno::EACCES as i32)), "{name}");
    }
    // What was opened and is not wanted is not served to who asks for the last.
    grafter
        .open(&text("below/g"), FINDING)
        .expect("opened")
        .close();
    let last = grafter.ask(&Word::Serve {
        id: 9,
        read_only: false,
    });
    assert!(last.is_err());
}

#[test]
fn what_it_keeps_is_in_a_folder_that_nobody_put_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let kept = dir.path().join("grafts");
    make_kept(&kept).expect("made");
    make_kept(&kept).expect("there");
    fs::remove_dir(&kept).expect("removed");
    std::os::unix::fs::symlink("/etc", &kept).expect("linked");
    assert!(make_kept(&kept).is_err());
}

#[test]
fn calls_are_answered_as_long_as_it_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, its) = ends().expect("sockets");
    let grafter = Grafter::with(ours, None).expect("a grafter");
    drop((its, dir));
    // Each socket breaks once, and then there is none to wait for.
    std::thread::scope(|scope| {
        for client in 0..=255_u8 {
            let grafter = &grafter;
            scope.spawn(move || {
                let mut out = b"before".to_vec();
                let asked =
                    grafter
                        .channels()
                        .ask(u64::from(client), &[0; 16], 4096, b"a call", &mut out);
                assert!(asked.is_err());
                assert_eq!(out, b"before");
            });
        }
    });
}

/// The calls that wait end with the test, however it ends.
struct Closed<'a>(&'a Grafter);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[test]
fn one_graft_has_its_share_of_calls_and_all_end_when_it_is_closed() {
    let (ours, its) = ends().expect("sockets");
    for end in &its.calls {
        let most = std::time::Duration::from_secs(20);
        end.set_read_timeout(Some(most)).expect("bounded");
    }
    let grafter = Grafter::with(ours, None).expect("a grafter");
    let ask = |graft: u8| {
        let (channels, mut out) = (grafter.channels(), Vec::new());
        channels.ask(graft.into(), &[1; 16], 4096, &[graft], &mut out)
    };
    let asked = |end: usize, graft| {
        let mut call = [0; 24 + 1];
        (&its.calls[end]).read_exact(&mut call).expect("asked");
        assert_eq!(call[24], graft, "who asks there");
    };
    let answer = |end: usize| (&its.calls[end]).write_all(&[0; 4]).expect("answered");
    std::thread::scope(|scope| {
        let closed = Closed(&grafter);
        let hung: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| ask(1))).collect();
        let share = CALLS / 4;
        // The last are taken first.
        (CALLS - share..CALLS).for_each(|end| asked(end, 1));
        // Another graft's goes by those that wait.
        let other = scope.spawn(|| ask(2));
        asked(CALLS - share - 1, 2);
        answer(CALLS - share - 1);
        other.join().expect("it ends").expect("answered");
        // And one of the first's goes on when another comes back.
        answer(CALLS - 1);
        asked(CALLS - 1, 1);
        drop(closed);
        let ended = hung.into_iter().map(|call| call.join().expect("it ends"));
        assert_eq!(ended.filter(Result::is_ok).count(), 1);
    });
}
