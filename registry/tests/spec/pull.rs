//! Pull: manifests, blobs, and whether they exist.

use common::oci::media_type::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_MANIFEST};
use reqwest::{Method, StatusCode};

use crate::support::{Answer, Image, World, noise, send};

async fn get_range(world: &World, path: &str, range: &str) -> Answer {
    send(world.request(Method::GET, path).header("range", range)).await
}

/// pulling-manifests: "A GET request to an existing manifest URL MUST provide the expected manifest, with a response
/// code that MUST be `200 OK`. A successful response MUST contain the digest of the uploaded blob in the header
/// `Docker-Content-Digest`."
#[tokio::test]
async fn a_manifest_comes_back_by_tag_and_by_digest() {
    let world = World::start().await;
    let image = world.push_image("a/b", "v1", b"layer").await;
    for _again_from_memory in 0..2 {
        for reference in ["v1".to_owned(), image.digest.to_string()] {
            let answer = world.get(&format!("/v2/a/b/manifests/{reference}")).await;
            answer.is(StatusCode::OK);
            assert_eq!(answer.body, image.manifest);
            assert_eq!(answer.header("docker-content-digest"), image.digest.to_string());
            assert_eq!(answer.header("content-type"), OCI_MANIFEST);
            assert_eq!(answer.header("content-length"), image.manifest.len().to_string());
        }
    }
    world.end().await;
}

/// pulling-manifests: "The `Content-Type` header SHOULD match what the client pushed as the manifest's
/// `Content-Type`", also for Docker's types, also when the client only accepts others: digests would change.
#[tokio::test]
async fn docker_manifests_come_back_verbatim_whatever_is_accepted() {
    let world = World::start().await;
    let text = String::from_utf8(Image::new(b"x").manifest).unwrap();
    let manifest = text.replace(OCI_MANIFEST, DOCKER_MANIFEST);
    let list = format!(r#"{{"schemaVersion":2,  "mediaType":"{DOCKER_MANIFEST_LIST}","manifests":[]}}"#);
    for (kind, body) in [(DOCKER_MANIFEST, &manifest), (DOCKER_MANIFEST_LIST, &list)] {
        world.put_manifest("a", "t", kind, body.as_bytes()).await.is(StatusCode::CREATED);
        let answer =
            send(world.request(Method::GET, "/v2/a/manifests/t").header("accept", OCI_MANIFEST)).await;
        answer.is(StatusCode::OK);
        assert_eq!(answer.header("content-type"), kind);
        assert_eq!(answer.body, body.as_bytes());
    }
    world.end().await;
}

/// pulling-manifests: "If the manifest is not found in the repository, the response code MUST be `404 Not Found`."
#[tokio::test]
async fn a_manifest_of_another_repository_is_404() {
    let world = World::start().await;
    let image = world.push_image("a", "v1", b"layer").await;
    for path in [
        "/v2/b/manifests/v1".to_owned(),
        format!("/v2/b/manifests/{}", image.digest),
        "/v2/a/manifests/v2".into(),
    ] {
        world.get(&path).await.fails(404, "MANIFEST_UNKNOWN");
        assert_eq!(world.head(&path).await.status, StatusCode::NOT_FOUND);
    }
    world.end().await;
}

/// pulling-manifests: "The `<tag-or-digest>` MUST NOT be in any other format."
#[tokio::test]
async fn what_is_neither_tag_nor_digest_is_not_found() {
    let world = World::start().await;
    world.get("/v2/a/manifests/.hidden").await.fails(404, "MANIFEST_UNKNOWN");
    world.get(&format!("/v2/a/manifests/{}", "t".repeat(129))).await.fails(404, "MANIFEST_UNKNOWN");
    world.get("/v2/a/manifests/sha256:00").await.fails(400, "DIGEST_INVALID");
    world.get("/v2/a/manifests/md5:d41d8cd98f00b204e9800998ecf8427e").await.fails(400, "DIGEST_INVALID");
    world.end().await;
}

/// pulling-blobs: "A GET request to an existing blob URL MUST provide the expected blob, with a response code that
/// MUST be `200 OK`. A successful response MUST contain the digest".
#[tokio::test]
async fn a_blob_comes_back_whole_whatever_its_size() {
    let world = World::start().await;
    for size_bytes in [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3_000_000] {
        let blob = noise(size_bytes as u64, size_bytes);
        let digest = world.push_blob("a", &blob).await;
        let answer = world.get(&format!("/v2/a/blobs/{digest}")).await;
        answer.is(StatusCode::OK);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_eq!(answer.header("content-length"), size_bytes.to_string());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert!(answer.body == blob, "{size_bytes}");
    }
    world.end().await;
}

/// pulling-blobs: "If the blob is not found in the repository, the response code MUST be `404 Not Found`", and
/// nothing tells one that others hold from one that nobody has.
#[tokio::test]
async fn a_blob_of_another_repository_is_as_unknown_as_any() {
    let world = World::start().await;
    let known = world.push_blob("a", b"secret").await;
    let unknown = common::digest::Digest::sha256(b"never seen");
    let [known, unknown] =
        [known, unknown].map(|digest| (format!("/v2/b/blobs/{digest}"), digest.to_string()));
    let mut answers = Vec::new();
    for (path, digest) in [&known, &unknown] {
        let answer = world.get(path).await;
        answer.fails(404, "BLOB_UNKNOWN");
        answers.push(String::from_utf8_lossy(&answer.body).replace(digest, ""));
        assert_eq!(world.head(path).await.status, StatusCode::NOT_FOUND);
        world.delete(path).await.fails(404, "BLOB_UNKNOWN");
    }
    assert_eq!(answers[0], answers[1]);
    world.end().await;
}

/// pulling-blobs: "A registry SHOULD support the `Range` request header in accordance with RFC 9110".
#[tokio::test]
async fn ranges_of_a_blob() {
    let world = World::start().await;
    let blob = noise(1, 1_000_000);
    let path = format!("/v2/a/blobs/{}", world.push_blob("a", &blob).await);
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=500-1499", 500, 1500),
        ("bytes=300000-", 300_000, 1_000_000),
        ("bytes=-500", 999_500, 1_000_000),
        ("bytes=999999-99999999999999999999", 999_999, 1_000_000),
    ] {
        let answer = get_range(&world, &path, range).await;
        answer.is(StatusCode::PARTIAL_CONTENT);
        assert!(answer.body == blob[start..end], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/1000000", end - 1));
        assert_eq!(answer.header("content-length"), (end - start).to_string());
    }
    for range in ["bytes=1000000-", "bytes=500-0", "bytes=-0"] {
        let answer = get_range(&world, &path, range).await;
        answer.fails(416, "SIZE_INVALID");
        assert_eq!(answer.header("content-range"), "bytes */1000000");
    }
    for range in ["bytes=0-1,5-6", "items=0-1", "nonsense"] {
        let answer = get_range(&world, &path, range).await;
        answer.is(StatusCode::OK);
        assert!(answer.body == blob, "{range}");
    }
    world.end().await;
}

/// A blob never changes, so its digest is its ETag: who has it gets it no second time, and a part of other bytes is not
/// mixed with it.
#[tokio::test]
async fn conditions_on_a_blob() {
    let world = World::start().await;
    let digest = world.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    let ask = async |method: Method, headers: &[(&str, &str)]| {
        let request = world.request(method, &path);
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };
    for held in [&etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = ask(method, &[("if-none-match", held)]).await;
            answer.is(StatusCode::NOT_MODIFIED);
            assert_eq!(answer.header("etag"), etag);
            assert!(answer.body.is_empty());
        }
    }
    ask(Method::GET, &[("if-none-match", "\"x\"")]).await.is(StatusCode::OK);
    let part = [("range", "bytes=2-3"), ("if-range", &*etag)];
    ask(Method::GET, &part).await.is(StatusCode::PARTIAL_CONTENT);
    for other in ["\"x\"", &format!("W/{etag}"), "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let answer = ask(Method::GET, &[("range", "bytes=2-3"), ("if-range", other)]).await;
        answer.is(StatusCode::OK);
        assert_eq!(answer.body, b"0123456789");
    }
    world.end().await;
}

/// What a tag leads to is held when the digest is the same.
#[tokio::test]
async fn conditions_on_a_manifest() {
    let world = World::start().await;
    let image = world.push_image("a", "v1", b"layer").await;
    let etag = format!("\"{}\"", image.digest);
    for reference in ["v1", &image.digest.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        for method in [Method::GET, Method::HEAD] {
            let answer = send(world.request(method.clone(), &path).header("if-none-match", &etag)).await;
            answer.is(StatusCode::NOT_MODIFIED);
            assert_eq!(answer.header("etag"), etag);
            assert!(answer.body.is_empty());
            let answer = send(world.request(method, &path).header("if-none-match", "\"other\"")).await;
            answer.is(StatusCode::OK);
        }
    }
    world.end().await;
}

/// checking-if-content-exists-in-the-registry: "A HEAD request to an existing blob or manifest URL MUST return
/// `200 OK`. A successful response MUST contain the digest … MUST contain the size in bytes … in the header
/// `Content-Length`."
#[tokio::test]
async fn head_tells_digest_and_size() {
    let world = World::start().await;
    let image = world.push_image("a", "v1", b"some layer").await;
    for (path, digest, size_bytes) in [
        (format!("/v2/a/blobs/{}", image.layer), &image.layer, 10),
        ("/v2/a/manifests/v1".to_owned(), &image.digest, image.manifest.len()),
        (format!("/v2/a/manifests/{}", image.digest), &image.digest, image.manifest.len()),
    ] {
        let answer = world.head(&path).await;
        answer.is(StatusCode::OK);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_eq!(answer.header("content-length"), size_bytes.to_string());
        assert!(answer.body.is_empty());
    }
    world.end().await;
}

/// pulling-manifests: "An attempt to pull a nonexistent repository MUST return response code `404 Not Found`."
#[tokio::test]
async fn a_repository_that_does_not_exist_is_404() {
    let world = World::start().await;
    world.get("/v2/no/such/manifests/latest").await.fails(404, "MANIFEST_UNKNOWN");
    world.get("/v2/no/such/tags/list").await.fails(404, "NAME_UNKNOWN");
    world.push_image("no/such/one", "v1", b"x").await;
    world.get("/v2/no/such/tags/list").await.fails(404, "NAME_UNKNOWN");
    world.end().await;
}

/// registry-proxying: "A registry MAY choose to ignore the `ns` query parameter."
#[tokio::test]
async fn the_namespace_of_a_mirror_is_ignored() {
    let world = World::start().await;
    let image = world.push_image("library/a", "v1", b"x").await;
    world.get("/v2/library/a/manifests/v1?ns=docker.io").await.is(StatusCode::OK);
    world.get(&format!("/v2/library/a/blobs/{}?ns=docker.io", image.layer)).await.is(StatusCode::OK);
    world.end().await;
}
