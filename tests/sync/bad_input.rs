//! One error with a hint, nothing half there, and the next try works.

use super::support::{World, until, wait};
use super::{SAYS, other, stop, url, works_in, world};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[test]
fn what_cannot_be_meant_is_said() {
    let w = world();
    w.write("file", "x");
    std::fs::create_dir(w.path("dir")).expect("mkdir");
    let bucket = url(&w.path("bucket"));
    let mut all = String::new();
    for args in [
        &["local", "local", "box"][..],
        &["local", &bucket],
        &["local", "ftp://me:hush@host/x", "box"],
        &["local", "s3://key:hush@bucket/x", "box"],
        &["local", "file://there/x", "box"],
        &["local", "dir", "box"],
        &["local", "file", "box"],
        &["local", "nothing", "box"],
        &["local", &bucket, "none"],
        &["local", &bucket, "Box"],
        &[&bucket, "local", "box"],
    ] {
        let done = w.pocker(&[&["sync"], args].concat()).fails(&[]);
        let dir = w.path("").display().to_string();
        let said = done.err.replace(dir.trim_end_matches('/'), "DIR");
        all.push_str(&format!(
            "$ pocker sync {}\n{said}\n",
            args.join(" ").replace(dir.trim_end_matches('/'), "DIR")
        ));
    }
    assert!(
        !all.replace("me:hush", "")
            .replace("key:hush", "")
            .contains("hush")
    );
    insta::assert_snapshot!(all);
}

/// Files of an object store in a folder.
fn objects(dir: &Path) -> Vec<PathBuf> {
    let mut todo = vec![dir.to_path_buf()];
    let mut out = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("listed") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => todo.push(path),
                false => out.push(path),
            }
        }
    }
    out.sort();
    out
}

#[test]
fn an_object_that_rotted_is_named_and_nothing_is_kept_of_it() {
    let w = world();
    let bucket = url(&w.path("bucket"));
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    let kinds = ["packs/", "tables/", "large/"];
    for kind in kinds {
        let object = objects(&w.path("bucket"));
        let object = object
            .iter()
            .find(|o| o.display().to_string().contains(kind));
        let object = object.expect("one of the kind");
        let whole = std::fs::read(object).expect("read");
        let mut bad = whole.clone();
        let at = bad.len() / 3;
        bad[at] ^= 1;
        std::fs::write(object, bad).expect("write");
        other(&w, "second", &["sync", &bucket, "local", "box"]).fails(&["because: ", "hint: "]);
        assert_eq!(other(&w, "second", &["ls", "--json"]).ok().out.trim(), "[]");
        std::fs::write(object, whole).expect("write");
        // What came before it is kept for the next try, which would not ask for the next kind.
        other(&w, "second", &["gc"]).ok();
    }
    other(&w, "second", &["sync", &bucket, "local", "box"]).ok();
    works_in(&w, "second");
    stop(&w, "second");
}

/// Killed at random: the command, the server that sends, and the one that receives.
#[test]
fn killed_at_any_time_the_next_try_goes_on() {
    let w = world();
    other(&w, "second", &["ls"]).ok();
    let socket = w.path("s-second/control.sock").display().to_string();
    let bucket = url(&w.path("bucket"));
    let rounds = if std::env::var_os("POCKER_LONG").is_some() {
        60
    } else {
        9
    };
    for round in 0..rounds {
        other(&w, "second", &["ls"]).ok();
        let to = if round % 2 == 0 { &socket } else { &bucket };
        let child = w.start(&["sync", "local", to, "box"]);
        std::thread::sleep(std::time::Duration::from_millis(3 * (round * 7 % 40)));
        let whom = match round % 3 {
            0 => child.id() as i32,
            1 => w.server_pid(),
            _ if round % 2 == 0 => server_of(&w, "second"),
            _ => child.id() as i32,
        };
        let _ = kill(Pid::from_raw(whom), Signal::SIGKILL);
        let done = wait(child);
        assert!(
            done.status == 0 || done.status == 137 || done.err.contains("hint: "),
            "{}",
            done.err
        );
        // What is there is whole.
        let there = other(&w, "second", &["ls"]).ok().out;
        if there.contains("box") {
            assert_eq!(other(&w, "second", &["run", "box"]).ok().out, SAYS);
        }
        let fsck = other(&w, "second", &["fsck", "--json"]).ok().out;
        assert!(!fsck.contains("\"damage\""), "{fsck}");
    }
    w.pocker(&["ls"]).ok();
    w.pocker(&["sync", "local", &bucket, "box"]).ok();
    other(&w, "second", &["rm", "box"]);
    other(&w, "second", &["sync", &bucket, "local", "box"]).ok();
    works_in(&w, "second");
    stop(&w, "second");
}

fn server_of(w: &World, name: &str) -> i32 {
    let said = other(w, name, &["doctor", "--json"]).out;
    let at = said.find("pid ").expect("a server");
    let digits: String = said[at + 4..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("a pid")
}

/// The disk of the folder, and the one of the store, are full.
#[test]
fn a_full_disk_is_said_and_when_it_has_room_the_retry_works() {
    let w = world();
    let small = |name: &str, size: &str| {
        let dir = w.path(name);
        std::fs::create_dir(&dir).expect("mkdir");
        let options = format!("size={size},mode=700");
        nix::mount::mount(
            Some("tmpfs"),
            &dir,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("a tmpfs");
        dir
    };
    let grow = |dir: &Path| {
        nix::mount::mount(
            None::<&str>,
            dir,
            None::<&str>,
            nix::mount::MsFlags::MS_REMOUNT,
            Some("size=200m"),
        )
        .expect("grown");
    };
    let bucket = small("bucket", "2m");
    w.pocker(&["sync", "local", &url(&bucket), "box"])
        .fails(&["room", "hint: "]);
    assert!(!bucket.join("names/box").exists());
    grow(&bucket);
    w.pocker(&["sync", "local", &url(&bucket), "box"]).ok();
    let second = small("second", "3m");
    other(&w, "second", &["sync", &url(&bucket), "local", "box"]).fails(&["no space", "hint: "]);
    grow(&second);
    other(&w, "second", &["sync", &url(&bucket), "local", "box"]).ok();
    works_in(&w, "second");
    stop(&w, "second");
    for dir in [&bucket, &second] {
        nix::mount::umount(dir).expect("unmounted");
    }
}

/// A server of sockets that says nothing, one that is none, and one that went.
#[test]
fn a_socket_without_a_server_is_said() {
    let w = world();
    let listener = std::os::unix::net::UnixListener::bind(w.path("dead.sock")).expect("bound");
    drop(listener);
    w.pocker(&[
        "sync",
        "local",
        &w.path("dead.sock").display().to_string(),
        "box",
    ])
    .fails(&["cannot be reached", "hint: "]);
    let talks = std::os::unix::net::UnixListener::bind(w.path("odd.sock")).expect("bound");
    std::fs::set_permissions(w.path("odd.sock"), std::fs::Permissions::from_mode(0o600))
        .expect("mode");
    let talker = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = talks.accept().expect("accepted");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    });
    w.pocker(&[
        "sync",
        "local",
        &w.path("odd.sock").display().to_string(),
        "box",
    ])
    .fails(&["makes no sense", "hint: "]);
    talker.join().expect("talked");
    until("the server is there yet", || w.pocker(&["ls"]).status == 0);
}
