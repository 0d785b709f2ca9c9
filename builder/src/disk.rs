//! Replacing a small file of the store's `cache/`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use common::store::Store;
use rustix::fs::FlockOperation;

/// Replaces the file at `target` by `bytes`; readers see the old one or the new one. It is not synced: what is lost at
/// a power cut is known again after the next build, and readers check what they read.
///
/// The new file grows in `ingest/`, locked, so that one left behind by a killed process is swept.
pub(crate) fn replace(store: &Store, target: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = format!("cache-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let temporary = store.paths().ingest().join(name);
    let result = write(&temporary, target, bytes);
    if result.is_err() {
        // The error of the write counts; the sweep takes what cannot be removed now.
        _ = fs::remove_file(&temporary);
    }
    result
}

fn write(temporary: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(target.parent().expect("files of the cache are in a folder"))?;
    let mut file = File::create(temporary)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    file.write_all(bytes)?;
    fs::rename(temporary, target)
}
