//! The manifest by which an image travels. One that it came with is used again, byte for byte, as long as all that it names
//! is here; else it is a pure function of the config, the codec and the encoder's version, made when it is first needed and
//! remembered in the image's record.

use std::collections::BTreeMap;

use super::names::{self, ConfigError};
use crate::digest::Digest;
use crate::layer::{self, Codec, EncodeOptions, Form, LayerError};
use crate::oci::{Descriptor, MANIFEST_LIMIT_BYTES, Manifest, ManifestOrIndex, ParseError, media_type};
use crate::store::{CommitError, ImageRecord, ReadError, Store, StoreError};

/// Why an image has no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is no such image.
    #[error("image {0} is not in the store")]
    NoImage(Digest),
    /// An index stands where a manifest should be.
    #[error("{0} is an index, not the manifest of one image")]
    Index(Digest),
    /// What was recorded as a manifest is none.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The config cannot be had.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A layer cannot be encoded.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The manifest cannot be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A blob cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The manifest of an image, with all blobs that it refers to in the store: the one that it came with, else one whose
/// layers are encoded by `codec`. Layers that came compressed keep their blobs in either case.
///
/// # Errors
/// [`ManifestError`].
pub fn for_push(store: &Store, id: &Digest, codec: Codec) -> Result<Descriptor, ManifestError> {
    let record = store.image(id)?.ok_or_else(|| ManifestError::NoImage(id.clone()))?;
    for (form, manifest) in &record.manifests {
        // The index that it came by is on record, too.
        if *form == ImageRecord::foreign_form(&manifest.digest)
            && media_type::is_manifest(&manifest.media_type)
            && is_complete(store, manifest)?
        {
            return Ok(manifest.clone());
        }
    }
    let manifest = make(store, id, codec)?;
    let bytes =
        serde_json::to_vec(&manifest).expect("a manifest has string keys and no value fails to serialise");
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
    if record.manifests.get(layer::form_name(codec)) == Some(&descriptor)
        && store.blob_size(&descriptor.digest)?.is_some()
    {
        return Ok(descriptor);
    }
    store.put(&bytes)?;
    let remembered = descriptor.clone();
    store.update_image(id, |record| {
        record.manifests.insert(layer::form_name(codec).to_owned(), remembered);
    })?;
    let mut reach = store.reach().blob(&descriptor.digest).image(id);
    for layer in &manifest.layers {
        reach = reach.blob(&layer.digest);
    }
    reach.sync()?;
    Ok(descriptor)
}

fn make(store: &Store, id: &Digest, codec: Codec) -> Result<Manifest, ManifestError> {
    let config = names::config(store, id)?;
    let size_bytes = store.blob_size(id)?.unwrap_or_default();
    let layers = config.rootfs.diff_ids.iter().map(|diff_id| Ok(form(store, diff_id, codec)?.descriptor()));
    Ok(Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media_type::OCI_CONFIG, id.clone(), size_bytes),
        layers: layers.collect::<Result<_, ManifestError>>()?,
        subject: None,
        annotations: BTreeMap::new(),
    })
}

/// The blob that a layer came as, when it came compressed; else one of our own making. What our own writer made is always
/// compressed here, also when it came from elsewhere meanwhile: its digest must not depend on what was pulled.
fn form(store: &Store, diff_id: &Digest, codec: Codec) -> Result<Form, LayerError> {
    let is_ours = layer::stored::index(store, diff_id)?.canonical.is_some();
    match layer::foreign_form(store, diff_id)? {
        Some(form) if !is_ours && form.codec != Codec::Plain => Ok(form),
        _ => layer::encode(store, diff_id, codec, &EncodeOptions::default()),
    }
}

/// Reads a manifest or index that is in the store.
pub(super) fn read(store: &Store, descriptor: &Descriptor) -> Result<ManifestOrIndex, ManifestError> {
    let bytes = store.read_blob(&descriptor.digest, MANIFEST_LIMIT_BYTES)?;
    Ok(ManifestOrIndex::parse(&bytes, Some(&descriptor.media_type))?)
}

/// Whether a manifest or index and all that it names are in the store.
pub(super) fn is_complete(store: &Store, descriptor: &Descriptor) -> Result<bool, ManifestError> {
    let document = match read(store, descriptor) {
        Err(ManifestError::Read(ReadError::Missing { .. })) => return Ok(false),
        document => document?,
    };
    match document {
        ManifestOrIndex::Manifest(manifest) => {
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                if store.blob_size(&blob.digest)? != Some(blob.size) {
                    return Ok(false);
                }
            }
        }
        ManifestOrIndex::Index(index) => {
            for child in &index.manifests {
                if !is_complete(store, child)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}
