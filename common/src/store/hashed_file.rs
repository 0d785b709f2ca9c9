use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;

use crate::digest::{Digest, Hasher};

/// Small writes are gathered to pieces of this size.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces from this size on are hashed on a thread of their own while they are written.
const PARALLEL_BYTES: usize = 256 * 1024;
/// Write-back to the disk is started whenever this much has come.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// A file that grows at its end and is hashed meanwhile, in one pass.
#[derive(Debug)]
pub(super) struct HashedFile {
    file: File,
    hasher: Hasher,
    /// How much of the file is written and hashed.
    written_bytes: u64,
    /// Up to where write-back was started.
    started_bytes: u64,
    /// What came after that.
    pending: Vec<u8>,
}

impl HashedFile {
    /// Goes on after `size_bytes` bytes of `file`, which `hasher` has seen.
    pub(super) fn new(file: File, hasher: Hasher, size_bytes: u64) -> Self {
        HashedFile { file, hasher, written_bytes: size_bytes, started_bytes: size_bytes, pending: Vec::new() }
    }

    /// How many bytes there are, those not yet written included.
    pub(super) fn size_bytes(&self) -> u64 {
        self.written_bytes + self.pending.len() as u64
    }

    /// Takes in more bytes. After an error all that is not yet written is lost, and what is written stays consistent.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.is_empty() && bytes.len() >= PIECE_BYTES {
            return self.write_piece(bytes);
        }
        let mut rest = bytes;
        while self.pending.len() + rest.len() >= PIECE_BYTES {
            let (now, later) = rest.split_at(PIECE_BYTES - self.pending.len());
            self.pending.extend_from_slice(now);
            self.write_pending()?;
            rest = later;
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Writes what is gathered.
    pub(super) fn write_pending(&mut self) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        self.write_piece(&pending)?;
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    /// All or nothing: a piece that could not be written whole is neither in the file nor in the digest.
    fn write_piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let offset = self.written_bytes;
        let mut hasher = self.hasher.clone();
        let file = &self.file;
        let written = if bytes.len() < PARALLEL_BYTES {
            hasher.update(bytes);
            file.write_all_at(bytes, offset)
        } else {
            std::thread::scope(|scope| {
                scope.spawn(|| hasher.update(bytes));
                file.write_all_at(bytes, offset)
            })
        };
        if let Err(error) = written {
            // Else the next piece, or the next owner, would find bytes that nobody has acknowledged.
            let _ = self.file.set_len(offset);
            return Err(error);
        }
        self.hasher = hasher;
        self.written_bytes += bytes.len() as u64;
        self.start_write_back();
        Ok(())
    }

    /// Lets the disk begin while bytes still arrive, so that the final fsync finds little to do. Linux starts
    /// write-back of a range's dirty pages when told that it is not needed; dirty pages stay cached.
    fn start_write_back(&mut self) {
        let length = self.written_bytes - self.started_bytes;
        if length >= WRITE_BACK_BYTES {
            let advice = rustix::fs::fadvise(
                &self.file,
                self.started_bytes,
                NonZeroU64::new(length),
                Advice::DontNeed,
            );
            if let Err(error) = advice {
                tracing::debug!(%error, "cannot start write-back early");
            }
            self.started_bytes = self.written_bytes;
        }
    }

    /// The state of the digest over all that is written.
    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Writes what is gathered; the file, the digest of it all and the length in bytes.
    pub(super) fn finish(mut self) -> io::Result<(File, Digest, u64)> {
        self.write_pending()?;
        Ok((self.file, self.hasher.finish(), self.written_bytes))
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_pending()
    }
}
