//! Images from the store to a registry.
//!
//! ```text
//! what to push ─► blobs, five at once: there already? ─► mounted from a repository that has it? ─► sent
//!              └► then manifests of an index by digest ─► at last index or manifest by its tag
//! ```
//! An image that came as an index goes as that index when all of it is here, and as its platform's manifest when not.
//! The registry is asked for each blob; nothing is believed of an earlier push. Where a blob may be mounted from is
//! known by the names that images were pulled and pushed by.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::manifest::{self, ManifestError};
use super::{joined, names, said};
use crate::client::{Client, ClientError, Upload, Uploaded};
use crate::digest::Digest;
use crate::layer::Codec;
use crate::oci::{Descriptor, MANIFEST_LIMIT_BYTES, Manifest, ManifestOrIndex, media_type};
use crate::reference::{Reference, Repository, RepositoryPath};
use crate::store::{ReadError, Store, StoreError};

/// As many as docker.
const BLOBS_AT_ONCE: usize = 5;

/// What is pushed.
#[derive(Debug, Clone, Copy)]
pub struct PushRequest<'a> {
    /// The image.
    pub id: &'a Digest,
    /// The manifest or index that its name came as, if it did ([`names::Found::source`]).
    pub source: Option<&'a Digest>,
    /// Where to, and the tag it gets there.
    pub reference: &'a Reference,
    /// For layers of ours.
    pub codec: Codec,
}

/// An image that is at the registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest or index that the tag means there.
    pub digest: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// What happens during a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushEvent {
    /// A layer has come a step further.
    Layer {
        /// The layer: its diff ID, as docker shows it; where the config does not tell, its blob.
        layer: Digest,
        /// How far.
        step: PushStep,
    },
    /// A manifest or index was put.
    Manifest {
        /// Its digest.
        digest: Digest,
    },
}

/// How far a layer is. Shown in docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushStep {
    /// It is made ready, which may mean to compress it.
    Preparing,
    /// Others come first.
    Waiting,
    /// It is being sent.
    Pushing {
        /// Bytes so far; falls when some have to be sent again.
        sent: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It was sent.
    Pushed,
    /// The registry has it.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted {
        /// Which.
        from: RepositoryPath,
    },
}

impl fmt::Display for PushStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushStep::Preparing => f.write_str("Preparing"),
            PushStep::Waiting => f.write_str("Waiting"),
            PushStep::Pushing { .. } => f.write_str("Pushing"),
            PushStep::Pushed => f.write_str("Pushed"),
            PushStep::Exists => f.write_str("Layer already exists"),
            PushStep::Mounted { from } => write!(f, "Mounted from {from}"),
        }
    }
}

/// Why an image was not pushed. What was sent by then may stay at the registry; no tag was changed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// We may not, or must log in.
    #[error("{}", said(source))]
    Denied {
        /// The registry's answer.
        source: ClientError,
    },
    /// The registry failed otherwise.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A digest cannot be chosen.
    #[error("cannot push a digest reference")]
    Digest,
    /// The image has no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A blob is missing or damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PushError {
    /// What the user can do about it, when something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            PushError::Denied { source } | PushError::Client(source) => source.hint(),
            _ => None,
        }
    }

    /// docker shows refusals in the registry's words alone.
    fn of(source: ClientError) -> Self {
        if source.has_code(&["DENIED", "UNAUTHORIZED"]) {
            PushError::Denied { source }
        } else {
            source.into()
        }
    }
}

/// Pushes an image, and remembers that it is there.
///
/// # Errors
/// [`PushError`].
pub async fn push(
    store: &Store,
    client: &Client,
    request: PushRequest<'_>,
    events: &(dyn Fn(PushEvent) + Sync),
) -> Result<Pushed, PushError> {
    let Reference::Tag(repository, tag) = request.reference else { return Err(PushError::Digest) };
    // What follows may compress for a while.
    for layer in names::config(store, request.id).map_err(ManifestError::from)?.rootfs.diff_ids {
        events(PushEvent::Layer { layer, step: PushStep::Preparing });
    }
    let top = choose(store, request).await?;
    let documents = Documents::read(store, &top)?;
    let push = Push { store, client, repository, events, holders: OnceCell::new() };
    push.blobs(documents.blobs(store)).await?;
    for child in &documents.children {
        push.manifest(child, &child.digest.to_string()).await?;
    }
    push.manifest(&top, tag.as_str()).await?;
    let name = Reference::Digest(repository.clone(), top.digest.clone());
    store.update_image(request.id, |record| record.add_name(name))?;
    store.reach().image(request.id).sync()?;
    Ok(Pushed { digest: top.digest, size_bytes: top.size })
}

/// What the tag will mean: what the name came as, if all of it is here, else the image's manifest.
async fn choose(store: &Store, request: PushRequest<'_>) -> Result<Descriptor, PushError> {
    let record = store.image(request.id)?.ok_or_else(|| ManifestError::NoImage(request.id.clone()))?;
    let came_as = record.manifests.values().find(|manifest| Some(&manifest.digest) == request.source);
    if let Some(source) = came_as
        && manifest::is_complete(store, source)?
    {
        return Ok(source.clone());
    }
    let (store, id, codec) = (store.clone(), request.id.clone(), request.codec);
    let made = tokio::task::spawn_blocking(move || manifest::for_push(&store, &id, codec));
    Ok(joined(made.await)?)
}

/// All manifests that go.
struct Documents {
    /// Those of an index, inner ones first.
    children: Vec<Descriptor>,
    manifests: Vec<Manifest>,
}

impl Documents {
    fn read(store: &Store, top: &Descriptor) -> Result<Self, ManifestError> {
        let mut documents = Documents { children: Vec::new(), manifests: Vec::new() };
        documents.add(store, top)?;
        Ok(documents)
    }

    fn add(&mut self, store: &Store, descriptor: &Descriptor) -> Result<(), ManifestError> {
        match manifest::read(store, descriptor)? {
            ManifestOrIndex::Manifest(manifest) => self.manifests.push(*manifest),
            ManifestOrIndex::Index(index) => {
                for child in &index.manifests {
                    self.add(store, child)?;
                    self.children.push(child.clone());
                }
            }
        }
        Ok(())
    }

    /// Each blob once, with what its layer is called.
    fn blobs(&self, store: &Store) -> Vec<Piece> {
        let mut seen = HashSet::new();
        let mut pieces = Vec::new();
        for manifest in &self.manifests {
            let config = &manifest.config;
            let diff_ids = match media_type::is_image_config(&config.media_type) {
                // Without it the layers are called by their blobs.
                true => names::config(store, &config.digest).map(|c| c.rootfs.diff_ids).unwrap_or_default(),
                false => Vec::new(),
            };
            for (n, blob) in manifest.layers.iter().enumerate() {
                let layer = diff_ids.get(n).unwrap_or(&blob.digest).clone();
                pieces.push(Piece { blob: blob.clone(), layer: Some(layer) });
            }
            pieces.push(Piece { blob: config.clone(), layer: None });
        }
        pieces.retain(|piece| seen.insert(piece.blob.digest.clone()));
        pieces
    }
}

/// One blob to be there.
struct Piece {
    blob: Descriptor,
    /// What its steps are told by; nothing is told of configs.
    layer: Option<Digest>,
}

struct Push<'a> {
    store: &'a Store,
    client: &'a Client,
    repository: &'a Repository,
    events: &'a (dyn Fn(PushEvent) + Sync),
    /// Which repository of this registry had a blob; found out when the first blob is not there.
    holders: OnceCell<HashMap<Digest, RepositoryPath>>,
}

impl Push<'_> {
    async fn blobs(&self, pieces: Vec<Piece>) -> Result<(), PushError> {
        for piece in pieces.iter().skip(BLOBS_AT_ONCE) {
            self.tell(piece, PushStep::Waiting);
        }
        let sent = pieces.into_iter().map(|piece| self.blob(piece));
        stream::iter(sent).buffer_unordered(BLOBS_AT_ONCE).try_collect().await
    }

    async fn blob(&self, piece: Piece) -> Result<(), PushError> {
        let Descriptor { digest, size, .. } = &piece.blob;
        if self.client.has_blob(self.repository, digest).await.map_err(PushError::of)? {
            self.tell(&piece, PushStep::Exists);
            return Ok(());
        }
        let mount_from = self.holders.get_or_try_init(|| async { self.find_holders() }).await?.get(digest);
        let blob =
            self.store.open_blob(digest)?.ok_or_else(|| ReadError::Missing { digest: digest.clone() })?;
        let upload = Upload {
            repository: self.repository,
            digest,
            size_bytes: *size,
            file: Arc::new(blob.file),
            mount_from,
            progress: &|sent| self.tell(&piece, PushStep::Pushing { sent, total: *size }),
        };
        let step = match (self.client.upload(&upload).await.map_err(PushError::of)?, mount_from) {
            (Uploaded::Mounted, Some(from)) => PushStep::Mounted { from: from.clone() },
            _ => PushStep::Pushed,
        };
        self.tell(&piece, step);
        Ok(())
    }

    /// The blobs of all images that are known at this registry under another path.
    fn find_holders(&self) -> Result<HashMap<Digest, RepositoryPath>, StoreError> {
        let mut holders = HashMap::new();
        for record in self.store.images()?.0 {
            let elsewhere =
                record.names.iter().map(Reference::repository).find(|name| {
                    name.host() == self.repository.host() && name.path() != self.repository.path()
                });
            let Some(elsewhere) = elsewhere else { continue };
            for manifest in record.manifests.values() {
                // What cannot be read helps nobody, and is no reason not to push another image.
                let Ok(ManifestOrIndex::Manifest(manifest)) = manifest::read(self.store, manifest) else {
                    continue;
                };
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    holders.insert(blob.digest.clone(), elsewhere.path().clone());
                }
            }
        }
        Ok(holders)
    }

    async fn manifest(&self, descriptor: &Descriptor, identifier: &str) -> Result<(), PushError> {
        let bytes = self.store.read_blob(&descriptor.digest, MANIFEST_LIMIT_BYTES)?;
        let put = self.client.put_manifest(self.repository, identifier, &descriptor.media_type, bytes.into());
        put.await.map_err(PushError::of)?;
        (self.events)(PushEvent::Manifest { digest: descriptor.digest.clone() });
        Ok(())
    }

    fn tell(&self, piece: &Piece, step: PushStep) {
        if let Some(layer) = &piece.layer {
            (self.events)(PushEvent::Layer { layer: layer.clone(), step });
        }
    }
}

#[cfg(test)]
mod tests;
