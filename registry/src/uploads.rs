//! `/v2/<name>/blobs/uploads/`: how blobs come in, whole or in chunks, by one request or by many, or by mount.
//!
//! A session belongs to the repository and the user that began it; to others it does not exist. One request at a
//! time holds it. What a request brought stays when its body is cut, and `GET` tells how much that is; a chunk that is
//! out of order is refused before its first byte is taken.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs>

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use common::digest::{Algorithm, Digest};
use common::store::{Upload, UploadError, UploadId, UploadOptions};
use http::StatusCode;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};

use crate::auth::{Authorized, Pull, Push, Repository};
use crate::blobs::{created, finish as respond};
use crate::call::{Call, blocking};
use crate::error::Error;
use crate::intake::Chunks;
use crate::range;

/// A session that nobody uses for this long is gone.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How many of the repositories that hold a blob are tried when a mount does not name one.
const HOLDERS_TRIED: usize = 64;

/// end-4a, end-4b, end-4c and end-11: a session, a whole blob, or a blob that another repository holds.
pub(crate) async fn start(
    repository: Authorized<Repository, Push>,
    call: &Call<'_>,
    body: &mut Body,
) -> Result<Response, Error> {
    if let Some(digest) = call.query.get("mount") {
        let digest: Digest = digest.parse()?;
        return mount(repository, digest, call).await;
    }
    if let Some(digest) = call.query.get("digest") {
        let digest: Digest = digest.parse()?;
        return call.app.intake.write(body, move |chunks| whole(&repository, &digest, chunks)).await;
    }
    let algorithm = call.query.get("digest-algorithm").map(str::parse).transpose()?;
    blocking(move || begin(&repository, algorithm.unwrap_or(Algorithm::Sha256))).await
}

/// end-13.
pub(crate) async fn status(repository: Authorized<Repository, Push>, id: &str) -> Result<Response, Error> {
    let id = parse(id)?;
    blocking(move || {
        let state = repository.store.upload(&id)?.ok_or(Error::UploadUnknown)?;
        check_owner(&repository, &state.options)?;
        Ok(session(StatusCode::NO_CONTENT, &repository, &id, state.offset))
    })
    .await
}

/// end-5.
pub(crate) async fn append(
    repository: Authorized<Repository, Push>,
    id: &str,
    call: &Call<'_>,
    body: &mut Body,
) -> Result<Response, Error> {
    receive(repository, id, call, body, |repository, upload| {
        Ok(session(StatusCode::ACCEPTED, repository, upload.id(), upload.offset()))
    })
    .await
}

/// end-6.
pub(crate) async fn finish(
    repository: Authorized<Repository, Push>,
    id: &str,
    call: &Call<'_>,
    body: &mut Body,
) -> Result<Response, Error> {
    let digest: Digest = call.query.get("digest").ok_or(Error::DigestMissing)?.parse()?;
    receive(repository, id, call, body, move |repository, upload| {
        let size_bytes = upload.finish(&digest)?;
        hold(repository, &digest, size_bytes)
    })
    .await
}

/// Adds a request's body to its session, then lets `respond` do the rest with the session still held.
async fn receive(
    repository: Authorized<Repository, Push>,
    id: &str,
    call: &Call<'_>,
    body: &mut Body,
    respond: impl FnOnce(&Authorized<Repository, Push>, Upload) -> Result<Response, Error> + Send + 'static,
) -> Result<Response, Error> {
    let id = parse(id)?;
    let chunk = chunk(call)?;
    let receive = move |chunks: &mut Chunks| {
        let upload = take_in(&repository, resume(&repository, &id)?, chunk, chunks)?;
        respond(&repository, upload)
    };
    call.app.intake.write(body, receive).await
}

/// end-14.
pub(crate) async fn cancel(repository: Authorized<Repository, Push>, id: &str) -> Result<Response, Error> {
    let id = parse(id)?;
    blocking(move || {
        resume(&repository, &id)?.cancel();
        Ok(respond(Response::builder().status(StatusCode::NO_CONTENT), Body::empty()))
    })
    .await
}

fn begin(repository: &Authorized<Repository, Push>, algorithm: Algorithm) -> Result<Response, Error> {
    let upload = repository.store.begin_upload(UploadOptions {
        repository: repository.served.path().clone(),
        subject: repository.subject().name().to_owned(),
        algorithm,
        lifetime: LIFETIME,
    })?;
    Ok(session(StatusCode::ACCEPTED, repository, upload.id(), 0))
}

/// A blob in one request.
fn whole(
    repository: &Authorized<Repository, Push>,
    digest: &Digest,
    chunks: &mut Chunks,
) -> Result<Response, Error> {
    let mut ingest = repository.store.ingest_as(digest.algorithm())?;
    for bytes in chunks.by_ref() {
        ingest.append(&bytes)?;
    }
    if !chunks.whole() {
        return Err(Error::BodyCut);
    }
    let size_bytes = ingest.commit(digest, None)?;
    hold(repository, digest, size_bytes)
}

/// Gives the repository a blob that another one holds and that the caller may read there. Whatever stands in the way,
/// the client is offered an upload instead, and learns nothing about the other repository.
async fn mount(
    repository: Authorized<Repository, Push>,
    digest: Digest,
    call: &Call<'_>,
) -> Result<Response, Error> {
    let sources = match call.query.get("from") {
        Some(from) => call.authorize(from).into_iter().collect(),
        None => holders(&repository, &digest, call).await?,
    };
    blocking(move || {
        for source in sources {
            let source: Authorized<Repository, Pull> = source;
            if let Some(blob) = source.open(&digest)? {
                return hold(&repository, &digest, blob.size_bytes);
            }
        }
        begin(&repository, digest.algorithm())
    })
    .await
}

/// The repositories that hold a blob, as far as the caller may pull from them.
async fn holders(
    repository: &Repository,
    digest: &Digest,
    call: &Call<'_>,
) -> Result<Vec<Authorized<Repository, Pull>>, Error> {
    let (store, digest) = (repository.store.clone(), digest.clone());
    let holders = blocking(move || Ok(store.ref_holders(&digest)?)).await?;
    let allowed = holders.iter().filter_map(|holder| call.authorize(holder.as_str()).ok());
    Ok(allowed.take(HOLDERS_TRIED).collect())
}

/// From now on the blob, which is in the store, can be read through this repository.
fn hold(
    repository: &Authorized<Repository, Push>,
    digest: &Digest,
    size_bytes: u64,
) -> Result<Response, Error> {
    repository.served.add_ref(digest)?;
    tracing::info!(repository = %repository.served.path(), %digest, size_bytes, "blob pushed");
    Ok(created(repository, digest))
}

/// What a request brings, as its `Content-Range` says: from which byte on, and how many.
#[derive(Clone, Copy)]
struct Chunk {
    start: u64,
    length: u64,
}

fn chunk(call: &Call<'_>) -> Result<Option<Chunk>, Error> {
    let Some(header) = call.headers.get(CONTENT_RANGE) else { return Ok(None) };
    let range = header.to_str().ok().and_then(range::chunk).ok_or(Error::ChunkRange)?;
    Ok(Some(Chunk { start: range.start, length: range.end - range.start }))
}

/// Adds a request's body to the session. What a full disk does not take is given back at once: an upload that cannot
/// end must not keep others from ending.
fn take_in(
    repository: &Repository,
    mut upload: Upload,
    chunk: Option<Chunk>,
    chunks: &mut Chunks,
) -> Result<Upload, Error> {
    let offset = upload.offset();
    if let Some(chunk) = chunk.filter(|chunk| chunk.start != offset) {
        let location = location(repository, upload.id());
        return Err(Error::ChunkOutOfOrder { start: chunk.start, offset, location });
    }
    match write(&mut upload, chunk.map(|chunk| chunk.length), chunks) {
        Ok(()) => Ok(upload),
        Err(error) => {
            if matches!(error, Error::DiskFull) {
                upload.cancel();
            }
            Err(error)
        }
    }
}

fn write(upload: &mut Upload, announced: Option<u64>, chunks: &mut Chunks) -> Result<(), Error> {
    let mut actual = 0;
    for bytes in chunks.by_ref() {
        actual += bytes.len() as u64;
        if let Some(expected) = announced.filter(|&expected| actual > expected) {
            return Err(Error::SizeMismatch { expected, actual });
        }
        upload.append(&bytes)?;
    }
    if !chunks.whole() {
        return Err(Error::BodyCut);
    }
    match announced {
        Some(expected) if expected != actual => Err(Error::SizeMismatch { expected, actual }),
        _ => Ok(()),
    }
}

fn parse(id: &str) -> Result<UploadId, Error> {
    id.parse().map_err(|_| Error::UploadUnknown)
}

fn resume(repository: &Authorized<Repository, Push>, id: &UploadId) -> Result<Upload, Error> {
    // Looked at before it is held: who has no part in it must not even disturb it.
    let state = repository.store.upload(id)?.ok_or(Error::UploadUnknown)?;
    check_owner(repository, &state.options)?;
    repository.store.resume_upload(id).map_err(|error| match error {
        UploadError::Unknown { .. } => Error::UploadUnknown,
        UploadError::Busy { .. } => Error::UploadBusy,
        UploadError::Store(error) => error.into(),
    })
}

fn check_owner(repository: &Authorized<Repository, Push>, options: &UploadOptions) -> Result<(), Error> {
    let same =
        options.repository == *repository.served.path() && options.subject == repository.subject().name();
    if same { Ok(()) } else { Err(Error::UploadUnknown) }
}

fn location(repository: &Repository, id: &UploadId) -> String {
    format!("/v2/{}/blobs/uploads/{id}", repository.served.path())
}

/// The answer about a session that goes on.
fn session(status: StatusCode, repository: &Repository, id: &UploadId, offset: u64) -> Response {
    let response = Response::builder()
        .status(status)
        .header(LOCATION, location(repository, id))
        .header(RANGE, range::received(offset))
        .header("docker-upload-uuid", id.as_str());
    respond(response, Body::empty())
}
