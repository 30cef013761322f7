//! What a connection has of TLS (RFC 9289), and what its calls may ask for because of that.

use super::call::{Place, Session};
use super::connection::{Ended, converse, serve_connection};
use super::guests::Guests;
use super::{Options, Service};
use crate::rpc::{AuthError, Call};
use crate::secure::Secure;
use crate::vfs::Peer;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// TLS for a listener's connections.
#[derive(Clone)]
pub struct Tls {
    pub by: Arc<dyn Secure>,
    /// No call but NULL is answered without it.
    pub required: bool,
    /// Save those that come from this host: no network carries them.
    pub not_from_here: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.required {
            true => "Tls(required)",
            false => "Tls(offered)",
        })
    }
}

/// How a connection stands to TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    /// There is none here.
    #[default]
    None,
    /// It may be begun, as the first thing.
    Offered,
    /// And has to be.
    Required,
    /// It is under way.
    Begun,
}

/// What becomes of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Answer,
    /// It asks for TLS, and gets it.
    StartTls,
    Refuse(AuthError),
}

impl Privacy {
    pub fn of(options: &Options, from: IpAddr) -> Privacy {
        match &options.tls {
            None => Privacy::None,
            Some(tls) if !tls.required => Privacy::Offered,
            Some(tls) if tls.not_from_here && from.to_canonical().is_loopback() => Privacy::Offered,
            Some(_) => Privacy::Required,
        }
    }

    pub fn judge(self, session: &Session, call: &Call<'_>, place: Place) -> Verdict {
        let null = call.procedure == 0;
        match (self, call.tls) {
            (Privacy::Required, false) if !null => Verdict::Refuse(AuthError::TooWeak),
            (_, false) => Verdict::Answer,
            (Privacy::None, true) => Verdict::Refuse(AuthError::RejectedCred),
            // Only where nothing was said before: nothing of it is under way, nor remembered.
            (Privacy::Offered | Privacy::Required, true)
                if null && session.fresh && place == Place::Socket =>
            {
                Verdict::StartTls
            }
            (_, true) => Verdict::Refuse(AuthError::BadCred),
        }
    }
}

/// Serves a connection that may become private, or has to.
pub async fn serve_offering(
    (service, guests): (Service, Arc<Guests>),
    tls: Arc<dyn Secure>,
    stream: TcpStream,
    peer: Peer,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let plain = converse(service.clone(), stream, peer.clone(), stop.clone());
    let stream = match plain.await? {
        Ended::Over => return Ok(()),
        Ended::StartTls(stream) => stream,
    };
    let secured = tokio::select! {
        secured = tokio::time::timeout(HANDSHAKE, tls.secure(stream)) => secured,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let stream = match secured {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => {
            guests.complain(&format!("no TLS with {peer:?}: {e}"));
            return Err(e);
        }
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    serve_connection(service.with(Privacy::Begun), stream, peer, stop).await
}
