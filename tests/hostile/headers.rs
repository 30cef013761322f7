//! Calls whose header is wrong: RFC 5531's own errors, on both transports.

use super::server::{HERE, Server};
use super::wire::*;

struct Case {
    what: &'static str,
    /// The section that has the answer.
    rfc: &'static str,
    record: Vec<u8>,
    answer: Said,
}

/// AUTH_SYS with so many groups announced, and so many there.
fn gids(announced: u32, there: u32) -> Xdr {
    let body = Xdr::new().words(&[0, 0, 0, 0, announced]);
    let body = (0..there).fold(body, |xdr, gid| xdr.u32(gid));
    Xdr::new().u32(1).opaque(&body.0)
}

fn flavor(flavor: u32, body: &[u8]) -> Xdr {
    Xdr::new().u32(flavor).opaque(body)
}

const XID: u32 = 77;

// One line a case.
#[rustfmt::skip]
fn cases(trusted: bool) -> Vec<Case> {
    let none = Xdr::new();
    let getattr = (NFS, 3, 0);
    let of = |what, rfc, record, answer| Case {
        what,
        rfc,
        record,
        answer,
    };
    let program = |what, rfc, program, answer| of(what, rfc, call(XID, program, &root(), &none), answer);
    let cred = |what, rfc, cred: Xdr, answer| of(what, rfc, call(XID, getattr, &cred, &none), answer);
    let header = |what, rfc, words: &[u32], answer| of(what, rfc, Xdr::new().words(words).0, answer);
    let done = || Said::Success(Vec::new());
    const AUTH_BADCRED: u32 = 1;
    const AUTH_REJECTEDCRED: u32 = 2;
    let mut long_machine = Xdr::new().u32(0).opaque(&[b'm'; 256]);
    long_machine = long_machine.words(&[0, 0, 0]);
    let mut cases = vec![
        program("an unknown program", "5531 §9", (4711, 1, 0), Said::ProgUnavail),
        program("program 2^32-1", "5531 §9", (u32::MAX, 3, 0), Said::ProgUnavail),
        program("the portmapper's program here", "5531 §9", (PORTMAP, 2, 0), Said::ProgUnavail),
        program("NFS version 2", "5531 §9", (NFS, 2, 0), Said::ProgMismatch(3, 3)),
        program("NFS version 4", "5531 §9", (NFS, 4, 0), Said::ProgMismatch(3, 3)),
        program("NFS version 2^32-1", "5531 §9", (NFS, u32::MAX, 0), Said::ProgMismatch(3, 3)),
        program("MOUNT version 2", "5531 §9", (MOUNT, 2, 0), Said::ProgMismatch(1, 3)),
        program("MOUNT version 4", "5531 §9", (MOUNT, 4, 0), Said::ProgMismatch(1, 3)),
        program("MOUNT version 1 has no MNT", "5531 §9", (MOUNT, 1, 1), Said::ProcUnavail),
        program("procedure 22", "5531 §9", (NFS, 3, 22), Said::ProcUnavail),
        program("procedure 2^32-1", "5531 §9", (NFS, 3, u32::MAX), Said::ProcUnavail),
        program("MOUNT's procedure 6", "5531 §9", (MOUNT, 3, 6), Said::ProcUnavail),
        header("RPC version 1", "5531 §9", &[XID, 0, 1, NFS, 3, 0, 0, 0, 0, 0], Said::RpcMismatch(2, 2)),
        header("RPC version 3", "5531 §9", &[XID, 0, 3], Said::RpcMismatch(2, 2)),
        header("no program", "5531 §9", &[XID, 0, 2], Said::GarbageArgs),
        header("no credentials", "5531 §9", &[XID, 0, 2, NFS, 3, 0], Said::GarbageArgs),
        header("no verifier", "5531 §9", &[XID, 0, 2, NFS, 3, 0, 0, 0], Said::GarbageArgs),
        header("a credential of 2^32-1 bytes", "5531 §8.2", &[XID, 0, 2, NFS, 3, 0, 1, u32::MAX, 0, 0], Said::GarbageArgs),
        header("a verifier of 2^32-1 bytes", "5531 §8.2", &[XID, 0, 2, NFS, 3, 0, 0, 0, 0, u32::MAX], Said::GarbageArgs),
        cred("a credential of 404 bytes", "5531 §8.2", flavor(1, &[0; 404]), Said::GarbageArgs),
        cred("AUTH_NONE", "5531 §10.1", flavor(0, b""), done()),
        cred("16 groups", "5531 app. A", gids(16, 16), done()),
        cred("17 groups", "5531 app. A", gids(17, 17), Said::AuthError(AUTH_BADCRED)),
        cred("2^28 groups", "5531 app. A", gids(1 << 28, 16), Said::AuthError(AUTH_BADCRED)),
        cred("2^32-1 groups", "5531 app. A", gids(u32::MAX, 0), Said::AuthError(AUTH_BADCRED)),
        cred("groups that are not there", "5531 app. A", gids(16, 15), Said::AuthError(AUTH_BADCRED)),
        cred("an empty AUTH_SYS", "5531 app. A", flavor(1, b""), Said::AuthError(AUTH_BADCRED)),
        cred("a machine's name of 256 bytes", "5531 app. A", flavor(1, &long_machine.0), Said::AuthError(AUTH_BADCRED)),
        cred("AUTH_SHORT", "5531 §9", flavor(2, &[0; 8]), Said::AuthError(AUTH_REJECTEDCRED)),
        cred("AUTH_DH", "5531 §10.2", flavor(3, &[0; 8]), Said::AuthError(AUTH_REJECTEDCRED)),
        cred("RPCSEC_GSS", "5531 §9", flavor(6, &[0; 20]), Said::AuthError(AUTH_REJECTEDCRED)),
        cred("flavour 2^32-1", "5531 §9", flavor(u32::MAX, b""), Said::AuthError(AUTH_REJECTEDCRED)),
    ];
    // Our own program is for helpers on this host.
    if trusted {
        cases.push(program("our program", "5531 §9", (POCKER, 1, 0), done()));
        cases.push(program("its version 2", "5531 §9", (POCKER, 2, 0), Said::ProgMismatch(1, 1)));
        cases.push(program("its procedure 6", "5531 §9", (POCKER, 1, 6), Said::ProcUnavail));
        cases.push(program("HELLO without an id", "5531 §9", (POCKER, 1, 1), Said::GarbageArgs));
    } else {
        cases.push(program("our program from afar", "5531 §9", (POCKER, 1, 0), Said::ProgUnavail));
    }
    cases
}

#[test]
fn a_wrong_header_gets_its_error_and_the_connection_lives() {
    let server = Server::start();
    for trusted in [true, false] {
        let mut wire = match trusted {
            true => server.unix(),
            false => Wire::tcp(HERE),
        };
        for case in cases(trusted) {
            wire.send(&marked(&case.record));
            let said = wire.reply(XID);
            assert_eq!(said, case.answer, "{} (RFC {})", case.what, case.rfc);
            wire.lives();
        }
        // What has no xid, or is a reply, cannot be answered (RFC 5531 §9); what follows is.
        for record in [
            &[][..],
            &[1],
            &[1, 2, 3],
            &[0, 0, 0, 1, 0, 0, 0, 1],
            &[0; 7],
        ] {
            wire.send(&marked(record));
            wire.lives();
        }
    }
}
