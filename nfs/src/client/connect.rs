//! How a client reaches its server.

use super::starttls::StartTls;
use super::sys;
use crate::secure::Stream;
use async_trait::async_trait;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Makes one connection; called again after each that broke.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    async fn connect(&self) -> io::Result<Box<dyn Stream>>;
}

/// A unix socket of this host.
#[derive(Clone, Debug)]
pub struct UnixConnect(pub PathBuf);

#[async_trait]
impl Connect for UnixConnect {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(UnixStream::connect(&self.0).await?))
    }
}

/// TCP; servers that trust only root's ports want a reserved one.
#[derive(Clone, Debug)]
pub struct TcpConnect {
    pub addr: SocketAddr,
    pub reserved_port: bool,
}

/// The ports that rresvport(3) hands out.
const RESERVED: std::ops::RangeInclusive<u16> = 600..=1023;

#[async_trait]
impl Connect for TcpConnect {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = if self.reserved_port {
            self.reserved().await?
        } else {
            TcpStream::connect(self.addr).await?
        };
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// A port of a host that is called by its name, or by an address, and reached from a reserved
/// port. The name is looked up for each connection: a server that moves is found again.
pub struct HostConnect {
    pub host: String,
    pub port: u16,
    /// Where the server has it, or has to have it.
    pub tls: Option<StartTls>,
}

/// How long one attempt to connect may take; a few lost packets are no reason to give up.
const ATTEMPT: Duration = Duration::from_secs(8);

#[async_trait]
impl Connect for HostConnect {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        for addr in found {
            let one = TcpConnect {
                addr,
                reserved_port: true,
            };
            match tokio::time::timeout(ATTEMPT, one.reserved()).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    sys::notice_death(&stream);
                    return match &self.tls {
                        Some(tls) => tls.on(stream).await,
                        None => Ok(Box::new(stream)),
                    };
                }
                Ok(Err(e)) => last = e,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

impl TcpConnect {
    async fn reserved(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in RESERVED.clone().rev() {
            let (socket, any) = match self.addr {
                SocketAddr::V4(_) => (TcpSocket::new_v4()?, SocketAddr::from(([0, 0, 0, 0], port))),
                SocketAddr::V6(_) => (TcpSocket::new_v6()?, SocketAddr::from(([0u16; 8], port))),
            };
            match socket.bind(any) {
                Ok(()) => return socket.connect(self.addr).await,
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }
}
