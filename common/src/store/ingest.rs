use std::io::{self, Write};

use super::Store;
use super::disk::Temporary;
use super::error::{CommitError, StoreError};
use super::hashed_file::HashedFile;
use crate::digest::{Algorithm, Digest};

/// Blobs never change, not even by mistake.
pub(super) const BLOB_MODE: u32 = 0o444;

/// A blob being written: it has no name yet, and dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    temporary: Temporary,
    bytes: HashedFile,
}

impl Store {
    /// Starts a blob that will be addressed by SHA-256.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be created.
    pub fn ingest(&self) -> Result<Ingest, StoreError> {
        self.ingest_as(Algorithm::Sha256)
    }

    /// Starts a blob that will be addressed by `algorithm`.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be created.
    pub fn ingest_as(&self, algorithm: Algorithm) -> Result<Ingest, StoreError> {
        let temporary = Temporary::new(&self.paths().ingest())?;
        let file = temporary.file.try_clone().map_err(StoreError::io("open", temporary.path()))?;
        let bytes = HashedFile::new(file, algorithm.hasher(), 0);
        Ok(Ingest { store: self.clone(), temporary, bytes })
    }

    /// Stores `bytes` by their SHA-256.
    ///
    /// # Errors
    /// [`CommitError::Store`] when they cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, CommitError> {
        let mut ingest = self.ingest()?;
        ingest.append(bytes)?;
        Ok(ingest.commit_any()?.0)
    }
}

impl Ingest {
    /// How many bytes were written so far.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.size_bytes()
    }

    /// Takes in more bytes; like [`Write::write_all`], with an error that names the file.
    ///
    /// # Errors
    /// [`StoreError::Io`] when they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.append(bytes).map_err(StoreError::io("write", self.temporary.path()))
    }

    /// Turns what was written into the blob `expected` and says its length in bytes. When this returns the bytes
    /// are on the disk; the name follows with [`super::Reach::sync`]. A blob that is there already is success.
    ///
    /// # Errors
    /// [`CommitError::DigestMismatch`] and [`CommitError::SizeMismatch`] when something else was written.
    pub fn commit(mut self, expected: &Digest, size_bytes: Option<u64>) -> Result<u64, CommitError> {
        let actual_bytes = self.size_bytes();
        if let Some(expected_bytes) = size_bytes.filter(|s| *s != actual_bytes) {
            let digest = expected.clone();
            return Err(CommitError::SizeMismatch { digest, expected: expected_bytes, actual: actual_bytes });
        }
        self.verify(expected)?;
        self.temporary.persist(&self.store.paths().blob(expected), BLOB_MODE)?;
        Ok(actual_bytes)
    }

    /// Whether what was written so far is the blob `expected`.
    ///
    /// # Errors
    /// [`CommitError::DigestMismatch`] when it is not.
    pub fn verify(&mut self, expected: &Digest) -> Result<(), CommitError> {
        self.bytes.file().map_err(StoreError::io("write", self.temporary.path()))?;
        let actual = self.bytes.hasher().clone().finish();
        if actual == *expected {
            return Ok(());
        }
        let (expected, size_bytes) = (expected.clone(), self.size_bytes());
        Err(CommitError::DigestMismatch { expected, actual, size_bytes })
    }

    /// Turns what was written into a blob, whatever it is.
    ///
    /// # Errors
    /// [`CommitError::Store`] when the bytes cannot be written.
    pub fn commit_any(self) -> Result<(Digest, u64), CommitError> {
        let Ingest { store, temporary, bytes } = self;
        let size_bytes = bytes.size_bytes();
        let digest = finish(bytes, &temporary)?;
        temporary.persist(&store.paths().blob(&digest), BLOB_MODE)?;
        Ok((digest, size_bytes))
    }
}

fn finish(bytes: HashedFile, temporary: &Temporary) -> Result<Digest, StoreError> {
    bytes.finish().map_err(StoreError::io("write", temporary.path()))
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.flush()
    }
}
