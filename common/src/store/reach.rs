use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::Store;
use super::disk;
use super::error::StoreError;
use super::paths::RepositoryPaths;
use super::repository::{LocalRepository, ServedRepository};
use crate::digest::{Algorithm, Digest};

/// How many folders a process remembers as being on the disk.
const REMEMBERED: usize = 4096;

/// What a commit reaches: the folders whose entries have to be on the disk before its `201`, or its printed ID,
/// may be believed. Bytes are on the disk before they get a name; this makes the names durable, each folder once.
///
/// ```text
/// store.reach().blob(&config).blob(&layer).manifest(&repository, &digest).tags(&repository).sync()?
/// ```
#[derive(Debug)]
#[must_use = "nothing is durable before `sync`"]
pub struct Reach<'s> {
    store: &'s Store,
    folders: BTreeSet<PathBuf>,
}

impl Store {
    /// An empty set of things to make durable.
    pub fn reach(&self) -> Reach<'_> {
        Reach { store: self, folders: BTreeSet::new() }
    }
}

impl Reach<'_> {
    /// The name of a blob.
    pub fn blob(self, digest: &Digest) -> Self {
        let path = self.store.paths().blob(digest);
        self.parent_of(&path)
    }

    /// That `digest` may be read through `repository`.
    pub fn reference(self, repository: &ServedRepository, digest: &Digest) -> Self {
        let path = self.store.paths().reference(digest, repository.path());
        // The folder of one digest's references comes and goes, so the one above it counts too.
        let folder = self.store.paths().refs_of(digest);
        self.parent_of(&path).parent_of(&folder)
    }

    /// A manifest's blob and its link in `repository`.
    pub fn manifest(self, repository: &ServedRepository, digest: &Digest) -> Self {
        let path = repository.paths().manifest(digest);
        self.blob(digest).parent_of(&path)
    }

    /// A referrer's entry under its subject.
    pub fn referrer(self, repository: &ServedRepository, subject: &Digest) -> Self {
        let folder = repository.paths().referrers(subject);
        self.folder(folder)
    }

    /// The tags of a served repository.
    pub fn tags(self, repository: &ServedRepository) -> Self {
        self.tag_folder(repository.paths())
    }

    /// The names in a repository of this machine.
    pub fn local_tags(self, repository: &LocalRepository) -> Self {
        self.tag_folder(repository.paths())
    }

    fn tag_folder(self, paths: &RepositoryPaths) -> Self {
        self.folder(paths.tags())
    }

    /// The record of an image.
    pub fn image(self, id: &Digest) -> Self {
        let path = self.store.paths().image(id);
        self.parent_of(&path)
    }

    /// All files in the folder of a layer.
    pub fn layer(self, diff_id: &Digest) -> Self {
        let paths = self.store.paths();
        let (folder, forms) = (paths.layer(diff_id), paths.layer_forms(diff_id));
        self.parent_of(&folder).folder(folder).folder(forms)
    }

    /// Another folder of the store.
    pub fn folder(mut self, folder: PathBuf) -> Self {
        self.folders.insert(folder);
        self
    }

    fn parent_of(self, path: &Path) -> Self {
        let parent = path.parent().expect("paths of the store have a parent").to_owned();
        self.folder(parent)
    }

    /// Writes all these names to the disk, and those of the folders on the way to them. When this returns, a power
    /// cut takes none of them. A folder that is not there is no error: what was in it is gone, so somebody removed it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails: then nothing that was reached may be acknowledged.
    pub fn sync(self) -> Result<(), StoreError> {
        let mut durable = self.store.durable_folders();
        let mut folders = self.folders;
        let mut on_the_way = Vec::new();
        for folder in folders.clone() {
            for folder in folder.ancestors().take_while(|f| *f != self.store.root()) {
                if durable.contains(folder) {
                    break;
                }
                on_the_way.push(folder.to_owned());
                folders.extend(folder.parent().map(Path::to_owned));
            }
        }
        drop(durable);
        for folder in &folders {
            match disk::sync_folder(folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(StoreError::io("sync", folder))?,
            }
        }
        durable = self.store.durable_folders();
        if durable.len() + on_the_way.len() > REMEMBERED {
            durable.clear();
        }
        // Only folders that are never removed may be remembered: if one came back, its new entry would be lost.
        durable.extend(on_the_way.into_iter().filter(|f| is_permanent(f)));
        Ok(())
    }
}

/// Folders named by a whole digest come and go; the others stay.
fn is_permanent(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.len() < Algorithm::Sha256.hex_len())
}
