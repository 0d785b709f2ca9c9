//! The three files of `/etc` that depend on where a container runs and not on its image.

use std::fs;

use crate::spec::{Mount, Network, Source};

/// Their names.
pub(crate) const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
                         ::1\tlocalhost ip6-localhost ip6-loopback\n\
                         fe00::\tip6-localnet\n\
                         ff00::\tip6-mcastprefix\n\
                         ff02::1\tip6-allnodes\n\
                         ff02::2\tip6-allrouters\n";

/// Their texts, in the same order. On the host's network its own files serve, as with docker.
pub(crate) fn texts(network: Network, hostname: &str) -> [String; 3] {
    let host = |name: &str| fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
    let hosts = match network {
        Network::Host => host("hosts"),
        Network::None => LOCALHOST.to_owned(),
    };
    [hosts, format!("{hostname}\n"), host("resolv.conf")]
}

/// The same as mounts, for what has no folder to keep files in.
pub fn mounts(network: Network, hostname: &str) -> Vec<Mount> {
    FILES
        .iter()
        .zip(texts(network, hostname))
        .map(|(name, text)| Mount {
            source: Source::File { content: text.into_bytes(), mode: 0o644, uid: 0, gid: 0 },
            destination: format!("/etc/{name}").into(),
            read_only: false,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_network_knows_itself_and_localhost() {
        let [hosts, hostname, _] = texts(Network::None, "box");
        assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"));
        assert_eq!(hostname, "box\n");
        let destinations: Vec<_> =
            mounts(Network::None, "box").into_iter().map(|mount| mount.destination).collect();
        assert_eq!(
            destinations,
            ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(std::path::PathBuf::from)
        );
    }
}
