//! The server engine: connections in, replies out, the file system's work off the
//! socket tasks.

mod call;
mod connection;
mod counters;
mod descriptors;
mod elsewhere;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod guests;
mod inbox;
mod latency;
mod mounts;
mod nfs3;
mod once;
mod other;
mod outbox;
mod patience;
mod privacy;
mod readdir;
mod room;
mod spares;
#[cfg(test)]
mod tests;
mod udp;

pub use call::Programs;
pub use connection::{Limits, Service, serve_connection};
pub use counters::{Count, Counters};
pub use elsewhere::{Channels, serve_elsewhere};
pub use guests::CONNECTIONS_MAX;
pub use latency::{BUCKETS, Times};
pub use mounts::{Mounted, Mounts};
pub use privacy::Tls;
pub use room::{Pool, SERVER_HELD};

use crate::portmap::Mapping;
use crate::rpc::IO_MAX;
use crate::vfs::{Peer, Vfs};
use guests::Guests;
use nix::sys::socket::{setsockopt, sockopt::KeepAlive};
use privacy::Privacy;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket, UnixListener, UnixStream};
use tokio::sync::watch;

/// Addresses that may be served; all, unless told otherwise.
#[derive(Clone, Default)]
pub struct Allow(Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>);

impl Allow {
    pub fn these(which: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Allow {
        Allow(Some(Arc::new(which)))
    }

    fn has(&self, addr: IpAddr) -> bool {
        // An IPv4 peer of a listener for both is the same peer.
        self.0
            .as_ref()
            .is_none_or(|which| which(addr.to_canonical()))
    }
}

impl std::fmt::Debug for Allow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Allow(some)",
            None => "Allow(all)",
        })
    }
}

/// Tells the kernels' connections from processes'.
#[derive(Clone)]
pub struct Kernels(Arc<dyn Fn(SocketAddr) -> Option<bool> + Send + Sync>);

impl Kernels {
    /// `which` may wait, and does not always know.
    pub fn these(which: impl Fn(SocketAddr) -> Option<bool> + Send + Sync + 'static) -> Kernels {
        Kernels(Arc::new(which))
    }

    fn has(&self, peer: SocketAddr) -> Option<bool> {
        (self.0)(peer)
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernels")
    }
}

/// What a listener asks of its peers.
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP and UDP: where peers may be.
    pub allow: Allow,
    /// TCP: peers are hosts that are trusted as this one is, whose helpers speak our own
    /// program too.
    pub helpers: bool,
    /// TCP: the source port is below 1024, so root opened it.
    pub reserved_port: bool,
    /// TCP: of the connections of this host itself only kernels' have NFS; MOUNT and NULL are anybody's.
    pub kernels: Option<Kernels>,
    /// Unix: the peer is root, or this user.
    pub owner: Option<u32>,
    /// Connections at once, [`CONNECTIONS_MAX`] at most.
    pub connections: usize,
    /// Most bytes of a READ, a WRITE or a listing: FSINFO says so, and no reply has more. A
    /// power of two, as the BSDs' clients count blocks with it.
    pub transfer: u32,
    /// TCP: connections may be made private, or have to be. UDP has no TLS: what has to be private is
    /// refused there.
    pub tls: Option<Tls>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            allow: Allow::default(),
            helpers: false,
            reserved_port: false,
            kernels: None,
            owner: None,
            connections: CONNECTIONS_MAX,
            transfer: IO_MAX,
            tls: None,
        }
    }
}

/// A server and its listeners.
pub struct Server {
    service: Service,
    stop: watch::Sender<bool>,
}

/// One open connection, counted until this is dropped, however its task ends.
struct Open(Arc<watch::Sender<usize>>);

impl Open {
    fn new(live: &Arc<watch::Sender<usize>>) -> Open {
        live.send_modify(|open| *open += 1);
        Open(live.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Server {
    pub fn new(vfs: Arc<dyn Vfs>) -> Server {
        Server::with(Service::new(vfs))
    }

    /// With limits and counters of the caller's choice.
    pub fn with(service: Service) -> Server {
        Server {
            service,
            stop: watch::Sender::new(false),
        }
    }

    /// What was called so far.
    pub fn counters(&self) -> &Counters {
        &self.service.counters
    }

    pub fn listen_unix(&self, listener: UnixListener, options: Options) {
        self.listen_local(listener, options, spawn);
    }

    /// Where local helpers are given descriptors ([`crate::descriptors`]).
    pub fn listen_descriptors(&self, listener: UnixListener, options: Options) {
        self.listen_local(listener, options, |service, guests, stream, peer, stop| {
            let (asked, mut stop) = (service.clone(), stop.clone());
            spawn_serving(service, guests, peer.clone(), async move {
                tokio::select! {
                    served = descriptors::serve(asked, stream, peer) => served,
                    // Nothing is half done that a helper cannot ask for again.
                    _ = stop.wait_for(|stop| *stop) => Ok(()),
                }
            });
        });
    }

    fn listen_local<F>(&self, listener: UnixListener, options: Options, spawn: F)
    where
        F: Fn(&Service, &Arc<Guests>, UnixStream, Peer, &watch::Receiver<bool>) + Send + 'static,
    {
        let service = self.service.clone();
        let guests = Guests::new(options.connections);
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let Some((stream, _)) = taken(accepted).await else {
                    continue;
                };
                let Ok(cred) = stream.peer_cred() else {
                    continue;
                };
                let knows = |owner| cred.uid() == 0 || cred.uid() == owner;
                if !options.owner.is_none_or(knows) {
                    guests.complain(&format!("it is not root's, but of uid {}", cred.uid()));
                    continue;
                }
                let peer = Peer::Unix {
                    uid: cred.uid(),
                    gid: cred.gid(),
                    pid: cred.pid(),
                };
                spawn(&service, &guests, stream, peer, &stop);
            }
        });
    }

    pub fn listen_tcp(&self, listener: TcpListener, options: Options) {
        let transfer = options.transfer;
        let programs = match options.helpers {
            true => Programs::Helpers,
            false => Programs::Nfs,
        };
        let service = self.service.serving(programs).transferring(transfer);
        let service = service.to_kernels(options.kernels.clone());
        self.listen(listener, options, service);
    }

    /// MOUNT over UDP, as some clients ask for it; NFS itself is on TCP only.
    pub fn listen_udp(&self, socket: UdpSocket, options: Options) {
        let mut service = self.service.serving(Programs::Mount);
        if options.tls.as_ref().is_some_and(|tls| tls.required) {
            service = service.with(Privacy::Required);
        }
        udp::serve(service, socket, options, self.stop.subscribe());
    }

    /// A portmapper that tells of these, for anybody who asks.
    pub fn listen_portmap(
        &self,
        tcp: TcpListener,
        udp: UdpSocket,
        options: Options,
        mappings: Vec<Mapping>,
    ) {
        let service = self.service.serving(Programs::Portmap(mappings.into()));
        udp::serve(service.clone(), udp, options.clone(), self.stop.subscribe());
        self.listen(tcp, options, service);
    }

    fn listen(&self, listener: TcpListener, options: Options, service: Service) {
        let guests = Guests::new(options.connections);
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let Some((stream, addr)) = taken(accepted).await else {
                    continue;
                };
                if !options.allow.has(addr.ip()) {
                    guests.complain(&format!("{} is not among the hosts allowed", addr.ip()));
                    continue;
                }
                if options.reserved_port && addr.port() >= 1024 {
                    guests.complain(&format!("anybody may use the port of {addr}"));
                    continue;
                }
                // Replies are whole when they are written: waiting for more gains nothing.
                let _ = stream.set_nodelay(true);
                // A client that crashed must not keep its place for ever.
                let _ = setsockopt(&stream, KeepAlive, &true);
                let peer = Peer::Tcp(addr);
                let Some(tls) = &options.tls else {
                    spawn(&service, &guests, stream, peer, &stop);
                    continue;
                };
                let own = service.with(Privacy::of(&options, addr.ip()));
                let both = (own, guests.clone());
                let (by, stop) = (tls.by.clone(), stop.clone());
                let served = privacy::serve_offering(both, by, stream, peer.clone(), stop);
                spawn_serving(&service, &guests, peer, served);
            }
        });
    }

    /// Takes no more calls, finishes those in hand, closes; gives up `within` that time.
    pub async fn shutdown(self, within: Duration) {
        self.stop.send_replace(true);
        let mut live = self.service.live.subscribe();
        // Past the deadline what is open ends with the process.
        let _ = tokio::time::timeout(within, live.wait_for(|open| *open == 0)).await;
    }
}

async fn taken<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(e) => {
            // Out of descriptors, most likely: the loop must not spin.
            tracing::warn!("cannot accept a connection: {e}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn spawn<S>(
    service: &Service,
    guests: &Arc<Guests>,
    stream: S,
    peer: Peer,
    stop: &watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = serve_connection(service.clone(), stream, peer.clone(), stop.clone());
    spawn_serving(service, guests, peer, served);
}

fn spawn_serving<F>(service: &Service, guests: &Arc<Guests>, peer: Peer, served: F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let Some((place, give_way)) = guests.admit(&peer) else {
        return;
    };
    let places = (Open::new(&service.live), place);
    tokio::spawn(async move {
        let _places = places;
        tokio::select! {
            ended = served => {
                if let Err(e) = ended {
                    tracing::debug!(?peer, "a connection ended: {e}");
                }
            }
            _ = give_way => tracing::debug!(?peer, "a connection gave way to another peer's"),
        }
    });
}
