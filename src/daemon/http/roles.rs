//! Which routes other hosts may ask for, and with which token. What is not listed here is for this
//! host alone.

use super::peer::{Outside, Peer};
use super::transfers;
use crate::control::hosts::{self, Id, Lease, NAME_MAX, Role};
use crate::daemon::fail::{Fail, Outcome};
use crate::daemon::leases::{self, Renewed};
use crate::daemon::state::Daemon;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

use Role::{Admin, Build, Run};

/// Method, route, and the least role that may ask for it from another host.
const ROLES: &[(&str, &str, Role)] = &[
    ("GET", "/v1/status", Run),
    ("GET", "/v1/stats", Run),
    ("GET", "/v1/steps/{key}", Run),
    ("PUT", "/v1/steps/{key}", Build),
    ("POST", "/v1/steps/{key}/claim", Build),
    ("DELETE", "/v1/claims/{id}", Build),
    // A build's, or a writable mount's, which takes no more: `new_tree` tells them apart.
    ("POST", "/v1/trees", Run),
    ("DELETE", "/v1/trees/{id}", Run),
    ("POST", "/v1/trees/{id}/seal", Build),
    ("POST", "/v1/trees/{id}/keep/{name}", Build),
    ("PUT", "/v1/trees/{id}/archive", Run),
    ("PUT", "/v1/archive", Build),
    ("PUT", "/v1/layers", Build),
    ("GET", "/v1/layers/{tree}", Run),
    // It says what others' pushes publish, and nobody could see it in the tree.
    ("PUT", "/v1/layers/{tree}", Admin),
    ("GET", "/v1/pockers", Run),
    ("GET", "/v1/pockers/{name}", Run),
    ("PUT", "/v1/pockers/{name}", Build),
    ("DELETE", "/v1/pockers/{name}", Build),
    ("GET", "/v1/pockers/{name}/debug", Build),
    ("POST", "/v1/pockers/{name}/reset", Build),
    ("GET", "/v1/pockers/{name}/steps/{key}/export", Run),
    ("POST", "/v1/runs", Run),
    ("DELETE", "/v1/runs/{id}", Run),
    ("GET", "/v1/services", Run),
    ("PUT", "/v1/services/{name}", Run),
    ("DELETE", "/v1/services/{name}", Run),
    ("GET", "/v1/volumes", Run),
    ("PUT", "/v1/volumes/{name}", Build),
    ("DELETE", "/v1/volumes/{name}", Build),
    ("POST", "/v1/volumes/{name}/mount", Run),
    ("POST", "/v1/volumes/{name}/moment", Build),
    ("GET", "/v1/volumes/{name}/snapshots", Run),
    ("POST", "/v1/volumes/{name}/snapshots", Build),
    ("DELETE", "/v1/volumes/{name}/snapshots/{snapshot}", Build),
    (
        "POST",
        "/v1/volumes/{name}/snapshots/{snapshot}/rollback",
        Build,
    ),
    ("GET", "/v1/mounts", Run),
    ("POST", "/v1/mounts", Run),
    ("POST", "/v1/mounts/remove", Run),
    ("GET", "/v1/snapshots/{digest}/tar", Run),
    ("POST", "/v1/snapshots/{digest}/file", Run),
    ("POST", "/v1/snapshots/{digest}/is-dir", Run),
    ("GET", "/v1/diff/{old}/{new}", Run),
    ("GET", "/v1/look/{tree}/stat", Run),
    ("GET", "/v1/look/{tree}/list", Run),
    ("GET", "/v1/look/{tree}/file", Run),
    ("GET", "/v1/look/{tree}/tar", Run),
    ("GET", "/v1/look/{tree}/diff", Run),
    ("GET", "/v1/du", Run),
    ("POST", "/v1/sync/send/{name}", Run),
    ("POST", "/v1/sync/{session}/fetch", Run),
    ("POST", "/v1/sync/receive", Build),
    ("POST", "/v1/sync/{session}/lacks", Build),
    ("PUT", "/v1/sync/{session}/objects", Build),
    ("POST", "/v1/sync/{session}/finish", Build),
    ("DELETE", "/v1/sync/{session}/end", Run),
    ("GET", "/v1/pins", Run),
    ("POST", "/v1/pins", Build),
    ("DELETE", "/v1/pins/{key}", Build),
    ("POST", "/v1/gc", Admin),
    ("POST", "/v1/fsck", Admin),
    ("POST", "/v1/stop", Admin),
    ("GET", "/v1/hosts", Run),
    ("POST", "/v1/hosts/beat", Run),
    ("DELETE", "/v1/hosts/lease", Run),
    ("GET", "/v1/tokens", Admin),
    ("DELETE", "/v1/tokens/{name}", Admin),
];

/// The least role for a route; none: this host's alone.
fn needed(method: &str, route: &str) -> Option<Role> {
    let found = ROLES.iter().find(|(m, r, _)| *m == method && *r == route);
    found.map(|(_, _, role)| *role)
}

/// Lets a call of this host pass, and one of another that shows a token of the role it takes.
pub async fn authorise(
    State(daemon): State<Arc<Daemon>>,
    mut request: Request,
    next: Next,
) -> Response {
    let outside = request.extensions().get::<Outside>().copied();
    let mut response = match outside {
        None if request.extensions().get::<Peer>().is_some() => return next.run(request).await,
        None => Fail::forbidden("nothing is known of who asks").into_response(),
        Some(Outside(from)) => {
            let call = Call::of(&request);
            let route = call.route.clone();
            match admit(daemon.clone(), call, from).await {
                Ok(peer) => {
                    request.extensions_mut().insert(peer);
                    transfers::of(&daemon, &route, from, next.run(request)).await
                }
                Err(fail) => fail.into_response(),
            }
        }
    };
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    let name = HeaderName::from_static(hosts::VERSION);
    response.headers_mut().insert(name, version);
    response
}

/// What is asked for, and what is said with it.
struct Call {
    method: String,
    route: String,
    asked: Outcome<Asked>,
}

impl Call {
    fn of(request: &Request) -> Call {
        let route = request.extensions().get::<MatchedPath>();
        Call {
            method: request.method().as_str().to_owned(),
            route: route.map_or("", MatchedPath::as_str).to_owned(),
            asked: Asked::of(request.headers()),
        }
    }
}

async fn admit(daemon: Arc<Daemon>, call: Call, from: IpAddr) -> Outcome<Peer> {
    let Call {
        method,
        route,
        asked,
    } = call;
    let asked = asked?;
    let admitted = tokio::task::spawn_blocking(move || {
        let shown = daemon.shown_token(&asked.token, from).inspect_err(|_| {
            tracing::warn!(peer = %from, method, route, "refused: no good token");
        })?;
        let Some(role) = needed(&method, &route) else {
            tracing::warn!(peer = %from, token = shown.name, method, route, "refused: not for other hosts");
            return Err(
                Fail::forbidden("only a command on the server's own host may do that")
                    .hint("run it there, without --remote"),
            );
        };
        if shown.role < role {
            tracing::warn!(peer = %from, token = shown.name, method, route, "refused: by its role");
            return Err(Fail::forbidden(format!(
                "token {} is of role {}, and this takes {}",
                shown.name,
                shown.role.name(),
                role.name()
            ))
            .hint(format!(
                "`pocker token create --role {}` makes one where the server is",
                role.name()
            )));
        }
        let beat = route == "/v1/hosts/beat";
        match beat {
            // Several a minute for each run: what it holds was logged.
            true => tracing::debug!(peer = %from, token = shown.name, method, route, "called"),
            false => tracing::info!(peer = %from, token = shown.name, method, route, "called"),
        }
        // Who is not let in has no lease.
        daemon.room_for_host(asked.lease.host, &shown.name)?;
        match leases::renew(asked.lease, beat, from) {
            Renewed::Yes => {}
            Renewed::Over => {
                return Err(Fail::gone(
                    "this host's lease is over: it was not heard of for too long",
                )
                .hint("start again what it ran; `pocker hosts` shows leases"));
            }
            Renewed::Full => {
                return Err(Fail::too_many(
                    "this host has very many commands under way, or its address, or all",
                )
                .hint("wait for some of them to end: `pocker hosts` where the server is shows whose they are"));
            }
        }
        // Renewed before it: a full disk ends no lease.
        daemon.host_calls(asked.lease.host, &asked.name, from, &shown.name)?;
        Ok(Peer::Afar {
            lease: asked.lease,
            role: shown.role,
        })
    });
    match admitted.await {
        Ok(admitted) => admitted,
        Err(e) => Err(Fail::internal("the call ended in the middle", &e)),
    }
}

/// What a call's headers say.
struct Asked {
    token: String,
    lease: Lease,
    name: String,
}

impl Asked {
    fn of(headers: &HeaderMap) -> Outcome<Asked> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let own = env!("CARGO_PKG_VERSION");
        let theirs: String = text(hosts::VERSION)
            .unwrap_or("another")
            .chars()
            .take(40)
            .collect();
        if theirs != own {
            return Err(Fail::bad(format!(
                "the server is pocker {own}, and this command {theirs}"
            ))
            .hint("have the same version on all hosts"));
        }
        let token = text(header::AUTHORIZATION.as_str()).and_then(|v| v.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| {
            Fail::unauthorized("the server wants a token").hint(
                "`pocker token create` makes one where the server is; give it in POCKER_TOKEN_FILE",
            )
        })?;
        let id = |name: &str| -> Outcome<Id> {
            let id = text(name).and_then(|value| value.parse().ok());
            id.ok_or_else(|| Fail::bad(format!("a call has no {name}")))
        };
        let lease = Lease {
            host: id(hosts::HOST)?,
            id: id(hosts::LEASE)?,
        };
        let plain = |c: &char| c.is_ascii_alphanumeric() || ".-_".contains(*c);
        let name = text(hosts::HOST_NAME).unwrap_or_default().chars();
        let name: String = name.filter(plain).take(NAME_MAX).collect();
        Ok(Asked {
            token: token.to_owned(),
            name: match name.is_empty() {
                true => lease.host.short(),
                false => name,
            },
            lease,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_for_this_host_alone() {
        assert_eq!(needed("POST", "/v1/runs"), Some(Run));
        assert_eq!(needed("POST", "/v1/steps/{key}/claim"), Some(Build));
        assert_eq!(needed("POST", "/v1/stop"), Some(Admin));
        for (method, route) in [
            ("POST", "/v1/tokens"),
            ("POST", "/v1/store/backup"),
            ("GET", "/v1/steps/00"),
            ("POST", "/v1/sync/{session}/end"),
            ("HEAD", "/v1/pockers"),
            ("GET", ""),
        ] {
            assert_eq!(needed(method, route), None, "{method} {route}");
        }
        assert!(Run < Build && Build < Admin);
    }

    #[test]
    fn each_route_is_listed_once() {
        for (i, (method, route, _)) in ROLES.iter().enumerate() {
            let again = &ROLES[i + 1..];
            assert!(
                !again.iter().any(|(m, r, _)| m == method && r == route),
                "{route}"
            );
        }
    }
}
