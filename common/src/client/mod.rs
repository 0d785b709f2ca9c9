//! Registries elsewhere: manifests, blobs and uploads over HTTP, as docker reaches them.
//!
//! ```text
//! Client ─► Host (one a registry or mirror) ─► Wire (one request: redirects, time limits, pauses)
//!              │                                 ▲
//!              └► Authorizer (Basic, Bearer) ────┘ tokens
//! ```
//! - **Where**: `docker.io` is `registry-1.docker.io`; its mirrors, from `daemon.json`, are asked first when pulling,
//!   each once, anonymously unless `config.json` knows them by their own name. Hosts are spoken to by HTTPS; the
//!   loopback (`localhost`, 127.0.0.0/8, ::1) and what `insecure-registries` lists by HTTPS with any certificate and
//!   then by plain HTTP. A name that lies in a listed network is used at the address that was looked up for that. What
//!   holds for a registry does not hold for where it leads to, see `connector.rs`.
//! - **Who**: see `auth.rs` for what is sent to whom. `config.json` and helpers are asked at the first 401.
//! - **What comes back** is not believed: manifests are verified here, blobs by whoever writes them (a store's
//!   ingest), which hashes them anyway; [`BlobStream`] sees to their length.
//! - **When it fails**: 429, 408, 5xx and broken connections are tried again with growing pauses, or when the
//!   registry says; a blob goes on at the byte where it broke off. A host that never answered is asked once.
//! - HTTP/1.1 only: one connection a transfer, as docker does; a cut connection then harms one transfer.
//!
//! The environment is not read here: proxies and paths come in [`ClientOptions`].

mod auth;
mod authority;
mod blobs;
mod challenge;
mod connector;
mod credentials;
mod daemon;
pub mod docker_config;
mod error;
mod helper;
mod host;
mod login;
mod manifests;
mod names;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod uploads;
mod wire;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use url::Url;

use self::auth::{Authorizer, Source};
use self::authority::authority;
use self::connector::{Connector, Trust};
use self::host::{Endpoints, Host};
use self::wire::Wire;
use crate::reference::{DEFAULT_HOST, Repository};

pub use self::blobs::BlobStream;
pub use self::credentials::Credentials;
pub use self::error::{Cause, ClientError, RegistryError, RequestLine, Transport};
pub use self::manifests::Fetched;
pub use self::settings::SettingsError;
pub use self::uploads::{Upload, Uploaded};
pub use self::wire::RetryPolicy;

/// Where docker.io really is.
const DOCKER_IO_HOST: &str = "registry-1.docker.io";
const USER_AGENT: &str = concat!("gantry/", env!("CARGO_PKG_VERSION"));

/// How to reach registries. The default knows none of docker's files and no proxy.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// docker's `config.json`, for credentials.
    pub config_file: Option<PathBuf>,
    /// docker's `daemon.json`, for insecure registries and mirrors.
    pub daemon_file: Option<PathBuf>,
    /// Folders like `/etc/docker/certs.d`; the first that knows a host is used for it.
    pub certs_dirs: Vec<PathBuf>,
    /// The proxies to use.
    pub proxies: Proxies,
    /// Until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// Between two signs of life on a connection. The longest known silence is that of a registry which moves a large
    /// blob within its storage before it answers.
    pub stall_timeout: Duration,
    /// How failures that may pass are tried again.
    pub retry: RetryPolicy,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            config_file: None,
            daemon_file: None,
            certs_dirs: Vec::new(),
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(180),
            retry: RetryPolicy::default(),
        }
    }
}

/// Values of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. The loopback is never reached through a proxy.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http://` URLs.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// Hosts, domains and networks that need no proxy, separated by commas.
    pub none_for: Option<String>,
}

impl std::fmt::Debug for Proxies {
    /// Proxy URLs may carry a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("none_for", &self.none_for).finish_non_exhaustive()
    }
}

/// Speaks with any number of registries; cheap to clone. Needs a tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    hosts: Mutex<HashMap<String, Arc<OnceCell<Arc<Host>>>>>,
}

impl Client {
    /// Reads `daemon.json`; nothing is connected yet.
    ///
    /// # Errors
    /// When that file is malformed.
    pub fn new(options: ClientOptions) -> Result<Client, ClientError> {
        Ok(Client::of(Connector::new(options).map_err(Box::new)?))
    }

    fn of(connector: Connector) -> Self {
        Client(Arc::new(Inner { connector: Arc::new(connector), hosts: Mutex::default() }))
    }

    /// The registry that `repository` is at.
    async fn host(&self, repository: &Repository) -> Result<Arc<Host>, ClientError> {
        self.host_named(repository.host()).await
    }

    async fn host_named(&self, name: &str) -> Result<Arc<Host>, ClientError> {
        let make = || async {
            let source = Source::File(self.0.connector.options.config_file.clone());
            self.connect(name, source).await.map(Arc::new)
        };
        self.cell(name).get_or_try_init(make).await.cloned()
    }

    /// Who is asked for what is pulled from `repository`, in order.
    async fn endpoints(&self, repository: &Repository) -> Result<Endpoints, ClientError> {
        let mut endpoints = Vec::new();
        if repository.host() == DEFAULT_HOST {
            for url in &self.0.connector.daemon.mirrors {
                let make = || async { self.mirror(url).map(Arc::new) };
                endpoints.push(self.cell(url.as_str()).get_or_try_init(make).await.cloned()?);
            }
        }
        endpoints.push(self.host(repository).await?);
        Ok(endpoints)
    }

    fn cell(&self, key: &str) -> Arc<OnceCell<Arc<Host>>> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(key.to_owned()).or_default().clone()
    }

    async fn connect(&self, name: &str, source: Source) -> Result<Host, ClientError> {
        let probe = "x".parse().expect("a repository path");
        if Repository::new(name, probe).is_err() {
            return Err(ClientError::Host { registry: name.to_owned() });
        }
        let address = if name == DEFAULT_HOST { DOCKER_IO_HOST } else { name };
        let trust = self.0.connector.trust(address).await;
        let schemes: &[&str] = if trust == Trust::Verified { &["https"] } else { &["https", "http"] };
        // Not every host of a reference is one of a URL: `256.1.1.1` is none.
        let candidates: Result<Vec<Url>, _> =
            schemes.iter().map(|scheme| Url::parse(&format!("{scheme}://{address}/"))).collect();
        let candidates = candidates.map_err(|_| ClientError::Host { registry: name.to_owned() })?;
        Ok(Host {
            wire: self.wire(name, address, trust, self.0.connector.options.retry, &candidates)?,
            candidates,
            origin: OnceCell::new(),
            authorizer: Authorizer::new(source),
        })
    }

    /// A mirror is asked once: the registry itself stands behind it.
    fn mirror(&self, url: &Url) -> Result<Host, ClientError> {
        let name = authority(url);
        let insecure = self.0.connector.daemon.calls_insecure(&name);
        let trust = if insecure { Trust::Any { pinned: Vec::new() } } else { Trust::Verified };
        let once = RetryPolicy { attempts: 1, ..self.0.connector.options.retry };
        let candidates = vec![url.clone()];
        Ok(Host {
            wire: self.wire(&name, &name, trust, once, &candidates)?,
            candidates,
            origin: OnceCell::new(),
            authorizer: Authorizer::new(Source::File(self.0.connector.options.config_file.clone())),
        })
    }

    fn wire(
        &self,
        name: &str,
        host: &str,
        trust: Trust,
        retry: RetryPolicy,
        candidates: &[Url],
    ) -> Result<Wire, ClientError> {
        let connector = &self.0.connector;
        Ok(Wire {
            registry: name.to_owned(),
            host: host.to_owned(),
            http: connector.to_registry(host, trust).map_err(Box::new)?,
            origins: candidates.iter().map(Url::origin).collect(),
            connector: connector.clone(),
            retry,
            stall_timeout: connector.options.stall_timeout,
            answered: AtomicBool::new(false),
        })
    }
}

impl Proxies {
    fn reqwest(&self) -> Result<Vec<reqwest::Proxy>, SettingsError> {
        let direct = format!("localhost,127.0.0.0/8,::1,{}", self.none_for.as_deref().unwrap_or_default());
        let made = [
            self.http.as_ref().map(|url| ("HTTP_PROXY", reqwest::Proxy::http(url))),
            self.https.as_ref().map(|url| ("HTTPS_PROXY", reqwest::Proxy::https(url))),
        ];
        let proxies = made.into_iter().flatten().map(|(variable, proxy)| match proxy {
            Ok(proxy) => Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&direct))),
            Err(_) => Err(SettingsError::Proxy { variable }),
        });
        proxies.collect()
    }
}
