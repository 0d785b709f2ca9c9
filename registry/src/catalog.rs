//! `/v2/` and `/v2/_catalog`: what concerns the registry as such.
//!
//! The catalog is no part of the spec; docker's first registry had it and everyday tools ask for it.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#determining-support>

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, LINK};
use serde_json::{Value, json};

use crate::auth::{Authorized, Pull, Registry};
use crate::blobs::finish;
use crate::call::{Call, blocking};
use crate::error::Error;
use crate::page::Page;

/// end-1: the caller may come in.
pub(crate) fn base(_registry: Authorized<Registry, Pull>) -> Response {
    listing(&json!({}), None)
}

/// The names of the repositories.
pub(crate) async fn list(registry: Authorized<Registry, Pull>, call: &Call<'_>) -> Result<Response, Error> {
    let page = Page::parse(&call.query)?;
    blocking(move || {
        let mut names = registry.store.served_repositories(page.last.as_deref(), Some(page.limit + 1))?;
        let next = page.cut("/v2/_catalog", &mut names);
        Ok(listing(&json!({ "repositories": names }), next))
    })
    .await
}

/// A JSON answer, with the link to its next page if there is one.
pub(crate) fn listing(document: &Value, next: Option<HeaderValue>) -> Response {
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    let response = match next {
        Some(next) => response.header(LINK, next),
        None => response,
    };
    finish(response, Body::from(document.to_string()))
}
