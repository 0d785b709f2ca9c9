//! docker's `config.json`: where credentials are found and kept.
//!
//! ```text
//! { "auths":       { "registry.example:5000": { "auth": base64("user:password") },
//!                    "https://index.docker.io/v1/": { "identitytoken": "…" } },   docker.io's own name
//!   "credHelpers": { "registry.example": "NAME" },      docker-credential-NAME, for that registry
//!   "credsStore":  "NAME",                              docker-credential-NAME, for all others
//!   …                                                   kept as they are when we write
//! }
//! ```
//! A helper for the registry comes before the store for all, the store before the file. Writers take `flock` on the
//! folder, write beside the file and rename; so a reader sees the old or the new file, and what docker wrote into
//! other keys stays. The file is 0600.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::credentials::Credentials;
use super::helper;
use super::settings::{SettingsError, is_absent, read_json};
use crate::reference::DEFAULT_HOST;

/// Under this name docker keeps the credentials of docker.io.
const DOCKER_IO_KEY: &str = "https://index.docker.io/v1/";

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore", skip_serializing_if = "String::is_empty")]
    creds_store: String,
    #[serde(
        rename = "credHelpers",
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    cred_helpers: BTreeMap<String, String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
#[serde(default)]
struct Auth {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    identity_token: String,
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    registry_token: String,
    #[serde(flatten)]
    other: Map<String, Value>,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Where a login was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file itself, readable to whoever can read the file.
    File,
    /// By `docker-credential-NAME`.
    Helper(String),
}

/// Credentials for `registry` (`docker.io`, `localhost:5000`), if there are any.
///
/// # Errors
/// When the file cannot be read, or the helper that it names fails.
pub fn find(path: &Path, registry: &str) -> Result<Option<Credentials>, SettingsError> {
    let config: ConfigFile = read_json(path)?;
    let key = key(registry);
    match config.helper(key) {
        Some(name) => Ok(helper::get(name, key)?.and_then(Credentials::from_helper)),
        None => config.auth(key).map_or(Ok(None), |auth| auth.credentials(path, key)),
    }
}

/// Keeps credentials for `registry`, where the file says: with a helper, or in the file. The file and its folder are
/// made if need be.
///
/// # Errors
/// When the file cannot be read or written, or the helper fails.
pub fn store(path: &Path, registry: &str, credentials: &Credentials) -> Result<Kept, SettingsError> {
    update(path, |config| {
        let key = key(registry);
        let Some(name) = config.helper(key).map(str::to_owned) else {
            config.auths.insert(key.to_owned(), Auth::from(credentials));
            return Ok(Kept::File);
        };
        helper::store(&name, &credentials.to_helper(key))?;
        // docker leaves an empty entry, by which it lists what it is logged in to.
        config.auths.insert(key.to_owned(), Auth::default());
        Ok(Kept::Helper(name))
    })
}

/// Forgets the credentials for `registry`; returns whether there were any.
///
/// # Errors
/// When the file cannot be read or written, or the helper fails.
pub fn erase(path: &Path, registry: &str) -> Result<bool, SettingsError> {
    if !path.exists() {
        return Ok(false);
    }
    update(path, |config| {
        let key = key(registry);
        let mut found = false;
        if let Some(name) = config.helper(key) {
            found = helper::get(name, key)?.is_some();
            helper::erase(name, key)?;
        }
        let before = config.auths.len();
        config.auths.retain(|entry, _| entry != key && host_of(entry) != key);
        Ok(found || config.auths.len() < before)
    })
}

/// What `registry` is called in the file.
fn key(registry: &str) -> &str {
    if registry == DEFAULT_HOST { DOCKER_IO_KEY } else { registry }
}

/// Old files have URLs as keys: `https://registry.example/v1/`.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

impl ConfigFile {
    fn helper(&self, key: &str) -> Option<&str> {
        let name = self.cred_helpers.get(key).unwrap_or(&self.creds_store);
        (!name.is_empty()).then_some(name.as_str())
    }

    fn auth(&self, key: &str) -> Option<&Auth> {
        self.auths
            .get(key)
            .or_else(|| self.auths.iter().find(|(entry, _)| host_of(entry) == key).map(|(_, auth)| auth))
    }
}

impl Auth {
    fn credentials(&self, path: &Path, key: &str) -> Result<Option<Credentials>, SettingsError> {
        if !self.registry_token.is_empty() {
            return Ok(Some(Credentials::RegistryToken { token: self.registry_token.clone() }));
        }
        let (username, password) = match self.decode() {
            Some(pair) => pair,
            None => {
                let reason = format!("entry `{key}` of `auths`: `auth` is not base64 of `user:password`");
                return Err(SettingsError::Entry { path: path.to_owned(), reason });
            }
        };
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::IdentityToken { token: self.identity_token.clone() }));
        }
        Ok((!username.is_empty()).then_some(Credentials::Password { username, password }))
    }

    fn decode(&self) -> Option<(String, String)> {
        if self.auth.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let text = String::from_utf8(BASE64.decode(&self.auth).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

impl From<&Credentials> for Auth {
    fn from(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Password { username, password } => {
                Auth { auth: BASE64.encode(format!("{username}:{password}")), ..Auth::default() }
            }
            Credentials::IdentityToken { token } => Auth { identity_token: token.clone(), ..Auth::default() },
            Credentials::RegistryToken { token } => Auth { registry_token: token.clone(), ..Auth::default() },
        }
    }
}

/// Reads, changes and replaces the file under the folder's lock. A symlink stays one: its target is replaced.
fn update<T>(
    path: &Path,
    change: impl FnOnce(&mut ConfigFile) -> Result<T, SettingsError>,
) -> Result<T, SettingsError> {
    let path = target(path)?;
    let failed = |source: io::Error| SettingsError::Io { path: path.clone(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(folder).map_err(failed)?;
    let lock = File::open(folder).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;

    let mut config: ConfigFile = read_json(&path)?;
    let value = change(&mut config)?;
    let mut json = serde_json::to_vec_pretty(&config).expect("maps have string keys");
    json.push(b'\n');
    replace(folder, &path, &json).map_err(failed)?;
    Ok(value)
}

fn target(path: &Path) -> Result<PathBuf, SettingsError> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(target),
        Err(error) if is_absent(&error) => Ok(path.to_owned()),
        Err(source) => Err(SettingsError::Io { path: path.to_owned(), source }),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes beside and renames. The name is fixed: the lock keeps others out, and a leftover is written over.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("json.gantry");
    // A leftover of a killed writer could have another mode, or be a link.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
    if let Ok(before) = fs::metadata(path) {
        // Under sudo the file stays its user's; where that cannot be done it was not foreign.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
