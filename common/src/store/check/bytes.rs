use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use super::references::fanned_out;
use super::{Check, CheckEvent, CheckOptions, Fault, Note};
use crate::digest::Digest;
use crate::store::disk;
use crate::store::error::StoreError;
use crate::store::listing::Sort;

const BUFFER_BYTES: usize = 1024 * 1024;

/// A file whose name says what its bytes are.
struct Job {
    digest: Digest,
    path: PathBuf,
    size_bytes: u64,
    is_tar: bool,
}

impl Check<'_> {
    /// Reads every blob and every tar, and counts what nothing reaches.
    pub(super) fn bytes(&mut self, options: &CheckOptions<'_>) -> Result<(), StoreError> {
        let mut jobs = self.blobs(options.grace)?;
        self.report.blobs = jobs.len() as u64;
        for (digest, folder) in fanned_out(&self.store.paths().layers(), Sort::Folder)? {
            let path = folder.join("tar");
            let metadata =
                disk::absent_is_none(fs::metadata(&path)).map_err(StoreError::io("read", &path))?;
            jobs.extend(metadata.map(|m| Job { digest, path, size_bytes: m.len(), is_tar: true }));
        }
        self.report.size_bytes = jobs.iter().map(|job| job.size_bytes).sum();
        (options.progress)(CheckEvent::Reading {
            files: jobs.len() as u64,
            size_bytes: self.report.size_bytes,
        });
        let mut faults = verify(&jobs, options);
        if options.remove_damaged {
            for fault in &mut faults {
                match fault {
                    Fault::Blob { digest, removed, .. } => {
                        *removed = self.store.remove_damaged(&self.store.paths().blob(digest), digest)?;
                        let forms = self.dispensable.get(digest).filter(|_| *removed);
                        for form in forms.into_iter().flatten() {
                            disk::remove_file(form)?;
                        }
                    }
                    Fault::Tar { diff_id, removed, .. } => {
                        let path = self.store.paths().layer_tar(diff_id);
                        *removed = self.store.remove_damaged(&path, diff_id)?;
                    }
                    _ => {}
                }
            }
        }
        self.report.faults.extend(faults);
        Ok(())
    }

    fn blobs(&mut self, grace: Option<Duration>) -> Result<Vec<Job>, StoreError> {
        let leased = self.store.leased()?;
        let now = SystemTime::now();
        let (mut unreached, mut unreached_bytes) = (0, 0);
        let mut jobs = Vec::new();
        for (digest, path) in fanned_out(&self.store.paths().blobs(), Sort::File)? {
            let metadata =
                disk::absent_is_none(fs::metadata(&path)).map_err(StoreError::io("read", &path))?;
            let Some(metadata) = metadata else { continue };
            if !self.reached.contains(&digest) && !leased.contains(&digest) {
                unreached += 1;
                unreached_bytes += metadata.len();
                let modified = metadata.modified().map_err(StoreError::io("read", &path))?;
                let age = now.duration_since(modified).unwrap_or_default();
                if grace.is_some_and(|grace| age > 2 * grace) {
                    self.report.faults.push(Fault::Uncollected { digest: digest.clone() });
                }
            }
            jobs.push(Job { digest, path, size_bytes: metadata.len(), is_tar: false });
        }
        if unreached > 0 {
            self.report.notes.push(Note::Unreached { blobs: unreached, size_bytes: unreached_bytes });
        }
        Ok(jobs)
    }
}

/// Hashes all files, several at once, each thread taking the next one.
fn verify(jobs: &[Job], options: &CheckOptions<'_>) -> Vec<Fault> {
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let work = || {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(fault) = verify_one(job, &mut buffer, options) {
                faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    faults.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn verify_one(job: &Job, buffer: &mut [u8], options: &CheckOptions<'_>) -> Option<Fault> {
    match digest_of(&job.path, &job.digest, buffer, options) {
        Ok(actual) if actual == job.digest => None,
        Ok(actual) if job.is_tar => Some(Fault::Tar { diff_id: job.digest.clone(), actual, removed: false }),
        Ok(actual) => Some(Fault::Blob { digest: job.digest.clone(), actual, removed: false }),
        // Collected since it was listed.
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(Fault::Unreadable(StoreError::io("read", &job.path)(e))),
    }
}

fn digest_of(
    path: &Path,
    expected: &Digest,
    buffer: &mut [u8],
    options: &CheckOptions<'_>,
) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = expected.algorithm().hasher();
    loop {
        let n = file.read(buffer)?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
        (options.progress)(CheckEvent::Read { size_bytes: n as u64 });
    }
}
