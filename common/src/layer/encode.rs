//! Compresses a layer: on all cores, with the same bytes whatever their number, and without doing twice what the last
//! version of the layer has in common with this one.
//!
//! ```text
//! tar ─► cut into blocks ─► workers: known from the last version? copy : compress ─► in order ─► ingest
//! ```
//! - **gzip**, form `gzip-1-zlib-rs-<version>`: one member with a fixed header (no name, no time, system unknown). Each
//!   block is raw deflate at level 6 with the 32 KiB before it as dictionary, or stored where a sample of it does not
//!   compress, and ended by a sync flush, which fills the last byte; an empty final block, CRC-32 and length end the
//!   member.
//! - **zstd**, form `zstd-1-<version>`: each block is a frame of level 3 with its length and without a checksum.
//! - **plain**, form `plain-1`: the tar.
//!
//! A block is used again when dictionary and bytes are the same, which its key says, and when the compressed range in the
//! old blob still has the digest that the table gives. Bytes of another encoder version never meet: they have another
//! form.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, FlushCompress};

use super::codec::Codec;
use super::cut::Cutter;
use super::form::{Block, Form};
use super::stored::{LayerError, Place, form, previous, read_tar};
use crate::digest::{Algorithm, Digest};
use crate::store::{Ingest, Store};

/// How far deflate looks back.
const DICTIONARY_BYTES: usize = 32 << 10;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// How many earlier versions of a layer are looked at for one that was compressed.
const MAX_VERSIONS: usize = 16;

/// How a layer is compressed.
#[derive(Debug, Clone, Default)]
pub struct EncodeOptions {
    /// How many blocks are compressed at once; the number of cores unless told. The bytes do not depend on it.
    pub threads: Option<NonZeroUsize>,
}

/// The blob of our own making that a layer travels as. It is made unless it is in the store.
///
/// # Errors
/// [`LayerError::Missing`] when the layer is not in the store, [`LayerError::DiffIdMismatch`] when its tar is damaged.
pub fn encode(
    store: &Store,
    diff_id: &Digest,
    codec: Codec,
    options: &EncodeOptions,
) -> Result<Form, LayerError> {
    let name = form_name(codec);
    if let Some(form) = form(store, diff_id, name)? {
        return Ok(form);
    }
    let known = Known::find(store, diff_id, name)?;
    let threads = options.threads.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let mut out = Out::new(store.ingest()?);
    out.append(start(codec))?;
    let tar = read_tar(store, diff_id)?;
    compress_blocks(tar, codec, &known, threads, &mut out)?;
    let end = end(codec, &out);
    out.append(&end)?;
    let blocks = out.blocks;
    let (blob, size_bytes) = out.ingest.commit_any()?;
    tracing::debug!(%diff_id, %blob, size_bytes, blocks = blocks.len(), reused = out.reused, "layer compressed");
    let form = Form { codec, blob, size_bytes, blocks };
    Place::new(store)?.write(&form.encode(), &store.paths().layer_form(diff_id, name))?;
    Ok(form)
}

/// The name of the form that [`encode`] makes. It carries the version of the form (how blocks are cut and joined) and of
/// the encoder, whose output may change with each release.
pub fn form_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Plain => "plain-1",
        Codec::Gzip => "gzip-1-zlib-rs-0.6.8",
        Codec::Zstd => "zstd-1-1.5.7",
    }
}

fn start(codec: Codec) -> &'static [u8] {
    match codec {
        // deflate, no flags, no time, no hint, system unknown
        Codec::Gzip => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff],
        Codec::Zstd | Codec::Plain => &[],
    }
}

fn end(codec: Codec, out: &Out) -> Vec<u8> {
    match codec {
        Codec::Gzip => {
            let empty_final_block = [3, 0];
            let crc = out.crc.clone().finalize().to_le_bytes();
            let length = (out.raw_bytes as u32).to_le_bytes();
            [&empty_final_block[..], &crc, &length].concat()
        }
        Codec::Zstd | Codec::Plain => Vec::new(),
    }
}

/// The blob being written.
struct Out {
    ingest: Ingest,
    blocks: Vec<Block>,
    reused: usize,
    raw_bytes: u64,
    crc: crc32fast::Hasher,
}

impl Out {
    fn new(ingest: Ingest) -> Self {
        Out { ingest, blocks: Vec::new(), reused: 0, raw_bytes: 0, crc: crc32fast::Hasher::new() }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        Ok(self.ingest.append(bytes)?)
    }

    fn append_block(&mut self, encoded: Encoded) -> Result<(), LayerError> {
        let Encoded { block, bytes, reused } = encoded;
        self.append(&bytes)?;
        self.raw_bytes += block.raw_bytes;
        self.crc.combine(&crc32fast::Hasher::new_with_initial_len(block.crc, block.raw_bytes));
        self.reused += usize::from(reused);
        self.blocks.push(block);
        Ok(())
    }
}

/// One block on its way to a worker.
struct Job {
    dictionary: Vec<u8>,
    raw: Vec<u8>,
    result: SyncSender<io::Result<Encoded>>,
}

struct Encoded {
    block: Block,
    bytes: Vec<u8>,
    reused: bool,
}

/// Cuts, compresses and appends, each on threads of its own. Whoever fails closes the channels to its neighbours, so
/// that all end; the first error in the order of blocks is the one that counts.
fn compress_blocks(
    tar: impl Read + Send,
    codec: Codec,
    known: &Known,
    threads: usize,
    out: &mut Out,
) -> Result<(), LayerError> {
    thread::scope(|scope| {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (results, ordered) = sync_channel::<Receiver<io::Result<Encoded>>>(threads);
        let cutter = scope.spawn(move || cut_blocks(tar, codec, &jobs, &results));
        // Owned by the workers alone: should all of them panic, the cutter finds it closed.
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue, codec, known));
        }
        drop(queue);
        let mut written = Ok(());
        for result in ordered {
            let Ok(encoded) = result.recv() else { break };
            written = encoded.map_err(LayerError::Compress).and_then(|encoded| out.append_block(encoded));
            if written.is_err() {
                break;
            }
        }
        let cut = cutter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(cut)
    })
}

fn cut_blocks(
    tar: impl Read,
    codec: Codec,
    jobs: &SyncSender<Job>,
    results: &SyncSender<Receiver<io::Result<Encoded>>>,
) -> Result<(), LayerError> {
    let mut cutter = Cutter::new(tar);
    let mut dictionary = Vec::new();
    while let Some(raw) = cutter.next().map_err(LayerError::from_tar_stream)? {
        let (result, waiting) = sync_channel(1);
        let next = if codec == Codec::Gzip {
            raw[raw.len().saturating_sub(DICTIONARY_BYTES)..].to_vec()
        } else {
            Vec::new()
        };
        let job = Job { dictionary: std::mem::replace(&mut dictionary, next), raw, result };
        if results.send(waiting).is_err() || jobs.send(job).is_err() {
            // the writer has failed, and says why
            return Ok(());
        }
    }
    Ok(())
}

fn work(queue: &Mutex<Receiver<Job>>, codec: Codec, known: &Known) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(Job { dictionary, raw, result }) = next() {
        // nobody waits for it when the writer has failed
        let _ = result.send(known.encode(codec, &dictionary, &raw));
    }
}

/// The compressed blocks of an earlier version of the layer.
struct Known {
    blob: Option<File>,
    /// By key: where in the blob it begins.
    blocks: HashMap<Digest, (u64, Block)>,
}

impl Known {
    fn find(store: &Store, diff_id: &Digest, name: &str) -> Result<Self, LayerError> {
        let mut version = diff_id.clone();
        for _ in 0..MAX_VERSIONS {
            let Some(earlier) = previous(store, &version)? else { break };
            if let Some(form) = form(store, &earlier, name)?
                && let Some(blob) = store.open_blob(&form.blob)?
            {
                return Ok(Known::of(form, blob.file));
            }
            version = earlier;
        }
        Ok(Known { blob: None, blocks: HashMap::new() })
    }

    fn of(form: Form, blob: File) -> Self {
        let mut offset = start(form.codec).len() as u64;
        let mut blocks = HashMap::with_capacity(form.blocks.len());
        for block in form.blocks {
            let next = offset + block.compressed_bytes;
            blocks.insert(block.key.clone(), (offset, block));
            offset = next;
        }
        Known { blob: Some(blob), blocks }
    }

    /// Compresses a block, or takes it from the earlier version.
    fn encode(&self, codec: Codec, dictionary: &[u8], raw: &[u8]) -> io::Result<Encoded> {
        let key = key(dictionary, raw);
        if let Some((block, bytes)) = self.take(&key, raw.len()) {
            return Ok(Encoded { block, bytes, reused: true });
        }
        let bytes = match codec {
            Codec::Gzip => deflate(dictionary, raw)?,
            Codec::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL)?.compress(raw)?,
            Codec::Plain => raw.to_vec(),
        };
        let block = Block {
            key,
            raw_bytes: raw.len() as u64,
            crc: crc32fast::hash(raw),
            compressed_bytes: bytes.len() as u64,
            digest: Digest::sha256(&bytes),
        };
        Ok(Encoded { block, bytes, reused: false })
    }

    /// A block of the earlier version, unless the disk has damaged it: then it is compressed again.
    fn take(&self, key: &Digest, raw_bytes: usize) -> Option<(Block, Vec<u8>)> {
        let (offset, block) = self.blocks.get(key)?;
        if block.raw_bytes != raw_bytes as u64 {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(block.compressed_bytes).ok()?];
        self.blob.as_ref()?.read_exact_at(&mut bytes, *offset).ok()?;
        (Digest::sha256(&bytes) == block.digest).then(|| (block.clone(), bytes))
    }
}

/// What the compressor sees: the dictionary, and the bytes, told apart by the length in front.
fn key(dictionary: &[u8], raw: &[u8]) -> Digest {
    let mut hasher = Algorithm::Sha256.hasher();
    hasher.update(&(dictionary.len() as u64).to_le_bytes());
    hasher.update(dictionary);
    hasher.update(raw);
    hasher.finish()
}

/// Raw deflate that ends at a byte's border, so that blocks can be joined.
fn deflate(dictionary: &[u8], raw: &[u8]) -> io::Result<Vec<u8>> {
    if is_incompressible(raw)? {
        return deflate_at(0, b"", raw);
    }
    deflate_at(GZIP_LEVEL, dictionary, raw)
}

/// Whether what was compressed already, or is random, would be searched for matches in vain, at a tenth of the speed.
/// A sample from all over the block tells.
fn is_incompressible(raw: &[u8]) -> io::Result<bool> {
    const PARTS: usize = 4;
    const PART_BYTES: usize = 8 << 10;
    if raw.len() < 2 * PARTS * PART_BYTES {
        return Ok(false);
    }
    let parts = raw.chunks(raw.len() / PARTS).take(PARTS);
    let sample: Vec<u8> = parts.flat_map(|part| &part[part.len() / 2..][..PART_BYTES]).copied().collect();
    Ok(deflate_at(1, b"", &sample)?.len() > sample.len() / 100 * 99)
}

fn deflate_at(level: u32, dictionary: &[u8], raw: &[u8]) -> io::Result<Vec<u8>> {
    // A fresh state for each block: what a reused one still holds must not show in the bytes.
    let mut compress = Compress::new(Compression::new(level), false);
    if !dictionary.is_empty() {
        compress.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    // Room for the worst case, fixed codes of nine bits: a second call would add a second flush.
    let mut bytes = Vec::with_capacity(raw.len() + raw.len() / 8 + 1024);
    compress.compress_vec(raw, &mut bytes, FlushCompress::Sync).map_err(io::Error::other)?;
    if compress.total_in() != raw.len() as u64 || bytes.len() == bytes.capacity() {
        return Err(io::Error::other("deflate took less than it was given"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
