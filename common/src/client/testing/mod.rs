//! Servers for tests: answers come from a closure, faults on purpose included. They listen on loopback, port 0, and
//! end with the value.

pub(crate) mod registry;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::connector::Connector;
use super::{Client, ClientOptions, RetryPolicy};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// What arrived of it.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        self.queries(name).pop()
    }

    pub(crate) fn queries(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What is answered, and how the answer goes wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) fault: Fault,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// `Content-Length` says so much.
    Length(usize),
    /// The body goes on with zeros, chunked, until the client leaves.
    Endless,
    /// The rest of the body never comes, though the connection stays.
    Silence(usize),
    /// Not even the head comes.
    Mute,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Answer { status, ..Answer::default() }
    }

    pub(crate) fn body(body: impl Into<Vec<u8>>) -> Self {
        Answer { status: 200, body: body.into(), ..Answer::default() }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
        Answer { body: body.into(), ..Answer::status(status) }.header("Content-Type", "application/json")
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub(crate) fn bearer(realm: &str, scope: &str) -> Self {
        let challenge = format!(r#"Bearer realm="{realm}",service="test",scope="{scope}""#);
        Answer::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", challenge)
    }

    pub(crate) fn basic() -> Self {
        Answer::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", r#"Basic realm="test""#)
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;
/// After how many bytes of a request's body the connection is cut, told from its head.
type Interrupt = dyn Fn(&Request) -> Option<usize> + Send + Sync;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    handler: Box<Handler>,
    interrupt: Box<Interrupt>,
    tls: Option<TlsAcceptor>,
    requests: Mutex<Vec<Request>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Plain HTTP.
    pub(crate) async fn plain(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Server::start(None, Box::new(handler), Box::new(|_| None)).await
    }

    pub(crate) async fn interrupted(
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
        interrupt: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        Server::start(None, Box::new(handler), Box::new(interrupt)).await
    }

    /// HTTPS with a certificate of `authority` for localhost and 127.0.0.1.
    pub(crate) async fn tls(
        authority: &Authority,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Server::start(Some(authority.acceptor()), Box::new(handler), Box::new(|_| None)).await
    }

    async fn start(tls: Option<TlsAcceptor>, handler: Box<Handler>, interrupt: Box<Interrupt>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { handler, interrupt, tls, requests: Mutex::default() });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Server { address, shared, task }
    }

    /// As references name it.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// `GET /v2/a`, one a request, without the look whether there is TLS.
    pub(crate) fn lines(&self) -> Vec<String> {
        let requests = self.requests().into_iter().filter(|request| request.target != "/v2/");
        requests.map(|request| format!("{} {}", request.method, request.path())).collect()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let shared = shared.clone();
        connections.spawn(async move {
            // How a client breaks a connection off is its own affair.
            let _ = match &shared.tls {
                None => serve(stream, &shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, &shared).await,
                    Err(error) => Err(error),
                },
            };
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(mut request) = read_head(&mut stream, &mut buffer).await? else {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        };
        let length: usize = request.header("content-length").map_or(0, |text| text.parse().unwrap());
        let cut = (shared.interrupt)(&request);
        let wanted = cut.unwrap_or(length).min(length);
        while buffer.len() < wanted {
            fill(&mut stream, &mut buffer).await?;
        }
        request.body = buffer.drain(..wanted).collect();
        shared.requests.lock().unwrap().push(request.clone());
        if cut.is_some() {
            return Ok(());
        }
        let answer = (shared.handler)(&request);
        let keep = write(&mut stream, answer, request.method == "HEAD").await?;
        if !keep {
            return stream.shutdown().await;
        }
    }
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<()> {
    let count = stream.read_buf(buffer).await?;
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// `None` for what is not HTTP, e.g. the first bytes of TLS.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let end = loop {
        if buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Ok(None);
        }
        match buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => break end,
            None => fill(stream, buffer).await?,
        }
    };
    let head: Vec<u8> = buffer.drain(..end + 4).collect();
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Some(Request {
        method: words.next().unwrap(),
        target: words.next().unwrap(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: Vec::new(),
    }))
}

/// Returns whether the connection can be used again.
async fn write(stream: &mut (impl AsyncWrite + Unpin), answer: Answer, head: bool) -> io::Result<bool> {
    if matches!(answer.fault, Fault::Mute) {
        std::future::pending::<()>().await;
    }
    let mut text = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let has_length = answer.headers.iter().any(|(name, _)| name == "Content-Length");
    match answer.fault {
        Fault::Endless => text += "Transfer-Encoding: chunked\r\n",
        Fault::Length(length) => text += &format!("Content-Length: {length}\r\n"),
        _ if has_length || answer.status == 204 => {}
        _ => text += &format!("Content-Length: {}\r\n", answer.body.len()),
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    if head {
        return Ok(true);
    }
    match answer.fault {
        Fault::None | Fault::Mute => {
            stream.write_all(&answer.body).await?;
            stream.flush().await?;
            Ok(true)
        }
        Fault::Cut(count) => {
            stream.write_all(&answer.body[..count]).await?;
            stream.flush().await?;
            Ok(false)
        }
        Fault::Length(_) => {
            stream.write_all(&answer.body).await?;
            Ok(false)
        }
        Fault::Silence(count) => {
            stream.write_all(&answer.body[..count]).await?;
            stream.flush().await?;
            std::future::pending().await
        }
        Fault::Endless => loop {
            stream.write_all(b"1000\r\n").await?;
            stream.write_all(&[0; 0x1000]).await?;
            stream.write_all(b"\r\n").await?;
        },
    }
}

/// A CA of the test's own.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Clients must show a certificate of this CA.
    pub(crate) wants_client: bool,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer, wants_client: false }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key.
    pub(crate) fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "registry.test".to_owned(),
            "realm.test".to_owned(),
            "elsewhere.test".to_owned(),
            "registry-1.docker.io".to_owned(),
        ];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if self.wants_client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.issuer.der().to_vec())).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A client that knows none of docker's files and does not wait long.
pub(crate) fn client() -> Client {
    client_with(|_| {})
}

pub(crate) fn client_with(change: impl FnOnce(&mut ClientOptions)) -> Client {
    client_knowing(&[], change)
}

/// A client for which these names resolve to these addresses, ports included where the URL has none.
pub(crate) fn client_knowing(
    names: &[(&str, SocketAddr)],
    change: impl FnOnce(&mut ClientOptions),
) -> Client {
    let mut options = ClientOptions {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
        retry: RetryPolicy {
            attempts: 4,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_secs(3),
        },
        ..ClientOptions::default()
    };
    change(&mut options);
    let mut connector = Connector::new(options).unwrap();
    connector.names.known = names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
    Client::of(connector)
}

/// Bytes without a pattern that a mistake in offsets could hide in.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}
