//! What can be wrong with the files and programs that say how to reach registries.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A settings file or a credential helper cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not JSON of the expected shape.
    #[error("{} is not well formed", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// An entry of a file means nothing.
    #[error("{}: {reason}", path.display())]
    Entry {
        /// Which file.
        path: PathBuf,
        /// What is wrong with which entry.
        reason: String,
    },
    /// A file of certificates or keys has none, or they do not fit together.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The value of a proxy variable is not a URL. It may hold a password, so it is not shown.
    #[error("the value of {variable} is not the URL of a proxy")]
    Proxy {
        /// Which variable.
        variable: &'static str,
    },
    /// A credential helper cannot be run.
    #[error("cannot run the credential helper `{program}`")]
    HelperMissing {
        /// `docker-credential-NAME`.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A credential helper failed.
    #[error("error {action} credentials - `{program}`: {said}")]
    Helper {
        /// `docker-credential-NAME`.
        program: String,
        /// `getting`, `storing` or `erasing`.
        action: &'static str,
        /// What it wrote, or its exit status.
        said: String,
    },
}

/// Reads a JSON file; a missing one is the default, as all of docker's files may be absent.
pub(super) fn read_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, SettingsError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if is_absent(&error) => return Ok(T::default()),
        Err(source) => return Err(SettingsError::Io { path: path.to_owned(), source }),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|source| SettingsError::Json { path: path.to_owned(), source })
}

/// Whether this user may not look there. What is closed to root is broken.
pub(super) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root()
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
