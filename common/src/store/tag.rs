use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::StoreError;
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::platform::Platform;

/// What a tag holds: [`LocalTag`] or [`ServedTag`].
pub trait TagRecord: Sized + PartialEq + sealed::Record {}

impl<T: Sized + PartialEq + sealed::Record> TagRecord for T {}

mod sealed {
    use super::{Digest, Path, StoreError};

    pub trait Record: Sized {
        /// The file's contents.
        fn encode(&self) -> Vec<u8>;
        /// Reads what `encode` made; `path` is for errors.
        fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError>;
        /// The manifest that has to be in the repository when the tag is set.
        fn needs(&self) -> Option<&Digest> {
            None
        }
    }
}

/// A tag of a served repository names a manifest. Its file holds the digest and a line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedTag {
    /// The manifest or index.
    pub manifest: Digest,
}

impl sealed::Record for ServedTag {
    fn encode(&self) -> Vec<u8> {
        format!("{}\n", self.manifest).into_bytes()
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let text = String::from_utf8_lossy(bytes);
        let damaged = |e| StoreError::Damaged {
            path: path.to_owned(),
            source: <serde_json::Error as serde::de::Error>::custom(e),
        };
        Ok(ServedTag { manifest: text.trim_end().parse().map_err(damaged)? })
    }

    fn needs(&self) -> Option<&Digest> {
        Some(&self.manifest)
    }
}

/// A name of this machine: an image for each platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalTag {
    /// In the order in which they were named; at most one a platform.
    pub images: Vec<TaggedImage>,
}

/// One platform of a [`LocalTag`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedImage {
    /// What it runs on.
    pub platform: Platform,
    /// Its config digest, which is the image ID.
    pub config: Digest,
    /// The index, or else the manifest, that it came as; none for an image made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Descriptor>,
}

impl LocalTag {
    /// A name for one image.
    pub fn of(image: TaggedImage) -> Self {
        LocalTag { images: vec![image] }
    }

    /// The image that a host of platform `host` runs best, if any.
    pub fn best(&self, host: &Platform) -> Option<&TaggedImage> {
        self.images
            .iter()
            .filter_map(|image| Some((image.platform.fitness(host)?, image)))
            .min_by_key(|(fitness, _)| *fitness)
            .map(|(_, image)| image)
    }

    /// Sets the image of one platform.
    pub fn set(&mut self, image: TaggedImage) {
        self.images.retain(|other| other.platform != image.platform);
        self.images.push(image);
    }
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct LocalTagFile {
    version: u32,
    images: Vec<TaggedImage>,
}

impl sealed::Record for LocalTag {
    fn encode(&self) -> Vec<u8> {
        disk::encode(&LocalTagFile { version: VERSION, images: self.images.clone() })
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let file: LocalTagFile = disk::decode(path, VERSION, bytes)?;
        Ok(LocalTag { images: file.images })
    }
}
