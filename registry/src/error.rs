//! What a request can end in but success, and how the spec spells it.
//!
//! This file alone knows error codes and statuses; everywhere else a failure is a variant that says what happened.
//! What a client sees never holds a path of this machine: those go to the log.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use common::digest::{Digest, DigestError};
use common::oci::ParseError;
use common::reference::ReferenceError;
use common::store::{CommitError, ReadError, StoreError};
use http::header::{
    ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no such page; this registry speaks the API under `/v2/`")]
    NoSuchRoute,
    #[error("the v1 API is gone; repositories are listed by `/v2/_catalog`, tags by `/v2/<name>/tags/list`")]
    VersionOne,
    #[error("method is not allowed here, only {allowed}")]
    Method { allowed: &'static str },
    #[error("query parameter `{name}` {reason}")]
    Query { name: &'static str, reason: &'static str },

    #[error("authentication required")]
    Unauthorized,
    #[error("user name or password is wrong")]
    WrongCredentials,

    #[error("repository name: {0}")]
    NameInvalid(ReferenceError),
    #[error("repository `{0}` is not known to this registry")]
    NameUnknown(String),

    #[error("{0}")]
    DigestInvalid(#[from] DigestError),
    #[error("content does not match its digest: expected {expected}, got {actual}")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("query parameter `digest` is missing: it names the digest of the whole blob")]
    DigestMissing,

    #[error("blob {0} is not known to this repository")]
    BlobUnknown(Digest),
    #[error("range is outside of the blob's {size_bytes} bytes")]
    RangeUnsatisfiable { size_bytes: u64 },

    #[error("upload is not known here: it ended, expired, or belongs to another repository or user")]
    UploadUnknown,
    #[error("another request is writing to this upload")]
    UploadBusy,
    #[error("chunk starts at byte {start} but the upload holds {offset} bytes")]
    ChunkOutOfOrder { start: u64, offset: u64, location: String },
    #[error("`Content-Range` must be `<first>-<last>`, as in `0-1023`")]
    ChunkRange,
    #[error("body has {actual} bytes but {expected} were announced")]
    SizeMismatch { expected: u64, actual: u64 },
    #[error("the body stopped before its end")]
    BodyCut,
    #[error("no byte of the body came for {seconds} s")]
    BodyIdle { seconds: u64 },

    #[error("manifest `{0}` is not known to this repository")]
    ManifestUnknown(String),
    #[error("tag must be at most 128 of `A-Z a-z 0-9 _ . -` and not begin with `.` or `-`")]
    TagInvalid,
    #[error("{0}{because}", because = cause(.0))]
    ManifestInvalid(#[from] ParseError),
    #[error("`Content-Type` is not a manifest's: `{0}`")]
    ManifestType(String),
    #[error(
        "docker schema 1 manifests are not accepted: push with docker 1.10 or later, \
         or convert with `skopeo copy --format v2s2`"
    )]
    SchemaOne,
    #[error("manifest is larger than {limit_bytes} bytes")]
    ManifestTooLarge { limit_bytes: u64 },
    #[error("manifest says that {digest} has {stated} bytes but it has {actual}")]
    ManifestChildSize { digest: Digest, stated: u64, actual: u64 },
    #[error("manifest refers to content that this repository does not hold: {}", list(.0))]
    ManifestChildUnknown(Vec<Digest>),

    #[error("this registry is read-only")]
    ReadOnly,
    #[error("the disk is full")]
    DiskFull,
    /// The cause is logged, not sent: it names paths of this machine.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Well-formed JSON is the sender's business, so the place of the fault is told.
fn cause(error: &ParseError) -> String {
    std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default()
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// Status and spec code.
    fn verdict(&self) -> (StatusCode, &'static str) {
        match self {
            Error::NoSuchRoute | Error::VersionOne => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Error::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Error::Query { .. } => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
            Error::Unauthorized | Error::WrongCredentials => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Error::NameInvalid(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Error::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Error::DigestInvalid(_) | Error::DigestMismatch { .. } | Error::DigestMissing => {
                (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            Error::BlobUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Error::RangeUnsatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID"),
            Error::UploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Error::UploadBusy => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
            Error::ChunkOutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Error::ChunkRange | Error::BodyCut => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Error::SizeMismatch { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            Error::BodyIdle { .. } => (StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID"),
            Error::ManifestUnknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Error::TagInvalid
            | Error::ManifestInvalid(_)
            | Error::ManifestType(_)
            | Error::SchemaOne
            | Error::ManifestChildSize { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Error::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Error::ManifestChildUnknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
            Error::ReadOnly => (StatusCode::FORBIDDEN, "DENIED"),
            Error::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
            Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }

    /// Headers that belong to the status.
    fn headers(&self) -> Vec<(HeaderName, String)> {
        match self {
            Error::Method { allowed } => vec![(ALLOW, (*allowed).to_owned())],
            Error::Unauthorized | Error::WrongCredentials => {
                vec![(WWW_AUTHENTICATE, r#"Basic realm="gantry", charset="UTF-8""#.to_owned())]
            }
            Error::RangeUnsatisfiable { size_bytes } => {
                vec![(CONTENT_RANGE, format!("bytes */{size_bytes}"))]
            }
            Error::ChunkOutOfOrder { offset, location, .. } => {
                vec![(LOCATION, location.clone()), (RANGE, crate::range::received(*offset))]
            }
            Error::UploadBusy => vec![(RETRY_AFTER, "1".to_owned())],
            _ => Vec::new(),
        }
    }

    fn detail(&self) -> Value {
        match self {
            Error::DigestMismatch { expected, actual } => json!({ "expected": expected, "actual": actual }),
            Error::ManifestChildUnknown(digests) => json!(digests),
            Error::BlobUnknown(digest) => json!({ "digest": digest }),
            _ => Value::Null,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            error if error.is_no_space() => Error::DiskFull,
            error if error.is_read_only() => Error::ReadOnly,
            error => Error::Internal(Box::new(error)),
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::DigestMismatch { expected, actual, .. } => {
                Error::DigestMismatch { expected, actual }
            }
            CommitError::SizeMismatch { expected, actual, .. } => Error::SizeMismatch { expected, actual },
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::Missing { digest } => Error::BlobUnknown(digest),
            error => Error::Internal(Box::new(error)),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.verdict();
        if let Error::Internal(source) = &self {
            tracing::error!(error = source.as_ref(), "request failed");
        }
        let mut error = json!({ "code": code, "message": self.to_string() });
        let detail = self.detail();
        if !detail.is_null() {
            error["detail"] = detail;
        }
        let mut response = Response::new(Body::from(json!({ "errors": [error] }).to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers() {
            headers.insert(name, value.parse().expect("header values are made of digits, ids and names"));
        }
        response
    }
}
