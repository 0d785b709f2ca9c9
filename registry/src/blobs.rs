//! `/v2/<name>/blobs/<digest>`: reading and deleting blobs.
//!
//! A blob is readable only through a repository that holds it: one that others hold is as unknown as one that nobody
//! has ever pushed. Deleting takes it out of this repository; the bytes go when nobody holds them any more.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-blobs>

use axum::body::Body;
use axum::response::Response;
use common::digest::Digest;
use common::store::Blob;
use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LOCATION, RANGE,
};

use crate::auth::{Authorized, Delete, Pull, Repository};
use crate::call::{Call, blocking};
use crate::condition;
use crate::error::Error;
use crate::range::{self, Asked};

/// The header that says what the bytes' digest is.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";

/// end-2, `GET`.
pub(crate) async fn get(
    repository: Authorized<Repository, Pull>,
    digest: &str,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let digest: Digest = digest.parse()?;
    let Blob { file, size_bytes } = open(repository, &digest).await?;
    let response = described(&digest);
    if condition::is_held(&digest, call.headers) {
        return Ok(finish(response.status(StatusCode::NOT_MODIFIED), Body::empty()));
    }
    let (response, bytes) = match range::asked(range_of(&digest, call), size_bytes) {
        Asked::Whole => (response, 0..size_bytes),
        Asked::Unsatisfiable => return Err(Error::RangeUnsatisfiable { size_bytes }),
        Asked::Part(part) => {
            let content_range = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
            (response.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, content_range), part)
        }
    };
    let response = response.header(CONTENT_LENGTH, bytes.end - bytes.start);
    Ok(finish(response, call.app.pieces.body(file, bytes)))
}

/// end-2, `HEAD`.
pub(crate) async fn head(
    repository: Authorized<Repository, Pull>,
    digest: &str,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let digest: Digest = digest.parse()?;
    let blob = open(repository, &digest).await?;
    if condition::is_held(&digest, call.headers) {
        let response = described(&digest).header(CONTENT_LENGTH, blob.size_bytes);
        return Ok(finish(response.status(StatusCode::NOT_MODIFIED), Body::empty()));
    }
    Ok(finish(described(&digest).header(CONTENT_LENGTH, blob.size_bytes), Body::empty()))
}

/// end-10.
pub(crate) async fn delete(
    repository: Authorized<Repository, Delete>,
    digest: &str,
) -> Result<Response, Error> {
    let digest: Digest = digest.parse()?;
    blocking(move || {
        if !repository.served.remove_ref(&digest)? {
            return Err(Error::BlobUnknown(digest));
        }
        repository.store.reach().reference(&repository.served, &digest).sync()?;
        tracing::info!(repository = %repository.served.path(), %digest, "blob deleted");
        Ok(finish(Response::builder().status(StatusCode::ACCEPTED), Body::empty()))
    })
    .await
}

/// The answer to a blob that this repository holds now: where, and what it is.
pub(crate) fn created(repository: &Repository, digest: &Digest) -> Response {
    let location = format!("/v2/{}/blobs/{digest}", repository.served.path());
    let response = Response::builder().status(StatusCode::CREATED).header(LOCATION, location);
    finish(response.header(CONTENT_DIGEST, digest.to_string()), Body::empty())
}

async fn open(repository: Authorized<Repository, Pull>, digest: &Digest) -> Result<Blob, Error> {
    let wanted = digest.clone();
    let blob = blocking(move || Ok(repository.open(&wanted)?)).await?;
    blob.ok_or_else(|| Error::BlobUnknown(digest.clone()))
}

/// The range that is asked for, unless it is one of other bytes, as the client says by `If-Range`.
///
/// Spec: <https://www.rfc-editor.org/rfc/rfc9110#section-13.1.5>; blobs have no dates, so a date is of others, too.
fn range_of<'a>(digest: &Digest, call: &'a Call<'_>) -> Option<&'a str> {
    let same =
        call.headers.get(IF_RANGE).is_none_or(|held| held.as_bytes() == condition::etag(digest).as_bytes());
    call.header(RANGE).filter(|_| same)
}

fn described(digest: &Digest) -> http::response::Builder {
    Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_DIGEST, digest.to_string())
        .header(ETAG, condition::etag(digest))
}

/// A response whose headers were made here.
pub(crate) fn finish(response: http::response::Builder, body: Body) -> Response {
    response.body(body).expect("headers are made of names, digests and numbers")
}
