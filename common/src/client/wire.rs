//! One request and its answer: redirects, time limits, and the pause before the next try.
//!
//! Two limits guard against a peer that says nothing: one for the connection (TLS included), one for every gap
//! between two signs of life, be it a piece sent, the head of the answer or a piece of its body. There is no limit
//! for the whole: a large layer on a slow line takes as long as it takes.
//!
//! `Authorization` goes to the origin (scheme, host, port) that the call was made for and to no other. Where a
//! redirect leads elsewhere it is left out, and stays so for the rest of the way.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;
use url::{Origin, Url};

use super::authority::authority;
use super::connector::Connector;
use super::error::{Cause, ClientError, RegistryError, RequestLine, Transport};

const REDIRECT_LIMIT: usize = 10;
const ERROR_BODY_LIMIT_BYTES: u64 = 64 * 1024;
/// Large enough that the costs of a piece do not count, small enough that progress moves.
const PIECE_BYTES: u64 = 256 * 1024;

/// How often and how long to try again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub attempts: u32,
    /// Pause after the first failure; each further one doubles it.
    pub first_pause: Duration,
    /// No pause is longer. A registry that asks for more by `Retry-After` is not tried again.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 6,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// A request to be made, perhaps several times.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body<'a>,
}

pub(super) enum Body<'a> {
    Empty,
    Bytes(Bytes),
    File(FilePart<'a>),
}

/// A range of a file as a body. `progress` is told the offset up to which it was handed to the connection.
pub(super) struct FilePart<'a> {
    pub(super) file: Arc<File>,
    pub(super) range: Range<u64>,
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Call { method, url, headers: HeaderMap::new(), body: Body::Empty }
    }

    /// A value that no header can have is sent as an empty one, which the registry refuses.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""));
        self.headers.append(name, value);
        self
    }

    pub(super) fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }
}

/// The way to one registry: connections, and how patient we are.
pub(super) struct Wire {
    pub(super) registry: String,
    /// Where it is, with its port, as references have it.
    pub(super) host: String,
    /// To the registry itself.
    pub(super) http: reqwest::Client,
    /// What the registry itself is. Others are reached as their own settings say.
    pub(super) origins: Vec<Origin>,
    pub(super) connector: Arc<Connector>,
    pub(super) retry: RetryPolicy,
    pub(super) stall_timeout: Duration,
    pub(super) answered: AtomicBool,
}

impl Wire {
    /// Sends `call` and follows redirects of GET and HEAD. Any status is an `Ok`.
    pub(super) async fn exchange(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, ClientError> {
        let mut url = call.url.clone();
        let mut left_origin = false;
        for _ in 0..=REDIRECT_LIMIT {
            let authorization = authorization.filter(|_| !left_origin);
            let mut reply = self.exchange_once(call, url.clone(), authorization).await?;
            reply.left_origin = left_origin;
            if !reply.is_redirect() || !matches!(call.method, Method::GET | Method::HEAD) {
                return Ok(reply);
            }
            let next = self.location(&reply)?;
            left_origin |= next.origin() != call.url.origin();
            url = next;
        }
        let line = RequestLine::new(&self.registry, &call.method, &call.url);
        Err(line.failed(Cause::Redirect { to: bare(&url), reason: "too many redirects" }))
    }

    /// Where an answer leads, be it a redirect or an upload session. From HTTPS to plain HTTP only where the user lists
    /// that host: what comes back may be a manifest found by tag, which nothing else protects, and what is sent there
    /// others could read.
    pub(super) fn location(&self, reply: &Reply) -> Result<Url, ClientError> {
        let next = reply.location()?;
        let allowed = match next.scheme() {
            "https" => true,
            "http" => reply.url.scheme() == "http" || self.connector.daemon.lists_insecure(&authority(&next)),
            _ => false,
        };
        if allowed {
            return Ok(next);
        }
        Err(reply.line.failed(Cause::Redirect { to: bare(&next), reason: "that would leave HTTPS" }))
    }

    async fn http(&self, url: &Url) -> Result<reqwest::Client, ClientError> {
        if self.origins.contains(&url.origin()) {
            return Ok(self.http.clone());
        }
        Ok(self.connector.to_foreign(&self.host, &authority(url)).await.map_err(Box::new)?)
    }

    async fn exchange_once(
        &self,
        call: &Call<'_>,
        url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, ClientError> {
        let line = RequestLine::new(&self.registry, &call.method, &url);
        let http = self.http(&url).await?;
        let mut request = http.request(call.method.clone(), url.clone()).headers(call.headers.clone());
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let (moved, moves) = mpsc::unbounded_channel();
        let mut progress: &(dyn Fn(u64) + Sync) = &|_| {};
        match &call.body {
            Body::Empty => drop(moved),
            // Said also of an empty body: some proxies refuse a POST without a length.
            Body::Bytes(bytes) => request = request.header(CONTENT_LENGTH, bytes.len()).body(bytes.clone()),
            Body::File(part) => {
                progress = part.progress;
                let length = part.range.end - part.range.start;
                request = request.header(CONTENT_LENGTH, length).body(file_body(part, moved));
            }
        }
        let sent = self.watched(&line, moves, progress, request.send()).await?;
        let response = sent.map_err(|error| line.failed(Cause::Transport(Transport::of(&error))))?;
        self.answered.store(true, Ordering::Relaxed);
        tracing::debug!(request = %line, status = response.status().as_u16());
        Ok(Reply { response, line, url, stall_timeout: self.stall_timeout, left_origin: false })
    }

    /// Awaits `exchange` as long as something moves.
    async fn watched<T>(
        &self,
        line: &RequestLine,
        mut moves: mpsc::UnboundedReceiver<u64>,
        progress: &(dyn Fn(u64) + Sync),
        exchange: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        let mut exchange = pin!(exchange);
        loop {
            tokio::select! {
                biased;
                Some(offset) = moves.recv() => progress(offset),
                result = &mut exchange => return Ok(result),
                () = tokio::time::sleep(self.stall_timeout) => {
                    return Err(line.failed(Cause::Stalled { limit: self.stall_timeout }));
                }
            }
        }
    }

    pub(super) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

/// Counts failures in a row and pauses between them.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits before the next try, or gives `error` back when there is none.
    pub(super) async fn pause(&mut self, wire: &Wire, error: ClientError) -> Result<(), ClientError> {
        let policy = wire.retry;
        self.failures += 1;
        if self.failures >= policy.attempts || !error.is_transient(wire.answered()) {
            return Err(error);
        }
        let doubled = policy.first_pause.saturating_mul(1 << (self.failures - 1).min(16));
        let pause = error.retry_after().unwrap_or(doubled.min(policy.longest_pause).mul_f64(jitter()));
        if pause > policy.longest_pause {
            return Err(error);
        }
        tracing::info!(%error, pause_ms = pause.as_millis() as u64, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Something went well: failures are counted anew.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between a half and one, so that many clients that failed together do not come back together.
fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0
}

/// The head of an answer; the body is read piece by piece.
pub(super) struct Reply {
    response: reqwest::Response,
    pub(super) line: RequestLine,
    pub(super) url: Url,
    stall_timeout: Duration,
    /// A redirect led to another origin: nothing in this answer speaks for the registry.
    pub(super) left_origin: bool,
}

impl Reply {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// `Content-Length`, as it was sent: also of an answer to HEAD.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    fn is_redirect(&self) -> bool {
        matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308)
    }

    /// `Location`, resolved. Where it names the same host by plain HTTP though we speak HTTPS with it, as registries
    /// behind a proxy do that does not tell them, HTTPS is kept.
    fn location(&self) -> Result<Url, ClientError> {
        let location = self.header(LOCATION.as_str()).and_then(|text| self.url.join(text).ok());
        let mut url = location.ok_or_else(|| self.broken("the answer lacks a usable Location"))?;
        let same_host = url.host() == self.url.host();
        if same_host && self.url.scheme() == "https" && url.scheme() == "http" && url.port().is_none() {
            url = Url::parse(&url.as_str().replacen("http", "https", 1))
                .map_err(|_| self.broken("the answer lacks a usable Location"))?;
            // Without a port it is the one that we speak with.
            let _ = url.set_port(self.url.port());
        }
        Ok(url)
    }

    pub(super) fn broken(&self, what: &'static str) -> ClientError {
        self.line.failed(Cause::Protocol(what))
    }

    /// The next piece of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        match tokio::time::timeout(self.stall_timeout, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.line.failed(Cause::Transport(Transport::of(&error)))),
            Err(_) => Err(self.line.failed(Cause::Stalled { limit: self.stall_timeout })),
        }
    }

    /// The whole body, which may have `limit_bytes` at most.
    pub(super) async fn bytes(mut self, limit_bytes: u64) -> Result<Bytes, ClientError> {
        let mut body = Vec::new();
        while let Some(piece) = self.chunk().await? {
            if (body.len() + piece.len()) as u64 > limit_bytes {
                return Err(self.line.failed(Cause::TooLong { limit_bytes }));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }

    /// This answer as it is if its status is one of `expected`, else as an error.
    pub(super) async fn expect(self, expected: &[StatusCode]) -> Result<Reply, ClientError> {
        if expected.contains(&self.status()) { Ok(self) } else { Err(self.into_error().await) }
    }

    pub(super) async fn into_error(self) -> ClientError {
        let (status, line) = (self.status(), self.line.clone());
        let retry_after =
            self.header(RETRY_AFTER.as_str()).and_then(|text| retry_after(text, SystemTime::now()));
        let mut errors = oauth_errors(self.headers());
        // What cannot be read is not told; the status alone must do then.
        errors.extend(
            self.bytes(ERROR_BODY_LIMIT_BYTES).await.map(|body| body_errors(&body)).unwrap_or_default(),
        );
        errors.dedup();
        name_errors(status, &mut errors);
        line.failed(Cause::Status { status, errors, retry_after })
    }
}

/// Seconds, or a date: <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// A token that lacks a right is told in the challenge: <https://www.rfc-editor.org/rfc/rfc6750#section-3.1>. Docker
/// shows it in the registry's words, so the code is that.
fn oauth_errors(headers: &HeaderMap) -> Vec<RegistryError> {
    let lacks_right = super::challenge::challenges(headers)
        .iter()
        .any(|challenge| challenge.parameter("error") == Some("insufficient_scope"));
    if !lacks_right {
        return Vec::new();
    }
    vec![RegistryError {
        code: "DENIED".to_owned(),
        message: "requested access to the resource is denied".to_owned(),
    }]
}

/// Answers without a code of their own, those to HEAD above all, get the one that docker takes for their status.
fn name_errors(status: StatusCode, errors: &mut Vec<RegistryError>) {
    let (code, message) = match status {
        StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => ("DENIED", "requested access to the resource is denied"),
        StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "too many requests"),
        _ => return,
    };
    if errors.is_empty() {
        errors.push(RegistryError { code: String::new(), message: message.to_owned() });
    }
    for error in errors.iter_mut().filter(|error| error.code.is_empty()) {
        code.clone_into(&mut error.code);
    }
}

/// The registry's list, or what token servers and proxies say instead.
fn body_errors(body: &[u8]) -> Vec<RegistryError> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        errors: Vec<RegistryError>,
        details: Option<String>,
        error_description: Option<String>,
        message: Option<String>,
        error: Option<String>,
    }
    let Ok(said) = serde_json::from_slice::<Said>(body) else { return Vec::new() };
    if !said.errors.is_empty() {
        return said.errors;
    }
    let message = said.details.or(said.error_description).or(said.message).or(said.error);
    message.map(|message| RegistryError { code: String::new(), message }).into_iter().collect()
}

fn bare(url: &Url) -> String {
    RequestLine::new("", &Method::GET, url).url
}

fn file_body(part: &FilePart<'_>, moved: mpsc::UnboundedSender<u64>) -> reqwest::Body {
    let (file, end) = (part.file.clone(), part.range.end);
    let pieces = stream::try_unfold(part.range.start, move |offset| {
        let (file, moved) = (file.clone(), moved.clone());
        async move {
            if offset >= end {
                return Ok::<_, io::Error>(None);
            }
            let next = (offset + PIECE_BYTES).min(end);
            let piece = tokio::task::spawn_blocking(move || read_range(&file, offset..next))
                .await
                .map_err(io::Error::other)??;
            // Nobody listens any more once the answer is there.
            let _ = moved.send(next);
            Ok(Some((piece, next)))
        }
    });
    reqwest::Body::wrap_stream(pieces)
}

fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut piece = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut piece, range.start)?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-1", now), None);
    }

    #[test]
    fn errors_are_read_in_the_forms_that_servers_use() {
        let check = |body: &str, expected: &[&str]| {
            let said: Vec<String> = body_errors(body.as_bytes()).iter().map(ToString::to_string).collect();
            assert_eq!(said, expected, "{body}");
        };
        check(
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
            &["manifest unknown: manifest unknown"],
        );
        check(r#"{"errors":[{"code":"DENIED"}]}"#, &["denied"]);
        check(r#"{"details":"incorrect username or password"}"#, &["incorrect username or password"]);
        check(r#"{"error":"invalid_grant","error_description":"expired"}"#, &["expired"]);
        check("<html>", &[]);
        check(r#"{"errors":[]}"#, &[]);
    }
}
