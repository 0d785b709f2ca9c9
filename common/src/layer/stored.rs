//! Layers in the store.
//!
//! ```text
//! layers/<alg>/<hh>/<hex>/    one folder per diff ID
//!     index                   what is in the layer; a layer whose index is missing is not there
//!     tar                     the uncompressed bytes, when kept
//!     as/<form>               the blobs it travels as, see [`super::form`]
//!     previous                the diff ID of the layer that this one is a new version of
//! ```
//! Each file is made in `ingest/`, written to the disk and renamed into its place, the tar before the index and the
//! blob before its form; all of them are pure functions of the diff ID (but `previous`, a hint), so who comes second
//! replaces a file by the same one and no lock is needed. [`crate::store::Reach::layer`] makes the names durable.
//!
//! A layer of which a table is damaged counts as absent, so that whoever has its bytes brings it again, which heals it.
//! A damaged tar is found by who reads all of it: a check, and whoever brings the layer ([`is_sound`]).
//!
//! A layer made here keeps its tar; one that was pulled keeps its blob, from which the tar can be had again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{Codec, DecodeError, Expansion, decoder};
use super::disk::{DiskError, Format};
use super::form::{self, Form};
use super::index::{self, Index};
use super::pipe::{Pipe, pipe};
use super::reader::TarError;
use super::writer::{LayerWriter, WriteError, WriterOptions};
use crate::decompress::BombError;
use crate::digest::{Algorithm, Digest, Hasher, Hashing};
use crate::store::{CommitError, FOREIGN, Scratch, Store, StoreError, is_form_name};

/// Why a layer cannot be made, read or stored.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Neither its tar nor a blob to make it from is in the store.
    #[error("layer {diff_id} is not in the store")]
    Missing {
        /// The layer.
        diff_id: Digest,
    },
    /// The bytes are not those that were announced or stored.
    #[error("layer does not match its diff ID: expected {expected}, got {actual}")]
    DiffIdMismatch {
        /// What the image's config says, or where it is stored.
        expected: Digest,
        /// The digest of the uncompressed bytes.
        actual: Digest,
    },
    /// It cannot be decompressed.
    #[error("cannot decompress layer")]
    Decompress(#[source] io::Error),
    /// It cannot be compressed.
    #[error("cannot compress layer")]
    Compress(#[source] io::Error),
    /// A compression of another kind, or a bomb.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is no tar, or one that is refused.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It cannot lie upon the layers below it, or the path is not what was asked for.
    #[error("`{path}`: {fault}")]
    Misplaced {
        /// The path within the image.
        path: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A file in the tar is not what was stored.
    #[error("file in a layer is damaged on the disk: expected {expected}, got {actual}")]
    FileDamaged {
        /// What its table says.
        expected: Digest,
        /// The digest of what was read.
        actual: Digest,
    },
    /// A table of it cannot be read.
    #[error("cannot read {}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DiskError,
    },
    /// Its blob was not stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LayerError {
    /// What the user can do about it, when something can be done.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LayerError::Tar(error) => error.hint(),
            _ => None,
        }
    }

    /// What went wrong in a [`TarStream`], seen through the [`io::Error`] it came in.
    pub(super) fn from_tar_stream(error: io::Error) -> Self {
        error.downcast::<LayerError>().unwrap_or_else(LayerError::decompress)
    }

    /// What went wrong in a decoder, seen through the [`io::Error`] it came in.
    pub(super) fn decompress(error: io::Error) -> Self {
        let error = match error.downcast::<DecodeError>() {
            Ok(error) => return LayerError::Decode(error),
            Err(error) => error,
        };
        match error.downcast::<BombError>() {
            Ok(bomb) => LayerError::Decode(DecodeError::Bomb(bomb)),
            Err(error) => LayerError::Decompress(error),
        }
    }
}

/// A layer that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Length of the uncompressed tar in bytes.
    pub size_bytes: u64,
}

/// How a layer is made.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// How its entries are written.
    pub writer: WriterOptions,
    /// The diff ID of what the same step gave last time. What both have in common is not compressed again.
    pub previous: Option<Digest>,
}

/// The tar of a layer being made.
pub type LayerFile = Hashing<File>;

/// Makes a layer of the entries that `write` appends. A layer that is there already is success.
///
/// # Errors
/// Those of `write`, and [`LayerError`] when the layer cannot be stored.
pub fn create<E: From<LayerError>>(
    store: &Store,
    options: &CreateOptions,
    write: impl FnOnce(&mut LayerWriter<LayerFile>) -> Result<(), E>,
) -> Result<StoredLayer, E> {
    let place = Place::new(store).map_err(LayerError::from)?;
    let tar = place.create("tar").map_err(LayerError::from)?;
    let mut writer = LayerWriter::new(Hashing::new(Algorithm::Sha256, tar), options.writer);
    write(&mut writer)?;
    let (tar, index) = writer.finish().map_err(LayerError::from)?;
    let (tar, diff_id, size_bytes) = tar.finish();
    place.keep(store, tar, &diff_id, &index, options)?;
    Ok(StoredLayer { diff_id, size_bytes })
}

/// The path table of a layer.
///
/// # Errors
/// [`LayerError::Missing`] when there is no such layer, [`LayerError::Table`] when the table is damaged.
pub fn index(store: &Store, diff_id: &Digest) -> Result<Arc<Index>, LayerError> {
    let path = store.paths().layer_index(diff_id);
    let bytes = read_if_there(&path)?.ok_or_else(|| LayerError::Missing { diff_id: diff_id.clone() })?;
    let index = Index::decode(&bytes).map_err(|source| LayerError::Table { path, source })?;
    Ok(Arc::new(index))
}

/// Whether a layer is in the store with undamaged tables, so that its tar can be had.
///
/// # Errors
/// [`LayerError`] when the store cannot be read, or a newer gantry wrote a table of the layer.
pub fn exists(store: &Store, diff_id: &Digest) -> Result<bool, LayerError> {
    if !has_intact_index(store, diff_id)? || !damaged_forms(store, diff_id)?.is_empty() {
        return Ok(false);
    }
    Ok(is_there(&store.paths().layer_tar(diff_id))? || !forms(store, diff_id)?.is_empty())
}

/// Whether a layer [`exists`] and its tar, where one is kept, is undamaged. That reads the tar: ask this where the bytes
/// that could heal it are at hand. Few layers have one: those made here, and those that files were taken out of.
///
/// # Errors
/// Those of [`exists`].
pub fn is_sound(store: &Store, diff_id: &Digest) -> Result<bool, LayerError> {
    Ok(exists(store, diff_id)? && damaged_tar(store, diff_id)?.is_none())
}

/// Takes away a tar that is not what it was; from then on the layer's blob gives it.
pub(super) fn remove_damaged_tar(store: &Store, diff_id: &Digest) -> Result<(), LayerError> {
    let Some(path) = damaged_tar(store, diff_id)? else { return Ok(()) };
    tracing::warn!(path = %path.display(), "removing a damaged tar");
    absent_is_none(fs::remove_file(&path)).map_err(StoreError::io("remove", &path))?;
    Ok(())
}

/// Where the tar of a layer is, when it is kept and damaged.
fn damaged_tar(store: &Store, diff_id: &Digest) -> Result<Option<PathBuf>, LayerError> {
    let path = store.paths().layer_tar(diff_id);
    let Some(file) = open_if_there(&path)? else { return Ok(None) };
    let mut tar = Hashing::new(diff_id.algorithm(), file);
    let read = io::copy(&mut tar, &mut io::sink());
    read.map_err(StoreError::io("read", &path))?;
    Ok((tar.finish().1 != *diff_id).then_some(path))
}

pub(super) fn has_intact_index(store: &Store, diff_id: &Digest) -> Result<bool, LayerError> {
    let intact = is_intact(&index::FORMAT, &store.paths().layer_index(diff_id))?;
    Ok(intact == Some(true))
}

/// Takes away the damaged records of a layer's forms; an undamaged one is written when its blob is made or comes again.
pub(super) fn remove_damaged_forms(store: &Store, diff_id: &Digest) -> Result<(), LayerError> {
    for path in damaged_forms(store, diff_id)? {
        tracing::warn!(path = %path.display(), "removing a damaged record");
        absent_is_none(fs::remove_file(&path)).map_err(StoreError::io("remove", &path))?;
    }
    Ok(())
}

fn damaged_forms(store: &Store, diff_id: &Digest) -> Result<Vec<PathBuf>, LayerError> {
    let mut damaged = Vec::new();
    for name in form_names(store, diff_id)? {
        let path = store.paths().layer_form(diff_id, &name);
        if is_intact(&form::FORMAT, &path)? == Some(false) {
            damaged.push(path);
        }
    }
    Ok(damaged)
}

/// Whether a table is undamaged; `None` when it is not there.
fn is_intact(format: &Format, path: &Path) -> Result<Option<bool>, LayerError> {
    let Some(bytes) = read_if_there(path)? else { return Ok(None) };
    let intact = format.is_intact(&bytes);
    Ok(Some(intact.map_err(|source| LayerError::Table { path: path.to_owned(), source })?))
}

/// The blobs in the store that a layer travels as, those of our own making before others.
///
/// # Errors
/// [`LayerError`] when the store cannot be read.
pub fn forms(store: &Store, diff_id: &Digest) -> Result<Vec<Form>, LayerError> {
    let mut forms = Vec::new();
    for name in form_names(store, diff_id)? {
        forms.extend(form(store, diff_id, &name)?);
    }
    Ok(forms)
}

/// The blob that a layer came as, as long as it is in the store.
///
/// # Errors
/// [`LayerError`] when the store cannot be read.
pub fn foreign_form(store: &Store, diff_id: &Digest) -> Result<Option<Form>, LayerError> {
    for name in form_names(store, diff_id)?.iter().filter(|name| name.starts_with(FOREIGN)) {
        if let Some(form) = form(store, diff_id, name)? {
            return Ok(Some(form));
        }
    }
    Ok(None)
}

/// Reads the tar of a layer from its beginning, decompressing it where it is not kept. Reading fails at the end, before
/// it says that it is the end, when the bytes are not those of the diff ID.
///
/// # Errors
/// [`LayerError::Missing`] when it cannot be had.
pub fn read_tar(store: &Store, diff_id: &Digest) -> Result<TarStream, LayerError> {
    let hasher = diff_id.algorithm().hasher();
    let path = store.paths().layer_tar(diff_id);
    let source = match open_if_there(&path)? {
        Some(file) => Source::File(file),
        None => open_blob(store, diff_id)?,
    };
    Ok(TarStream { source, diff_id: diff_id.clone(), hasher: Some(hasher) })
}

/// Opens the tar of a layer, so that a file in it can be read at its offset. A tar that is not kept is made again and
/// kept from then on, unless the layer came uncompressed.
///
/// # Errors
/// [`LayerError::Missing`] when it cannot be had, [`LayerError::DiffIdMismatch`] when the store is damaged.
pub fn open_tar(store: &Store, diff_id: &Digest) -> Result<File, LayerError> {
    let path = store.paths().layer_tar(diff_id);
    if let Some(file) = open_if_there(&path)? {
        return Ok(file);
    }
    for form in forms(store, diff_id)?.iter().filter(|form| form.codec == Codec::Plain) {
        if let Some(blob) = store.open_blob(&form.blob)? {
            return Ok(blob.file);
        }
    }
    let place = Place::new(store)?;
    let mut tar = place.create("tar")?;
    let mut stream = read_tar(store, diff_id)?;
    copy(&mut stream, &mut tar, &place.path("tar"))?;
    place.put("tar", &tar, &path)?;
    File::open(&path).map_err(StoreError::io("open", &path)).map_err(LayerError::from)
}

fn open_blob(store: &Store, diff_id: &Digest) -> Result<Source, LayerError> {
    for form in forms(store, diff_id)? {
        if let Some(blob) = store.open_blob(&form.blob)? {
            return Ok(Source::Decoder(pipe(move |out| {
                let (_, mut input) = decoder(blob.file, Expansion::UNLIMITED)?;
                io::copy(&mut input, out).map(drop)
            })));
        }
    }
    Err(LayerError::Missing { diff_id: diff_id.clone() })
}

/// The uncompressed bytes of a layer, verified on the way.
#[derive(Debug)]
pub struct TarStream {
    source: Source,
    diff_id: Digest,
    /// `None` once the end was reached and found right.
    hasher: Option<Hasher>,
}

#[derive(Debug)]
enum Source {
    File(File),
    /// Decompresses on a thread of its own.
    Decoder(Pipe),
}

impl Read for TarStream {
    /// # Errors
    /// Besides those of file and decoder, a [`LayerError::DiffIdMismatch`] inside an [`io::Error`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.source {
            Source::File(file) => file.read(buffer)?,
            Source::Decoder(pipe) => pipe.read(buffer)?,
        };
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        if n == 0
            && !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            check_diff_id(&self.diff_id, hasher.finish()).map_err(io::Error::other)?;
        }
        Ok(n)
    }
}

pub(super) fn check_diff_id(expected: &Digest, actual: Digest) -> Result<(), LayerError> {
    if *expected == actual {
        return Ok(());
    }
    Err(LayerError::DiffIdMismatch { expected: expected.clone(), actual })
}

/// Copies, telling what cannot be read from what cannot be written.
fn copy(input: &mut impl Read, out: &mut File, path: &Path) -> Result<(), LayerError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.write_all(&buffer[..n]).map_err(StoreError::io("write", path))?,
            Err(error) => return Err(LayerError::from_tar_stream(error)),
        }
    }
}

/// The record of one form, unless its blob is gone.
pub(super) fn form(store: &Store, diff_id: &Digest, name: &str) -> Result<Option<Form>, LayerError> {
    let path = store.paths().layer_form(diff_id, name);
    let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
    let form = Form::decode(&bytes).map_err(|source| LayerError::Table { path, source })?;
    let size_bytes = store.blob_size(&form.blob)?;
    Ok(size_bytes.filter(|size| *size == form.size_bytes).map(|_| form))
}

fn form_names(store: &Store, diff_id: &Digest) -> Result<Vec<String>, LayerError> {
    let folder = store.paths().layer_forms(diff_id);
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // What else is there, somebody else has put there.
            let own = entry.file_name().into_string().ok().filter(|name| is_form_name(name));
            names.extend(own.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())));
        }
        Ok(names)
    };
    let mut names = absent_is_none(list()).map_err(StoreError::io("list", &folder))?.unwrap_or_default();
    names.sort_by_key(|name| (name.starts_with(FOREIGN), name.clone()));
    Ok(names)
}

/// The layer that `diff_id` is a new version of.
pub(super) fn previous(store: &Store, diff_id: &Digest) -> Result<Option<Digest>, LayerError> {
    let bytes = read_if_there(&store.paths().layer_previous(diff_id))?.unwrap_or_default();
    // a hint: what cannot be read gives none
    Ok(str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok()))
}

/// Where the files of a layer are written before they get their names.
pub(super) struct Place(Scratch);

impl Place {
    pub(super) fn new(store: &Store) -> Result<Self, StoreError> {
        Ok(Place(store.scratch()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn create(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path(name);
        File::create_new(&path).map_err(StoreError::io("create", &path))
    }

    fn keep(
        &self,
        store: &Store,
        tar: File,
        diff_id: &Digest,
        index: &Index,
        options: &CreateOptions,
    ) -> Result<(), LayerError> {
        let paths = store.paths();
        self.put("tar", &tar, &paths.layer_tar(diff_id))?;
        self.write(&index.encode(), &paths.layer_index(diff_id))?;
        remove_damaged_forms(store, diff_id)?;
        if let Some(previous) = options.previous.as_ref().filter(|previous| *previous != diff_id) {
            self.write(format!("{previous}\n").as_bytes(), &paths.layer_previous(diff_id))?;
        }
        Ok(())
    }

    /// Puts `bytes` at `target`.
    pub(super) fn write(&self, bytes: &[u8], target: &Path) -> Result<(), StoreError> {
        let mut file = self.create("file")?;
        file.write_all(bytes).map_err(StoreError::io("write", &self.path("file")))?;
        self.put("file", &file, target)
    }

    /// Writes a file to the disk and gives it its name.
    fn put(&self, name: &str, file: &File, target: &Path) -> Result<(), StoreError> {
        let path = self.path(name);
        file.sync_all().map_err(StoreError::io("write", &path))?;
        let folder = target.parent().expect("paths of the store have a parent");
        fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        fs::rename(&path, target).map_err(StoreError::io("create", target))
    }
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(StoreError::io("read", path))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    absent_is_none(fs::read(path)).map_err(StoreError::io("read", path))
}

fn open_if_there(path: &Path) -> Result<Option<File>, StoreError> {
    absent_is_none(File::open(path)).map_err(StoreError::io("open", path))
}

#[cfg(test)]
pub(super) mod tests;
