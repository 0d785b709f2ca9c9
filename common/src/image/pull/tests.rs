use std::process::Command;
use std::time::Duration;

use super::*;
use crate::client::testing::registry::Registry;
use crate::client::testing::{Answer, Fault, Request, Server, client, client_with};
use crate::image::testing::{
    Blob, Machine, REPOSITORY, Sample, blob, host, index, layer, repository, tagged,
};
use crate::layer::exists;
use crate::layer::testing::TarBytes;
use crate::reference::Tag;
use crate::store::CheckOptions;

async fn serve(registry: &Registry) -> Server {
    let registry = registry.clone();
    Server::plain(move |request| registry.answer(request)).await
}

async fn get(machine: &Machine, server: &Server, reference: &Reference) -> Result<Pulled, PullError> {
    let _ = server;
    pull(&machine.store, &client(), reference, &host(), &|_| {}).await
}

/// Pulls `latest` and expects an error; nothing of it has a record, and the store is sound.
async fn check_refused(registry: &Registry, expected: &str) -> PullError {
    let server = serve(registry).await;
    let machine = Machine::new();
    let error = get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap_err();
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        chain += &format!(": {error}");
        source = error.source();
    }
    assert!(chain.contains(expected), "{chain}");
    assert!(machine.store.images().unwrap().0.is_empty());
    machine.check();
    error
}

fn two_layers() -> Sample {
    Sample::new(vec![layer("base", b"base"), layer("top", &[7; 100_000])])
}

#[tokio::test]
async fn a_tag_becomes_an_image_with_record_name_and_layers() {
    for (manifest_type, config_type) in [
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
        (media_type::DOCKER_MANIFEST, "application/octet-stream"),
    ] {
        let sample = Sample { manifest_type, config_type, ..two_layers() };
        let registry = Registry::default();
        let digest = sample.put(&registry, "latest");
        let server = serve(&registry).await;
        let machine = Machine::new();
        let reference = tagged(&server.host(), "latest");
        let pulled = get(&machine, &server, &reference).await.unwrap();
        let expected =
            Pulled { id: sample.id(), digest: digest.clone(), platform: host(), up_to_date: false };
        assert_eq!(pulled, expected);

        let record = machine.store.image(&sample.id()).unwrap().unwrap();
        assert_eq!(record.created, 1_704_164_645);
        assert_eq!(record.names, [Reference::Digest(repository(&server.host()), digest.clone())]);
        let manifest = &record.manifests[&ImageRecord::foreign_form(&digest)];
        assert_eq!(manifest.media_type, manifest_type);
        assert_eq!(machine.store.read_blob(&manifest.digest, 1 << 20).unwrap(), sample.manifest());
        let tag = machine.store.local(reference.repository()).tag(&Tag::latest()).unwrap().unwrap();
        assert_eq!(tag.images[0].source.as_ref().unwrap().digest, digest);
        for layer in &sample.layers {
            assert!(exists(&machine.store, &layer.diff_id).unwrap());
        }
        machine.check();
    }
}

#[tokio::test]
async fn a_second_pull_asks_for_the_manifest_only_and_says_up_to_date() {
    let registry = Registry::default();
    two_layers().put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    get(&machine, &server, &reference).await.unwrap();
    let before = server.lines().len();
    assert!(get(&machine, &server, &reference).await.unwrap().up_to_date);
    assert_eq!(server.lines()[before..], ["GET /v2/team/app/manifests/latest"]);

    let newer = Sample::new(vec![layer("base", b"base"), layer("top", b"newer")]);
    newer.put(&registry, "latest");
    let before = server.lines().len();
    let pulled = get(&machine, &server, &reference).await.unwrap();
    assert_eq!((pulled.id, pulled.up_to_date), (newer.id(), false));
    let blobs = server.lines()[before..].iter().filter(|line| line.contains("/blobs/")).count();
    assert_eq!(blobs, 2, "config and the new layer; the base is here");
    machine.check();
}

#[tokio::test]
async fn each_step_of_a_layer_is_told_in_dockers_order() {
    let registry = Registry::default();
    let layers: Vec<Blob> = (0..5).map(|n: u8| layer("f", &[n; 10])).collect();
    let sample = Sample::new(layers);
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    let told = Mutex::new(Vec::new());
    let reference = tagged(&server.host(), "latest");
    let tell = |event: PullEvent| told.lock().unwrap().push(event);
    pull(&machine.store, &client(), &reference, &host(), &tell).await.unwrap();
    let told = told.into_inner().unwrap();
    assert!(matches!(&told[0], PullEvent::Found { reference: found, .. } if *found == reference));
    for (n, layer) in sample.layers.iter().enumerate() {
        let mut steps: Vec<String> = Vec::new();
        for event in &told {
            match event {
                PullEvent::Layer { blob, step } if *blob == layer.descriptor.digest => {
                    steps.push(step.to_string());
                }
                _ => {}
            }
        }
        steps.dedup();
        let waiting: &[&str] = if n < 3 { &[] } else { &["Waiting"] };
        let expected =
            [&["Pulling fs layer"], waiting, &["Downloading", "Verifying Checksum", "Pull complete"]]
                .concat();
        assert_eq!(steps, expected);
    }
}

#[tokio::test]
async fn three_layers_are_received_at_once_and_no_more() {
    let layers: Vec<Blob> = (0..5).map(|n: u8| layer("f", &[n; 10])).collect();
    let sample = Sample::new(layers);
    let registry = Registry::default();
    sample.put(&registry, "latest");
    let silent: Vec<String> =
        sample.layers.iter().map(|layer| format!("/blobs/{}", layer.descriptor.digest)).collect();
    let asked = silent.clone();
    let server = Server::plain(move |request: &Request| {
        let answer = registry.answer(request);
        let is_layer = silent.iter().any(|blob| request.path().ends_with(blob));
        if is_layer { answer.fault(Fault::Silence(1)) } else { answer }
    })
    .await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    let receiving = std::sync::atomic::AtomicUsize::new(0);
    let tell = |event: PullEvent| {
        if let PullEvent::Layer { step: PullStep::Downloading { .. }, .. } = event {
            receiving.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let client = client_with(|options| options.stall_timeout = Duration::from_secs(60));
    let host = host();
    {
        let mut pulling = std::pin::pin!(pull(&machine.store, &client, &reference, &host, &tell));
        // None of them ends, so that the third begins only if it does not wait for the first.
        while receiving.load(std::sync::atomic::Ordering::SeqCst) < 3 {
            assert!(futures_util::poll!(&mut pulling).is_pending());
            tokio::task::yield_now().await;
        }
    }
    let requests = server.lines();
    let layers = asked.iter().filter(|blob| requests.iter().any(|line| line.ends_with(*blob))).count();
    assert_eq!(layers, 3);
}

/// Two platforms in an index.
fn put_index(registry: &Registry) -> (Sample, Sample, Digest) {
    let amd = Sample::new(vec![layer("f", b"amd64")]);
    let arm = Sample::new(vec![layer("f", b"arm64")]).platform("linux/arm64");
    amd.put(registry, "amd");
    arm.put(registry, "arm");
    let mut attestation = amd.descriptor();
    attestation.platform = Some(Platform::new("unknown", "unknown", None));
    let index = index(&[attestation, arm.descriptor(), amd.descriptor()]);
    let digest = registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &index);
    (amd, arm, digest)
}

#[tokio::test]
async fn an_index_leads_to_the_manifest_of_the_platform_and_is_kept() {
    let registry = Registry::default();
    let (amd, arm, digest) = put_index(&registry);
    let server = serve(&registry).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    let pulled = get(&machine, &server, &reference).await.unwrap();
    assert_eq!((&pulled.id, &pulled.digest), (&amd.id(), &digest));
    assert!(machine.store.blob_size(&digest).unwrap().is_some());
    assert_eq!(machine.store.blob_size(&arm.id()).unwrap(), None, "other platforms stay there");

    let wanted = "linux/arm64".parse().unwrap();
    let pulled = pull(&machine.store, &client(), &reference, &wanted, &|_| {}).await.unwrap();
    assert_eq!((&pulled.id, &pulled.platform), (&arm.id(), &wanted));
    let tag = machine.store.local(reference.repository()).tag(&Tag::latest()).unwrap().unwrap();
    assert_eq!(tag.images.len(), 2, "one name, two platforms");
    machine.check();

    let wanted = "linux/s390x".parse().unwrap();
    let error = pull(&machine.store, &client(), &reference, &wanted, &|_| {}).await.unwrap_err();
    let expected =
        "no matching manifest for linux/s390x in the manifest list entries; it has linux/arm64, linux/amd64";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn dockers_list_of_manifests_leads_to_the_manifest_of_the_platform() {
    let registry = Registry::default();
    let of_docker = |content: &[u8]| Sample {
        manifest_type: media_type::DOCKER_MANIFEST,
        config_type: media_type::DOCKER_CONFIG,
        ..Sample::new(vec![layer("f", content)])
    };
    let (amd, arm) = (of_docker(b"amd64"), of_docker(b"arm64").platform("linux/arm64"));
    amd.put(&registry, "amd");
    arm.put(&registry, "arm");
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST_LIST,
        "manifests": [arm.descriptor(), amd.descriptor()],
    });
    let list = list.to_string().into_bytes();
    let digest = registry.put_manifest(REPOSITORY, "latest", media_type::DOCKER_MANIFEST_LIST, &list);
    let server = serve(&registry).await;
    let machine = Machine::new();
    let pulled = get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    assert_eq!((pulled.id, &pulled.digest), (amd.id(), &digest));
    assert_eq!(machine.store.read_blob(&digest, 1 << 20).unwrap(), list, "it is kept as it came");
    machine.check();
}

#[tokio::test]
async fn a_digest_names_the_image_but_sets_no_tag() {
    let registry = Registry::default();
    let digest = two_layers().put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    for reference in [
        Reference::Digest(repository(&server.host()), digest.clone()),
        Reference::TagAndDigest(repository(&server.host()), Tag::latest(), digest.clone()),
    ] {
        let pulled = get(&machine, &server, &reference).await.unwrap();
        assert_eq!(pulled.digest, digest);
    }
    assert!(machine.store.local_repositories().unwrap().is_empty());
    let before = server.lines().len();
    let again = Reference::Digest(repository(&server.host()), digest);
    assert!(get(&machine, &server, &again).await.unwrap().up_to_date);
    assert_eq!(server.lines().len(), before, "what a digest names is here");
    machine.check();
}

#[tokio::test]
async fn a_blob_that_is_in_the_store_is_not_asked_for() {
    let registry = Registry::default();
    let sample = two_layers();
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    machine.store.put(&sample.layers[1].bytes).unwrap();
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    let asked = format!("GET /v2/team/app/blobs/{}", sample.layers[1].descriptor.digest);
    assert!(!server.lines().contains(&asked));
    assert!(exists(&machine.store, &sample.layers[1].diff_id).unwrap());
    machine.check();
}

#[tokio::test]
async fn a_layer_that_stands_twice_is_asked_for_once() {
    let registry = Registry::default();
    let empty = layer("f", b"");
    Sample::new(vec![empty.clone(), layer("g", b"x"), empty]).put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    assert_eq!(server.lines().iter().filter(|line| line.contains("/blobs/")).count(), 3);
    machine.check();
}

#[tokio::test]
async fn a_layer_that_breaks_off_goes_on() {
    let registry = Registry::default();
    let sample = Sample::new(vec![layer("f", &crate::client::testing::noise(400_000))]);
    sample.put(&registry, "latest");
    let (serving, big) = (registry.clone(), sample.layers[0].descriptor.digest.to_string());
    let server = Server::plain(move |request| {
        let answer = serving.answer(request);
        let first = request.path().ends_with(&big) && request.header("range").is_none();
        if first { answer.fault(Fault::Cut(123_456)) } else { answer }
    })
    .await;
    let machine = Machine::new();
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    assert_eq!(server.requests().pop().unwrap().header("range"), Some("bytes=123456-"));
    machine.check();
}

#[tokio::test]
async fn a_layer_with_other_bytes_is_refused() {
    let registry = Registry::default();
    let mut sample = two_layers();
    sample.put(&registry, "good");
    let wrong = layer("f", b"other");
    sample.layers[0].descriptor.size = wrong.bytes.len() as u64;
    sample.put(&registry, "latest");
    let (serving, path) = (registry.clone(), sample.layers[0].descriptor.digest.to_string());
    let server = Server::plain(move |request| {
        if request.path().ends_with(&path) {
            Answer::body(wrong.bytes.clone())
        } else {
            serving.answer(request)
        }
    })
    .await;
    let machine = Machine::new();
    let error = get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap_err();
    assert!(matches!(error, PullError::Layer { .. }), "{error}");
    assert!(machine.store.images().unwrap().0.is_empty());
    machine.check();
}

#[tokio::test]
async fn a_config_with_other_diff_ids_is_refused() {
    let registry = Registry::default();
    let mut sample = two_layers();
    sample.diff_ids[0] = Digest::sha256(b"other");
    sample.put(&registry, "latest");
    check_refused(&registry, "layer does not match its diff ID").await;
}

#[tokio::test]
async fn a_config_with_another_number_of_layers_is_refused() {
    let registry = Registry::default();
    let mut sample = two_layers();
    sample.diff_ids.pop();
    sample.put(&registry, "latest");
    check_refused(&registry, "lists 1 diff IDs, but the manifest 2 layers").await;
}

#[tokio::test]
async fn layers_from_elsewhere_and_of_unknown_kinds_are_refused() {
    for (media_type, urls, expected) in [
        (media_type::DOCKER_FOREIGN_LAYER_GZIP, vec![], "kept outside of the registry"),
        (media_type::OCI_LAYER_GZIP, vec!["https://elsewhere.example/x".to_owned()], "kept outside"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", vec![], "which is not supported"),
    ] {
        let registry = Registry::default();
        let mut sample = two_layers();
        sample.layers[0].descriptor.media_type = media_type.to_owned();
        sample.layers[0].descriptor.urls = urls;
        sample.put(&registry, "latest");
        check_refused(&registry, expected).await;
    }
}

#[tokio::test]
async fn what_is_no_image_is_refused_by_its_type() {
    let registry = Registry::default();
    let chart = Sample { config_type: "application/vnd.cncf.helm.config.v1+json", ..two_layers() };
    chart.put(&registry, "latest");
    check_refused(&registry, "is not an image: its config is of type `application/vnd.cncf.helm").await;
}

#[tokio::test]
async fn schema_1_is_refused_with_a_way_out() {
    let registry = Registry::default();
    let old = br#"{"schemaVersion":1,"name":"team/app","tag":"latest","fsLayers":[],"history":[]}"#;
    registry.put_manifest(REPOSITORY, "latest", media_type::DOCKER_MANIFEST_SCHEMA1_SIGNED, old);
    let error = check_refused(&registry, "manifest schema 1").await;
    assert!(error.hint().unwrap().contains("skopeo copy --format v2s2"));
}

#[tokio::test]
async fn an_index_that_lists_itself_again_and_again_is_refused() {
    let registry = Registry::default();
    let mut child = Descriptor::of(media_type::OCI_MANIFEST, &two_layers().manifest());
    for _ in 0..6 {
        let bytes = index(std::slice::from_ref(&child));
        registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &bytes);
        child = Descriptor::of(media_type::OCI_INDEX, &bytes);
    }
    check_refused(&registry, "leads to too many others").await;
}

#[tokio::test]
async fn an_index_without_entries_says_that_it_is_empty() {
    let registry = Registry::default();
    registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &index(&[]));
    let error = check_refused(&registry, "manifest list entries; it lists no image at all").await;
    assert_eq!(error.hint(), None);
}

#[tokio::test]
async fn an_index_whose_manifest_is_not_there_names_the_manifest() {
    let registry = Registry::default();
    let child = two_layers().descriptor();
    registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &index(std::slice::from_ref(&child)));
    check_refused(&registry, &format!("manifests/{}: 404", child.digest)).await;
}

#[tokio::test]
async fn a_manifest_of_another_length_than_its_index_says_is_refused() {
    let registry = Registry::default();
    let sample = two_layers();
    sample.put(&registry, "sample");
    let mut child = sample.descriptor();
    child.size += 1;
    registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &index(&[child]));
    let actual = sample.manifest().len();
    check_refused(&registry, &format!("has {actual} bytes, but its index says {}", actual + 1)).await;
}

#[tokio::test]
async fn a_pull_writes_a_damaged_tag_and_a_damaged_image_record_anew() {
    let registry = Registry::default();
    two_layers().put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    let id = get(&machine, &server, &reference).await.unwrap().id;
    let paths = machine.store.paths();
    let tag = paths.local_repository(reference.repository()).join("_tags/latest");
    for path in [tag, paths.image(&id)] {
        assert!(path.exists(), "{}", path.display());
        std::fs::write(path, "garbage").unwrap();
        get(&machine, &server, &reference).await.unwrap();
        machine.check();
    }
}

#[tokio::test]
async fn refusals_have_dockers_words() {
    let denied = |code: &'static str, message: &'static str, status| async move {
        let server = Server::plain(move |request| match request.target.as_str() {
            "/v2/" => Answer::body("{}"),
            _ => Answer::error(status, code, message),
        })
        .await;
        let machine = Machine::new();
        let host = server.host();
        let error = get(&machine, &server, &tagged(&host, "latest")).await.unwrap_err();
        (error.to_string().replace(&host, "HOST"), error.hint())
    };
    let (text, hint) = denied("DENIED", "requested access to the resource is denied", 403).await;
    let expected = "pull access denied for HOST/team/app, repository does not exist or may require \
                    'docker login': denied: requested access to the resource is denied";
    assert_eq!(text, expected);
    assert!(hint.unwrap().contains("gantry login"));
    let (text, _) = denied("MANIFEST_UNKNOWN", "manifest unknown", 404).await;
    assert_eq!(text, "manifest for HOST/team/app:latest not found: manifest unknown: manifest unknown");
    let (text, _) = denied("NAME_UNKNOWN", "repository name not known to registry", 404).await;
    let expected = "repository HOST/team/app not found: name unknown: repository name not known to registry";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn all_tags_are_told_by_name() {
    let registry = Registry::default();
    for tag in ["a", "b"] {
        Sample::new(vec![layer("f", tag.as_bytes())]).put(&registry, tag);
    }
    let server = serve(&registry).await;
    let all = tags(&client(), &repository(&server.host())).await.unwrap();
    assert_eq!(all, ["a", "b"].map(|tag| tagged(&server.host(), tag)));
}

/// A registry that sends the first half of the second layer and then nothing more.
async fn stalling(sample: &Sample) -> Server {
    let registry = Registry::default();
    sample.put(&registry, "latest");
    let path = sample.layers[1].descriptor.digest.to_string();
    let half = sample.layers[1].bytes.len() / 2;
    Server::plain(move |request: &Request| {
        let answer = registry.answer(request);
        if request.path().ends_with(&path) { answer.fault(Fault::Silence(half)) } else { answer }
    })
    .await
}

#[tokio::test]
async fn a_pull_that_is_dropped_leaves_a_sound_store() {
    let sample = Sample::new(vec![layer("f", b"x"), layer("g", &crate::client::testing::noise(300_000))]);
    let server = stalling(&sample).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    let (both_reached, mut arrived) = mpsc::unbounded_channel();
    let reached = Mutex::new((false, false));
    let tell = |event: PullEvent| {
        let PullEvent::Layer { step, .. } = event else { return };
        let mut reached = reached.lock().unwrap();
        reached.0 |= matches!(step, PullStep::Downloading { received: 100_000.., .. });
        reached.1 |= step == PullStep::Complete;
        if *reached == (true, true) {
            let _ = both_reached.send(());
        }
    };
    let client = client_with(|options| options.stall_timeout = Duration::from_secs(60));
    let platform = host();
    tokio::select! {
        result = pull(&machine.store, &client, &reference, &platform, &tell) => panic!("{result:?}"),
        Some(()) = arrived.recv() => {}
    }
    // The writer ends when it learns that no more will come.
    while std::fs::read_dir(machine.store.paths().ingest()).unwrap().next().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(machine.store.images().unwrap().0.is_empty());
    machine.check();
}

#[tokio::test]
async fn pulling_again_heals_the_tables_of_a_layer_without_fetching_it() {
    let sample = Sample::new(vec![layer("f", b"x")]);
    let registry = Registry::default();
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    let index = machine.store.paths().layer_index(&sample.layers[0].diff_id);
    let undamaged = std::fs::read(&index).unwrap();
    std::fs::write(&index, &undamaged[1..]).unwrap();
    let requests = server.lines().len();
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    assert_eq!(std::fs::read(&index).unwrap(), undamaged);
    assert!(!server.lines()[requests..].iter().any(|line| line.contains("/blobs/")));
}

#[tokio::test]
async fn pulling_again_heals_the_tar_of_a_layer_without_fetching_it() {
    let sample = Sample::new(vec![layer("f", b"x")]);
    let registry = Registry::default();
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    get(&machine, &server, &reference).await.unwrap();
    layer::open_tar(&machine.store, &sample.layers[0].diff_id).unwrap();
    let tar = machine.store.paths().layer_tar(&sample.layers[0].diff_id);
    let mut bytes = std::fs::read(&tar).unwrap();
    bytes[512] ^= 1;
    std::fs::write(&tar, bytes).unwrap();
    let requests = server.lines().len();
    get(&machine, &server, &reference).await.unwrap();
    assert!(!tar.exists(), "the blob gives it");
    assert!(!server.lines()[requests..].iter().any(|line| line.contains("/blobs/")));
    machine.check();
}

#[tokio::test]
async fn a_blob_that_a_check_removed_is_fetched_again() {
    let sample = two_layers();
    let registry = Registry::default();
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    get(&machine, &server, &reference).await.unwrap();
    let damaged = [&sample.layers[0].descriptor.digest, &sample.id()].map(|digest| {
        let path = machine.store.paths().blob(digest);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[12] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    });
    let options = CheckOptions { remove_damaged: true, ..CheckOptions::default() };
    assert!(!machine.store.check(&options).unwrap().is_sound());
    assert!(damaged.iter().all(|path| !path.exists()));
    get(&machine, &server, &reference).await.unwrap();
    machine.check();
}

#[tokio::test]
async fn hostile_layers_are_refused_before_anything_is_unpacked() {
    let base = || layer("base", b"base");
    let link = |target| blob(&TarBytes::new().hardlink("link", target).finish());
    for (layers, expected) in [
        (vec![link("none")], "hardlink `link` leads to `none`, which does not exist"),
        (vec![base(), link("none")], "hardlink `link` leads to `none`, which does not exist"),
        (vec![base(), layer("base/x", b"")], "`base`: not a folder in a lower layer"),
        (
            vec![base(), blob(&TarBytes::new().entry(b'3', "base", "", b"").finish())],
            "device `base` has the numbers 0:0",
        ),
    ] {
        let registry = Registry::default();
        Sample::new(layers).put(&registry, "latest");
        let error = check_refused(&registry, expected).await;
        assert_eq!(error.hint().is_none(), expected.contains("folder"), "{error}");
    }
    let registry = Registry::default();
    Sample::new(vec![base(), link("base"), link("base")]).put(&registry, "latest");
    let server = serve(&registry).await;
    let machine = Machine::new();
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    machine.check();
}

#[tokio::test]
async fn a_layer_that_needs_another_below_it_is_refused_where_it_stands_alone() {
    let link = blob(&TarBytes::new().hardlink("link", "base").finish());
    let registry = Registry::default();
    Sample::new(vec![layer("base", b"base"), link.clone()]).put(&registry, "whole");
    Sample::new(vec![link]).put(&registry, "alone");
    let server = serve(&registry).await;
    let machine = Machine::new();
    get(&machine, &server, &tagged(&server.host(), "whole")).await.unwrap();
    let error = get(&machine, &server, &tagged(&server.host(), "alone")).await.unwrap_err();
    assert!(matches!(error, PullError::Stack(_)), "{error}");
}

#[tokio::test]
async fn a_name_means_what_was_pulled_last_where_nothing_is_for_this_machine() {
    let registry = Registry::default();
    let samples = ["linux/arm64", "linux/s390x"]
        .map(|platform| Sample::new(vec![layer("f", platform.as_bytes())]).platform(platform));
    let children = samples.each_ref().map(|sample| {
        sample.put(&registry, &sample.id().to_string());
        sample.descriptor()
    });
    registry.put_manifest(REPOSITORY, "latest", media_type::OCI_INDEX, &index(&children));
    let server = serve(&registry).await;
    let machine = Machine::new();
    let reference = tagged(&server.host(), "latest");
    for at in [0, 1, 0, 1] {
        let sample = &samples[at];
        pull(&machine.store, &client(), &reference, &sample.platform, &|_| {}).await.unwrap();
        let purpose = names::Purpose::Handle(&host());
        let found = names::find(&machine.store, &reference.to_string(), purpose).unwrap();
        assert_eq!(found.id, sample.id());
    }
}

/// Runs itself as another process, which can be killed.
#[tokio::test]
async fn a_pull_that_is_killed_leaves_a_sound_store_and_the_next_one_completes_it() {
    const NAME: &str =
        "image::pull::tests::a_pull_that_is_killed_leaves_a_sound_store_and_the_next_one_completes_it";
    if let (Ok(root), Ok(address)) = (std::env::var("GANTRY_TEST_ROOT"), std::env::var("GANTRY_TEST_HOST")) {
        let store = Store::open(root.as_ref()).unwrap();
        let client = client_with(|options| options.stall_timeout = Duration::from_secs(60));
        let _ = pull(&store, &client, &tagged(&address, "latest"), &host(), &|_| {}).await;
        return;
    }
    let sample = Sample::new(vec![layer("f", b"x"), layer("g", &crate::client::testing::noise(300_000))]);
    let server = stalling(&sample).await;
    let machine = Machine::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env("GANTRY_TEST_ROOT", machine.store.root())
        .env("GANTRY_TEST_HOST", server.host())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let small = machine.store.paths().layer_index(&sample.layers[0].diff_id);
    let asked = format!("GET /v2/team/app/blobs/{}", sample.layers[1].descriptor.digest);
    while !(small.exists() && server.lines().contains(&asked)) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::task::yield_now().await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(machine.store.root()).unwrap();
    let report = store.check(&crate::store::CheckOptions::default()).unwrap();
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert!(store.images().unwrap().0.is_empty());

    let registry = Registry::default();
    sample.put(&registry, "latest");
    let server = serve(&registry).await;
    get(&machine, &server, &tagged(&server.host(), "latest")).await.unwrap();
    let first = format!("GET /v2/team/app/blobs/{}", sample.layers[0].descriptor.digest);
    assert!(!server.lines().contains(&first), "what was complete is used");
}
