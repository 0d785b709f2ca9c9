//! Conditions of a request: whether the client has already what it asks for.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc9110#section-13>. Nothing that has a digest ever changes, so that is its ETag.

use common::digest::Digest;
use http::HeaderMap;
use http::header::IF_NONE_MATCH;

/// The ETag of the bytes with this digest.
pub(crate) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has these bytes already, as it says by `If-None-Match`.
pub(crate) fn is_held(digest: &Digest, headers: &HeaderMap) -> bool {
    let etag = etag(digest);
    let known = |held: &str| held == "*" || held.strip_prefix("W/").unwrap_or(held) == etag;
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    // No digest holds a comma, so what one cuts is of another tag.
    lists.flat_map(|list| list.split(',')).any(|held| known(held.trim()))
}
