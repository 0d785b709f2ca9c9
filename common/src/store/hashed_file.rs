use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::thread::{self, JoinHandle};

use crate::digest::{Digest, Hasher};

/// Small writes are gathered to pieces of this size.
const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces from this size on are hashed on a thread of their own while they are written.
const PARALLEL_BYTES: usize = 256 * 1024;
/// Write-back to the disk is started whenever this much has come.
const WRITE_BACK_BYTES: u64 = 32 * 1024 * 1024;

/// A file that grows at its end and is hashed meanwhile, in one pass.
#[derive(Debug)]
pub(super) struct HashedFile {
    file: File,
    hasher: Hasher,
    /// How much of the file is written and hashed.
    written_bytes: u64,
    /// What came after that.
    pending: Vec<u8>,
    write_back: WriteBack,
}

impl HashedFile {
    /// Goes on after `size_bytes` bytes of `file`, which `hasher` has seen.
    pub(super) fn new(file: File, hasher: Hasher, size_bytes: u64) -> Self {
        let write_back = WriteBack { started_bytes: size_bytes, running: None };
        HashedFile { file, hasher, written_bytes: size_bytes, pending: Vec::new(), write_back }
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
            thread::scope(|scope| {
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
        self.write_back.go_on(&self.file, self.written_bytes)
    }

    /// The file, all of it written. Its bytes reach the disk by an fsync that is the caller's.
    pub(super) fn file(&mut self) -> io::Result<&File> {
        self.write_pending()?;
        self.write_back.end()?;
        Ok(&self.file)
    }

    /// The state of the digest over all that is written.
    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Writes what is gathered; the digest of it all.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        self.file()?;
        Ok(self.hasher.finish())
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

/// Lets the disk begin while bytes still arrive, so that the final fsync finds little to do.
///
/// The kernel tells an error of write-back to one caller only: if it is told here, the final fsync would succeed. So it
/// is kept and passed on.
#[derive(Debug)]
struct WriteBack {
    /// Up to where it was started.
    started_bytes: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl WriteBack {
    /// Starts another round if enough bytes have come since the last one and that one has ended.
    fn go_on(&mut self, file: &File, written_bytes: u64) -> io::Result<()> {
        let due = written_bytes - self.started_bytes >= WRITE_BACK_BYTES;
        if !due || self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return Ok(());
        }
        self.end()?;
        let file = file.try_clone()?;
        self.started_bytes = written_bytes;
        // Where there is no thread to be had, all is written at the end.
        self.running = thread::Builder::new().spawn(move || file.sync_data()).ok();
        Ok(())
    }

    /// Waits for what was started.
    fn end(&mut self) -> io::Result<()> {
        match self.running.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(synced)) => synced,
            Some(Err(_panic)) => Err(io::Error::other("the thread that writes to the disk has panicked")),
        }
    }
}
