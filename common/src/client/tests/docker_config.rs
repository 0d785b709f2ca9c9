//! docker's `config.json` and helpers, read and written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::client::docker_config::{Kept, erase, find, store};
use crate::client::{Credentials, SettingsError};

fn password(username: &str, password: &str) -> Credentials {
    Credentials::Password { username: username.into(), password: password.into() }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn entries_are_found_under_todays_and_older_keys() {
    let auth = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let config = json!({
        "auths": {
            "https://index.docker.io/v1/": { "auth": auth("hub:pass:with:colons") },
            "https://old.example/v1/": { "auth": auth("old:pass\0\0") },
            "plain.example": { "username": "ann", "password": "s3cret", "email": "a@example" },
            "empty.example": {},
            "broken.example": { "auth": "!" },
        },
        "credHelpers": null,
    });
    fs::write(&path, config.to_string()).unwrap();
    assert_eq!(find(&path, "docker.io").unwrap(), Some(password("hub", "pass:with:colons")));
    assert_eq!(find(&path, "old.example").unwrap(), Some(password("old", "pass")));
    assert_eq!(find(&path, "plain.example").unwrap(), Some(password("ann", "s3cret")));
    assert_eq!(find(&path, "empty.example").unwrap(), None);
    assert_eq!(find(&path, "other.example").unwrap(), None);
    let error = find(&path, "broken.example").unwrap_err();
    assert!(error.to_string().contains("broken.example"), "{error}");
    assert_eq!(find(&folder.path().join("none.json"), "a").unwrap(), None);
    fs::write(&path, "{").unwrap();
    assert!(matches!(find(&path, "a"), Err(SettingsError::Json { .. })));
}

#[test]
fn a_login_keeps_what_others_wrote_and_the_file_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/config.json");
    assert_eq!(store(&path, "docker.io", &password("ann", "s3cret")).unwrap(), Kept::File);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(&path)["auths"]["https://index.docker.io/v1/"]["auth"], "YW5uOnMzY3JldA==");

    let mut config = read(&path);
    config["HttpHeaders"] = json!({ "X": "y" });
    config["auths"]["other.example"] = json!({ "auth": "Yjpj", "note": "kept" });
    fs::write(&path, config.to_string()).unwrap();
    store(&path, "localhost:5000", &Credentials::IdentityToken { token: "t".into() }).unwrap();
    let config = read(&path);
    assert_eq!(config["HttpHeaders"]["X"], "y");
    assert_eq!(config["auths"]["other.example"]["note"], "kept");
    assert_eq!(config["auths"]["localhost:5000"], json!({ "identitytoken": "t" }));

    assert!(erase(&path, "docker.io").unwrap());
    assert!(!erase(&path, "docker.io").unwrap());
    assert_eq!(find(&path, "docker.io").unwrap(), None);
    assert_eq!(read(&path)["auths"]["other.example"]["auth"], "Yjpj");
    assert!(!erase(&folder.path().join("none.json"), "docker.io").unwrap());
}

#[test]
fn a_config_that_is_a_symlink_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("real.json"), folder.path().join("config.json"));
    fs::write(&target, "{}").unwrap();
    symlink(&target, &link).unwrap();
    store(&link, "a.example", &password("ann", "x")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(find(&target, "a.example").unwrap().is_some());
}

#[test]
fn logins_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || store(path, &format!("r{n}.example"), &password("ann", "x")).unwrap());
        }
    });
    for n in 0..8 {
        assert!(find(&path, &format!("r{n}.example")).unwrap().is_some(), "r{n}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

/// Keeps one file an entry, beside itself.
const HELPER: &str = r#"#!/bin/sh
folder=$(dirname "$0")
case $1 in
store) cat > "$folder/entry" ;;
get) read -r server; echo "$server" >> "$folder/asked"
     if [ "$server" = fails.example ]; then echo "the vault is closed"; exit 1; fi
     if [ -e "$folder/entry" ]; then cat "$folder/entry"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) read -r server; rm -f "$folder/entry" ;;
esac
"#;

/// Helpers are found by PATH, which a test cannot change for itself alone: it runs itself again with another one.
#[test]
fn helpers_keep_and_give_credentials() {
    const NAME: &str = "client::tests::docker_config::helpers_keep_and_give_credentials";
    if let Ok(folder) = std::env::var("GANTRY_TEST_HELPERS") {
        return use_helpers(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("docker-credential-test");
    fs::write(&helper, HELPER).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("PATH", path)
        .env("GANTRY_TEST_HELPERS", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn use_helpers(folder: &Path) {
    let path = folder.join("config.json");
    let config = json!({
        "credsStore": "test",
        "credHelpers": { "special.example": "missing" },
        "auths": { "a.example": { "auth": "Yjpj" } },
    });
    fs::write(&path, config.to_string()).unwrap();
    assert_eq!(find(&path, "a.example").unwrap(), None, "the store comes before the file");
    let kept = store(&path, "docker.io", &password("ann", "s3cret")).unwrap();
    assert_eq!(kept, Kept::Helper("test".into()));
    let entry: Value = read(&folder.join("entry"));
    let expected =
        json!({ "ServerURL": "https://index.docker.io/v1/", "Username": "ann", "Secret": "s3cret" });
    assert_eq!(entry, expected);
    assert_eq!(read(&path)["auths"]["https://index.docker.io/v1/"], json!({}), "no secret in the file");
    assert_eq!(find(&path, "docker.io").unwrap(), Some(password("ann", "s3cret")));

    let token = Credentials::IdentityToken { token: "t".into() };
    store(&path, "docker.io", &token).unwrap();
    assert_eq!(read(&folder.join("entry"))["Username"], "<token>");
    assert_eq!(find(&path, "docker.io").unwrap(), Some(token));
    assert!(erase(&path, "docker.io").unwrap());
    assert_eq!(find(&path, "docker.io").unwrap(), None);
    assert!(fs::read_to_string(folder.join("asked")).unwrap().contains("https://index.docker.io/v1/"));

    let error = find(&path, "fails.example").unwrap_err();
    assert_eq!(
        error.to_string(),
        "error getting credentials - `docker-credential-test`: the vault is closed"
    );
    let error = find(&path, "special.example").unwrap_err();
    assert_eq!(error.to_string(), "cannot run the credential helper `docker-credential-missing`");
}
