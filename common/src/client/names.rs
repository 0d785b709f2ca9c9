//! Host names to addresses, without the C library: the binary is static, and a static glibc cannot load NSS.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read; without the latter a server on this machine is asked, as glibc does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The resolver, made when the first name is asked for, since it needs a runtime.
#[derive(Clone, Default)]
pub(super) struct Names {
    resolver: Arc<OnceLock<TokioResolver>>,
    /// Names that only tests know, with a port for URLs that have none.
    #[cfg(test)]
    pub(super) known: std::collections::HashMap<String, SocketAddr>,
}

impl Names {
    /// All addresses of `name`, which may be an address itself.
    /// Port 0 stands for the one of the URL.
    pub(super) async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        #[cfg(test)]
        if let Some(address) = self.known.get(name) {
            return Ok(vec![*address]);
        }
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let made = resolver().map_err(io::Error::other)?;
                self.resolver.get_or_init(|| made)
            }
        };
        let found = resolver.lookup_ip(name).await.map_err(|error| match error.is_no_records_found() {
            true => io::Error::new(io::ErrorKind::NotFound, format!("lookup {name}: no such host")),
            false => io::Error::other(format!("lookup {name}: {error}")),
        })?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    }
}

fn resolver() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::debug!(%error, "no usable resolv.conf, asking a name server on this machine");
        let local = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let config = ResolverConfig::from_name_servers(vec![local]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    });
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    builder.build()
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses: Addrs = Box::new(names.lookup(name.as_str()).await?.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether `host` (with or without a port) is this machine, by what it is called: an address of the loopback, or
/// `localhost`. Other names may resolve to the loopback today and elsewhere at the next look-up, so they do not count.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    name.parse::<IpAddr>().map_or_else(
        |_| name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
        |address| address.to_canonical().is_loopback(),
    )
}

/// The name or address within `name`, `name:port`, `[v6]` and `[v6]:port`.
pub(super) fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_localhost_and_loopback_addresses_are_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "a.localhost",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "registry:5000", "10.0.0.1", "[fe80::1]", "127.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[tokio::test]
    async fn localhost_is_looked_up_without_a_name_server() {
        let found = Names::default().lookup("localhost").await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty(), "{found:?}");
    }
}
