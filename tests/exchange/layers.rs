//! A layer for each step: what a step does to links, directories and attributes is the same tree for other
//! tools, and of an image whose last step changed only that goes to a registry again.

use crate::registry::Registry;
use crate::support::World;
use crate::tools::{buildah, tool};
use crate::tree::{list, make, pack, same};
use std::collections::BTreeSet;
use std::path::Path;

/// Names that come to a file and leave it; a directory, a file and a link in each other's place; what is gone.
const STEPS: [&str; 3] = [
    "EXEC b=/bin/busybox; cd /srv; rm gone; echo changed >large; rm -r '/odd names'; mkdir '/odd names'; echo new >'/odd names/new'; echo new >www/low; $b ln one four; $b rmdir empty; echo file >empty; rm dangling; mkdir dangling; echo in >dangling/in; $b chmod 700 sticky; $b chown 3:4 pipe; $b touch -h -d '2005-06-07 08:09:10' / '/odd names' '/odd names/new' www www/low four empty dangling dangling/in . large",
    "EXEC b=/bin/busybox; cd /srv; rm one; rm -r dangling; $b ln -s www dangling; rm empty; mkdir empty; $b ln www/low empty/low; $b mkfifo empty/pipe; $b mv large 'odd'; $b touch -h -d '2006-06-07 08:09:10' . empty empty/pipe dangling",
    "EXEC b=/bin/busybox; cd /srv; $b cp -p four five; rm four; $b mv five four; $b touch -d '2007-06-07 08:09:10' .",
];

fn pocker(w: &World, last: &str) {
    use sha2::Digest;
    let bytes = std::fs::read(w.path("root.tar")).expect("tar");
    let digits = hex::encode(sha2::Sha256::digest(bytes));
    let steps = STEPS.join("\n");
    let text = format!("FROM root.tar sha256:{digits}\n{steps}\nEXEC {last}\nRUN echo it runs\n");
    w.write("Pockerfile", &text);
    w.pocker(&["create", "ours"]).ok();
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}

/// The layers' digests, and how many of the history's entries have one.
fn layers(layout: &Path) -> (Vec<String>, usize) {
    let blob = |of: &serde_json::Value| {
        let digest = of["digest"].as_str().expect("a digest");
        json(&layout.join("blobs").join(digest.replace(':', "/")))
    };
    let index = json(&layout.join("index.json"));
    let manifest = blob(&index["manifests"][0]);
    let digest = |layer: &serde_json::Value| layer["digest"].as_str().expect("one").to_owned();
    let layers = manifest["layers"].as_array().expect("layers");
    let config = blob(&manifest["config"]);
    let history = config["history"].as_array().expect("a history");
    let made = history.iter().filter(|h| h["empty_layer"] != true).count();
    assert_eq!(
        config["rootfs"]["diff_ids"].as_array().map(Vec::len),
        Some(layers.len())
    );
    (layers.iter().map(digest).collect(), made)
}

fn blobs(w: &World) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let below = w.path("registry/docker/registry/v2/blobs/sha256");
    for dir in std::fs::read_dir(below).expect("blobs") {
        for blob in std::fs::read_dir(dir.expect("one").path()).expect("dir") {
            all.insert(blob.expect("one").file_name().into_string().expect("text"));
        }
    }
    all
}

#[test]
fn a_layer_for_each_step_is_the_same_tree_for_other_tools() {
    let w = World::new();
    make(&w.path("root"));
    pack(&w.path("root"), &w.path("root.tar"));
    pocker(
        &w,
        "echo first >/srv/note; /bin/busybox touch -d @1 /srv/note /srv",
    );
    let export = |args: &[&str]| {
        w.pocker(&[&["export", "ours", "-o"], args].concat()).ok();
    };
    export(&["ours.tar"]);
    export(&["dir", "--format", "dir"]);
    export(&["layout/", "--format", "oci"]);
    export(&["image.tar", "--format", "oci"]);
    export(&["again.tar", "--format", "oci"]);
    export(&["squashed/", "--format", "oci", "--squash"]);
    let read = |name: &str| std::fs::read(w.path(name)).expect("read");
    assert!(read("image.tar") == read("again.tar"), "other bytes");
    let ours = list(&w.path("dir"), false);
    let (steps, made) = layers(&w.path("layout"));
    assert_eq!((steps.len(), made), (5, 5));
    let (squashed, made) = layers(&w.path("squashed"));
    assert_eq!((squashed.len(), made), (1, 1));

    for (layout, bundle) in [("layout", "bundle"), ("squashed", "other")] {
        let image = format!("{layout}:latest");
        tool(&w, &["umoci", "unpack", "--image", &image, bundle]);
        let theirs = list(&w.path(bundle).join("rootfs"), false);
        same(layout, &ours, &theirs);
    }
    let container = buildah(&w, &["from", "oci-archive:image.tar"]);
    let mounted = buildah(&w, &["mount", &container]);
    same(
        "buildah",
        &ours[1..],
        &list(Path::new(&mounted), false)[1..],
    );
    buildah(&w, &["rm", &container]);
    tool(
        &w,
        &[
            "skopeo",
            "copy",
            "oci:layout:latest",
            "docker-archive:saved.tar:made:v9",
        ],
    );
    for (from, name) in [
        ("layout", "a"),
        ("image.tar", "b"),
        ("saved.tar", "c"),
        ("squashed", "d"),
    ] {
        w.pocker(&["import", from, name]).ok();
        w.pocker(&["export", name, "-o", "back.tar"]).ok();
        assert!(read("back.tar") == read("ours.tar"), "{from}");
    }

    // A registry gets what it has not: the changed step's layer, a configuration and a manifest.
    let registry = Registry::with(&w, "", "");
    let image = format!("{}/team/app:v1", registry.address);
    w.pocker(&["push", "ours", &image]).ok();
    let before = blobs(&w);
    pocker(
        &w,
        "echo second >/srv/note; /bin/busybox touch -d @2 /srv/note /srv",
    );
    w.pocker(&["push", "ours", &image]).ok();
    assert_eq!(blobs(&w).difference(&before).count(), 3);
    w.pocker(&["pull", &image, "pulled"]).ok();
    assert_eq!(w.pocker(&["cat", "pulled:/srv/note"]).ok().out, "second\n");
}

/// A name that means something else in a layer is refused before anything is written.
#[test]
fn what_no_layer_can_hold_is_refused() {
    let w = World::new();
    w.create("odd", "EXEC mkdir /d; echo x >/d/.wh.x\nRUN true\n")
        .ok();
    let args = ["export", "odd", "--format", "oci", "-o", "x.tar"];
    w.pocker(&args)
        .fails(&["d/.wh.x", "hint: ", "--format tar"]);
    assert!(!w.path("x.tar").exists());
    w.pocker(&["export", "odd", "-o", "x.tar"]).ok();
    w.pocker(&["export", "odd", "--squash", "-o", "y.tar"])
        .fails(&["has layers", "--format oci"]);
}

/// What an image says that has no meaning here comes out of it as it went in.
#[test]
fn labels_and_the_like_go_through() {
    let w = World::new();
    make(&w.path("root"));
    pack(&w.path("root"), &w.path("root.tar"));
    let container = buildah(&w, &["from", "scratch"]);
    let tar = w.path("root.tar").display().to_string();
    buildah(&w, &["add", &container, &tar, "/"]);
    let said = [
        "--label",
        "org.example.note=a \"b\"",
        "--port",
        "80/tcp",
        "--port",
        "53/udp",
        "--stop-signal",
        "SIGQUIT",
        "--healthcheck",
        "CMD /bin/true",
        "--healthcheck-interval",
        "9s",
        "--cmd",
        "/bin/true",
    ];
    buildah(&w, &[&["config"], &said[..], &[&container]].concat());
    // Health checks are docker's alone.
    buildah(&w, &["commit", "--format", "docker", &container, "image"]);
    buildah(&w, &["push", "image", "docker-archive:saved.tar:made:v1"]);
    buildah(&w, &["rm", "--all"]);
    w.pocker(&["import", "saved.tar", "theirs"]).ok();
    let shown = w.pocker(&["inspect", "theirs"]).ok().out;
    for text in [
        "org.example.note",
        "80/tcp",
        "53/udp",
        "SIGQUIT",
        "9000000000",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    w.write("P", "FROM theirs\nRUN true\n");
    w.pocker(&["create", "-f", "P", "built"]).ok();
    for name in ["theirs", "built"] {
        w.pocker(&["export", name, "--format", "oci", "-o", &format!("{name}/")])
            .ok();
        let index = json(&w.path(name).join("index.json"));
        let blob = |of: &serde_json::Value| {
            let digest = of["digest"].as_str().expect("a digest").replace(':', "/");
            json(&w.path(name).join("blobs").join(digest))
        };
        let config = &blob(&blob(&index["manifests"][0])["config"])["config"];
        assert_eq!(config["Labels"]["org.example.note"], "a \"b\"", "{name}");
        let ports = serde_json::json!({"53/udp": {}, "80/tcp": {}});
        assert_eq!(config["ExposedPorts"], ports, "{name}");
        assert_eq!(config["StopSignal"], "SIGQUIT", "{name}");
        assert_eq!(
            config["Healthcheck"]["Interval"], 9_000_000_000u64,
            "{name}"
        );
    }
}
