use std::fs::{self, File};
use std::io;
use std::time::{Duration, SystemTime};

use super::disk;
use super::error::StoreError;
use super::listing::{self, Sort};
use super::paths::{Paths, flat};
use crate::digest::Digest;

/// An age younger than this is not renewed again. A collector's grace period has to be at least twice as long.
pub const RENEWAL: Duration = Duration::from_secs(60 * 60);

/// How old a blob is, and its way to the trash and back.
///
/// Here an age is the file's mtime and the trash a rename; on object storage it would be a marker object beside the
/// key. Nothing else knows of either.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age<'a>(pub(super) &'a Paths);

impl Age<'_> {
    /// Somebody was told that the blob exists: its age starts anew.
    pub(super) fn renew(self, digest: &Digest, file: &File) -> Result<(), StoreError> {
        let path = || self.0.blob(digest);
        let now = SystemTime::now();
        let modified = file.metadata().and_then(|m| m.modified());
        let modified = modified.map_err(|e| StoreError::io("read", &path())(e))?;
        if now.duration_since(modified).is_ok_and(|age| age < RENEWAL) {
            return Ok(());
        }
        match file.set_modified(now) {
            // A store on a read-only disk has no collector either.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            result => result.map_err(|e| StoreError::io("renew the age of", &path())(e)),
        }
    }

    /// Moves the blob to today's trash. Whether it was there.
    pub(super) fn discard(self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.0.blob(digest);
        let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let target = self.0.trash().join(today).join(flat(digest));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        }
        let moved =
            disk::absent_is_none(fs::rename(&path, &target)).map_err(StoreError::io("discard", &path))?;
        Ok(moved.is_some())
    }

    /// Brings the blob back from the trash, as new. Whether it was there.
    pub(super) fn restore(self, digest: &Digest) -> Result<bool, StoreError> {
        let name = flat(digest);
        for day in listing::names(&self.0.trash(), Sort::Folder)? {
            let discarded = self.0.trash().join(day).join(&name);
            // Renewed first, so that it does not come back old.
            let Some(file) =
                disk::absent_is_none(File::open(&discarded)).map_err(StoreError::io("open", &discarded))?
            else {
                continue;
            };
            file.set_modified(SystemTime::now()).map_err(StoreError::io("renew the age of", &discarded))?;
            let path = self.0.blob(digest);
            let moved = disk::absent_is_none(fs::rename(&discarded, &path))
                .map_err(StoreError::io("restore", &path))?;
            if moved.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
