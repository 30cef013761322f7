//! One record as a call: its header, credentials and arguments, of every program served.

use super::echo::Echo;
use super::shape;
use crate::portmap::{self, PORTMAP_PROGRAM};
use crate::proto::*;
use crate::rpc::*;
use crate::server::fuzz::{cost, ran, without_tls};
use crate::server::{Programs, Service};
use crate::vfs::{Caller, Vfs};
use crate::xdr::Reader;
use std::sync::Arc;

/// The engine and the tables it has for itself, made anew for each input.
const ENGINE: usize = 256 << 10;

/// Heap that a call may take: what the server counts for it, the copy of its arguments made
/// here, and readdir's entries beside the reply that they become.
pub fn call_bound(record: &[u8]) -> usize {
    ENGINE + 3 * cost(record) + 4 * record.len()
}

/// * What is no call gets no answer, and all else one: its xid, and a shape of the RFC's.
/// * A header that decodes is what its own encoding decodes to.
/// * Arguments that reach the file system are those of the call, byte for byte.
/// * Where TLS is required and was not begun, NULL alone is answered, and what asks for it.
/// * The reply is never longer than what the server holds memory for.
pub fn call(record: &[u8]) {
    let echo = Arc::new(Echo::default());
    let parsed = parse_call(record);
    let mut service = Service::new(echo.clone());
    if matches!(&parsed, Ok(call) if call.program == PORTMAP_PROGRAM) {
        let mappings = portmap::mappings(2049);
        service = service.serving(Programs::Portmap(mappings.into()));
    }
    private(&service, record, &echo);
    let mut out = Vec::new();
    ran(&service, record, &mut out);
    let reply = out.get(4..).unwrap_or_default();
    if !out.is_empty() {
        let mark = LAST_FRAGMENT | reply.len() as u32;
        assert_eq!(out[..4], mark.to_be_bytes(), "the reply's mark");
    }
    assert!(out.len() <= cost(record), "more than is held for it");
    match parsed {
        Err(BadCall::Unanswerable) => assert!(out.is_empty(), "an answer to what is no call"),
        Err(BadCall::Version { xid }) => {
            assert_eq!(reply, words(&[xid, 1, 1, 0, 2, 2]), "RPC_MISMATCH");
        }
        Err(BadCall::Header { xid }) => {
            assert_eq!(reply, words(&[xid, 1, 0, 0, 0, 4]), "GARBAGE_ARGS");
        }
        Ok(call) => match &call.caller {
            Err(error) => {
                assert_eq!(
                    reply,
                    words(&[call.xid, 1, 1, 1, *error as u32]),
                    "AUTH_ERROR"
                );
                assert!(echo.seen().is_none(), "it ran without credentials");
            }
            Ok(caller) => {
                header(&call, caller);
                accepted(&call, reply, &echo);
            }
        },
    }
}

fn private(service: &Service, record: &[u8], echo: &Echo) {
    let (out, begins) = without_tls(service, record);
    assert!(out.len() <= cost(record), "more than is held for it");
    let reply = out.get(4..).unwrap_or_default();
    if let Ok(call) = parse_call(record) {
        let null = call.procedure == 0;
        assert_eq!(begins, is_starttls(reply, call.xid) == Ok(true));
        assert!(!begins || call.tls && null);
        if !null && !call.tls {
            assert_eq!(reply, words(&[call.xid, 1, 1, 1, 5]), "AUTH_TOOWEAK");
        }
    }
    assert!(echo.seen().is_none(), "it ran without TLS");
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn header(call: &Call<'_>, caller: &Caller) {
    assert!(caller.gids.len() <= 16, "RFC 5531 appendix A");
    let mut out = Vec::new();
    put_call(
        &mut out,
        call.xid,
        call.program,
        call.version,
        call.procedure,
        caller,
    );
    let again = parse_call(&out);
    let same = matches!(&again, Ok(again) if again.xid == call.xid
        && (again.program, again.version, again.procedure)
            == (call.program, call.version, call.procedure)
        && again.caller.as_ref() == Ok(caller)
        && again.args.rest().is_empty());
    assert!(same, "the header, encoded again");
}

fn accepted(call: &Call<'_>, reply: &[u8], echo: &Echo) {
    let mut r = Reader::new(reply);
    let mut word = || r.u32().unwrap_or_else(|_| panic!("a short reply"));
    assert_eq!([word(), word(), word()], [call.xid, 1, 0]);
    assert_eq!([word(), word()], [0, 0], "the verifier: AUTH_NONE");
    let seen = echo.seen();
    let accept = word();
    match accept {
        0 => {
            let status = shape::check(call.program, call.procedure, r);
            let Some(status) = status else {
                panic!("program {} procedure {}", call.program, call.procedure)
            };
            if let Some(again) = seen
                && status == 0
                // PATHCONF asks the file system as FSINFO does.
                && !(call.program == NFS_PROGRAM && call.procedure == 20)
            {
                assert_eq!(again.procedure, call.procedure);
                if call.procedure == 6 && call.program == NFS_PROGRAM {
                    read(&again.bytes, call.args);
                } else if call.program == NFS_PROGRAM && call.procedure == 7 {
                    written(&again.bytes, call.args.rest());
                } else {
                    assert!(again.leads(call.args.rest()), "other arguments");
                }
            }
        }
        1 | 3 | 4 => {
            assert!(r.rest().is_empty());
            assert!(seen.is_none(), "it was refused and ran");
        }
        2 => {
            assert_eq!(r.rest().len(), 8, "the lowest and the highest version");
            assert!(seen.is_none());
        }
        5 => panic!("a procedure panicked"),
        other => panic!("accept_stat {other}"),
    }
}

/// READ's count is cut to what is served.
fn read(again: &[u8], mut args: Reader<'_>) {
    let mut again = Reader::new(again);
    assert_eq!(again.fh(), args.fh());
    assert_eq!(again.u64(), args.u64(), "the offset");
    assert_eq!(again.u32(), args.u32().map(|count| count.min(IO_MAX)));
}

/// WRITE takes what is served of its data.
fn written(again: &[u8], args: &[u8]) {
    let mut a = Reader::new(again);
    let mut b = Reader::new(args);
    assert_eq!(a.fh(), b.fh());
    assert_eq!(a.bytes(16), b.bytes(16), "offset, count and stable");
    let (a, b) = (a.opaque(again.len()), b.opaque(args.len()));
    assert!(matches!((a, b), (Ok(a), Ok(b)) if b.starts_with(a)));
}

/// The engine over a file system that is to be fuzzed itself.
pub struct Engine(Service);

/// How a call that was accepted ended.
pub struct Ended {
    pub status: u32,
    /// What is behind the status of a success; nothing for a failure.
    pub results: Vec<u8>,
}

impl Engine {
    pub fn new(vfs: Arc<dyn Vfs>) -> Engine {
        Engine(Service::new(vfs))
    }

    /// `None` where the arguments do not decode. The reply's shape is the RFC's.
    pub fn ask(
        &self,
        (program, version, procedure): (u32, u32, u32),
        caller: &Caller,
        xid: u32,
        args: &[u8],
    ) -> Option<Ended> {
        let mut record = Vec::new();
        put_call(&mut record, xid, program, version, procedure, caller);
        record.extend_from_slice(args);
        let mut out = Vec::new();
        ran(&self.0, &record, &mut out);
        assert!(out.len() <= cost(&record), "more than is held for it");
        let reply = out.get(4..).unwrap_or_default();
        let mut r = Reader::new(reply);
        let mut word = || r.u32().unwrap_or_else(|_| panic!("a short reply"));
        assert_eq!([word(), word(), word(), word(), word()], [xid, 1, 0, 0, 0]);
        match word() {
            0 => {}
            4 => return None,
            other => panic!("procedure {procedure}: accept_stat {other}"),
        }
        let Some(status) = shape::check(program, procedure, r) else {
            panic!("procedure {procedure}: not its results")
        };
        let results = match status {
            0 => r.rest().get(4..).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        };
        Some(Ended { status, results })
    }
}
