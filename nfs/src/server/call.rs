//! One call: from its record to its reply.

use super::nfs3::Proc;
use super::other;
use crate::proto::*;
use crate::rpc::*;
use crate::vfs::*;
use crate::xdr::Reader;
use sha2::{Digest, Sha256};

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

/// HELLO's instance id, when `record` is that call and may be.
pub fn hello(session: &Session, record: &[u8]) -> Option<[u8; 16]> {
    let mut call = parse_call(record).ok()?;
    if (call.program, call.version, call.procedure) != (POCKER_PROGRAM, POCKER_V1, 1) {
        return None;
    }
    session.trusted().then(|| call.args.array().ok()).flatten()
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

/// Answers one record into `out`, whole with its mark; false where nothing can be answered.
pub fn answer(vfs: &dyn Vfs, session: &Session, record: &[u8], out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let start = start_record(out);
    let call = match parse_call(record) {
        Ok(call) => call,
        Err(BadCall::Unanswerable) => {
            out.truncate(begin);
            return false;
        }
        Err(BadCall::Version { xid }) => {
            put_rpc_mismatch(out, xid);
            finish_record(out, start);
            return true;
        }
        Err(BadCall::Header { xid }) => {
            put_accepted(out, xid, Accept::GarbageArgs);
            finish_record(out, start);
            return true;
        }
    };
    match &call.caller {
        Ok(caller) => dispatch(vfs, session, &call, caller, out),
        Err(error) => put_auth_error(out, call.xid, *error),
    }
    finish_record(out, start);
    true
}

fn dispatch(vfs: &dyn Vfs, session: &Session, call: &Call<'_>, caller: &Caller, out: &mut Vec<u8>) {
    let version = match call.program {
        NFS_PROGRAM => NFS_V3,
        MOUNT_PROGRAM => MOUNT_V3,
        POCKER_PROGRAM if session.trusted() => POCKER_V1,
        _ => return put_accepted(out, call.xid, Accept::ProgUnavail),
    };
    if call.version != version {
        let mismatch = Accept::ProgMismatch {
            low: version,
            high: version,
        };
        return put_accepted(out, call.xid, mismatch);
    }
    let header = out.len();
    put_accepted(out, call.xid, Accept::Success);
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
        Some(Ok(())) => return,
        Some(Err(_)) => Accept::GarbageArgs,
        None => Accept::ProcUnavail,
    };
    out.truncate(header);
    put_accepted(out, call.xid, failed);
}

/// The connection took the id before the call came here; the reply only says so.
fn hello_reply(args: &mut Reader<'_>) -> crate::xdr::Decoded<()> {
    args.array::<16>().map(drop)
}

/// Whether the call's file system work can be done on the socket's own task.
pub fn inline(vfs: &dyn Vfs, record: &[u8]) -> bool {
    let Ok(mut call) = parse_call(record) else {
        return true;
    };
    match (call.program, call.procedure) {
        (NFS_PROGRAM, 0) | (POCKER_PROGRAM, 0 | 1) => true,
        // GETATTR, LOOKUP, ACCESS and READLINK only read metadata.
        (NFS_PROGRAM, 1 | 3 | 4 | 5) => call.args.fh().is_ok_and(|fh| vfs.inline(&fh)),
        _ => false,
    }
}
