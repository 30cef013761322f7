//! One call: from its record to its reply.

use super::connection::Service;
use super::nfs3::Proc;
use super::once::{Claim, Running};
use super::other;
use super::privacy::Verdict;
use crate::failpoint;
use crate::portmap::{self, Mapping, PORTMAP_PROGRAM, PORTMAP_V2};
use crate::proto::*;
use crate::rpc::*;
use crate::vfs::*;
use crate::xdr::{Decoded, Reader};
use sha2::{Digest, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What the engine knows of a connection.
#[derive(Clone, Debug)]
pub struct Session {
    pub peer: Peer,
    pub client: [u8; 16],
    /// Tells connections apart.
    pub connection: u64,
    /// Nothing was asked yet.
    pub fresh: bool,
    /// Whether it is a kernel's, once that was asked.
    kernel: Arc<OnceLock<bool>>,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl Session {
    pub fn new(peer: Peer) -> Session {
        // Until HELLO names an instance, the peer's address is its identity.
        let text = match &peer {
            Peer::Tcp(addr) | Peer::Udp(addr) => format!("tcp {}", addr.ip()),
            Peer::Unix { uid, .. } => format!("unix {uid}"),
            Peer::Memory => "memory".to_string(),
        };
        let digest = Sha256::digest(text.as_bytes());
        let mut client = [0; 16];
        client.copy_from_slice(&digest[..16]);
        Session {
            peer,
            client,
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            fresh: true,
            kernel: Arc::default(),
        }
    }

    /// Whether the connection may ask for files; none where that cannot be told without waiting.
    fn may_ask(&self, service: &Service, call: &Call<'_>, place: Place) -> Option<bool> {
        let (Some(kernels), Peer::Tcp(peer)) = (&service.kernels, &self.peer) else {
            return Some(true);
        };
        let files = call.program == NFS_PROGRAM && call.procedure != 0;
        if !files || !peer.ip().to_canonical().is_loopback() {
            return Some(true);
        }
        match (self.kernel.get(), place) {
            (Some(known), _) => Some(*known),
            (None, Place::Socket) => None,
            // What cannot be told now is asked again.
            (None, Place::Thread) => Some(match kernels.has(*peer) {
                Some(is) => *self.kernel.get_or_init(|| is),
                None => false,
            }),
        }
    }

    /// Only helpers on this host may speak our own program.
    fn trusted(&self) -> bool {
        matches!(self.peer, Peer::Unix { .. } | Peer::Memory)
    }
}

/// Procedures that must not run twice: SETATTR, those that make and take away names, and
/// SETXATTR and REMOVEXATTR of our own program.
fn once(program: u32, procedure: u32) -> bool {
    match program {
        NFS_PROGRAM => matches!(procedure, 2 | 8..=15),
        POCKER_PROGRAM => matches!(procedure, 4 | 5),
        _ => false,
    }
}

/// The digest that names a call: client, xid, program, procedure, credentials, arguments.
fn once_key(session: &Session, call: &Call<'_>, caller: &Caller) -> OnceKey {
    let mut hash = Sha256::new();
    hash.update(session.client);
    let groups = caller.gids.len() as u32;
    for word in [
        call.xid,
        call.program,
        call.procedure,
        caller.uid,
        caller.gid,
        groups,
    ] {
        hash.update(word.to_be_bytes());
    }
    for group in &caller.gids {
        hash.update(group.to_be_bytes());
    }
    hash.update(call.args.rest());
    OnceKey(hash.finalize().into())
}

/// Replies without data: the longest, LINK's or RENAME's, is far below.
const SMALL_REPLY: usize = 1 << 10;

/// Memory that the record and the longest reply to it take.
pub fn cost(record: &[u8]) -> usize {
    let asked = match parse_call(record) {
        Ok(call) => match (call.program, call.procedure) {
            (NFS_PROGRAM, 5) => Ok(PATH_MAX),
            (NFS_PROGRAM, _) => asked_for(call.procedure, call.args),
            (MOUNT_PROGRAM, 2 | 5) => Ok(LIST_MAX),
            (POCKER_PROGRAM, 2) => Ok(other::XATTR_VALUE_MAX),
            (POCKER_PROGRAM, 3) => Ok(LIST_MAX),
            _ => Ok(0),
        },
        Err(_) => Ok(0),
    };
    record.len() + SMALL_REPLY + asked.unwrap_or(0)
}

/// DUMP's, EXPORT's and LISTXATTR's replies: the kernel's 64 KiB of names (xattr(7),
/// XATTR_LIST_MAX), each of them up to four times as long in XDR.
const LIST_MAX: usize = 256 << 10;

/// Memory that the reply may take, where that may be much: a glance at a record that is
/// about to be answered on the socket's task.
pub fn bulk(record: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(u32::from_be_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let bulk = word(12)? == NFS_PROGRAM && matches!(word(20)?, 6 | 16 | 17);
    bulk.then(|| cost(record))
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

/// What a listener answers.
#[derive(Clone, Debug)]
pub enum Programs {
    /// NFS and MOUNT, and to helpers on this host our own program.
    Nfs,
    /// The same, and our own program to helpers on any host.
    Helpers,
    Mount,
    Portmap(Arc<[Mapping]>),
}

impl Programs {
    /// Versions of a program, lowest and highest; `None` where it is not served here.
    fn versions(&self, program: u32, session: &Session) -> Option<(u32, u32)> {
        match (self, program) {
            (Programs::Nfs | Programs::Helpers, NFS_PROGRAM) => Some((NFS_V3, NFS_V3)),
            (Programs::Portmap(_), MOUNT_PROGRAM) => None,
            (_, MOUNT_PROGRAM) => Some((MOUNT_V1, MOUNT_V3)),
            (Programs::Helpers, POCKER_PROGRAM) => Some((POCKER_V1, POCKER_V1)),
            (Programs::Nfs, POCKER_PROGRAM) => session.trusted().then_some((POCKER_V1, POCKER_V1)),
            (Programs::Portmap(_), PORTMAP_PROGRAM) => Some((PORTMAP_V2, PORTMAP_V2)),
            _ => None,
        }
    }
}

/// Tells how long each of some calls took that run one after the other: one reading of the
/// machine's clock a call.
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let began = std::mem::replace(&mut self.0, Instant::now());
        self.0.duration_since(began)
    }
}

/// Where a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the socket's own task, where nothing may block.
    Socket,
    /// On a thread that may.
    Thread,
}

/// What became of a record. The reply, whole with its mark, is behind what `out` held.
#[derive(Debug)]
pub enum Answer {
    Whole,
    /// HELLO: the client's identity from here on.
    Hello([u8; 16]),
    /// TLS is to begin once this is sent.
    StartTls,
    /// It must run on a thread; `out` is as it was.
    Blocked,
}

/// Answers one record. Nothing is appended where nothing can be answered.
pub fn answer(
    service: &Service,
    session: &Session,
    record: &[u8],
    place: Place,
    clock: &mut Clock,
    out: &mut Vec<u8>,
) -> Answer {
    let counters = &*service.counters;
    let before = out.len();
    let start = start_record(out);
    let call = match parse_call(record) {
        Ok(call) => call,
        Err(bad) => {
            counters.refuse();
            match bad {
                BadCall::Unanswerable => {
                    out.truncate(before);
                    return Answer::Whole;
                }
                BadCall::Version { xid } => put_rpc_mismatch(out, xid),
                BadCall::Header { xid } => put_accepted(out, xid, Accept::GarbageArgs),
            }
            finish_record(out, start);
            return Answer::Whole;
        }
    };
    let caller = match service.privacy.judge(session, &call, place) {
        Verdict::Answer => call.caller.as_ref().map_err(|error| *error),
        Verdict::Refuse(error) => Err(error),
        Verdict::StartTls => {
            let served = served(service, session, &call);
            match served {
                Ok(()) => put_starttls(out, call.xid),
                Err(unserved) => put_accepted(out, call.xid, unserved),
            }
            finish_record(out, start);
            match served {
                Ok(()) => {
                    let (took, len) = (clock.lap(), out.len() - before);
                    counters.count(call.program, 0, true, took, record.len(), len);
                    return Answer::StartTls;
                }
                Err(_) => {
                    counters.refuse();
                    return Answer::Whole;
                }
            }
        }
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => {
            counters.refuse();
            put_auth_error(out, call.xid, error);
            finish_record(out, start);
            return Answer::Whole;
        }
    };
    match session.may_ask(service, &call, place) {
        Some(true) => {}
        Some(false) => {
            counters.refuse();
            put_auth_error(out, call.xid, AuthError::TooWeak);
            finish_record(out, start);
            return Answer::Whole;
        }
        None => {
            out.truncate(before);
            return Answer::Blocked;
        }
    }
    let done = dispatch_or_fail(service, session, record, &call, caller, place, out);
    if done.blocked || done.dropped {
        out.truncate(before);
        return match done.blocked {
            true => Answer::Blocked,
            false => Answer::Whole,
        };
    }
    match done.ok {
        Some(ok) => counters.count(
            call.program,
            call.procedure,
            ok,
            clock.lap(),
            record.len(),
            out.len() - before,
        ),
        None => counters.refuse(),
    }
    finish_record(out, start);
    match done.hello {
        Some(instance) => Answer::Hello(instance),
        None => Answer::Whole,
    }
}

/// How a call went.
#[derive(Default)]
struct Done {
    /// Whether it succeeded; `None` where it reached no procedure.
    ok: Option<bool>,
    blocked: bool,
    /// Another call's reply will be this one's.
    dropped: bool,
    hello: Option<[u8; 16]>,
}

/// A panic in the file system costs its own call an error, never the client its answer:
/// a call that nobody answers hangs whoever made it.
fn dispatch_or_fail(
    service: &Service,
    session: &Session,
    record: &[u8],
    call: &Call<'_>,
    caller: &Caller,
    place: Place,
    out: &mut Vec<u8>,
) -> Done {
    // What is logged below says for which call. A call on a thread costs a wake-up anyway; the
    // others take a microsecond, and nothing of them fails that is not told elsewhere too.
    let request = format_args!("{}:{:08x}", session.connection, call.xid);
    let (program, procedure) = (call.program, call.procedure);
    let span = match place {
        Place::Thread => tracing::error_span!("call", %request, program, procedure),
        Place::Socket => tracing::trace_span!("call", %request, program, procedure),
    };
    let _span = span.entered();
    let header = out.len();
    let run = AssertUnwindSafe(|| match place {
        Place::Thread => dispatch(service, session, record, call, caller, place, out),
        Place::Socket => {
            let mut done = Done::default();
            let run = &mut || done = dispatch(service, session, record, call, caller, place, out);
            service.vfs.hurried(run);
            done
        }
    });
    catch_unwind(run).unwrap_or_else(|_| {
        tracing::error!(%request, program, procedure, "a call panicked");
        out.truncate(header);
        put_accepted(out, call.xid, Accept::SystemErr);
        Done {
            ok: Some(false),
            ..Done::default()
        }
    })
}

/// Whether there is such a program here.
fn served(
    service: &Service,
    session: &Session,
    call: &Call<'_>,
) -> std::result::Result<(), Accept> {
    let Some((low, high)) = service.programs.versions(call.program, session) else {
        return Err(Accept::ProgUnavail);
    };
    // MOUNT v2 differs from both: it is not served.
    match call.version == low || call.version == high {
        true => Ok(()),
        false => Err(Accept::ProgMismatch { low, high }),
    }
}

/// Who answers the call instead, by its first handle.
fn elsewhere<'a>(vfs: &'a dyn Vfs, call: &Call<'_>) -> Option<(&'a dyn Elsewhere, u64)> {
    let mut args = call.args;
    match (call.program, call.procedure) {
        (NFS_PROGRAM, 1..) | (POCKER_PROGRAM, 2..) => vfs.elsewhere(&args.fh().ok()?),
        _ => None,
    }
}

/// Puts another process's reply in the place of the header that `out` has behind `header`.
fn pass_on(
    (there, share): (&dyn Elsewhere, u64),
    asked: (&Service, &Session, &[u8]),
    call: &Call<'_>,
    running: Option<&Running<'_>>,
    header: usize,
    out: &mut Vec<u8>,
) -> Done {
    let (service, session, record) = asked;
    let accepted = out.split_off(header);
    if let Err(e) = there.ask(share, &session.client, service.transfer, record, out) {
        tracing::error!("the process that serves what this handle names does not answer: {e}");
    }
    let reply = &out[header..];
    let results = reply.strip_prefix(&accepted[..]);
    let ok = results.is_some_and(|results| succeeded(call, results));
    if let (Some(running), Some(results), false) = (running, results, ok) {
        running.failed(results);
    }
    Done {
        ok: Some(ok),
        // Whoever asked hangs up when the server ends, as it is about to, and asks again.
        dropped: reply.is_empty(),
        ..Done::default()
    }
}

fn dispatch(
    service: &Service,
    session: &Session,
    record: &[u8],
    call: &Call<'_>,
    caller: &Caller,
    place: Place,
    out: &mut Vec<u8>,
) -> Done {
    if let Err(unserved) = served(service, session, call) {
        put_accepted(out, call.xid, unserved);
        return Done::default();
    }
    let mut done = Done::default();
    // MOUNT and our own program are rare, and not worth the care of never blocking.
    if call.program == POCKER_PROGRAM && call.procedure > 1 && place != Place::Thread
        || call.program == MOUNT_PROGRAM && place != Place::Thread
    {
        done.blocked = true;
        return done;
    }
    let vfs = &*service.vfs;
    let there = elsewhere(vfs, call);
    if there.is_some() && place != Place::Thread {
        done.blocked = true;
        return done;
    }
    let header = out.len();
    put_accepted(out, call.xid, Accept::Success);
    let results = out.len();
    let key = once(call.program, call.procedure).then(|| once_key(session, call, caller));
    let mut running: Option<Running<'_>> = None;
    if let Some(key) = key {
        let may_wait = place == Place::Thread;
        match service.once.claim(key, session.connection, may_wait) {
            Claim::Run(claimed) => running = Some(claimed),
            Claim::Wait => done.blocked = true,
            Claim::Drop => done.dropped = true,
            Claim::Failed(reply) => {
                out.extend_from_slice(&reply);
                done.ok = Some(false);
            }
        }
        if running.is_none() {
            return done;
        }
    }
    if let Some(there) = there {
        let asked = (service, session, record);
        return pass_on(there, asked, call, running.as_ref(), header, out);
    }
    let cx = Cx {
        caller,
        peer: &session.peer,
        client: session.client,
        once: key,
        nowait: place != Place::Thread,
    };
    let mut args = call.args;
    let ran = match call.program {
        NFS_PROGRAM => {
            let mut procedure = Proc {
                vfs,
                cx,
                out,
                blocked: false,
                transfer: service.transfer,
            };
            let ran = procedure.run(call.procedure, &mut args);
            done.blocked = procedure.blocked;
            ran
        }
        MOUNT_PROGRAM => other::mount(
            vfs,
            &service.mounts,
            &cx,
            call.version,
            call.procedure,
            &mut args,
            out,
        ),
        PORTMAP_PROGRAM => match &service.programs {
            Programs::Portmap(mappings) => {
                portmap::answer(mappings, call.procedure, &mut args, out)
            }
            _ => None,
        },
        _ if call.procedure == 1 => Some(args.array().map(|instance| done.hello = Some(instance))),
        _ => other::pocker(vfs, &cx, call.procedure, &mut args, out),
    };
    let failed = match ran {
        Some(Ok(())) => {
            let ok = succeeded(call, &out[results..]);
            if let (Some(running), false, false) = (&running, ok, done.blocked) {
                running.failed(&out[results..]);
            }
            failpoint::pass("call.done");
            done.ok = Some(ok);
            return done;
        }
        Some(Err(_)) => (Accept::GarbageArgs, Some(false)),
        None => (Accept::ProcUnavail, None),
    };
    out.truncate(header);
    put_accepted(out, call.xid, failed.0);
    Done {
        ok: failed.1,
        ..Done::default()
    }
}

/// Whether results begin with the status OK, where they begin with a status.
fn succeeded(call: &Call<'_>, results: &[u8]) -> bool {
    let status = match call.program {
        NFS_PROGRAM => call.procedure != 0,
        MOUNT_PROGRAM => call.procedure == 1,
        POCKER_PROGRAM => call.procedure > 1,
        _ => false,
    };
    !status || results.starts_with(&[0; 4])
}
