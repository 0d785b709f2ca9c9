//! Images from a registry into the store.
//!
//! ```text
//! tag ─► index ─► manifest of the platform ─► config ─► layers, three at once
//!                                                         bytes ─► channel ─► import (blob, diff ID and index in one pass)
//! ```
//! What is here already is not asked for: manifests and configs by digest, layers whose blob is in the store. Index and
//! manifest are kept as they came, so that a push sends the same bytes. A lease holds everything until the image has its
//! record. Whoever drops the future leaves a sound store: whole blobs and layers, and none that is half written.

mod error;

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::{joined, names, record};
use crate::client::{Client, Fetched};
use crate::digest::Digest;
use crate::layer::{self, Import, ImportOptions, LayerError};
use crate::oci::{
    CONFIG_LIMIT_BYTES, Descriptor, ImageConfig, Index, MANIFEST_LIMIT_BYTES, Manifest, ManifestOrIndex,
    ParseError, media_type,
};
use crate::platform::Platform;
use crate::reference::{Reference, Repository};
use crate::store::{ImageRecord, Lease, ReadError, Store, StoreError, TaggedImage, if_sound};

pub use self::error::PullError;

/// As many as docker.
const LAYERS_AT_ONCE: usize = 3;
/// Longer than any pull; a process that dies leaves the lease behind for so long.
const LEASE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// An index may list an index, but not for ever.
const INDEX_DEPTH: usize = 4;
/// Pieces of a layer between network and disk.
const PIECES: usize = 16;

/// An image that is here now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image: its config digest.
    pub id: Digest,
    /// What the reference means at the registry: an index, or a manifest.
    pub digest: Digest,
    /// What the image runs on. A name without an index leads to whatever platform there is.
    pub platform: Platform,
    /// It was here already, under this name.
    pub up_to_date: bool,
}

/// What happens during a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The reference was found.
    Found {
        /// The reference.
        reference: Reference,
        /// What it means at the registry.
        digest: Digest,
    },
    /// A layer has come a step further.
    Layer {
        /// The layer's blob.
        blob: Digest,
        /// How far.
        step: PullStep,
    },
}

/// How far a layer is. Shown in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStep {
    /// It will be got.
    Pulling,
    /// Others come first.
    Waiting,
    /// It is being received, and taken apart on the way.
    Downloading {
        /// Bytes so far.
        received: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All bytes are here.
    Verifying,
    /// It is in the store.
    Complete,
    /// It was there before.
    Exists,
}

impl fmt::Display for PullStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PullStep::Pulling => "Pulling fs layer",
            PullStep::Waiting => "Waiting",
            PullStep::Downloading { .. } => "Downloading",
            PullStep::Verifying => "Verifying Checksum",
            PullStep::Complete => "Pull complete",
            PullStep::Exists => "Already exists",
        })
    }
}

/// Pulls the image that `reference` means for `platform`, and names it so.
///
/// # Errors
/// [`PullError`]; what was complete by then stays in the store without a name.
pub async fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    events: &(dyn Fn(PullEvent) + Sync),
) -> Result<Pulled, PullError> {
    let lease = Mutex::new(store.lease(LEASE_LIFETIME)?);
    let pull = Pull { store, client, reference, events, lease };
    let top = pull.top().await?;
    events(PullEvent::Found { reference: reference.clone(), digest: top.descriptor.digest.clone() });
    let found = pull.choose(top.clone(), platform).await?;
    let config = pull.config(&found.manifest).await?;
    let id = found.manifest.config.digest.clone();
    let image = Image { id, config, top: top.descriptor, manifest: found.descriptor };

    let known = pull.is_recorded(&image, &found.manifest)?;
    if !known {
        pull.layers(&found.manifest, &image.config).await?;
    }
    let named = pull.record(&image)?;
    Ok(Pulled {
        platform: record::platform(&image.config),
        digest: image.top.digest,
        id: image.id,
        up_to_date: known && named,
    })
}

/// Every tag of a repository, in the registry's order.
///
/// # Errors
/// [`PullError`] when the registry does not tell them.
pub async fn tags(client: &Client, repository: &Repository) -> Result<Vec<Reference>, PullError> {
    let tags = client.tags(repository).await.map_err(|source| {
        PullError::of(&Reference::Tag(repository.clone(), crate::reference::Tag::latest()), source)
    })?;
    Ok(tags.into_iter().map(|tag| Reference::Tag(repository.clone(), tag)).collect())
}

struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    reference: &'a Reference,
    events: &'a (dyn Fn(PullEvent) + Sync),
    lease: Mutex<Lease>,
}

/// A manifest or index that is in the store, understood.
#[derive(Clone)]
struct Document {
    descriptor: Descriptor,
    parsed: ManifestOrIndex,
}

/// The manifest of the platform.
struct Chosen {
    descriptor: Descriptor,
    manifest: Manifest,
}

struct Image {
    id: Digest,
    config: ImageConfig,
    /// What the reference means.
    top: Descriptor,
    /// The platform's manifest; the same where there is no index.
    manifest: Descriptor,
}

impl Pull<'_> {
    fn repository(&self) -> &Repository {
        self.reference.repository()
    }

    /// What the reference means. A digest that is here needs no question.
    async fn top(&self) -> Result<Document, PullError> {
        if let Some(digest) = self.reference.digest()
            && let Some(bytes) = self.stored(digest, MANIFEST_LIMIT_BYTES)?
        {
            return self.document(None, digest, &bytes);
        }
        let fetched = self.client.manifest(self.repository(), &self.reference.identifier()).await;
        self.keep_manifest(fetched.map_err(|error| PullError::of(self.reference, error))?, None)
    }

    /// Follows indexes down to a manifest.
    async fn choose(&self, top: Document, platform: &Platform) -> Result<Chosen, PullError> {
        let mut document = top;
        for _ in 0..INDEX_DEPTH {
            let index = match document.parsed {
                ManifestOrIndex::Manifest(manifest) => {
                    return Ok(Chosen { descriptor: document.descriptor, manifest: *manifest });
                }
                ManifestOrIndex::Index(index) => index,
            };
            document = self.child(best(&index, platform)?).await?;
        }
        Err(PullError::Nested { digest: document.descriptor.digest })
    }

    async fn child(&self, child: &Descriptor) -> Result<Document, PullError> {
        if let Some(bytes) = self.stored(&child.digest, MANIFEST_LIMIT_BYTES)? {
            check_size(child, bytes.len() as u64)?;
            return self.document(Some(&child.media_type), &child.digest, &bytes);
        }
        let fetched = self.client.manifest(self.repository(), &child.digest.to_string()).await;
        // One that is not there is another matter than a name that is unknown.
        let fetched = fetched.map_err(PullError::Client)?;
        check_size(child, fetched.bytes.len() as u64)?;
        self.keep_manifest(fetched, Some(&child.media_type))
    }

    /// `told` is what the index says of its child; it counts more than the answer's header.
    fn keep_manifest(&self, fetched: Fetched, told: Option<&str>) -> Result<Document, PullError> {
        let media_type = told.or(fetched.media_type.as_deref());
        let document = self.document(media_type, &fetched.digest, &fetched.bytes)?;
        self.keep(&fetched.digest, &fetched.bytes)?;
        Ok(document)
    }

    fn document(
        &self,
        media_type: Option<&str>,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<Document, PullError> {
        let parsed = ManifestOrIndex::parse(bytes, media_type).map_err(|source| match source {
            ParseError::SchemaVersion(1) => PullError::Schema1 { reference: self.reference.familiar() },
            source => PullError::Manifest { digest: digest.clone(), source },
        })?;
        // OCI lets the document itself leave it out.
        let (own_type, of_oci) = match &parsed {
            ManifestOrIndex::Manifest(manifest) => (&manifest.media_type, media_type::OCI_MANIFEST),
            ManifestOrIndex::Index(index) => (&index.media_type, media_type::OCI_INDEX),
        };
        let media_type = own_type.as_deref().or(media_type).unwrap_or(of_oci);
        let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
        Ok(Document { descriptor, parsed })
    }

    async fn config(&self, manifest: &Manifest) -> Result<ImageConfig, PullError> {
        let Descriptor { media_type, digest: id, .. } = &manifest.config;
        // Docker of 2016 wrote the second one.
        if !media_type::is_image_config(media_type) && media_type != "application/octet-stream" {
            let (reference, media_type) = (self.reference.familiar(), media_type.clone());
            return Err(PullError::NotAnImage { reference, media_type });
        }
        let bytes = match self.stored(id, CONFIG_LIMIT_BYTES)? {
            Some(bytes) => bytes.into(),
            None => {
                let bytes =
                    self.client.blob_bytes(self.repository(), &manifest.config, CONFIG_LIMIT_BYTES).await?;
                self.keep(id, &bytes)?;
                bytes
            }
        };
        let config =
            ImageConfig::parse(&bytes).map_err(|source| PullError::Config { id: id.clone(), source })?;
        let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        if diff_ids != layers {
            return Err(PullError::LayerCount { id: id.clone(), diff_ids, layers });
        }
        manifest.layers.iter().try_for_each(check_layer)?;
        Ok(config)
    }

    /// A blob that is here, verified and held; `None` when it is not.
    fn stored(&self, digest: &Digest, limit_bytes: u64) -> Result<Option<Vec<u8>>, PullError> {
        self.hold(digest)?;
        match self.store.read_blob(digest, limit_bytes) {
            Ok(bytes) => Ok(Some(bytes)),
            // What is damaged here is got again.
            Err(ReadError::Missing { .. } | ReadError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), PullError> {
        self.hold(digest)?;
        let mut ingest = self.store.ingest_as(digest.algorithm())?;
        ingest.append(bytes)?;
        ingest.commit(digest, Some(bytes.len() as u64))?;
        Ok(())
    }

    fn hold(&self, digest: &Digest) -> Result<(), StoreError> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).add(digest)
    }

    /// Whether the image has its record, by this manifest, and all its layers.
    fn is_recorded(&self, image: &Image, manifest: &Manifest) -> Result<bool, PullError> {
        let form = ImageRecord::foreign_form(&image.manifest.digest);
        let known =
            if_sound(self.store.image(&image.id))?.is_some_and(|record| record.manifests.contains_key(&form));
        if !known {
            return Ok(false);
        }
        for (blob, diff_id) in manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
            if self.layer_state(blob, diff_id)? != LayerState::Here {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn layers(&self, manifest: &Manifest, config: &ImageConfig) -> Result<(), PullError> {
        // The same layer may stand there twice, empty ones most often.
        let mut seen = HashSet::new();
        let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layers: Vec<_> = layers.filter(|(blob, _)| seen.insert(&blob.digest)).collect();
        let mut wanted = Vec::new();
        for (blob, diff_id) in layers {
            self.hold(&blob.digest)?;
            match self.layer_state(blob, diff_id)? {
                LayerState::Here => self.tell(blob, PullStep::Exists),
                state => {
                    self.tell(blob, PullStep::Pulling);
                    wanted.push((blob, diff_id, state));
                }
            }
        }
        for (blob, ..) in wanted.iter().skip(LAYERS_AT_ONCE) {
            self.tell(blob, PullStep::Waiting);
        }
        let (writing, mut ended) = mpsc::channel(1);
        let imports = wanted.into_iter().map(|(blob, diff_id, state)| {
            let options = ImportOptions {
                blob: Some((blob.digest.clone(), blob.size)),
                diff_id: Some(diff_id.clone()),
                lowest: config.rootfs.diff_ids.first() == Some(diff_id),
                ..ImportOptions::default()
            };
            self.layer(blob, options, state, writing.clone())
        });
        let result: Result<(), PullError> =
            stream::iter(imports).buffer_unordered(LAYERS_AT_ONCE).try_collect().await;
        // One that fails drops the others, whose writers need a moment to let go of the store.
        drop(writing);
        let None = ended.recv().await;
        result?;
        let (store, diff_ids) = (self.store.clone(), config.rootfs.diff_ids.clone());
        let checked = tokio::task::spawn_blocking(move || layer::check_stack(&store, &diff_ids));
        Ok(joined(checked.await)?)
    }

    fn layer_state(&self, blob: &Descriptor, diff_id: &Digest) -> Result<LayerState, PullError> {
        let has_blob = self.store.blob_size(&blob.digest)? == Some(blob.size);
        let has_layer = layer::is_sound(self.store, diff_id).map_err(|source| of_layer(blob, source))?;
        Ok(match (has_blob, has_layer) {
            (true, true) => LayerState::Here,
            (true, false) => LayerState::Unread,
            // A form of our own does not help: the manifest asks for these bytes.
            (false, _) => LayerState::Absent,
        })
    }

    /// `writing` is held by whoever may be writing to the store.
    async fn layer(
        &self,
        blob: &Descriptor,
        options: ImportOptions,
        state: LayerState,
        writing: mpsc::Sender<Infallible>,
    ) -> Result<(), PullError> {
        let store = self.store.clone();
        if state == LayerState::Unread {
            let (again, writing) = (options.clone(), writing.clone());
            let reading = tokio::task::spawn_blocking(move || {
                let _writing = writing;
                import_stored(&store, again)
            });
            match joined(reading.await) {
                Ok(()) => {
                    self.tell(blob, PullStep::Complete);
                    return Ok(());
                }
                Err(error) => tracing::warn!(%error, blob = %blob.digest, "blob in the store is of no use"),
            }
        }
        self.download(blob, options, writing).await
    }

    async fn download(
        &self,
        blob: &Descriptor,
        options: ImportOptions,
        writing: mpsc::Sender<Infallible>,
    ) -> Result<(), PullError> {
        let mut body = self.client.blob(self.repository(), blob).await?;
        let (pieces, arriving) = mpsc::channel(PIECES);
        let store = self.store.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let _writing = writing;
            import(&store, options, arriving)
        });
        let mut received = 0;
        loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    received += piece.len() as u64;
                    // When the writer has stopped, its error is the true one.
                    if pieces.send(piece).await.is_err() {
                        break;
                    }
                    self.tell(blob, PullStep::Downloading { received, total: blob.size });
                }
                Ok(None) => {
                    self.tell(blob, PullStep::Verifying);
                    break;
                }
                Err(error) => {
                    drop(pieces);
                    // It lacks bytes, and says so; why is known better here.
                    let _ = writer.await;
                    return Err(error.into());
                }
            }
        }
        drop(pieces);
        joined(writer.await).map_err(|source| of_layer(blob, source))?;
        self.tell(blob, PullStep::Complete);
        Ok(())
    }

    /// Gives the image its record and its name. Returns whether it had that name already.
    fn record(&self, image: &Image) -> Result<bool, PullError> {
        let store = self.store;
        record::put(store, &image.id, &image.config, Some(&image.manifest))?;
        let name = Reference::Digest(self.repository().clone(), image.top.digest.clone());
        let mut had_name = false;
        store.update_image(&image.id, |record| {
            had_name = record.names.contains(&name);
            record.add_name(name);
            let form = ImageRecord::foreign_form(&image.top.digest);
            record.manifests.insert(form, image.top.clone());
        })?;
        store.reach().image(&image.id).blob(&image.top.digest).sync()?;

        let Reference::Tag(repository, tag) = self.reference else { return Ok(had_name) };
        let tagged = TaggedImage {
            platform: record::platform(&image.config),
            config: image.id.clone(),
            source: Some(image.top.clone()),
        };
        let held = if_sound(store.local(repository).tag(tag))?.unwrap_or_default();
        let had_tag = held.images.contains(&tagged);
        // The one that was pulled last is what the name means where none is for this machine.
        if held.images.last() != Some(&tagged) {
            names::set_tag(store, repository, tag, tagged)?;
        }
        Ok(had_tag)
    }

    fn tell(&self, blob: &Descriptor, step: PullStep) {
        (self.events)(PullEvent::Layer { blob: blob.digest.clone(), step });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayerState {
    /// Blob and layer are in the store.
    Here,
    /// The blob is, perhaps by a push to our own registry, and nobody has looked into it yet.
    Unread,
    Absent,
}

/// The manifest of an index that `platform` runs best; one that does not say its platform comes last.
fn best<'i>(index: &'i Index, platform: &Platform) -> Result<&'i Descriptor, PullError> {
    let fitness = |child: &Descriptor| match &child.platform {
        Some(own) => own.fitness(platform),
        None => Some(u32::MAX),
    };
    let fitting = index.manifests.iter().filter_map(|child| Some((fitness(child)?, child)));
    let best = fitting.min_by_key(|(fitness, _)| *fitness).map(|(_, child)| child);
    best.ok_or_else(|| {
        // Attestations are listed as `unknown/unknown`.
        let known = index.manifests.iter().filter_map(|child| child.platform.as_ref());
        let have = known.filter(|p| p.os != "unknown").map(Platform::to_string).collect();
        PullError::Platform { wanted: Box::new(platform.clone()), have }
    })
}

/// That a manifest is as long as the descriptor in its index says.
fn check_size(child: &Descriptor, actual: u64) -> Result<(), PullError> {
    if child.size == actual {
        return Ok(());
    }
    Err(PullError::ManifestSize { digest: child.digest.clone(), expected: child.size, actual })
}

fn check_layer(layer: &Descriptor) -> Result<(), PullError> {
    let (digest, media_type) = (layer.digest.clone(), layer.media_type.clone());
    let elsewhere = media_type.contains("foreign") || media_type.contains("nondistributable");
    if elsewhere || !layer.urls.is_empty() {
        return Err(PullError::Foreign { digest, media_type });
    }
    let known = [
        media_type::OCI_LAYER,
        media_type::OCI_LAYER_GZIP,
        media_type::OCI_LAYER_ZSTD,
        media_type::DOCKER_LAYER,
        media_type::DOCKER_LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD,
    ];
    if known.contains(&media_type.as_str()) {
        Ok(())
    } else {
        Err(PullError::LayerType { digest, media_type })
    }
}

fn import(
    store: &Store,
    options: ImportOptions,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<(), LayerError> {
    let mut import = Import::new(store, options)?;
    while let Some(piece) = pieces.blocking_recv() {
        import.append(&piece)?;
    }
    // Where the sender gave up, bytes are lacking, and the length tells.
    import.finish().map(drop)
}

/// Takes in a layer whose blob is in the store already.
fn import_stored(store: &Store, options: ImportOptions) -> Result<(), LayerError> {
    let blob = options.blob.as_ref().map(|(digest, _)| digest.clone());
    let blob = blob.expect("a layer of a manifest has a blob");
    let path = store.paths().blob(&blob);
    let unread = |error| LayerError::from(StoreError::io("read", &path)(error));
    let Some(blob) = store.open_blob(&blob)? else { return Err(unread(io::ErrorKind::NotFound.into())) };
    let mut import = Import::new(store, options)?;
    import.append_all(blob.file, unread, |_| {})?;
    import.finish().map(drop)
}

fn of_layer(blob: &Descriptor, source: LayerError) -> PullError {
    PullError::Layer { digest: blob.digest.clone(), source }
}

#[cfg(test)]
mod tests;
