use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Store;
use super::age::Age;
use super::disk;
use super::error::{ReadError, StoreError};
use crate::digest::{Digest, Hasher, Hashing};

/// An open blob. Its bytes were right when they were stored and are not verified here: send them to somebody who
/// verifies, or use [`Store::read_blob`] or [`Store::blob_reader`].
#[derive(Debug)]
pub struct Blob {
    /// The bytes, from the start.
    pub file: File,
    /// How many there are.
    pub size_bytes: u64,
}

impl Store {
    /// The length of a blob, `None` when it is not in the store. To say that a blob exists is a promise that it
    /// will stay for a while: its age is renewed, and if the collector has put it into the trash, it comes back.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system fails.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.open_blob(digest)?.map(|blob| blob.size_bytes))
    }

    /// Opens a blob, renewing its age as [`Store::blob_size`] does.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system fails.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let path = self.paths().blob(digest);
        let open = || disk::absent_is_none(File::open(&path)).map_err(StoreError::io("open", &path));
        let age = Age(self.paths());
        let file = match open()? {
            Some(file) => file,
            None if age.restore(digest)? => match open()? {
                Some(file) => file,
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        age.renew(digest, &file)?;
        let size_bytes = file.metadata().map_err(StoreError::io("read", &path))?.len();
        Ok(Some(Blob { file, size_bytes }))
    }

    /// A whole blob of at most `limit_bytes`, verified.
    ///
    /// # Errors
    /// [`ReadError`] when it is missing, too long or damaged.
    pub fn read_blob(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let mut reader = self.blob_reader(digest)?;
        let size_bytes = reader.size_bytes;
        if size_bytes > limit_bytes {
            return Err(ReadError::TooLarge { digest: digest.clone(), size_bytes, limit_bytes });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
        reader.file.read_to_end(&mut bytes).map_err(StoreError::io("read", &self.paths().blob(digest)))?;
        let actual = digest.algorithm().digest(&bytes);
        if actual != *digest {
            return Err(ReadError::Damaged { digest: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// A reader of a blob that fails at the end, before it says that it is the end, when the bytes are not those of
    /// the digest.
    ///
    /// # Errors
    /// [`ReadError::Missing`] when it is not there.
    pub fn blob_reader(&self, digest: &Digest) -> Result<VerifiedReader, ReadError> {
        let blob = self.open_blob(digest)?.ok_or_else(|| ReadError::Missing { digest: digest.clone() })?;
        Ok(VerifiedReader {
            digest: digest.clone(),
            size_bytes: blob.size_bytes,
            file: blob.file,
            hasher: Some(digest.algorithm().hasher()),
        })
    }

    /// Takes a blob out of the store, by way of the trash. Whether it was there.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system fails.
    pub fn remove_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Age(self.paths()).discard(digest)
    }
}

impl Store {
    /// Removes a file whose bytes are not those of `digest`: a blob, or a layer's tar. Whether it was damaged and is gone now.
    /// One that somebody brings at the same moment stays.
    pub(super) fn remove_damaged(&self, path: &Path, digest: &Digest) -> Result<bool, StoreError> {
        self.remove_if(path, |file| {
            let mut hashing = Hashing::new(digest.algorithm(), file);
            io::copy(&mut hashing, &mut io::sink())?;
            Ok(hashing.finish().1 != *digest)
        })
    }

    /// Removes a file that is found damaged, on the same terms.
    pub(super) fn remove_if(
        &self,
        path: &Path,
        is_damaged: impl FnOnce(&File) -> io::Result<bool>,
    ) -> Result<bool, StoreError> {
        let failed = |error| StoreError::io("remove", path)(error);
        let Some(file) = disk::absent_is_none(File::open(path)).map_err(failed)? else { return Ok(false) };
        if !is_damaged(&file).map_err(StoreError::io("read", path))? {
            return Ok(false);
        }
        // Not unlinked by its name, which may mean another file by now.
        let scratch = self.scratch()?;
        let taken = scratch.path().join("damaged");
        if disk::absent_is_none(fs::rename(path, &taken)).map_err(failed)?.is_none() {
            return Ok(false);
        }
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let damaged = inode(file.metadata().map_err(failed)?) == inode(fs::metadata(&taken).map_err(failed)?);
        if !damaged {
            fs::rename(&taken, path).map_err(StoreError::io("restore", path))?;
        }
        Ok(damaged)
    }
}

/// Reads a blob and compares it with its digest on the way.
#[derive(Debug)]
pub struct VerifiedReader {
    digest: Digest,
    file: File,
    /// `None` once the end was reached and found right.
    hasher: Option<Hasher>,
    /// Length of the blob in bytes.
    pub size_bytes: u64,
}

impl Read for VerifiedReader {
    /// # Errors
    /// Besides those of the file, one of kind [`io::ErrorKind::InvalidData`] around a [`ReadError::Damaged`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        if n == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let actual = hasher.finish();
            if actual != self.digest {
                let damaged = ReadError::Damaged { digest: self.digest.clone(), actual };
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
            }
        }
        Ok(n)
    }
}
