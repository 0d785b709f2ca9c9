use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::client::testing::registry::Registry;
use crate::client::testing::{Answer, Server, client};
use crate::image::import::{ImportRequest, import};
use crate::image::pull::pull;
use crate::image::testing::{Machine, REPOSITORY, Sample, host, index, layer, repository, tagged};
use crate::layer::{CreateOptions, Header, Kind, LayerError, Time, create};
use crate::oci::ImageConfig;
use crate::store::ImageRecord;

async fn serve(registry: &Registry) -> Server {
    let registry = registry.clone();
    Server::plain(move |request| registry.answer(request)).await
}

fn request<'a>(id: &'a Digest, reference: &'a Reference) -> PushRequest<'a> {
    PushRequest { id, source: None, reference, codec: Codec::Gzip }
}

async fn send(machine: &Machine, id: &Digest, reference: &Reference) -> Result<Pushed, PushError> {
    push(&machine.store, &client(), request(id, reference), &|_| {}).await
}

/// An image of one layer of ours, upon others that are here.
fn build(machine: &Machine, below: &[Digest], content: &[u8]) -> Digest {
    let entry = Header {
        path: b"app".to_vec(),
        kind: Kind::File { size_bytes: content.len() as u64, content: () },
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Default::default(),
    };
    let made = create::<LayerError>(&machine.store, &CreateOptions::default(), |writer| {
        Ok(writer.append(&entry, Some(&mut &*content))?)
    });
    let diff_ids = [below, &[made.unwrap().diff_id]].concat();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "created": "2024-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
    let id = machine.store.put(&config.to_bytes()).unwrap();
    crate::image::record::put(&machine.store, &id, &config, None).unwrap();
    id
}

#[tokio::test]
async fn an_image_of_ours_arrives_and_is_the_same_image_elsewhere() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let (here, there) = (Machine::new(), Machine::new());
    let id = build(&here, &[], &crate::client::testing::noise(300_000));
    let reference = tagged(&server.host(), "v1");
    let told = Mutex::new(Vec::new());
    let tell = |event: PushEvent| told.lock().unwrap().push(event);
    let pushed = push(&here.store, &client(), request(&id, &reference), &tell).await.unwrap();
    let (media_type, bytes) = registry.manifest(REPOSITORY, "v1").unwrap();
    assert_eq!(media_type, media_type::OCI_MANIFEST);
    assert_eq!((pushed.digest.clone(), pushed.size_bytes), (Digest::sha256(&bytes), bytes.len() as u64));

    let diff_id = names::config(&here.store, &id).unwrap().rootfs.diff_ids[0].clone();
    let mut steps = Vec::new();
    for event in told.into_inner().unwrap() {
        match event {
            PushEvent::Layer { layer, step } => {
                assert_eq!(layer, diff_id, "docker calls layers by their diff ID");
                steps.push(step.to_string());
            }
            PushEvent::Manifest { digest } => assert_eq!(digest, pushed.digest),
        }
    }
    steps.dedup();
    assert_eq!(steps, ["Preparing", "Pushing", "Pushed"]);

    let name = Reference::Digest(repository(&server.host()), pushed.digest.clone());
    assert_eq!(here.store.image(&id).unwrap().unwrap().names, [name]);
    let pulled = pull(&there.store, &client(), &reference, &host(), &|_| {}).await.unwrap();
    assert_eq!((pulled.id, pulled.digest), (id, pushed.digest));
    here.check();
    there.check();
}

#[tokio::test]
async fn a_second_push_sends_the_manifest_only() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let machine = Machine::new();
    let id = build(&machine, &[], b"x");
    let first = send(&machine, &id, &tagged(&server.host(), "a")).await.unwrap();
    let before = server.lines().len();
    let again = send(&machine, &id, &tagged(&server.host(), "b")).await.unwrap();
    assert_eq!(first, again);
    let lines = server.lines().split_off(before);
    assert!(lines.iter().all(|line| line.starts_with("HEAD") || line.ends_with("/manifests/b")), "{lines:?}");
}

#[tokio::test]
async fn two_machines_give_one_digest_whatever_else_they_have() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let (here, there) = (Machine::new(), Machine::new());
    let (one, two) = (build(&here, &[], b"content"), build(&there, &[], b"content"));
    let one = send(&here, &one, &tagged(&server.host(), "one")).await.unwrap();
    let two = send(&there, &two, &tagged(&server.host(), "two")).await.unwrap();
    assert_eq!(one, two);
}

#[tokio::test]
async fn each_codec_has_a_manifest_of_its_own_and_both_are_remembered() {
    let machine = Machine::new();
    let id = build(&machine, &[], b"content");
    let gzip = manifest::for_push(&machine.store, &id, Codec::Gzip).unwrap();
    let zstd = manifest::for_push(&machine.store, &id, Codec::Zstd).unwrap();
    assert_ne!(gzip, zstd);
    assert_eq!(manifest::for_push(&machine.store, &id, Codec::Gzip).unwrap(), gzip);
    assert_eq!(machine.store.image(&id).unwrap().unwrap().manifests.len(), 2);
    machine.check();
}

#[tokio::test]
async fn an_imported_tar_is_compressed_for_the_way() {
    let machine = Machine::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    tar.append_data(&mut header, "f", &b"abc"[..]).unwrap();
    let request = ImportRequest {
        name: None,
        config: Default::default(),
        platform: host(),
        message: String::new(),
        created: None,
    };
    let id = import(&machine.store, &*tar.into_inner().unwrap(), &request, &|_| {}).unwrap();
    let manifest = manifest::for_push(&machine.store, &id, Codec::Gzip).unwrap();
    let ManifestOrIndex::Manifest(manifest) = manifest::read(&machine.store, &manifest).unwrap() else {
        panic!()
    };
    assert_eq!(manifest.layers[0].media_type, media_type::OCI_LAYER_GZIP);
}

#[tokio::test]
async fn a_pulled_image_goes_on_unchanged_and_is_mounted_where_it_came_from() {
    for (manifest_type, config_type) in [
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
    ] {
        let registry = Registry::default();
        let layers = vec![layer("f", b"base"), layer("g", b"top")];
        let sample = Sample { manifest_type, config_type, ..Sample::new(layers) };
        let digest = sample.put(&registry, "latest");
        let server = serve(&registry).await;
        let machine = Machine::new();
        let from = tagged(&server.host(), "latest");
        let pulled = pull(&machine.store, &client(), &from, &host(), &|_| {}).await.unwrap();

        let target: Reference = format!("{}/other/place:v1", server.host()).parse().unwrap();
        let told = Mutex::new(Vec::new());
        let tell = |event: PushEvent| told.lock().unwrap().push(event);
        let pushed = push(&machine.store, &client(), request(&pulled.id, &target), &tell).await.unwrap();
        assert_eq!(pushed.digest, digest);
        assert_eq!(
            registry.manifest("other/place", "v1").unwrap(),
            (manifest_type.to_owned(), sample.manifest())
        );
        assert_eq!(registry.mounted(), 3, "config and layers");
        assert!(!server.lines().iter().any(|line| line.starts_with("PUT") && line.contains("/blobs/")));
        let mounted = PushStep::Mounted { from: REPOSITORY.parse().unwrap() };
        assert_eq!(mounted.to_string(), "Mounted from team/app");
        let told = told.into_inner().unwrap();
        let count =
            told.iter().filter(|e| matches!(e, PushEvent::Layer { step, .. } if *step == mounted)).count();
        assert_eq!(count, 2);
    }
}

#[tokio::test]
async fn a_layer_of_the_base_goes_as_it_came_and_is_mounted() {
    let registry = Registry::default();
    let sample = Sample::new(vec![layer("f", b"base")]);
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    let from = tagged(&server.host(), "latest");
    pull(&machine.store, &client(), &from, &host(), &|_| {}).await.unwrap();
    let id = build(&machine, &sample.diff_ids, b"ours");
    let target: Reference = format!("{}/other/place:v1", server.host()).parse().unwrap();
    send(&machine, &id, &target).await.unwrap();
    let (_, manifest) = registry.manifest("other/place", "v1").unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest.layers[0].digest, sample.layers[0].descriptor.digest);
    assert_eq!(registry.mounted(), 1);
    machine.check();
}

/// An index of one or two platforms at the registry, pulled.
async fn pulled_index(
    machine: &Machine,
    registry: &Registry,
    server: &Server,
    with_arm: bool,
) -> (Digest, Digest) {
    let amd = Sample::new(vec![layer("f", b"amd64")]);
    let arm = Sample::new(vec![layer("f", b"arm64")]).platform("linux/arm64");
    amd.put(registry, "amd");
    arm.put(registry, "arm");
    let index = index(&[amd.descriptor(), arm.descriptor()]);
    registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &index);
    let reference = tagged(&server.host(), "latest");
    if with_arm {
        pull(&machine.store, &client(), &reference, &arm.platform, &|_| {}).await.unwrap();
    }
    let pulled = pull(&machine.store, &client(), &reference, &host(), &|_| {}).await.unwrap();
    (pulled.id, pulled.digest)
}

#[tokio::test]
async fn an_index_whose_images_are_all_here_goes_as_an_index() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let machine = Machine::new();
    let (id, digest) = pulled_index(&machine, &registry, &server, true).await;
    let target: Reference = format!("{}/other/place:v1", server.host()).parse().unwrap();
    let request = PushRequest { source: Some(&digest), ..request(&id, &target) };
    let pushed = push(&machine.store, &client(), request, &|_| {}).await.unwrap();
    assert_eq!(pushed.digest, digest);
    assert_eq!(registry.manifest("other/place", "v1").unwrap().0, media_type::OCI_INDEX);
}

#[tokio::test]
async fn an_index_of_which_a_part_is_here_goes_as_the_platforms_manifest() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let machine = Machine::new();
    let (id, digest) = pulled_index(&machine, &registry, &server, false).await;
    let target: Reference = format!("{}/other/place:v1", server.host()).parse().unwrap();
    let request = PushRequest { source: Some(&digest), ..request(&id, &target) };
    let pushed = push(&machine.store, &client(), request, &|_| {}).await.unwrap();
    assert_ne!(pushed.digest, digest);
    assert_eq!(registry.manifest("other/place", "v1").unwrap().0, media_type::OCI_MANIFEST);
}

#[tokio::test]
async fn refusals_have_dockers_words_and_change_no_tag() {
    for (status, expected) in [
        (401, "unauthorized: authentication required"),
        (403, "denied: requested access to the resource is denied"),
    ] {
        let server = Server::plain(move |request| match request.target.as_str() {
            "/v2/" => Answer::body("{}"),
            _ => Answer::status(status),
        })
        .await;
        let machine = Machine::new();
        let id = build(&machine, &[], b"x");
        let error = send(&machine, &id, &tagged(&server.host(), "v1")).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().unwrap().contains(&format!("gantry login {}", server.host())));
        assert!(!server.lines().iter().any(|line| line.contains("/manifests/")));
        assert!(machine.store.image(&id).unwrap().unwrap().names.is_empty());
        machine.check();
    }
}

#[tokio::test]
async fn a_digest_is_no_target() {
    let machine = Machine::new();
    let id = build(&machine, &[], b"x");
    let target = Reference::Digest(repository("127.0.0.1:1"), id.clone());
    let error = send(&machine, &id, &target).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot push a digest reference");
}

#[tokio::test]
async fn an_image_that_lacks_a_layer_is_not_pushed() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let machine = Machine::new();
    let id = build(&machine, &[Digest::sha256(b"nowhere")], b"x");
    let error = send(&machine, &id, &tagged(&server.host(), "v1")).await.unwrap_err();
    let expected = format!("layer {} is not in the store", Digest::sha256(b"nowhere"));
    assert_eq!(error.to_string(), expected);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_push_that_is_dropped_can_be_done_again() {
    let registry = Registry::default();
    let machine = Machine::new();
    let id = build(&machine, &[], &crate::client::testing::noise(400_000));
    let (begun, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let tell = |event: PushEvent| {
        if let PushEvent::Layer { step: PushStep::Pushing { sent: 1.., .. }, .. } = event {
            let _ = begun.send(());
        }
    };
    {
        let server = serve(&registry).await;
        let (reference, client) = (tagged(&server.host(), "v1"), client());
        tokio::select! {
            result = push(&machine.store, &client, request(&id, &reference), &tell) => panic!("{result:?}"),
            Some(()) = sent.recv() => {}
        }
    }
    machine.check();
    assert_eq!(registry.manifest(REPOSITORY, "v1"), None);
    let server = serve(&registry).await;
    send(&machine, &id, &tagged(&server.host(), "v1")).await.unwrap();
    assert!(registry.manifest(REPOSITORY, "v1").is_some());
    machine.check();
    let record: ImageRecord = machine.store.image(&id).unwrap().unwrap();
    assert_eq!(record.names.len(), 1);
}
