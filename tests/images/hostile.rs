//! Archives and images that are broken, or made to do harm: one clear error each, nothing that can be
//! seen, and a whole one is taken after it.

use crate::make::{Layout, Tar, gzip, xz, zstd};
use crate::support::World;
use tar::EntryType as T;

fn good() -> Vec<u8> {
    // Enough that a cut is inside of it.
    let data: Vec<u8> = (0..60_000u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    Tar::new()
        .dir("etc/")
        .file("etc/data", &data)
        .file("etc/more", b"more")
        .end()
}

/// Imports each, and gives what was said of it.
fn refused(w: &World, cases: Vec<(&str, Vec<u8>)>) -> String {
    let mut said = String::new();
    for (name, bytes) in cases {
        std::fs::write(w.path("x"), bytes).expect("write");
        let done = w
            .pocker(&["import", "x", "a"])
            .fails(&["error: ", "hint: "]);
        assert_eq!(done.err.matches("error: ").count(), 1, "{}", done.err);
        said.push_str(&format!("{name}\n{}\n", done.err));
    }
    nothing_is_kept(w);
    std::fs::write(w.path("x"), good()).expect("write");
    w.pocker(&["import", "x", "a"]).ok();
    w.pocker(&["rm", "a"]).ok();
    said
}

fn nothing_is_kept(w: &World) {
    let listed = w.pocker(&["ls", "--json"]).ok().out;
    assert_eq!(listed.trim(), "[]");
    let gc = w.pocker(&["gc", "--json"]).ok().out;
    assert!(gc.contains("\"steps\": 0"), "{gc}");
    let staged = std::fs::read_dir(w.path("store/staging/in")).expect("blobs in the making");
    assert_eq!(staged.count(), 0, "something is half-made");
}

#[test]
fn archives_that_are_cut_or_changed() {
    let w = World::new();
    // A server of its own says that it started.
    w.pocker(&["ls"]).ok();
    let whole = good();
    let mut changed = gzip(&whole);
    let middle = changed.len() / 2;
    changed[middle] ^= 0x55;
    let said = refused(
        &w,
        vec![
            ("nothing at all", Vec::new()),
            ("cut in a file", whole[..20_000].to_vec()),
            ("cut in a header", whole[..700].to_vec()),
            ("cut between two entries", whole[..512].to_vec()),
            ("gzip cut", gzip(&whole)[..10_000].to_vec()),
            ("zstd cut", zstd(&whole)[..10_000].to_vec()),
            ("xz cut", xz(&whole)[..10_000].to_vec()),
            ("gzip changed", changed),
            (
                "no archive",
                b"root:x:0:0:root:/root:/bin/bash\n".repeat(40),
            ),
            ("no archive in gzip", gzip(b"hello")),
            ("bzip2", b"BZh91AY&SY".to_vec()),
            ("zip", b"PK\x03\x04....".to_vec()),
        ],
    );
    insta::assert_snapshot!(said);
}

#[test]
fn archives_that_mean_harm() {
    let w = World::new();
    w.pocker(&["ls"]).ok();
    let mut long = Tar::new();
    let mut header = crate::make::header(T::XHeader, 1 << 40);
    header.set_cksum();
    long.0.get_mut().extend_from_slice(header.as_bytes());
    // Behind its end an archive may hold what it likes: nobody stores it, and all of it has to be read.
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    std::io::Write::write_all(&mut bomb, &good()).expect("written");
    let zeros = vec![0; 1 << 20];
    for _ in 0..1100 {
        std::io::Write::write_all(&mut bomb, &zeros).expect("written");
    }
    let said = refused(
        &w,
        vec![
            ("..", Tar::new().file("../../etc/passwd", b"x").end()),
            (".. in the middle", Tar::new().file("a/../../b", b"x").end()),
            ("absolute", Tar::new().file("/etc/passwd", b"x").end()),
            (
                "through a link",
                Tar::new()
                    .entry(T::Symlink, "a", "/etc", b"")
                    .file("a/passwd", b"x")
                    .end(),
            ),
            (
                "through a link of a link",
                Tar::new()
                    .entry(T::Symlink, "a", "b", b"")
                    .entry(T::Symlink, "b", "..", b"")
                    .file("a/x", b"x")
                    .end(),
            ),
            (
                "a hard link out",
                Tar::new().entry(T::Link, "a", "../etc/shadow", b"").end(),
            ),
            (
                "a hard link to nothing",
                Tar::new().entry(T::Link, "a", "etc/shadow", b"").end(),
            ),
            (
                "a file twice",
                Tar::new().file("a", b"1").file("./a", b"2").end(),
            ),
            (
                "a link that a file comes over",
                Tar::new()
                    .entry(T::Symlink, "a", "/etc/passwd", b"")
                    .file("a", b"x")
                    .end(),
            ),
            (
                "a disk",
                Tar::new().entry(T::Block, "dev/sda", "8:0", b"").end(),
            ),
            (
                "memory",
                Tar::new().entry(T::Char, "dev/mem", "1:1", b"").end(),
            ),
            (
                "a type nobody knows",
                Tar::new().entry(T::new(b'Z'), "a", "", b"").end(),
            ),
            ("a header of a terabyte", long.end()),
            ("a bomb", bomb.finish().expect("finished")),
        ],
    );
    insta::assert_snapshot!(said);
    // What every root has is taken, and all that somebody vouches for.
    let usual = Tar::new()
        .dir("dev/")
        .entry(T::Char, "dev/null", "1:3", b"")
        .end();
    std::fs::write(w.path("x"), usual).expect("write");
    w.pocker(&["import", "x", "a"]).ok();
    let odd = Tar::new()
        .entry(T::Block, "sda", "8:0", b"")
        .file("a", b"1")
        .file("a", b"2")
        .end();
    std::fs::write(w.path("x"), odd).expect("write");
    w.pocker(&["import", "--trusted", "x", "b"]).ok();
}

#[test]
fn images_that_are_not_what_they_say() {
    let w = World::new();
    w.pocker(&["ls"]).ok();
    let layer = good();
    let image = || Layout::new(std::slice::from_ref(&layer));
    let with = |change: &dyn Fn(&mut Layout)| {
        let mut image = image();
        change(&mut image);
        image.tar()
    };
    let without = |part: &str| {
        let files = image().files();
        let tar = files.iter().filter(|(name, _)| !name.starts_with(part));
        tar.fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes))
            .end()
    };
    let edited = |part: &str, from: &str, to: &str| {
        let edit = |name: &str, bytes: &[u8]| match name == part {
            true => String::from_utf8_lossy(bytes)
                .replace(from, to)
                .into_bytes(),
            false => bytes.to_vec(),
        };
        let files = image().files();
        let tar = files.iter().fold(Tar::new(), |tar, (name, bytes)| {
            tar.file(name, &edit(name, bytes))
        });
        tar.end()
    };
    let config = format!(
        "blobs/sha256/{}",
        crate::make::digits(&image().config_bytes())
    );
    let packed = gzip(&layer);
    let blob = format!("blobs/sha256/{}", crate::make::digits(&packed));
    let said = refused(
        &w,
        vec![
            (
                "another layer",
                with(&|i| i.layers[0].1 = b"other".to_vec()),
            ),
            ("half a layer", with(&|i| i.layers[0].0.truncate(9000))),
            (
                "a layer that is no archive",
                with(&|i| i.layers[0] = (gzip(b"hello"), b"hello".to_vec())),
            ),
            ("half an image", {
                let whole = image().files();
                let tar = whole.iter().rev();
                let tar = tar.fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes));
                tar.end()[..20_000].to_vec()
            }),
            ("no layer", without(&blob)),
            ("no configuration", without(&config)),
            ("another configuration", edited(&config, "linux", "plan9")),
            (
                "no manifest in the index",
                edited("index.json", "manifests", "other"),
            ),
            ("an index that is none", edited("index.json", "{", "[")),
            (
                "a digest that is a path",
                edited("index.json", "sha256:", "sha256:../../"),
            ),
            (
                "layers without digests",
                with(&|i| i.config["rootfs"] = serde_json::json!({"diff_ids": []})),
            ),
        ],
    );
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{64}", "DIGEST");
    settings.bind(|| insta::assert_snapshot!(said));
}
