//! Credential helpers: programs called `docker-credential-NAME` that keep passwords elsewhere.
//!
//! Protocol: <https://github.com/docker/docker-credential-helpers#development>. `get` and `erase` read the server's
//! name from stdin, `store` reads JSON; `get` writes JSON; a failure is told on stdout with a non-zero exit code.
//! The user name `<token>` means that the secret is an identity token.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::settings::SettingsError;

/// What helpers say on stdout when they have nothing for a server. The texts are the protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A helper of some password stores says so for an entry that lacks a user name.
const NO_USERNAME: &str = "no credentials username";

/// The user name that stands for "the secret is an identity token".
pub(super) const TOKEN_USER: &str = "<token>";

/// What a helper keeps for one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(rename = "ServerURL", default)]
    pub(super) server_url: String,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) secret: String,
}

/// Asks for the entry of `server`; `None` when the helper has none.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Entry>, SettingsError> {
    let (success, said) = run(name, "get", server.as_bytes())?;
    if !success {
        return match said.as_str() {
            NOT_FOUND | NO_USERNAME => Ok(None),
            _ => Err(failed(name, "getting", said)),
        };
    }
    serde_json::from_str(&said).map(Some).map_err(|error| failed(name, "getting", error.to_string()))
}

/// Keeps an entry.
pub(super) fn store(name: &str, entry: &Entry) -> Result<(), SettingsError> {
    let json = serde_json::to_vec(entry).expect("three strings serialise");
    match run(name, "store", &json)? {
        (true, _) => Ok(()),
        (false, said) => Err(failed(name, "storing", said)),
    }
}

/// Forgets the entry of `server`; it need not exist.
pub(super) fn erase(name: &str, server: &str) -> Result<(), SettingsError> {
    match run(name, "erase", server.as_bytes())? {
        (true, _) => Ok(()),
        (false, said) if said == NOT_FOUND => Ok(()),
        (false, said) => Err(failed(name, "erasing", said)),
    }
}

/// Runs a helper; returns whether it succeeded and what it wrote, stdout before stderr.
fn run(name: &str, action: &str, input: &[u8]) -> Result<(bool, String), SettingsError> {
    let program = program(name);
    let failed = |source| SettingsError::HelperMissing { program: program.clone(), source };
    if name.is_empty() || name.contains('/') {
        return Err(failed(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // It may answer without reading all of its input.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(failed)?,
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let said = match said {
        [stdout, stderr] if stdout.is_empty() && !output.status.success() => stderr,
        [stdout, _] => stdout,
    };
    Ok((output.status.success(), said))
}

fn failed(name: &str, action: &'static str, said: String) -> SettingsError {
    SettingsError::Helper { program: program(name), action, said }
}

fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}
