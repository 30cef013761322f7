//! The sockets: control and NFS for this host, NFS over TCP for kernel clients and,
//! when asked, for other hosts.

use super::http::Peer;
use super::local::{KERNEL_PORT, Nfs};
use super::serve::ServeError;
use super::state::Daemon;
use super::{Portmap, ServeOptions, aide, sys};
use crate::control::hosts::RpcTls;
use crate::tls;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use pocker_nfs::portmap;
use pocker_nfs::server::{Allow, CONNECTIONS_MAX, Kernels, Options, Server, Tls};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::watch;

/// Of the descriptors that this process may have, a listener's connections take at most one
/// in so many: five listeners leave a third of them for files.
const DESCRIPTORS_PER_CONNECTION: usize = 8;

/// Starts every NFS listener.
pub async fn nfs(daemon: &Arc<Daemon>, local: Nfs, owner: u32) -> Result<Server, ServeError> {
    let options = &daemon.options;
    let server = Server::with(daemon.nfs.clone());
    let any = Options {
        connections: connections(),
        ..Options::default()
    };
    let own = Options {
        owner: Some(owner),
        ..any.clone()
    };
    let runtime = ServeError::Runtime;
    let [calls, files] = [local.calls, local.files].map(UnixListener::from_std);
    server.listen_unix(calls.map_err(runtime)?, own.clone());
    // Where the kernel's client alone mounts, nobody asks for descriptors, which pledge(2) would have to allow.
    if !crate::sys::bsd::CONFINES {
        server.listen_descriptors(files.map_err(runtime)?, own);
    }
    if let Some(kernel) = local.kernel {
        if let Some(listener) = kernel.listener {
            let listener = TcpListener::from_std(listener).map_err(runtime)?;
            let options = Options {
                reserved_port: true,
                transfer: sys::KERNEL_TRANSFER,
                kernels: kernels(KERNEL_PORT),
                ..any.clone()
            };
            server.listen_tcp(listener, options);
        }
        let _ = daemon.kernel.set(kernel.at);
    }
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, KERNEL_PORT));
    if let Some(addr) = options.listen {
        let allow = allow(options);
        let any = Options { allow, ..any };
        let remote = Options {
            reserved_port: true,
            // Whoever may ask at all is a host that was named.
            helpers: !options.allow.is_empty(),
            transfer: match covers(addr, own) && !sys::PRIVATE_NETNS {
                true => sys::KERNEL_TRANSFER,
                false => any.transfer,
            },
            tls: private(options)?,
            kernels: kernels(addr.port()),
            ..any.clone()
        };
        server.listen_tcp(tcp(addr).await?, remote.clone());
        server.listen_udp(udp(addr).await?, remote);
        let (read_only, tls) = (options.read_only, options.rpc_tls());
        tracing::info!(%addr, read_only, ?tls, "serving other hosts");
        portmap(&server, options.portmap, addr, any).await?;
    }
    Ok(server)
}

/// Of this host's own only its kernel, where the system tells it from processes: a root in a chroot has reserved ports too.
fn kernels(port: u16) -> Option<Kernels> {
    sys::TELLS_KERNELS.then(|| Kernels::these(move |peer| aide::is_kernels(peer, port)))
}

/// TLS for NFS with other hosts.
fn private(options: &ServeOptions) -> Result<Option<Tls>, ServeError> {
    let how = options.rpc_tls();
    let Some(files) = options.tls.as_ref().filter(|_| how != RpcTls::Off) else {
        return Ok(None);
    };
    let by = tls::rpc_server(tls::RpcServer {
        cert: &files.cert,
        key: &files.key,
        ca: files.ca.as_deref(),
        revoked: &files.revoked,
        mutual: how == RpcTls::Mutual,
    })?;
    Ok(Some(Tls {
        by,
        required: how >= RpcTls::Require,
        // Where this host's own kernel comes by the same way, it does so without.
        not_from_here: !sys::PRIVATE_NETNS,
    }))
}

/// Who is served over TCP and UDP. Where this host's own kernel comes by the same way, it is too.
fn allow(options: &ServeOptions) -> Allow {
    if options.allow.is_empty() {
        return Allow::default();
    }
    let nets = options.allow.clone();
    Allow::these(move |addr| {
        let own = !sys::PRIVATE_NETNS && addr.is_loopback();
        own || nets.iter().any(|net| net.contains(&addr))
    })
}

/// Whether a listener at `addr` is reached at `at` too.
pub fn covers(addr: SocketAddr, at: SocketAddr) -> bool {
    addr.port() == at.port() && (addr.ip() == at.ip() || addr.ip().is_unspecified())
}

/// Connections that a listener may have, by the descriptors there are.
fn connections() -> usize {
    match sys::raise_descriptors() {
        Ok(all) => all / DESCRIPTORS_PER_CONNECTION,
        Err(e) => {
            tracing::warn!("cannot tell how many descriptors this process may have: {e}");
            CONNECTIONS_MAX
        }
    }
}

pub async fn tcp(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    let what = || format!("{addr} (TCP)");
    let refused = |source| ServeError::Listen {
        what: what(),
        source,
    };
    TcpListener::bind(addr).await.map_err(refused)
}

async fn udp(addr: SocketAddr) -> Result<UdpSocket, ServeError> {
    let what = || format!("{addr} (UDP)");
    let refused = |source| ServeError::Listen {
        what: what(),
        source,
    };
    UdpSocket::bind(addr).await.map_err(refused)
}

async fn portmap(
    server: &Server,
    how: Portmap,
    addr: SocketAddr,
    options: Options,
) -> Result<(), ServeError> {
    let mappings = portmap::mappings(addr.port());
    match how {
        Portmap::Off => {}
        Portmap::Builtin => {
            let at = SocketAddr::new(addr.ip(), portmap::PORTMAP_PORT);
            server.listen_portmap(tcp(at).await?, udp(at).await?, options, mappings);
        }
        Portmap::Register => {
            let registered = tokio::task::spawn_blocking(move || portmap::register(&mappings));
            registered
                .await
                .map_err(|e| ServeError::Runtime(e.into()))?
                .map_err(ServeError::Register)?;
        }
    }
    Ok(())
}

/// Takes back what was registered; the portmapper may be gone by now.
pub async fn unregister(daemon: &Daemon) {
    let options = &daemon.options;
    let (Portmap::Register, Some(addr)) = (options.portmap, options.listen) else {
        return;
    };
    let mappings = portmap::mappings(addr.port());
    let done = tokio::task::spawn_blocking(move || portmap::unregister(&mappings)).await;
    if let Ok(Err(e)) = done {
        tracing::warn!("{e}");
    }
}

/// Answers control connections until told to stop; only root's are answered at all.
pub async fn serve_control(
    listener: UnixListener,
    owner: u32,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("cannot accept a control connection: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let peer = match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == owner => {
                Peer::Here(peer.pid().unwrap_or_default())
            }
            _ => continue,
        };
        let routes = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            routes.call(request)
        });
        let builder = Builder::new(TokioExecutor::new());
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that hangs up early is its own affair.
            let _ = connection.await;
        });
    }
    graceful.shutdown().await;
}

/// Who scrapes at once: the rest wait.
const SCRAPES: usize = 8;
/// A scrape takes milliseconds; who holds on to a connection for longer loses it.
const SCRAPE: std::time::Duration = std::time::Duration::from_secs(10);

/// Answers on a TCP port that anybody may reach, so each connection is for one answer.
pub async fn serve_metrics(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(tokio::sync::Semaphore::new(SCRAPES));
    loop {
        let accepted = tokio::select! {
            accepted = async { (places.clone().acquire_owned().await, listener.accept().await) } => accepted,
            _ = stop.changed() => return,
        };
        let (place, stream) = match accepted {
            (Ok(place), Ok((stream, _))) => (place, stream),
            (_, Err(e)) => {
                tracing::warn!("cannot accept a connection for metrics: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
            // It is never closed.
            (Err(_), Ok(_)) => return,
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut http = hyper::server::conn::http1::Builder::new();
            let http = http.keep_alive(false).max_buf_size(16 << 10);
            let _ =
                tokio::time::timeout(SCRAPE, http.serve_connection(TokioIo::new(stream), service))
                    .await;
        });
    }
}
