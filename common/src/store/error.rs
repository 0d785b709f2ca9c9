use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Why something in the store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `lock` …
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The tree was made by a later version of this program.
    #[error(
        "store at {} has format `{found}`, this program knows formats up to `{known}`; \
         use the newer gantry that made it, or another folder",
        root.display()
    )]
    NewerFormat {
        /// The store's root.
        root: PathBuf,
        /// What its file `format` says.
        found: String,
        /// The latest format that is known here.
        known: u32,
    },
    /// A record of the store does not parse.
    #[error("record at {} is damaged", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record was written by a later version of this program.
    #[error("record at {} has version {found}, this program knows versions up to {known}", path.display())]
    NewerRecord {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest version that is known here.
        known: u32,
    },
}

impl StoreError {
    /// For `map_err`: names what was done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io { action, path: path.to_owned(), source }
    }

    /// The same for calls that answer with an error number.
    pub(crate) fn errno(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> StoreError {
        move |errno| StoreError::Io { action, path: path.to_owned(), source: errno.into() }
    }

    /// Whether one record cannot be understood, so that a list can go on without it.
    pub fn is_of_one_record(&self) -> bool {
        matches!(self, StoreError::Damaged { .. } | StoreError::NewerRecord { .. })
    }

    /// Whether the store lies on a file system, or a mount, that takes no changes.
    pub fn is_read_only(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Whether there is no room left on the device, or the user's quota is used up.
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, StoreError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// What a record says, and nothing when it is damaged: for whoever writes it anew or takes it away.
///
/// # Errors
/// All others.
pub fn if_sound<T>(record: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match record {
        Err(StoreError::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// Why written bytes did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The bytes are not those that were announced.
    #[error("blob does not match its digest: expected {expected}, got {actual} after {size_bytes} bytes")]
    DigestMismatch {
        /// The announced digest.
        expected: Digest,
        /// The digest of what was written.
        actual: Digest,
        /// How many bytes were written.
        size_bytes: u64,
    },
    /// There are more or fewer bytes than were announced.
    #[error("blob {digest} does not match its size: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// The announced digest.
        digest: Digest,
        /// The announced size.
        expected: u64,
        /// How many bytes were written.
        actual: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a blob could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not in the store.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// It is longer than the caller allows.
    #[error("blob {digest} has {size_bytes} bytes, at most {limit_bytes} are allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its length.
        size_bytes: u64,
        /// What the caller allows.
        limit_bytes: u64,
    },
    /// What is on the disk is not what was stored.
    #[error("blob is damaged on the disk: expected {digest}, got {actual}; `gantry check` lists all damage")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// The digest of what was read.
        actual: Digest,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
