//! How a registry is found and trusted: TLS, plain HTTP, mirrors, proxies.

use serde_json::json;

use super::uploads::simple;
use super::*;
use crate::client::testing::registry::Registry;
use crate::client::testing::{Answer, Authority, Fault, client, client_knowing};
use crate::client::{Cause, ClientError, Transport};

fn transport(error: &ClientError) -> Option<&Transport> {
    match error {
        ClientError::Request { cause, .. } => match &**cause {
            Cause::Transport(transport) => Some(transport),
            _ => None,
        },
        _ => None,
    }
}

async fn hello(authority: &Authority) -> Server {
    Server::tls(authority, |_| Answer::body("{}")).await
}

#[tokio::test]
async fn loopback_is_tried_by_tls_and_then_by_plain_http() {
    let plain = Server::plain(|_| Answer::body("{}")).await;
    client().ping(&plain.host()).await.unwrap();
    let tls = hello(&Authority::new()).await;
    client().ping(&tls.host()).await.unwrap();
    client().ping(&format!("localhost:{}", tls.address.port())).await.unwrap();
}

#[tokio::test]
async fn other_hosts_are_reached_by_tls_only() {
    let plain = Server::plain(|_| Answer::body("{}")).await;
    let client = client_knowing(&[("registry.test", plain.address)], |_| {});
    let error = client.ping("registry.test").await.unwrap_err();
    assert_eq!(transport(&error), Some(&Transport::PlainHttp), "{error}");
    assert!(error.to_string().ends_with("http: server gave HTTP response to HTTPS client"), "{error}");
    assert!(error.hint().unwrap().contains("`insecure-registries`"));
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn a_ca_of_certs_d_is_trusted_with_and_without_the_port() {
    let authority = Authority::new();
    let server = hello(&authority).await;
    let port = server.address.port();
    let with_port = format!("registry.test:{port}");
    for (folder, host) in
        [("registry.test", "registry.test"), ("registry.test", with_port.as_str()), (&with_port, &with_port)]
    {
        let files = Files::new().certs(folder, "ca.crt", &authority.pem());
        let client = client_knowing(&[("registry.test", server.address)], |options| files.apply(options));
        client.ping(host).await.unwrap_or_else(|error| panic!("{folder} for {host}: {error}"));
    }
}

#[tokio::test]
async fn an_unknown_authority_is_told_in_gos_words_with_the_path_for_its_certificate() {
    let server = hello(&Authority::new()).await;
    let files = Files::new().certs("registry.test", "ca.crt", &Authority::new().pem());
    let client = client_knowing(&[("registry.test", server.address)], |options| files.apply(options));
    let error = client.ping("registry.test").await.unwrap_err();
    let expected = "GET https://registry.test/v2/: x509: certificate signed by unknown authority";
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("/etc/docker/certs.d/registry.test/ca.crt"));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = hello(&authority).await;
    let files = Files::new().certs("other.test", "ca.crt", &authority.pem());
    let client = client_knowing(&[("other.test", server.address)], |options| files.apply(options));
    let error = client.ping("other.test").await.unwrap_err();
    assert!(matches!(transport(&error), Some(Transport::Certificate(_))), "{error}");
}

#[tokio::test]
async fn our_certificate_is_shown_where_the_registry_asks_for_one() {
    let mut authority = Authority::new();
    authority.wants_client = true;
    let server = hello(&authority).await;
    let (certificate, key) = authority.issue();
    let files = Files::new().certs("registry.test", "ca.crt", &authority.pem());
    let client = client_knowing(&[("registry.test", server.address)], |options| files.apply(options));
    client.ping("registry.test").await.unwrap_err();
    let files = files.certs("registry.test", "client.cert", &certificate.pem()).certs(
        "registry.test",
        "client.key",
        &key.serialize_pem(),
    );
    let client = client_knowing(&[("registry.test", server.address)], |options| files.apply(options));
    client.ping("registry.test").await.unwrap();
}

#[tokio::test]
async fn insecure_registries_take_any_certificate_or_none() {
    let tls = hello(&Authority::new()).await;
    let plain = Server::plain(|_| Answer::body("{}")).await;
    let files = Files::new().daemon(&json!({ "insecure-registries": ["tls.test", "plain.test"] }));
    let names = [("tls.test", tls.address), ("plain.test", plain.address)];
    let client = client_knowing(&names, |options| files.apply(options));
    client.ping("tls.test").await.unwrap();
    // The port of a name without one is that of the scheme; the test's resolver gives the same to both.
    client.ping("plain.test").await.unwrap();
}

#[tokio::test]
async fn a_name_within_a_listed_network_is_insecure_too() {
    let plain = Server::plain(|_| Answer::body("{}")).await;
    let files = Files::new().daemon(&json!({ "insecure-registries": ["127.0.0.0/30"] }));
    let client = client_knowing(&[("registry.test", plain.address)], |options| files.apply(options));
    client.ping("registry.test").await.unwrap();
    let files = Files::new().daemon(&json!({ "insecure-registries": ["10.0.0.0/8"] }));
    let client =
        client_knowing(&[("registry.test", ([192, 0, 2, 1], 0).into())], |options| files.apply(options));
    assert_eq!(client.0.connector.trust("registry.test").await, crate::client::connector::Trust::Verified);
}

#[tokio::test]
async fn a_host_where_nobody_listens_is_told_at_once() {
    let gone = Server::plain(|_| Answer::status(200)).await.host();
    let error = client_with(|options| options.retry.first_pause = std::time::Duration::from_secs(3600))
        .ping(&gone)
        .await
        .unwrap_err();
    assert_eq!(transport(&error), Some(&Transport::Refused), "{error}");
    assert!(error.hint().unwrap().contains(&gone));
}

/// Without a name server nobody can be asked, and that is told; with one the name is unknown.
#[tokio::test]
async fn a_name_without_an_address_is_told_at_once() {
    let error = client().ping("registry.invalid").await.unwrap_err();
    assert!(matches!(transport(&error), Some(Transport::Name(_))), "{error}");
    assert!(
        error.to_string().starts_with("GET https://registry.invalid/v2/: lookup registry.invalid: "),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_host_is_refused() {
    for host in
        ["", "a b", "ann@a.example", "a.example/v2", "https://a.example", "256.256.256.256", "a:99999"]
    {
        let error = client().ping(host).await.unwrap_err();
        assert!(matches!(error, ClientError::Host { .. }), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_from_tls_to_plain_http_is_refused() {
    let authority = Authority::new();
    let plain = Server::plain(|_| Answer::body("blob")).await;
    let target = format!("http://plain.test:{}/blob", plain.address.port());
    let server = Server::tls(&authority, move |_| Answer::status(302).header("Location", &target)).await;
    let files = Files::new().certs("registry.test", "ca.crt", &authority.pem());
    let names = [("registry.test", server.address), ("plain.test", plain.address)];
    let client = client_knowing(&names, |options| files.apply(options));
    let error = client.manifest(&repository("registry.test"), "latest").await.unwrap_err();
    assert!(error.to_string().contains("that would leave HTTPS"), "{error}");
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn an_upload_session_that_leaves_tls_gets_no_byte() {
    let authority = Authority::new();
    let plain = Server::plain(|_| Answer::status(201)).await;
    let files = Files::new().certs("registry.test", "ca.crt", &authority.pem());
    let blob = blob_of(b"layer");
    // The loopback needs no TLS, but nobody says so of a host that an HTTPS registry leads to.
    for host in ["127.0.0.1", "plain.test"] {
        let target = format!("http://{host}:{}/session", plain.address.port());
        let server = Server::tls(&authority, move |_| Answer::status(202).header("Location", &target)).await;
        let names = [("registry.test", server.address), ("plain.test", plain.address)];
        let client = client_knowing(&names, |options| files.apply(options));
        let error =
            client.upload(&simple(&repository("registry.test"), &blob.digest, b"layer")).await.unwrap_err();
        assert!(error.to_string().contains("that would leave HTTPS"), "{error}");
    }
    assert!(plain.requests().is_empty());

    let target = format!("http://plain.test:{}/session", plain.address.port());
    let server = Server::tls(&authority, move |_| Answer::status(202).header("Location", &target)).await;
    let listed = format!("plain.test:{}", plain.address.port());
    let files = files.daemon(&json!({ "insecure-registries": [listed] }));
    let names = [("registry.test", server.address), ("plain.test", plain.address)];
    let client = client_knowing(&names, |options| files.apply(options));
    client.upload(&simple(&repository("registry.test"), &blob.digest, b"layer")).await.unwrap();
    assert_eq!(plain.lines(), ["PUT /session"]);
}

#[tokio::test]
async fn the_password_of_an_insecure_registry_does_not_go_to_an_unverified_realm() {
    let unknown = Authority::new();
    let realm = Server::tls(&unknown, |_| Answer::body(r#"{"token":"good"}"#)).await;
    let url = format!("https://realm.test:{}/token", realm.address.port());
    let registry = Server::tls(&unknown, move |_| Answer::bearer(&url, "")).await;
    let files = Files::new().daemon(&json!({ "insecure-registries": ["registry.test"] }));
    let files = files.login("registry.test", "ann", "s3cret");
    let names = [("registry.test", registry.address), ("realm.test", realm.address)];
    let client = client_knowing(&names, |options| files.apply(options));
    let error = client.manifest(&repository("registry.test"), "latest").await.unwrap_err();
    assert_eq!(transport(&error), Some(&Transport::UnknownAuthority), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("certs.d/realm.test:{}/ca.crt", realm.address.port())), "{hint}");
    assert!(realm.requests().is_empty());

    // What the user says of the realm counts for it.
    let files = files.certs("realm.test", "ca.crt", &unknown.pem());
    let client = client_knowing(&names, |options| files.apply(options));
    client.manifest(&repository("registry.test"), "latest").await.unwrap_err();
    assert!(realm.requests()[0].header("authorization").is_some());
}

#[tokio::test]
async fn our_certificate_is_not_for_hosts_that_a_registry_leads_to_but_its_cas_are() {
    let mut authority = Authority::new();
    let open = Server::tls(&authority, |_| Answer::body("blob")).await;
    authority.wants_client = true;
    let closed = Server::tls(&authority, |_| Answer::body("blob")).await;
    let ports = [open.address.port(), closed.address.port()];
    let server = Server::tls(&authority, move |request| {
        let [open, closed] = ports;
        let port = if request.path().ends_with("open") { open } else { closed };
        Answer::status(302).header("Location", format!("https://elsewhere.test:{port}/blob"))
    });
    let server = server.await;
    let (certificate, key) = authority.issue();
    let mut files = Files::new();
    for folder in ["registry.test", "elsewhere.test"] {
        files = files.certs(folder, "client.cert", &certificate.pem()).certs(
            folder,
            "client.key",
            &key.serialize_pem(),
        );
    }
    let files = files.certs("registry.test", "ca.crt", &authority.pem());
    for (tag, other, requests) in [("open", &open, 1), ("closed", &closed, 0)] {
        let names = [("registry.test", server.address), ("elsewhere.test", other.address)];
        let client = client_knowing(&names, |options| files.apply(options));
        let answer = client.manifest(&repository("registry.test"), tag).await;
        assert_ne!(answer.err().as_ref().and_then(transport), Some(&Transport::UnknownAuthority));
        assert_eq!(other.requests().len(), requests, "who asks for a certificate gets none");
    }
}

#[tokio::test]
async fn a_full_disk_over_there_is_told_at_once() {
    let server = Server::plain(|_| Answer::error(507, "UNKNOWN", "the disk is full")).await;
    let patient = |options: &mut crate::client::ClientOptions| {
        options.retry.first_pause = std::time::Duration::from_secs(3600);
    };
    let blob = blob_of(b"layer");
    let repository = repository(&server.host());
    let error = client_with(patient).upload(&simple(&repository, &blob.digest, b"layer")).await.unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(error.hint().unwrap().contains("make room"), "{:?}", error.hint());
    assert_eq!(server.lines(), ["POST /v2/team/app/blobs/uploads/"]);
}

/// docker.io behind a mirror, both in memory.
struct Hub {
    upstream: Server,
    mirror: Server,
    files: Files,
}

impl Hub {
    async fn new(
        upstream: impl Fn(&crate::client::testing::Request) -> Answer + Send + Sync + 'static,
        mirror: impl Fn(&crate::client::testing::Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new();
        let upstream = Server::tls(&authority, upstream).await;
        let mirror = Server::plain(mirror).await;
        let files = Files::new()
            .certs("registry-1.docker.io", "ca.crt", &authority.pem())
            .daemon(&json!({ "registry-mirrors": [format!("http://{}", mirror.host())] }))
            .login("https://index.docker.io/v1/", "ann", "s3cret");
        Hub { upstream, mirror, files }
    }

    fn client(&self) -> Client {
        let names = [("registry-1.docker.io", self.upstream.address)];
        client_knowing(&names, |options| self.files.apply(options))
    }
}

#[tokio::test]
async fn docker_io_is_asked_through_its_mirror_first() {
    let registry = Registry::default();
    registry.put_manifest("team/app", "latest", media_type::OCI_MANIFEST, b"{}");
    let serving = registry.clone();
    let hub = Hub::new(|_| panic!("not asked"), move |request| serving.answer(request)).await;
    hub.client().manifest(&repository("docker.io"), "latest").await.unwrap();
    assert!(hub.upstream.requests().is_empty());
}

#[tokio::test]
async fn what_the_mirror_lacks_comes_from_docker_io_itself() {
    for broken in [404, 401, 500, 503] {
        let registry = Registry::default();
        registry.put_manifest("team/app", "latest", media_type::OCI_MANIFEST, b"{}");
        let hub = Hub::new(move |request| registry.answer(request), move |_| Answer::status(broken)).await;
        hub.client().manifest(&repository("docker.io"), "latest").await.unwrap();
        assert_eq!(hub.mirror.requests().len(), 1, "{broken}");
        assert_eq!(hub.upstream.requests().len(), 1, "{broken}");
    }
}

#[tokio::test]
async fn the_mirror_never_sees_docker_ios_password() {
    let registry = Registry::default();
    registry.put_manifest("team/app", "latest", media_type::OCI_MANIFEST, b"{}");
    let upstream = move |request: &crate::client::testing::Request| match request.header("authorization") {
        Some(value) if value.starts_with("Basic ") => registry.answer(request),
        _ => Answer::basic(),
    };
    let hub = Hub::new(upstream, |_| Answer::basic()).await;
    hub.client().manifest(&repository("docker.io"), "latest").await.unwrap();
    assert!(hub.mirror.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn a_blob_that_breaks_off_at_the_mirror_goes_on_at_docker_io() {
    let blob = noise(100_000);
    let registry = Registry::default();
    registry.put_blob("team/app", &blob);
    let serving = registry.clone();
    let hub = Hub::new(
        move |request| registry.answer(request),
        move |request| serving.answer(request).fault(Fault::Cut(40_000)),
    )
    .await;
    let received = hub.client().blob_bytes(&repository("docker.io"), &blob_of(&blob), 1 << 20).await.unwrap();
    assert!(received == blob);
    let range = hub.upstream.requests()[0].header("range").unwrap().to_owned();
    assert_eq!(range, "bytes=40000-");
}

#[tokio::test]
async fn plain_http_goes_through_the_proxy_and_loopback_does_not() {
    let proxy = Server::plain(|_| Answer::body("{}")).await;
    let direct = Server::plain(|_| Answer::body("{}")).await;
    let files = Files::new().daemon(&json!({ "insecure-registries": ["far.test:1"] }));
    let client = client_knowing(&[("far.test", ([127, 0, 0, 1], 0).into())], |options| {
        files.apply(options);
        options.proxies.http = Some(format!("http://ann:s3cret@{}", proxy.host()));
    });
    client.ping("far.test:1").await.unwrap();
    let asked = proxy.requests().pop().unwrap();
    assert_eq!(asked.target, "http://far.test:1/v2/");
    assert!(asked.header("proxy-authorization").is_some());
    client.ping(&direct.host()).await.unwrap();
    assert!(!direct.requests().is_empty());
}

#[tokio::test]
async fn every_request_says_who_is_asking() {
    let server = Server::plain(|_| Answer::body("{}")).await;
    client().ping(&server.host()).await.unwrap();
    let agent = server.requests()[0].header("user-agent").unwrap().to_owned();
    assert_eq!(agent, concat!("gantry/", env!("CARGO_PKG_VERSION")));
}
