//! Files past 2^32 and their holes: written, read and cut through both ways in, sealed, and
//! exported as an archive.

use crate::support::server::Server;
use crate::wire::{ROOT, Wire, fuse};
use pocker_nfs::client::ClientError;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::Stable;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

const FOUR_GIB: u64 = 1 << 32;
const TIB: u64 = 1 << 40;

#[test]
fn files_past_four_gibibytes() {
    let server = Server::start();
    let tree = server.clone_of(None);
    let wire = Wire::to(&server);
    let top = wire.mount(&tree.export.path);
    let f = wire.create(&top, "large").expect("CREATE");
    let (c, me) = (&wire.client, &ROOT);
    let write = |at, data: &'static [u8]| {
        let done = wire.run(c.write(me, &f, at, data, Stable::Unstable))?;
        assert_eq!(done.count as usize, data.len());
        Ok::<_, ClientError>(())
    };
    let read = |at, count| wire.run(c.read(me, &f, at, count)).expect("READ").data;
    let resize = |size| {
        let new = sattr3 {
            size: set_size3::size(size),
            ..sattr3::default()
        };
        wire.run(c.setattr(me, &f, &new, None)).map(drop)
    };
    write(FOUR_GIB - 3, b"across").expect("WRITE");
    write(TIB, b"end").expect("WRITE");
    assert_eq!(read(FOUR_GIB - 4, 8), b"\0across\0");
    assert_eq!(read(TIB - 1, 100), b"\0end");
    let attr = wire.attr(&f);
    assert_eq!(attr.size, TIB + 3);
    assert!(attr.used < 1 << 20, "{} bytes used", attr.used);
    resize(FOUR_GIB + 1).expect("SETATTR");
    assert_eq!(read(FOUR_GIB - 3, 100), b"acro");

    // FSINFO names the limit, and past it is FBIG.
    let limit = wire.run(c.fsinfo(me, &top)).expect("FSINFO").max_file_size;
    assert_eq!(limit, pocker_store::work::MAX_FILE);
    for refused in [
        write(limit, b"x"),
        resize(limit + 1),
        write(u64::MAX - 4, b"x"),
    ] {
        let status = match refused {
            Err(ClientError::Status(status)) => status as u32,
            other => panic!("{other:?}"),
        };
        assert_eq!(status, nfsstat3::NFS3ERR_FBIG as u32);
    }
    assert_eq!(wire.attr(&f).size, FOUR_GIB + 1);

    // The same through a mount: what it wrote is read over the wire, and the other way round.
    let at = server.world.path("mnt");
    let mounted = fuse(&server, &tree, &at);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(at.join("large"));
    let file = file.expect("open");
    let mut data = [0; 4];
    file.read_exact_at(&mut data, FOUR_GIB - 3).expect("read");
    assert_eq!(&data, b"acro");
    file.write_all_at(b"mount", FOUR_GIB * 2).expect("write");
    assert_eq!(read(FOUR_GIB * 2, 100), b"mount");
    let meta = file.metadata().expect("stat");
    assert_eq!(meta.len(), FOUR_GIB * 2 + 5);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    file.set_len(TIB).expect("grow");
    file.set_len(FOUR_GIB + 3).expect("cut");
    let too_large = file.set_len(limit + 1).expect_err("past the limit");
    assert_eq!(
        too_large.raw_os_error(),
        Some(nix::errno::Errno::EFBIG as i32)
    );
    let sparse = File::create(at.join("sparse")).expect("create");
    sparse.set_len(TIB).expect("a terabyte of nothing");
    assert_eq!(sparse.metadata().expect("stat").blocks(), 0);
    drop((file, sparse));
    std::fs::remove_file(at.join("sparse")).expect("removed");
    mounted.unmount().expect("unmounted");

    // Sealed, holes and all, and exported: the archive has every byte of it.
    let snapshot = server.seal(tree.id);
    let clone = server.clone_of(Some(&snapshot));
    let f = wire.find(&wire.mount(&clone.export.path), "large");
    let attr = wire.attr(&f);
    assert_eq!(attr.size, FOUR_GIB + 3);
    assert!(attr.used < 1 << 20, "{} bytes used", attr.used);
    let tail = wire.run(c.read(me, &f, FOUR_GIB - 3, 100)).expect("READ");
    assert_eq!(tail.data, b"acro\0\0");
    let (mut out, mut archive) = pipe();
    let looked = std::thread::spawn(move || last_of(&mut archive));
    let sent = server.ask(|client| client.export_tar(&snapshot, &mut out));
    drop(out);
    let (size, tail) = looked.join().expect("read");
    assert!(sent.expect("exported") > FOUR_GIB);
    assert_eq!((size, &tail[..]), (FOUR_GIB + 3, &b"acro\0\0"[..]));
}

fn pipe() -> (impl Write, impl Read + Send) {
    let (read, write) = std::io::pipe().expect("a pipe");
    (write, read)
}

/// The size of the archive's file, and its bytes from just before 2^32 on.
fn last_of(archive: &mut impl Read) -> (u64, Vec<u8>) {
    let mut archive = tar::Archive::new(archive);
    let mut found = None;
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        if entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        let size = entry.size();
        let skipped = std::io::copy(&mut (&mut entry).take(FOUR_GIB - 3), &mut std::io::sink());
        assert_eq!(skipped.expect("read"), FOUR_GIB - 3);
        let mut tail = Vec::new();
        entry.read_to_end(&mut tail).expect("read");
        found = Some((size, tail));
    }
    found.expect("a file")
}
