use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use serde::Serialize;

use super::{CONTAINERD_NAME, DockerEntry, OCI_REF_NAME};
use crate::digest::Digest;
use crate::image::manifest::{self, ManifestError};
use crate::image::names::{self, ConfigError};
use crate::layer::{self, Codec, LayerError};
use crate::oci::{
    CONFIG_LIMIT_BYTES, Descriptor, ImageConfig, Index, MANIFEST_LIMIT_BYTES, Manifest, ManifestOrIndex,
    media_type,
};
use crate::reference::Reference;
use crate::store::{ReadError, Store};

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// docker's: layers as plain tars, which every `load` reads.
    Docker,
    /// OCI's image layout: layers as they travel, manifests as they came.
    Oci,
}

/// An image to save, and the names under which it will be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its ID.
    pub id: Digest,
    /// Its names; those without a tag are left out.
    pub names: Vec<Reference>,
}

/// Why an archive was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A blob cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image's config cannot be had.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has no manifest, and none can be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Writes images into one tar. Equal images give equal bytes. `progress` is told how many bytes of layers were written.
///
/// # Errors
/// [`SaveError`]; what was written until then is no archive.
pub fn save(
    store: &Store,
    images: &[Saved],
    format: ArchiveFormat,
    out: impl Write,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), SaveError> {
    let mut saver = Saver {
        store,
        progress,
        tar: tar::Builder::new(out),
        written: BTreeSet::new(),
        index: Vec::new(),
        list: Vec::new(),
        repositories: BTreeMap::new(),
    };
    for image in images {
        match format {
            ArchiveFormat::Docker => saver.docker_image(image)?,
            ArchiveFormat::Oci => saver.oci_image(image)?,
        }
    }
    saver.finish()
}

struct Saver<'a, W: Write> {
    store: &'a Store,
    progress: &'a (dyn Fn(u64) + Sync),
    tar: tar::Builder<W>,
    written: BTreeSet<Digest>,
    index: Vec<Descriptor>,
    list: Vec<DockerEntry>,
    /// Repository, tag, top layer: what dockers before `manifest.json` read, and scripts still look for.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl<W: Write> Saver<'_, W> {
    fn docker_image(&mut self, image: &Saved) -> Result<(), SaveError> {
        let config_bytes = self.store.read_blob(&image.id, CONFIG_LIMIT_BYTES)?;
        let config = names::config(self.store, &image.id)?;
        self.blob(&image.id, &config_bytes)?;
        let mut layers = Vec::new();
        for diff_id in &config.rootfs.diff_ids {
            let size_bytes = self.plain_layer(diff_id)?;
            layers.push(Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), size_bytes));
        }
        let manifest = plain_manifest(image, config_bytes.len() as u64, layers);
        self.list_docker(image, &config, |diff_id| diff_id.clone());
        self.manifest(image, &manifest)
    }

    fn oci_image(&mut self, image: &Saved) -> Result<(), SaveError> {
        let config = names::config(self.store, &image.id)?;
        let descriptor = manifest::for_push(self.store, &image.id, Codec::Gzip)?;
        let bytes = self.store.read_blob(&descriptor.digest, MANIFEST_LIMIT_BYTES)?;
        let parsed = ManifestOrIndex::parse(&bytes, Some(&descriptor.media_type));
        let manifest = match parsed.map_err(ManifestError::from)? {
            ManifestOrIndex::Manifest(manifest) => manifest,
            ManifestOrIndex::Index(_) => return Err(ManifestError::Index(descriptor.digest).into()),
        };
        let config_bytes = self.store.read_blob(&manifest.config.digest, CONFIG_LIMIT_BYTES)?;
        self.blob(&manifest.config.digest, &config_bytes)?;
        let mut blobs = BTreeMap::new();
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.stored_blob(&layer.digest)?;
            blobs.insert(diff_id.clone(), layer.digest.clone());
        }
        self.blob(&descriptor.digest, &bytes)?;
        self.list_docker(image, &config, |diff_id| blobs.get(diff_id).unwrap_or(diff_id).clone());
        self.name_in_index(image, &descriptor);
        Ok(())
    }

    /// A layer's tar under its diff ID; how long it is.
    fn plain_layer(&mut self, diff_id: &Digest) -> Result<u64, SaveError> {
        let file = layer::open_tar(self.store, diff_id)?;
        let size_bytes = file.metadata().map_err(SaveError::Write)?.len();
        if self.written.insert(diff_id.clone()) {
            // Not the open file: this reader verifies.
            let tar = layer::read_tar(self.store, diff_id)?;
            self.append(&blob_name(diff_id), size_bytes, tar)?;
            (self.progress)(size_bytes);
        }
        Ok(size_bytes)
    }

    fn stored_blob(&mut self, digest: &Digest) -> Result<(), SaveError> {
        if !self.written.insert(digest.clone()) {
            return Ok(());
        }
        let reader = self.store.blob_reader(digest)?;
        let size_bytes = reader.size_bytes;
        self.append(&blob_name(digest), size_bytes, reader)?;
        (self.progress)(size_bytes);
        Ok(())
    }

    fn manifest(&mut self, image: &Saved, manifest: &Manifest) -> Result<(), SaveError> {
        let bytes = json(manifest);
        let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        self.blob(&descriptor.digest, &bytes)?;
        self.name_in_index(image, &descriptor);
        Ok(())
    }

    fn list_docker(&mut self, image: &Saved, config: &ImageConfig, blob: impl Fn(&Digest) -> Digest) {
        let tags = image.names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
        if let Some(top) = config.rootfs.diff_ids.last().map(&blob) {
            for (name, tag) in image.names.iter().filter_map(|name| Some((name, name.tag()?))) {
                let tags = self.repositories.entry(name.repository().familiar()).or_default();
                tags.insert(tag.to_string(), top.hex().to_owned());
            }
        }
        self.list.push(DockerEntry {
            config: blob_name(&image.id),
            repo_tags: Some(tags),
            layers: Some(config.rootfs.diff_ids.iter().map(|diff_id| blob_name(&blob(diff_id))).collect()),
        });
    }

    /// One descriptor a name, or one without a name.
    fn name_in_index(&mut self, image: &Saved, descriptor: &Descriptor) {
        let tagged: Vec<_> = image.names.iter().filter_map(|name| Some((name, name.tag()?))).collect();
        for (name, tag) in &tagged {
            let mut named = descriptor.clone();
            named.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
            named.annotations.insert(OCI_REF_NAME.to_owned(), tag.to_string());
            self.index.push(named);
        }
        if tagged.is_empty() {
            self.index.push(descriptor.clone());
        }
    }

    fn blob(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), SaveError> {
        if self.written.insert(digest.clone()) {
            self.append(&blob_name(digest), bytes.len() as u64, bytes)?;
        }
        Ok(())
    }

    fn append(&mut self, name: &str, size_bytes: u64, content: impl Read) -> Result<(), SaveError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size_bytes);
        self.tar.append_data(&mut header, name, content).map_err(SaveError::Write)
    }

    fn finish(mut self) -> Result<(), SaveError> {
        let list = json(&self.list);
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: std::mem::take(&mut self.index),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let documents = [
            ("index.json", json(&index)),
            ("manifest.json", list),
            ("oci-layout", layout.to_vec()),
            ("repositories", json(&self.repositories)),
        ];
        for (name, bytes) in documents {
            self.append(name, bytes.len() as u64, &bytes[..])?;
        }
        self.tar.into_inner().and_then(|mut out| out.flush()).map_err(SaveError::Write)
    }
}

fn plain_manifest(image: &Saved, config_bytes: u64, layers: Vec<Descriptor>) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media_type::OCI_CONFIG, image.id.clone(), config_bytes),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the documents have string keys and no value fails to serialise")
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
