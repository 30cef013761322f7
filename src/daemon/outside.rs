//! The control API for other hosts: the routes of the unix socket, over TLS, for those on the list.

use super::crowd::Crowd;
use super::http::{Outside, STALLED};
use super::serve::ServeError;
use super::{ServeOptions, listen};
use crate::tls;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// Connections at once, in all and of one address: a host has one for each command.
const ALL: usize = 1024;
const OF_ONE: usize = 256;
/// How long a handshake, and a request's headers, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much is read of who is turned away, so that it hears why.
const TURNED_AWAY: u64 = 64 << 10;
/// A fatal alert, access_denied (RFC 8446, section 6): who speaks TLS is told before any handshake.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Where it listens: on the port after that of NFS.
pub fn address(nfs: SocketAddr) -> SocketAddr {
    SocketAddr::new(nfs.ip(), nfs.port().saturating_add(1))
}

/// Listens, where a certificate is there to show; the task that serves.
pub async fn start(
    options: &ServeOptions,
    router: Router,
    stop: watch::Receiver<bool>,
) -> Result<Option<tokio::task::JoinHandle<()>>, ServeError> {
    let Some(nfs) = options.listen.filter(|_| !options.allow.is_empty()) else {
        return Ok(None);
    };
    let Some(files) = &options.tls else {
        tracing::warn!(
            "no control API for other hosts, as there is no certificate: `pocker serve init-tls`"
        );
        return Ok(None);
    };
    let config = tls::server(&files.cert, &files.key)?;
    let addr = address(nfs);
    let listener = listen::tcp(addr).await?;
    tracing::info!(%addr, allow = ?options.allow, "serving the control API to other hosts");
    let acceptor = TlsAcceptor::from(config);
    let allow = options.allow.clone();
    let places = || Crowd::new(ALL, OF_ONE);
    let served = serve(listener, acceptor, allow, router, stop, places);
    Ok(Some(tokio::spawn(served)))
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    allow: Vec<IpNet>,
    router: Router,
    mut stop: watch::Receiver<bool>,
    places: impl Fn() -> Arc<Crowd>,
) {
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    // Strangers have places of their own: they take none of a host's.
    let (crowd, strangers) = (places(), places());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("cannot accept a connection of another host: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let from = peer.ip().to_canonical();
        if !allow.iter().any(|net| net.contains(&from)) {
            tracing::warn!(peer = %from, "refused: not among the hosts allowed");
            let Some(place) = strangers.admit(from) else {
                continue;
            };
            tokio::spawn(async move {
                let _place = place;
                let _ = tokio::time::timeout(PATIENCE, turn_away(stream)).await;
            });
            continue;
        }
        let Some(place) = crowd.admit(from) else {
            tracing::warn!(peer = %from, "too many connections");
            continue;
        };
        pocker_nfs::client::notice_death(&stream);
        let _ = stream.set_nodelay(true);
        let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            one(stream, from, acceptor, router, watcher).await;
        });
    }
    graceful.shutdown().await;
}

async fn one(
    stream: TcpStream,
    from: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let stream = patient(stream, STALLED);
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Somebody looked whether a server is here.
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            return tracing::debug!(peer = %from, "no TLS: {e}");
        }
        Ok(Err(e)) => return tracing::warn!(peer = %from, "no TLS: {e}"),
        Err(_) => return tracing::warn!(peer = %from, "no TLS within {PATIENCE:?}"),
    };
    speak(stream, from, router, watcher).await;
}

/// A stream whose peer takes something of what is written to it in that time: who reads no more of a
/// body would hold the thread that makes it.
fn patient<S: AsyncRead + AsyncWrite>(stream: S, stalled: Duration) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(stalled));
    Box::pin(stream)
}

/// HTTP on a connection of another host.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    from: IpAddr,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Outside(from));
        routes.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    // A client that hangs up early is its own affair.
    let _ = watcher.watch(connection).await;
}

/// Says why in TLS's words, and reads what came meanwhile: a connection that is closed with
/// something unread in it takes back what it said.
async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(&ACCESS_DENIED).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(TURNED_AWAY);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
