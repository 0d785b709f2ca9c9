//! Who may come in: users from a file, and plain HTTP beyond loopback.

use std::path::Path;

use registry::{HtpasswdError, ServeError, ServeOptions, bind, parse_address};
use reqwest::{Method, StatusCode};

use crate::support::{World, send, until};

fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
}

async fn with_users(users: &str) -> World {
    World::start_with(|options, folder| {
        let path = folder.join("users");
        std::fs::write(&path, users).unwrap();
        options.htpasswd = Some(path);
    })
    .await
}

/// determining-support: "This endpoint MAY be used for authentication/authorization purposes". Every endpoint asks who
/// it is, before it says anything about names.
#[tokio::test]
async fn nobody_gets_a_challenge_everywhere() {
    let world = with_users(&line("ann", "secret")).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let id = "0".repeat(32);
    for (method, path) in [
        (Method::GET, "/v2/".to_owned()),
        (Method::GET, "/v2/_catalog".to_owned()),
        (Method::GET, format!("/v2/a/blobs/{digest}")),
        (Method::HEAD, format!("/v2/a/blobs/{digest}")),
        (Method::DELETE, format!("/v2/a/blobs/{digest}")),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned()),
        (Method::POST, format!("/v2/a/blobs/uploads/?mount={digest}&from=b")),
        (Method::GET, format!("/v2/a/blobs/uploads/{id}")),
        (Method::PATCH, format!("/v2/a/blobs/uploads/{id}")),
        (Method::PUT, format!("/v2/a/blobs/uploads/{id}?digest={digest}")),
        (Method::DELETE, format!("/v2/a/blobs/uploads/{id}")),
        (Method::GET, "/v2/a/manifests/v1".to_owned()),
        (Method::HEAD, "/v2/a/manifests/v1".to_owned()),
        (Method::PUT, "/v2/a/manifests/v1".to_owned()),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned()),
        (Method::GET, "/v2/a/tags/list".to_owned()),
        (Method::GET, format!("/v2/a/referrers/{digest}")),
        (Method::GET, "/v2/NOT-A-NAME/tags/list".to_owned()),
    ] {
        let answer = send(world.request(method.clone(), &path)).await;
        assert_eq!(
            answer.header("www-authenticate"),
            "Basic realm=\"gantry\", charset=\"UTF-8\"",
            "{method} {path}"
        );
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        if method != Method::HEAD {
            answer.fails(401, "UNAUTHORIZED");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn users_of_the_file_may_do_everything_and_others_nothing() {
    let mut world = with_users(&(line("ann", "a:secret") + &line("bob", "ö"))).await;
    for (user, password) in [("ann", "a:secret"), ("bob", "ö")] {
        world.become_user(Some((user, password)));
        world.get("/v2/").await.is(StatusCode::OK);
        world.push_image("a", "v1", b"layer").await;
        world.get("/v2/a/manifests/v1").await.is(StatusCode::OK);
    }
    for (user, password) in [("ann", "ö"), ("bob", ""), ("eve", "a:secret"), ("", "")] {
        world.become_user(Some((user, password)));
        world.get("/v2/").await.fails(401, "UNAUTHORIZED");
        world.get("/v2/a/manifests/v1").await.fails(401, "UNAUTHORIZED");
    }
    world.become_user(None);
    for header in ["Bearer abc", "Basic ???", "Basic", "Negotiate YII="] {
        let request = world.request(Method::GET, "/v2/").header("authorization", header);
        send(request).await.fails(401, "UNAUTHORIZED");
    }
    world.end().await;
}

/// A changed file counts without a restart: whoever is no longer in it is out.
#[tokio::test]
async fn users_come_and_go_while_the_server_runs() {
    let mut world = with_users(&line("ann", "secret")).await;
    world.become_user(Some(("ann", "secret")));
    world.get("/v2/").await.is(StatusCode::OK);
    std::fs::write(world.folder.path().join("users"), line("bob", "other")).unwrap();
    until(async || world.get("/v2/").await.status == StatusCode::UNAUTHORIZED).await;
    world.become_user(Some(("bob", "other")));
    world.get("/v2/").await.is(StatusCode::OK);
    world.end().await;
}

/// An upload belongs to the user that began it.
#[tokio::test]
async fn a_session_of_another_user_does_not_exist() {
    let mut world = with_users(&(line("ann", "a") + &line("bob", "b"))).await;
    world.become_user(Some(("ann", "a")));
    let location = world.begin("a").await;
    world.become_user(Some(("bob", "b")));
    world.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.patch(&location, 0, b"x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.delete(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    world.become_user(Some(("ann", "a")));
    world.get(&location).await.is(StatusCode::NO_CONTENT);
    world.end().await;
}

/// Credentials where nobody is asked for them are no fault: docker sends what it once learned.
#[tokio::test]
async fn without_users_credentials_do_not_matter() {
    let mut world = World::start().await;
    world.become_user(Some(("anyone", "anything")));
    world.get("/v2/").await.is(StatusCode::OK);
    world.push_image("a", "v1", b"layer").await;
    world.end().await;
}

fn bind_with(change: impl FnOnce(&mut ServeOptions, &Path)) -> Result<(), ServeError> {
    let folder = tempfile::tempdir().unwrap();
    let store = common::store::Store::open(&folder.path().join("store")).unwrap();
    let mut options = ServeOptions::new("127.0.0.1:0".parse().unwrap());
    change(&mut options, folder.path());
    bind(store, &options).map(drop)
}

#[test]
fn a_user_file_that_cannot_be_used_is_known_before_anything_is_served() {
    let absent = bind_with(|options, folder| options.htpasswd = Some(folder.join("absent")));
    assert!(matches!(absent, Err(ServeError::Htpasswd(HtpasswdError::Io { .. }))));
    let weak = bind_with(|options, folder| {
        std::fs::write(folder.join("users"), "ann:$apr1$x$y\n").unwrap();
        options.htpasswd = Some(folder.join("users"));
    });
    assert!(matches!(weak, Err(ServeError::Htpasswd(HtpasswdError::Line { line: 1, .. }))));
}

#[test]
fn plain_http_beyond_loopback_has_to_be_meant() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let refused = bind_with(|options, _| options.address = address.parse().unwrap());
        assert!(matches!(refused, Err(ServeError::PlainBeyondLoopback { .. })), "{address}");
    }
    bind_with(|options, _| options.address = "127.5.5.5:0".parse().unwrap()).unwrap();
    let meant = bind_with(|options, _| {
        options.address = "0.0.0.0:0".parse().unwrap();
        options.insecure = true;
    });
    meant.unwrap();
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind_with(|options, _| options.address = address).unwrap_err();
    assert!(matches!(error, ServeError::AddressInUse { .. }));
    assert!(error.to_string().contains(&address.port().to_string()), "{error}");
}

#[test]
fn addresses_are_read_without_a_resolver() {
    for (text, expected) in [
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("localhost:5000", "127.0.0.1:5000"),
        (":5000", "0.0.0.0:5000"),
    ] {
        assert_eq!(parse_address(text).unwrap().to_string(), expected);
    }
    for text in ["5000", "localhost", "example.com:5000", "127.0.0.1", "localhost:99999", ""] {
        assert!(matches!(parse_address(text), Err(ServeError::Address { .. })), "{text}");
    }
}
