//! `--cidfile`: a new file that gets the container's ID.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::{system_words, verbatim};

/// The file, empty so far. Dropping it removes it again: there is no container then.
#[derive(Debug)]
pub(super) struct IdFile {
    path: PathBuf,
    file: File,
    is_written: bool,
}

impl IdFile {
    /// Makes the file, before anything else is made.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::create_new(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => verbatim(format!(
                "gantry: container ID file found, make sure the other container isn't running or delete {shown}"
            )),
            _ => verbatim(format!(
                "gantry: failed to create the container ID file: open {shown}: {}",
                system_words(&error)
            )),
        })?;
        Ok(IdFile { path: path.to_owned(), file, is_written: false })
    }

    /// Writes the ID; from then on the file stays.
    pub(super) fn write(&mut self, id: &str) -> Result<()> {
        self.file.write_all(id.as_bytes()).map_err(|error| {
            verbatim(format!(
                "gantry: Failed to write the container ID to the file: write {}: {}",
                self.path.display(),
                system_words(&error)
            ))
        })?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.is_written {
            // It was made a moment ago; one that is gone already is fine.
            let _ = fs::remove_file(&self.path);
        }
    }
}
