//! Copies in and out.

use super::support::{World, wait};
use super::{inside, start, stop, text, world};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

/// What a copy has to keep: name, kind and mode, size, time, target, and which names are one file.
fn seen(dir: &std::path::Path) -> String {
    let script = "cd \"$0\" && find . \\( -type d -printf '%p %m %T@\\n' \\) -o -printf '%p %m %y %s %T@ %n %l\\n' | LC_ALL=C sort; \
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let out = Command::new("sh")
        .args(["-c", script])
        .arg(dir)
        .output()
        .expect("sh");
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Odd names, every mode, times to the nanosecond, links.
fn made_up(w: &World) -> std::path::PathBuf {
    let dir = w.path("made");
    let script = "mkdir -p \"$0/deep/er\" \"$0/no\" && cd \"$0\" && printf 'a\\0b' >bytes && : >empty && \
        head -c 200000 /dev/urandom >big && chmod 640 big && chmod 711 deep && chmod 500 no && \
        ln big deep/big && ln -s ../empty deep/link && ln -s /etc/passwd abs && ln -s nowhere dead && \
        echo x >\"$(printf 'odd \\n\\303\\251\\377')\" && mkfifo pipe && \
        name=$(printf 'x%.0s' $(seq 200)) && echo long >\"deep/er/$name\" && \
        touch -d '1970-01-01 00:00:01.25' empty && touch -d '2001-02-03 04:05:06.123456789' big bytes deep no";
    let done = Command::new("bash")
        .args(["-c", script])
        .arg(&dir)
        .output()
        .expect("bash");
    assert!(done.status.success(), "{done:?}");
    dir
}

#[test]
fn there_and_back_a_directory_is_what_it_was() {
    let w = world();
    let made = made_up(&w);
    start(&w, &[]);
    let from = text(&made);
    w.pocker(&["cp", &from, "w:/srv"]).ok();
    assert_eq!(inside(&w, "stat -c '%u:%g %a' /srv/made/big"), "0:0 640\n");
    for (source, there) in [("w:/srv/made", "back"), ("w:/srv/made/.", "made2")] {
        let to = w.path(there);
        w.pocker(&["cp", source, &text(&to)]).ok();
        assert_eq!(seen(&to), seen(&made), "{source}");
    }
    // Through an archive, and from the tree that is left when the run has ended.
    let mut cp = w.command(&["cp", "w:/srv/made", "-"]);
    let tar = cp.stdout(Stdio::piped()).output().expect("cp").stdout;
    std::fs::write(w.path("a.tar"), &tar).expect("write");
    std::fs::create_dir(w.path("untarred")).expect("mkdir");
    let untar = [
        "-C",
        &text(&w.path("untarred")),
        "-xpf",
        &text(&w.path("a.tar")),
    ];
    assert!(
        Command::new("tar")
            .args(untar)
            .status()
            .expect("tar")
            .success()
    );
    assert_eq!(seen(&w.path("untarred/made")), seen(&made));
    let mut cp = w.command(&["cp", "-", "w:/d/sub"]);
    cp.stdin(std::fs::File::open(w.path("a.tar")).expect("open"));
    wait(
        cp.stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cp"),
    )
    .ok();
    stop(&w);
    w.pocker(&["cp", "w:/d/sub/made", &text(&w.path("late"))])
        .ok();
    assert_eq!(seen(&w.path("late")), seen(&made));
    // And into it.
    w.pocker(&["cp", &from, "w:/later"]).ok();
    w.pocker(&["cp", "w:/later", &text(&w.path("later"))]).ok();
    assert_eq!(seen(&w.path("later")), seen(&made));
}

#[test]
fn owners_are_kept_where_asked_and_nobodys_rights_come_out() {
    let w = world();
    w.pocker(&["cp", "web:/d/two", &text(&w.path("two"))]).ok();
    let meta = std::fs::metadata(w.path("two")).expect("there");
    assert_eq!(
        (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777),
        (0, 0, 0o750)
    );
    assert_eq!(meta.mtime(), 981_173_106);
    w.pocker(&["cp", "-a", "web@2:/d/two", &text(&w.path("kept"))])
        .ok();
    let meta = std::fs::metadata(w.path("kept")).expect("there");
    assert_eq!(
        (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777),
        (33, 8, 0o4750)
    );
    start(&w, &[]);
    w.pocker(&["cp", "-a", &text(&w.path("kept")), "w:/d/kept"])
        .ok();
    assert_eq!(inside(&w, "stat -c '%u:%g %a' /d/kept"), "33:8 4750\n");
    w.pocker(&["cp", &text(&w.path("kept")), "w:/d/roots"]).ok();
    assert_eq!(inside(&w, "stat -c '%u:%g' /d/roots"), "0:0\n");
    stop(&w);
}

/// What a run sees is what is copied: its grafts and its /tmp too, and what its kernel had looked up
/// before is not out of date.
#[test]
fn a_run_sees_what_comes_in_at_once_wherever_it_goes() {
    let w = world();
    std::fs::create_dir(w.path("g")).expect("mkdir");
    std::fs::write(w.path("f"), "new\n").expect("write");
    let graft = format!("{}:/d/graft", text(&w.path("g")));
    start(&w, &["-d", &graft]);
    assert_eq!(
        inside(&w, "cat /d/not /d/one 2>&1; ls /d >/dev/null; true"),
        "cat: can't open '/d/not': No such file or directory\none\n"
    );
    for to in ["/d/not", "/d/one", "/tmp/", "/d/graft/in"] {
        w.pocker(&["cp", &text(&w.path("f")), &format!("w:{to}")])
            .ok();
    }
    assert_eq!(
        inside(
            &w,
            "cat /d/not /d/one /tmp/f /d/graft/in; ls /d | grep -c not"
        ),
        "new\nnew\nnew\nnew\n1\n"
    );
    assert_eq!(
        std::fs::read_to_string(w.path("g/in")).expect("in the graft"),
        "new\n"
    );
    w.pocker(&["cp", "w:/d/graft", &text(&w.path("out"))]).ok();
    assert_eq!(
        std::fs::read_to_string(w.path("out/in")).expect("copied"),
        "new\n"
    );
    w.pocker(&["cp", "w:/tmp/f", &text(&w.path("tmpf"))]).ok();
    w.pocker(&["cat", "w:/d/graft/in"])
        .fails(&["/d/graft of run w is mounted there", "pocker cp"]);
    stop(&w);
}

/// A tree is whoever's who writes there: its links lead the copy nowhere but into the tree.
#[test]
fn no_link_leads_a_copy_out() {
    let w = world();
    std::fs::write(w.path("f"), "mine\n").expect("write");
    let trap = text(&w.path("trap"));
    std::fs::create_dir(&trap).expect("mkdir");
    start(&w, &[]);
    inside(
        &w,
        &format!(
            "ln -s {trap} /away; ln -s {trap}/new /file; ln -s ../../../../../../{trap} /up; ln -s / /d/root"
        ),
    );
    let f = text(&w.path("f"));
    // Nowhere on the host, whether there is such a directory in the tree or not.
    for to in [
        "w:/away",
        "w:/away/x",
        "w:/file",
        "w:/up/",
        "w:/d/root/../../x",
    ] {
        w.pocker(&["cp", &f, to]);
    }
    inside(&w, &format!("mkdir -p {trap}"));
    for to in ["w:/away", "w:/up/y"] {
        w.pocker(&["cp", &f, to]).ok();
    }
    assert_eq!(
        inside(&w, &format!("cat {trap}/f {trap}/y")),
        "mine\nmine\n"
    );
    assert_eq!(
        std::fs::read_dir(&trap).expect("the trap").count(),
        0,
        "it was written on the host"
    );
    // Out: a link is copied as one, and what it leads to is the tree's.
    inside(
        &w,
        "ln -s /etc/passwd /leak; mkdir /many; ln -s /etc /many/etc",
    );
    w.pocker(&["cp", "w:/leak", &text(&w.path("leak"))]).ok();
    assert!(
        w.path("leak")
            .symlink_metadata()
            .expect("there")
            .is_symlink()
    );
    w.pocker(&["cp", "-L", "w:/leak", &text(&w.path("followed"))])
        .ok();
    let passwd = w.pocker(&["cat", "web:/etc/passwd"]).ok().out;
    assert_eq!(
        std::fs::read_to_string(w.path("followed")).expect("read"),
        passwd
    );
    // On the host nothing is written through a link that is in the way.
    w.pocker(&["cp", "w:/many", &text(&w.path("many"))]).ok();
    inside(
        &w,
        "rm /many/etc; mkdir /many/etc; echo evil >/many/etc/evil",
    );
    w.pocker(&["cp", "w:/many/.", &text(&w.path("many"))])
        .fails(&["a link is not followed"]);
    assert!(!std::path::Path::new("/etc/evil").exists());
    stop(&w);
}

/// A thread of the server has a small stack, and a tree may be as deep as it likes.
#[test]
fn a_very_deep_tree_goes_out_and_the_server_stays() {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};
    let w = world();
    start(&w, &[]);
    let json = w.pocker(&["inspect", "w"]).ok().out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let run = json.get(0).unwrap_or(&json);
    let srv = format!("/proc/{}/root/srv", run["pid"]);
    let (how, mode) = (
        OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::from_bits_truncate(0o755),
    );
    let mut dir = open(srv.as_str(), how, mode).expect("the run's directory");
    for _ in 0..5000 {
        mkdirat(&dir, "d", mode).expect("made");
        dir = openat(&dir, "d", how, mode).expect("opened");
    }
    drop(dir);
    stop(&w);
    let pid = w.server_pid();
    let mut cp = w.command(&["cp", "w:/srv", "-"]);
    let cp = cp.stdout(Stdio::piped()).output().expect("cp");
    assert!(
        cp.status.success(),
        "{}",
        String::from_utf8_lossy(&cp.stderr)
    );
    let directories = cp
        .stdout
        .chunks(512)
        .filter(|b| b.get(257..262) == Some(b"ustar") && b[156] == b'5');
    assert!(directories.count() >= 5000);
    assert_eq!(w.server_pid(), pid, "the server is the same");
}

#[test]
fn holes_stay_holes_on_the_way_out() {
    let w = World::new();
    let dd = "dd if=/bin/busybox bs=1000 count=1 seek=60000 of=/holes";
    let text = format!("EXEC {dd}; {dd} of=/again; chmod 600 /again\nRUN sleep 1000\n");
    w.create("web", &text).ok();
    start(&w, &[]);
    w.pocker(&["export", "web", "--format", "dir", "-o", "root"])
        .ok();
    w.pocker(&["cp", "web:/holes", "copied"]).ok();
    w.pocker(&["cp", "w:/holes", "live"]).ok();
    let first = std::fs::read(w.path("root/holes")).expect("read");
    assert_eq!(first.len(), 60_001_000);
    for name in ["root/holes", "root/again", "copied", "live"] {
        let path = w.path(name);
        assert!(std::fs::read(&path).expect("read") == first, "{name}");
        let blocks = std::fs::metadata(&path).expect("stat").blocks();
        assert!(blocks * 512 < 1 << 20, "{name} takes {blocks} blocks");
    }
    stop(&w);
}

/// What of a store's folder is on disk.
fn taken(dir: &std::path::Path) -> u64 {
    let each = std::fs::read_dir(dir).expect("listed").flatten();
    each.map(|entry| match entry.file_type().expect("a kind").is_dir() {
        true => taken(&entry.path()),
        false => entry.metadata().expect("stat").blocks() * 512,
    })
    .sum()
}

#[test]
fn holes_stay_holes_on_the_way_in() {
    let w = World::new();
    w.create("web", "RUN sleep 1000\n").ok();
    let holes = std::fs::File::create(w.path("holes")).expect("made");
    std::os::unix::fs::FileExt::write_all_at(&holes, b"some", 60_000_000).expect("written");
    holes.set_len(100_000_000).expect("longer");
    let from = text(&w.path("holes"));
    w.write("P", "FROM web\nCOPY holes /holes\nRUN true\n");
    w.pocker(&["create", "-f", "P", "built"]).ok();
    start(&w, &[]);
    w.pocker(&["cp", &from, "w:/live"]).ok();
    stop(&w);
    w.pocker(&["cp", &from, "w:/ended"]).ok();
    for what in ["built:/holes", "w:/live", "w:/ended"] {
        w.pocker(&["cp", what, "back"]).ok();
        assert!(
            std::fs::read(w.path("back")).expect("read") == std::fs::read(&from).expect("read"),
            "{what}"
        );
        std::fs::remove_file(w.path("back")).expect("removed");
    }
    let taken = ["staging", "blobs"].map(|part| taken(&w.path("store").join(part)));
    assert!(taken.iter().sum::<u64>() < 16 << 20, "{taken:?}");
}
