//! Handles that are not the server's, or no longer.

use super::server::{HERE, Server, file, mount};
use super::wire::*;

const STALE: u32 = 70;
const XDEV: u32 = 18;
const BADHANDLE: u32 = 10_001;

#[test]
fn a_handle_with_any_bit_changed_is_bad() {
    let server = Server::start();
    let mut wire = Wire::tcp(HERE);
    let top = mount(&mut wire, &server.tree().export.path);
    let fh = file(&mut wire, &top, "file", 10);
    let getattr = |wire: &mut Wire, fh: &[u8]| wire.nfs(1, &Xdr::new().opaque(fh));
    for bit in 0..fh.len() * 8 {
        let mut other = fh.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        // RFC 1813 §2.6: BADHANDLE fails its checks.
        assert_eq!(getattr(&mut wire, &other).status(), BADHANDLE, "bit {bit}");
    }
    for len in 1..=64 {
        let mut other = fh.clone();
        other.resize(len, 0);
        let want = if len == fh.len() { 0 } else { BADHANDLE };
        assert_eq!(getattr(&mut wire, &other).status(), want, "{len} bytes");
    }
    // RFC 1813 §2.4: NFS3_FHSIZE is 64, and a handle is not empty.
    for len in [0, 65, 128, 4096] {
        let said = getattr(&mut wire, &vec![1; len]);
        assert_eq!(said, Said::GarbageArgs, "{len} bytes");
    }
    // Every procedure looks at its handle.
    let bad = [&fh[..fh.len() - 1], &[!fh[fh.len() - 1]]].concat();
    let at = |xdr: Xdr| xdr.opaque(&bad);
    let x = Xdr::new;
    for (procedure, args) in [
        (2, at(x()).unchanged().u32(0)),
        (3, at(x()).opaque(b"a")),
        (4, at(x()).u32(63)),
        (5, at(x())),
        (6, at(x()).u64(0).u32(1)),
        (7, at(x()).u64(0).words(&[1, 0]).opaque(b"x")),
        (8, at(x()).opaque(b"a").u32(0).unchanged()),
        (9, at(x()).opaque(b"a").unchanged()),
        (10, at(x()).opaque(b"a").unchanged().opaque(b"b")),
        (11, at(x()).opaque(b"a").u32(7).unchanged()),
        (12, at(x()).opaque(b"a")),
        (13, at(x()).opaque(b"a")),
        (14, at(x()).opaque(b"file").opaque(&top).opaque(b"b")),
        (14, at(x().opaque(&top).opaque(b"file")).opaque(b"b")),
        (15, at(x()).opaque(&top).opaque(b"b")),
        (15, at(x().opaque(&fh)).opaque(b"b")),
        (16, at(x()).u64(0).u64(0).u32(4096)),
        (17, at(x()).u64(0).u64(0).words(&[4096, 4096])),
        (18, at(x())),
        (19, at(x())),
        (20, at(x())),
        (21, at(x()).u64(0).u32(0)),
    ] {
        let status = wire.nfs(procedure, &args).status();
        assert_eq!(status, BADHANDLE, "procedure {procedure}");
    }
    let args = Xdr::new().opaque(&top).opaque(b"file");
    assert_eq!(wire.nfs(3, &args).status(), 0, "nothing was moved");
}

#[test]
fn handles_of_other_exports_do_not_mix_and_those_of_a_dropped_tree_are_stale() {
    let server = Server::start();
    let mut wire = Wire::tcp(HERE);
    let (one, other) = (server.tree(), server.tree());
    let top = mount(&mut wire, &one.export.path);
    let fh = file(&mut wire, &top, "file", 10);
    let elsewhere = mount(&mut wire, &other.export.path);
    let view = mount(&mut wire, "/chroot");
    for foreign in [&elsewhere, &view] {
        // RFC 1813 §3.3.14, §3.3.15.
        let args = Xdr::new().opaque(&top).opaque(b"file");
        let args = args.opaque(foreign).opaque(b"moved");
        let renamed = wire.nfs(14, &args).status();
        let args = Xdr::new().opaque(&fh).opaque(foreign).opaque(b"hard");
        let linked = wire.nfs(15, &args).status();
        // The view is read-only, which may be seen first.
        let want: &[u32] = if *foreign == view {
            &[XDEV, 30]
        } else {
            &[XDEV]
        };
        assert!(want.contains(&renamed), "RENAME: {renamed}");
        assert!(want.contains(&linked), "LINK: {linked}");
    }
    // A secret of one export opens no other.
    let (path, secret) = one.export.path.rsplit_once('/').expect("a secret");
    let theirs = other.export.path.rsplit_once('/').expect("a secret").1;
    let mut close = secret.to_owned();
    let last = if close.pop() == Some('0') { '1' } else { '0' };
    close.push(last);
    for wrong in [
        theirs,
        &close,
        "",
        &secret[1..],
        &format!("{secret}0"),
        &secret.to_uppercase(),
    ] {
        let path = Xdr::new().opaque(format!("{path}/{wrong}").as_bytes());
        let said = wire.ask((MOUNT, 3, 1), &root(), &path);
        // RFC 1813 §5.2.1: MNT3ERR_NOENT or MNT3ERR_ACCES.
        assert!(matches!(said.status(), 2 | 13), "{said:?}");
    }
    server.control.drop_tree(one.id).expect("dropped");
    for fh in [&top, &fh] {
        let x = || Xdr::new().opaque(fh);
        for (procedure, args) in [
            (1, x()),
            (2, x().unchanged().u32(0)),
            (3, x().opaque(b"file")),
            (4, x().u32(1)),
            (6, x().u64(0).u32(10)),
            (7, x().u64(0).words(&[1, 0]).opaque(b"x")),
            (8, x().opaque(b"new").u32(0).unchanged()),
            (12, x().opaque(b"file")),
            (14, x().opaque(b"file").opaque(fh).opaque(b"b")),
            (16, x().u64(0).u64(0).u32(4096)),
            (18, x()),
            (19, x()),
            (20, x()),
            (21, x().u64(0).u32(0)),
        ] {
            let status = wire.nfs(procedure, &args).status();
            assert_eq!(status, STALE, "procedure {procedure} (RFC 1813 §2.6)");
        }
    }
    let args = Xdr::new().opaque(&elsewhere);
    assert_eq!(wire.nfs(1, &args).status(), 0, "the other tree is there");
}
