//! Calls in datagrams: MOUNT and the portmapper, which some clients ask over UDP only. A
//! sender's address may be a lie, so nothing here keeps state for it, one call is answered at
//! a time, and no reply is large.

use super::call::{self, Clock, Place, Session};
use super::{Options, Service};
use crate::vfs::Peer;
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Calls that fit in what UDP carries; larger ones are cut off by the kernel and do not decode.
const CALL_MAX: usize = 8 << 10;
/// A longer reply than classic RPC over UDP has (UDPMSGSIZE) is not sent: who wants a list
/// that long asks over TCP.
const REPLY_MAX: usize = 8800;

pub fn serve(
    service: Service,
    socket: UdpSocket,
    options: Options,
    mut stop: watch::Receiver<bool>,
) {
    tokio::spawn(async move {
        let mut buffer = vec![0; CALL_MAX];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            // An ICMP error of an earlier reply comes back here: it is nobody's.
            let Ok((len, from)) = received else {
                tokio::task::yield_now().await;
                continue;
            };
            if !options.allow.has(from.ip()) {
                continue;
            }
            if options.reserved_port && from.port() >= 1024 {
                continue;
            }
            let (service, record) = (service.clone(), buffer[..len].to_vec());
            let answered = tokio::task::spawn_blocking(move || {
                let mut out = Vec::new();
                let session = Session::new(Peer::Udp(from));
                let clock = &mut Clock::start();
                call::answer(&service, &session, &record, Place::Thread, clock, &mut out);
                out
            });
            // A datagram is a record already: the mark stays behind.
            if let Ok(reply) = answered.await
                && let Some(reply) = reply.get(4..)
                && (1..=REPLY_MAX).contains(&reply.len())
            {
                let _ = socket.send_to(reply, from).await;
            }
        }
    });
}
