//! Connections: what is trusted at a host, and who we are there.
//!
//! Each host has its own answer, from its own folder in `certs.d` and its own entry in `insecure-registries`. That holds for
//! the hosts that a registry leads to as well, by a redirect, an upload session or the realm of its tokens: that somebody
//! takes any certificate of a registry says nothing about the host that gets the password. Our certificate is shown to
//! the registry that it was given for, never to a host that another one has named. Only the registry's CAs count there
//! too, as with docker: who has a CA of the company's own has the token server and the storage signed by it as well.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::daemon::Daemon;
use super::names::{Names, without_port};
use super::settings::SettingsError;
use super::tls::{self, HostCerts};
use super::{ClientOptions, USER_AGENT};

/// Makes connections as the user's settings say.
pub(super) struct Connector {
    pub(super) options: ClientOptions,
    pub(super) daemon: Daemon,
    pub(super) names: Names,
    foreign: Mutex<HashMap<Foreign, Arc<OnceCell<reqwest::Client>>>>,
}

/// A registry and a host that it led to, with their ports, as references have them.
type Foreign = (String, String);

/// What a registry's certificate must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Signed by someone we know.
    Verified,
    /// Anything, or no TLS at all; only at these addresses, if there are any.
    Any { pinned: Vec<SocketAddr> },
}

impl Connector {
    /// Reads `daemon.json`.
    pub(super) fn new(options: ClientOptions) -> Result<Self, SettingsError> {
        let daemon = match &options.daemon_file {
            Some(path) => Daemon::read(path)?,
            None => Daemon::default(),
        };
        Ok(Connector { options, daemon, names: Names::default(), foreign: Mutex::default() })
    }

    /// Whether plain HTTP and unknown certificates are allowed at `host`.
    pub(super) async fn trust(&self, host: &str) -> Trust {
        let daemon = &self.daemon;
        if daemon.calls_insecure(host) {
            return Trust::Any { pinned: Vec::new() };
        }
        let name = without_port(host);
        if name.parse::<IpAddr>().is_ok() || !daemon.lists_networks() {
            return Trust::Verified;
        }
        let found = self.names.lookup(name).await.unwrap_or_default();
        let pinned: Vec<_> = found.into_iter().filter(|address| daemon.contains(address.ip())).collect();
        if pinned.is_empty() { Trust::Verified } else { Trust::Any { pinned } }
    }

    /// The way to a registry that the user named.
    pub(super) fn to_registry(&self, host: &str, trust: Trust) -> Result<reqwest::Client, SettingsError> {
        self.connect(host, trust, HostCerts::read(&self.options.certs_dirs, host)?)
    }

    /// The way to a host that `registry` has led to.
    pub(super) async fn to_foreign(
        &self,
        registry: &str,
        host: &str,
    ) -> Result<reqwest::Client, SettingsError> {
        let cell = {
            let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            foreign.entry((registry.to_owned(), host.to_owned())).or_default().clone()
        };
        let make = || async {
            let read = |host| HostCerts::read(&self.options.certs_dirs, host);
            let certs = read(host)?.joined_by_authorities_of(read(registry)?);
            self.connect(host, self.trust(host).await, certs)
        };
        cell.get_or_try_init(make).await.cloned()
    }

    fn connect(&self, host: &str, trust: Trust, certs: HostCerts) -> Result<reqwest::Client, SettingsError> {
        let (tls, pinned) = match trust {
            Trust::Verified => (tls::verified(certs)?, Vec::new()),
            Trust::Any { pinned } => (tls::unverified(certs)?, pinned),
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(self.names.clone()))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .connect_timeout(self.options.connect_timeout)
            .http1_only()
            .no_proxy();
        if !pinned.is_empty() {
            builder = builder.resolve_to_addrs(without_port(host), &pinned);
        }
        for proxy in self.options.proxies.reqwest()? {
            builder = builder.proxy(proxy);
        }
        Ok(builder.build().expect("TLS is configured already, and nothing else in it can fail"))
    }
}
