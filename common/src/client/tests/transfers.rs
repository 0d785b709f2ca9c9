//! Manifests and blobs on the way here, and what goes wrong with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::client::testing::registry::Registry;
use crate::client::testing::{Answer, Fault, Request, client};
use crate::client::{Cause, ClientError};

fn cause(error: &ClientError) -> &Cause {
    match error {
        ClientError::Request { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

/// Serves `bytes` as every blob; `fault` is asked for each request by its number, from 0 on.
async fn flaky(bytes: Vec<u8>, fault: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Server {
    let registry = Registry::default();
    registry.put_blob("team/app", &bytes);
    let count = AtomicUsize::new(0);
    Server::plain(move |request| {
        let answer = registry.answer(request);
        if request.path().contains("/blobs/") {
            return answer.fault(fault(count.fetch_add(1, Ordering::SeqCst)));
        }
        answer
    })
    .await
}

/// The first `count` requests fail like `failure`, the others get `{}`.
async fn failing(count: usize, failure: Answer) -> Server {
    let seen = AtomicUsize::new(0);
    Server::plain(move |request| {
        if request.target == "/v2/" || seen.fetch_add(1, Ordering::SeqCst) >= count {
            return Answer::body("{}");
        }
        failure.clone()
    })
    .await
}

async fn get(server: &Server) -> Result<(), ClientError> {
    client().manifest(&repository(&server.host()), "latest").await.map(drop)
}

#[tokio::test]
async fn a_manifest_is_asked_for_in_all_kinds_that_are_read() {
    let bytes = br#"{"schemaVersion":2}"#;
    let registry = Registry::default();
    let digest = registry.put_manifest("team/app", "latest", media_type::DOCKER_MANIFEST, bytes);
    let server = Server::plain(move |request| registry.answer(request)).await;
    let (client, repository) = (client(), repository(&server.host()));
    let fetched = client.manifest(&repository, "latest").await.unwrap();
    assert_eq!(fetched.media_type.as_deref(), Some(media_type::DOCKER_MANIFEST));
    assert_eq!((&fetched.digest, &fetched.bytes[..]), (&digest, &bytes[..]));
    let request = server.requests().pop().unwrap();
    let accepted: Vec<&str> = request
        .headers
        .iter()
        .filter(|(name, _)| name == "accept")
        .map(|(_, value)| value.as_str())
        .collect();
    for kind in [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
    ] {
        assert!(accepted.contains(&kind), "{accepted:?}");
    }
    let head = client.head_manifest(&repository, "latest").await.unwrap().unwrap();
    assert_eq!((head.digest, head.size), (digest, bytes.len() as u64));
    assert_eq!(client.head_manifest(&repository, "none").await.unwrap(), None);
}

#[tokio::test]
async fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let server = Server::plain(|_| Answer::body("other")).await;
    let wanted = digest_of(b"wanted").to_string();
    let error = client().manifest(&repository(&server.host()), &wanted).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Digest { .. }), "{error}");
    assert!(error.to_string().contains(&wanted), "{error}");
}

#[tokio::test]
async fn a_manifest_that_is_not_what_the_registry_told_is_refused() {
    let server =
        Server::plain(|_| Answer::body("other").header("Docker-Content-Digest", digest_of(b"told"))).await;
    let error = get(&server).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Digest { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_over_four_mebibytes_or_without_end_is_refused() {
    for fault in [Fault::None, Fault::Endless] {
        let server =
            Server::plain(move |_| Answer::body(vec![b' '; (4 << 20) + 1]).fault(fault.clone())).await;
        let error = get(&server).await.unwrap_err();
        assert!(matches!(cause(&error), Cause::TooLong { limit_bytes: 4_194_304 }), "{error}");
    }
}

#[tokio::test]
async fn a_tag_that_is_not_there_is_told_in_the_registrys_words() {
    let registry = Registry::default();
    let server = Server::plain(move |request| registry.answer(request)).await;
    let error = get(&server).await.unwrap_err();
    assert!(error.has_code(&["MANIFEST_UNKNOWN"]));
    let expected = format!(
        "GET http://{}/v2/team/app/manifests/latest: 404 Not Found: manifest unknown: manifest unknown",
        server.host()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.lines().len(), 1, "a clear answer is not asked for again");
}

#[tokio::test]
async fn a_blob_goes_on_at_the_byte_where_the_connection_broke() {
    let bytes = noise(300_000);
    for at in [0, 1, 1000, 299_999] {
        let fault = move |number| if number == 0 { Fault::Cut(at) } else { Fault::None };
        let server = flaky(bytes.clone(), fault).await;
        assert!(receive(&client(), &server, &bytes).await.unwrap() == bytes);
        let second = server.requests().pop().unwrap();
        let expected = (at > 0).then(|| format!("bytes={at}-"));
        assert_eq!(second.header("range"), expected.as_deref());
    }
}

#[tokio::test]
async fn a_registry_without_ranges_sends_anew_and_what_is_known_is_skipped() {
    let bytes = noise(50_000);
    let (body, count) = (bytes.clone(), AtomicUsize::new(0));
    let server = Server::plain(move |request| {
        let fault = match (request.target.as_str(), count.load(Ordering::SeqCst)) {
            ("/v2/", _) => return Answer::body("{}"),
            (_, 0) => Fault::Cut(20_000),
            _ => Fault::None,
        };
        count.fetch_add(1, Ordering::SeqCst);
        Answer::body(body.as_slice()).fault(fault)
    })
    .await;
    assert!(receive(&client(), &server, &bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_blob_that_always_breaks_off_is_given_up() {
    let bytes = noise(1000);
    let server = flaky(bytes.clone(), |_| Fault::Cut(1)).await;
    receive(&client(), &server, &bytes).await.unwrap_err();
    assert_eq!(server.lines().len(), 4, "as often as the policy says");
}

#[tokio::test]
async fn connections_that_brought_much_do_not_count_as_failures() {
    let bytes = noise(12 << 20);
    let registry = Registry::default();
    registry.put_blob("team/app", &bytes);
    let server = Server::plain(move |request| {
        let answer = registry.answer(request);
        let cut = (1 << 20) + 1;
        if answer.body.len() > cut { answer.fault(Fault::Cut(cut)) } else { answer }
    })
    .await;
    assert!(receive(&client(), &server, &bytes).await.unwrap() == bytes);
    assert!(server.lines().len() > 8);
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused_before_it_is_read() {
    for length in [10, 1_000_000] {
        let bytes = noise(1000);
        let server = flaky(bytes.clone(), move |_| Fault::Length(length)).await;
        let error = receive(&client(), &server, &bytes).await.unwrap_err();
        let Cause::Size { expected: 1000, actual } = cause(&error) else { panic!("{error}") };
        assert_eq!(*actual, length as u64);
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_length_of_the_descriptor() {
    let server = flaky(noise(10_000), |_| Fault::Endless).await;
    let error = receive(&client(), &server, &noise(10_000)).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Size { expected: 10_000, .. }), "{error}");
}

#[tokio::test]
async fn a_blob_with_other_bytes_is_refused() {
    let server = Server::plain(|_| Answer::body(noise(8))).await;
    let error = receive(&client(), &server, b"12345678").await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Digest { .. }), "{error}");
}

#[tokio::test]
async fn a_body_that_stops_is_asked_for_again() {
    let bytes = noise(5000);
    let fault = |number| if number == 0 { Fault::Silence(3000) } else { Fault::None };
    let server = flaky(bytes.clone(), fault).await;
    let client = client_with(|options| options.stall_timeout = Duration::from_millis(500));
    assert!(receive(&client, &server, &bytes).await.unwrap() == bytes);
    assert_eq!(server.requests().pop().unwrap().header("range"), Some("bytes=3000-"));
}

#[tokio::test]
async fn an_empty_blob_is_received() {
    let server = flaky(Vec::new(), |_| Fault::None).await;
    assert_eq!(receive(&client(), &server, b"").await.unwrap(), b"");
}

#[tokio::test]
async fn a_blob_may_lie_elsewhere_and_no_credentials_go_there() {
    let storage = Server::plain(|request| {
        assert_eq!(request.query("signature").as_deref(), Some("x"));
        Answer::body("blob")
    })
    .await;
    let target = format!("http://localhost:{}/there?signature=x", storage.address.port());
    let server = Server::plain(move |request| match request.header("authorization") {
        Some(_) => Answer::status(307).header("Location", &target),
        None => Answer::basic(),
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    assert_eq!(receive(&files.client(), &server, b"blob").await.unwrap(), b"blob");
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn errors_show_neither_queries_nor_passwords() {
    let storage = Server::plain(|_| Answer::status(403)).await;
    let target = format!("http://ann:s3cret@{}/there?signature=hidden", storage.host());
    let server = Server::plain(move |request| match request.target.as_str() {
        "/v2/" => Answer::body("{}"),
        _ => Answer::status(307).header("Location", &target),
    })
    .await;
    let error = receive(&client(), &server, b"blob").await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.hint());
    assert!(shown.contains("/there: 403"), "{shown}");
    assert!(!shown.contains("hidden") && !shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn redirects_in_a_circle_are_given_up() {
    let server = Server::plain(|request| match request.target.as_str() {
        "/v2/" => Answer::body("{}"),
        _ => Answer::status(302).header("Location", "/again"),
    })
    .await;
    let error = get(&server).await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Redirect { reason: "too many redirects", .. }), "{error}");
    assert!(server.lines().len() <= 12);
}

#[tokio::test]
async fn busy_registries_are_asked_again() {
    for status in [429, 408, 500, 502, 503, 504] {
        let server = failing(2, Answer::status(status)).await;
        get(&server).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(server.lines().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn a_registry_that_stays_busy_is_given_up_with_its_words() {
    let server = failing(100, Answer::error(503, "UNAVAILABLE", "come back later")).await;
    let error = get(&server).await.unwrap_err();
    assert!(error.to_string().contains("503 Service Unavailable: unavailable: come back later"), "{error}");
    assert_eq!(server.lines().len(), 4);
}

#[tokio::test]
async fn what_a_registry_cannot_do_is_not_asked_again() {
    let server = failing(1, Answer::status(501)).await;
    get(&server).await.unwrap_err();
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let server = failing(1, Answer::status(429).header("Retry-After", "1")).await;
    let begun = Instant::now();
    get(&server).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let begun = Instant::now();
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(2));
    let server = failing(1, Answer::status(503).header("Retry-After", date)).await;
    get(&server).await.unwrap();
    // The date has whole seconds, so up to one may be gone already.
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn a_registry_that_asks_for_a_long_wait_is_given_up_with_a_hint() {
    let server =
        failing(1, Answer::error(429, "TOOMANYREQUESTS", "limit").header("Retry-After", "21600")).await;
    let error = get(&server).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("the registry asks to wait 21600 seconds"));
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_is_tried_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let cut = move |request: &Request| {
        (request.target != "/v2/" && seen.fetch_add(1, Ordering::SeqCst) == 0).then_some(0)
    };
    let server = Server::interrupted(|_| Answer::body("{}"), cut).await;
    get(&server).await.unwrap();
    assert!(count.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let server = failing(100, Answer::status(200).fault(Fault::Mute)).await;
    let client = client_with(|options| options.stall_timeout = Duration::from_millis(400));
    let error = client.manifest(&repository(&server.host()), "latest").await.unwrap_err();
    assert!(matches!(cause(&error), Cause::Stalled { .. }), "{error}");
    assert_eq!(server.lines().len(), 4);
}

#[tokio::test]
async fn tags_are_read_page_by_page() {
    let server = Server::plain(|request| match request.query("last").as_deref() {
        None => Answer::body(r#"{"name":"team/app","tags":["a","b"]}"#)
            .header("Link", r#"</v2/team/app/tags/list?n=2&last=b>; rel="next""#),
        Some("b") => Answer::body(r#"{"name":"team/app","tags":["c","not a tag"]}"#)
            .header("Link", r#"</v2/team/app/tags/list?n=2&last=c>; rel="next""#),
        _ => Answer::body(r#"{"name":"team/app","tags":null}"#),
    })
    .await;
    let tags = client().tags(&repository(&server.host())).await.unwrap();
    assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_blob_is_asked_for_by_head() {
    let server = flaky(noise(77), |_| Fault::None).await;
    let (client, repository) = (client(), repository(&server.host()));
    assert!(client.has_blob(&repository, &digest_of(&noise(77))).await.unwrap());
    assert!(!client.has_blob(&repository, &digest_of(b"")).await.unwrap());
}

#[tokio::test]
async fn a_blob_that_lies_elsewhere_is_there_even_if_head_is_not_allowed_there() {
    let storage = Server::plain(|_| Answer::status(403)).await;
    let target = format!("http://{}/there", storage.host());
    let server = Server::plain(move |request| match request.target.as_str() {
        "/v2/" => Answer::body("{}"),
        _ => Answer::status(307).header("Location", &target),
    })
    .await;
    assert!(client().has_blob(&repository(&server.host()), &digest_of(b"x")).await.unwrap());
}
