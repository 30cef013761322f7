//! `pocker serve --user`: whom the server becomes.

use super::args::Serve;
use super::config::Settings;
use super::defaults;
use super::error::CliError;
use crate::daemon::{ServeOptions, ServerUser};
use nix::unistd::User;

/// What says that a server stays root, whatever there is by default.
const ROOT: &str = "root";

/// Whether root was said to serve.
pub fn is_root(settings: &Settings, args: &Serve) -> bool {
    args.user.as_deref().or(settings.user.as_deref()) == Some(ROOT)
}

pub fn of(
    settings: &Settings,
    args: &Serve,
    options: &ServeOptions,
) -> Result<Option<ServerUser>, CliError> {
    let said = args.user.as_deref().or(settings.user.as_deref());
    let name = match (said, defaults::SERVER_USER) {
        (Some(ROOT), _) | (None, None) => return Ok(None),
        (Some(name), _) => name,
        // Where the package made it, and nothing is in the way.
        (None, Some(name)) => {
            let there = User::from_name(name).ok().flatten();
            let root = nix::unistd::geteuid().is_root();
            let user = there.filter(|_| root && hindrance(options).is_none());
            return Ok(user.map(known));
        }
    };
    if let Some((why, hint)) = hindrance(options) {
        return Err(CliError::usage(format!("--user {name}: {why}")).hint(hint));
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(
            CliError::usage(format!("--user {name}: only root becomes another user"))
                .hint("start the server as root, as mounts need it too"),
        );
    }
    let found = User::from_name(name)
        .map_err(|e| CliError::from_error(format!("--user {name}: cannot look for it"), &e))?;
    let user = found.ok_or_else(|| {
        CliError::usage(format!("--user {name}: this host has no such user"))
            .hint("make one that nobody logs in as, for the server alone: `useradd` with a home of / and no shell")
    })?;
    match user.uid.is_root() {
        true => Err(
            CliError::usage(format!("--user {name}: that is root by another name"))
                .hint("give a user of the server's own, or `root`"),
        ),
        false => Ok(Some(known(user))),
    }
}

fn known(user: User) -> ServerUser {
    ServerUser {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }
}

/// Why a server with these options stays root, and what would let it be another.
fn hindrance(options: &ServeOptions) -> Option<(&'static str, &'static str)> {
    if options.graft_below.is_empty() {
        return Some((
            "it would have to serve any directory of this host, which takes root",
            "say at or below which directories grafts may be: --graft-below DIR",
        ));
    }
    if options.listen.is_some() {
        return Some((
            "a server of other hosts reads certificates and revocations, which are root's",
            "leave --user out, or --listen",
        ));
    }
    if options.upstream.is_some() {
        return Some((
            "a server with an upstream looks up names and authorities outside its store",
            "leave --user out, or --upstream",
        ));
    }
    None
}
