use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Store;
use super::disk::{self, Lock};
use super::error::{StoreError, if_sound};
use super::listing::{self, Sort};
use super::paths::{RepositoryPaths, flat, from_flat, from_reference};
use super::tag::{LocalTag, ServedTag, TagRecord};
use crate::digest::{Algorithm, Digest};
use crate::oci::Descriptor;
use crate::reference::{Repository as Name, RepositoryPath, Tag};

/// A repository of the registry: its tags name manifests.
pub type ServedRepository = Repository<RepositoryPath, ServedTag>;
/// A repository of names on this machine: its tags name images.
pub type LocalRepository = Repository<Name, LocalTag>;

/// One folder below `repos/`. It need not exist; the first thing written to it makes it.
#[derive(Debug, Clone)]
pub struct Repository<N, T> {
    store: Store,
    name: N,
    paths: RepositoryPaths,
    tag: PhantomData<fn() -> T>,
}

impl Store {
    /// The names of images of `name` on this machine.
    pub fn local(&self, name: &Name) -> LocalRepository {
        let paths = RepositoryPaths { root: self.paths().local_repository(name) };
        Repository { store: self.clone(), name: name.clone(), paths, tag: PhantomData }
    }

    /// A repository of the registry.
    pub fn served(&self, path: &RepositoryPath) -> ServedRepository {
        let paths = RepositoryPaths { root: self.paths().served_repository(path) };
        Repository { store: self.clone(), name: path.clone(), paths, tag: PhantomData }
    }
}

/// What a tag must be when it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect<'a, T> {
    /// Whatever it is.
    Anything,
    /// Not there, or damaged: such a record names nothing.
    Absent,
    /// This.
    Is(&'a T),
}

impl<N, T: TagRecord> Repository<N, T> {
    /// The repository's name.
    pub fn name(&self) -> &N {
        &self.name
    }

    pub(super) fn paths(&self) -> &RepositoryPaths {
        &self.paths
    }

    /// The tags after `after`, sorted by bytes, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be read.
    pub fn tags(&self, after: Option<&str>, limit: Option<usize>) -> Result<Vec<Tag>, StoreError> {
        let parse = |name: &str| name.parse().ok();
        self.store.listings().known(&self.paths.tags(), Sort::File, after, limit, parse)
    }

    /// What a tag names, `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::NewerRecord`] when the record cannot be understood.
    pub fn tag(&self, tag: &Tag) -> Result<Option<T>, StoreError> {
        let path = self.paths.tag(tag);
        disk::read(&path)?.map(|bytes| T::decode(&path, &bytes)).transpose()
    }

    /// Sets a tag, if it is what the caller expects; whether it was set. Concurrent changes by whatever process
    /// happen one after the other. A served tag is not set to a manifest that is not linked, or was unlinked in the
    /// meantime. Durable with [`super::Reach::tags`] or [`super::Reach::local_tags`].
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read or written.
    pub fn set_tag(&self, tag: &Tag, record: &T, expect: Expect<'_, T>) -> Result<bool, StoreError> {
        let _lock = self.lock()?;
        let resolves = record.needs().is_none_or(|manifest| self.paths.manifest(manifest).exists());
        if !resolves || !self.is_as_expected(tag, expect)? {
            return Ok(false);
        }
        disk::replace(&self.store.paths().ingest(), &self.paths.tag(tag), &record.encode(), 0o644)?;
        Ok(true)
    }

    /// Removes a tag, if it is what the caller expects; whether it was there and removed.
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read or removed.
    pub fn delete_tag(&self, tag: &Tag, expect: Expect<'_, T>) -> Result<bool, StoreError> {
        if !self.paths.tags().exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        Ok(self.is_as_expected(tag, expect)? && disk::remove_file(&self.paths.tag(tag))?)
    }

    fn is_as_expected(&self, tag: &Tag, expect: Expect<'_, T>) -> Result<bool, StoreError> {
        Ok(match expect {
            Expect::Anything => true,
            Expect::Absent => if_sound(self.tag(tag))?.is_none(),
            Expect::Is(record) => if_sound(self.tag(tag))?.as_ref() == Some(record),
        })
    }

    /// Only one at a time changes tags and lists of referrers of a repository, or unlinks what they name.
    fn lock(&self) -> Result<Lock, StoreError> {
        Lock::wait(&self.paths.root)
    }
}

/// That a manifest belongs to a repository, and what has to be known of it without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLink {
    /// The type it was pushed as.
    pub media_type: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// The manifest it refers to.
    pub subject: Option<Digest>,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Children that were not in the repository when it was pushed: their absence is no fault.
    pub absent_children: Vec<Digest>,
}

const MANIFEST_VERSION: u32 = 1;

/// `_manifests/<alg>/<hex>`
#[derive(Serialize, Deserialize)]
struct ManifestFile {
    version: u32,
    media_type: String,
    size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    absent_children: Vec<Digest>,
}

const REFERRER_VERSION: u32 = 1;

/// `_referrers/<alg>/<hex>/<alg>-<hex>`
#[derive(Serialize, Deserialize)]
struct ReferrerFile {
    version: u32,
    descriptor: Descriptor,
}

impl ServedRepository {
    /// The repository's path, as in URLs.
    pub fn path(&self) -> &RepositoryPath {
        &self.name
    }

    /// Whether it has, or had, manifests or tags. A folder that is only on the way to another repository is none.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system fails.
    pub fn exists(&self) -> Result<bool, StoreError> {
        let there = |path: &Path| path.try_exists().map_err(StoreError::io("read", path));
        Ok(there(&self.paths.manifests())? || there(&self.paths.tags())?)
    }

    /// Says that a manifest, whose blob is in the store, belongs to this repository. Durable with
    /// [`super::Reach::manifest`].
    ///
    /// # Errors
    /// [`StoreError::Io`] when the record cannot be written.
    pub fn link_manifest(&self, digest: &Digest, link: &ManifestLink) -> Result<(), StoreError> {
        let link = link.clone();
        let file = ManifestFile {
            version: MANIFEST_VERSION,
            media_type: link.media_type,
            size_bytes: link.size_bytes,
            subject: link.subject,
            artifact_type: link.artifact_type,
            absent_children: link.absent_children,
        };
        disk::write_record(&self.store.paths().ingest(), &self.paths.manifest(digest), &file)
    }

    /// What is known of a manifest of this repository; `None` when it is not one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::NewerRecord`] when the record cannot be understood.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<ManifestLink>, StoreError> {
        let file: Option<ManifestFile> = disk::read_record(&self.paths.manifest(digest), MANIFEST_VERSION)?;
        Ok(file.map(|file| ManifestLink {
            media_type: file.media_type,
            size_bytes: file.size_bytes,
            subject: file.subject,
            artifact_type: file.artifact_type,
            absent_children: file.absent_children,
        }))
    }

    /// The manifests of this repository, tagged or not, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folders cannot be read.
    pub fn manifests(&self) -> Result<Vec<Digest>, StoreError> {
        digests_in(&self.paths.manifests())
    }

    /// Removes a manifest from this repository, every tag that names it and its entry under its subject; whether it
    /// was there. Tags are not changed meanwhile. Its own referrers stay, as the spec asks.
    ///
    /// # Errors
    /// [`StoreError`] when a record cannot be read or removed.
    pub fn unlink_manifest(&self, digest: &Digest) -> Result<bool, StoreError> {
        if self.manifest(digest)?.is_none() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let Some(link) = self.manifest(digest)? else { return Ok(false) };
        for tag in self.tags(None, None)? {
            if self.tag(&tag)?.is_some_and(|record| record.manifest == *digest) {
                disk::remove_file(&self.paths.tag(&tag))?;
            }
        }
        if let Some(subject) = &link.subject {
            self.remove_referrer(subject, digest)?;
        }
        disk::remove_file(&self.paths.manifest(digest))
    }

    /// Lists `referrer` under `subject`, which need not exist; whether it did. It does not when the referrer is not
    /// linked, or was unlinked in the meantime. Durable with [`super::Reach::referrer`].
    ///
    /// # Errors
    /// [`StoreError::Io`] when the record cannot be written.
    pub fn add_referrer(&self, subject: &Digest, referrer: &Descriptor) -> Result<bool, StoreError> {
        let _lock = self.lock()?;
        if !self.paths.manifest(&referrer.digest).exists() {
            return Ok(false);
        }
        let file = ReferrerFile { version: REFERRER_VERSION, descriptor: referrer.clone() };
        let path = self.paths.referrer(subject, &referrer.digest);
        disk::write_record(&self.store.paths().ingest(), &path, &file)?;
        Ok(true)
    }

    /// The referrers of `subject` whose digest is after `after`, sorted by digest, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when a record cannot be read.
    pub fn referrers(
        &self,
        subject: &Digest,
        after: Option<&Digest>,
        limit: Option<usize>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let folder = self.paths.referrers(subject);
        let after = after.map(flat);
        let mut referrers = Vec::new();
        for digest in self.store.listings().known(&folder, Sort::File, after.as_deref(), limit, from_flat)? {
            // Gone since it was listed: no longer a referrer.
            let path = self.paths.referrer(subject, &digest);
            let file: Option<ReferrerFile> = disk::read_record(&path, REFERRER_VERSION)?;
            referrers.extend(file.map(|file| file.descriptor));
        }
        Ok(referrers)
    }

    /// Takes `referrer` off the list of `subject`; whether it was there.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the record cannot be removed.
    pub fn remove_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool, StoreError> {
        let removed = disk::remove_file(&self.paths.referrer(subject, referrer))?;
        remove_if_empty(&self.paths.referrers(subject))?;
        Ok(removed)
    }

    /// Lets a blob be read through this repository. Durable with [`super::Reach::reference`].
    ///
    /// # Errors
    /// [`StoreError::Io`] when the entry cannot be made.
    pub fn add_ref(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.store.paths().reference(digest, &self.name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        disk::with_parent(&path, || options.open(&path)).map_err(StoreError::io("create", &path))?;
        Ok(())
    }

    /// Whether a blob may be read through this repository.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system fails.
    pub fn has_ref(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.store.paths().reference(digest, &self.name);
        path.try_exists().map_err(StoreError::io("read", &path))
    }

    /// Lets a blob be read through this repository no longer; whether it could be.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the entry cannot be removed.
    pub fn remove_ref(&self, digest: &Digest) -> Result<bool, StoreError> {
        let removed = disk::remove_file(&self.store.paths().reference(digest, &self.name))?;
        remove_if_empty(&self.store.paths().refs_of(digest))?;
        Ok(removed)
    }
}

impl Store {
    /// The repositories through which a blob may be read, sorted by the names of their entries.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be read.
    pub fn ref_holders(&self, digest: &Digest) -> Result<Vec<RepositoryPath>, StoreError> {
        listing::known(&self.paths().refs_of(digest), Sort::File, from_reference)
    }
}

/// The digests that `folder/<alg>/<hex>` name, sorted.
pub(super) fn digests_in(folder: &Path) -> Result<Vec<Digest>, StoreError> {
    let mut digests = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let parse = |name: &str| Digest::new(algorithm, name).ok();
        digests.extend(listing::known(&folder.join(algorithm.as_str()), Sort::File, parse)?);
    }
    Ok(digests)
}

fn remove_if_empty(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir(folder) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(StoreError::io("remove", folder)(e))
        }
        _ => Ok(()),
    }
}
