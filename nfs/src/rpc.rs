//! ONC RPC version 2 (RFC 5531): record marks, call headers, credentials, replies.

use crate::vfs::Caller;
use crate::xdr::{Decoded, Garbage, Put, Reader};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest WRITE and READ, in bytes.
pub const IO_MAX: u32 = 1 << 20;
/// Longest record taken: a WRITE of [`IO_MAX`] with the longest header, handle and credentials.
pub const RECORD_MAX: usize = IO_MAX as usize + 4096;
/// Most fragments in one record: a client that sends more is at play.
pub const FRAGMENTS_MAX: usize = 4096;
/// Longest credential or verifier body (RFC 5531 §8.2).
const AUTH_MAX: usize = 400;
/// Most supplementary groups in AUTH_SYS (RFC 5531 appendix A).
const GIDS_MAX: u32 = 16;
/// Who AUTH_NONE is.
const NOBODY: u32 = 65534;
/// To setfsuid(2), setfsgid(2) and chown(2) the id that changes nothing: nobody has it.
const NO_ID: u32 = u32::MAX;

pub const LAST_FRAGMENT: u32 = 1 << 31;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;
/// Asks whether TLS may be begun (RFC 9289 §4.1), and the answer that it may.
const AUTH_TLS: u32 = 7;
const STARTTLS: &[u8; 8] = b"STARTTLS";

/// Reads one record into `record`; false at the end of the stream between records.
pub async fn read_record(
    stream: &mut (impl AsyncRead + Unpin),
    record: &mut Vec<u8>,
    max: usize,
) -> io::Result<bool> {
    record.clear();
    for fragment in 0..FRAGMENTS_MAX {
        let mut mark = [0; 4];
        let mut here = 0;
        while here < mark.len() {
            match stream.read(&mut mark[here..]).await? {
                0 if fragment == 0 && here == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => here += n,
            }
        }
        let mark = u32::from_be_bytes(mark);
        let len = (mark & !LAST_FRAGMENT) as usize;
        if record.len() + len > max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record longer than allowed",
            ));
        }
        let mut part = stream.take(len as u64);
        let before = record.len();
        // Grows with what arrives, not with what was announced.
        while record.len() < before + len {
            if part.read_buf(record).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if mark & LAST_FRAGMENT != 0 {
            return Ok(true);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "a record of too many fragments",
    ))
}

/// Starts a record in `out`; [`finish_record`] writes its mark.
pub fn start_record(out: &mut Vec<u8>) -> usize {
    out.u32(0);
    out.len()
}

/// Ends the record that began at `start`: one fragment, as some clients need.
pub fn finish_record(out: &mut [u8], start: usize) {
    let len = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&(len | LAST_FRAGMENT).to_be_bytes());
}

/// A call's header, and where its arguments are.
pub struct Call<'a> {
    pub xid: u32,
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub caller: Result<Caller, AuthError>,
    /// The credential is AUTH_TLS, which is nobody's.
    pub tls: bool,
    pub args: Reader<'a>,
}

/// auth_stat (RFC 5531 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    BadCred = 1,
    RejectedCred = 2,
    /// It has to come over TLS.
    TooWeak = 5,
}

/// Why a record is no call that can be answered normally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCall {
    /// Not even an xid, or a reply: nothing can be answered.
    Unanswerable,
    /// Another RPC version: RPC_MISMATCH.
    Version { xid: u32 },
    /// The header does not decode.
    Header { xid: u32 },
}

pub fn parse_call(record: &[u8]) -> Result<Call<'_>, BadCall> {
    let mut r = Reader::new(record);
    let xid = r.u32().map_err(|_| BadCall::Unanswerable)?;
    if r.u32() != Ok(0) {
        return Err(BadCall::Unanswerable);
    }
    let header = |_: Garbage| BadCall::Header { xid };
    if r.u32().map_err(header)? != 2 {
        return Err(BadCall::Version { xid });
    }
    let program = r.u32().map_err(header)?;
    let version = r.u32().map_err(header)?;
    let procedure = r.u32().map_err(header)?;
    let flavor = r.u32().map_err(header)?;
    let body = r.opaque(AUTH_MAX).map_err(header)?;
    r.u32().and_then(|_| r.opaque(AUTH_MAX)).map_err(header)?;
    let caller = match flavor {
        AUTH_NONE => Ok(Caller {
            uid: NOBODY,
            gid: NOBODY,
            gids: Vec::new(),
        }),
        AUTH_SYS => auth_sys(body).map_err(|_| AuthError::BadCred),
        _ => Err(AuthError::RejectedCred),
    };
    Ok(Call {
        xid,
        program,
        version,
        procedure,
        caller,
        tls: flavor == AUTH_TLS,
        args: r,
    })
}

fn auth_sys(body: &[u8]) -> Decoded<Caller> {
    let mut r = Reader::new(body);
    r.u32()?;
    r.opaque(255)?;
    let (uid, gid) = (r.u32()?, r.u32()?);
    let count = r.u32()?;
    if count > GIDS_MAX {
        return Err(Garbage);
    }
    let gids = (0..count).map(|_| r.u32()).collect::<Decoded<Vec<u32>>>()?;
    match uid == NO_ID || gid == NO_ID || gids.contains(&NO_ID) {
        true => Err(Garbage),
        false => Ok(Caller { uid, gid, gids }),
    }
}

/// A call's header, as the client writes it.
pub fn put_call(
    out: &mut Vec<u8>,
    xid: u32,
    program: u32,
    version: u32,
    procedure: u32,
    who: &Caller,
) {
    for word in [xid, 0, 2, program, version, procedure, AUTH_SYS] {
        out.u32(word);
    }
    let gids = &who.gids[..who.gids.len().min(GIDS_MAX as usize)];
    out.u32(4 + 4 + 4 + 4 + 4 + 4 * gids.len() as u32);
    for word in [0, 0, who.uid, who.gid, gids.len() as u32] {
        out.u32(word);
    }
    for gid in gids {
        out.u32(*gid);
    }
    out.u32(AUTH_NONE);
    out.u32(0);
}

/// accept_stat of a reply (RFC 5531 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    Success,
    ProgUnavail,
    ProgMismatch { low: u32, high: u32 },
    ProcUnavail,
    GarbageArgs,
    SystemErr,
}

/// The header of an accepted reply; results follow a success.
pub fn put_accepted(out: &mut Vec<u8>, xid: u32, accept: Accept) {
    for word in [xid, 1, 0, AUTH_NONE, 0] {
        out.u32(word);
    }
    match accept {
        Accept::Success => out.u32(0),
        Accept::ProgUnavail => out.u32(1),
        Accept::ProgMismatch { low, high } => {
            out.u32(2);
            out.u32(low);
            out.u32(high);
        }
        Accept::ProcUnavail => out.u32(3),
        Accept::GarbageArgs => out.u32(4),
        Accept::SystemErr => out.u32(5),
    }
}

/// MSG_DENIED with RPC_MISMATCH: only version 2 is spoken.
pub fn put_rpc_mismatch(out: &mut Vec<u8>, xid: u32) {
    for word in [xid, 1, 1, 0, 2, 2] {
        out.u32(word);
    }
}

/// MSG_DENIED with AUTH_ERROR.
pub fn put_auth_error(out: &mut Vec<u8>, xid: u32, error: AuthError) {
    for word in [xid, 1, 1, 1, error as u32] {
        out.u32(word);
    }
}

/// The answer to a probe: what follows on the connection is a TLS handshake.
pub fn put_starttls(out: &mut Vec<u8>, xid: u32) {
    for word in [xid, 1, 0, AUTH_NONE, STARTTLS.len() as u32] {
        out.u32(word);
    }
    out.extend_from_slice(STARTTLS);
    out.u32(0);
}

/// NULL with AUTH_TLS: whether the server takes TLS.
pub fn put_probe(out: &mut Vec<u8>, xid: u32, program: u32, version: u32) {
    for word in [xid, 0, 2, program, version, 0, AUTH_TLS, 0, AUTH_NONE, 0] {
        out.u32(word);
    }
}

/// Whether a reply to that says so. One that refuses the credential, or has another verifier, is of a
/// server without TLS.
pub fn is_starttls(reply: &[u8], xid: u32) -> Decoded<bool> {
    let mut r = Reader::new(reply);
    if (r.u32()?, r.u32()?) != (xid, 1) {
        return Err(Garbage);
    }
    if r.u32()? != 0 {
        return Ok(false);
    }
    let flavor = r.u32()?;
    let verifier = r.opaque(AUTH_MAX)?;
    r.u32()?;
    Ok(flavor == AUTH_NONE && verifier == STARTTLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_and_its_answer_are_these_bytes() {
        let mut probe = Vec::new();
        put_probe(&mut probe, 9, 100_003, 3);
        let words = [9, 0, 2, 100_003, 3, 0, 7, 0, 0, 0u32];
        assert_eq!(probe, words.map(u32::to_be_bytes).concat());
        let call = parse_call(&probe).expect("a call");
        assert!(call.tls && call.caller.is_err() && call.args.rest().is_empty());
        let mut answer = Vec::new();
        put_starttls(&mut answer, 9);
        let head = [9, 1, 0, 0, 8u32].map(u32::to_be_bytes).concat();
        assert_eq!(answer, [&head[..], b"STARTTLS", &[0; 4]].concat());
        assert_eq!(is_starttls(&answer, 9), Ok(true));
    }

    #[test]
    fn who_has_an_id_that_means_no_change_is_nobody() {
        let caller = |uid, gid, gids: &[u32]| {
            let mut call = Vec::new();
            let gids = gids.to_vec();
            put_call(&mut call, 9, 100_003, 3, 0, &Caller { uid, gid, gids });
            parse_call(&call).expect("a call").caller.map(|is| is.uid)
        };
        let (last, none) = (u32::MAX - 1, u32::MAX);
        assert_eq!(caller(last, last, &[last]), Ok(last));
        let bad = Err(AuthError::BadCred);
        assert_eq!(caller(none, 1, &[]), bad, "its user");
        assert_eq!(caller(1, none, &[]), bad, "its group");
        assert_eq!(caller(1, 1, &[2, none]), bad, "one of its groups");
    }

    #[test]
    fn other_answers_are_of_servers_without_tls_or_none_at_all() {
        let reply = |words: &[u32]| {
            words
                .iter()
                .flat_map(|w| w.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let mut plain = Vec::new();
        put_accepted(&mut plain, 9, Accept::Success);
        let mut denied = Vec::new();
        put_auth_error(&mut denied, 9, AuthError::RejectedCred);
        let other = reply(&[9, 1, 0, 0, 8, 0x5354_4152, 0x5454_4c00, 0]);
        let flavor = reply(&[9, 1, 0, 1, 8, 0x5354_4152, 0x5454_4c53, 0]);
        for no in [&plain, &denied, &other, &flavor] {
            assert_eq!(is_starttls(no, 9), Ok(false), "{no:?}");
        }
        let mut answer = Vec::new();
        put_starttls(&mut answer, 9);
        assert_eq!(is_starttls(&answer, 8), Err(Garbage), "another call's");
        for cut in 0..answer.len() {
            assert_eq!(is_starttls(&answer[..cut], 9), Err(Garbage), "{cut}");
        }
    }
}
