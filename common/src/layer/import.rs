//! Takes in a layer's blob from elsewhere: blob, diff ID and index in one pass.
//!
//! ```text
//! append ──► ingest (hashes the blob)
//!    └─ pipe ─► thread: decompress ─► hash (diff ID) ─► tar reader ─► digests of files, index
//! ```
//! Nothing gets a name in the store before all of it was found right.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::codec::{Codec, Expansion, decoder};
use super::form::Form;
use super::index::{Content, Entry, Index, Kind, split_last};
use super::limits::Limits;
use super::pipe::{PipeReader, PipeWriter, channel};
use super::reader::{TarError, TarReader, path_refused};
use super::root::Root;
use super::stored::{
    LayerError, Place, check_diff_id, has_intact_index, remove_damaged_forms, remove_damaged_tar,
};
use crate::digest::{Algorithm, Digest, Hashing};
use crate::store::{CommitError, Ingest, Store};

/// What is known of a blob before it comes.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Digest and length in bytes, from the manifest.
    pub blob: Option<(Digest, u64)>,
    /// From the config.
    pub diff_id: Option<Digest>,
    /// Whether no layer is below it, so that it must make sense alone: its hard links lead to files of its own.
    pub lowest: bool,
    /// How much the tar may ask for.
    pub limits: Limits,
    /// How much may come out of the blob.
    pub expansion: Expansion,
}

/// A layer that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The blob it came as, now in the store.
    pub form: Form,
}

/// A layer's blob on its way in. Dropped before [`Import::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Import {
    store: Store,
    options: ImportOptions,
    ingest: Ingest,
    /// Both are `None` once the decoder has stopped.
    to_decoder: Option<PipeWriter>,
    decoder: Option<JoinHandle<Result<Decoded, LayerError>>>,
    /// Why the decoder has stopped, until it is known whether the bytes are those that were announced.
    refused: Option<LayerError>,
}

struct Decoded {
    codec: Codec,
    diff_id: Digest,
    index: Arc<Index>,
}

impl Import {
    /// Begins to take in a blob. Its codec is known by its first bytes, whatever the media type says.
    ///
    /// # Errors
    /// [`LayerError::Store`] when the store cannot be written to.
    pub fn new(store: &Store, options: ImportOptions) -> Result<Self, LayerError> {
        let algorithm = options.blob.as_ref().map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm());
        let ingest = store.ingest_as(algorithm)?;
        let (writer, reader) = channel();
        let diff_algorithm = options.diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let known = options.clone();
        let decoder = thread::spawn(move || decode(reader, diff_algorithm, &known));
        let store = store.clone();
        Ok(Import { store, options, ingest, to_decoder: Some(writer), decoder: Some(decoder), refused: None })
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`LayerError`] when the store cannot be written to, or when what came so far is found wrong. The import is of no
    /// use then.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.ingest.append(bytes)?;
        if let Some((digest, announced)) = &self.options.blob
            && self.ingest.size_bytes() > *announced
        {
            return Err(size_mismatch(digest, *announced, self.ingest.size_bytes()));
        }
        if self.refused.is_some() {
            return Ok(());
        }
        let Some(decoder) = &mut self.to_decoder else { return Err(stopped()) };
        if decoder.write_all(bytes).is_err() {
            // It reads to the end unless it fails, so its error is the true one.
            let error = self.join_decoder().err().unwrap_or_else(stopped);
            if self.options.blob.is_none() {
                return Err(error);
            }
            self.refused = Some(error);
        }
        Ok(())
    }

    /// Takes in all of `input`, telling `progress` the length of each piece. `unread` wraps what `input` fails with.
    ///
    /// # Errors
    /// Those of [`Import::append`] and of `input`.
    pub fn append_all<E: From<LayerError>>(
        &mut self,
        mut input: impl Read,
        unread: impl Fn(io::Error) -> E,
        progress: impl Fn(u64),
    ) -> Result<(), E> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.append(&buffer[..n])?;
                    progress(n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unread(error)),
            }
        }
    }

    /// Ends the blob, verifies it and puts it and the layer into the store. The names are durable after
    /// [`crate::store::Reach::sync`].
    ///
    /// # Errors
    /// [`LayerError`] when the bytes are not those that were announced, or no layer.
    pub fn finish(mut self) -> Result<Imported, LayerError> {
        let size_bytes = self.ingest.size_bytes();
        // A blob that was cut off or changed on its way is to be called that, and not a strange tar.
        if let Some((digest, announced)) = &self.options.blob {
            if *announced != size_bytes {
                return Err(size_mismatch(digest, *announced, size_bytes));
            }
            self.ingest.verify(digest)?;
        }
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let Some(to_decoder) = &mut self.to_decoder else { return Err(stopped()) };
        // as above: when this fails the decoder says why
        let _ = to_decoder.flush();
        let Decoded { codec, diff_id, index } = self.join_decoder()?;
        let Import { store, options, ingest, .. } = self;
        if let Some(expected) = &options.diff_id {
            check_diff_id(expected, diff_id.clone())?;
        }
        let blob = match options.blob {
            Some((digest, announced)) => {
                ingest.commit(&digest, Some(announced))?;
                digest
            }
            None => ingest.commit_any()?.0,
        };
        let form = Form::foreign(codec, blob, size_bytes);
        keep(&store, &diff_id, &index, &form)?;
        Ok(Imported { diff_id, form })
    }

    fn join_decoder(&mut self) -> Result<Decoded, LayerError> {
        self.to_decoder = None;
        let Some(decoder) = self.decoder.take() else { return Err(stopped()) };
        decoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Write for Import {
    /// # Errors
    /// A [`LayerError`] inside an [`io::Error`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn size_mismatch(digest: &Digest, expected: u64, actual: u64) -> LayerError {
    CommitError::SizeMismatch { digest: digest.clone(), expected, actual }.into()
}

/// For who goes on after an error.
fn stopped() -> LayerError {
    LayerError::Decompress(io::ErrorKind::BrokenPipe.into())
}

/// An index that is there already stays unless it is damaged: when our own writer made it, it knows more.
fn keep(store: &Store, diff_id: &Digest, index: &Index, form: &Form) -> Result<(), LayerError> {
    let place = Place::new(store)?;
    let paths = store.paths();
    if !has_intact_index(store, diff_id)? {
        place.write(&index.encode(), &paths.layer_index(diff_id))?;
    }
    remove_damaged_forms(store, diff_id)?;
    place.write(&form.encode(), &paths.layer_form(diff_id, &Form::foreign_name(&form.blob)))?;
    // Now that the tar can be had from the blob.
    remove_damaged_tar(store, diff_id)
}

fn decode(blob: PipeReader, algorithm: Algorithm, options: &ImportOptions) -> Result<Decoded, LayerError> {
    let (codec, tar) = decoder(blob, options.expansion).map_err(LayerError::decompress)?;
    let mut tar = Hashing::new(algorithm, tar);
    let entries = read_entries(&mut tar, options.limits).map_err(|error| match error {
        TarError::Io { source, .. } => LayerError::decompress(source),
        error => LayerError::Tar(error),
    })?;
    let index = Arc::new(arrange(entries)?);
    let diff_id = tar.finish().1;
    if options.lowest {
        Root::empty().push(diff_id.clone(), Arc::clone(&index))?;
    }
    Ok(Decoded { codec, diff_id, index })
}

/// All entries of a tar in its order, with the digests of their files. The input is read to its end.
fn read_entries(tar: impl Read, limits: Limits) -> Result<Vec<Entry>, TarError> {
    let mut reader = TarReader::new(tar, limits);
    let mut entries = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    while let Some(mut member) = reader.next()? {
        let mut hasher = Algorithm::Sha256.hasher();
        loop {
            match member.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unwrap(error, member.offset)),
            }
        }
        let (offset, segments) = (member.offset, member.segments.take());
        let content = Content { digest: hasher.finish(), offset, segments };
        entries.push(member.header.map_content(|()| content));
    }
    Ok(entries)
}

fn unwrap(error: io::Error, offset: u64) -> TarError {
    error.downcast::<TarError>().unwrap_or_else(|source| TarError::Io { offset, source })
}

/// Makes a table of a foreign tar, refusing what one entry for each path cannot tell: the table must say the same as the
/// tree that the tar unpacks to.
fn arrange(entries: Vec<Entry>) -> Result<Index, TarError> {
    let mut seen: HashMap<&[u8], (usize, &Entry)> = HashMap::with_capacity(entries.len());
    let mut repeated = HashSet::new();
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_marker()) {
        let Some((_, before)) = seen.insert(&entry.path, (at, entry)) else { continue };
        if !is_same_sort(&before.kind, &entry.kind) {
            return Err(path_refused(&entry.path, "two different things in one layer"));
        }
        repeated.insert(&entry.path[..]);
    }
    let repeated_names: HashSet<&[u8]> = repeated.iter().map(|path| split_last(path).1).collect();
    for (at, entry) in entries.iter().enumerate() {
        for folder in ancestors(&entry.path) {
            match seen.get(folder) {
                Some((_, Entry { kind: Kind::Directory, .. })) | None => {}
                Some((before, Entry { kind: Kind::Symlink { .. }, .. })) if *before < at => {}
                Some(_) => return Err(path_refused(&entry.path, "below something that is no folder")),
            }
        }
        if entry.kind == Kind::Opaque
            && seen.get(&entry.path[..]).is_some_and(|(_, folder)| folder.kind != Kind::Directory)
        {
            return Err(path_refused(&entry.path, "an opaque marker in something that is no folder"));
        }
        if let Kind::Hardlink { target } = &entry.kind {
            let changes = match seen.get(&target[..]) {
                Some((target_at, _)) => *target_at > at || repeated.contains(&target[..]),
                // By way of a symlink it may be any of that name.
                None => repeated_names.contains(split_last(target).1),
            };
            if changes {
                return Err(path_refused(&entry.path, "a hard link to something that changes later"));
            }
        }
    }
    drop(seen);
    Ok(Index::new(None, entries))
}

/// Whether one may replace the other without consequences for what else the tar says.
fn is_same_sort(one: &Kind, two: &Kind) -> bool {
    match (one, two) {
        (Kind::Symlink { .. } | Kind::Hardlink { .. }, _) => one == two,
        _ => std::mem::discriminant(one) == std::mem::discriminant(two),
    }
}

/// The folders above a path, the root not counted.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests;
