//! The sockets: control and NFS for this host, NFS over TCP for kernel clients and,
//! when asked, for other hosts.

use super::serve::ServeError;
use super::state::Daemon;
use super::sys;
use crate::control::api::KernelListener;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use pocker_nfs::server::{Options, Server};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// Port of the kernel's listener inside the private network namespace.
const KERNEL_PORT: u16 = 2049;

fn refused(what: &Path) -> impl Fn(std::io::Error) -> ServeError {
    let what = what.display().to_string();
    move |source| ServeError::Listen {
        what: what.clone(),
        source,
    }
}

/// A unix socket for root alone. The store's lock is held, so a socket found here is a
/// dead server's.
fn unix(path: &Path) -> Result<UnixListener, ServeError> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(refused(path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(refused(path))?;
    Ok(listener)
}

/// Starts every NFS listener.
pub async fn nfs(daemon: &Arc<Daemon>) -> Result<Server, ServeError> {
    let options = &daemon.options;
    let server = Server::new(daemon.exports.clone());
    let local = Options {
        root_peer_only: true,
        ..Options::default()
    };
    server.listen_unix(unix(&options.nfs_socket())?, local);
    if sys::kernel_nfs() {
        match sys::private_listener(&options.netns_pin(), KERNEL_PORT) {
            Ok(listener) => {
                let listener = tokio_listener(listener)
                    .map_err(refused(Path::new("the private network namespace")))?;
                server.listen_tcp(
                    listener,
                    Options {
                        reserved_port: true,
                        ..Options::default()
                    },
                );
                let netns = sys::PRIVATE_NETNS.then(|| options.netns_pin().display().to_string());
                let addr = format!("127.0.0.1:{KERNEL_PORT}");
                let _ = daemon.kernel.set(KernelListener { netns, addr });
            }
            // FUSE still works: `doctor` says what is missing.
            Err(e) => tracing::warn!("no listener for kernel clients: {e}"),
        }
    }
    if let Some(addr) = options.listen {
        let listener = TcpListener::bind(addr)
            .await
            .map_err(|source| ServeError::Listen {
                what: addr.to_string(),
                source,
            })?;
        tracing::info!(%addr, "serving other hosts");
        server.listen_tcp(
            listener,
            Options {
                reserved_port: true,
                ..Options::default()
            },
        );
    }
    Ok(server)
}

fn tokio_listener(listener: std::net::TcpListener) -> std::io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

pub fn control(daemon: &Daemon) -> Result<UnixListener, ServeError> {
    unix(&daemon.options.control_socket())
}

/// Answers control connections until told to stop; only root's are answered at all.
pub async fn serve_control(
    listener: UnixListener,
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
        let own = nix::unistd::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == own => {}
            _ => continue,
        }
        let service = TowerToHyperService::new(router.clone());
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
