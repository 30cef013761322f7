//! Why a run cannot have its network.

use super::Publish;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("{0} needs a network of the run's own")]
    NotPrivate(String),
    #[error("--publish: {} {} is given twice", .0.host, .0.protocol)]
    Twice(Publish),
    #[error("--net private: neither slirp4netns nor pasta is on this host's PATH")]
    NoEngine,
    #[error("--publish {port}: port {} is in use on this host", .port.host.port())]
    InUse { port: Publish },
    #[error("--publish {port}: cannot listen on {}: {cause}", .port.host)]
    Listen { port: Publish, cause: io::Error },
    #[error("cannot make a network namespace: {0}")]
    Namespace(String),
    #[error("cannot start {engine}: {what}: {cause}")]
    Start {
        engine: &'static str,
        what: &'static str,
        cause: io::Error,
    },
    #[error("{engine} did not start: {said}")]
    Engine { engine: &'static str, said: String },
    #[error("{engine} was not ready within {seconds} s")]
    Late { engine: &'static str, seconds: u64 },
    #[error("--publish {port}: {engine} refused it: {said}")]
    Refused {
        engine: &'static str,
        port: Publish,
        said: String,
    },
}

impl NetError {
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            NetError::NotPrivate(_) => "add --net private".to_owned(),
            NetError::NoEngine => {
                "apt-get install slirp4netns, or the package passt, which has pasta".to_owned()
            }
            NetError::InUse { port } => format!(
                "choose another port, or see who has it: ss -l{}np 'sport = {}'",
                match port.protocol {
                    super::Protocol::Tcp => 't',
                    super::Protocol::Udp => 'u',
                },
                port.host.port()
            ),
            NetError::Listen { .. } => {
                "the address must be one of this host's: see `ip address`".to_owned()
            }
            NetError::Engine { engine, .. } | NetError::Late { engine, .. } => {
                format!("see that {engine} runs here: it needs /dev/net/tun; `pocker doctor` looks")
            }
            _ => return None,
        })
    }
}
