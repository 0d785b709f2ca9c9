//! A root file system as an image of one layer, as `docker import` makes it.

use std::io::{self, Read};

use jiff::Timestamp;

use super::names;
use super::record::{self, CreateError};
use crate::decompress::decompress;
use crate::digest::Digest;
use crate::layer::{Import, ImportOptions, LayerError};
use crate::oci::{Config, History, ImageConfig, RootFs};
use crate::platform::Platform;
use crate::reference::{Reference, Tag};
use crate::store::{Store, StoreError, TaggedImage};

/// What the image is, besides its files.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Its name, if it shall have one.
    pub name: Option<Reference>,
    /// What containers of it run.
    pub config: Config,
    /// What it runs on.
    pub platform: Platform,
    /// The comment in its history.
    pub message: String,
    /// When it was made; now unless told.
    pub created: Option<Timestamp>,
}

/// Why a root was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It is no tar, or one that is refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The image cannot be stored.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The image cannot be named.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// What the user can do about it, when something can be done.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ImportError::Layer(error) => error.hint(),
            _ => None,
        }
    }
}

/// Makes an image of a tar, compressed or not; the bytes inside become its only layer as they are. `progress` is told how
/// many of them were read.
///
/// # Errors
/// [`ImportError`]. Nothing half done stays.
pub fn import(
    store: &Store,
    tar: impl Read + Send,
    request: &ImportRequest,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Digest, ImportError> {
    let input = decompress(tar).map_err(ImportError::Read)?;
    let mut import = Import::new(store, ImportOptions { lowest: true, ..ImportOptions::default() })?;
    import.append_all(input, ImportError::Read, progress)?;
    let layer = import.finish()?;
    let config = config(request, layer.diff_id);
    let id = record::create(store, &config)?;
    if let Some(name) = &request.name {
        let image = TaggedImage { platform: request.platform.clone(), config: id.clone(), source: None };
        names::set_tag(store, name.repository(), &name.tag().cloned().unwrap_or_else(Tag::latest), image)?;
    }
    Ok(id)
}

fn config(request: &ImportRequest, diff_id: Digest) -> ImageConfig {
    let created = request.created.unwrap_or_else(Timestamp::now).to_string();
    let step = History {
        created: Some(created.clone()),
        comment: Some(request.message.clone()),
        ..History::default()
    };
    ImageConfig {
        architecture: request.platform.architecture.clone(),
        os: request.platform.os.clone(),
        variant: request.platform.variant.clone(),
        config: request.config.clone(),
        created: Some(created),
        history: vec![step],
        rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
        ..ImageConfig::default()
    }
}
