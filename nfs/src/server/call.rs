//! One call: from its record to its reply.

use super::connection::Service;
use super::nfs3::Proc;
use super::other;
use crate::proto::*;
use crate::rpc::*;
use crate::vfs::*;
use crate::xdr::{Decoded, Reader};
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the engine knows of a connection.
#[derive(Clone, Debug)]
pub struct Session {
    pub peer: Peer,
    pub client: [u8; 16],
}

impl Session {
    pub fn new(peer: Peer) -> Session {
        // Until HELLO names an instance, the peer's address is its identity.
        let text = match &peer {
            Peer::Tcp(addr) => format!("tcp {}", addr.ip()),
            Peer::Unix { uid, .. } => format!("unix {uid}"),
            Peer::Memory => "memory".to_string(),
        };
        let digest = Sha256::digest(text.as_bytes());
        let mut client = [0; 16];
        client.copy_from_slice(&digest[..16]);
        Session { peer, client }
    }

    /// Only helpers on this host may speak our own program.
    fn trusted(&self) -> bool {
        matches!(self.peer, Peer::Unix { .. } | Peer::Memory)
    }
}

/// Procedures that must not run twice.
fn once(procedure: u32) -> bool {
    matches!(procedure, 2 | 8..=15)
}

/// The digest that names a call: client, xid, procedure, credentials, arguments.
fn once_key(session: &Session, call: &Call<'_>, caller: &Caller) -> OnceKey {
    let mut hash = Sha256::new();
    hash.update(session.client);
    for word in [call.xid, call.procedure, caller.uid, caller.gid] {
        hash.update(word.to_be_bytes());
    }
    hash.update(call.args.rest());
    OnceKey(hash.finalize().into())
}

/// Where a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// On the socket's own task: it cannot block.
    Inline,
    /// On a thread that may.
    Blocking,
}

/// What the connection needs to know of a record before it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub route: Route,
    /// Memory that the record and the longest reply to it take.
    pub bytes: usize,
    /// The client identity that HELLO brings.
    pub instance: Option<[u8; 16]>,
}

/// Replies without data: the longest, LINK's or RENAME's, is far below.
const SMALL_REPLY: usize = 1 << 10;

pub fn plan(vfs: &dyn Vfs, session: &Session, record: &[u8]) -> Plan {
    let mut plan = Plan {
        route: Route::Inline,
        bytes: record.len() + SMALL_REPLY,
        instance: None,
    };
    let Ok(call) = parse_call(record) else {
        return plan;
    };
    let mut args = call.args;
    plan.route = match (call.program, call.procedure) {
        (NFS_PROGRAM, 0) | (POCKER_PROGRAM, 0) => Route::Inline,
        (POCKER_PROGRAM, 1) => {
            if session.trusted() && call.version == POCKER_V1 && call.caller.is_ok() {
                plan.instance = args.array().ok();
            }
            Route::Inline
        }
        // GETATTR, LOOKUP, ACCESS and READLINK only read metadata.
        (NFS_PROGRAM, 1 | 3 | 4 | 5) if args.fh().is_ok_and(|fh| vfs.inline(&fh)) => Route::Inline,
        _ => Route::Blocking,
    };
    if call.program == NFS_PROGRAM {
        plan.bytes += asked_for(call.procedure, call.args).unwrap_or(0);
    }
    plan
}

/// Data that the reply may hold, in bytes: what READ, READDIR and READDIRPLUS ask for.
fn asked_for(procedure: u32, mut args: Reader<'_>) -> Decoded<usize> {
    let before = match procedure {
        6 => 8,
        16 => 8 + 8,
        17 => 8 + 8 + 4,
        _ => return Ok(0),
    };
    args.fh()?;
    args.bytes(before)?;
    Ok(args.u32()?.min(IO_MAX) as usize)
}

/// The reply to one record, whole with its mark; empty where nothing can be answered.
pub fn answer(service: &Service, session: &Session, record: &[u8]) -> Vec<u8> {
    let counters = &*service.counters;
    let mut out = Vec::with_capacity(512);
    let start = start_record(&mut out);
    let call = match parse_call(record) {
        Ok(call) => call,
        Err(bad) => {
            counters.refuse();
            match bad {
                BadCall::Unanswerable => return Vec::new(),
                BadCall::Version { xid } => put_rpc_mismatch(&mut out, xid),
                BadCall::Header { xid } => put_accepted(&mut out, xid, Accept::GarbageArgs),
            }
            finish_record(&mut out, start);
            return out;
        }
    };
    match &call.caller {
        Ok(caller) => {
            let ok = dispatch_or_fail(&*service.vfs, session, &call, caller, &mut out);
            match ok {
                Some(ok) => {
                    counters.count(call.program, call.procedure, ok, record.len(), out.len())
                }
                None => counters.refuse(),
            }
        }
        Err(error) => {
            counters.refuse();
            put_auth_error(&mut out, call.xid, *error);
        }
    }
    finish_record(&mut out, start);
    out
}

/// A panic in the file system costs its own call an error, never the client its answer:
/// a call that nobody answers hangs whoever made it.
fn dispatch_or_fail(
    vfs: &dyn Vfs,
    session: &Session,
    call: &Call<'_>,
    caller: &Caller,
    out: &mut Vec<u8>,
) -> Option<bool> {
    let header = out.len();
    let run = AssertUnwindSafe(|| dispatch(vfs, session, call, caller, out));
    catch_unwind(run).unwrap_or_else(|_| {
        tracing::error!(
            program = call.program,
            procedure = call.procedure,
            "a call panicked"
        );
        out.truncate(header);
        put_accepted(out, call.xid, Accept::SystemErr);
        Some(false)
    })
}

/// Whether the call succeeded; `None` where it reached no procedure.
fn dispatch(
    vfs: &dyn Vfs,
    session: &Session,
    call: &Call<'_>,
    caller: &Caller,
    out: &mut Vec<u8>,
) -> Option<bool> {
    let version = match call.program {
        NFS_PROGRAM => NFS_V3,
        MOUNT_PROGRAM => MOUNT_V3,
        POCKER_PROGRAM if session.trusted() => POCKER_V1,
        _ => {
            put_accepted(out, call.xid, Accept::ProgUnavail);
            return None;
        }
    };
    if call.version != version {
        let mismatch = Accept::ProgMismatch {
            low: version,
            high: version,
        };
        put_accepted(out, call.xid, mismatch);
        return None;
    }
    let header = out.len();
    put_accepted(out, call.xid, Accept::Success);
    let results = out.len();
    let key = (call.program == NFS_PROGRAM && once(call.procedure))
        .then(|| once_key(session, call, caller));
    let cx = Cx {
        caller,
        peer: &session.peer,
        client: session.client,
        once: key,
    };
    let mut args = call.args;
    let done = match call.program {
        NFS_PROGRAM => Proc { vfs, cx, out }.run(call.procedure, &mut args),
        MOUNT_PROGRAM => other::mount(vfs, &cx, call.procedure, &mut args, out),
        _ if call.procedure == 1 => Some(hello_reply(&mut args)),
        _ => other::pocker(vfs, &cx, call.procedure, &mut args, out),
    };
    let failed = match done {
        Some(Ok(())) => return Some(succeeded(call, &out[results..])),
        Some(Err(_)) => (Accept::GarbageArgs, Some(false)),
        None => (Accept::ProcUnavail, None),
    };
    out.truncate(header);
    put_accepted(out, call.xid, failed.0);
    failed.1
}

/// Whether results begin with the status OK, where they begin with a status.
fn succeeded(call: &Call<'_>, results: &[u8]) -> bool {
    let status = match call.program {
        NFS_PROGRAM => call.procedure != 0,
        MOUNT_PROGRAM => call.procedure == 1,
        _ => call.procedure > 1,
    };
    !status || results.starts_with(&[0; 4])
}

/// The connection took the id before the call came here; the reply only says so.
fn hello_reply(args: &mut Reader<'_>) -> Decoded<()> {
    args.array::<16>().map(drop)
}
