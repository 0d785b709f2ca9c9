use std::fs::File;
use std::path::{Path, PathBuf};

use super::Store;
use super::disk::{self, Lock};
use super::error::StoreError;
use super::listing::{self, Sort};

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
        let (path, _, lock) = disk::new_locked_folder(&self.paths().ingest())?;
        Ok(Scratch { path, _lock: lock })
    }

    /// Removes files and folders in `ingest/` whose owner is gone; how many.
    pub(super) fn sweep_ingest(&self) -> Result<usize, StoreError> {
        sweep_folder(&self.paths().ingest())
    }
}

/// Removes what is in `folder` and whose owner is gone; how much.
pub(super) fn sweep_folder(folder: &Path) -> Result<usize, StoreError> {
    let mut swept = 0;
    let (files, folders) = (listing::names(folder, Sort::File)?, listing::names(folder, Sort::Folder)?);
    for id in files.into_iter().chain(folders) {
        match unless_read_only(sweep(&folder.join(id))) {
            Ok(removed) => swept += usize::from(removed),
            // Files of another user of a namespace, perhaps. They are in nobody's way.
            Err(error) => tracing::warn!(%error, "cannot remove what a dead process left"),
        }
    }
    Ok(swept)
}

/// What a removal came to: nothing is removed from a store that takes no changes, and that is no failure.
pub(super) fn unless_read_only(removed: Result<bool, StoreError>) -> Result<bool, StoreError> {
    match removed {
        Err(error) if error.is_read_only() => Ok(false),
        removed => removed,
    }
}

/// Removes `path` unless its owner lives; whether it was removed.
pub(super) fn sweep(path: &Path) -> Result<bool, StoreError> {
    let file = disk::absent_is_none(File::open(path)).map_err(StoreError::io("open", path))?;
    let Some(file) = file else { return Ok(false) };
    let abandoned = Lock::try_on(&file).map_err(StoreError::io("lock", path))?;
    if abandoned {
        disk::remove_tree(path)?;
    }
    Ok(abandoned)
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
