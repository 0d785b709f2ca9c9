//! Blobs on their way to a registry, and what goes wrong with them.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::StatusCode;

use super::*;
use crate::client::testing::registry::Registry;
use crate::client::testing::{Answer, Fault, Request, client};
use crate::client::{ClientError, Upload, Uploaded};

fn file_of(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

async fn upload(
    client: &Client,
    server: &Server,
    bytes: &[u8],
    from: Option<&str>,
) -> Result<Uploaded, ClientError> {
    let from = from.map(|from| from.parse().unwrap());
    let repository = repository(&server.host());
    let digest = digest_of(bytes);
    client.upload(&Upload { mount_from: from.as_ref(), ..simple(&repository, &digest, bytes) }).await
}

pub(super) fn simple<'a>(repository: &'a Repository, digest: &'a Digest, bytes: &[u8]) -> Upload<'a> {
    Upload {
        repository,
        digest,
        size_bytes: bytes.len() as u64,
        file: file_of(bytes),
        mount_from: None,
        progress: &|_| {},
    }
}

async fn serve(registry: &Registry) -> Server {
    let registry = registry.clone();
    Server::plain(move |request| registry.answer(request)).await
}

#[tokio::test]
async fn a_blob_goes_in_one_put_and_its_progress_is_told() {
    let bytes = noise(700_000);
    let registry = Registry::default();
    let server = serve(&registry).await;
    let told = AtomicU64::new(0);
    let (repository, digest) = (repository(&server.host()), digest_of(&bytes));
    let progress = |offset| told.store(offset, Ordering::SeqCst);
    let sent = client().upload(&Upload { progress: &progress, ..simple(&repository, &digest, &bytes) }).await;
    assert_eq!(sent.unwrap(), Uploaded::Sent);
    assert!(registry.blob("team/app", &digest).unwrap() == bytes);
    assert_eq!(told.load(Ordering::SeqCst), 700_000);
    assert_eq!(server.lines(), ["POST /v2/team/app/blobs/uploads/", "PUT /v2/team/app/blobs/uploads/s1"]);
    let lengths = server.requests().into_iter().filter(|request| request.method != "GET");
    let lengths: Vec<_> =
        lengths.map(|request| request.header("content-length").unwrap().to_owned()).collect();
    assert_eq!(lengths, ["0", "700000"], "some proxies refuse a POST without a length");
    let put = server.requests().pop().unwrap();
    assert_eq!(put.query("_state").as_deref(), Some("x"), "the session's own query is kept");
}

#[tokio::test]
async fn an_empty_blob_is_sent() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    upload(&client(), &server, b"", None).await.unwrap();
    assert_eq!(registry.blob("team/app", &digest_of(b"")), Some(Vec::new()));
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let registry = Registry::default();
    registry.put_blob("team/base", b"layer");
    let server = serve(&registry).await;
    assert_eq!(upload(&client(), &server, b"layer", Some("team/base")).await.unwrap(), Uploaded::Mounted);
    assert_eq!(server.lines(), ["POST /v2/team/app/blobs/uploads/"]);
    assert_eq!(registry.mounted(), 1);
}

#[tokio::test]
async fn a_mount_that_is_not_granted_goes_on_with_the_session_it_gave() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    assert_eq!(upload(&client(), &server, b"layer", Some("team/base")).await.unwrap(), Uploaded::Sent);
    assert_eq!(registry.sessions_begun(), 1);
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_registry_that_knows_no_mounts_gets_the_blob() {
    let registry = Registry::default();
    let serving = registry.clone();
    let server = Server::plain(move |request| match request.query("mount") {
        Some(_) => Answer::error(400, "UNSUPPORTED", "no mounts"),
        None => serving.answer(request),
    })
    .await;
    assert_eq!(upload(&client(), &server, b"layer", Some("team/base")).await.unwrap(), Uploaded::Sent);
}

/// A registry with a token server that answers `refuse` for what it does not grant.
async fn with_tokens(
    registry: &Registry,
    refuse: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> Server {
    let registry = registry.clone();
    Server::plain(move |request| match request.path() {
        "/token" if refuse(request) => Answer::status(403),
        "/token" => Answer::body(r#"{"token":"good"}"#),
        _ if request.header("authorization") == Some("Bearer good") => registry.answer(request),
        _ => Answer::bearer(&format!("http://{}/token", request.header("host").unwrap()), ""),
    })
    .await
}

#[tokio::test]
async fn one_token_serves_the_push_and_the_mount() {
    let registry = Registry::default();
    registry.put_blob("team/base", b"layer");
    let server = with_tokens(&registry, |_| false).await;
    assert_eq!(upload(&client(), &server, b"layer", Some("team/base")).await.unwrap(), Uploaded::Mounted);
    let token = server.requests().into_iter().find(|request| request.path() == "/token").unwrap();
    assert_eq!(token.queries("scope"), ["repository:team/app:pull,push", "repository:team/base:pull"]);
}

#[tokio::test]
async fn a_token_server_that_refuses_the_mounts_scope_does_not_stop_the_push() {
    let registry = Registry::default();
    let server = with_tokens(&registry, |request| request.queries("scope").len() > 1).await;
    assert_eq!(upload(&client(), &server, b"layer", Some("other/base")).await.unwrap(), Uploaded::Sent);
}

#[tokio::test]
async fn a_token_that_expires_between_two_requests_of_a_push_is_replaced() {
    let registry = Registry::default();
    let (serving, good) = (registry.clone(), AtomicUsize::new(0));
    let server = Server::plain(move |request| {
        let current = good.load(Ordering::SeqCst);
        match request.path() {
            "/token" => {
                let token = good.fetch_add(1, Ordering::SeqCst) + 1;
                Answer::body(format!(r#"{{"token":"t{token}"}}"#))
            }
            // The token of the POST is not good for the PUT.
            _ if request.header("authorization") == Some(&format!("Bearer t{current}"))
                && (request.method != "PUT" || current > 1) =>
            {
                serving.answer(request)
            }
            _ => Answer::bearer(&format!("http://{}/token", request.header("host").unwrap()), ""),
        }
    })
    .await;
    let bytes = noise(600_000);
    upload(&client(), &server, &bytes, None).await.unwrap();
    assert!(registry.blob("team/app", &digest_of(&bytes)).unwrap() == bytes, "the body was sent again whole");
}

/// Cuts the first PUT after `count` bytes, which the registry then holds if it `keeps` them.
async fn cut(registry: &Registry, count: usize, keeps: bool) -> Server {
    let (serving, holder, cuts) = (registry.clone(), registry.clone(), AtomicUsize::new(0));
    let held = Mutex::new(None);
    let interrupt = move |request: &Request| {
        let first = request.method == "PUT" && cuts.fetch_add(1, Ordering::SeqCst) == 0;
        first.then_some(count)
    };
    let handler = move |request: &Request| {
        // What was cut off is told to the registry when the client asks how far it came.
        if request.method == "GET"
            && request.path().contains("/uploads/")
            && held.lock().unwrap().replace(()).is_none()
        {
            if keeps {
                holder.append("s1", &noise(900_000)[..count]);
            } else {
                holder.forget_sessions();
            }
        }
        serving.answer(request)
    };
    Server::interrupted(handler, interrupt).await
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_the_session_stands() {
    let bytes = noise(900_000);
    let registry = Registry::default();
    let server = cut(&registry, 300_000, true).await;
    upload(&client(), &server, &bytes, None).await.unwrap();
    assert!(registry.blob("team/app", &digest_of(&bytes)).unwrap() == bytes);
    let patch = server.requests().into_iter().find(|request| request.method == "PATCH").unwrap();
    assert_eq!(patch.header("content-range"), Some("300000-899999"));
    assert_eq!(patch.body.len(), 600_000);
    assert_eq!(registry.sessions_begun(), 1);
}

#[tokio::test]
async fn an_upload_whose_session_is_gone_is_begun_anew() {
    let bytes = noise(900_000);
    let registry = Registry::default();
    let server = cut(&registry, 300_000, false).await;
    upload(&client(), &server, &bytes, None).await.unwrap();
    assert!(registry.blob("team/app", &digest_of(&bytes)).unwrap() == bytes);
    assert_eq!(registry.sessions_begun(), 2);
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_not_sent_again() {
    let bytes = noise(10_000);
    let registry = Registry::default();
    let (holder, blob) = (registry.clone(), bytes.clone());
    let interrupt = move |request: &Request| {
        (request.method == "PUT").then(|| {
            holder.put_blob("team/app", &blob);
            holder.forget_sessions();
            blob.len()
        })
    };
    let serving = registry.clone();
    let server = Server::interrupted(move |request| serving.answer(request), interrupt).await;
    assert_eq!(upload(&client(), &server, &bytes, None).await.unwrap(), Uploaded::Sent);
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

#[tokio::test]
async fn a_busy_registry_gets_the_blob_at_the_next_try() {
    let registry = Registry::default();
    let (serving, count) = (registry.clone(), AtomicUsize::new(0));
    let server = Server::plain(move |request| {
        if request.method == "PUT" && count.fetch_add(1, Ordering::SeqCst) < 2 {
            return Answer::status(503);
        }
        serving.answer(request)
    })
    .await;
    upload(&client(), &server, &noise(1000), None).await.unwrap();
    assert!(registry.blob("team/app", &digest_of(&noise(1000))).is_some());
}

#[tokio::test]
async fn an_upload_that_is_never_acknowledged_is_sent_again() {
    let registry = Registry::default();
    let (serving, count) = (registry.clone(), AtomicUsize::new(0));
    let server = Server::plain(move |request| {
        if request.method == "PUT" && count.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::status(201).fault(Fault::Mute);
        }
        serving.answer(request)
    })
    .await;
    let client = client_with(|options| options.stall_timeout = std::time::Duration::from_millis(500));
    upload(&client, &server, &noise(1000), None).await.unwrap();
    assert!(registry.blob("team/app", &digest_of(&noise(1000))).is_some());
}

#[tokio::test]
async fn a_digest_that_the_registry_refuses_is_an_error_at_once() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let (repository, digest) = (repository(&server.host()), digest_of(b"other"));
    let error = client().upload(&simple(&repository, &digest, b"bytes")).await.unwrap_err();
    assert!(error.has_code(&["DIGEST_INVALID"]), "{error}");
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_file_of_another_length_is_not_sent_at_all() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let (repository, digest) = (repository(&server.host()), digest_of(b"bytes"));
    let error = client()
        .upload(&Upload { size_bytes: 6, ..simple(&repository, &digest, b"bytes") })
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Source { .. }), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_session_on_another_host_gets_no_credentials() {
    let storage = Server::plain(|request| match request.method.as_str() {
        "PUT" => Answer::status(201),
        _ => Answer::status(405),
    })
    .await;
    let location = format!("http://{}/session", storage.host());
    let server = Server::plain(move |request| match request.header("authorization") {
        Some(_) => Answer::status(202).header("Location", &location),
        None => Answer::basic(),
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    upload(&files.client(), &server, b"bytes", None).await.unwrap();
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_push_without_the_right_to_is_refused_with_a_hint() {
    let server = Server::plain(|request| match request.target.as_str() {
        "/v2/" => Answer::body("{}"),
        _ => Answer::error(403, "DENIED", "requested access to the resource is denied"),
    })
    .await;
    let error = upload(&client(), &server, b"bytes", None).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
    assert!(error.hint().unwrap().contains("gantry login"));
}

#[tokio::test]
async fn a_manifest_is_put_with_its_type_and_the_registrys_digest_is_compared() {
    let registry = Registry::default();
    let server = serve(&registry).await;
    let (client, repository) = (client(), repository(&server.host()));
    let bytes = br#"{"schemaVersion":2,"layers":[]}"#;
    let put = client.put_manifest(&repository, "v1", media_type::OCI_MANIFEST, bytes.as_slice().into()).await;
    assert_eq!(put.unwrap(), digest_of(bytes));
    let expected = (media_type::OCI_MANIFEST.to_owned(), bytes.to_vec());
    assert_eq!(registry.manifest("team/app", "v1"), Some(expected));

    let liar =
        Server::plain(|_| Answer::status(201).header("Docker-Content-Digest", digest_of(b"other"))).await;
    let repository = super::repository(&liar.host());
    client
        .put_manifest(&repository, "v1", media_type::OCI_MANIFEST, bytes.as_slice().into())
        .await
        .unwrap_err();
}
