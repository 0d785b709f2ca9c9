//! The store: bytes by their digest, and the records that give them names.
//!
//! Several processes use one store at once, without a daemon, a lock server or a database.
//!
//! ```text
//! format                          "1": a newer one is refused with a hint
//! secret                          0600: proof that a caller may read this store
//! blobs/<alg>/<hh>/<hex>          immutable bytes, 0444: manifests, configs, layers as they travel
//! layers/<alg>/<hh>/<hex>/        one folder per diff ID; `index`, `tar`, `previous`, `as/<codec>`: see `common::layer`
//! snapshots/<ids>/<alg>/<hh>/<hex>/tree   one folder per id mapping and chain ID: see `common::snapshot`
//! images/<alg>/<hex>              one record per image, named by its config digest
//! repos/local/<host>/<path>/      names of images on this machine  ┐ the same folders, one Rust type
//! repos/served/<path>/            repositories of the registry     ┘
//!     _tags/<tag>                 local: platform → config digest and what it came as; served: a manifest digest
//!     _manifests/<alg>/<hex>      this manifest belongs to this repository
//!     _referrers/<alg>/<hex>/<alg>-<hex>   descriptor of one referrer of that subject
//! refs/<alg>/<hh>/<hex>/<repo>    empty: this blob may be read through this repository (`/` written as `:`)
//! uploads/<session>/              data, state.json: a push in several requests
//! ingest/<id>                     files and folders being written
//! leases/<id>                     digests that somebody is about to reference, with an expiry
//! serving/<id>                    address, instance key and pid of each running server
//! trash/<day>/<alg>-<hex>         collected blobs wait here before they are unlinked
//! cache/ containers/ volumes/ networks/ events/   others' own
//! ```
//!
//! # Who may write, and under which lock
//!
//! | what | rule |
//! |---|---|
//! | `blobs` `refs` `_manifests` `_referrers` | no lock: a file is put whole by rename, the same key always holds the same |
//! | `_tags` | compare-and-swap under `flock` of the repository's folder; readers take no lock |
//! | `images` | read, merge, replace under `flock` of `images/<alg>` |
//! | `ingest/<id>`, `serving/<id>` | the owner holds `flock` on it; who can take that lock knows that the owner is gone |
//! | `uploads/<session>` | one request at a time holds `flock` on the folder |
//! | `leases/<id>` | its owner appends; ends by itself |
//!
//! Each of these is put-if-absent, replace-if-match, get, list by prefix or delete, so that `blobs`, `refs` and
//! `repos/served` can be kept on object storage under the same keys.
//!
//! # What survives a crash
//!
//! Bytes go to `ingest`, are checked against size and digest and written to the disk before the rename that names
//! them, so a name never shows bytes that a power cut can take. Names are made in the order blob, ref, manifest, tag,
//! and reach the disk together when the last of them commits: [`Store::reach`]. What was being written is removed by the
//! next process that opens the store. Folders below `blobs`, `refs` (down to `<hh>`), `images` and `repos` are never
//! removed, so each process syncs the way to them once.
//!
//! # What is not here
//!
//! Deciding what may be removed (the collector), what is in a layer, and everything that knows HTTP.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod age;
mod blob;
mod catalog;
mod check;
mod disk;
mod error;
#[cfg(test)]
mod faults;
mod hashed_file;
mod image;
mod ingest;
mod lease;
mod listing;
mod paths;
#[cfg(test)]
mod properties;
mod reach;
mod remove;
mod repository;
mod scratch;
mod serving;
mod tag;
#[cfg(test)]
mod tests;
mod upload;

use listing::Listings;

pub use age::RENEWAL;
pub use blob::{Blob, VerifiedReader};
pub use check::{CheckEvent, CheckOptions, CheckReport, Fault, Holder, Note, Record};
pub use error::{CommitError, ReadError, StoreError, if_sound};
pub use image::{FindError, ImageRecord};
pub use ingest::Ingest;
pub use lease::Lease;
pub use paths::Paths;
pub(crate) use paths::{FOREIGN, is_form_name};
pub use reach::Reach;
pub(crate) use remove::folder_names;
pub use remove::remove_tree;
pub use repository::{Expect, LocalRepository, ManifestLink, Repository, ServedRepository};
pub use scratch::Scratch;
pub use serving::{Server, Serving};
pub use tag::{LocalTag, ServedTag, TagRecord, TaggedImage};
pub use upload::{Upload, UploadError, UploadId, UploadIdError, UploadOptions, UploadState};

/// The version of the tree that this program writes.
const FORMAT: u32 = 1;

/// One store. Cheap to clone; all clones, and other processes, may use it at once.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Paths,
    /// Folders whose own name is known to be on the disk.
    durable_folders: Mutex<HashSet<PathBuf>>,
    listings: Listings,
}

impl Store {
    /// Opens the store at `root`, making it when it is not there, and removes what dead processes left.
    /// The time this takes does not depend on how much is stored.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] when a later version of this program made it, [`StoreError::Io`] when it cannot
    /// be made or read.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let store = Store::at(root);
        if !store.exists()? {
            store.initialize()?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Opens the store at `root` without making it: one that is not there reads as empty, and nothing is to be written
    /// to it. Of one that is there, what dead processes left is removed.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_as_it_is(root: &Path) -> Result<Store, StoreError> {
        let store = Store::at(root);
        if store.exists()? {
            store.sweep()?;
        }
        Ok(store)
    }

    fn at(root: &Path) -> Store {
        let paths = Paths::new(root);
        Store(Arc::new(Inner { paths, durable_folders: Mutex::default(), listings: Listings::default() }))
    }

    /// The store's root folder.
    pub fn root(&self) -> &Path {
        self.0.paths.root()
    }

    /// Where everything is.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// Whether the store is there, in a format that is known here.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] when a later version of this program made it, [`StoreError::Io`] when that cannot be
    /// read.
    pub fn exists(&self) -> Result<bool, StoreError> {
        let Some(bytes) = disk::read(&self.paths().format())? else { return Ok(false) };
        let found = String::from_utf8_lossy(&bytes).trim().to_owned();
        if found.parse::<u32>().is_ok_and(|found| (1..=FORMAT).contains(&found)) {
            return Ok(true);
        }
        Err(StoreError::NewerFormat { root: self.root().to_owned(), found, known: FORMAT })
    }

    /// 32 random bytes that only those know who may read this store. Made when first asked for.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be read or written.
    pub fn secret(&self) -> Result<[u8; 32], StoreError> {
        let path = self.paths().secret();
        for _ in 0..2 {
            if let Some(bytes) = disk::read(&path)? {
                return bytes.try_into().map_err(|_| {
                    StoreError::io("read", &path)(io::Error::new(io::ErrorKind::InvalidData, "not 32 bytes"))
                });
            }
            let mut secret = [0; 32];
            disk::fill_random(&mut secret)?;
            disk::put_if_absent(&self.paths().ingest(), &path, &secret, 0o600)?;
            self.reach().folder(self.root().to_owned()).sync()?;
        }
        Err(StoreError::io("read", &path)(io::ErrorKind::NotFound.into()))
    }

    /// Only the owner may look into the store: trees have set-user-id programs of all ages, layers have secrets.
    fn initialize(&self) -> Result<(), StoreError> {
        let root = self.root();
        let make = |folder: &Path| {
            let result = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            result.map_err(StoreError::io("make", folder))
        };
        make(root)?;
        make(&self.paths().ingest())?;
        let format = format!("{FORMAT}\n");
        disk::put_if_absent(&self.paths().ingest(), &self.paths().format(), format.as_bytes(), 0o644)?;
        for folder in [Some(root), root.parent()].into_iter().flatten() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            disk::sync_folder(folder).map_err(StoreError::io("sync", folder))?;
        }
        Ok(())
    }

    /// Removes what processes that are gone have left half done.
    fn sweep(&self) -> Result<(), StoreError> {
        let swept = self.sweep_ingest()? + self.sweep_leases()? + self.sweep_servers()?;
        if swept > 0 {
            tracing::info!(store = %self.root().display(), swept, "removed what dead processes left");
        }
        Ok(())
    }

    fn listings(&self) -> &Listings {
        &self.0.listings
    }

    fn durable_folders(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set of names is whole whoever panicked.
        self.0.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
