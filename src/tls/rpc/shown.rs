//! A connection whose peer has shown a certificate: it ends when that is revoked.

use crate::tls::revoked::Taken;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_rustls::server::TlsStream;

/// How often it is looked whether there is another list.
const LOOK: Duration = Duration::from_secs(1);

pub struct Shown {
    stream: TlsStream<TcpStream>,
    by: Arc<Taken>,
    chain: Vec<CertificateDer<'static>>,
    seen: u64,
    /// When its certificate was good.
    good: UnixTime,
    look: Interval,
    over: bool,
}

impl Shown {
    pub fn new(
        stream: TlsStream<TcpStream>,
        by: Arc<Taken>,
        chain: Vec<CertificateDer<'static>>,
        (seen, good): (u64, UnixTime),
    ) -> Shown {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Shown {
            stream,
            by,
            chain,
            seen,
            good,
            look,
            over: false,
        }
    }

    fn still_good(&self) -> io::Result<()> {
        match self.over {
            false => Ok(()),
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "its certificate was revoked",
            )),
        }
    }
}

impl AsyncRead for Shown {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Until it is pending: then it wakes who reads here.
        while !this.over && this.look.poll_tick(cx).is_ready() {
            if this
                .by
                .revoked_since(&mut this.seen, &this.chain, this.good)
            {
                let peer = this.stream.get_ref().0.peer_addr().ok();
                tracing::warn!(?peer, "its certificate was revoked: the connection ends");
                this.over = true;
            }
        }
        this.still_good()?;
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Shown {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.still_good()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.still_good()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
