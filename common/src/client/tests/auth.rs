//! Who we say we are, and to whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::client::testing::{Answer, Authority, Request, client, client_knowing};
use crate::client::{Cause, ClientError, Credentials};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn has(request: &Request, value: &str) -> bool {
    request.header("authorization") == Some(value)
}

fn basic(username: &str, password: &str) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    format!("Basic {text}")
}

fn token(token: &str) -> Answer {
    Answer::body(json!({ "token": token, "expires_in": 300 }).to_string())
}

/// A registry that wants a token, and is the token server too: `/token` answers `issue`, all else needs `Bearer good`.
async fn bearer_registry(issue: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    Server::plain(move |request| {
        if request.path() == "/token" {
            return issue(request);
        }
        if has(request, "Bearer good") {
            return Answer::body(MANIFEST);
        }
        let host = request.header("host").unwrap();
        Answer::bearer(&format!("http://{host}/token"), "repository:team/app:pull")
    })
    .await
}

async fn get(client: &Client, server: &Server) -> Result<(), ClientError> {
    client.manifest(&repository(&server.host()), "latest").await.map(drop)
}

fn status(error: &ClientError) -> Option<StatusCode> {
    error.status()
}

#[tokio::test]
async fn nobody_gets_a_token_by_get_and_uses_it_again() {
    let server = bearer_registry(|request| {
        assert_eq!(request.method, "GET");
        assert_eq!(request.query("service").as_deref(), Some("test"));
        assert_eq!(request.query("scope").as_deref(), Some("repository:team/app:pull"));
        assert_eq!(request.header("authorization"), None);
        token("good")
    })
    .await;
    let client = client();
    get(&client, &server).await.unwrap();
    get(&client, &server).await.unwrap();
    let expected = ["GET /v2/team/app/manifests/latest", "GET /token"];
    assert_eq!(server.lines()[..2], expected);
    assert_eq!(server.lines().iter().filter(|line| *line == "GET /token").count(), 1);
}

#[tokio::test]
async fn a_token_may_be_called_access_token() {
    let server = bearer_registry(|_| Answer::body(r#"{"access_token":"good"}"#)).await;
    get(&client(), &server).await.unwrap();
}

#[tokio::test]
async fn basic_credentials_come_from_the_file_and_only_when_asked_for() {
    let server = Server::plain(|request| {
        if has(request, &basic("ann", "s3cret")) { Answer::body(MANIFEST) } else { Answer::basic() }
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    let client = files.client();
    get(&client, &server).await.unwrap();
    assert_eq!(server.requests()[1].header("authorization"), None, "the first request carries nothing");
    get(&client, &server).await.unwrap();
    assert_eq!(server.lines().len(), 3, "the second one carries it at once");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_told_with_a_hint() {
    let server = Server::plain(|_| Answer::basic()).await;
    let files = Files::new().login(&server.host(), "ann", "wrong");
    let error = get(&files.client(), &server).await.unwrap_err();
    assert_eq!(status(&error), Some(StatusCode::UNAUTHORIZED));
    assert_eq!(server.lines().len(), 2);
    assert!(error.hint().unwrap().contains(&format!("gantry login {}", server.host())), "{:?}", error.hint());
    assert!(error.to_string().contains("unauthorized: authentication required"), "{error}");
}

#[tokio::test]
async fn a_password_gets_a_token_by_get() {
    let server = bearer_registry(|request| {
        assert_eq!(request.query("account").as_deref(), Some("ann"));
        if has(request, &basic("ann", "s3cret")) { token("good") } else { Answer::status(401) }
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    get(&files.client(), &server).await.unwrap();
}

#[tokio::test]
async fn a_password_goes_by_post_where_the_token_server_knows_no_get() {
    let server = bearer_registry(|request| {
        if request.method == "GET" {
            return Answer::status(405);
        }
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(field("grant_type"), Some("password"));
        assert_eq!((field("username"), field("password")), (Some("ann"), Some("s3 & cret")));
        token("good")
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3 & cret");
    get(&files.client(), &server).await.unwrap();
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let server = bearer_registry(|request| {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("authorization"), None);
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(field("grant_type"), Some("refresh_token"));
        assert_eq!(field("refresh_token"), Some("refresh-me"));
        assert_eq!(field("scope"), Some("repository:team/app:pull"));
        assert_eq!(field("service"), Some("test"));
        Answer::body(r#"{"access_token":"good","expires_in":60}"#)
    })
    .await;
    let config = json!({ "auths": { server.host(): { "identitytoken": "refresh-me" } } });
    get(&Files::new().config(&config).client(), &server).await.unwrap();
}

#[tokio::test]
async fn a_registry_token_is_used_as_it_is() {
    let server = bearer_registry(|_| panic!("no token is needed")).await;
    let config = json!({ "auths": { server.host(): { "registrytoken": "good" } } });
    get(&Files::new().config(&config).client(), &server).await.unwrap();
}

#[tokio::test]
async fn a_helper_that_is_missing_does_not_stop_a_pull_that_everybody_may() {
    let server = bearer_registry(|request| {
        assert_eq!(request.header("authorization"), None);
        token("good")
    })
    .await;
    let files = Files::new().config(&json!({ "credsStore": "gantry-test-missing" }));
    get(&files.client(), &server).await.unwrap();
}

#[tokio::test]
async fn requests_at_the_same_time_wait_for_one_token() {
    let server = bearer_registry(|_| token("good")).await;
    let client = client();
    let all = futures_util::future::join_all((0..8).map(|_| get(&client, &server))).await;
    assert!(all.into_iter().all(|result| result.is_ok()));
    assert_eq!(server.lines().iter().filter(|line| *line == "GET /token").count(), 1);
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_replaced_once() {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = issued.clone();
    let server = Server::plain(move |request| {
        if request.path() == "/token" {
            return token(&format!("t{}", counter.fetch_add(1, Ordering::SeqCst)));
        }
        // Each token is good for one request only.
        let current = format!("Bearer t{}", counter.load(Ordering::SeqCst).wrapping_sub(1));
        let fresh = request.target.ends_with("/1") == (counter.load(Ordering::SeqCst) == 1);
        if has(request, &current) && fresh {
            return Answer::body(MANIFEST);
        }
        Answer::bearer(&format!("http://{}/token", request.header("host").unwrap()), "")
    })
    .await;
    let (client, repository) = (client(), repository(&server.host()));
    client.manifest(&repository, "1").await.unwrap();
    client.manifest(&repository, "2").await.unwrap();
    assert_eq!(issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_registry_that_refuses_even_new_tokens_is_not_asked_for_ever() {
    let server = Server::plain(|request| match request.path() {
        "/token" => token("useless"),
        _ => Answer::bearer(&format!("http://{}/token", request.header("host").unwrap()), ""),
    })
    .await;
    let error = get(&client(), &server).await.unwrap_err();
    assert_eq!(status(&error), Some(StatusCode::UNAUTHORIZED));
    assert!(server.lines().len() <= 4, "{:?}", server.lines());
}

#[tokio::test]
async fn a_missing_right_is_told_as_docker_tells_it() {
    let server = Server::plain(|request| match request.path() {
        "/token" => token("small"),
        _ => {
            let realm = format!("http://{}/token", request.header("host").unwrap());
            let challenge = format!(r#"Bearer realm="{realm}",error="insufficient_scope""#);
            Answer::status(401).header("WWW-Authenticate", challenge)
        }
    })
    .await;
    let error = get(&client(), &server).await.unwrap_err();
    assert!(error.has_code(&["DENIED"]), "{error}");
    assert!(error.to_string().ends_with("denied: requested access to the resource is denied"), "{error}");
}

#[tokio::test]
async fn the_token_servers_refusal_is_told_with_its_url_and_words() {
    let server = bearer_registry(|_| Answer {
        status: 401,
        body: br#"{"details":"incorrect username or password"}"#.into(),
        ..Answer::default()
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    let error = get(&files.client(), &server).await.unwrap_err();
    let expected = format!(
        "GET http://{}/token: 401 Unauthorized: unauthorized: incorrect username or password",
        server.host()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn the_registry_may_name_a_token_server_elsewhere() {
    let elsewhere = Server::plain(|request| {
        if has(request, &basic("ann", "s3cret")) { token("good") } else { Answer::status(401) }
    })
    .await;
    let realm = format!("http://localhost:{}/token", elsewhere.address.port());
    let server = Server::plain(move |request| {
        if has(request, "Bearer good") { Answer::body(MANIFEST) } else { Answer::bearer(&realm, "") }
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    get(&files.client(), &server).await.unwrap();
}

/// CVE-2020-15157.
#[tokio::test]
async fn a_realm_named_by_a_redirects_target_gets_nothing() {
    let thief = Server::plain(|request| {
        Answer::bearer(
            &format!("http://{}/steal", request.header("host").unwrap()),
            "repository:team/app:pull",
        )
    })
    .await;
    let target = format!("http://{}/blob", thief.host());
    let server = Server::plain(move |request| {
        if !has(request, &basic("ann", "s3cret")) {
            return Answer::basic();
        }
        Answer::status(307).header("Location", &target)
    })
    .await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    let error = receive(&files.client(), &server, b"blob").await.unwrap_err();
    assert_eq!(status(&error), Some(StatusCode::UNAUTHORIZED));
    assert_eq!(thief.lines(), ["GET /blob"], "the realm is not asked");
    assert!(thief.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn a_redirect_by_the_token_server_does_not_carry_the_password() {
    let thief = Server::plain(|_| Answer::status(401)).await;
    let target = format!("http://{}/steal", thief.host());
    let server = bearer_registry(move |_| Answer::status(307).header("Location", &target)).await;
    let files = Files::new().login(&server.host(), "ann", "s3cret");
    get(&files.client(), &server).await.unwrap_err();
    assert_eq!(thief.requests().len(), 1);
    assert_eq!(thief.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_realm_without_tls_is_refused_for_a_registry_with_tls() {
    let thief = Server::plain(|_| token("x")).await;
    let authority = Authority::new();
    let realm = format!("http://{}/token", thief.host());
    let server = Server::tls(&authority, move |_| Answer::bearer(&realm, "")).await;
    let files = Files::new().certs("registry.test", "ca.crt", &authority.pem()).login(
        "registry.test",
        "ann",
        "s3cret",
    );
    let client = client_knowing(&[("registry.test", server.address)], |options| files.apply(options));
    let error = client.manifest(&repository("registry.test"), "latest").await.unwrap_err();
    assert!(error.to_string().contains("realm is not HTTPS"), "{error}");
    assert!(thief.requests().is_empty());
}

#[tokio::test]
async fn a_login_gives_the_credentials_back_or_the_identity_token() {
    let password = Credentials::Password { username: "ann".into(), password: "s3cret".into() };
    let server = Server::plain(|request| {
        if has(request, &basic("ann", "s3cret")) { Answer::body("{}") } else { Answer::basic() }
    })
    .await;
    assert_eq!(client().login(&server.host(), password.clone()).await.unwrap(), password);
    let wrong = Credentials::Password { username: "ann".into(), password: "wrong".into() };
    let error = client().login(&server.host(), wrong).await.unwrap_err();
    assert_eq!(status(&error), Some(StatusCode::UNAUTHORIZED));

    let server = bearer_registry(|request| {
        assert_eq!(request.query("offline_token").as_deref(), Some("true"));
        Answer::body(r#"{"token":"good","refresh_token":"keep-me"}"#)
    })
    .await;
    let kept = client().login(&server.host(), password).await.unwrap();
    assert_eq!(kept, Credentials::IdentityToken { token: "keep-me".into() });
}

#[tokio::test]
async fn the_catalog_asks_for_its_own_scope() {
    let server = Server::plain(|request| match request.path() {
        "/token" => {
            assert_eq!(request.query("scope").as_deref(), Some("registry:catalog:*"));
            token("good")
        }
        _ if has(request, "Bearer good") => Answer::body(r#"{"repositories":["a","b/c"]}"#),
        _ => {
            Answer::bearer(&format!("http://{}/token", request.header("host").unwrap()), "registry:catalog:*")
        }
    })
    .await;
    assert_eq!(client().catalog(&server.host()).await.unwrap(), ["a", "b/c"]);
}

#[tokio::test]
async fn a_realm_that_is_no_url_is_told() {
    let server = Server::plain(|_| Answer::bearer("nowhere", "")).await;
    let error = get(&client(), &server).await.unwrap_err();
    let ClientError::Request { cause, .. } = error else { panic!("{error}") };
    assert!(matches!(*cause, Cause::Protocol(_)), "{cause}");
}
