//! The one error of this module: which request, what went wrong, what the user can do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::authority::authority;
use super::settings::SettingsError;
use crate::digest::Digest;
use crate::reference::DEFAULT_HOST;

/// Why something asked of a registry did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A request failed.
    #[error("{request}: {cause}")]
    Request {
        /// Which.
        request: Box<RequestLine>,
        /// Why. Boxed: errors travel through many returns.
        cause: Box<Cause>,
    },
    /// One of docker's files, or a credential helper, could not be used.
    #[error(transparent)]
    Settings(#[from] Box<SettingsError>),
    /// The name of the registry is not one.
    #[error("`{registry}` is not a registry host, e.g. `registry.example:5000`")]
    Host {
        /// What was given.
        registry: String,
    },
    /// The blob to be sent could not be read.
    #[error("cannot read the blob {digest} that is to be sent")]
    Source {
        /// Which blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}

/// Names a request. The URL carries neither credentials nor a query, since redirects are signed there.
#[derive(Debug, Clone)]
pub struct RequestLine {
    /// HTTP method.
    pub method: Method,
    /// Where it went, without user, password and query.
    pub url: String,
    /// The registry as references name it, e.g. `docker.io`.
    pub registry: String,
}

impl RequestLine {
    pub(super) fn new(registry: &str, method: &Method, url: &Url) -> Self {
        let mut bare = url.clone();
        bare.set_query(None);
        bare.set_fragment(None);
        // Both fail only for URLs that cannot have a user, which then have none to hide.
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        RequestLine { method: method.clone(), url: bare.into(), registry: registry.to_owned() }
    }

    /// Where it went, host and port as references have them: the registry, or a host that it led to.
    fn host(&self) -> String {
        Url::parse(&self.url).map_or_else(|_| self.registry.clone(), |url| authority(&url))
    }

    pub(super) fn failed(&self, cause: Cause) -> ClientError {
        ClientError::Request { request: Box::new(self.clone()), cause: Box::new(cause) }
    }
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// What was wrong with a request or its answer.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The registry answered, and not with success.
    #[error("{}", answer(*status, errors))]
    Status {
        /// The status.
        status: StatusCode,
        /// What the registry said about it, often one entry, sometimes none.
        errors: Vec<RegistryError>,
        /// When it may be tried again, when the registry told.
        retry_after: Option<Duration>,
    },
    /// No answer came, or it broke off.
    #[error("{0}")]
    Transport(Transport),
    /// Nothing was received or sent for a while.
    #[error("nothing happened for {} seconds", limit.as_secs())]
    Stalled {
        /// How long was waited.
        limit: Duration,
    },
    /// The body ended early, over and over.
    #[error("the body broke off after {received} of {expected} bytes")]
    Truncated {
        /// How many bytes there should be.
        expected: u64,
        /// How many came.
        received: u64,
    },
    /// The body is not as long as its descriptor says.
    #[error("wrong size: expected {expected} bytes, got {actual}")]
    Size {
        /// From the descriptor.
        expected: u64,
        /// From the answer; a lower bound when it went on beyond that.
        actual: u64,
    },
    /// The bytes are not the ones that were asked for.
    #[error("wrong digest: expected {expected}, got {actual}")]
    Digest {
        /// What was asked for, or told in a header.
        expected: Digest,
        /// Of the bytes that came.
        actual: Digest,
    },
    /// The answer is longer than such an answer may be.
    #[error("the answer is longer than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: u64,
    },
    /// The answer is not what the protocol asks for.
    #[error("{0}")]
    Protocol(&'static str),
    /// A redirect that is not followed.
    #[error("redirected to {to}: {reason}")]
    Redirect {
        /// Where to, without its query.
        to: String,
        /// Why not.
        reason: &'static str,
    },
}

/// One entry of the registry's `errors` list.
///
/// Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct RegistryError {
    /// In upper case, e.g. `MANIFEST_UNKNOWN`.
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl fmt::Display for RegistryError {
    /// As docker shows it: `manifest unknown: manifest unknown`. Control characters are escaped, which could steer a
    /// terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = without_controls(&self.code.to_ascii_lowercase().replace('_', " "));
        let message = without_controls(&self.message);
        match (code.is_empty(), message.is_empty()) {
            (false, false) => write!(f, "{code}: {message}"),
            (false, true) => f.write_str(&code),
            _ => f.write_str(&message),
        }
    }
}

fn without_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for ch in text.chars() {
        match ch.is_control() {
            true => shown.extend(ch.escape_default()),
            false => shown.push(ch),
        }
    }
    shown
}

fn answer(status: StatusCode, errors: &[RegistryError]) -> String {
    let said: Vec<String> = errors.iter().map(RegistryError::to_string).collect();
    if said.is_empty() { status.to_string() } else { format!("{status}: {}", said.join("; ")) }
}

/// What can be told about a connection that failed. The words are Go's where people look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// The name has no address, or nobody can be asked for it.
    Name(String),
    /// Nobody listens there.
    Refused,
    /// Took too long.
    Timeout,
    /// The registry's certificate is signed by nobody we trust.
    UnknownAuthority,
    /// Another fault of the certificate.
    Certificate(String),
    /// TLS was spoken to a port that answers in plain HTTP.
    PlainHttp,
    /// The rest: reset, closed, malformed.
    Broken(String),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Name(why) => f.write_str(why),
            Transport::Refused => f.write_str("connection refused"),
            Transport::Timeout => f.write_str("timed out"),
            Transport::UnknownAuthority => f.write_str("x509: certificate signed by unknown authority"),
            Transport::Certificate(why) => write!(f, "x509: {why}"),
            Transport::PlainHttp => f.write_str("http: server gave HTTP response to HTTPS client"),
            Transport::Broken(why) => f.write_str(why),
        }
    }
}

impl Transport {
    /// Finds the reason at the bottom of what the library wraps around it.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Transport::of_tls(tls);
        }
        let why = root(error).to_string();
        if error.is_dns() {
            return Transport::Name(why);
        }
        if error.is_timeout() {
            return Transport::Timeout;
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Transport::Refused,
            _ => Transport::Broken(why),
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error, InvalidMessage};
        match error {
            // A CA of the same name and another key is unknown, too.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Transport::UnknownAuthority
            }
            Error::InvalidCertificate(fault) => Transport::Certificate(fault.to_string()),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Transport::PlainHttp,
            other => Transport::Broken(format!("tls: {other}")),
        }
    }

    /// Whether trying again makes sense. A host that never answered yet is asked once only: a wrong port or name
    /// is told at once.
    fn is_transient(&self, answered_before: bool) -> bool {
        match self {
            Transport::Name(_) | Transport::Refused => answered_before,
            Transport::Timeout | Transport::Broken(_) => true,
            Transport::UnknownAuthority | Transport::Certificate(_) | Transport::PlainHttp => false,
        }
    }
}

/// An error of type `T` among the sources of `error`; `io::Error` hides what it wraps from `source`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| find::<T>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn root<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    error.source().map_or(error, root)
}

impl ClientError {
    /// Status of the registry's answer, when there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            ClientError::Request { cause, .. } => match **cause {
                Cause::Status { status, .. } => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the registry said.
    pub fn registry_errors(&self) -> &[RegistryError] {
        match self {
            ClientError::Request { cause, .. } => match &**cause {
                Cause::Status { errors, .. } => errors,
                _ => &[],
            },
            _ => &[],
        }
    }

    /// Whether the registry gave one of these codes, e.g. `MANIFEST_UNKNOWN`.
    pub fn has_code(&self, codes: &[&str]) -> bool {
        self.registry_errors().iter().any(|error| codes.contains(&error.code.as_str()))
    }

    /// What the user can do about it, when something can be done.
    pub fn hint(&self) -> Option<String> {
        let ClientError::Request { request, cause } = self else { return None };
        let (registry, host) = (&request.registry, request.host());
        match &**cause {
            Cause::Transport(Transport::UnknownAuthority) => Some(format!(
                "if `{host}` has its own CA, put that certificate at `/etc/docker/certs.d/{host}/ca.crt`; \
                 else list `{host}` under `insecure-registries` in `/etc/docker/daemon.json`"
            )),
            Cause::Transport(Transport::PlainHttp) => Some(format!(
                "if `{host}` is meant to speak plain HTTP, list it under `insecure-registries` in \
                 `/etc/docker/daemon.json`"
            )),
            Cause::Transport(Transport::Name(_) | Transport::Refused | Transport::Timeout) => Some(format!(
                "look whether `{host}` is the right host and port, and whether a proxy is needed"
            )),
            Cause::Status { status: StatusCode::INSUFFICIENT_STORAGE, .. } => Some(format!(
                "the disk of `{registry}` is full: who runs it has to make room, then push again"
            )),
            Cause::Status { status, .. }
                if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
            {
                let host = if registry == DEFAULT_HOST { "" } else { registry };
                Some(format!("log in first: `{}`", format!("gantry login {host}").trim_end()))
            }
            Cause::Status { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => {
                Some(match retry_after {
                    Some(after) => format!("the registry asks to wait {} seconds", after.as_secs()),
                    None => {
                        "the registry limits how often it may be asked; logging in often raises the limit"
                            .to_owned()
                    }
                })
            }
            _ => None,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self, answered_before: bool) -> bool {
        let ClientError::Request { cause, .. } = self else { return false };
        match &**cause {
            // An upload session that is gone is begun anew.
            Cause::Status { status, .. } => {
                is_transient(*status) || self.has_code(&["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])
            }
            Cause::Transport(kind) => kind.is_transient(answered_before),
            Cause::Stalled { .. } | Cause::Truncated { .. } => true,
            _ => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Request { cause, .. } => match **cause {
                Cause::Status { retry_after, .. } => retry_after,
                _ => None,
            },
            _ => None,
        }
    }
}

fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error()
            && !matches!(
                status,
                StatusCode::NOT_IMPLEMENTED
                    | StatusCode::HTTP_VERSION_NOT_SUPPORTED
                    | StatusCode::INSUFFICIENT_STORAGE
            ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_cannot_steer_a_terminal() {
        let error =
            RegistryError { code: "DE\u{7}NIED".to_owned(), message: "é \u{1b}[2J\u{9b}1m\r\n".to_owned() };
        assert_eq!(error.to_string(), "de\\u{7}nied: é \\u{1b}[2J\\u{9b}1m\\r\\n");
    }
}
