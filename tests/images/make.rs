//! Archives and images made by hand, good and bad.

use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::Path;

pub struct Tar(pub tar::Builder<Vec<u8>>);

pub fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

impl Tar {
    pub fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    pub fn entry(mut self, kind: tar::EntryType, path: &str, link: &str, data: &[u8]) -> Tar {
        let mut header = header(kind, data.len() as u64);
        // As it is, whatever the library would say to it.
        let ustar = header.as_ustar_mut().expect("ustar");
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            let (major, minor) = link.split_once(':').expect("major:minor");
            header.as_ustar_mut().expect("ustar").linkname.fill(0);
            header
                .set_device_major(major.parse().expect("a number"))
                .expect("set");
            header
                .set_device_minor(minor.parse().expect("a number"))
                .expect("set");
        }
        header.set_cksum();
        self.0.append(&header, data).expect("added");
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Tar {
        self.entry(tar::EntryType::Regular, path, "", data)
    }

    pub fn dir(self, path: &str) -> Tar {
        self.entry(tar::EntryType::Directory, path, "", b"")
    }

    pub fn end(self) -> Vec<u8> {
        self.0.into_inner().expect("finished")
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("written");
    out.finish().expect("finished")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("packed")
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 0);
    out.write_all(bytes).expect("written");
    out.finish().expect("finished")
}

pub fn digits(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A layout whose parts can be spoiled before it is written.
pub struct Layout {
    pub config: serde_json::Value,
    /// As they are kept, and the plain bytes that they should be of.
    pub layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub tag: &'static str,
}

impl Layout {
    pub fn new(layers: &[Vec<u8>]) -> Layout {
        Layout {
            config: serde_json::json!({
                "architecture": "amd64", "os": "linux",
                // As docker writes what is not there.
                "config": { "Cmd": null, "Entrypoint": null, "Volumes": null, "Labels": null, "User": "" },
            }),
            layers: layers.iter().map(|l| (gzip(l), l.clone())).collect(),
            tag: "v1",
        }
    }

    pub fn config_bytes(&self) -> Vec<u8> {
        let mut config = self.config.clone();
        if config.get("rootfs").is_none() {
            let ids = self
                .layers
                .iter()
                .map(|(_, l)| format!("sha256:{}", digits(l)));
            config["rootfs"] =
                serde_json::json!({"type": "layers", "diff_ids": ids.collect::<Vec<_>>()});
        }
        serde_json::to_vec(&config).expect("JSON")
    }

    /// Name and bytes of each file.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", digits(bytes)), bytes.to_vec());
        let of = |kind: &str, bytes: &[u8]| {
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": format!("sha256:{}", digits(bytes)), "size": bytes.len(),
            })
        };
        let config = self.config_bytes();
        let layers = self.layers.iter().map(|(l, _)| of("layer.v1.tar+gzip", l));
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "config": of("config.v1+json", &config),
            "layers": layers.collect::<Vec<_>>(),
        }))
        .expect("JSON");
        let mut entry = of("manifest.v1+json", &manifest);
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": self.tag});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            (
                "index.json".to_owned(),
                serde_json::to_vec(&index).expect("JSON"),
            ),
            blob(&config),
            blob(&manifest),
        ];
        files.extend(self.layers.iter().map(|(l, _)| blob(l)));
        files
    }

    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir.join("blobs/sha256")).expect("mkdir");
        for (name, bytes) in self.files() {
            std::fs::write(dir.join(name), bytes).expect("write");
        }
    }

    pub fn tar(&self) -> Vec<u8> {
        let files = self.files();
        let tar = files
            .iter()
            .fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes));
        tar.end()
    }

    /// What `docker save` wrote before it wrote layouts.
    pub fn docker(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let name = format!("{}.json", digits(&config));
        let mut tar = Tar::new();
        let mut layers = Vec::new();
        for (_, plain) in &self.layers {
            let own = digits(plain);
            tar = tar
                .dir(&format!("{own}/"))
                .file(&format!("{own}/VERSION"), b"1.0");
            // The archive's name for it is a link to where it lies, as where two images share it.
            tar = tar.file(&format!("{own}.tar"), plain);
            let link = format!("../{own}.tar");
            tar = tar.entry(
                tar::EntryType::Symlink,
                &format!("{own}/layer.tar"),
                &link,
                b"",
            );
            layers.push(format!("{own}/layer.tar"));
        }
        let list = serde_json::json!([{"Config": name, "RepoTags": [format!("made:{}", self.tag)], "Layers": layers}]);
        tar.file(&name, &config)
            .file("manifest.json", &serde_json::to_vec(&list).expect("JSON"))
            .end()
    }
}
