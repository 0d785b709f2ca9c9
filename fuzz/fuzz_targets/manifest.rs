//! The JSON documents of registries: manifests, indexes and image configs. An input is a document; every media type
//! that a sender could have told is tried with it.
//!
//! - A document reads the same whoever tells its type, as long as it is read at all.
//! - What was read is written with the bytes that say it, and these read back to the same: one digest, not two.
//! - An image and an index are never the same bytes.
#![no_main]

use common::digest::Digest;
use common::oci::{Descriptor, ImageConfig, Index, Manifest, ManifestOrIndex, media_type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fuzzing::plant("manifest", seeds()), |data: &[u8]| {
    check_document(data);
    check_config(data);
});

const TYPES: [Option<&str>; 5] = [
    None,
    Some(media_type::OCI_MANIFEST),
    Some(media_type::OCI_INDEX),
    Some(media_type::DOCKER_MANIFEST),
    Some(media_type::DOCKER_MANIFEST_LIST),
];

fn seeds() -> Vec<String> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    let mut layer = Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer");
    layer.annotations.insert("org.example".to_owned(), "x".to_owned());
    layer.urls.push("https://registry.example/v2/a/blobs/x".to_owned());
    layer.data = Some("bGF5ZXI=".to_owned());
    let mut child = Descriptor::of(media_type::OCI_MANIFEST, b"manifest");
    child.platform = "linux/arm/v7".parse().ok();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: Some("application/vnd.example".to_owned()),
        config,
        layers: vec![layer.clone(), layer],
        subject: Some(child.clone()),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
    };
    let index = Index {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        manifests: vec![child],
        subject: None,
        annotations: Default::default(),
    };
    let docker = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "docker_version": "20.10", "x": [1.5, -2, null],
        "config": {
            "User": "1000:1000", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": null, "Cmd": ["sh"],
            "Volumes": {"/data": {}}, "WorkingDir": "/", "Labels": {"a": "b"}, "StopSignal": "SIGINT", "ArgsEscaped": true,
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 30_000_000_000_u64, "Retries": 3},
            "OnBuild": ["RUN x"], "StopTimeout": 10, "Shell": ["/bin/sh", "-c"],
        },
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "RUN x", "comment": "c"}, {"empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(b"tar")]},
    });
    let text = |value: Result<String, serde_json::Error>| value.expect("a document of ours can be written");
    vec![
        text(serde_json::to_string(&manifest)),
        text(serde_json::to_string(&index)),
        text(serde_json::to_string_pretty(&manifest)),
        docker.to_string(),
        r#"{"schemaVersion":2,"manifests":null}"#.to_owned(),
        r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
        r#"{"config":{"Env":null},"rootfs":{"diff_ids":null},"history":null}"#.to_owned(),
    ]
}

fn check_document(bytes: &[u8]) {
    let mut first: Option<ManifestOrIndex> = None;
    for told in TYPES {
        let Ok(parsed) = ManifestOrIndex::parse(bytes, told) else { continue };
        let written = write(&parsed);
        let again = ManifestOrIndex::parse(&written, told).expect("what we write can be read");
        assert_eq!(again, parsed);
        assert_eq!(Digest::sha256(&write(&again)), Digest::sha256(&written));
        let before = first.get_or_insert_with(|| parsed.clone());
        assert_eq!(*before, parsed, "another document when sent as {told:?}");
    }
}

fn write(document: &ManifestOrIndex) -> Vec<u8> {
    match document {
        ManifestOrIndex::Manifest(manifest) => serde_json::to_vec(manifest),
        ManifestOrIndex::Index(index) => serde_json::to_vec(index),
    }
    .expect("a document that was read can be written")
}

fn check_config(bytes: &[u8]) {
    let Ok(config) = ImageConfig::parse(bytes) else { return };
    let written = config.to_bytes();
    let again = ImageConfig::parse(&written).expect("what we write can be read");
    assert_eq!(again, config);
    assert_eq!(Digest::sha256(&again.to_bytes()), Digest::sha256(&written));
}
