//! Every kind that is written and read, against each other.

use crate::make::{Layout, Tar, gzip, xz, zstd};
use crate::support::World;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

const TREE: &str = "EXEC mkdir -p /d/deep && echo x >/d/f && ln /d/f /d/hard && ln -s ../../../etc/passwd /d/soft && mkfifo /d/pipe && chown 33:44 /d/f && chmod 4750 /d/f && ln -s / /d/out && touch -d '2001-02-03 04:05:06' /d/f /d/deep && chmod 1700 /d/deep
ENV GREETING='hello there'
WORKDIR /d
USER www
VOLUME /var/lib/x
RUN echo \"$GREETING\" from $PWD as $(id -u)
";

#[test]
fn every_format_holds_the_same_tree_and_how_it_starts() {
    let w = World::new();
    w.create("a", TREE).ok();
    let said = w.pocker(&["run", "a"]).ok().out;
    assert_eq!(said, "hello there from /d as 33\n");
    w.pocker(&["export", "a", "-o", "a.tar"]).ok();
    w.pocker(&["export", "a", "--format", "oci", "-o", "a.oci"])
        .ok();
    w.pocker(&["export", "a", "--format", "oci", "-o", "layout/"])
        .ok();
    let tar = std::fs::read(w.path("a.tar")).expect("tar");
    std::fs::write(w.path("a.tgz"), gzip(&tar)).expect("write");
    std::fs::write(w.path("a.tzst"), zstd(&tar)).expect("write");
    std::fs::write(w.path("a.txz"), xz(&tar)).expect("write");
    for (from, image) in [
        ("a.tar", false),
        ("a.tgz", false),
        ("a.tzst", false),
        ("a.txz", false),
        ("a.oci", true),
        ("layout", true),
    ] {
        w.pocker(&["import", "--force", from, "b"]).ok();
        w.pocker(&["export", "b", "-o", "b.tar"]).ok();
        assert!(
            std::fs::read(w.path("b.tar")).expect("tar") == tar,
            "{from} holds another tree"
        );
        if image {
            assert_eq!(w.pocker(&["run", "b"]).ok().out, said, "{from}");
            let inspect = w.pocker(&["inspect", "b"]).ok().out;
            assert!(inspect.contains("/var/lib/x"), "{inspect}");
        }
    }
    // The same bytes each time, whatever the time.
    for format in ["tar", "oci"] {
        let again = |to: &str| {
            w.pocker(&["export", "a", "--format", format, "-o", to])
                .ok();
            std::fs::read(w.path(to)).expect("archive")
        };
        let first = again("one");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(first == again("two"), "{format}");
    }
    // Standard input and output.
    let pipe = format!(
        "'{0}' export a --format oci | '{0}' import - piped",
        env!("CARGO_BIN_EXE_pocker")
    );
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", &pipe])
        .env("POCKER_STORE", w.path("store"))
        .env("POCKER_SOCKET_DIR", w.path("s"));
    assert!(sh.status().expect("sh").success());
    assert_eq!(w.pocker(&["run", "piped"]).ok().out, said);
    // FROM takes the same kinds.
    use sha2::Digest;
    let packed = std::fs::read(w.path("a.txz")).expect("xz");
    let text = format!(
        "FROM a.txz sha256:{}\nRUN cat /d/f\n",
        hex::encode(sha2::Sha256::digest(&packed))
    );
    w.write("P", &text);
    w.pocker(&["create", "-f", "P", "from"]).ok();
    assert_eq!(w.pocker(&["run", "from"]).ok().out, "x\n");
}

#[test]
fn a_directory_holds_the_tree_and_reaches_nothing_else() {
    let w = World::new();
    w.create("a", TREE).ok();
    w.pocker(&["export", "a", "--format", "dir", "-o", "out"])
        .ok();
    let stat = |path: &str| std::fs::symlink_metadata(w.path("out").join(path)).expect("stat");
    let f = stat("d/f");
    assert_eq!(
        (f.uid(), f.gid(), f.mode() & 0o7777, f.nlink()),
        (33, 44, 0o4750, 2)
    );
    assert_eq!((f.mtime(), f.ino()), (981_173_106, stat("d/hard").ino()));
    assert!(stat("d/pipe").file_type().is_fifo());
    assert_eq!(
        (stat("d/deep").mtime(), stat("d/deep").mode() & 0o7777),
        (981_173_106, 0o1700)
    );
    let to = |path: &str| std::fs::read_link(w.path("out").join(path)).expect("a link");
    assert_eq!(to("d/soft").to_str(), Some("../../../etc/passwd"));
    assert_eq!(
        std::fs::metadata(w.path("out"))
            .expect("stat")
            .permissions()
            .mode()
            & 0o7777,
        0o755
    );
    let again = ["export", "a", "--format", "dir", "-o", "out"];
    w.pocker(&again)
        .fails(&["there is something in it", "hint: "]);
    w.pocker(&["export", "a", "--format", "dir"])
        .fails(&["hint: add -o DIR"]);
    w.pocker(&["export", "a", "--format", "dir", "-o", "no/out"])
        .fails(&["mkdir -p no"]);
    let left = std::fs::read_dir(w.dir.path()).expect("dir");
    let half = left.filter(|e| {
        e.as_ref()
            .is_ok_and(|e| e.file_name().to_string_lossy().starts_with(".pocker"))
    });
    assert_eq!(half.count(), 0);
}

#[test]
fn a_layout_takes_more_images_and_gives_the_one_that_is_asked_for() {
    let w = World::new();
    w.create("a", "EXEC echo one >/n\nRUN cat /n\n").ok();
    w.create("b", "EXEC echo two >/n\nRUN cat /n\n").ok();
    let export = |name: &str, tag: &str| {
        w.pocker(&[
            "export", name, "--format", "oci", "--tag", tag, "-o", "layout",
        ])
    };
    std::fs::create_dir(w.path("layout")).expect("mkdir");
    export("a", "v1").ok();
    export("b", "v2").ok();
    w.pocker(&["import", "layout", "x"])
        .fails(&["several images", "v1, v2"]);
    w.pocker(&["import", "--tag", "v3", "layout", "x"])
        .fails(&["no image with the tag v3", "v1, v2"]);
    for (tag, said) in [("v1", "one\n"), ("v2", "two\n")] {
        w.pocker(&["import", "--force", "--tag", tag, "layout", "x"])
            .ok();
        assert_eq!(w.pocker(&["run", "x"]).ok().out, said);
    }
    // A tag that is there moves.
    export("b", "v1").ok();
    w.pocker(&["import", "--force", "--tag", "v1", "layout", "x"])
        .ok();
    assert_eq!(w.pocker(&["run", "x"]).ok().out, "two\n");
    std::fs::create_dir_all(w.path("other/sub")).expect("mkdir");
    w.pocker(&["export", "a", "--format", "oci", "-o", "other"])
        .fails(&["no OCI image layout", "hint: "]);
    w.pocker(&["import", "other", "y"])
        .fails(&["no OCI image layout", "hint: "]);
    w.pocker(&["export", "a", "--tag", "v1"])
        .fails(&["only an image has a tag"]);
}

/// An image whose words need no shell, in a tree that has none.
#[test]
fn an_image_without_a_shell_starts_by_its_own_words() {
    let w = World::new();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|p| std::fs::read(p).ok());
    let mut header = crate::make::header(tar::EntryType::Regular, 0);
    let busybox = busybox.expect("busybox-static");
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    let mut tar = Tar::new();
    tar.0
        .append_data(&mut header, "app/echo", &busybox[..])
        .expect("added");
    let mut layout = Layout::new(&[tar.end()]);
    layout.config["config"] = serde_json::json!({
        "Entrypoint": ["echo", "it's", "two  blanks"], "Cmd": ["$HOME"], "Env": ["PATH=/app"],
    });
    std::fs::write(w.path("image.tar"), layout.tar()).expect("write");
    w.pocker(&["import", "image.tar", "a"]).ok();
    let said = "it's two  blanks $HOME\n";
    assert_eq!(w.pocker(&["run", "a"]).ok().out, said);
    w.pocker(&["export", "a", "--format", "oci", "-o", "out.tar"])
        .ok();
    w.pocker(&["import", "out.tar", "b"]).ok();
    assert_eq!(w.pocker(&["run", "b"]).ok().out, said);
    let own = ["import", "--run", "only a shell knows this", "out.tar", "c"];
    w.pocker(&own).ok();
    assert_ne!(w.pocker(&["run", "c"]).status, 0);
}

/// Whatever is being written when Ctrl-C comes is gone with it.
#[test]
fn an_export_that_is_interrupted_leaves_nothing() {
    let w = World::new();
    w.create("a", "EXEC truncate -s 150M /large\nRUN true\n")
        .ok();
    std::fs::create_dir(w.path("to")).expect("mkdir");
    let mut interrupted = 0;
    for (format, to) in [("tar", "to/x"), ("oci", "to/x"), ("dir", "to/x")] {
        let child = w.start(&["export", "a", "--format", format, "-o", to]);
        // Under another name something is there from the first byte on.
        let begun = std::time::Instant::now();
        while std::fs::read_dir(w.path("to")).expect("dir").count() == 0 {
            assert!(
                begun.elapsed() < crate::support::PATIENCE,
                "it does not begin"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
        let done = crate::support::wait(child);
        assert!([0, 130].contains(&done.status), "{done:?}");
        let left = std::fs::read_dir(w.path("to")).expect("dir").count();
        assert_eq!(
            left,
            usize::from(done.status == 0),
            "{format} {to}: {done:?}"
        );
        interrupted += usize::from(done.status == 130);
        let _ = std::fs::remove_file(w.path("to/x"));
        let _ = std::fs::remove_dir_all(w.path("to/x"));
    }
    assert!(interrupted > 0, "{interrupted} of 3");
}

/// What goes out comes in again, or is refused before anything is written.
#[test]
fn a_deep_tree_comes_in_again_and_a_deeper_one_does_not_go_out() {
    let w = World::new();
    let text = "EXEC mkdir -p $(printf 'd/%.0s' $(seq 1100)); echo x >$(printf 'd/%.0s' $(seq 1100))f\nRUN true\n";
    w.create("deep", text).ok();
    w.pocker(&["export", "deep", "-o", "deep.tar"]).ok();
    w.pocker(&["import", "deep.tar", "again"]).ok();
    w.pocker(&["export", "again", "-o", "again.tar"]).ok();
    let read = |name: &str| std::fs::read(w.path(name)).expect("read");
    assert!(read("deep.tar") == read("again.tar"), "another tree");

    let text = "EXEC n=$(printf 'd%.0s' $(seq 200)); for i in $(seq 25); do mkdir $n && cd -P $n || exit 1; done\nRUN true\n";
    w.create("deeper", text).ok();
    for (format, to) in [("tar", "x.tar"), ("dir", "x"), ("oci", "x/")] {
        let args = ["export", "deeper", "--format", format, "-o", to];
        let said = w
            .pocker(&args)
            .fails(&["a path longer than 4096 bytes", "hint: "]);
        assert_eq!(said.err.matches("error: ").count(), 1, "{}", said.err);
        assert!(!w.path(to).exists(), "{to}");
    }
}
