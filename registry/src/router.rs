//! From a request to the one function that answers it.
//!
//! Names of repositories hold slashes, so a route is told by how it ends: `…/tags/list`, `…/blobs/uploads/<id>`.
//! Every handler takes an `Authorized` value first; which action it needs stands in its signature, and this file is
//! the only one that asks the gate for it.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints>

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderValue, Request};

use crate::call::{App, Call, Query};
use crate::error::Error;
use crate::intake::linger;
use crate::{blobs, catalog, manifests, referrers, tags, uploads};

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().fallback(dispatch).with_state(app)
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// Something of the repository of this name.
    Of(&'a str, Noun<'a>),
}

#[derive(Debug, PartialEq, Eq)]
enum Noun<'a> {
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Manifest(&'a str),
    Tags,
    Referrers(&'a str),
}

impl<'a> Route<'a> {
    fn parse(path: &'a str) -> Result<Self, Error> {
        let Some(rest) = path.strip_prefix("/v2") else {
            return Err(if path.starts_with("/v1/") { Error::VersionOne } else { Error::NoSuchRoute });
        };
        match rest {
            "" | "/" => Ok(Route::Base),
            "/_catalog" => Ok(Route::Catalog),
            _ => rest.strip_prefix('/').and_then(Route::of_repository).ok_or(Error::NoSuchRoute),
        }
    }

    fn of_repository(rest: &'a str) -> Option<Self> {
        for (ending, noun) in [
            ("/tags/list", Noun::Tags),
            ("/blobs/uploads/", Noun::Uploads),
            ("/blobs/uploads", Noun::Uploads),
        ] {
            if let Some(name) = rest.strip_suffix(ending) {
                return Some(Route::Of(name, noun));
            }
        }
        let (rest, last) = rest.rsplit_once('/')?;
        let (name, kind) = rest.rsplit_once('/')?;
        match kind {
            "blobs" => Some(Route::Of(name, Noun::Blob(last))),
            "manifests" => Some(Route::Of(name, Noun::Manifest(last))),
            "referrers" => Some(Route::Of(name, Noun::Referrers(last))),
            "uploads" => Some(Route::Of(name.strip_suffix("/blobs")?, Noun::Upload(last))),
            _ => None,
        }
    }
}

async fn dispatch(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let began = Instant::now();
    let (parts, mut body) = request.into_parts();
    let mut response = match answer(&app, &parts, &mut body).await {
        Ok(response) => response,
        Err(error) => {
            if matches!(error, Error::DiskFull) {
                tracing::warn!(method = %parts.method, path = parts.uri.path(), "the disk is full");
            }
            let stopped = matches!(error, Error::BodyCut | Error::BodyIdle { .. });
            // Who waits for a `100 Continue` has sent nothing yet.
            if !stopped && !parts.headers.contains_key(EXPECT) {
                tokio::spawn(linger(body));
            }
            error.into_response()
        }
    };
    response
        .headers_mut()
        .insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    tracing::debug!(
        method = %parts.method,
        path = parts.uri.path(),
        status = response.status().as_u16(),
        elapsed = ?began.elapsed(),
        "answered"
    );
    response
}

async fn answer(app: &App, parts: &Parts, body: &mut Body) -> Result<Response, Error> {
    let subject = app.gate.identify(&parts.headers).await?;
    let query = Query::parse(parts.uri.query());
    let call = Call { app, headers: &parts.headers, query, subject };
    let method = parts.method.as_str();
    match Route::parse(parts.uri.path())? {
        Route::Base if READ.contains(&method) => Ok(catalog::base(call.authorize(())?)),
        Route::Catalog if READ.contains(&method) => catalog::list(call.authorize(())?, &call).await,
        Route::Base | Route::Catalog => Err(Error::Method { allowed: "GET, HEAD" }),
        Route::Of(name, noun) => of_repository(&call, name, noun, method, body).await,
    }
}

const READ: [&str; 2] = ["GET", "HEAD"];

async fn of_repository(
    call: &Call<'_>,
    name: &str,
    noun: Noun<'_>,
    method: &str,
    body: &mut Body,
) -> Result<Response, Error> {
    match (noun, method) {
        (Noun::Blob(digest), "GET") => blobs::get(call.authorize(name)?, digest, call).await,
        (Noun::Blob(digest), "HEAD") => blobs::head(call.authorize(name)?, digest, call).await,
        (Noun::Blob(digest), "DELETE") => blobs::delete(call.authorize(name)?, digest).await,
        (Noun::Blob(_), _) => Err(Error::Method { allowed: "GET, HEAD, DELETE" }),

        (Noun::Uploads, "POST") => uploads::start(call.authorize(name)?, call, body).await,
        (Noun::Uploads, _) => Err(Error::Method { allowed: "POST" }),

        (Noun::Upload(id), "GET" | "HEAD") => uploads::status(call.authorize(name)?, id).await,
        (Noun::Upload(id), "PATCH") => uploads::append(call.authorize(name)?, id, call, body).await,
        (Noun::Upload(id), "PUT") => uploads::finish(call.authorize(name)?, id, call, body).await,
        (Noun::Upload(id), "DELETE") => uploads::cancel(call.authorize(name)?, id).await,
        (Noun::Upload(_), _) => Err(Error::Method { allowed: "GET, HEAD, PATCH, PUT, DELETE" }),

        (Noun::Manifest(reference), "GET") => manifests::get(call.authorize(name)?, reference, call).await,
        (Noun::Manifest(reference), "HEAD") => manifests::head(call.authorize(name)?, reference, call).await,
        (Noun::Manifest(reference), "PUT") => {
            manifests::put(call.authorize(name)?, reference, call, body).await
        }
        (Noun::Manifest(reference), "DELETE") => manifests::delete(call.authorize(name)?, reference).await,
        (Noun::Manifest(_), _) => Err(Error::Method { allowed: "GET, HEAD, PUT, DELETE" }),

        (Noun::Tags, "GET" | "HEAD") => tags::list(call.authorize(name)?, call).await,
        (Noun::Referrers(digest), "GET" | "HEAD") => {
            referrers::list(call.authorize(name)?, digest, call).await
        }
        (Noun::Tags | Noun::Referrers(_), _) => Err(Error::Method { allowed: "GET, HEAD" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_told_by_how_it_ends() {
        let of = |path| match Route::parse(path) {
            Ok(Route::Of(name, noun)) => (name, noun),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(of("/v2/a/b/blobs/sha256:00"), ("a/b", Noun::Blob("sha256:00")));
        assert_eq!(of("/v2/a/blobs/uploads/"), ("a", Noun::Uploads));
        assert_eq!(of("/v2/a/blobs/uploads/17"), ("a", Noun::Upload("17")));
        assert_eq!(of("/v2/a/tags/list"), ("a", Noun::Tags));
        assert_eq!(of("/v2/a/blobs/uploads/tags/list"), ("a/blobs/uploads", Noun::Tags));
        assert_eq!(of("/v2/tags/manifests/list"), ("tags", Noun::Manifest("list")));
        assert_eq!(of("/v2/a/referrers/x"), ("a", Noun::Referrers("x")));
        assert!(matches!(Route::parse("/v2"), Ok(Route::Base)));
        assert!(matches!(Route::parse("/v2/_catalog"), Ok(Route::Catalog)));
        assert!(matches!(Route::parse("/v1/search"), Err(Error::VersionOne)));
        for path in ["/", "/v2x", "/v2/a", "/v2/a/b/c", "/v2//", "/v2/tags/list", "/v2/uploads/x"] {
            assert!(matches!(Route::parse(path), Err(Error::NoSuchRoute)), "{path}");
        }
    }
}
