//! `daemon.json`: which registries need no TLS, and which mirrors stand before docker.io.
//!
//! Reference: <https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file>. Of its many keys only
//! `insecure-registries` and `registry-mirrors` concern a client; the others are for a daemon that we have not.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use super::names::{is_loopback, without_port};
use super::settings::{SettingsError, is_closed, read_json};

/// What `daemon.json` says about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Daemon {
    insecure_hosts: Vec<String>,
    insecure_networks: Vec<IpNet>,
    /// Base URLs, in the order in which they are asked.
    pub(super) mirrors: Vec<Url>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct DaemonFile {
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
}

impl Daemon {
    /// Reads the file; a missing one says nothing, and neither does one that is closed to a plain user: without it more
    /// registries need TLS, and mirrors are not asked.
    pub(super) fn read(path: &Path) -> Result<Self, SettingsError> {
        let file: DaemonFile = match read_json(path) {
            Err(SettingsError::Io { source, .. }) if is_closed(&source) => {
                tracing::warn!(path = %path.display(), "settings are passed over: permission denied");
                DaemonFile::default()
            }
            file => file?,
        };
        let mut daemon = Daemon::default();
        for entry in &file.insecure_registries {
            match entry.parse::<IpNet>() {
                Ok(network) => daemon.insecure_networks.push(network),
                Err(_) => daemon.insecure_hosts.push(without_scheme(entry).to_owned()),
            }
        }
        for entry in &file.registry_mirrors {
            daemon.mirrors.push(mirror(entry).ok_or_else(|| SettingsError::Entry {
                path: path.to_owned(),
                reason: format!("registry mirror `{entry}` is not of the form `https://HOST[:PORT]`"),
            })?);
        }
        Ok(daemon)
    }

    /// Whether `host` (with its port, as references have it) is listed by name.
    fn lists(&self, host: &str) -> bool {
        self.insecure_hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host))
    }

    /// Whether `host` needs no TLS, as far as its name tells: the loopback, what is listed, addresses in listed networks.
    pub(super) fn calls_insecure(&self, host: &str) -> bool {
        is_loopback(host) || self.lists_insecure(host)
    }

    /// Whether the user says of `host` that it needs no TLS.
    pub(super) fn lists_insecure(&self, host: &str) -> bool {
        let address = without_port(host).parse();
        self.lists(host) || address.is_ok_and(|address| self.lists_address(address))
    }

    /// Whether an address may be spoken to without TLS: loopback always, others by the networks listed.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || self.lists_address(address)
    }

    fn lists_address(&self, address: IpAddr) -> bool {
        self.insecure_networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Whether names must be looked up to know if they are in a listed network.
    pub(super) fn lists_networks(&self) -> bool {
        !self.insecure_networks.is_empty()
    }
}

/// dockerd takes entries that begin with a scheme, and ignores it.
fn without_scheme(entry: &str) -> &str {
    let entry = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://")).unwrap_or(entry);
    entry.trim_end_matches('/')
}

fn mirror(entry: &str) -> Option<Url> {
    let url = Url::parse(entry).ok()?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    bare.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Daemon, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemon.json");
        std::fs::write(&path, text).unwrap();
        Daemon::read(&path)
    }

    #[test]
    fn insecure_registries_are_hosts_or_networks() {
        let daemon = read(
            r#"{"insecure-registries":["Reg.example:5000","http://old.example","10.0.0.0/8","fd00::/8"],"debug":true}"#,
        )
        .unwrap();
        assert!(daemon.lists("reg.example:5000"));
        assert!(!daemon.lists("reg.example"));
        assert!(daemon.lists("old.example"));
        assert!(daemon.calls_insecure("10.1.2.3:5000"));
        assert!(!daemon.calls_insecure("11.1.2.3:5000"));
        assert!(daemon.contains("10.1.2.3".parse().unwrap()));
        assert!(daemon.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(daemon.contains("fd00::1".parse().unwrap()));
        assert!(!daemon.contains("192.168.0.1".parse().unwrap()));
        assert!(daemon.contains("127.3.2.1".parse().unwrap()), "loopback needs no entry");
        assert!(daemon.contains("::1".parse().unwrap()));
    }

    #[test]
    fn mirrors_keep_their_order_and_must_be_bare_urls() {
        let daemon = read(r#"{"registry-mirrors":["https://a.example","http://b.example:5000/"]}"#).unwrap();
        let mirrors: Vec<&str> = daemon.mirrors.iter().map(Url::as_str).collect();
        assert_eq!(mirrors, ["https://a.example/", "http://b.example:5000/"]);
        for wrong in ["a.example", "https://a.example/path", "ftp://a.example", "https://u:p@a.example"] {
            let error = read(&format!(r#"{{"registry-mirrors":["{wrong}"]}}"#)).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_missing_or_empty_file_says_nothing_and_a_broken_one_is_named() {
        assert_eq!(Daemon::read(Path::new("/nonexistent/daemon.json")).unwrap(), Daemon::default());
        assert_eq!(read("  \n").unwrap(), Daemon::default());
        assert!(matches!(read("{"), Err(SettingsError::Json { .. })));
    }
}
