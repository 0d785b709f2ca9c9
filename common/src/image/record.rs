//! The record of an image that has come or was made: its blobs are in the store, now it gets its place in `images/`.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::layer::{self, Kind};
use crate::oci::{CONFIG_LIMIT_BYTES, Descriptor, ImageConfig};
use crate::platform::Platform;
use crate::store::{CommitError, ImageRecord, Store, StoreError};

/// The platform that a config is for.
pub fn platform(config: &ImageConfig) -> Platform {
    Platform::new(&config.os, &config.architecture, config.variant.as_deref())
}

/// Why an image that was made here cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Nobody would read its config again.
    #[error(
        "image config has {size_bytes} bytes, at most {CONFIG_LIMIT_BYTES} are allowed; it holds all variables, labels and the \
         history"
    )]
    TooLarge {
        /// The length of the config.
        size_bytes: u64,
    },
    /// The config cannot be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The image cannot be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The bytes of a config that was made here.
///
/// # Errors
/// [`CreateError::TooLarge`].
pub fn encode(config: &ImageConfig) -> Result<Vec<u8>, CreateError> {
    let bytes = config.to_bytes();
    let size_bytes = bytes.len() as u64;
    if size_bytes > CONFIG_LIMIT_BYTES { Err(CreateError::TooLarge { size_bytes }) } else { Ok(bytes) }
}

/// Stores the config of an image that was made here, and records the image; its layers are in the store. Returns its ID.
///
/// # Errors
/// [`CreateError`]; nothing is recorded then.
pub fn create(store: &Store, config: &ImageConfig) -> Result<Digest, CreateError> {
    let id = store.put(&encode(config)?)?;
    put(store, &id, config, None)?;
    Ok(id)
}

/// Records an image whose config and layers are in the store, with the manifest that it came as. When this returns, all
/// that the image reaches is on the disk.
///
/// # Errors
/// [`StoreError`] when the record cannot be written.
pub fn put(
    store: &Store,
    id: &Digest,
    config: &ImageConfig,
    manifest: Option<&Descriptor>,
) -> Result<(), StoreError> {
    let created = config.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let mut record = ImageRecord::new(id.clone(), created.unwrap_or_else(Timestamp::now).as_second());
    let mut reach = store.reach().blob(id).image(id);
    if let Some(manifest) = manifest {
        record.manifests.insert(ImageRecord::foreign_form(&manifest.digest), manifest.clone());
        reach = reach.blob(&manifest.digest);
    }
    store.put_image(&record)?;
    for diff_id in &config.rootfs.diff_ids {
        reach = reach.layer(diff_id);
        for form in layer::forms(store, diff_id).unwrap_or_default() {
            reach = reach.blob(&form.blob);
        }
    }
    reach.sync()
}

/// What the files of an image's layers hold together, in bytes: docker's `SIZE`.
///
/// # Errors
/// [`layer::LayerError`] when a layer's table is missing or damaged.
pub fn size_bytes(store: &Store, config: &ImageConfig) -> Result<u64, layer::LayerError> {
    let mut size_bytes = 0;
    for diff_id in &config.rootfs.diff_ids {
        size_bytes += layer_size_bytes(store, diff_id)?;
    }
    Ok(size_bytes)
}

/// What the files of one layer hold together, in bytes.
///
/// # Errors
/// [`layer::LayerError`] when the layer's table is missing or damaged.
pub fn layer_size_bytes(store: &Store, diff_id: &Digest) -> Result<u64, layer::LayerError> {
    let index = layer::stored::index(store, diff_id)?;
    let files = index.entries().iter().filter_map(|entry| match &entry.kind {
        Kind::File { size_bytes, .. } => Some(*size_bytes),
        _ => None,
    });
    Ok(files.sum())
}
