//! What the fuzz targets of this crate call of the engine's inside.

use super::Service;
use super::call::{self, Answer, Clock, Place, Session};
use super::privacy::Privacy;
use crate::vfs::Peer;

pub(crate) use super::inbox::Inbox;
pub(crate) use super::room::Room;
pub(crate) use super::spares::Spares;
pub(crate) use call::cost;

/// Answers one record as a thread of the server does, for a peer that may call all programs;
/// and as the socket's task does first, which must say the same where it says something.
pub fn ran(service: &Service, record: &[u8], out: &mut Vec<u8>) {
    let session = Session::new(Peer::Memory);
    let mut clock = Clock::start();
    let mut first = Vec::new();
    let quick = call::answer(
        service,
        &session,
        record,
        Place::Socket,
        &mut clock,
        &mut first,
    );
    match quick {
        Answer::Blocked => {
            assert!(first.is_empty());
            call::answer(service, &session, record, Place::Thread, &mut clock, out);
        }
        Answer::Whole | Answer::Hello(_) => *out = first,
        Answer::StartTls => panic!("TLS where there is none"),
    }
}

/// What is answered where TLS is required and was not begun; and whether it begins then.
pub fn without_tls(service: &Service, record: &[u8]) -> (Vec<u8>, bool) {
    let (session, clock) = (Session::new(Peer::Memory), &mut Clock::start());
    let service = service.with(Privacy::Required);
    let mut out = Vec::new();
    let answer = call::answer(&service, &session, record, Place::Socket, clock, &mut out);
    (out, matches!(answer, Answer::StartTls))
}
