//! Images of several layers.

use crate::make::{Layout, Tar};
use crate::support::World;

/// What each layer adds, changes and hides, opaque directories among it.
fn layered() -> Layout {
    let base = Tar::new()
        .dir("etc/")
        .file("etc/kept", b"kept")
        .file("etc/changed", b"old")
        .file("etc/gone", b"gone")
        .dir("opt/")
        .file("opt/lower", b"hidden")
        .file("opt/sub/lower", b"hidden")
        .entry(tar::EntryType::Link, "etc/also", "etc/kept", b"")
        .end();
    let above = Tar::new()
        .file("etc/changed", b"new")
        .file("etc/.wh.gone", b"")
        .file("opt/sub/upper", b"upper")
        .file("opt/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"")
        .entry(tar::EntryType::Link, "opt/linked", "etc/kept", b"")
        .end();
    Layout::new(&[base, above, Tar::new().end(), Vec::new()])
}

#[test]
fn layers_lie_on_one_another_in_a_layout_and_in_what_docker_saved() {
    let w = World::new();
    let layout = layered();
    layout.write(&w.path("layout"));
    std::fs::write(w.path("oci.tar"), layout.tar()).expect("write");
    std::fs::write(w.path("docker.tar"), layout.docker()).expect("write");
    std::fs::write(w.path("docker.tgz"), crate::make::gzip(&layout.docker())).expect("write");
    for from in ["layout", "oci.tar", "docker.tar", "docker.tgz"] {
        w.pocker(&["import", "--force", from, "a"]).ok();
        w.pocker(&["export", "a", "-o", "a.tar"]).ok();
        let bytes = std::fs::read(w.path("a.tar")).expect("tar");
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().expect("tar") {
            let mut entry = entry.expect("tar");
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
            let link = entry
                .link_name()
                .expect("a path")
                .map(|l| format!(" -> {}", l.display()));
            let path = entry.path().expect("a path").display().to_string();
            seen.push(
                format!("{path}{} {text}", link.unwrap_or_default())
                    .trim()
                    .to_owned(),
            );
        }
        let wanted = [
            "./",
            "etc/",
            "etc/also kept",
            "etc/changed new",
            "etc/kept -> etc/also",
            "opt/",
            "opt/linked -> etc/also",
            "opt/sub/",
            "opt/sub/upper upper",
        ];
        assert_eq!(seen, wanted, "{from}");
    }
    let bad = w.pocker(&["import", "--tag", "nope", "docker.tar", "x"]);
    bad.fails(&["no image with the tag nope", "made:v1"]);
    w.pocker(&["import", "--tag", "v1", "docker.tar", "x"]).ok();
}

/// For several machines: the one for this host is taken.
#[test]
fn an_index_of_platforms_gives_this_hosts() {
    let w = World::new();
    let layout = layered();
    let dir = w.path("layout");
    layout.write(&dir);
    let read = |name: &str| std::fs::read(dir.join(name)).expect("read");
    let mut index: serde_json::Value = serde_json::from_slice(&read("index.json")).expect("JSON");
    let mut own = index["manifests"][0].clone();
    let nested = |platforms: &[(&str, &serde_json::Value)]| {
        let entries = platforms.iter().map(|(arch, of)| {
            let mut entry = (*of).clone();
            entry["platform"] = serde_json::json!({"os": "linux", "architecture": arch});
            entry
        });
        serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "manifests": entries.collect::<Vec<_>>(),
        }))
        .expect("JSON")
    };
    let mut put = |bytes: &[u8]| {
        let digits = crate::make::digits(bytes);
        std::fs::write(dir.join("blobs/sha256").join(&digits), bytes).expect("write");
        index["manifests"] = serde_json::json!([{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": format!("sha256:{digits}"), "size": bytes.len(),
        }]);
        std::fs::write(dir.join("index.json"), index.to_string()).expect("write");
    };
    own["annotations"] = serde_json::json!(null);
    let absent = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
    });
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    put(&nested(&[("s390x", &absent), (here, &own)]));
    w.pocker(&["import", "layout", "a"]).ok();
    put(&nested(&[("s390x", &absent)]));
    w.pocker(&["import", "layout", "b"])
        .fails(&["nothing for linux/", "made for: linux/s390x"]);
}
