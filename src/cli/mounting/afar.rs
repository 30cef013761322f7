//! NFS of a server on another host: where it is, and whether it goes over TLS.

use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::control::api::Status;
use crate::control::hosts::RpcTls;
use crate::control::remote::Remote;
use crate::tls;
use pocker_mount_helpers::{HostTls, Server};
use std::net::ToSocketAddrs;
use std::path::PathBuf;

/// The same name as its control API has; or where that is now, for the kernel's own client.
pub(super) fn listeners(
    settings: &Settings,
    status: &Status,
    remote: &Remote,
) -> Result<Vec<Server>, CliError> {
    let port = status.listen.as_ref().and_then(|listen| {
        let (_, port) = listen.rsplit_once(':')?;
        port.parse::<u16>().ok()
    });
    let Some(port) = port else {
        return Ok(Vec::new());
    };
    let place = remote.place.to_string();
    let shown = settings.shown();
    let how = agreed(settings.rpc_tls(), status.rpc_tls, shown.is_some())
        .map_err(|(message, hint)| CliError::new(format!("{place}: {message}")).hint(hint))?;
    let name = remote.place.host.clone();
    let tls = match how {
        How::Plain => None,
        How::Asked | How::Required | How::Private => Some(HostTls {
            ca: std::path::absolute(&remote.ca).unwrap_or_else(|_| remote.ca.clone()),
            shown,
            required: how >= How::Required,
        }),
    };
    if let Some(tls) = &tls {
        can_be_used(&name, tls)?;
    }
    let mut all = vec![Server::Host {
        name: name.clone(),
        port,
        tls,
    }];
    if how < How::Private {
        let addr = (name.as_str(), port).to_socket_addrs();
        let addr = addr.ok().and_then(|mut all| all.next());
        all.extend(addr.map(|addr| Server::Tcp { addr, netns: None }));
    }
    Ok(all)
}

/// What the mount helper will do with it is tried here, where it can be said what is wrong.
fn can_be_used(host: &str, tls: &HostTls) -> Result<(), CliError> {
    let shown = tls.shown.as_ref();
    let shown: Option<(&std::path::Path, _)> =
        shown.map(|(c, k): &(PathBuf, PathBuf)| (&**c, &**k));
    match tls::rpc_client(host, &tls.ca, shown) {
        Ok(_) => Ok(()),
        Err(e) => Err(CliError {
            hint: e.hint(),
            ..CliError::from_error("cannot use TLS for NFS", &e)
        }),
    }
}

/// How NFS goes over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Plain,
    /// The server has no TLS, and is asked all the same each time: it may be started with it.
    Asked,
    /// The mount helper uses it, and nothing else from then on. The kernel's own client may be used in its place.
    Required,
    /// No client is used that has none.
    Private,
}

/// By what this host wants and what the server says over its control API, which is private itself: who is
/// between them cannot hide that there is TLS.
fn agreed(own: RpcTls, theirs: RpcTls, shown: bool) -> Result<How, (String, &'static str)> {
    use RpcTls::{Mutual, Off, Offer, Require};
    let refuse = |why: &str, hint| Err((why.to_owned(), hint));
    match (own, theirs) {
        (Require | Mutual, Off) => refuse(
            "the server has no TLS for NFS, and this host is told to use nothing else",
            "have a certificate there (`pocker serve init-tls`) and start it with --rpc-tls offer; or leave out rpc_tls here",
        ),
        (Off, Require | Mutual) => refuse(
            "the server wants TLS for NFS, and this host is told to use none",
            "leave out --rpc-tls, POCKER_RPC_TLS and the settings' rpc_tls here",
        ),
        (_, Mutual) | (Mutual, _) if !shown => refuse(
            "NFS is to go over TLS with a certificate of this host, which has none",
            "`pocker serve init-tls --host NAME` makes it there: put it into /etc/pocker/host.pem and host.key, or name it as remote_cert and remote_key in the settings",
        ),
        (Off, _) => Ok(How::Plain),
        (Offer, Off) => Ok(How::Asked),
        (Offer, Offer) => Ok(How::Required),
        (Require | Mutual, _) | (_, Require | Mutual) => Ok(How::Private),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RpcTls::{Mutual, Off, Offer, Require};

    #[test]
    fn either_side_may_want_tls_and_neither_goes_behind_the_others_back() {
        let how = |own, theirs| agreed(own, theirs, true).ok();
        assert_eq!(how(Off, Off), Some(How::Plain));
        assert_eq!(how(Off, Offer), Some(How::Plain));
        assert_eq!(how(Offer, Off), Some(How::Asked));
        assert_eq!(how(Offer, Offer), Some(How::Required));
        for (own, theirs) in [
            (Offer, Require),
            (Require, Offer),
            (Require, Require),
            (Mutual, Offer),
            (Offer, Mutual),
            (Mutual, Mutual),
        ] {
            assert_eq!(how(own, theirs), Some(How::Private), "{own:?} {theirs:?}");
        }
        for (own, theirs) in [(Require, Off), (Mutual, Off), (Off, Require), (Off, Mutual)] {
            assert_eq!(how(own, theirs), None, "{own:?} {theirs:?}");
        }
    }

    #[test]
    fn who_has_to_show_a_certificate_has_one() {
        for (own, theirs) in [(Mutual, Offer), (Offer, Mutual), (Require, Mutual)] {
            let (why, _) = agreed(own, theirs, false).expect_err("it has none");
            assert!(why.contains("has none"), "{why}");
        }
        assert_eq!(agreed(Require, Require, false), Ok(How::Private));
        assert_eq!(agreed(Offer, Offer, false), Ok(How::Required));
    }
}
