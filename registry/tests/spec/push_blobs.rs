//! Push: blobs, whole, in chunks, and by mount.

use common::digest::Digest;
use common::store::UploadId;
use reqwest::{Method, StatusCode};

use crate::support::{World, noise, send, sha512};

async fn check_held(world: &World, name: &str, bytes: &[u8]) {
    let answer = world.get(&format!("/v2/{name}/blobs/{}", Digest::sha256(bytes))).await;
    answer.is(StatusCode::OK);
    assert!(answer.body == bytes);
}

fn id_of(location: &str) -> UploadId {
    location.rsplit('/').next().unwrap().parse().unwrap()
}

/// post-then-put: "Upon success, the response MUST have a code of `202 Accepted`, and MUST include the following
/// header: `Location`"; "the response MUST have code `201 Created` and MUST have the following header: `Location`.
/// With `<blob-location>` being a pullable blob URL."
#[tokio::test]
async fn post_then_put() {
    let world = World::start().await;
    let location = world.begin("a/b").await;
    assert!(
        location.starts_with("/v2/a/b/blobs/uploads/"),
        "relative, so that it holds behind any proxy: {location}"
    );
    let id = location.rsplit('/').next().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "128 bits: {id}");

    let digest = Digest::sha256(b"blob");
    let answer = world.put(&format!("{location}?digest={digest}"), *b"blob").await;
    answer.is(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    check_held(&world, "a/b", b"blob").await;
    world.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.end().await;
}

/// single-post: "Successful completion of the request MUST return a `201 Created` and MUST include the following
/// header: `Location`."
#[tokio::test]
async fn single_post() {
    let world = World::start().await;
    let digest = Digest::sha256(b"blob");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let answer = send(world.request(Method::POST, &path).body("blob")).await;
    answer.is(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/a/blobs/{digest}"));
    check_held(&world, "a", b"blob").await;
    send(world.request(Method::POST, &path).body("other")).await.fails(400, "DIGEST_INVALID");
    world.end().await;
}

/// pushing-blobs: "if the client provided digest is invalid or uses an unsupported algorithm, the registry SHOULD
/// respond with a response code `400 Bad Request`."
#[tokio::test]
async fn invalid_and_unsupported_digests_are_400() {
    let world = World::start().await;
    for digest in ["sha256:baddigeststring", "md5:d41d8cd98f00b204e9800998ecf8427e", "", "sha256:../../x"] {
        let location = world.begin("a").await;
        world.put(&format!("{location}?digest={digest}"), "blob").await.fails(400, "DIGEST_INVALID");
        world.post(&format!("/v2/a/blobs/uploads/?digest={digest}")).await.fails(400, "DIGEST_INVALID");
        world.post(&format!("/v2/a/blobs/uploads/?mount={digest}")).await.fails(400, "DIGEST_INVALID");
    }
    let location = world.begin("a").await;
    world.put(&location, "blob").await.fails(400, "DIGEST_INVALID");
    world.post("/v2/a/blobs/uploads/?digest-algorithm=md5").await.fails(400, "DIGEST_INVALID");
    world.end().await;
}

/// single-post: "the `<digest>` MUST match the blob's digest".
#[tokio::test]
async fn other_bytes_than_announced_never_become_a_blob() {
    let world = World::start().await;
    let digest = Digest::sha256(b"announced");
    let location = world.begin("a").await;
    let answer = world.put(&format!("{location}?digest={digest}"), "sent").await;
    answer.fails(400, "DIGEST_INVALID");
    let detail = &answer.json()["errors"][0]["detail"];
    assert_eq!(detail["expected"], digest.to_string());
    assert_eq!(detail["actual"], Digest::sha256(b"sent").to_string());
    for bytes in [&b"announced"[..], b"sent"] {
        assert_eq!(
            world.head(&format!("/v2/a/blobs/{}", Digest::sha256(bytes))).await.status,
            StatusCode::NOT_FOUND
        );
    }
    world.end().await;
}

/// pushing-a-blob-in-chunks: "The response for each successful chunk upload MUST be `202 Accepted`, and MUST have
/// the following headers: `Location`, `Range: 0-<end-of-range>`."
#[tokio::test]
async fn chunks_then_an_empty_put() {
    let world = World::start().await;
    let blob = noise(2, 2_500_000);
    let mut location = world.begin("a").await;
    for start in [0, 1_000_000, 2_000_000] {
        let end = (start + 1_000_000).min(blob.len());
        let answer = world.patch(&location, start, &blob[start..end]).await;
        answer.is(StatusCode::ACCEPTED);
        assert_eq!(answer.header("range"), format!("0-{}", end - 1));
        location = answer.header("location").to_owned();
    }
    let digest = Digest::sha256(&blob);
    world.put(&format!("{location}?digest={digest}"), "").await.is(StatusCode::CREATED);
    check_held(&world, "a", &blob).await;
    world.end().await;
}

/// pushing-a-blob-in-chunks: "The final chunk MAY be uploaded using a `PATCH` request or it MAY be uploaded in the
/// closing `PUT` request."
#[tokio::test]
async fn the_last_chunk_may_come_with_the_put() {
    let world = World::start().await;
    let location = world.begin("a").await;
    world.patch(&location, 0, b"first ").await.is(StatusCode::ACCEPTED);
    let path = format!("{location}?digest={}", Digest::sha256(b"first last"));
    let put =
        |range: &'static str| world.request(Method::PUT, &path).header("content-range", range).body("last");
    send(put("5-8")).await.fails(416, "BLOB_UPLOAD_INVALID");
    send(put("6-9")).await.is(StatusCode::CREATED);
    check_held(&world, "a", b"first last").await;
    world.end().await;
}

/// Docker and podman send one body of unknown length, without a range.
#[tokio::test]
async fn a_stream_without_range_goes_on_where_the_upload_is() {
    let world = World::start().await;
    let location = world.begin("a").await;
    for part in ["one ", "two"] {
        let frames = futures_util::stream::iter(part.bytes().map(|b| Ok::<_, std::io::Error>(vec![b])));
        let body = reqwest::Body::wrap_stream(frames);
        send(world.request(Method::PATCH, &location).body(body)).await.is(StatusCode::ACCEPTED);
    }
    world.put(&format!("{location}?digest={}", Digest::sha256(b"one two")), "").await.is(StatusCode::CREATED);
    check_held(&world, "a", b"one two").await;
    world.end().await;
}

/// pushing-a-blob-in-chunks: "If a chunk is uploaded out of order, the registry MUST respond with a
/// `416 Requested Range Not Satisfiable` code. A GET request may be used to retrieve the current valid offset and
/// upload location." "The response to an active upload MUST be a `204 No Content`".
#[tokio::test]
async fn a_chunk_out_of_order_is_416_and_leaves_the_session_intact() {
    let world = World::start().await;
    let location = world.begin("a").await;
    world.patch(&location, 5, b"later").await.fails(416, "BLOB_UPLOAD_INVALID");
    world.patch(&location, 0, b"first").await.is(StatusCode::ACCEPTED);
    for start in [0, 4, 6, 1000] {
        let answer = world.patch(&location, start, b"wrong").await;
        answer.fails(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(answer.header("range"), "0-4");
        assert_eq!(answer.header("location"), location);
    }
    let answer = world.get(&location).await;
    answer.is(StatusCode::NO_CONTENT);
    assert_eq!(answer.header("range"), "0-4");
    assert_eq!(answer.header("location"), location);

    world.patch(&location, 5, b"second").await.is(StatusCode::ACCEPTED);
    world
        .put(&format!("{location}?digest={}", Digest::sha256(b"firstsecond")), "")
        .await
        .is(StatusCode::CREATED);
    check_held(&world, "a", b"firstsecond").await;
    world.end().await;
}

/// pushing-a-blob-in-chunks: the range "MUST match the following regular expression: `^[0-9]+-[0-9]+$`".
#[tokio::test]
async fn a_malformed_range_is_refused_before_a_byte_is_taken() {
    let world = World::start().await;
    let location = world.begin("a").await;
    for range in ["", "0", "0-", "-4", "4-0", "bytes 0-4/5", "0-18446744073709551615", "x-y"] {
        let request = world.request(Method::PATCH, &location).header("content-range", range).body("01234");
        send(request).await.fails(400, "BLOB_UPLOAD_INVALID");
    }
    assert_eq!(world.store.upload(&id_of(&location)).unwrap().unwrap().offset, 0);
    world.end().await;
}

/// single-post: "The `Content-Length` header MUST match the blob's actual content length"; the same holds for ranges.
/// The upload tells what it has and goes on.
#[tokio::test]
async fn a_body_of_another_length_than_its_range_is_refused() {
    let world = World::start().await;
    for (range, body) in [("0-9", "short"), ("0-3", "too long")] {
        let location = world.begin("a").await;
        let request = world.request(Method::PATCH, &location).header("content-range", range).body(body);
        send(request).await.fails(400, "SIZE_INVALID");
        let offset = world.store.upload(&id_of(&location)).unwrap().unwrap().offset as usize;
        assert!(offset <= body.len(), "{offset}");
        let put = format!("{location}?digest={}", Digest::sha256(body.as_bytes()));
        world.put(&put, &body.as_bytes()[offset..]).await.is(StatusCode::CREATED);
        check_held(&world, "a", body.as_bytes()).await;
    }
    world.end().await;
}

/// cancel-a-blob-upload: "If successful, the response SHOULD be a `204 No Content`".
#[tokio::test]
async fn a_cancelled_upload_is_gone() {
    let world = World::start().await;
    let location = world.begin("a").await;
    world.patch(&location, 0, b"bytes").await.is(StatusCode::ACCEPTED);
    world.delete(&location).await.is(StatusCode::NO_CONTENT);
    world.delete(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.patch(&location, 5, b"more").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(std::fs::read_dir(world.store.root().join("uploads")).unwrap().count(), 0);
    world.end().await;
}

/// A session belongs to the repository that it was begun in.
#[tokio::test]
async fn a_session_of_another_repository_does_not_exist() {
    let world = World::start().await;
    let location = world.begin("a").await;
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    world.get(&elsewhere).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.patch(&elsewhere, 0, b"x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    let put = format!("{elsewhere}?digest={}", Digest::sha256(b"x"));
    world.put(&put, "x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.delete(&elsewhere).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.get(&location).await.is(StatusCode::NO_CONTENT);
    for id in ["x", "..", "%2e%2e", &"0".repeat(32), &"g".repeat(32)] {
        world.get(&format!("/v2/a/blobs/uploads/{id}x")).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    }
    world.end().await;
}

/// What was taken in stays for a resumption, also by the next process.
#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let world = World::start().await;
    let location = world.begin("a").await;
    let blob = noise(3, 1_500_000);
    world.patch(&location, 0, &blob[..1_200_000]).await.is(StatusCode::ACCEPTED);
    let stopped = world.stop().await;

    let world = World::start_in(stopped.folder, |_, _| {}).await;
    assert_eq!(world.get(&location).await.header("range"), "0-1199999");
    world.patch(&location, 1_200_000, &blob[1_200_000..]).await.is(StatusCode::ACCEPTED);
    world.put(&format!("{location}?digest={}", Digest::sha256(&blob)), "").await.is(StatusCode::CREATED);
    check_held(&world, "a", &blob).await;
    world.end().await;
}

/// mounting-a-blob-from-another-repository: "The response to a successful mount MUST be `201 Created`, and MUST
/// contain the following header: `Location`."
#[tokio::test]
async fn a_blob_is_mounted_from_another_repository() {
    let world = World::start().await;
    let digest = world.push_blob("from/here", b"blob").await;
    let answer = world.post(&format!("/v2/to/there/blobs/uploads/?mount={digest}&from=from/here")).await;
    answer.is(StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/to/there/blobs/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    check_held(&world, "to/there", b"blob").await;
    world.end().await;
}

/// "The registry MAY treat the `from` parameter as optional, and it MAY cross-mount the blob if it can be found."
#[tokio::test]
async fn a_mount_without_source_finds_the_holder() {
    let world = World::start().await;
    let digest = world.push_blob("from", b"blob").await;
    world.post(&format!("/v2/to/blobs/uploads/?mount={digest}")).await.is(StatusCode::CREATED);
    check_held(&world, "to", b"blob").await;
    world.end().await;
}

/// "if a registry … is unable to mount the requested blob, it SHOULD return a `202`. This indicates that the upload
/// session has begun and that the client MAY proceed with the upload."
#[tokio::test]
async fn a_mount_of_what_the_source_does_not_hold_becomes_an_upload() {
    let world = World::start().await;
    let digest = world.push_blob("third", b"blob").await;
    for query in [
        format!("mount={digest}&from=second"),
        format!("mount={digest}&from=Not/A/Name"),
        format!("mount={}", Digest::sha256(b"unknown")),
    ] {
        let answer = world.post(&format!("/v2/first/blobs/uploads/?{query}")).await;
        answer.is(StatusCode::ACCEPTED);
        let location = answer.header("location").to_owned();
        assert_eq!(world.head(&format!("/v2/first/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
        world.delete(&location).await.is(StatusCode::NO_CONTENT);
    }
    world.end().await;
}

/// A blob that was taken out of a repository cannot be mounted from there.
#[tokio::test]
async fn a_deleted_blob_cannot_be_mounted() {
    let world = World::start().await;
    let digest = world.push_blob("from", b"blob").await;
    world.delete(&format!("/v2/from/blobs/{digest}")).await.is(StatusCode::ACCEPTED);
    for from in ["", "&from=from"] {
        let path = format!("/v2/to/blobs/uploads/?mount={digest}{from}");
        world.post(&path).await.is(StatusCode::ACCEPTED);
    }
    world.end().await;
}

/// pushing-a-blob-in-chunks: "When pushing a blob with a digest algorithm other than `sha256`, the post request
/// SHOULD include the `digest-algorithm` parameter"; who forgets it is served too.
#[tokio::test]
async fn sha512_with_and_without_notice() {
    let world = World::start().await;
    for (query, blob) in
        [("?digest-algorithm=sha512", b"one"), ("", b"two"), ("?digest-algorithm=sha256", b"six")]
    {
        let answer = world.post(&format!("/v2/a/blobs/uploads/{query}")).await;
        let location = answer.is(StatusCode::ACCEPTED).header("location").to_owned();
        world.patch(&location, 0, &blob[..2]).await.is(StatusCode::ACCEPTED);
        let digest = sha512(blob);
        let answer = world.put(&format!("{location}?digest={digest}"), &blob[2..]).await;
        answer.is(StatusCode::CREATED);
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        assert_eq!(world.get(&format!("/v2/a/blobs/{digest}")).await.body, blob);
        let other = Digest::sha256(blob);
        assert_eq!(world.head(&format!("/v2/a/blobs/{other}")).await.status, StatusCode::NOT_FOUND);
    }
    world.end().await;
}

/// "If process A and B upload the same layer at the same time, both operations will proceed".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_blob_pushed_by_many_at_once() {
    let world = World::start().await;
    let blob = noise(4, 700_000);
    let pushes = (0..16).map(|n| {
        let (world, blob) = (&world, &blob);
        async move { world.push_blob(if n % 2 == 0 { "a" } else { "b" }, blob).await }
    });
    futures_util::future::join_all(pushes).await;
    check_held(&world, "a", &blob).await;
    check_held(&world, "b", &blob).await;
    world.end().await;
}

/// A blob that the disk has damaged comes again by a push, once a check has removed it.
#[tokio::test]
async fn a_damaged_blob_is_healed_by_a_push() {
    let world = World::start().await;
    let digest = world.push_blob("a", b"0123456789").await;
    let path = world.store.paths().blob(&digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"012345678X").unwrap();
    let options = common::store::CheckOptions { remove_damaged: true, ..Default::default() };
    assert_eq!(world.store.check(&options).unwrap().faults.len(), 1);
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(world.head(&blob).await.status, StatusCode::NOT_FOUND, "else nobody pushes it");
    world.push_blob("a", b"0123456789").await;
    assert_eq!(world.get(&blob).await.body, b"0123456789");
    world.end().await;
}
