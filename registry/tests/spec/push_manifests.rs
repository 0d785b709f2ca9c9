//! Push: manifests.

use common::digest::Digest;
use common::oci::media_type::{
    DOCKER_MANIFEST_SCHEMA1, DOCKER_MANIFEST_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{CONFIG, Image, World, descriptor, index, manifest, noise, send, sha512};

/// pushing-manifests: "The registry MUST store the manifest in the exact byte representation provided by the client.
/// Upon a successful upload, the registry MUST return response code `201 Created`, and MUST have the following
/// header: `Location`. The `<location>` is a pullable manifest URL. The Docker-Content-Digest header … MUST be equal
/// to the client provided digest."
#[tokio::test]
async fn the_exact_bytes_come_back() {
    let world = World::start().await;
    world.push_image("a", "first", b"layer").await;
    let spaced = serde_json::to_string_pretty(&manifest(b"layer")).unwrap() + "\n \n";
    let digest = Digest::sha256(spaced.as_bytes());
    let answer = world.put_manifest("a", "v1", OCI_MANIFEST, spaced.as_bytes()).await;
    answer.is(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/a/manifests/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert!(!answer.headers.contains_key("oci-tag") && !answer.headers.contains_key("oci-subject"));
    assert_eq!(world.get(answer.header("location")).await.body, spaced.as_bytes());
    world.end().await;
}

/// "The registry SHOULD ignore parameters on the `Content-Type` header."
#[tokio::test]
async fn parameters_of_the_content_type_are_ignored() {
    let world = World::start().await;
    let image = Image::new(b"layer");
    let kind = format!("{OCI_MANIFEST}; charset=utf-8");
    world.put_manifest("a", "v1", &kind, &image.manifest).await.is(StatusCode::CREATED);
    assert_eq!(world.get("/v2/a/manifests/v1").await.header("content-type"), OCI_MANIFEST);
    world.end().await;
}

/// "Clients SHOULD set the `Content-Type` header": who does not is understood by what the document says.
#[tokio::test]
async fn without_a_content_type_the_document_decides() {
    let world = World::start().await;
    let bare = json!({ "schemaVersion": 2, "manifests": [] });
    for (body, kind) in [(manifest(b"x"), OCI_MANIFEST), (index(&[]), OCI_INDEX), (bare, OCI_INDEX)] {
        world.put("/v2/a/manifests/v1", body.to_string()).await.is(StatusCode::CREATED);
        assert_eq!(world.get("/v2/a/manifests/v1").await.header("content-type"), kind);
    }
    world.end().await;
}

/// Digests that do not fit, types that do not fit, and what is not a manifest.
#[tokio::test]
async fn what_is_not_a_manifest_is_refused() {
    let world = World::start().await;
    let good = Image::new(b"layer");
    let text = String::from_utf8(good.manifest.clone()).unwrap();
    let twice = text.replacen("{", r#"{"schemaVersion":2,"#, 1);
    let deep = format!(r#"{{"schemaVersion":2,"manifests":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    let negative = text.replace(r#""size":5"#, r#""size":-5"#);
    for (kind, body) in [
        (OCI_MANIFEST, ""),
        (OCI_MANIFEST, "{"),
        (OCI_MANIFEST, "[]"),
        (OCI_MANIFEST, r#"{"schemaVersion":1}"#),
        (OCI_MANIFEST, r#"{"schemaVersion":2}"#),
        (OCI_MANIFEST, &twice),
        (OCI_INDEX, &deep),
        (OCI_INDEX, &text),
        (OCI_INDEX, both),
        (OCI_MANIFEST, &negative),
        ("text/html", &text),
        ("application/json", &text),
    ] {
        world.put_manifest("a", "v1", kind, body.as_bytes()).await.fails(400, "MANIFEST_INVALID");
    }
    let other = Digest::sha256(b"other").to_string();
    world.put_manifest("a", &other, OCI_MANIFEST, &good.manifest).await.fails(400, "DIGEST_INVALID");
    world
        .put_manifest("a", "sha256:baddigeststring", OCI_MANIFEST, &good.manifest)
        .await
        .fails(400, "DIGEST_INVALID");
    world.put_manifest("a", ".tag", OCI_MANIFEST, &good.manifest).await.fails(400, "MANIFEST_INVALID");
    let tags = format!("{}?tag=good&tag=.bad", good.digest);
    world.put_manifest("a", &tags, OCI_MANIFEST, &good.manifest).await.fails(400, "MANIFEST_INVALID");
    world.get("/v2/a/tags/list").await.fails(404, "NAME_UNKNOWN");
    world.end().await;
}

/// Docker's first format is refused with what to do instead.
#[tokio::test]
async fn schema_one_is_refused_with_the_remedy() {
    let world = World::start().await;
    for kind in [DOCKER_MANIFEST_SCHEMA1, DOCKER_MANIFEST_SCHEMA1_SIGNED] {
        let answer = world.put_manifest("a", "v1", kind, br#"{"schemaVersion":1}"#).await;
        answer.fails(400, "MANIFEST_INVALID");
        assert!(
            answer.json()["errors"][0]["message"].as_str().unwrap().contains("skopeo copy --format v2s2")
        );
    }
    world.end().await;
}

/// "A registry that enforces this limit SHOULD respond … with a response code `413 Payload Too Large`. Client and
/// registry implementations SHOULD expect to be able to support manifest pushes of at least 4 megabytes."
#[tokio::test]
async fn four_mebibytes_are_taken_and_one_byte_more_is_413() {
    let world = World::start().await;
    let mut body = index(&[]).to_string().into_bytes();
    body.resize(4 << 20, b' ');
    world.put_manifest("a", "v1", OCI_INDEX, &body).await.is(StatusCode::CREATED);
    assert!(world.get("/v2/a/manifests/v1").await.body == body);
    body.push(b' ');
    world.put_manifest("a", "v2", OCI_INDEX, &body).await.fails(413, "SIZE_INVALID");
    // The same when its length was not announced.
    let frames = futures_util::stream::iter(
        body.chunks(100_000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let request = world.request(Method::PUT, "/v2/a/manifests/v2").header("content-type", OCI_INDEX);
    if let Ok(response) = request.body(reqwest::Body::wrap_stream(frames)).send().await {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    world.get("/v2/a/manifests/v2").await.fails(404, "MANIFEST_UNKNOWN");
    world.end().await;
}

/// pushing-manifests: "the registry MAY support the pushing of tags specified by addition of `tag` query parameters";
/// it "MUST include an `OCI-Tag` response header … for each accepted tag", "SHOULD support pushing at least 10 tags".
#[tokio::test]
async fn a_push_by_digest_sets_the_tags_of_its_query() {
    let world = World::start().await;
    let image = Image::new(b"layer");
    let tags: Vec<String> = (0..20).map(|n| format!("v{n:02}")).collect();
    let query = tags.join("&tag=");
    let reference = format!("{}?tag={query}", image.digest);
    let answer = world.put_manifest("a", &reference, OCI_MANIFEST, &image.manifest).await;
    answer.is(StatusCode::CREATED);
    let set: Vec<_> = answer.headers.get_all("oci-tag").iter().map(|tag| tag.to_str().unwrap()).collect();
    assert_eq!(set, tags);
    assert_eq!(world.get("/v2/a/tags/list").await.json()["tags"], json!(tags));
    for tag in tags {
        assert_eq!(world.get(&format!("/v2/a/manifests/{tag}")).await.body, image.manifest);
    }
    world.end().await;
}

/// sha512 names manifests too, and its tags come by query.
#[tokio::test]
async fn a_manifest_by_sha512() {
    let world = World::start().await;
    let image = Image::new(b"layer");
    let digest = sha512(&image.manifest);
    let reference = format!("{digest}?tag=v1");
    let answer = world.put_manifest("a", &reference, OCI_MANIFEST, &image.manifest).await;
    answer.is(StatusCode::CREATED);
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    let answer = world.get("/v2/a/manifests/v1").await;
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(answer.body, image.manifest);
    world.end().await;
}

/// pushing-manifests-with-subject: "MUST respond with the response header `OCI-Subject: <subject digest>`"; push: "A
/// registry MUST initially accept an otherwise valid manifest with a `subject` field that references a manifest that
/// does not exist in the repository".
#[tokio::test]
async fn a_subject_is_acknowledged_whether_it_exists_or_not() {
    let world = World::start().await;
    let image = Image::new(b"layer");
    let mut body = manifest(b"sbom");
    body["subject"] = descriptor(OCI_MANIFEST, &image.manifest);
    let answer = world.put_manifest("a", "sbom", OCI_MANIFEST, body.to_string().as_bytes()).await;
    answer.is(StatusCode::CREATED);
    assert_eq!(answer.header("oci-subject"), image.digest.to_string());
    world.end().await;
}

/// push: "A registry MAY reject a manifest … with descriptors in other fields that reference a manifest or blob that
/// does not exist in the registry. When a manifest is rejected for this reason, it MUST result in one or more
/// `MANIFEST_BLOB_UNKNOWN` errors". By default it is accepted.
#[tokio::test]
async fn absent_children_are_accepted_or_refused_as_configured() {
    let world = World::start().await;
    let image = Image::new(b"absent");
    world.put_manifest("a", "v1", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    let sparse = index(&[&image.manifest, b"absent manifest"]).to_string();
    world.put_manifest("a", "v2", OCI_INDEX, sparse.as_bytes()).await.is(StatusCode::CREATED);
    world.end().await;

    let world = World::start_with(|options, _| options.refuse_absent_children = true).await;
    // What another repository holds is as absent as what nobody has.
    world.push_blob("b", CONFIG).await;
    world.push_blob("b", b"absent").await;
    world.push_blob("a", CONFIG).await;
    let answer = world.put_manifest("a", "v1", OCI_MANIFEST, &image.manifest).await;
    answer.fails(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(answer.json()["errors"][0]["detail"], json!([image.layer]));
    world.put_manifest("a", "v2", OCI_INDEX, sparse.as_bytes()).await.fails(404, "MANIFEST_BLOB_UNKNOWN");
    world.push_blob("a", b"absent").await;
    world.put_manifest("a", "v1", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    let whole = index(&[&image.manifest]).to_string();
    world.put_manifest("a", "v2", OCI_INDEX, whole.as_bytes()).await.is(StatusCode::CREATED);
    world.end().await;
}

/// A manifest never makes a blob readable.
#[tokio::test]
async fn a_manifest_gives_no_access_to_what_it_names() {
    let world = World::start().await;
    let secret = world.push_blob("private", b"secret").await;
    let image = Image::new(b"secret");
    world.put_manifest("public", "v1", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    world.get(&format!("/v2/public/blobs/{secret}")).await.fails(404, "BLOB_UNKNOWN");
    world.end().await;
}

/// A child's size is part of what is signed; a wrong one breaks every client that checks it.
#[tokio::test]
async fn a_wrong_size_of_a_child_is_refused() {
    let world = World::start().await;
    world.push_blob("a", CONFIG).await;
    world.push_blob("a", b"layer").await;
    let mut body = manifest(b"layer");
    body["layers"][0]["size"] = json!(6);
    let answer = world.put_manifest("a", "v1", OCI_MANIFEST, body.to_string().as_bytes()).await;
    answer.fails(400, "MANIFEST_INVALID");
    world.end().await;
}

/// Layers that are not to be distributed need not be here.
#[tokio::test]
async fn layers_from_elsewhere_are_no_absent_children() {
    let world = World::start_with(|options, _| options.refuse_absent_children = true).await;
    world.push_blob("a", CONFIG).await;
    let mut body = manifest(b"elsewhere");
    body["layers"][0]["urls"] = json!(["https://example.com/layer"]);
    world.put_manifest("a", "v1", OCI_MANIFEST, body.to_string().as_bytes()).await.is(StatusCode::CREATED);
    world.end().await;
}

/// Concurrent pushes of one tag: the last one wins whole, and every manifest stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_pushed_by_many_at_once_names_one_of_them() {
    let world = World::start().await;
    let images: Vec<_> = (0..16).map(|n| Image::new(&noise(n, 10))).collect();
    let pushes = images.iter().map(|image| world.put_manifest("a", "latest", OCI_MANIFEST, &image.manifest));
    for answer in futures_util::future::join_all(pushes).await {
        answer.is(StatusCode::CREATED);
    }
    let tagged = world.get("/v2/a/manifests/latest").await.body;
    assert!(images.iter().any(|image| image.manifest == tagged));
    for image in &images {
        world.get(&format!("/v2/a/manifests/{}", image.digest)).await.is(StatusCode::OK);
    }
    world.end().await;
}

/// A tag that moves is seen at once.
#[tokio::test]
async fn a_moved_tag_answers_with_the_new_manifest() {
    let world = World::start().await;
    for n in 0..3 {
        let image = world.push_image("a", "latest", &noise(n, 10)).await;
        assert_eq!(world.get("/v2/a/manifests/latest").await.body, image.manifest);
    }
    let request = world.request(Method::PUT, "/v2/a/manifests/latest").header("content-type", OCI_INDEX);
    send(request.body(index(&[]).to_string())).await.is(StatusCode::CREATED);
    assert_eq!(world.get("/v2/a/manifests/latest").await.header("content-type"), OCI_INDEX);
    world.end().await;
}
