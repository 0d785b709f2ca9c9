//! Clients that people use, where they are installed; what they moved is verified by digest.

use std::path::{Path, PathBuf};
use std::process::Command;

use common::digest::Digest;
use common::oci::media_type::{DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use registry::{ServeOptions, TlsFiles};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{World, descriptor};

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

macro_rules! need {
    ($program:literal) => {
        if !installed($program) {
            eprintln!("skipped: {} is not installed", $program);
            return;
        }
    };
}

/// Runs a client, which has to succeed, and answers what it printed, trimmed.
async fn run(command: &str, folder: &Path) -> String {
    let mut words = command.split_whitespace().map(str::to_owned);
    let mut client = Command::new(words.next().unwrap());
    client.args(words).current_dir(folder).env("HOME", folder).env("XDG_RUNTIME_DIR", folder);
    client.env("STORAGE_DRIVER", "vfs");
    for name in ["DOCKER_CONFIG", "DOCKER_HOST", "REGISTRY_AUTH_FILE"] {
        client.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    let [out, err] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    assert!(output.status.success(), "{command}\n{out}\n{err}");
    out
}

/// A tar without entries, compressed by gzip.
const LAYER: &[u8] =
    b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x63\x60\x18\x05\xa3\x60\x14\x8c\x54\0\0\x2e\xaf\xb5\xef\0\x04\0\0";

/// Pushes an image that can be unpacked. Answers its digest.
async fn push_real_image(world: &World, name: &str, tag: &str) -> Digest {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/hello"] },
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&[0; 1024])] },
        "history": [{ "created_by": "a test" }],
    });
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config.as_bytes()),
        "layers": [descriptor(OCI_LAYER_GZIP, LAYER)],
    });
    let manifest = manifest.to_string();
    world.push_blob(name, config.as_bytes()).await;
    world.push_blob(name, LAYER).await;
    world.put_manifest(name, tag, OCI_MANIFEST, manifest.as_bytes()).await.is(StatusCode::CREATED);
    Digest::sha256(manifest.as_bytes())
}

async fn manifest_of(world: &World, name: &str, tag: &str) -> Value {
    world.get(&format!("/v2/{name}/manifests/{tag}")).await.is(StatusCode::OK).json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_copies_lists_and_deletes() {
    need!("skopeo");
    let world = World::start().await;
    let (at, folder) = (world.address, world.folder.path());
    let digest = push_real_image(&world, "a/one", "v1").await;
    run(&format!("skopeo copy --src-tls-verify=false docker://{at}/a/one:v1 dir:copied"), folder).await;
    let copied = std::fs::read(folder.join("copied/manifest.json")).unwrap();
    assert_eq!(Digest::sha256(&copied), digest);

    run(&format!("skopeo copy --dest-tls-verify=false dir:copied docker://{at}/a/two:v1"), folder).await;
    let inspected = run(&format!("skopeo inspect --tls-verify=false docker://{at}/a/two:v1"), folder).await;
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&inspected["Digest"], &inspected["RepoTags"]), (&json!(digest), &json!(["v1"])));

    run(
        &format!("skopeo copy --dest-tls-verify=false --format v2s2 dir:copied docker://{at}/a/docker:v1"),
        folder,
    )
    .await;
    assert_eq!(manifest_of(&world, "a/docker", "v1").await["mediaType"], DOCKER_MANIFEST);
    let tags = run(&format!("skopeo list-tags --tls-verify=false docker://{at}/a/two"), folder).await;
    assert_eq!(serde_json::from_str::<Value>(&tags).unwrap()["Tags"], json!(["v1"]));
    run(&format!("skopeo delete --tls-verify=false docker://{at}/a/two:v1"), folder).await;
    world.get("/v2/a/two/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_logs_in_over_tls() {
    need!("skopeo");
    let mut world = World::start_with(|options: &mut ServeOptions, folder: &Path| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::create_dir(folder.join("certs")).unwrap();
        let files = TlsFiles { certificate: folder.join("certs/ca.crt"), key: folder.join("server.key") };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let users = format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap());
        std::fs::write(folder.join("users"), users).unwrap();
        options.tls = Some(files);
        options.htpasswd = Some(folder.join("users"));
    })
    .await;
    world.become_user(Some(("ann", "secret")));
    let digest = push_real_image(&world, "a", "v1").await;
    let (at, folder) = (world.address, world.folder.path());
    let login = "--src-cert-dir certs --src-creds ann:secret --dest-cert-dir certs --dest-creds ann:secret";
    run(&format!("skopeo copy {login} docker://{at}/a:v1 docker://{at}/b:v1"), folder).await;
    assert_eq!(world.head("/v2/b/manifests/v1").await.header("docker-content-digest"), digest.to_string());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_pulls_and_pushes() {
    need!("podman");
    let world = World::start().await;
    let (at, folder) = (world.address, world.folder.path());
    push_real_image(&world, "a", "v1").await;
    let config = manifest_of(&world, "a", "v1").await["config"]["digest"].clone();
    let podman = "podman --root podman --runroot podman-run";
    let id = run(&format!("{podman} pull -q --tls-verify=false {at}/a:v1"), folder).await;
    assert_eq!(json!(format!("sha256:{id}")), config);
    run(&format!("{podman} push -q --tls-verify=false {at}/a:v1 {at}/b:v1"), folder).await;
    assert_eq!(manifest_of(&world, "b", "v1").await["config"]["digest"], config);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crane_copies_mounts_and_validates() {
    need!("crane");
    let world = World::start().await;
    let (at, folder) = (world.address, world.folder.path());
    let digest = push_real_image(&world, "one", "v1").await;
    run(&format!("crane copy --insecure {at}/one:v1 {at}/two:v2"), folder).await;
    assert_eq!(run(&format!("crane digest {at}/two:v2"), folder).await, digest.to_string());
    assert_eq!(run(&format!("crane catalog {at}"), folder).await, "one\ntwo");
    assert_eq!(run(&format!("crane ls {at}/two"), folder).await, "v2");
    run(&format!("crane validate --remote {at}/two:v2"), folder).await;
    run(&format!("crane delete {at}/two@{digest}"), folder).await;
    world.get("/v2/two/manifests/v2").await.fails(404, "MANIFEST_UNKNOWN");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regctl_copies_and_deletes_a_tag() {
    need!("regctl");
    let world = World::start().await;
    let (at, folder) = (world.address, world.folder.path());
    let digest = push_real_image(&world, "a", "v1").await;
    run(&format!("regctl registry set --tls disabled {at}"), folder).await;
    run(&format!("regctl image copy {at}/a:v1 {at}/b:v1"), folder).await;
    assert_eq!(run(&format!("regctl image digest {at}/b:v1"), folder).await, digest.to_string());
    run(&format!("regctl tag rm {at}/b:v1"), folder).await;
    assert_eq!(world.get("/v2/b/tags/list").await.json()["tags"], json!([]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oras_attaches_and_discovers() {
    need!("oras");
    let world = World::start().await;
    let (at, folder) = (world.address, world.folder.path());
    let digest = push_real_image(&world, "a", "v1").await;
    let sbom: PathBuf = folder.join("sbom.txt");
    std::fs::write(sbom, "packages").unwrap();
    run(&format!("oras attach --plain-http --artifact-type example/sbom {at}/a:v1 sbom.txt"), folder).await;
    let found = run(&format!("oras discover --plain-http {at}/a:v1"), folder).await;
    assert!(found.contains("example/sbom") && found.contains(&digest.to_string()), "{found}");
    world.end().await;
}
