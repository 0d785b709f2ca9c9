use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Store;
use super::disk::{self, Lock};
use super::error::StoreError;

/// A folder in `ingest/` for things that are made of several files and renamed into their place when they are
/// complete. What is left in it is removed when it is dropped, or by the next process that opens the store.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// A new empty folder.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        loop {
            let path = self.paths().ingest().join(disk::random_id()?);
            let make = || fs::DirBuilder::new().mode(0o700).create(&path);
            disk::with_parent(&path, make).map_err(StoreError::io("make", &path))?;
            let Some(lock) =
                disk::absent_is_none(File::open(&path)).map_err(StoreError::io("open", &path))?
            else {
                continue;
            };
            // As with files: a sweeper may have come between.
            let locked = Lock::try_on(&lock).map_err(StoreError::io("lock", &path))?;
            let still_there = lock.metadata().map_err(StoreError::io("read", &path))?.nlink() > 0;
            if locked && still_there {
                return Ok(Scratch { path, _lock: lock });
            }
        }
    }

    /// Removes files and folders in `ingest/` whose owner is gone; how many.
    pub(super) fn sweep_ingest(&self) -> Result<usize, StoreError> {
        let folder = self.paths().ingest();
        let mut swept = 0;
        for id in disk::names(&folder, None, None)? {
            let path = folder.join(id);
            let file = disk::absent_is_none(File::open(&path)).map_err(StoreError::io("open", &path))?;
            let Some(file) = file else { continue };
            if Lock::try_on(&file).map_err(StoreError::io("lock", &path))? {
                disk::remove_tree(&path)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

impl Scratch {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_tree(&self.path) {
            tracing::warn!(%error, "cannot remove a scratch folder");
        }
    }
}
