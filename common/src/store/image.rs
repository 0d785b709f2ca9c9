use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Store;
use super::disk::{self, Lock};
use super::error::{StoreError, if_sound};
use super::paths::FOREIGN;
use super::repository::digests_in;
use crate::digest::{Algorithm, Digest};
use crate::oci::Descriptor;
use crate::reference::Reference;

/// What is known of an image besides its config. An image is there exactly if its record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The config digest.
    pub id: Digest,
    /// When the image was made, in seconds since 1970: as its config says, else when it came here.
    pub created: i64,
    /// Its manifests, by form: `foreign-<digest>` for one that it came as, else the codec and encoder version of
    /// the layers that it was made with.
    pub manifests: BTreeMap<String, Descriptor>,
    /// What it was pulled and pushed as, `repository@digest`; sorted.
    pub names: Vec<Reference>,
}

impl ImageRecord {
    /// A record without manifests and names.
    pub fn new(id: Digest, created: i64) -> Self {
        ImageRecord { id, created, manifests: BTreeMap::new(), names: Vec::new() }
    }

    /// Adds a name, unless it is there.
    pub fn add_name(&mut self, name: Reference) {
        if let Err(place) = self.names.binary_search(&name) {
            self.names.insert(place, name);
        }
    }

    /// The key in `manifests` of a manifest that the image came as.
    pub fn foreign_form(manifest: &Digest) -> String {
        format!("{FOREIGN}{manifest}")
    }
}

const VERSION: u32 = 1;

/// `images/<alg>/<config digest>`
#[derive(Serialize, Deserialize)]
struct ImageFile {
    version: u32,
    created: i64,
    manifests: BTreeMap<String, Descriptor>,
    names: Vec<Reference>,
}

/// More than one image begins with a prefix.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There are several.
    #[error("image ID `{prefix}` is ambiguous: {} images begin with it", candidates.len())]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The images that begin with it.
        candidates: Vec<Digest>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Records an image; manifests and names that are recorded already stay. Durable with
    /// [`super::Reach::image`], which should reach the config and the layers too.
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read or written.
    pub fn put_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let _lock = self.lock_images(image.id.algorithm())?;
        let mut merged = image.clone();
        if let Some(old) = if_sound(self.image(&image.id))? {
            for (form, manifest) in old.manifests {
                merged.manifests.entry(form).or_insert(manifest);
            }
            old.names.into_iter().for_each(|name| merged.add_name(name));
        }
        self.write_image(&merged)
    }

    /// Changes the record of an image; whether there is one.
    ///
    /// # Errors
    /// [`StoreError`] when the record cannot be read or written.
    pub fn update_image(
        &self,
        id: &Digest,
        change: impl FnOnce(&mut ImageRecord),
    ) -> Result<bool, StoreError> {
        let _lock = self.lock_images(id.algorithm())?;
        let Some(mut image) = self.image(id)? else { return Ok(false) };
        change(&mut image);
        self.write_image(&image)?;
        Ok(true)
    }

    /// The record of an image, `None` when there is no such image.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::NewerRecord`] when the record cannot be understood.
    pub fn image(&self, id: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        let file: Option<ImageFile> = disk::read_record(&self.paths().image(id), VERSION)?;
        Ok(file.map(|file| ImageRecord {
            id: id.clone(),
            created: file.created,
            manifests: file.manifests,
            names: file.names,
        }))
    }

    /// All images, sorted by ID, and what is wrong with the records that cannot be understood.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder or a record cannot be read.
    pub fn images(&self) -> Result<(Vec<ImageRecord>, Vec<StoreError>), StoreError> {
        let (mut images, mut damaged) = (Vec::new(), Vec::new());
        for id in self.image_ids()? {
            match self.image(&id) {
                Ok(image) => images.extend(image),
                Err(error) if error.is_of_one_record() => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((images, damaged))
    }

    /// The IDs of all images, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the folder cannot be read.
    pub fn image_ids(&self) -> Result<Vec<Digest>, StoreError> {
        digests_in(&self.paths().all_images())
    }

    /// Forgets an image; whether it was there. Its blobs and layers are the collector's; names are the caller's.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the record cannot be removed.
    pub fn remove_image(&self, id: &Digest) -> Result<bool, StoreError> {
        let _lock = self.lock_images(id.algorithm())?;
        disk::remove_file(&self.paths().image(id))
    }

    /// The image whose ID begins with `prefix`: hex digits, perhaps with `sha256:` in front. `None` when there is
    /// none, or when `prefix` cannot be the beginning of an ID.
    ///
    /// # Errors
    /// [`FindError::Ambiguous`] when there are several.
    pub fn find_image(&self, prefix: &str) -> Result<Option<Digest>, FindError> {
        let (algorithm, digits) = match prefix.split_once(':') {
            Some((algorithm, digits)) => (Some(algorithm), digits),
            None => (None, prefix),
        };
        if digits.is_empty() {
            return Ok(None);
        }
        let mut candidates = self.image_ids()?;
        candidates.retain(|id| {
            id.hex().starts_with(digits) && algorithm.is_none_or(|a| a == id.algorithm().as_str())
        });
        if candidates.len() > 1 {
            return Err(FindError::Ambiguous { prefix: prefix.to_owned(), candidates });
        }
        Ok(candidates.pop())
    }

    fn write_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let file = ImageFile {
            version: VERSION,
            created: image.created,
            manifests: image.manifests.clone(),
            names: image.names.clone(),
        };
        disk::write_record(&self.paths().ingest(), &self.paths().image(&image.id), &file)
    }

    /// Only one at a time changes image records.
    fn lock_images(&self, algorithm: Algorithm) -> Result<Lock, StoreError> {
        Lock::wait(&self.paths().images(algorithm))
    }
}
