//! Blobs: asked for, and received piece by piece.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-blobs>. A body that breaks off
//! is asked for from that byte on by `Range`; a registry that cannot do so sends it anew, and what is known is
//! skipped. Each try starts at the registry, since where it redirects to is signed for a short while.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, StatusCode};

use super::Client;
use super::challenge::Scopes;
use super::error::{Cause, ClientError, RequestLine};
use super::host::{Endpoints, Host};
use super::wire::{Backoff, Call, Reply};
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::reference::Repository;

/// A connection that brought this many bytes was a good one: failures are counted anew.
const GOOD_BYTES: u64 = 1024 * 1024;

impl Client {
    /// Asks whether a repository has a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, ClientError> {
        let host = self.host(repository).await?;
        let call = Call::new(Method::HEAD, host.url(&blob_path(repository, digest)).await?);
        let reply = host.send(call, Scopes::pull(repository.path())).await?;
        match reply.status() {
            StatusCode::NOT_FOUND => Ok(false),
            // It is kept elsewhere under a URL that is signed for GET alone: the registry sends nobody there in vain.
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED if reply.left_origin => Ok(true),
            _ => reply.expect(&[StatusCode::OK]).await.map(|_| true),
        }
    }

    /// Begins to receive a blob; nothing is asked for before the first piece is.
    ///
    /// # Errors
    /// When docker's files cannot be used.
    pub async fn blob(&self, repository: &Repository, blob: &Descriptor) -> Result<BlobStream, ClientError> {
        Ok(BlobStream {
            endpoints: self.endpoints(repository).await?,
            path: blob_path(repository, &blob.digest),
            scopes: Scopes::pull(repository.path()),
            size_bytes: blob.size,
            offset: 0,
            opened_at: 0,
            body: None,
            finished: false,
            backoff: Backoff::default(),
        })
    }

    /// Receives a small blob whole, verified.
    ///
    /// # Errors
    /// When it has more than `limit_bytes`, does not match its descriptor, or cannot be received.
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        limit_bytes: u64,
    ) -> Result<Bytes, ClientError> {
        let mut stream = self.blob(repository, blob).await?;
        if blob.size > limit_bytes {
            return Err(stream.line().await?.failed(Cause::TooLong { limit_bytes }));
        }
        let mut bytes = Vec::with_capacity(blob.size as usize);
        while let Some(piece) = stream.next().await? {
            bytes.extend_from_slice(&piece);
        }
        let actual = blob.digest.algorithm().digest(&bytes);
        if actual != blob.digest {
            let cause = Cause::Digest { expected: blob.digest.clone(), actual };
            return Err(stream.line().await?.failed(cause));
        }
        Ok(bytes.into())
    }
}

/// The bytes of a blob as they arrive, in order and without gaps however often the connection broke. Their number is
/// that of the descriptor; their digest is for the one who writes them to check.
pub struct BlobStream {
    /// Who is asked; the first is asked until it fails, the last until the policy gives up.
    endpoints: Endpoints,
    path: String,
    scopes: Scopes,
    size_bytes: u64,
    /// How many bytes were handed out.
    offset: u64,
    /// The offset at which the present connection began.
    opened_at: u64,
    body: Option<Body>,
    finished: bool,
    backoff: Backoff,
}

struct Body {
    reply: Reply,
    /// How many of its bytes are known already.
    skip: u64,
}

impl BlobStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the blob cannot be received whole in spite of all tries, or is not as long as its descriptor says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while !self.finished {
            match self.try_next().await {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(piece) => return Ok(piece),
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(None)
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.open().await?,
        };
        let Some(mut piece) = body.reply.chunk().await? else {
            if self.offset < self.size_bytes {
                let cause = Cause::Truncated { expected: self.size_bytes, received: self.offset };
                return Err(body.reply.line.failed(cause));
            }
            self.finished = true;
            return Ok(None);
        };
        let known = body.skip.min(piece.len() as u64);
        body.skip -= known;
        piece.advance(known as usize);
        let end = self.offset + piece.len() as u64;
        if end > self.size_bytes {
            return Err(body.reply.line.failed(Cause::Size { expected: self.size_bytes, actual: end }));
        }
        self.offset = end;
        self.body = Some(body);
        Ok(Some(piece))
    }

    /// Asks for the rest.
    async fn open(&mut self) -> Result<Body, ClientError> {
        let host = self.host();
        let mut call = Call::new(Method::GET, host.url(&self.path).await?);
        if self.offset > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.offset));
        }
        let reply = host.send_once(&call, self.scopes.clone()).await?;
        let reply = reply.expect(&[StatusCode::OK, StatusCode::PARTIAL_CONTENT]).await?;
        self.opened_at = self.offset;
        let begins_at = if reply.status() == StatusCode::OK { 0 } else { range_start(&reply) };
        if begins_at != 0 && begins_at != self.offset {
            return Err(reply.broken("the answer is another range than was asked for"));
        }
        let end = reply.content_length().map(|length| begins_at.saturating_add(length));
        if let Some(actual) = end.filter(|end| *end != self.size_bytes) {
            return Err(reply.line.failed(Cause::Size { expected: self.size_bytes, actual }));
        }
        Ok(Body { reply, skip: self.offset - begins_at })
    }

    /// Turns from a mirror to the next endpoint, or waits for another try.
    async fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.body = None;
        if self.endpoints.len() > 1 {
            tracing::info!(%error, "the mirror does not serve the blob");
            self.endpoints.remove(0);
            return Ok(());
        }
        if self.offset - self.opened_at >= GOOD_BYTES {
            self.backoff.reset();
        }
        self.opened_at = self.offset;
        let host = self.host();
        self.backoff.pause(&host.wire, error).await
    }

    fn host(&self) -> Arc<Host> {
        self.endpoints.first().expect("the registry itself is never removed").clone()
    }

    /// For errors that no answer gave.
    async fn line(&self) -> Result<RequestLine, ClientError> {
        let host = self.host();
        Ok(RequestLine::new(&host.wire.registry, &Method::GET, &host.url(&self.path).await?))
    }
}

/// Where a partial answer begins: `Content-Range: bytes 5-9/10`.
fn range_start(reply: &Reply) -> u64 {
    let range = reply.header(CONTENT_RANGE.as_str()).and_then(|text| text.trim().strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0)
}

fn blob_path(repository: &Repository, digest: &Digest) -> String {
    format!("{}/blobs/{digest}", repository.path())
}
