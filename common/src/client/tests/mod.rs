mod auth;
mod docker_config;
mod hosts;
mod transfers;
mod uploads;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;

use super::testing::{Server, client_with, noise};
use super::{Client, ClientOptions};
use crate::digest::Digest;
use crate::oci::{Descriptor, media_type};
use crate::reference::Repository;

fn repository(host: &str) -> Repository {
    Repository::new(host, "team/app".parse().unwrap()).unwrap()
}

fn blob_of(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::OCI_LAYER, bytes)
}

/// A folder with docker's files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    /// Credentials for one registry, as `docker login` writes them.
    fn login(self, registry: &str, username: &str, password: &str) -> Self {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        self.config(&json!({ "auths": { registry: { "auth": auth } } }))
    }

    fn config(self, config: &serde_json::Value) -> Self {
        fs::write(self.0.path().join("config.json"), config.to_string()).unwrap();
        self
    }

    fn daemon(self, daemon: &serde_json::Value) -> Self {
        fs::write(self.0.path().join("daemon.json"), daemon.to_string()).unwrap();
        self
    }

    fn certs(self, host: &str, name: &str, pem: &str) -> Self {
        let folder = self.0.path().join("certs.d").join(host);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), pem).unwrap();
        self
    }

    fn apply(&self, options: &mut ClientOptions) {
        let path = |name: &str| -> PathBuf { self.0.path().join(name) };
        options.config_file = Some(path("config.json"));
        options.daemon_file = Some(path("daemon.json"));
        options.certs_dirs = vec![path("certs.d")];
    }

    fn client(&self) -> Client {
        client_with(|options| self.apply(options))
    }
}

/// A blob received whole, however the pieces came.
async fn receive(client: &Client, server: &Server, bytes: &[u8]) -> Result<Vec<u8>, super::ClientError> {
    let blob = blob_of(bytes);
    client.blob_bytes(&repository(&server.host()), &blob, 1 << 30).await.map(|bytes| bytes.to_vec())
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::sha256(bytes)
}
