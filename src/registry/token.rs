//! What a registry wants to be told, and how that is had: a user and password, or a token for them.

use super::get::Getter;
use super::{Login, RegistryError};
use oci_client::errors::OciDistributionError as E;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;

/// Longest answer with a token that is taken.
const TOKEN_MAX: u64 = 256 << 10;

/// What goes with each request.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Shown {
    #[default]
    Nothing,
    Login(Login),
    Token(String),
}

impl Shown {
    pub fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Shown::Nothing => request,
            Shown::Login((user, password)) => request.basic_auth(user, Some(password)),
            Shown::Token(token) => request.bearer_auth(token),
        }
    }
}

/// Where a token is had (distribution specification, "Token authentication").
struct Realm {
    url: String,
    service: Option<String>,
}

enum Wanted {
    Login,
    Token(Realm),
}

fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let mut login = None;
    for header in headers.get_all(WWW_AUTHENTICATE) {
        let text = header.to_str().unwrap_or_default();
        for challenge in http_auth::parse_challenges(text).unwrap_or_default() {
            let of = |name: &str| {
                let mut params = challenge.params.iter();
                let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(url) = of("realm")
            {
                let service = of("service");
                return Some(Wanted::Token(Realm { url, service }));
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                login = Some(Wanted::Login);
            }
        }
    }
    login
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    token: Option<String>,
    access_token: Option<String>,
}

impl Getter {
    /// What an answer of 401 asks for.
    pub(super) async fn show(&self, headers: &HeaderMap) -> Result<Shown, RegistryError> {
        let url = String::new();
        let none = || self.failed(E::UnauthorizedError { url: url.clone() });
        match wanted(headers) {
            Some(Wanted::Token(realm)) => self.token(&realm).await.map(Shown::Token),
            Some(Wanted::Login) => self.login.clone().map(Shown::Login).ok_or_else(none),
            None => Err(none()),
        }
    }

    async fn token(&self, realm: &Realm) -> Result<String, RegistryError> {
        let odd = |why: &str| {
            let host = self.name.host();
            RegistryError::new(
                format!("the registry {host} {why}"),
                "is it a registry of images? its own log says more",
            )
        };
        let mut url =
            Url::parse(&realm.url).map_err(|_| odd("sends for a token to what is no address"))?;
        // Whoever is in between would have the password.
        if !self.plain && url.scheme() != "https" {
            return Err(odd("has TLS, and sends for a token to where there is none"));
        }
        let does = if self.uploads.is_some() {
            "pull,push"
        } else {
            "pull"
        };
        let scope = format!("repository:{}:{does}", self.name.repository());
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(other) = &*self.also.lock() {
            let scope = format!("repository:{other}:pull");
            url.query_pairs_mut().append_pair("scope", &scope);
        }
        if let Some(service) = &realm.service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let request = self.http.get(url);
        let request = match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let response = request.send().await;
        let response = response.map_err(|e| self.failed(E::RequestError(e)))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(self.failed(E::AuthenticationFailure(status.to_string())));
            }
            status => return Err(self.refused(realm.url.clone(), status, response).await),
        }
        let body = self.body(response, TOKEN_MAX).await?;
        let said: Said = serde_json::from_slice(&body)
            .map_err(|_| odd("gave what is no token where one was asked for"))?;
        let token = said.token.or(said.access_token);
        token.ok_or_else(|| odd("gave no token where one was asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("a header"));
        }
        Some(match wanted(&headers)? {
            Wanted::Login => "login".to_owned(),
            Wanted::Token(realm) => format!("{} {:?}", realm.url, realm.service),
        })
    }

    #[test]
    fn a_challenge_is_understood_in_all_its_forms() {
        let token = "Bearer realm=\"https://a.example/t?x=\\\"1\\\"\",service=\"s\",scope=\"y\"";
        let said = Some("https://a.example/t?x=\"1\" Some(\"s\")".to_owned());
        assert_eq!(of(&[token]), said);
        assert_eq!(of(&["Basic realm=\"r\"", token]), said);
        assert_eq!(of(&[&format!("Basic realm=\"r\", {token}")]), said);
        assert_eq!(of(&["basic realm=r"]).as_deref(), Some("login"));
        for none in [
            &[][..],
            &["Digest realm=\"r\""],
            &["Bearer service=\"x\""],
            &["=,=\""],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
