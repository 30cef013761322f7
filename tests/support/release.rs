//! A release of OpenBSD as its mirrors have it, of a few files: sets, their signed list, and its key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::Path;

/// What an entry of a set is; its path begins as those of the real ones do.
pub enum What<'a> {
    Dir,
    File(&'a [u8]),
    Link(&'a str),
    Hard(&'a str),
}

pub struct Entry<'a>(pub &'a str, pub u32, pub (u64, u64), pub What<'a>);

/// A set of these.
pub fn set(entries: &[Entry<'_>]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for Entry(path, mode, (uid, gid), what) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*gid);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        // By hand: `./` is dropped from the paths that are given to the builder.
        let mut raw = |header: &mut tar::Header, kind, bytes: &[u8]| {
            let name = &mut header.as_mut_bytes()[..100];
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append(header, bytes).expect("an entry");
        };
        match what {
            What::Dir => raw(&mut header, tar::EntryType::Directory, b""),
            What::File(bytes) => raw(&mut header, tar::EntryType::Regular, bytes),
            What::Link(to) => {
                header.set_link_name(to).expect("a target");
                raw(&mut header, tar::EntryType::Symlink, b"");
            }
            What::Hard(to) => {
                header.set_link_name(to).expect("a target");
                raw(&mut header, tar::EntryType::Link, b"");
            }
        }
    }
    tar.into_inner().expect("a tar").finish().expect("a gzip")
}

/// The three sets of a small release, alike in kind to the real ones.
pub fn sets() -> Vec<(&'static str, Vec<u8>)> {
    let makedev = b"#!/bin/sh -\nstd)\n\tM tty\tc 1 0 666\n\tM mem\tc 2 0 640 kmem\n\tM null\tc 2 2 666\n;;\n";
    let etc = set(&[
        Entry("./etc", 0o755, (0, 0), What::Dir),
        Entry(
            "./etc/hosts",
            0o644,
            (0, 0),
            What::File(b"127.0.0.1 localhost\n"),
        ),
        Entry(
            "./etc/master.passwd",
            0o600,
            (0, 0),
            What::File(b"root::0:0::0:0::/root:/bin/ksh\n"),
        ),
    ]);
    let base = set(&[
        Entry(".", 0o755, (0, 0), What::Dir),
        Entry("./bin", 0o755, (0, 0), What::Dir),
        Entry("./bin/ksh", 0o555, (0, 7), What::File(b"\x7fELF ksh")),
        Entry("./bin/sh", 0o555, (0, 7), What::Hard("./bin/ksh")),
        Entry("./dev", 0o755, (0, 0), What::Dir),
        Entry("./dev/MAKEDEV", 0o555, (0, 0), What::File(makedev)),
        Entry("./etc", 0o755, (0, 0), What::Dir),
        Entry("./usr", 0o755, (0, 0), What::Dir),
        Entry("./usr/bin", 0o755, (0, 0), What::Dir),
        Entry("./usr/bin/su", 0o4555, (0, 0), What::File(b"su")),
        Entry("./usr/games", 0o755, (0, 7), What::Dir),
        Entry("./usr/bin/ctags", 0o777, (0, 0), What::Link("../games/x")),
        Entry("./var", 0o755, (0, 0), What::Dir),
        Entry("./var/sysmerge", 0o755, (0, 0), What::Dir),
        Entry("./var/sysmerge/etc.tgz", 0o644, (0, 0), What::File(&etc)),
    ]);
    let comp = set(&[Entry("./usr/bin/cc", 0o555, (0, 0), What::File(b"cc"))]);
    let man = set(&[Entry(
        "./usr/share/man/man1/cc.1",
        0o444,
        (0, 0),
        What::File(b".Dt CC 1\n"),
    )]);
    vec![("base", base), ("comp", comp), ("man", man)]
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key")
}

fn numbered(seed: u8, bytes: &[u8]) -> String {
    STANDARD.encode([b"Ed", &[seed; 8][..], bytes].concat())
}

/// signify's public key of a seed.
pub fn public(seed: u8) -> String {
    let key = numbered(seed, key(seed).public_key().as_ref());
    format!("untrusted comment: openbsd-78-base public key\n{key}\n")
}

/// What `signify -Se` writes.
pub fn signed(seed: u8, text: &str) -> String {
    let signature = numbered(seed, key(seed).sign(text.as_bytes()).as_ref());
    format!("untrusted comment: verify with openbsd-78-base.pub\n{signature}\n{text}")
}

pub fn list(sets: &[(&str, Vec<u8>)]) -> String {
    let line = |(name, bytes): &(&str, Vec<u8>)| {
        let digest = hex::encode(Sha256::digest(bytes));
        format!("SHA256 ({name}78.tgz) = {digest}\n")
    };
    sets.iter().map(line).collect()
}

/// `DIR/7.8/amd64` and `DIR/base.pub`, signed by the key of seed 1.
pub fn write(dir: &Path, sets: &[(&str, Vec<u8>)]) {
    let here = dir.join("7.8/amd64");
    std::fs::create_dir_all(&here).expect("mkdir");
    for (name, bytes) in sets {
        std::fs::write(here.join(format!("{name}78.tgz")), bytes).expect("write");
    }
    std::fs::write(here.join("SHA256.sig"), signed(1, &list(sets))).expect("write");
    std::fs::write(dir.join("base.pub"), public(1)).expect("write");
}

/// A mirror of `dir` that answers `GET` and closes; what it sends of `cut` is only the first half.
pub fn mirror(dir: &Path, cut: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match std::io::Read::read(&mut stream, &mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => break,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head
                .split(' ')
                .nth(1)
                .unwrap_or("/")
                .trim_start_matches('/');
            let answer = match std::fs::read(dir.join(path)) {
                Ok(bytes) => {
                    let send = match !cut.is_empty() && path.ends_with(cut) {
                        true => &bytes[..bytes.len() / 2],
                        false => &bytes[..],
                    };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        bytes.len()
                    );
                    [head.as_bytes(), send].concat()
                }
                Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            };
            let _ = stream.write_all(&answer);
        }
    });
    url
}
