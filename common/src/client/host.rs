//! One registry: where it is, how it is spoken to, and requests that carry proof and are tried again.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};
use tokio::sync::OnceCell;
use url::Url;

use super::auth::{Authorizer, asks_for_proof};
use super::challenge::Scopes;
use super::error::ClientError;
use super::wire::{Backoff, Call, Reply, Wire};

/// A registry, a mirror included.
pub(super) struct Host {
    pub(super) wire: Wire,
    pub(super) authorizer: Authorizer,
    /// `https://HOST/`, and `http://HOST/` where plain HTTP is allowed: the first that answers is taken.
    pub(super) candidates: Vec<Url>,
    pub(super) origin: OnceCell<Url>,
}

impl Host {
    /// A URL of the API: `path` is what stands behind `/v2/`.
    pub(super) async fn url(&self, path: &str) -> Result<Url, ClientError> {
        let origin = self.origin.get_or_try_init(|| self.find_origin()).await?;
        Ok(origin.join(&format!("/v2/{path}")).expect("repository paths, tags and digests are safe in URLs"))
    }

    /// Tells HTTPS from plain HTTP by asking; one candidate needs no question.
    async fn find_origin(&self) -> Result<Url, ClientError> {
        let (last, earlier) = self.candidates.split_last().expect("a host has a way to it");
        for origin in earlier {
            match self.probe(origin).await {
                Ok(()) => return Ok(origin.clone()),
                Err(error) => tracing::debug!(%error, "trying plain HTTP"),
            }
        }
        if earlier.is_empty() {
            return Ok(last.clone());
        }
        let mut backoff = Backoff::default();
        while let Err(error) = self.probe(last).await {
            backoff.pause(&self.wire, error).await?;
        }
        Ok(last.clone())
    }

    /// Any answer will do.
    async fn probe(&self, origin: &Url) -> Result<(), ClientError> {
        let url = origin.join("/v2/").expect("a constant path");
        self.wire.exchange(&Call::new(Method::GET, url), None).await.map(drop)
    }

    /// Sends `call` until there is an answer that trying again would not change.
    pub(super) async fn send(&self, call: Call<'_>, scopes: Scopes) -> Result<Reply, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.send_once(&call, scopes.clone()).await {
                Ok(reply) if !is_failure(reply.status()) => return Ok(reply),
                Ok(reply) => reply.into_error().await,
                Err(error) => error,
            };
            backoff.pause(&self.wire, error).await?;
        }
    }

    /// Sends `call` with what proof is at hand, and again when the registry asked for another.
    pub(super) async fn send_once(&self, call: &Call<'_>, mut scopes: Scopes) -> Result<Reply, ClientError> {
        let begun = Instant::now();
        // Two kinds of news at most: what the registry wants, and that a kept token is no longer good.
        for _ in 0..2 {
            let sent = self.authorization(call, &scopes).await?;
            let reply = self.wire.exchange(call, sent.as_ref()).await?;
            let from_registry = !reply.left_origin && self.is_own(&call.url);
            if !from_registry || !asks_for_proof(reply.status(), reply.headers()) {
                return Ok(reply);
            }
            if !self.authorizer.learn(&self.wire, &reply, sent.as_ref(), begun, &mut scopes).await? {
                return Ok(reply);
            }
        }
        let sent = self.authorization(call, &scopes).await?;
        self.wire.exchange(call, sent.as_ref()).await
    }

    /// Upload sessions may live on another host, which gets no proof.
    async fn authorization(
        &self,
        call: &Call<'_>,
        scopes: &Scopes,
    ) -> Result<Option<http::HeaderValue>, ClientError> {
        if !self.is_own(&call.url) {
            return Ok(None);
        }
        self.authorizer.authorization(&self.wire, scopes).await
    }

    fn is_own(&self, url: &Url) -> bool {
        self.origin.get().is_some_and(|origin| origin.origin() == url.origin())
    }
}

fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// The registries that a pull asks, in order: mirrors, then the registry itself.
pub(super) type Endpoints = Vec<Arc<Host>>;
