//! Every call of every program, cut after each of its bytes and with every length in it a lie:
//! GARBAGE_ARGS (RFC 5531 §9), nothing done, and the connection lives.

use super::server::{HERE, Server, file, made, mount};
use super::wire::*;
use std::collections::BTreeMap;

type Calls = Vec<((u32, u32, u32), Xdr)>;

/// One good call of each NFS procedure with arguments.
fn nfs(top: &[u8], file: &[u8], link: &[u8]) -> Calls {
    let x = Xdr::new;
    let at = |fh: &[u8], name: &[u8]| x().opaque(fh).opaque(name);
    let sattr = |xdr: Xdr| xdr.words(&[1, 0o644, 1, 0, 1, 0, 1, 0, 9, 1, 2, 5, 6]);
    let calls = [
        (1, x().opaque(file)),
        (2, sattr(x().opaque(file)).words(&[1, 5, 6])),
        (3, at(top, b"file")),
        (4, x().opaque(file).u32(0x3f)),
        (5, x().opaque(link)),
        (6, x().opaque(file).u64(1).u32(10)),
        (7, x().opaque(file).u64(0).words(&[5, 2]).opaque(b"hello")),
        (8, sattr(at(top, b"one").u32(0))),
        (8, at(top, b"two").words(&[2, 3, 4])),
        (9, sattr(at(top, b"dir"))),
        (10, sattr(at(top, b"symlink")).opaque(b"target")),
        (11, sattr(at(top, b"device").u32(4)).words(&[1, 3])),
        (11, sattr(at(top, b"fifo").u32(7))),
        (12, at(top, b"one")),
        (13, at(top, b"dir")),
        (14, at(top, b"two").opaque(top).opaque(b"three")),
        (15, x().opaque(file).opaque(top).opaque(b"hard")),
        (16, x().opaque(top).u64(0).u64(0).u32(4096)),
        (17, x().opaque(top).u64(0).u64(0).words(&[512, 4096])),
        (18, x().opaque(top)),
        (19, x().opaque(top)),
        (20, x().opaque(top)),
        (21, x().opaque(file).u64(0).u32(0)),
    ];
    calls
        .into_iter()
        .map(|(p, args)| ((NFS, 3, p), args))
        .collect()
}

fn others(path: &str, file: &[u8]) -> (Calls, Calls) {
    let path = Xdr::new().opaque(path.as_bytes());
    let mounts = vec![
        ((MOUNT, 3, 1), path.clone()),
        ((MOUNT, 3, 3), path.clone()),
        ((MOUNT, 1, 3), path),
    ];
    let xattr = Xdr::new().opaque(file).opaque(b"user.name");
    let own = vec![
        ((POCKER, 1, 4), xattr.clone().opaque(b"value").u32(0)),
        ((POCKER, 1, 2), xattr.clone()),
        ((POCKER, 1, 3), Xdr::new().opaque(file)),
        ((POCKER, 1, 5), xattr),
        ((POCKER, 1, 1), Xdr::new().u64(1).u64(2)),
    ];
    (mounts, own)
}

fn portmap() -> Calls {
    let mapping = Xdr::new().words(&[NFS, 3, 6, 0]);
    [1, 2, 3]
        .map(|p| ((PORTMAP, 2, p), mapping.clone()))
        .to_vec()
}

/// Cuts each call everywhere, then makes it; how many were cut.
fn cut(wire: &mut Wire, calls: &Calls) -> usize {
    let mut cuts = 0;
    for (what, args) in calls {
        let whole = call(9, *what, &root(), args);
        for len in 0..whole.len() {
            let xid = wire.xid();
            let mut part = whole[..len].to_vec();
            let stamp = xid.to_be_bytes();
            let n = len.min(4);
            part[..n].copy_from_slice(&stamp[..n]);
            wire.send(&marked(&part));
            if len < 8 {
                // Neither an xid nor a call: nothing to answer.
                continue;
            }
            assert_eq!(wire.reply(xid), Said::GarbageArgs, "{what:?} cut at {len}");
            cuts += 1;
        }
        lie(wire, *what, args);
        let said = wire.ask(*what, &root(), args);
        assert!(matches!(said, Said::Success(_)), "{what:?}: {said:?}");
    }
    cuts
}

/// Each length of the arguments as what it is not.
fn lie(wire: &mut Wire, what: (u32, u32, u32), args: &Xdr) {
    for at in &args.1 {
        let rest = (args.0.len() - at - 4) as u32;
        for length in [
            rest + 1,
            rest + 4,
            1 << 16,
            1 << 28,
            LAST - 1,
            LAST,
            u32::MAX - 3,
            u32::MAX,
        ] {
            let mut args = args.clone();
            args.0[*at..at + 4].copy_from_slice(&length.to_be_bytes());
            let said = wire.ask(what, &root(), &args);
            assert_eq!(said, Said::GarbageArgs, "{what:?}: {length} at {at}");
        }
    }
}

/// The names and sizes of a directory (RFC 1813 §3.3.17).
fn listing(wire: &mut Wire, top: &[u8]) -> BTreeMap<Vec<u8>, u64> {
    let args = Xdr::new().opaque(top).u64(0).u64(0);
    let Said::Success(all) = wire.nfs(17, &args.words(&[1 << 16, 1 << 16])) else {
        panic!("no listing")
    };
    let mut names = BTreeMap::new();
    let mut at = 1 + 1 + 21 + 2;
    while word(&all, at) == 1 {
        let len = word(&all, at + 3) as usize;
        let name = all[(at + 4) * 4..][..len].to_vec();
        at += 4 + len.div_ceil(4) + 2;
        assert_eq!(word(&all, at), 1, "attributes");
        let size = u64::from(word(&all, at + 6)) << 32 | u64::from(word(&all, at + 7));
        names.insert(name, size);
        at += 1 + 21 + 1;
        at += 1 + (word(&all, at) as usize).div_ceil(4);
    }
    names
}

#[test]
fn every_truncation_and_every_false_length_is_refused_and_the_connection_lives() {
    let server = Server::start();
    for unix in [true, false] {
        let mut wire = match unix {
            true => server.unix(),
            false => Wire::tcp(HERE),
        };
        let tree = server.tree();
        let top = mount(&mut wire, &tree.export.path);
        let file = file(&mut wire, &top, "file", 100);
        let args = Xdr::new().opaque(&top).opaque(b"link").unchanged();
        let link = made(&mut wire, 10, &args.opaque(b"to"));
        let before = listing(&mut wire, &top);
        let calls = nfs(&top, &file, &link);
        let mut cuts = 0;
        for one in &calls {
            // A call that was cut left no trace, so the same can be made whole.
            cuts += cut(&mut wire, &vec![one.clone()]);
        }
        let (mounts, own) = others(&tree.export.path, &file);
        cuts += cut(&mut wire, &mounts);
        if unix {
            cuts += cut(&mut wire, &own);
        }
        assert!(cuts > 3000, "{cuts} were cut");
        let after = listing(&mut wire, &top);
        let new: Vec<_> = after.keys().filter(|n| !before.contains_key(*n)).collect();
        let made: [&[u8]; 5] = [b"device", b"fifo", b"hard", b"symlink", b"three"];
        assert_eq!(new, made.map(<[u8]>::to_vec).iter().collect::<Vec<_>>());
        wire.lives();
    }
    let mut wire = Wire::tcp_to(HERE, 111);
    assert!(cut(&mut wire, &portmap()) > 100);
    assert!(matches!(
        wire.ask((PORTMAP, 2, 4), &root(), &Xdr::new()),
        Said::Success(_)
    ));
}
