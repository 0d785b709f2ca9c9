//! Who we are to one registry: anonymous, Basic, or Bearer with tokens from a token server.
//!
//! The registry's first 401 tells the scheme, which is remembered: from then on requests carry their proof at once.
//! Tokens are kept by scope until shortly before they expire; several requests that need the same one wait for one
//! answer of the token server. A 401 to a kept token drops it and asks for a new one, once.
//!
//! **Where passwords go.** Credentials of a registry are sent to that registry, and to the token server (`realm`)
//! that *this registry itself* named, in an answer that came from its own origin over the connection that we trust
//! for it. It may be another host: Docker Hub, GitLab and Harbor all do that. What a redirect's target answers never
//! counts: it could name any realm, and so fetch the password of the registry that was asked (CVE-2020-15157). A
//! realm without TLS is accepted from a registry without TLS only. A redirect by the token server loses them too.
//!
//! Spec: <https://distribution.github.io/distribution/spec/auth/token/>,
//! <https://distribution.github.io/distribution/spec/auth/oauth/>

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::{Url, form_urlencoded};

use super::challenge::{Challenge, Scopes, challenges};
use super::credentials::{Credentials, secret};
use super::docker_config;
use super::error::ClientError;
use super::settings::SettingsError;
use super::wire::{Backoff, Body, Call, Reply, Wire};

const CLIENT_ID: &str = "gantry";
const TOKEN_LIMIT_BYTES: u64 = 1024 * 1024;
/// What the spec says of answers without `expires_in`, and what docker takes for shorter ones.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// A token this near to its end is not used for a new request.
const MARGIN: Duration = Duration::from_secs(5);

/// Where credentials come from.
pub(super) enum Source {
    /// docker's `config.json`, when there is one.
    File(Option<PathBuf>),
    /// They are to be tried: `login`.
    Given(Credentials),
}

/// The state of one registry.
pub(super) struct Authorizer {
    source: Source,
    credentials: OnceCell<Option<Credentials>>,
    scheme: Mutex<Scheme>,
    tokens: Mutex<Vec<(Scopes, Arc<OnceCell<Token>>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    /// Nothing was asked for yet.
    Open,
    Basic,
    Bearer(Realm),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Realm {
    url: Url,
    service: Option<String>,
}

struct Token {
    header: HeaderValue,
    obtained: Instant,
    expires: Instant,
    /// Given on request at a login.
    refresh: Option<String>,
}

impl Authorizer {
    pub(super) fn new(source: Source) -> Self {
        Authorizer {
            source,
            credentials: OnceCell::new(),
            scheme: Mutex::new(Scheme::Open),
            tokens: Mutex::default(),
        }
    }

    /// The `Authorization` for a request that needs `scopes`, as far as is known what the registry wants.
    pub(super) async fn authorization(
        &self,
        wire: &Wire,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, ClientError> {
        match self.scheme() {
            Scheme::Open => Ok(None),
            Scheme::Basic => Ok(self.credentials(wire).await?.and_then(Credentials::basic)),
            Scheme::Bearer(realm) => self.bearer(wire, &realm, scopes).await.map(Some),
        }
    }

    /// Learns from a 401 to a request that began at `begun` and carried `sent`; whether trying again makes sense.
    /// What the challenge names is added to `scopes`.
    pub(super) async fn learn(
        &self,
        wire: &Wire,
        reply: &Reply,
        sent: Option<&HeaderValue>,
        begun: Instant,
        scopes: &mut Scopes,
    ) -> Result<bool, ClientError> {
        let challenges = challenges(reply.headers());
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = of("bearer").filter(|challenge| challenge.parameter("realm").is_some()) {
            let realm = realm(reply, challenge)?;
            *scopes =
                std::mem::take(scopes).merge(&Scopes::parse(challenge.parameter("scope").unwrap_or("")));
            let refused_new_token = sent.is_some_and(|header| self.drop_token(header) >= Some(begun));
            let changed = self.set_scheme(Scheme::Bearer(realm));
            return Ok(changed || !refused_new_token);
        }
        if of("basic").is_some() {
            let header = self.credentials(wire).await?.and_then(Credentials::basic);
            self.set_scheme(Scheme::Basic);
            return Ok(header.is_some() && header.as_ref() != sent);
        }
        Ok(false)
    }

    /// After a request succeeded with given credentials: the refresh token that came with the access token.
    pub(super) fn refresh_token(&self) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.iter().find_map(|(_, token)| token.get()?.refresh.clone())
    }

    async fn credentials(&self, wire: &Wire) -> Result<Option<&Credentials>, ClientError> {
        let found = self.credentials.get_or_try_init(|| async {
            match &self.source {
                Source::Given(credentials) => Ok(Some(credentials.clone())),
                Source::File(None) => Ok(None),
                Source::File(Some(path)) => find_credentials(path.clone(), wire.registry.clone()).await,
            }
        });
        Ok(found.await.map_err(Box::new)?.as_ref())
    }

    async fn bearer(&self, wire: &Wire, realm: &Realm, scopes: &Scopes) -> Result<HeaderValue, ClientError> {
        let credentials = self.credentials(wire).await?;
        if let Some(Credentials::RegistryToken { token }) = credentials {
            return Ok(secret("Bearer", token));
        }
        let offline = matches!(self.source, Source::Given(_));
        let cell = self.token_cell(scopes);
        let token = cell.get_or_try_init(|| fetch(wire, realm, credentials, scopes, offline)).await?;
        Ok(token.header.clone())
    }

    /// The place of a token that covers `scopes`, filled or about to be.
    fn token_cell(&self, scopes: &Scopes) -> Arc<OnceCell<Token>> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|(_, cell)| cell.get().is_none_or(|token| token.expires > now));
        if let Some((_, cell)) = tokens.iter().find(|(held, _)| held.covers(scopes)) {
            return cell.clone();
        }
        let cell = Arc::new(OnceCell::new());
        tokens.push((scopes.clone(), cell.clone()));
        cell
    }

    /// Forgets the token that was sent as `header`; returns when it was obtained, unless it was gone already.
    fn drop_token(&self, header: &HeaderValue) -> Option<Instant> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let sent =
            |cell: &OnceCell<Token>| cell.get().filter(|token| token.header == header).map(|t| t.obtained);
        let at = tokens.iter().position(|(_, cell)| sent(cell).is_some())?;
        sent(&tokens.swap_remove(at).1)
    }

    fn scheme(&self) -> Scheme {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether that is news.
    fn set_scheme(&self, scheme: Scheme) -> bool {
        let mut held = self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *held != scheme;
        *held = scheme;
        changed
    }
}

/// Helpers are programs, and may take their time. One that fails is no reason not to pull what everybody may, so docker
/// goes on as nobody; unlike docker we say so.
async fn find_credentials(path: PathBuf, registry: String) -> Result<Option<Credentials>, SettingsError> {
    let task = tokio::task::spawn_blocking(move || docker_config::find(&path, &registry));
    match task.await.expect("looking for credentials does not panic and is not aborted") {
        Err(error @ (SettingsError::HelperMissing { .. } | SettingsError::Helper { .. })) => {
            tracing::warn!(%error, "going on without credentials");
            Ok(None)
        }
        found => found,
    }
}

fn realm(reply: &Reply, challenge: &Challenge) -> Result<Realm, ClientError> {
    let url = challenge.parameter("realm").and_then(|realm| Url::parse(realm).ok());
    let url = url.ok_or_else(|| reply.broken("the challenge's realm is not a URL"))?;
    let as_safe_as_registry = match url.scheme() {
        "https" => true,
        "http" => reply.url.scheme() == "http",
        _ => false,
    };
    if !as_safe_as_registry {
        return Err(reply.broken("the challenge's realm is not HTTPS, though the registry is"));
    }
    Ok(Realm { url, service: challenge.parameter("service").map(str::to_owned) })
}

/// Gets a token: by GET for nobody and for passwords, by POST for identity tokens, and for passwords where the
/// server knows no GET.
async fn fetch(
    wire: &Wire,
    realm: &Realm,
    credentials: Option<&Credentials>,
    scopes: &Scopes,
    offline: bool,
) -> Result<Token, ClientError> {
    tracing::debug!(realm = %realm.url, %scopes, "asking for a token");
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let answer = match credentials {
            Some(Credentials::IdentityToken { token }) => {
                by_post(
                    wire,
                    realm,
                    scopes,
                    false,
                    &[("grant_type", "refresh_token"), ("refresh_token", token)],
                )
                .await
            }
            _ => by_get(wire, realm, credentials, scopes, offline).await,
        };
        match answer {
            Ok(reply) => return read(reply, begun).await,
            Err(error) => backoff.pause(wire, error).await?,
        }
    }
}

async fn by_get(
    wire: &Wire,
    realm: &Realm,
    credentials: Option<&Credentials>,
    scopes: &Scopes,
    offline: bool,
) -> Result<Reply, ClientError> {
    let mut url = realm.url.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &realm.service {
            query.append_pair("service", service);
        }
        for scope in scopes.entries() {
            query.append_pair("scope", &scope);
        }
        if offline {
            query.append_pair("offline_token", "true");
        }
        query.append_pair("client_id", CLIENT_ID);
        if let Some(Credentials::Password { username, .. }) = credentials {
            query.append_pair("account", username);
        }
    }
    let basic = credentials.and_then(Credentials::basic);
    let reply = wire.exchange(&Call::new(Method::GET, url), basic.as_ref()).await?;
    match (reply.status(), credentials) {
        (
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
            Some(Credentials::Password { username, password }),
        ) => {
            let grant = [("grant_type", "password"), ("username", username), ("password", password)];
            by_post(wire, realm, scopes, offline, &grant).await
        }
        _ => reply.expect(&[StatusCode::OK]).await,
    }
}

async fn by_post(
    wire: &Wire,
    realm: &Realm,
    scopes: &Scopes,
    offline: bool,
    grant: &[(&str, &str)],
) -> Result<Reply, ClientError> {
    let scope = scopes.to_string();
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(grant).append_pair("client_id", CLIENT_ID).append_pair("scope", &scope);
    if let Some(service) = &realm.service {
        form.append_pair("service", service);
    }
    if offline {
        form.append_pair("access_type", "offline");
    }
    let call = Call::new(Method::POST, realm.url.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::Bytes(Bytes::from(form.finish())));
    wire.exchange(&call, None).await?.expect(&[StatusCode::OK]).await
}

async fn read(reply: Reply, begun: Instant) -> Result<Token, ClientError> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
        refresh_token: Option<String>,
    }
    let malformed = reply.broken("the token server's answer holds no token");
    let Ok(answer) = serde_json::from_slice::<Answer>(&reply.bytes(TOKEN_LIMIT_BYTES).await?) else {
        return Err(malformed);
    };
    let Some(token) = answer.token.or(answer.access_token).filter(|token| !token.is_empty()) else {
        return Err(malformed);
    };
    // Longer than a day is as good as for ever, and does not overflow the clock.
    let life = Duration::from_secs(answer.expires_in.unwrap_or(0).min(86_400)).max(SHORTEST_LIFE);
    Ok(Token {
        header: secret("Bearer", &token),
        obtained: begun,
        expires: begun + life - MARGIN,
        refresh: answer.refresh_token.filter(|token| !token.is_empty()),
    })
}

/// Whether an answer asks for proof that a token or password could be.
pub(super) fn asks_for_proof(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && !challenges(headers).is_empty()
}
