//! Large blobs leave in pieces of 256 KiB, read into buffers of a bounded pool.
//!
//! A piece is lent to the connection and comes back when its last byte was written, so memory is bounded whatever
//! the number of clients. Who finds no buffer for a moment goes on with a small one of its own: clients that do not
//! take what they asked for cannot keep it from others. What the kernel has cached is copied at once; only what must
//! come from the disk goes over a thread, for that can take as long as it likes.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use rustix::io::ReadWriteFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Smaller pieces cost a system call and a poll each, larger ones no longer fit beside each other into the cache.
const PIECE_BYTES: usize = 256 * 1024;

/// At most this many pieces are under way: 16 MiB.
const PIECES: usize = 64;

/// How long a request waits for one of them …
const PATIENCE: Duration = Duration::from_millis(100);

/// … before it takes a small one instead.
const SMALL_BYTES: usize = 16 * 1024;

/// Buffers kept for the next request; the others are given back to the system.
const KEPT: usize = 16;

/// The buffers of one server.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Box<[u8]>>>,
    permits: Arc<Semaphore>,
}

/// A buffer and how much of it is filled; one of a pool goes back there when dropped.
struct Piece {
    buffer: Box<[u8]>,
    filled: usize,
    home: Option<(Arc<Pool>, OwnedSemaphorePermit)>,
}

impl Pool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Pool { idle: Mutex::default(), permits: Arc::new(Semaphore::new(PIECES)) })
    }

    /// The bytes `range` of `file` as a body. A file that ends too early breaks the connection: more was promised.
    pub(crate) fn body(self: &Arc<Self>, file: File, range: Range<u64>) -> Body {
        let state = (self.clone(), Arc::new(file), range);
        Body::from_stream(stream::try_unfold(state, |(pool, file, mut rest)| async move {
            if rest.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let piece = pool.take().await.fill(&file, &rest).await?;
            rest.start += piece.filled as u64;
            Ok(Some((Bytes::from_owner(piece), (pool, file, rest))))
        }))
    }

    async fn take(self: &Arc<Self>) -> Piece {
        let Ok(permit) = timeout(PATIENCE, self.permits.clone().acquire_owned()).await else {
            return Piece { buffer: vec![0; SMALL_BYTES].into_boxed_slice(), filled: 0, home: None };
        };
        let permit = permit.expect("never closed");
        let idle = self.idle().pop();
        let buffer = idle.unwrap_or_else(|| vec![0; PIECE_BYTES].into_boxed_slice());
        Piece { buffer, filled: 0, home: Some((self.clone(), permit)) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    /// Reads the beginning of `range` of `file`, as much as fits.
    async fn fill(mut self, file: &Arc<File>, range: &Range<u64>) -> io::Result<Self> {
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let want = left.min(self.buffer.len());
        let cached = {
            let mut slices = [IoSliceMut::new(&mut self.buffer[..want])];
            rustix::io::preadv2(file, &mut slices, range.start, ReadWriteFlags::NOWAIT).unwrap_or(0)
        };
        if cached < want {
            let (file, position) = (file.clone(), range.start + cached as u64);
            let read = move || file.read_exact_at(&mut self.buffer[cached..want], position).map(|()| self);
            self = tokio::task::spawn_blocking(read).await??;
        }
        self.filled = want;
        Ok(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let Some((pool, _permit)) = self.home.take() else { return };
        let mut idle = pool.idle();
        if idle.len() < KEPT {
            idle.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn any_range_of_a_file_comes_out_whole_and_buffers_come_back() {
        let bytes: Vec<u8> = (0..PIECE_BYTES * 2 + 100).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let pool = Pool::new();
        let size = bytes.len() as u64;
        for range in [0..size, 0..1, 7..PIECE_BYTES as u64 + 7, size - 1..size, 5..5] {
            let body = pool.body(file.try_clone().unwrap(), range.clone());
            let read = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            assert!(read == bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        assert_eq!(pool.permits.available_permits(), PIECES);
        assert!(!pool.idle().is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_buffer_goes_on_with_a_small_one() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; SMALL_BYTES * 2 + 1]).unwrap();
        let pool = Pool::new();
        let _stalled = pool.permits.clone().acquire_many_owned(PIECES as u32).await.unwrap();
        let read = axum::body::to_bytes(pool.body(file, 0..SMALL_BYTES as u64 * 2 + 1), usize::MAX).await;
        assert!(read.unwrap() == [7; SMALL_BYTES * 2 + 1][..]);
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_breaks_the_body() {
        let pool = Pool::new();
        let body = pool.body(tempfile::tempfile().unwrap(), 0..10);
        assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    }
}
