//! A value made from files, made again when they change.
//!
//! Whoever edits a certificate or a user list in place, or renames a new one over it, needs no signal and no restart:
//! the files are looked at when the value is used, at most once a second. A new version that cannot be used is
//! logged and the old value stays.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(1);

/// A value of type `T` and the files it came from.
pub(crate) struct Watched<T, E> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, E> + Send + Sync>,
    current: Mutex<Current<T>>,
}

struct Current<T> {
    value: Arc<T>,
    seen: Vec<Option<Version>>,
    looked: Instant,
}

/// What changes when a file does: device, inode, size, and time of the last change in ns.
type Version = (u64, u64, u64, i64, i64);

impl<T, E: Display> Watched<T, E> {
    /// Makes the value with `load`, which reads `files`.
    ///
    /// # Errors
    /// What `load` says.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // The version is taken first: a change while the files are read is seen at the next look.
        let seen = versions(&files);
        let value = Arc::new(load()?);
        let current = Mutex::new(Current { value, seen, looked: Instant::now() });
        Ok(Watched { files, load: Box::new(load), current })
    }

    /// The value as the files are now.
    pub(crate) fn get(&self) -> Arc<T> {
        let mut current = self.lock();
        if current.looked.elapsed() >= PERIOD {
            current.looked = Instant::now();
            self.look(&mut current);
        }
        current.value.clone()
    }

    fn look(&self, current: &mut Current<T>) {
        let seen = versions(&self.files);
        if seen == current.seen {
            return;
        }
        current.seen = seen;
        match (self.load)() {
            Ok(value) => {
                current.value = Arc::new(value);
                tracing::info!(files = ?self.files, "read again");
            }
            Err(error) => tracing::error!(%error, files = ?self.files, "not usable, the old version stays"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current<T>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next [`Watched::get`] look at the files.
    #[cfg(test)]
    pub(crate) fn expire(&self) {
        self.lock().looked =
            Instant::now().checked_sub(PERIOD).expect("the clock runs for more than a second");
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<Version>> {
    let version = |path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
    };
    files.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let file = path.clone();
        let watched =
            Watched::new(vec![path.clone()], move || std::fs::read_to_string(&file).unwrap().parse::<u32>())
                .unwrap();
        assert_eq!(*watched.get(), 1);

        for (text, expected) in [("22", 22), ("twenty", 22), ("333", 333)] {
            std::fs::write(&path, text).unwrap();
            watched.expire();
            assert_eq!(*watched.get(), expected);
        }
    }
}
