//! TLS from files.

use std::path::Path;

use registry::{ServeOptions, TlsFiles};
use reqwest::{Client, StatusCode, Version};

use crate::support::{World, noise, until};

fn make_files(folder: &Path) -> (TlsFiles, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.pem())
}

fn with_tls(options: &mut ServeOptions, folder: &Path) {
    options.tls = Some(make_files(folder).0);
}

fn client(certificate: &str) -> reqwest::ClientBuilder {
    let certificate = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    Client::builder().no_proxy().tls_certs_only([certificate])
}

/// Both versions of HTTP, chosen by the client, verified against the certificate.
#[tokio::test]
async fn http_1_and_2_over_tls() {
    let world = World::start_with(with_tls).await;
    let image = world.push_image("a", "v1", &noise(1, 2_000_000)).await;
    let certificate = std::fs::read_to_string(world.folder.path().join("cert.pem")).unwrap();
    for (client, version) in [
        (client(&certificate).build().unwrap(), Version::HTTP_2),
        (client(&certificate).http1_only().build().unwrap(), Version::HTTP_11),
    ] {
        let url = format!("https://localhost:{}/v2/a/blobs/{}", world.address.port(), image.layer);
        let response = client.get(url).send().await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
        assert!(response.bytes().await.unwrap() == noise(1, 2_000_000));
    }
    world.end().await;
}

/// A renewed certificate is used without a restart, and connections that are open stay.
#[tokio::test]
async fn a_renewed_certificate_is_taken_up() {
    let world = World::start_with(with_tls).await;
    world.get("/v2/").await.is(StatusCode::OK);
    let (_, renewed) = make_files(world.folder.path());
    until(async || {
        let client = client(&renewed).build().unwrap();
        client.get(format!("https://{}/v2/", world.address)).send().await.is_ok()
    })
    .await;
    world.get("/v2/").await.is(StatusCode::OK);
    world.end().await;
}

/// Plain HTTP to a TLS port, and rubbish, end that connection only.
#[tokio::test]
async fn plain_http_gets_nothing_from_a_tls_port() {
    let world = World::start_with(with_tls).await;
    for request in ["GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", "\0\0\0\0"] {
        assert!(!world.raw(request.as_bytes()).await.contains("200 OK"));
    }
    world.get("/v2/").await.is(StatusCode::OK);
    world.end().await;
}

/// A server behind TLS may listen anywhere.
#[tokio::test]
async fn tls_needs_no_permission_to_leave_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let store = common::store::Store::open(&folder.path().join("store")).unwrap();
    let mut options = ServeOptions::new("0.0.0.0:0".parse().unwrap());
    with_tls(&mut options, folder.path());
    registry::bind(store, &options).unwrap();
}
