//! Whether ports can be had, before an engine is asked for them: it would only say no.

use super::{NetError, Protocol, Publish};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

pub fn check(ports: &[Publish]) -> Result<(), NetError> {
    for port in ports {
        let tried = match port.protocol {
            Protocol::Tcp => tcp(port).map_err(io::Error::from),
            Protocol::Udp => UdpSocket::bind(port.host).map(drop),
        };
        let port = *port;
        tried.map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => NetError::InUse { port },
            _ => NetError::Listen { port, cause },
        })?;
    }
    Ok(())
}

/// As servers listen: what is left of a connection that has ended is not in the way.
fn tcp(port: &Publish) -> Result<(), Errno> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(port.host))?;
    listen(&socket, Backlog::new(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_and_an_address_of_another_host_are_told_apart() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let publish = |text: String| text.parse::<Publish>().unwrap();
        let taken = publish(format!("127.0.0.1:{port}:80"));
        let error = check(&[taken]).unwrap_err();
        assert!(
            matches!(error, NetError::InUse { .. }) && error.hint().is_some(),
            "{error}"
        );
        assert!(check(&[publish(format!("127.0.0.1:{port}:80/udp"))]).is_ok());
        let elsewhere = publish(format!("198.51.100.7:{port}:80"));
        assert!(matches!(check(&[elsewhere]), Err(NetError::Listen { .. })));
        drop(held);
        assert!(check(&[taken]).is_ok());
    }
}
