//! Tokens of other hosts. The store has a digest of each secret; the secret itself is told once.

use super::clock;
use super::docs::{self, Doc};
use super::fail::{Fail, Outcome};
use super::state::Daemon;
use crate::control::hosts::{NAME_MAX, NewToken, Role, TokenInfo, TokenMade, names_token};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// What every token begins with, so that people and scanners know one.
const PREFIX: &str = "pocker_";
/// Tests fill a small one.
const TOKENS_MAX: usize = if cfg!(test) { 12 } else { 1000 };
/// Ten years: longer than the certificate that goes with it.
const LASTS_MAX: u64 = 10 * 366 * 86_400;
/// How old what is recorded of a token's last use may be, in seconds: not each call is a write.
const NOTED: i64 = 60;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenDoc {
    /// Names it on the wire, before its secret.
    id: String,
    name: String,
    role: Role,
    /// SHA-256 of the secret, which is random as a key is.
    digest: String,
    created: i64,
    expires: i64,
    revoked: bool,
    used: Option<i64>,
    peer: Option<String>,
}

impl Doc for TokenDoc {
    const KIND: &'static str = "token";
    fn key(&self) -> Vec<u8> {
        self.id.as_bytes().to_vec()
    }
}

impl TokenDoc {
    fn info(self) -> TokenInfo {
        TokenInfo {
            name: self.name,
            role: self.role,
            created: self.created,
            expires: self.expires,
            revoked: self.revoked,
            used: self.used,
            peer: self.peer,
        }
    }
}

/// Who showed a token that is good.
#[derive(Clone, Debug)]
pub struct Shown {
    pub name: String,
    pub role: Role,
}

fn random<const N: usize>() -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    let drawn = getrandom::fill(&mut bytes);
    drawn.map_err(|e| Fail::internal("the system gives no random bytes", &e))?;
    Ok(bytes)
}

/// Every byte is looked at, whatever differs: no timing tells how far a guess got.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b).fold(0, |acc, (a, b)| acc | (a ^ b));
    a.len() == b.len() && differs == 0
}

fn digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

impl Daemon {
    fn all_tokens(&self) -> Outcome<Vec<TokenDoc>> {
        docs::all(&self.store).map_err(|e| Fail::internal("cannot list tokens", &e))
    }

    pub fn create_token(&self, new: &NewToken) -> Outcome<TokenMade> {
        let _one = self.change.lock();
        let mut all = self.all_tokens()?;
        let now = clock::now().secs;
        if all.len() >= TOKENS_MAX {
            // Those that are over are listed as long as there is room.
            let over = |t: &mut TokenDoc| t.revoked || t.expires <= now;
            let gone: Vec<TokenDoc> = all.extract_if(.., over).collect();
            gone.iter().try_for_each(|old| self.forget_token(old))?;
        }
        if all.len() >= TOKENS_MAX {
            return Err(Fail::busy(format!("there are {TOKENS_MAX} tokens already"))
                .hint("`pocker token revoke` ends those that nobody needs"));
        }
        if new.lasts == 0 || new.lasts > LASTS_MAX {
            return Err(
                Fail::bad("a token lasts for a second at least, and ten years at most")
                    .hint("`--expires 30d` is a month"),
            );
        }
        let id = hex::encode(random::<4>()?);
        let name = new.name.clone().unwrap_or_else(|| id.clone());
        if !names_token(&name) {
            return Err(Fail::bad(format!(
                "a token's name has letters, digits, `.`, `_` and `-`, {NAME_MAX} at most"
            ))
            .hint("without `--name` it has one of its own"));
        }
        if all
            .iter()
            .any(|t| t.name == name && !t.revoked && t.expires > now)
        {
            return Err(
                Fail::busy(format!("there is a token named {name} already")).hint(format!(
                    "choose another name, or `pocker token revoke {name}` first"
                )),
            );
        }
        // A name is one token's: what is over makes room.
        for old in all.iter().filter(|t| t.name == name) {
            self.forget_token(old)?;
        }
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let doc = TokenDoc {
            digest: digest(&secret),
            name,
            role: new.role,
            created: now,
            expires: now.saturating_add(i64::try_from(new.lasts).unwrap_or(i64::MAX)),
            revoked: false,
            used: None,
            peer: None,
            id,
        };
        let token = format!("{PREFIX}{}_{secret}", doc.id);
        docs::save(&self.store, &doc).map_err(|e| Fail::internal("cannot keep the token", &e))?;
        tracing::info!(token = doc.name, role = doc.role.name(), "made a token");
        Ok(TokenMade {
            info: doc.info(),
            token,
        })
    }

    fn forget_token(&self, doc: &TokenDoc) -> Outcome<()> {
        docs::delete(&self.store, doc).map_err(|e| Fail::internal("cannot forget a token", &e))
    }

    pub fn tokens(&self) -> Outcome<Vec<TokenInfo>> {
        let mut all: Vec<TokenInfo> = self.all_tokens()?.into_iter().map(TokenDoc::info).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// It is listed as revoked until another takes its name.
    pub fn revoke_token(&self, name: &str) -> Outcome<()> {
        let _one = self.change.lock();
        let found = self.all_tokens()?.into_iter().find(|t| t.name == name);
        let Some(doc) = found else {
            let shown: String = name.chars().take(NAME_MAX).collect();
            return Err(Fail::not_found(format!("there is no token named {shown}"))
                .hint("`pocker token ls` lists them"));
        };
        let revoked = TokenDoc {
            revoked: true,
            ..doc
        };
        docs::save(&self.store, &revoked)
            .map_err(|e| Fail::internal("cannot revoke the token", &e))?;
        tracing::info!(token = revoked.name, "revoked a token");
        Ok(())
    }

    /// Whose token that is. What is refused says no more to who has not its secret.
    pub fn shown_token(&self, token: &str, peer: IpAddr) -> Outcome<Shown> {
        let parts = token.strip_prefix(PREFIX).and_then(|t| t.split_once('_'));
        let unknown = || {
            Fail::unauthorized("the server does not know this token").hint(
                "`pocker token create` makes one where the server is; give it in POCKER_TOKEN_FILE",
            )
        };
        let (id, secret) = parts.ok_or_else(unknown)?;
        let doc = docs::get::<TokenDoc>(&self.store, id.as_bytes())
            .map_err(|e| Fail::internal("cannot read the token", &e))?;
        let doc = doc.ok_or_else(unknown)?;
        if !same(doc.digest.as_bytes(), digest(secret).as_bytes()) {
            return Err(unknown());
        }
        let now = clock::now().secs;
        let name = doc.name.clone();
        if doc.revoked {
            return Err(Fail::unauthorized(format!("token {name} was revoked"))
                .hint("`pocker token create` makes another where the server is"));
        }
        if doc.expires <= now {
            return Err(Fail::unauthorized(format!("token {name} has expired"))
                .hint("`pocker token create` makes another where the server is"));
        }
        let shown = Shown {
            name,
            role: doc.role,
        };
        self.note_use(doc, peer, now);
        Ok(shown)
    }

    fn note_use(&self, doc: TokenDoc, peer: IpAddr, now: i64) {
        let peer = peer.to_string();
        let noted =
            doc.used.is_some_and(|used| now - used < NOTED) && doc.peer.as_ref() == Some(&peer);
        if noted || self.options.read_only {
            return;
        }
        // Not worth waiting for.
        let Some(_one) = self.change.try_lock() else {
            return;
        };
        // It may have been revoked meanwhile.
        if let Ok(Some(doc)) = docs::get::<TokenDoc>(&self.store, doc.id.as_bytes()) {
            let used = TokenDoc {
                used: Some(now),
                peer: Some(peer),
                ..doc
            };
            if let Err(e) = docs::save(&self.store, &used) {
                tracing::warn!("cannot note a token's use: {e}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::world;
    use super::*;

    #[test]
    fn tokens_that_are_over_make_room_and_others_do_not() {
        let world = world();
        let new = |name: String| NewToken {
            role: Role::Run,
            lasts: 1000,
            name: Some(name),
        };
        let make = |n: usize| world.d.create_token(&new(format!("t{n}")));
        (0..TOKENS_MAX).for_each(|n| drop(make(n).expect("a token")));
        assert!(make(TOKENS_MAX).is_err(), "all are good");
        world.d.revoke_token("t3").expect("revoked");
        make(TOKENS_MAX).expect("in its place");
        let names = world.d.tokens().expect("a list").into_iter();
        let names: Vec<String> = names.map(|token| token.name).collect();
        assert_eq!(names.len(), TOKENS_MAX);
        assert!(!names.contains(&"t3".to_owned()) && names.contains(&"t4".to_owned()));
        for odd in ["", "..", "a/b", "a?b", "a b"] {
            assert!(world.d.create_token(&new(odd.into())).is_err(), "{odd}");
        }
    }
}
