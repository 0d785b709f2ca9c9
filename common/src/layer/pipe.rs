//! Bytes from one thread to another, in pieces of a bounded number.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// How long a piece is at most.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces may wait.
const WAITING: usize = 4;

/// Two ends of a channel for bytes: what is written to one is read from the other.
pub(super) fn channel() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(WAITING);
    let writer = PipeWriter { sender, piece: Vec::new() };
    (writer, PipeReader { receiver, piece: Vec::new(), position: 0 })
}

/// Runs `produce` on a thread of its own and reads what it writes. Its error is read behind the last byte.
pub(super) fn pipe(produce: impl FnOnce(&mut PipeWriter) -> io::Result<()> + Send + 'static) -> Pipe {
    let (mut writer, reader) = channel();
    let producer = thread::spawn(move || {
        produce(&mut writer)?;
        writer.flush()
    });
    Pipe { reader, producer: Some(producer) }
}

/// What a thread produces. When it is dropped early the thread ends at its next write.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: PipeReader,
    producer: Option<JoinHandle<io::Result<()>>>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if n == 0
            && !buffer.is_empty()
            && let Some(producer) = self.producer.take()
        {
            producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(n)
    }
}

/// The end that is written to. Bytes are on their way after [`Write::flush`], or when there are many.
#[derive(Debug)]
pub(super) struct PipeWriter {
    sender: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for PipeWriter {
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE_BYTES);
        }
        let len = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.sender.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The end that is read from. It ends when the other end is dropped.
#[derive(Debug)]
pub(super) struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    position: usize,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.piece.len() {
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.position) = (piece, 0);
        }
        let rest = &self.piece[self.position..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_in_order_and_the_error_after_them() {
        let expected: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let sent = expected.clone();
        let mut pipe = pipe(move |out| {
            out.write_all(&sent)?;
            out.flush()?;
            Err(io::Error::other("the end"))
        });
        let mut found = Vec::new();
        let error = pipe.read_to_end(&mut found).unwrap_err();
        assert_eq!(error.to_string(), "the end");
        assert!(found == expected);
    }

    #[test]
    fn a_producer_whose_reader_is_gone_ends() {
        let (mut writer, reader) = channel();
        drop(reader);
        let error = io::copy(&mut io::repeat(0), &mut writer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
