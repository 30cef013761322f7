//! umoci, skopeo and buildah, both ways.

use crate::support::World;
use crate::tree::{list, make, pack, same};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a tool in the world's directory, and gives what it said.
#[track_caller]
pub fn tool(w: &World, argv: &[&str]) -> String {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).current_dir(w.dir.path());
    // Its isolation needs no runtime, and no namespaces of the host's.
    command.env("BUILDAH_ISOLATION", "chroot");
    command.env("XDG_RUNTIME_DIR", w.dir.path());
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}; scripts/test installs it", argv[0]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{argv:?}: {said}{err}");
    said
}

/// buildah with storage of its own, that needs no file system's help.
#[track_caller]
pub fn buildah(w: &World, argv: &[&str]) -> String {
    let (root, run) = (w.path("bs"), w.path("br"));
    let (root, run) = (root.to_str().expect("UTF-8"), run.to_str().expect("UTF-8"));
    let own = [
        "buildah",
        "--root",
        root,
        "--runroot",
        run,
        "--storage-driver",
        "vfs",
    ];
    tool(w, &[&own[..], argv].concat()).trim().to_owned()
}

const RUN: &str = "echo $GREETING; id -u; pwd; cat /srv/www/low";
const SAID: &str = "hello there\n33\n/srv\nlow\n";

/// A pocker of the tree, which says `SAID` when it runs.
pub fn pocker(w: &World) -> PathBuf {
    let root = w.path("root");
    make(&root);
    pack(&root, &w.path("root.tar"));
    use sha2::Digest;
    let bytes = std::fs::read(w.path("root.tar")).expect("tar");
    let digits = hex::encode(sha2::Sha256::digest(bytes));
    let text = format!(
        "FROM root.tar sha256:{digits}\nENV GREETING='hello there'\nUSER www\nWORKDIR /srv\nRUN {RUN}\n"
    );
    // www is in no group of that directory.
    std::fs::write(
        w.path("Pockerfile"),
        text.replace("cat /srv/www/low", "echo low"),
    )
    .expect("write");
    w.pocker(&["create", "ours"]).ok();
    assert_eq!(w.pocker(&["run", "ours"]).ok().out, SAID);
    root
}

/// A pocker's tree as a directory.
#[track_caller]
fn unpacked(w: &World, name: &str, dir: &str) -> PathBuf {
    w.pocker(&["export", name, "--format", "dir", "-o", dir])
        .ok();
    w.path(dir)
}

/// Without the root itself, which is a directory of buildah's storage.
fn mounted_list(dir: &str, seconds: bool) -> Vec<String> {
    list(Path::new(dir), seconds).split_off(1)
}

#[test]
fn an_exported_image_is_the_same_tree_for_other_tools_and_runs_there() {
    let w = World::new();
    let root = pocker(&w);
    let ours = list(&root, false);
    same(
        "export --format dir",
        &ours,
        &list(&unpacked(&w, "ours", "dir"), false),
    );
    w.pocker(&["export", "ours", "--format", "oci", "-o", "layout/"])
        .ok();
    w.pocker(&["export", "ours", "--format", "oci", "-o", "image.tar"])
        .ok();

    tool(
        &w,
        &["umoci", "unpack", "--image", "layout:latest", "bundle"],
    );
    same("umoci", &ours, &list(&w.path("bundle/rootfs"), false));

    // Whatever skopeo makes of it comes back as it was.
    w.pocker(&["export", "ours", "-o", "ours.tar"]).ok();
    let tar = std::fs::read(w.path("ours.tar")).expect("tar");
    for (at, (from, to, file)) in [
        ("oci-archive:image.tar", "oci:copied:v9", "copied"),
        (
            "oci:layout:latest",
            "docker-archive:saved.tar:made:v9",
            "saved.tar",
        ),
        ("oci:layout:latest", "oci-archive:other.tar", "other.tar"),
    ]
    .into_iter()
    .enumerate()
    {
        tool(&w, &["skopeo", "copy", from, to]);
        let name = format!("back{at}");
        w.pocker(&["import", file, &name]).ok();
        w.pocker(&["export", &name, "-o", "back.tar"]).ok();
        assert!(
            std::fs::read(w.path("back.tar")).expect("tar") == tar,
            "{to}"
        );
        assert_eq!(w.pocker(&["run", &name]).ok().out, SAID, "{to}");
    }

    let container = buildah(&w, &["from", "oci-archive:image.tar"]);
    let mounted = buildah(&w, &["mount", &container]);
    same("buildah", &ours[1..], &mounted_list(&mounted, false));
    let said = buildah(
        &w,
        &[
            "run",
            &container,
            "--",
            "/bin/sh",
            "-c",
            RUN.trim_end_matches("; cat /srv/www/low"),
        ],
    );
    assert_eq!(format!("{said}\nlow\n"), SAID);
    let config = buildah(
        &w,
        &[
            "inspect",
            "--format",
            "{{.OCIv1.Config.Cmd}} {{.OCIv1.Config.User}}",
            &container,
        ],
    );
    assert!(
        config.contains("/bin/sh -c") && config.ends_with("www"),
        "{config}"
    );
    buildah(&w, &["rm", &container]);
}

#[test]
fn an_image_that_buildah_built_is_the_same_tree_here_and_runs() {
    let w = World::new();
    let root = w.path("root");
    make(&root);
    let container = buildah(&w, &["from", "scratch"]);
    let mounted = buildah(&w, &["mount", &container]);
    tool(
        &w,
        &[
            "cp",
            "-a",
            root.join(".").to_str().expect("UTF-8"),
            &mounted,
        ],
    );
    buildah(&w, &["commit", &container, "base"]);
    // A layer on it: gone, changed, added, a directory made anew, another hard link.
    let second = buildah(&w, &["from", "base"]);
    let mounted = buildah(&w, &["mount", &second]);
    let change = "set -e; cd \"$1\"; rm srv/gone; echo changed >srv/large; rm -r srv/www; mkdir srv/www; echo low >srv/www/low; ln srv/www/low srv/four; chmod 700 srv/empty; touch -d '2005-06-07 08:09:10 UTC' srv srv/www srv/www/low srv/large srv/empty";
    tool(&w, &["sh", "-c", change, "sh", &mounted]);
    let config = [
        "config",
        "--env",
        "GREETING=hello there",
        "--user",
        "www:www",
        "--workingdir",
        "/srv",
        "--entrypoint",
        "[\"/bin/sh\", \"-c\"]",
        "--cmd",
        RUN,
        &second,
    ];
    buildah(&w, &config);
    buildah(&w, &["config", "--cmd", &format!("'{RUN}'"), &second]);
    buildah(&w, &["commit", &second, "image"]);
    let theirs = mounted_list(&mounted, true);
    for (to, file) in [
        ("oci:layout:v1", "layout"),
        ("oci-archive:image.tar", "image.tar"),
        ("docker-archive:saved.tar:made:v1", "saved.tar"),
    ] {
        buildah(&w, &["push", "image", to]);
        w.pocker(&["import", "--force", file, "theirs"]).ok();
        let dir = format!("dir-{file}");
        let here = list(&unpacked(&w, "theirs", &dir), true);
        same(to, &theirs, &here[1..]);
        assert_eq!(w.pocker(&["run", "theirs"]).ok().out, SAID, "{to}");
    }
    buildah(&w, &["rm", "--all"]);
}

#[test]
fn an_image_that_umoci_changed_is_the_same_tree_here() {
    let w = World::new();
    let root = pocker(&w);
    w.pocker(&["export", "ours", "--format", "oci", "-o", "layout/"])
        .ok();
    tool(
        &w,
        &["umoci", "unpack", "--image", "layout:latest", "bundle"],
    );
    let change = "set -e; cd bundle/rootfs; rm srv/gone; echo more >srv/more; rm -r 'odd names'; chmod 711 srv/empty; touch -d '2005-06-07 08:09:10 UTC' . srv srv/more";
    tool(&w, &["sh", "-c", change]);
    tool(&w, &["umoci", "repack", "--image", "layout:v2", "bundle"]);
    tool(
        &w,
        &[
            "umoci",
            "config",
            "--image",
            "layout:v2",
            "--config.cmd",
            "/bin/cat",
            "--config.cmd",
            "/srv/more",
            "--config.user",
            "0",
        ],
    );
    w.pocker(&["import", "--tag", "v2", "layout", "theirs"])
        .ok();
    let theirs = list(&w.path("bundle/rootfs"), true);
    same(
        "umoci",
        &theirs,
        &list(&unpacked(&w, "theirs", "dir"), true),
    );
    assert_ne!(theirs, list(&root, true));
    assert_eq!(w.pocker(&["run", "theirs"]).ok().out, "more\n");
}
