//! A server: its socket, its connections, and its end.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use common::store::{Server as Announcement, Serving, Store, StoreError};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::auth::Gate;
use crate::cache::Cache;
use crate::call::App;
use crate::htpasswd::HtpasswdError;
use crate::intake::Intake;
use crate::pieces::Pool;
use crate::router::router;
use crate::stall::StallLimit;
use crate::tls::{TlsError, TlsFiles, server_config};

/// Memory for manifests that are asked for often.
const MANIFEST_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// How often expired upload sessions are removed.
const SWEEP_PERIOD: Duration = Duration::from_secs(60 * 60);

/// File descriptors of a connection: the socket, and a blob or an upload with its lock, data and state.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate and key; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// A file of users (htpasswd, bcrypt); without one everybody may do everything.
    pub htpasswd: Option<PathBuf>,
    /// Plain HTTP may leave this machine.
    pub insecure: bool,
    /// Manifests are refused while what they refer to is absent.
    pub refuse_absent_children: bool,
    /// What clients may not exceed.
    pub limits: Limits,
}

impl ServeOptions {
    /// Plain HTTP for everybody at `address`, which has to be loopback.
    pub fn new(address: SocketAddr) -> Self {
        ServeOptions {
            address,
            tls: None,
            htpasswd: None,
            insecure: false,
            refuse_absent_children: false,
            limits: Limits::default(),
        }
    }
}

/// What clients may not exceed.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait to be accepted. Fewer when the process may not open as many files.
    pub connections: usize,
    /// From the first byte of a TLS handshake, or the end of the last answer, to the end of the next request's headers.
    pub headers: Duration,
    /// Silence in the middle of a body, in or out.
    pub idle: Duration,
    /// How long requests may go on after the shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4096,
            headers: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(60),
        }
    }
}

/// Why a server does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not an address to listen on.
    #[error("`{text}` is not an address to listen on: `IP:PORT`, `localhost:PORT` or `:PORT` is needed")]
    Address {
        /// What was given.
        text: String,
    },
    /// Passwords and images would cross the network readable and changeable.
    #[error(
        "plain HTTP on `{address}` could be read and changed by others on the network: \
         use TLS or loopback, or say that it is meant"
    )]
    PlainBeyondLoopback {
        /// Where it would have listened.
        address: SocketAddr,
    },
    /// Another process listens there.
    #[error("port {} on `{}` is in use by another program", address.port(), address.ip())]
    AddressInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The users.
    #[error(transparent)]
    Htpasswd(#[from] HtpasswdError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads `IP:PORT`, `localhost:PORT` (loopback) or `:PORT` (every address). Other names are not looked up: what a
/// server listens on should not depend on a resolver.
///
/// # Errors
/// [`ServeError::Address`].
pub fn parse_address(text: &str) -> Result<SocketAddr, ServeError> {
    let of_host = |host: &str, ip: IpAddr| {
        let port = text.strip_prefix(host)?.strip_prefix(':')?.parse().ok()?;
        Some(SocketAddr::new(ip, port))
    };
    let address = text.parse().ok();
    let address = address.or_else(|| of_host("localhost", Ipv4Addr::LOCALHOST.into()));
    let address = address.or_else(|| of_host("", Ipv4Addr::UNSPECIFIED.into()));
    address.ok_or_else(|| ServeError::Address { text: text.to_owned() })
}

/// Opens the socket and reads the files, so that whatever is wrong with them is known before anything is served.
///
/// # Errors
/// [`ServeError`].
pub fn bind(store: Store, options: &ServeOptions) -> Result<Server, ServeError> {
    let requested = options.address;
    if options.tls.is_none() && !options.insecure && !requested.ip().to_canonical().is_loopback() {
        return Err(ServeError::PlainBeyondLoopback { address: requested });
    }
    let tls = options.tls.as_ref().map(server_config).transpose()?.map(TlsAcceptor::from);
    let app = App {
        gate: Gate::new(store.clone(), options.htpasswd.as_deref())?,
        pieces: Pool::new(),
        manifests: Cache::new(MANIFEST_CACHE_BYTES),
        intake: Intake::new(options.limits.idle),
        absent_children: !options.refuse_absent_children,
    };
    let listen = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::AddressInUse { address: requested },
        _ => ServeError::Listen { address: requested, source },
    };
    let listener = TcpListener::bind(requested).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let mut limits = options.limits.clone();
    limits.connections = limits.connections.min(affordable_connections());
    Ok(Server {
        store,
        listener,
        address,
        connection: Connection { router: router(Arc::new(app)), tls, limits },
    })
}

/// Raises the number of files this process may have open as far as it may, and says how many connections that is.
fn affordable_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let descriptors = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let connections = descriptors.unwrap_or(u64::MAX) / DESCRIPTORS_PER_CONNECTION;
    usize::try_from(connections).unwrap_or(usize::MAX).max(1)
}

/// A registry whose socket is open and that serves as soon as [`Server::serve`] is called.
pub struct Server {
    store: Store,
    listener: TcpListener,
    address: SocketAddr,
    connection: Connection,
}

impl Server {
    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then lets requests that have begun end. While this runs, the store says so
    /// in `serving/`.
    ///
    /// # Errors
    /// [`ServeError`] when it cannot begin; afterwards troubles concern one connection and are logged.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Server { store, listener, address, connection } = self;
        let listen = |source| ServeError::Listen { address, source };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
        let _announced = announce(&store, address)?;
        let sweeper = AbortOnDrop(tokio::spawn(sweep(store)));
        tracing::info!(%address, "serving");

        let drain = connection.limits.drain;
        let permits = Arc::new(Semaphore::new(connection.limits.connections));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                (permit, stream) = accept(&listener, &permits) => {
                    let served = connection.clone().serve(stream, graceful.watcher());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
            }
        }
        drop((listener, sweeper));
        tracing::info!(connections = connections.len(), "shutting down");
        if timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests were cut off at shutdown");
        }
        connections.shutdown().await;
        Ok(())
    }
}

/// A task that ends with whoever started it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says in the store that it is served; a store that takes no changes is served unsaid.
fn announce(store: &Store, address: SocketAddr) -> Result<Option<Serving>, StoreError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).expect("the kernel has random bytes");
    let announced = store.announce(&Announcement {
        address: address.to_string(),
        instance_key: common::digest::hex(&key),
        pid: std::process::id(),
    });
    match announced {
        Err(error) if error.is_read_only() => {
            tracing::warn!(store = %store.root().display(), "the store is read-only: pushes are refused");
            Ok(None)
        }
        announced => announced.map(Some),
    }
}

/// Removes upload sessions that were given up, now and then.
async fn sweep(store: Store) {
    let mut period = tokio::time::interval(SWEEP_PERIOD);
    loop {
        period.tick().await;
        let store = store.clone();
        match tokio::task::spawn_blocking(move || store.sweep_uploads()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(swept)) => tracing::info!(swept, "removed expired uploads"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot remove expired uploads"),
            Err(error) => tracing::warn!(%error, "cannot remove expired uploads"),
        }
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
) -> (tokio::sync::OwnedSemaphorePermit, TcpStream) {
    let permit = permits.clone().acquire_owned().await.expect("never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (permit, stream),
            Err(error) => {
                // Most often too many open files, which only time can mend.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What every connection is served with.
#[derive(Clone)]
struct Connection {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl Connection {
    async fn serve(self, stream: TcpStream, watcher: Watcher) {
        // Answers are written whole; to wait for more to send only delays them. A socket that refuses is still good.
        let _ = stream.set_nodelay(true);
        let stream = StallLimit::new(stream, self.limits.idle);
        let Some(tls) = self.tls.clone() else { return self.serve_http1(stream, watcher).await };
        match timeout(self.limits.headers, tls.accept(stream)).await {
            Err(_) => tracing::debug!("TLS handshake took too long"),
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.serve_http2(stream, watcher).await;
            }
            Ok(Ok(stream)) => self.serve_http1(stream, watcher).await,
        }
    }

    async fn serve_http1<S>(self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.headers);
        let service = TowerToHyperService::new(self.router);
        let served = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await;
        log(served);
    }

    async fn serve_http2<S>(self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(self.limits.headers)
            .keep_alive_timeout(self.limits.headers)
            .max_concurrent_streams(100)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        let service = TowerToHyperService::new(self.router);
        let served = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await;
        log(served);
    }
}

/// A connection that breaks is the client's business.
fn log(served: Result<(), hyper::Error>) {
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}
