//! The record of an image that has come or was made: its blobs are in the store, now it gets its place in `images/`.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::layer::{self, Kind};
use crate::oci::{Descriptor, ImageConfig};
use crate::platform::Platform;
use crate::store::{ImageRecord, Store, StoreError};

/// The platform that a config is for.
pub fn platform(config: &ImageConfig) -> Platform {
    Platform::new(&config.os, &config.architecture, config.variant.as_deref())
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
