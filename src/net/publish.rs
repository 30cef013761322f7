//! `-p [HOSTIP:]HOSTPORT:PORT[/tcp|udp]`.

use super::{Mode, NetError, Wanted};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of the host that leads to one of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    pub host: SocketAddrV4,
    pub port: u16,
    pub protocol: Protocol,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.protocol)
    }
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Publish, String> {
        let form = || "of the form [HOSTIP:]HOSTPORT:PORT[/tcp|udp], as 8080:80".to_owned();
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(form()),
        };
        let (rest, port) = ports.rsplit_once(':').ok_or_else(form)?;
        let (ip, host_port) = match rest.rsplit_once(':') {
            Some((ip, host_port)) => {
                let ip = ip.parse::<Ipv4Addr>();
                (
                    ip.map_err(|_| {
                        format!(
                            "{} is no IPv4 address",
                            &rest[..rest.len() - host_port.len() - 1]
                        )
                    })?,
                    host_port,
                )
            }
            None => (Ipv4Addr::UNSPECIFIED, rest),
        };
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        Ok(Publish {
            host: SocketAddrV4::new(ip, number(host_port).ok_or_else(form)?),
            port: number(port).ok_or_else(form)?,
            protocol,
        })
    }
}

/// What goes together, and what does not.
pub fn check(wanted: &Wanted) -> Result<(), NetError> {
    if wanted.mode == Mode::Private {
        let twice = wanted.ports.iter().enumerate().find(|(at, port)| {
            wanted.ports[..*at]
                .iter()
                .any(|other| (other.host, other.protocol) == (port.host, port.protocol))
        });
        return twice.map_or(Ok(()), |(_, port)| Err(NetError::Twice(*port)));
    }
    match wanted.ports.first() {
        Some(port) => Err(NetError::NotPrivate(format!("--publish {port}"))),
        None if wanted.host_loopback => Err(NetError::NotPrivate("--host-loopback".to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_shown() {
        for (text, shown) in [
            ("8080:80", "0.0.0.0:8080:80/tcp"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1:8080:80/tcp"),
            ("53:5353/udp", "0.0.0.0:53:5353/udp"),
        ] {
            let port: Publish = text.parse().unwrap();
            assert_eq!(port.to_string(), shown);
            assert_eq!(shown.parse(), Ok(port));
        }
        for wrong in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "80:0",
            "70000:80",
            "a:80",
            "80:80/sctp",
            "80:80/",
            "::1:80:80",
            "host:80:80",
            "1.2.3:80:80",
        ] {
            assert!(wrong.parse::<Publish>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_need_a_private_network_and_are_given_once() {
        let port = |text: &str| text.parse::<Publish>().unwrap();
        let wanted = |mode, ports: &[&str]| Wanted {
            mode,
            ports: ports.iter().map(|text| port(text)).collect(),
            host_loopback: false,
        };
        assert!(check(&wanted(Mode::Host, &[])).is_ok());
        assert!(
            check(&wanted(
                Mode::Private,
                &["80:80", "80:80/udp", "127.0.0.1:80:80"]
            ))
            .is_ok()
        );
        let refused = |wanted| check(&wanted).unwrap_err();
        assert!(matches!(
            refused(wanted(Mode::None, &["80:80"])),
            NetError::NotPrivate(_)
        ));
        assert!(matches!(
            refused(wanted(Mode::Private, &["80:80", "80:81"])),
            NetError::Twice(_)
        ));
        let loopback = Wanted {
            host_loopback: true,
            ..Wanted::default()
        };
        assert!(matches!(refused(loopback), NetError::NotPrivate(_)));
    }
}
