//! Images in a registry in memory, for tests of pull and push.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tempfile::TempDir;

use crate::client::testing::registry::Registry;
use crate::digest::Digest;
use crate::oci::{Descriptor, media_type};
use crate::platform::Platform;
use crate::reference::{Reference, Repository};
use crate::store::{CheckOptions, Store};

pub(super) const REPOSITORY: &str = "team/app";

/// A store in a temporary folder.
pub(super) struct Machine {
    _folder: TempDir,
    pub(super) store: Store,
}

impl Machine {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Machine { _folder: folder, store }
    }

    /// Every byte and every name is right, and nothing is left half done.
    pub(super) fn check(&self) {
        let report = self.store.check(&CheckOptions::default()).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        let left: Vec<_> = std::fs::read_dir(self.store.paths().ingest()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(self.store.leased().unwrap().is_empty());
    }
}

/// A layer as a registry has it.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) diff_id: Digest,
}

/// A gzipped tar of one file.
pub(super) fn layer(name: &str, content: &[u8]) -> Blob {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).unwrap();
    blob(&tar.into_inner().unwrap())
}

/// A layer of any bytes, gzipped.
pub(super) fn blob(tar: &[u8]) -> Blob {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(tar).unwrap();
    let bytes = gzip.finish().unwrap();
    let descriptor = Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes);
    Blob { descriptor, bytes, diff_id: Digest::sha256(tar) }
}

/// An image, with what can be wrong about it.
pub(super) struct Sample {
    pub(super) platform: Platform,
    pub(super) layers: Vec<Blob>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) manifest_type: &'static str,
    pub(super) config_type: &'static str,
}

impl Sample {
    pub(super) fn new(layers: Vec<Blob>) -> Self {
        Sample {
            platform: "linux/amd64".parse().unwrap(),
            diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            layers,
            manifest_type: media_type::OCI_MANIFEST,
            config_type: media_type::OCI_CONFIG,
        }
    }

    pub(super) fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.parse().unwrap();
        self
    }

    pub(super) fn config(&self) -> Vec<u8> {
        let config = json!({
            "architecture": self.platform.architecture, "os": self.platform.os, "config": {},
            "created": "2024-01-02T03:04:05Z",
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        });
        config.to_string().into_bytes()
    }

    pub(super) fn id(&self) -> Digest {
        Digest::sha256(&self.config())
    }

    pub(super) fn manifest(&self) -> Vec<u8> {
        let layers: Vec<&Descriptor> = self.layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": self.manifest_type,
            "config": Descriptor::of(self.config_type, &self.config()), "layers": layers,
        });
        // Bytes that no serialiser of ours would write, to see that they are kept.
        format!("{manifest:#}\n").into_bytes()
    }

    /// As an index lists it.
    pub(super) fn descriptor(&self) -> Descriptor {
        let platform = Some(self.platform.clone());
        Descriptor { platform, ..Descriptor::of(self.manifest_type, &self.manifest()) }
    }

    /// Puts all of it into a registry, under a name.
    pub(super) fn put(&self, registry: &Registry, name: &str) -> Digest {
        for layer in &self.layers {
            registry.put_blob(REPOSITORY, &layer.bytes);
        }
        registry.put_blob(REPOSITORY, &self.config());
        registry.put_manifest(REPOSITORY, name, self.manifest_type, &self.manifest())
    }
}

pub(super) fn index(children: &[Descriptor]) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children });
    format!("{index:#}\n").into_bytes()
}

pub(super) fn repository(host: &str) -> Repository {
    Repository::new(host, REPOSITORY.parse().unwrap()).unwrap()
}

pub(super) fn tagged(host: &str, tag: &str) -> Reference {
    Reference::Tag(repository(host), tag.parse().unwrap())
}

pub(super) fn host() -> Platform {
    "linux/amd64".parse().unwrap()
}
