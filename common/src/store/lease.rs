use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Store;
use super::disk;
use super::error::StoreError;
use super::listing::{self, Sort};
use super::scratch::unless_read_only;
use crate::digest::Digest;

/// Digests that a build, pull or container is about to reference: the collector leaves them alone until the lease is
/// dropped or has expired.
///
/// The file is a line of JSON and then a digest a line, each appended by one write. It is never synced: a power cut
/// ends whoever held it.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    file: File,
    expires: SystemTime,
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct LeaseHeader {
    version: u32,
    /// Seconds since 1970.
    expires: u64,
}

impl Store {
    /// A lease without digests that ends after `lifetime`, if it is not dropped before.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn lease(&self, lifetime: Duration) -> Result<Lease, StoreError> {
        let path = self.paths().leases().join(disk::random_id()?);
        let expires = SystemTime::now() + lifetime;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let file =
            disk::with_parent(&path, || options.open(&path)).map_err(StoreError::io("create", &path))?;
        let mut lease = Lease { path, file, expires };
        let header = LeaseHeader { version: VERSION, expires: disk::unix_seconds(expires) };
        lease.append(&disk::encode(&header))?;
        Ok(lease)
    }

    /// All digests that some living lease holds.
    ///
    /// # Errors
    /// [`StoreError`] when a lease cannot be read.
    pub fn leased(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let now = disk::unix_seconds(SystemTime::now());
        let mut leased = BTreeSet::new();
        for id in listing::known(&self.paths().leases(), Sort::File, disk::as_random_id)? {
            let path = self.paths().leases().join(id);
            let Some(bytes) = disk::read(&path)? else { continue };
            let mut lines = bytes.split(|b| *b == b'\n');
            let Some(header) = lines.next().filter(|line| !line.is_empty()) else { continue };
            if disk::decode::<LeaseHeader>(&path, VERSION, header)?.expires > now {
                // A last line that is half written is of somebody who was killed.
                leased
                    .extend(lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse::<Digest>().ok()));
            }
        }
        Ok(leased)
    }

    /// Removes the leases that have expired; how many.
    pub(super) fn sweep_leases(&self) -> Result<usize, StoreError> {
        let now = disk::unix_seconds(SystemTime::now());
        let mut swept = 0;
        for id in listing::known(&self.paths().leases(), Sort::File, disk::as_random_id)? {
            let path = self.paths().leases().join(id);
            let Some(bytes) = disk::read(&path)? else { continue };
            let header = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            let expired =
                disk::decode::<LeaseHeader>(&path, VERSION, header).is_ok_and(|lease| lease.expires <= now);
            swept += usize::from(expired && unless_read_only(disk::remove_file(&path))?);
        }
        Ok(swept)
    }
}

impl Lease {
    /// Holds a digest too.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn add(&mut self, digest: &Digest) -> Result<(), StoreError> {
        self.append(format!("{digest}\n").as_bytes())
    }

    /// When the lease ends by itself.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    fn append(&mut self, line: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(line).map_err(StoreError::io("write", &self.path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove a lease");
        }
    }
}
