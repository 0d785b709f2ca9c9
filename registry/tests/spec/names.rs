//! Names that are none, sent as they are, without a client that would tidy them.

use common::oci::media_type::OCI_INDEX;
use reqwest::StatusCode;

use crate::support::World;

async fn status(world: &World, method: &str, path: &str) -> String {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let answer = world.raw(request.as_bytes()).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

/// pulling-manifests: "`<name>` MUST match the following regular expression".
#[tokio::test]
async fn names_outside_of_the_grammar_are_refused() {
    let world = World::start().await;
    world.get("/v2/").await.is(StatusCode::OK);
    let before = snapshot(&world);
    let long = "a/".repeat(150) + "a";
    let id = "0".repeat(32);
    for name in [
        "..", "../..", "a/..", "a/../b", ".", "a/./b", "%2e%2e", "a%2fb", "a%00b", "%00", "a//b", "_a",
        "a/_tags", "A", "a/B", "a.", "-a", "a..b", "a___b", "%C3%A9", "\u{e9}", "a b", "a\\b", "~", "a:b",
        &long,
    ] {
        for (method, rest) in [
            ("GET", "tags/list".to_owned()),
            ("GET", "manifests/v1".to_owned()),
            ("PUT", "manifests/v1".to_owned()),
            ("DELETE", "manifests/v1".to_owned()),
            ("POST", "blobs/uploads/".to_owned()),
            ("PATCH", format!("blobs/uploads/{id}")),
            ("GET", format!("blobs/sha256:{}", "0".repeat(64))),
            ("GET", format!("referrers/sha256:{}", "0".repeat(64))),
        ] {
            let status = status(&world, method, &format!("/v2/{name}/{rest}")).await;
            assert!(status.starts_with("HTTP/1.1 4"), "{method} {name} {rest}: {status}");
            assert!(!status.contains("429"), "{status}");
        }
    }
    assert_eq!(snapshot(&world), before, "nothing was written");
    world.get("/v2/A/tags/list").await.fails(400, "NAME_INVALID");
    world.end().await;
}

#[tokio::test]
async fn digests_and_sessions_outside_of_the_grammar_are_refused() {
    let world = World::start().await;
    world.get("/v2/").await.is(StatusCode::OK);
    let before = snapshot(&world);
    let upper = format!("sha256:{}", "A".repeat(64));
    for rest in [
        "blobs/sha256:../../x",
        "blobs/sha256:%2e%2e%2f",
        "blobs/sha256:",
        "blobs/..",
        "blobs/uploads/..",
        "blobs/uploads/%2e%2e%2f",
        "blobs/uploads/../../../format",
        "manifests/..",
        "manifests/sha256:..",
        "referrers/..",
        &format!("blobs/{upper}"),
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            let status = status(&world, method, &format!("/v2/a/{rest}")).await;
            assert!(status.starts_with("HTTP/1.1 4"), "{method} {rest}: {status}");
        }
    }
    assert_eq!(snapshot(&world), before, "nothing was written");
    world.end().await;
}

/// 255 characters are a name; so are components that look like endpoints.
#[tokio::test]
async fn names_inside_of_the_grammar_work() {
    let world = World::start().await;
    let longest = "a/".repeat(127) + "b";
    let body = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    for name in
        ["a", "0", "a.b_c__d---e/f", "tags/list", "blobs/uploads", "manifests/blobs/x", "v2", &longest]
    {
        world.push_blob(name, b"blob").await;
        world.put_manifest(name, "v1", OCI_INDEX, body.as_bytes()).await.is(StatusCode::CREATED);
        world.get(&format!("/v2/{name}/manifests/v1")).await.is(StatusCode::OK);
        assert_eq!(world.get(&format!("/v2/{name}/tags/list")).await.json()["name"], name);
    }
    world.end().await;
}

/// All files below the store.
fn snapshot(world: &World) -> Vec<std::path::PathBuf> {
    let mut found = vec![world.folder.path().to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            found.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}
