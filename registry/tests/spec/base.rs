//! Determining support, and what is at no endpoint.

use reqwest::{Method, StatusCode};

use crate::support::{World, send};

/// determining-support: "If the response is `200 OK`, then the registry implements this specification."
#[tokio::test]
async fn base_answers_200_with_and_without_the_slash() {
    let world = World::start().await;
    for path in ["/v2/", "/v2"] {
        let answer = world.get(path).await;
        answer.is(StatusCode::OK);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        assert_eq!(world.head(path).await.status, StatusCode::OK);
    }
    world.end().await;
}

/// Clients of the first API learn where the list of repositories is today.
#[tokio::test]
async fn version_one_is_404_and_names_the_catalog() {
    let world = World::start().await;
    let answer = world.get("/v1/search?q=x").await;
    answer.fails(404, "UNSUPPORTED");
    assert!(String::from_utf8_lossy(&answer.body).contains("_catalog"));
    world.end().await;
}

#[tokio::test]
async fn what_is_no_endpoint_is_404() {
    let world = World::start().await;
    for path in ["/", "/healthz", "/v2/a", "/v2/a/b/c", "/v3/", "/v2/tags/list"] {
        world.get(path).await.fails(404, "UNSUPPORTED");
    }
    world.end().await;
}

/// RFC 9110, 15.5.6: "The origin server MUST generate an Allow header field in a 405 response".
#[tokio::test]
async fn another_method_is_405_and_the_allowed_ones_are_named() {
    let world = World::start().await;
    let digest = format!("sha256:{}", "0".repeat(64));
    for (method, path, allowed) in [
        (Method::POST, "/v2/".to_owned(), "GET, HEAD"),
        (Method::DELETE, "/v2/_catalog".to_owned(), "GET, HEAD"),
        (Method::PUT, format!("/v2/a/blobs/{digest}"), "GET, HEAD, DELETE"),
        (Method::GET, "/v2/a/blobs/uploads/".to_owned(), "POST"),
        (Method::POST, "/v2/a/blobs/uploads/x".to_owned(), "GET, HEAD, PATCH, PUT, DELETE"),
        (Method::PATCH, "/v2/a/manifests/x".to_owned(), "GET, HEAD, PUT, DELETE"),
        (Method::POST, "/v2/a/tags/list".to_owned(), "GET, HEAD"),
        (Method::PUT, format!("/v2/a/referrers/{digest}"), "GET, HEAD"),
    ] {
        let answer = send(world.request(method, &path)).await;
        answer.fails(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), allowed, "{path}");
    }
    world.end().await;
}

/// While a server runs, other processes can find it; afterwards they do not.
#[tokio::test]
async fn the_store_names_the_server_while_it_runs() {
    let world = World::start().await;
    world.get("/v2/").await.is(StatusCode::OK);
    let servers = world.store.servers().unwrap();
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].address, world.address.to_string());
    assert_eq!(servers[0].pid, std::process::id());
    world.end().await;
}
