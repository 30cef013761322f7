//! Calls that decode and ask for what cannot be: each answer as its section of RFC 1813 says.

use super::server::{HERE, Server, file, made, mount};
use super::wire::*;

const OK: u32 = 0;
const NOENT: u32 = 2;
const ACCES: u32 = 13;
const EXIST: u32 = 17;
const NOTDIR: u32 = 20;
const ISDIR: u32 = 21;
const INVAL: u32 = 22;
const FBIG: u32 = 27;
const ROFS: u32 = 30;
const NAMETOOLONG: u32 = 63;
const NOTEMPTY: u32 = 66;
const NOT_SYNC: u32 = 10_002;
const TOOSMALL: u32 = 10_005;
const BADTYPE: u32 = 10_007;
/// Stands for GARBAGE_ARGS (RFC 5531 §9): a value that the type does not have.
const GARBAGE: u32 = u32::MAX;

struct Place {
    top: Vec<u8>,
    file: Vec<u8>,
    dir: Vec<u8>,
    link: Vec<u8>,
    view: Vec<u8>,
}

/// A tree with a file of 5000 bytes, a directory that is not empty, and a symlink.
fn place(server: &Server, wire: &mut Wire) -> Place {
    let top = mount(wire, &server.tree().export.path);
    let at = |name: &[u8]| Xdr::new().opaque(&top).opaque(name);
    let dir = made(wire, 9, &at(b"dir").unchanged());
    file(wire, &dir, "inside", 1);
    let link = made(wire, 10, &at(b"link").unchanged().opaque(b"file"));
    Place {
        file: file(wire, &top, "file", 5000),
        view: mount(wire, "/chroot"),
        dir,
        link,
        top,
    }
}

fn outcome(said: &Said) -> u32 {
    match said {
        Said::GarbageArgs => GARBAGE,
        other => other.status(),
    }
}

/// The arguments of each procedure that takes a name.
fn naming(p: &Place, name: &[u8]) -> Vec<(u32, Xdr)> {
    let at = || Xdr::new().opaque(&p.top).opaque(name);
    vec![
        (3, at()),
        (8, at().u32(1).unchanged()),
        (8, at().words(&[2, 7, 7])),
        (9, at().unchanged()),
        (10, at().unchanged().opaque(b"t")),
        (11, at().u32(7).unchanged()),
        (12, at()),
        (13, at()),
        (14, at().opaque(&p.top).opaque(b"new")),
        (
            14,
            Xdr::new()
                .opaque(&p.top)
                .opaque(b"file")
                .opaque(&p.top)
                .opaque(name),
        ),
        (15, Xdr::new().opaque(&p.file).opaque(&p.top).opaque(name)),
    ]
}

#[test]
fn names_that_cannot_be_are_refused_by_every_procedure() {
    let server = Server::start();
    for unix in [false, true] {
        let mut wire = match unix {
            true => server.unix(),
            false => Wire::tcp(HERE),
        };
        let p = place(&server, &mut wire);
        // RFC 1813 §3.2, general comments on filenames.
        let names: [(&[u8], u32); 9] = [
            (b"", ACCES),
            (b"/", ACCES),
            (b"a/b", ACCES),
            (b"../file", ACCES),
            (b"a\0b", ACCES),
            (b"\0", ACCES),
            (&[b'n'; 256], NAMETOOLONG),
            (&[b'n'; 4097], NAMETOOLONG),
            (&[b'n'; 1 << 20], NAMETOOLONG),
        ];
        for (name, want) in names {
            for (procedure, args) in naming(&p, name) {
                let got = outcome(&wire.nfs(procedure, &args));
                let len = name.len();
                assert_eq!(got, want, "procedure {procedure}, a name of {len} bytes");
            }
        }
        // §3.3.3 to §3.3.15: what "." and ".." are to each.
        for (name, gone) in [(&b"."[..], INVAL), (b"..", EXIST)] {
            for (procedure, args) in naming(&p, name) {
                let want = match procedure {
                    3 => OK,
                    8..=11 => EXIST,
                    12 | 13 => gone,
                    _ => INVAL,
                };
                let got = outcome(&wire.nfs(procedure, &args));
                assert_eq!(got, want, "procedure {procedure}, {}", name.escape_ascii());
            }
        }
        // The longest name is one; so is one that is no text.
        for name in [&[b'n'; 255][..], b"\xff\xfe\n\x1b[0m"] {
            let at = || Xdr::new().opaque(&p.top).opaque(name);
            assert_eq!(wire.nfs(3, &at()).status(), NOENT);
            assert_eq!(wire.nfs(8, &at().u32(1).unchanged()).status(), OK);
            assert_eq!(wire.nfs(12, &at()).status(), OK);
        }
    }
}

struct Case {
    what: &'static str,
    rfc: &'static str,
    procedure: u32,
    args: Xdr,
    /// Any of these.
    want: &'static [u32],
}

/// Arguments of the wrong value.
// One line a case.
#[rustfmt::skip]
fn values(p: &Place) -> Vec<Case> {
    let of = |what, rfc, procedure, args, want| Case {
        what,
        rfc,
        procedure,
        args,
        want,
    };
    let x = Xdr::new;
    let file = || x().opaque(&p.file);
    let top = || x().opaque(&p.top);
    let new = |name: &[u8]| top().opaque(name);
    let rename = |from: &[u8], to: &[u8], name: &[u8]| new(from).opaque(to).opaque(name);
    let list = |cookie: u64| top().u64(cookie).u64(0);
    let write = |offset: u64, count: u32, stable: u32, data: &[u8]| {
        file().u64(offset).words(&[count, stable]).opaque(data)
    };
    let (long, end) = (vec![b't'; 1 << 20], u64::MAX);
    vec![
        of("a boolean of 2 in sattr3", "4506 §4.4", 2, file().words(&[2, 0, 0, 0, 0, 0, 0]), &[GARBAGE]),
        of("time_how 3", "1813 §2.6", 2, file().words(&[0, 0, 0, 0, 3, 0, 0]), &[GARBAGE]),
        of("a guard of 2", "1813 §3.3.2", 2, file().unchanged().u32(2), &[GARBAGE]),
        of("another ctime in the guard", "1813 §3.3.2", 2, file().unchanged().words(&[1, 1, 1]), &[NOT_SYNC]),
        of("a size of 2^64-1", "1813 §3.3.2", 2, file().words(&[0, 0, 0, 1]).u64(end).words(&[0, 0, 0]), &[FBIG, INVAL]),
        of("a size of 2^63", "1813 §3.3.2", 2, file().words(&[0, 0, 0, 1]).u64(1 << 63).words(&[0, 0, 0]), &[FBIG, INVAL]),
        of("a size for a directory", "1813 §3.3.2", 2, x().opaque(&p.dir).words(&[0, 0, 0, 1]).u64(0).words(&[0, 0, 0]), &[ISDIR, INVAL]),
        of("LOOKUP in a file", "1813 §3.3.3", 3, file().opaque(b"a"), &[NOTDIR]),
        of("LOOKUP in a symlink", "1813 §3.3.3", 3, x().opaque(&p.link).opaque(b"a"), &[NOTDIR]),
        of("READLINK of a file", "1813 §3.3.5", 5, file(), &[INVAL]),
        of("READLINK of a directory", "1813 §3.3.5", 5, top(), &[INVAL]),
        of("READ of a directory", "1813 §3.3.6", 6, top().u64(0).u32(10), &[ISDIR, INVAL]),
        of("WRITE to a directory", "1813 §3.3.7", 7, top().u64(0).words(&[1, 0]).opaque(b"x"), &[ISDIR, INVAL]),
        of("WRITE of more than it brings", "1813 §3.3.7", 7, write(0, 6, 0, b"hello"), &[GARBAGE]),
        of("WRITE of 2^32-1", "1813 §3.3.7", 7, write(0, u32::MAX, 0, b"hello"), &[GARBAGE]),
        of("WRITE of less than it brings", "1813 §3.3.7", 7, write(0, 4, 0, b"hello"), &[GARBAGE]),
        of("WRITE with stable 3", "1813 §3.3.7", 7, write(0, 5, 3, b"hello"), &[GARBAGE]),
        of("WRITE with stable 2^32-1", "1813 §3.3.7", 7, write(0, 5, u32::MAX, b"hello"), &[GARBAGE]),
        of("WRITE of nothing", "1813 §3.3.7", 7, write(0, 0, 0, b""), &[OK]),
        of("WRITE of nothing at 2^64-1", "1813 §3.3.7", 7, write(end, 0, 0, b""), &[OK, FBIG]),
        of("WRITE at 2^64-1", "1813 §3.3.7", 7, write(end, 1, 0, b"x"), &[FBIG]),
        of("WRITE at 2^64-2, over the end", "1813 §3.3.7", 7, write(end - 1, 5, 0, b"hello"), &[FBIG]),
        of("WRITE at 2^63-1", "1813 §3.3.7", 7, write((1 << 63) - 1, 1, 0, b"x"), &[FBIG]),
        of("WRITE at 2^63-5", "1813 §3.3.7", 7, write((1 << 63) - 5, 5, 0, b"hello"), &[FBIG]),
        of("createmode 3", "1813 §3.3.8", 8, new(b"c").u32(3).unchanged(), &[GARBAGE]),
        of("createmode 2^32-1", "1813 §3.3.8", 8, new(b"c").u32(u32::MAX).unchanged(), &[GARBAGE]),
        of("CREATE in a file", "1813 §3.3.8", 8, file().opaque(b"c").u32(0).unchanged(), &[NOTDIR]),
        of("CREATE of a size of 2^64-1", "1813 §3.3.8", 8, new(b"c").words(&[1, 0, 0, 0, 1]).u64(end).words(&[0, 0]), &[FBIG, INVAL]),
        of("GUARDED over what is there", "1813 §3.3.8", 8, new(b"file").u32(1).unchanged(), &[EXIST]),
        of("EXCLUSIVE over what another made", "1813 §3.3.8", 8, new(b"file").words(&[2, 1, 2]), &[EXIST]),
        of("MKDIR over what is there", "1813 §3.3.9", 9, new(b"file").unchanged(), &[EXIST]),
        of("a symlink to nothing", "1813 §3.3.10", 10, new(b"s").unchanged().opaque(b""), &[INVAL]),
        of("a symlink with NUL", "1813 §3.3.10", 10, new(b"s").unchanged().opaque(b"a\0b"), &[INVAL]),
        of("a symlink of 4097 bytes", "1813 §3.3.10", 10, new(b"s").unchanged().opaque(&long[..4097]), &[NAMETOOLONG]),
        of("a symlink of 1 MiB", "1813 §3.3.10", 10, new(b"s").unchanged().opaque(&long), &[NAMETOOLONG]),
        of("MKNOD of a file", "1813 §3.3.11", 11, new(b"m").u32(1), &[BADTYPE]),
        of("MKNOD of a directory", "1813 §3.3.11", 11, new(b"m").u32(2), &[BADTYPE]),
        of("MKNOD of a symlink", "1813 §3.3.11", 11, new(b"m").u32(5), &[BADTYPE]),
        of("MKNOD of type 0", "1813 §2.6", 11, new(b"m").u32(0).unchanged(), &[GARBAGE]),
        of("MKNOD of type 8", "1813 §2.6", 11, new(b"m").u32(8).unchanged(), &[GARBAGE]),
        of("REMOVE of what is not there", "1813 §3.3.12", 12, new(b"gone"), &[NOENT]),
        of("REMOVE of a directory", "1813 §3.3.12", 12, new(b"dir"), &[ISDIR]),
        of("RMDIR of a file", "1813 §3.3.13", 13, new(b"file"), &[NOTDIR]),
        of("RMDIR of a full directory", "1813 §3.3.13", 13, new(b"dir"), &[NOTEMPTY]),
        of("RENAME into itself", "1813 §3.3.14", 14, rename(b"dir", &p.dir, b"below"), &[INVAL]),
        of("RENAME of a directory over a file", "1813 §3.3.14", 14, rename(b"dir", &p.top, b"file"), &[NOTDIR, EXIST]),
        of("RENAME of a file over a directory", "1813 §3.3.14", 14, rename(b"file", &p.top, b"dir"), &[ISDIR, EXIST]),
        of("LINK over what is there", "1813 §3.3.15", 15, file().opaque(&p.top).opaque(b"link"), &[EXIST]),
        of("LINK of a directory", "1813 §3.3.15", 15, x().opaque(&p.dir).opaque(&p.top).opaque(b"h"), &[ISDIR, INVAL, 1]),
        of("READDIR of a file", "1813 §3.3.16", 16, file().u64(0).u64(0).u32(4096), &[NOTDIR]),
        of("READDIR of 0 bytes", "1813 §3.3.16", 16, list(0).u32(0), &[TOOSMALL]),
        of("READDIR of 2^32-1 bytes", "1813 §3.3.16", 16, list(0).u32(u32::MAX), &[OK]),
        of("READDIRPLUS of 0 bytes", "1813 §3.3.17", 17, list(0).words(&[0, 0]), &[TOOSMALL]),
        of("READDIRPLUS of 2^32-1 bytes", "1813 §3.3.17", 17, list(0).words(&[u32::MAX, u32::MAX]), &[OK]),
        of("READDIRPLUS, much of little", "1813 §3.3.17", 17, list(0).words(&[u32::MAX, 0]), &[TOOSMALL]),
        of("COMMIT of all", "1813 §3.3.21", 21, file().u64(0).u32(0), &[OK]),
        of("COMMIT of 2^32-1", "1813 §3.3.21", 21, file().u64(0).u32(u32::MAX), &[OK]),
        of("COMMIT over the end of offsets", "1813 §3.3.21", 21, file().u64(end).u32(u32::MAX), &[OK, INVAL]),
        of("CREATE in the view", "1813 §3.3.8", 8, x().opaque(&p.view).opaque(b"c").u32(0).unchanged(), &[ROFS]),
        of("SETATTR of the view", "1813 §3.3.2", 2, x().opaque(&p.view).unchanged().u32(0), &[ROFS]),
        of("REMOVE in the view", "1813 §3.3.12", 12, x().opaque(&p.view).opaque(b"c"), &[ROFS]),
    ]
}

#[test]
fn values_that_cannot_be_get_their_sections_error_and_the_connection_lives() {
    let server = Server::start();
    for unix in [false, true] {
        let mut wire = match unix {
            true => server.unix(),
            false => Wire::tcp(HERE),
        };
        let p = place(&server, &mut wire);
        for case in values(&p) {
            let got = outcome(&wire.nfs(case.procedure, &case.args));
            assert!(
                case.want.contains(&got),
                "{}: {got} (RFC {})",
                case.what,
                case.rfc
            );
            wire.lives();
        }
        let whole = Xdr::new().opaque(&p.file).u64(0).u32(u32::MAX);
        let Said::Success(data) = wire.nfs(6, &whole) else {
            panic!("READ")
        };
        let at = 2 + 21;
        assert_eq!(
            [word(&data, at), word(&data, at + 1)],
            [5000, 1],
            "as it was"
        );
        assert!(data[(at + 3) * 4..].starts_with(&[7; 5000]));
    }
}

#[test]
fn counts_and_offsets_at_their_ends_are_answered_as_the_rfc_says() {
    let server = Server::start();
    let mut wire = Wire::tcp(HERE);
    let p = place(&server, &mut wire);
    // §3.3.6: at or past the end, nothing and eof.
    for (offset, count, bytes, eof) in [
        (0, 0, 0, 0),
        (0, u32::MAX, 5000, 1),
        (4999, u32::MAX, 1, 1),
        (5000, 0, 0, 1),
        (5000, 1, 0, 1),
        (1 << 43, u32::MAX, 0, 1),
        ((1 << 63) - 1, 1, 0, 1),
        (1 << 63, u32::MAX, 0, 1),
        (u64::MAX, u32::MAX, 0, 1),
    ] {
        let args = Xdr::new().opaque(&p.file).u64(offset).u32(count);
        let Said::Success(data) = wire.nfs(6, &args) else {
            panic!("READ at {offset}")
        };
        assert_eq!(word(&data, 0), OK, "READ at {offset}");
        let got = [word(&data, 23), word(&data, 24), word(&data, 25)];
        assert_eq!(got, [bytes, eof, bytes], "READ of {count} at {offset}");
    }
    // §3.3.7: more than wtmax is written in part.
    let much = vec![9; (1 << 20) + 1024];
    let count = much.len() as u32;
    let args = Xdr::new()
        .opaque(&p.file)
        .u64(0)
        .words(&[count, 2])
        .opaque(&much);
    let Said::Success(wrote) = wire.nfs(7, &args) else {
        panic!("WRITE")
    };
    // The status, wcc_data with attributes before, and after.
    assert_eq!([word(&wrote, 0), word(&wrote, 1 + 7 + 22)], [OK, 1 << 20]);
    // §3.3.16, §3.3.17: a cookie past the end is the end.
    for cookie in [
        1 << 41,
        (1 << 41) + 7,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ] {
        let list = Xdr::new().opaque(&p.top).u64(cookie).u64(0);
        for (procedure, args) in [
            (16, list.clone().u32(4096)),
            (17, list.words(&[4096, 4096])),
        ] {
            let Said::Success(end) = wire.nfs(procedure, &args) else {
                panic!("{procedure}")
            };
            let tail = [word(&end, 0), word(&end, 25), word(&end, 26)];
            assert_eq!(tail, [OK, 0, 1], "procedure {procedure}, cookie {cookie}");
        }
    }
    // §3.3.4: bits that ACCESS does not have are not granted.
    let Said::Success(granted) = wire.nfs(4, &Xdr::new().opaque(&p.file).u32(u32::MAX)) else {
        panic!("ACCESS")
    };
    assert_eq!([word(&granted, 0), word(&granted, 23) & !0x3f], [OK, 0]);
}

/// One xid for two calls is two calls; for the same call it is a retransmission, which gets its
/// first answer.
#[test]
fn an_xid_that_comes_again_names_no_other_call() {
    let server = Server::start();
    let mut wire = Wire::tcp(HERE);
    let p = place(&server, &mut wire);
    let mut ask = |xid: u32, procedure: u32, args: &Xdr| {
        wire.send(&marked(&call(xid, (NFS, 3, procedure), &root(), args)));
        wire.reply(xid).status()
    };
    let at = |name: &[u8]| Xdr::new().opaque(&p.top).opaque(name);
    for xid in [0, 5, u32::MAX] {
        for name in [&b"a"[..], b"b"] {
            let create = at(name).u32(1).unchanged();
            assert_eq!(ask(xid, 8, &create), OK);
            assert_eq!(ask(xid, 8, &create), OK, "the same again");
            assert_eq!(ask(xid ^ 1, 8, &create), EXIST, "another call");
        }
        for name in [&b"a"[..], b"b"] {
            assert_eq!(ask(xid, 12, &at(name)), OK);
            assert_eq!(ask(xid, 12, &at(name)), OK, "the same again");
            assert_eq!(ask(xid ^ 1, 12, &at(name)), NOENT, "another call");
        }
    }
}
