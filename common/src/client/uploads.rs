//! Blobs on their way to a registry.
//!
//! ```text
//! POST …/uploads/?mount=D&from=R ─ 201 ─► mounted, no byte was sent
//!        │ 202 Location (a session)
//!        ├──────────────► PUT Location?digest=D, the whole blob ─ 201 ─► sent
//!        │ it broke off          │
//!        └◄── session unknown ── GET Location ─ 204 Range: 0-N ─► PATCH from N+1 on, then PUT without a body
//! ```
//! The one PUT is what every registry takes. When it breaks off, the session is asked how far it came; one that still
//! knows goes on from there, for any other a new one is begun.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs>

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, StatusCode};
use url::Url;

use super::Client;
use super::challenge::Scopes;
use super::error::ClientError;
use super::host::Host;
use super::wire::{Backoff, Body, Call, FilePart, Reply};
use crate::digest::Digest;
use crate::reference::{Repository, RepositoryPath};

const OCTETS: &str = "application/octet-stream";

/// A blob to be sent.
pub struct Upload<'a> {
    /// Where to.
    pub repository: &'a Repository,
    /// Of the whole blob.
    pub digest: &'a Digest,
    /// Length of the blob in bytes.
    pub size_bytes: u64,
    /// The blob; its offset is neither used nor moved.
    pub file: Arc<File>,
    /// A repository of the same registry that may have it.
    pub mount_from: Option<&'a RepositoryPath>,
    /// Is told how many bytes were handed to the connection; the number falls when some have to be sent again.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// How a blob came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// The registry took it from another repository.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// Sends a blob, or has it mounted.
    ///
    /// # Errors
    /// When the file is not as long as told, or the registry does not take the blob in spite of all tries.
    pub async fn upload(&self, upload: &Upload<'_>) -> Result<Uploaded, ClientError> {
        check_length(upload)?;
        let host = self.host(upload.repository).await?;
        let mut session = match host.begin(upload).await? {
            Begun::Mounted => return Ok(Uploaded::Mounted),
            Begun::Session(session) => session,
        };
        let mut backoff = Backoff::default();
        while let Err(error) = host.transfer(upload, &session).await {
            backoff.pause(&host.wire, error).await?;
            session = match host.ask(upload, &session).await {
                Some(known) => known,
                // The answer may have been lost, not the blob.
                None if self.has_blob(upload.repository, upload.digest).await? => break,
                None => host.begin_session(upload).await?,
            };
        }
        Ok(Uploaded::Sent)
    }
}

enum Begun {
    Mounted,
    Session(Session),
}

/// An upload that the registry keeps: where it goes on, and from which byte.
struct Session {
    location: Url,
    offset: u64,
}

impl Host {
    /// Asks for a mount if one may be had, else for a session.
    async fn begin(&self, upload: &Upload<'_>) -> Result<Begun, ClientError> {
        let Some(from) = upload.mount_from else {
            return self.begin_session(upload).await.map(Begun::Session);
        };
        let mut url = self.uploads_url(upload).await?;
        url.query_pairs_mut()
            .append_pair("mount", &upload.digest.to_string())
            .append_pair("from", from.as_str());
        let scopes = Scopes::push(upload.repository.path()).merge(&Scopes::pull(from));
        match self.send(post(url), scopes).await {
            Ok(reply) if reply.status() == StatusCode::CREATED => Ok(Begun::Mounted),
            Ok(reply) if reply.status() == StatusCode::ACCEPTED => {
                self.session(&reply, 0).map(Begun::Session)
            }
            Ok(reply) => {
                tracing::debug!(error = %reply.into_error().await, "no mount");
                self.begin_session(upload).await.map(Begun::Session)
            }
            // Some token servers refuse all when one of two scopes is not granted.
            Err(error) => {
                tracing::debug!(%error, "no mount");
                self.begin_session(upload).await.map(Begun::Session)
            }
        }
    }

    async fn begin_session(&self, upload: &Upload<'_>) -> Result<Session, ClientError> {
        let url = self.uploads_url(upload).await?;
        let reply = self.send(post(url), Scopes::push(upload.repository.path())).await?;
        self.session(&reply.expect(&[StatusCode::ACCEPTED]).await?, 0)
    }

    async fn uploads_url(&self, upload: &Upload<'_>) -> Result<Url, ClientError> {
        self.url(&format!("{}/blobs/uploads/", upload.repository.path())).await
    }

    /// Sends what the session lacks, and ends it.
    async fn transfer(&self, upload: &Upload<'_>, held: &Session) -> Result<(), ClientError> {
        (upload.progress)(held.offset);
        let rest = held.offset..upload.size_bytes;
        let part =
            |range| Body::File(FilePart { file: upload.file.clone(), range, progress: upload.progress });
        let (location, body) = if rest.start == 0 {
            (held.location.clone(), part(rest))
        } else if rest.is_empty() {
            (held.location.clone(), Body::Bytes(Bytes::new()))
        } else {
            let range = format!("{}-{}", rest.start, rest.end - 1);
            let patch = Call::new(Method::PATCH, held.location.clone())
                .header(CONTENT_TYPE, OCTETS)
                .header(CONTENT_RANGE, &range)
                .body(part(rest));
            let reply =
                self.send_part(upload, &patch, &[StatusCode::ACCEPTED, StatusCode::NO_CONTENT]).await?;
            (self.wire.location(&reply)?, Body::Bytes(Bytes::new()))
        };
        let put = Call::new(Method::PUT, with_digest(location, upload.digest))
            .header(CONTENT_TYPE, OCTETS)
            .body(body);
        // The spec says 201; others of the kind are seen in the wild.
        let done = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
        self.send_part(upload, &put, &done).await.map(drop)
    }

    /// Not tried again here: what the registry took of it must be asked first.
    async fn send_part(
        &self,
        upload: &Upload<'_>,
        call: &Call<'_>,
        expected: &[StatusCode],
    ) -> Result<Reply, ClientError> {
        self.send_once(call, Scopes::push(upload.repository.path())).await?.expect(expected).await
    }

    /// How far the session came, if the registry still knows it. `0-0` may mean one byte or none, and tells nothing.
    async fn ask(&self, upload: &Upload<'_>, held: &Session) -> Option<Session> {
        let call = Call::new(Method::GET, held.location.clone());
        let known = [StatusCode::NO_CONTENT, StatusCode::OK, StatusCode::ACCEPTED];
        let reply = self.send_part(upload, &call, &known).await.ok()?;
        let range = reply.header(RANGE.as_str())?;
        let last: u64 = range.trim().trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
        if last == 0 || last >= upload.size_bytes {
            return None;
        }
        let location = self.wire.location(&reply).unwrap_or_else(|_| held.location.clone());
        Some(Session { location, offset: last + 1 })
    }

    fn session(&self, reply: &Reply, offset: u64) -> Result<Session, ClientError> {
        Ok(Session { location: self.wire.location(reply)?, offset })
    }
}

fn post<'a>(url: Url) -> Call<'a> {
    Call::new(Method::POST, url).body(Body::Bytes(Bytes::new()))
}

fn with_digest(mut location: Url, digest: &Digest) -> Url {
    location.query_pairs_mut().append_pair("digest", &digest.to_string());
    location
}

fn check_length(upload: &Upload<'_>) -> Result<(), ClientError> {
    let fault = match upload.file.metadata() {
        Ok(metadata) if metadata.len() == upload.size_bytes => return Ok(()),
        Ok(_) => io::Error::from(io::ErrorKind::UnexpectedEof),
        Err(error) => error,
    };
    Err(ClientError::Source { digest: upload.digest.clone(), source: fault })
}
