//! Content management: what is deleted stays deleted.

use common::oci::media_type::OCI_MANIFEST;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Image, World, descriptor, index, manifest};

/// deleting-tags: "Upon success, the registry MUST respond with a `202 Accepted` code." "Once deleted, a `GET` to
/// `/v2/<name>/manifests/<tag>` will return a 404." The manifest and its other tags stay.
#[tokio::test]
async fn a_deleted_tag_is_gone_and_the_manifest_stays() {
    let world = World::start().await;
    let image = world.push_image("a", "v1", b"layer").await;
    world.put_manifest("a", "v2", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    world.delete("/v2/a/manifests/v1").await.is(StatusCode::ACCEPTED);
    world.get("/v2/a/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    world.delete("/v2/a/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    world.get("/v2/a/manifests/v2").await.is(StatusCode::OK);
    world.get(&format!("/v2/a/manifests/{}", image.digest)).await.is(StatusCode::OK);
    assert_eq!(world.get("/v2/a/tags/list").await.json()["tags"], json!(["v2"]));
    world.end().await;
}

/// deleting-manifests: "Upon success, the registry MUST respond with a `202 Accepted` code." "Once deleted, a `GET` to
/// `/v2/<name>/manifests/<digest>` and any tag pointing to that digest will return a 404." Memory does not bring it
/// back, and other repositories keep theirs.
#[tokio::test]
async fn a_deleted_manifest_is_gone_with_its_tags() {
    let world = World::start().await;
    let image = world.push_image("a", "v1", b"layer").await;
    world.push_image("b", "v1", b"layer").await;
    world.put_manifest("a", "v2", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    let path = format!("/v2/a/manifests/{}", image.digest);
    world.get(&path).await.is(StatusCode::OK);
    world.delete(&path).await.is(StatusCode::ACCEPTED);
    for reference in ["v1", "v2", &image.digest.to_string()] {
        world.get(&format!("/v2/a/manifests/{reference}")).await.fails(404, "MANIFEST_UNKNOWN");
    }
    world.delete(&path).await.fails(404, "MANIFEST_UNKNOWN");
    world.get("/v2/b/manifests/v1").await.is(StatusCode::OK);

    world.put_manifest("a", "v3", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    assert_eq!(world.get(&path).await.body, image.manifest);
    world.end().await;
}

/// deleting-manifests: "If the repository does not exist, the response MUST return `404 Not Found`."
#[tokio::test]
async fn nothing_is_deleted_where_nothing_is() {
    let world = World::start().await;
    let digest = Image::new(b"x").digest;
    world.delete("/v2/none/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    world.delete(&format!("/v2/none/manifests/{digest}")).await.fails(404, "MANIFEST_UNKNOWN");
    world.delete(&format!("/v2/none/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    assert!(!world.store.root().join("repos").join("served").join("none").exists());
    world.end().await;
}

/// deleting-blobs: "Upon success, the registry MUST respond with code `202 Accepted`. If the blob is not found, a
/// `404 Not Found` code MUST be returned."
#[tokio::test]
async fn a_deleted_blob_is_gone_from_this_repository_only() {
    let world = World::start().await;
    let digest = world.push_blob("a", b"blob").await;
    world.push_blob("b", b"blob").await;
    let path = format!("/v2/a/blobs/{digest}");
    world.delete(&path).await.is(StatusCode::ACCEPTED);
    world.get(&path).await.fails(404, "BLOB_UNKNOWN");
    world.delete(&path).await.fails(404, "BLOB_UNKNOWN");
    world.get(&format!("/v2/b/blobs/{digest}")).await.is(StatusCode::OK);
    world.push_blob("a", b"blob").await;
    world.get(&path).await.is(StatusCode::OK);
    world.end().await;
}

/// A deleted referrer leaves the list of its subject; a deleted subject keeps its referrers.
#[tokio::test]
async fn a_deleted_referrer_is_no_longer_listed() {
    let world = World::start().await;
    let subject = world.push_image("a", "v1", b"layer").await;
    let mut body = manifest(b"sbom");
    body["subject"] = descriptor(OCI_MANIFEST, &subject.manifest);
    world.put_manifest("a", "sbom", OCI_MANIFEST, body.to_string().as_bytes()).await.is(StatusCode::CREATED);
    let referrers = format!("/v2/a/referrers/{}", subject.digest);
    let listed = || async { world.get(&referrers).await.json()["manifests"].as_array().unwrap().len() };

    world.delete(&format!("/v2/a/manifests/{}", subject.digest)).await.is(StatusCode::ACCEPTED);
    assert_eq!(listed().await, 1);
    let referrer = world.head("/v2/a/manifests/sbom").await.header("docker-content-digest").to_owned();
    world.delete(&format!("/v2/a/manifests/{referrer}")).await.is(StatusCode::ACCEPTED);
    assert_eq!(listed().await, 0);
    world.end().await;
}

/// Parts of an index or image may be deleted first; what is left is still served and the store is sound.
#[tokio::test]
async fn a_child_may_go_before_its_parent() {
    let world = World::start().await;
    let image = world.push_image("a", "v1", b"layer").await;
    let list = index(&[&image.manifest]).to_string();
    world
        .put_manifest("a", "all", common::oci::media_type::OCI_INDEX, list.as_bytes())
        .await
        .is(StatusCode::CREATED);
    world.delete(&format!("/v2/a/blobs/{}", image.layer)).await.is(StatusCode::ACCEPTED);
    world.delete(&format!("/v2/a/manifests/{}", image.digest)).await.is(StatusCode::ACCEPTED);
    world.get("/v2/a/manifests/all").await.is(StatusCode::OK);
    world.end().await;
}
