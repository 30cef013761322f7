//! `pocker token`: what other hosts show to use this store.

use super::args::{TokenCommand, TokenCreate};
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::ClientError;
use crate::control::hosts::{NewToken, TokenInfo};
use std::fmt::Write as _;

pub fn run(settings: &Settings, command: &TokenCommand) -> Result<(), CliError> {
    match command {
        TokenCommand::Create(args) => create(settings, args),
        TokenCommand::Ls(args) => {
            let tokens = open::server(settings)?.tokens()?;
            text::out(&match args.json {
                true => text::json(&tokens)?,
                false => table(&tokens, crate::daemon::clock::now().secs),
            })
        }
        TokenCommand::Revoke { name } => match open::server(settings)?.revoke_token(name) {
            Err(ClientError::NotFound(what)) => {
                Err(CliError::new(what).hint("`pocker token ls` lists them"))
            }
            other => Ok(other?),
        },
    }
}

/// The token alone on standard output, so that it can go to a file.
fn create(settings: &Settings, args: &TokenCreate) -> Result<(), CliError> {
    settings.must_be_own("`token create`")?;
    let new = NewToken {
        role: args.role,
        lasts: args.expires,
        name: args.name.clone(),
    };
    let made = open::server(settings)?.create_token(&new)?;
    if !settings.quiet {
        eprintln!(
            "token {}, for role {}: keep it, as it is shown this once, and let nobody but root read it",
            made.info.name,
            made.info.role.name()
        );
    }
    text::out(&format!("{}\n", made.token))
}

fn table(tokens: &[TokenInfo], now: i64) -> String {
    let mut out = String::new();
    if tokens.is_empty() {
        return out;
    }
    let width = tokens
        .iter()
        .map(|t| t.name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let _ = writeln!(
        out,
        "{:width$}  {:5}  {:>10}  LAST USED",
        "NAME", "ROLE", "EXPIRES"
    );
    for token in tokens {
        let expires = match token.expires - now {
            _ if token.revoked => "revoked".to_owned(),
            left if left <= 0 => "expired".to_owned(),
            left => format!("in {}", text::age(left)),
        };
        let used = match (token.used, &token.peer) {
            (Some(used), Some(peer)) => format!("{} ago, by {peer}", text::age(now - used)),
            _ => "never".to_owned(),
        };
        let role = token.role.name();
        let _ = writeln!(
            out,
            "{:width$}  {role:5}  {expires:>10}  {used}",
            token.name
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::hosts::Role;

    #[test]
    fn tokens_are_a_table() {
        let token = |name: &str, expires, revoked, used| TokenInfo {
            name: name.into(),
            role: Role::Build,
            created: 0,
            expires,
            revoked,
            used,
            peer: Some("10.0.0.7".into()),
        };
        let all = [
            token("ci", 1000 + 2 * 86_400, false, Some(940)),
            token("old", 900, false, None),
            token("lost", 9000, true, None),
        ];
        insta::assert_snapshot!(table(&all, 1000), @r"
        NAME  ROLE      EXPIRES  LAST USED
        ci    build      in 2 d  1 min ago, by 10.0.0.7
        old   build     expired  never
        lost  build     revoked  never
        ");
        assert_eq!(table(&[], 0), "");
    }
}
