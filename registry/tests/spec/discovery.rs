//! Content discovery: tags, referrers, and docker's catalog.

use common::digest::Digest;
use common::oci::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Image, World, descriptor, index, manifest};

/// Walks a listing by its links and answers all entries under `key`, page by page.
async fn walk(world: &World, first: &str, key: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(path) = next {
        assert!(pages.len() < 100, "the walk does not end");
        let answer = world.get(&path).await;
        answer.is(StatusCode::OK);
        pages.push(answer.json()[key].as_array().unwrap().clone());
        next = answer.next_page();
    }
    pages
}

async fn tagged(names: &[&str]) -> World {
    let world = World::start().await;
    let image = Image::new(b"layer");
    for name in names {
        world.put_manifest("a/b", name, OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    }
    world
}

/// listing-tags: "the response MUST be a json body in the following format"; "the tags MUST be in lexical … or
/// "ASCIIbetical" order".
#[tokio::test]
async fn tags_are_listed_in_ascii_order() {
    let world = tagged(&["b", "a", "B", "_x", "10", "9"]).await;
    let answer = world.get("/v2/a/b/tags/list").await;
    answer.is(StatusCode::OK);
    assert_eq!(answer.json(), json!({ "name": "a/b", "tags": ["10", "9", "B", "_x", "a", "b"] }));
    assert_eq!(answer.next_page(), None);
    world.end().await;
}

/// listing-tags: "the response MUST include `<int>` results"; "If included, the `Link` header MUST be set … with the
/// Relation Type `rel="next"`"; "`<tagname>` will not be included in the results, but up to `<int>` tags *after*
/// `<tagname>` will be returned."
#[tokio::test]
async fn tags_come_in_pages() {
    let world = tagged(&["a", "b", "c", "d", "e"]).await;
    let pages = walk(&world, "/v2/a/b/tags/list?n=2", "tags").await;
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    for (query, expected) in [
        ("n=2&last=b", vec!["c", "d"]),
        ("last=c", vec!["d", "e"]),
        ("last=bb", vec!["c", "d", "e"]),
        ("last=z", vec![]),
        ("n=5", vec!["a", "b", "c", "d", "e"]),
    ] {
        let answer = world.get(&format!("/v2/a/b/tags/list?{query}")).await;
        assert_eq!(answer.json()["tags"], json!(expected), "{query}");
    }
    world.end().await;
}

/// listing-tags: "When `n` is zero, this endpoint MUST return an empty list, and MUST NOT include a `Link` header."
#[tokio::test]
async fn none_is_a_number_of_tags() {
    let world = tagged(&["a"]).await;
    let answer = world.get("/v2/a/b/tags/list?n=0").await;
    answer.is(StatusCode::OK);
    assert_eq!(answer.json()["tags"], json!([]));
    assert_eq!(answer.next_page(), None);
    world.end().await;
}

/// Numbers that are none, and numbers beyond every list.
#[tokio::test]
async fn odd_numbers_of_tags() {
    let world = tagged(&["a"]).await;
    for n in ["-1", "x", "1.5", "", "0x10"] {
        world.get(&format!("/v2/a/b/tags/list?n={n}")).await.fails(400, "UNSUPPORTED");
        world.get(&format!("/v2/_catalog?n={n}")).await.fails(400, "UNSUPPORTED");
    }
    for n in ["9223372036854775808", "18446744073709551616", "100000000000000000000000"] {
        assert_eq!(world.get(&format!("/v2/a/b/tags/list?n={n}")).await.json()["tags"], json!(["a"]));
        assert_eq!(world.get(&format!("/v2/_catalog?n={n}")).await.json()["repositories"], json!(["a/b"]));
    }
    world.end().await;
}

/// listing-tags: "The list of tags MAY be empty if there are no tags on the repository."
#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list() {
    let world = tagged(&["a"]).await;
    world.delete("/v2/a/b/manifests/a").await.is(StatusCode::ACCEPTED);
    assert_eq!(world.get("/v2/a/b/tags/list").await.json(), json!({ "name": "a/b", "tags": [] }));
    world.end().await;
}

/// The catalog is sorted by name and paged like tags.
#[tokio::test]
async fn the_catalog_lists_repositories_in_pages() {
    let world = World::start().await;
    assert_eq!(world.get("/v2/_catalog").await.json(), json!({ "repositories": [] }));
    let image = Image::new(b"layer");
    for name in ["b", "a/c", "a", "a-b", "a/b/c"] {
        world.put_manifest(name, "v1", OCI_MANIFEST, &image.manifest).await.is(StatusCode::CREATED);
    }
    let sorted = ["a", "a-b", "a/b/c", "a/c", "b"];
    assert_eq!(world.get("/v2/_catalog").await.json()["repositories"], json!(sorted));
    let pages = walk(&world, "/v2/_catalog?n=2", "repositories").await;
    assert_eq!(pages, [vec!["a", "a-b"], vec!["a/b/c", "a/c"], vec!["b"]]);
    world.end().await;
}

async fn attach(world: &World, tag: &str, change: impl FnOnce(&mut Value)) -> Digest {
    let subject = Image::new(b"subject");
    let mut body = manifest(tag.as_bytes());
    body["subject"] = descriptor(OCI_MANIFEST, &subject.manifest);
    change(&mut body);
    let body = body.to_string();
    let kind = if body.contains("\"manifests\"") { OCI_INDEX } else { OCI_MANIFEST };
    world.put_manifest("a", tag, kind, body.as_bytes()).await.is(StatusCode::CREATED);
    Digest::sha256(body.as_bytes())
}

fn referrers_path() -> String {
    format!("/v2/a/referrers/{}", Image::new(b"subject").digest)
}

/// listing-referrers: "the response MUST be a JSON body with an image index containing a list of descriptors. The
/// `Content-Type` header MUST be set to `application/vnd.oci.image.index.v1+json`." … "set to the value of the
/// `artifactType` in the image manifest or index, if present. If the `artifactType` is empty or missing in the image
/// manifest, the value of `artifactType` MUST be set to the config descriptor `mediaType` value. If … missing in an
/// index, the `artifactType` MUST be omitted. The descriptors MUST include annotations".
#[tokio::test]
async fn referrers_are_listed_with_their_type_and_annotations() {
    let world = World::start().await;
    let annotations = json!({ "org.example.key": "value" });
    let typed = attach(&world, "typed", |body| {
        body["artifactType"] = json!("application/x-sbom");
        body["annotations"] = annotations.clone();
    })
    .await;
    let untyped = attach(&world, "untyped", |body| body["artifactType"] = json!("")).await;
    let of_index = attach(&world, "index", |body| {
        let subject = body["subject"].take();
        *body = index(&[]);
        body["subject"] = subject;
    })
    .await;

    let answer = world.get(&referrers_path()).await;
    answer.is(StatusCode::OK);
    assert_eq!(answer.header("content-type"), OCI_INDEX);
    assert!(!answer.headers.contains_key("oci-filters-applied"));
    let list = answer.json();
    assert_eq!((&list["schemaVersion"], &list["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    let find = |digest: &Digest| {
        let list = list["manifests"].as_array().unwrap();
        list.iter().find(|entry| entry["digest"] == digest.to_string()).unwrap().clone()
    };
    assert_eq!(list["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(find(&typed)["artifactType"], "application/x-sbom");
    assert_eq!(find(&typed)["annotations"], annotations);
    assert_eq!(find(&untyped)["artifactType"], OCI_CONFIG);
    assert_eq!(find(&of_index)["mediaType"], OCI_INDEX);
    assert_eq!(find(&of_index).get("artifactType"), None);
    let manifest = world.head(&format!("/v2/a/manifests/{typed}")).await;
    assert_eq!(find(&typed)["size"].to_string(), manifest.header("content-length"));
    world.end().await;
}

/// listing-referrers: "If a query results in no matching referrers, an empty manifest list MUST be returned"; "the
/// registry MUST NOT return a `404 Not Found`"; "If the request is invalid, such as a `<digest>` with an invalid
/// syntax, a `400 Bad Request` MUST be returned."
#[tokio::test]
async fn no_referrers_are_an_empty_list_and_no_digest_is_400() {
    let world = World::start().await;
    let answer = world.get(&referrers_path()).await;
    answer.is(StatusCode::OK);
    assert_eq!(answer.json(), json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }));
    for wrong in ["latest", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        world.get(&format!("/v2/a/referrers/{wrong}")).await.fails(400, "DIGEST_INVALID");
    }
    world.get(&format!("{}?last=x", referrers_path())).await.fails(400, "DIGEST_INVALID");
    world.end().await;
}

/// listing-referrers: "If filtering is requested and applied, the response MUST include a header
/// `OCI-Filters-Applied: artifactType`".
#[tokio::test]
async fn referrers_are_filtered_by_type() {
    let world = World::start().await;
    for (tag, kind) in
        [("one", "application/a+json"), ("two", "application/b"), ("three", "application/a+json")]
    {
        attach(&world, tag, |body| body["artifactType"] = json!(kind)).await;
    }
    for (kind, expected) in [("application/a%2Bjson", 2), ("application/b", 1), ("application/c", 0)] {
        let answer = world.get(&format!("{}?artifactType={kind}", referrers_path())).await;
        answer.is(StatusCode::OK);
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), expected);
    }
    world.end().await;
}

/// listing-referrers: "A `Link` header MUST be included in the response when the descriptor list cannot be returned in
/// a single manifest. Each response is an image index with different descriptors".
#[tokio::test]
async fn many_referrers_come_in_pages() {
    let world = World::start().await;
    let padding = "x".repeat(900_000);
    for n in 0..7 {
        attach(&world, &format!("t{n}"), |body| {
            body["artifactType"] = json!(if n == 6 { "application/b" } else { "application/a" });
            body["annotations"] = json!({ "padding": padding });
        })
        .await;
    }
    for (query, expected) in [("", 7), ("?artifactType=application/a", 6)] {
        let pages = walk(&world, &format!("{}{query}", referrers_path()), "manifests").await;
        assert!(pages.len() > 1);
        let mut digests: Vec<_> = pages.iter().flatten().map(|entry| entry["digest"].to_string()).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), expected);
    }
    world.end().await;
}

/// A referrer is listed in its own repository only.
#[tokio::test]
async fn referrers_stay_in_their_repository() {
    let world = World::start().await;
    attach(&world, "one", |_| {}).await;
    let elsewhere = referrers_path().replace("/v2/a/", "/v2/b/");
    assert_eq!(world.get(&elsewhere).await.json()["manifests"], json!([]));
    world.end().await;
}
