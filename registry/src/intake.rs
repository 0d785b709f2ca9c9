//! Request bodies on their way to blocking code.
//!
//! ```text
//! body ──► bounded channel ──► one thread that hashes and writes
//! ```
//! The channel is short: who sends faster than the disk writes is held back. When the writer stops first, its error is
//! the true one, whatever happened to the body meanwhile. When the body stops first (cut, idle, or the request was
//! dropped), the writer learns it as the absence of an end and keeps what it has for a resumption.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::error::Error;

/// Frames in flight; hyper makes them up to 400 KiB long.
const DEPTH: usize = 4;

/// What the writer sees of the body.
pub(crate) struct Chunks {
    receiver: mpsc::Receiver<Message>,
    ended: bool,
}

enum Message {
    Data(Bytes),
    End,
}

impl Iterator for Chunks {
    type Item = Bytes;

    /// The next bytes, or nothing when the body ended or was cut; see [`Chunks::whole`].
    fn next(&mut self) -> Option<Bytes> {
        match self.receiver.blocking_recv() {
            Some(Message::Data(bytes)) => Some(bytes),
            Some(Message::End) => {
                self.ended = true;
                None
            }
            None => None,
        }
    }
}

impl Chunks {
    /// Whether the body came to its proper end. Asked after the last chunk.
    pub(crate) fn whole(&self) -> bool {
        self.ended
    }
}

/// The way in of one server.
#[derive(Debug)]
pub(crate) struct Intake {
    /// How long a body may be silent.
    pub(crate) idle: Duration,
    writers: Semaphore,
}

/// Bodies that are written at once; more wait. Each takes a thread for as long as its client takes, and tokio has 512:
/// the other half is for requests that are short.
const WRITERS: usize = 256;

impl Intake {
    pub(crate) fn new(idle: Duration) -> Self {
        Intake { idle, writers: Semaphore::new(WRITERS) }
    }

    /// Hands `body` to `write` on a thread of its own and answers with what that says.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        body: &mut Body,
        write: impl FnOnce(&mut Chunks) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _permit = self.writers.acquire().await.expect("never closed");
        let (sender, receiver) = mpsc::channel(DEPTH);
        let writer = tokio::task::spawn_blocking(move || write(&mut Chunks { receiver, ended: false }));
        let sent = self.forward(body, sender).await;
        let written = match writer.await {
            Ok(written) => written,
            Err(panicked) => Err(Error::Internal(Box::new(panicked))),
        };
        match (sent, written) {
            // The writer reports a cut as such; why it was cut is known here.
            (Err(sending), Err(Error::BodyCut)) => Err(sending),
            (_, written) => written,
        }
    }

    /// Ends early, and without an error of its own, when the writer does.
    async fn forward(&self, body: &mut Body, sender: mpsc::Sender<Message>) -> Result<(), Error> {
        while let Some(data) = self.next(body).await? {
            if sender.send(Message::Data(data)).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(Message::End).await;
        Ok(())
    }

    /// Reads a small body whole.
    ///
    /// # Errors
    /// `too_large` beyond `limit_bytes`, which are never exceeded in memory; [`Error::BodyCut`], [`Error::BodyIdle`].
    pub(crate) async fn small(
        &self,
        body: &mut Body,
        limit_bytes: u64,
        too_large: impl Fn() -> Error,
    ) -> Result<Bytes, Error> {
        let mut whole = Vec::new();
        while let Some(data) = self.next(body).await? {
            if (whole.len() + data.len()) as u64 > limit_bytes {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }

    /// The next data of a body; trailers are passed over.
    async fn next(&self, body: &mut Body) -> Result<Option<Bytes>, Error> {
        loop {
            let idle = |_| Error::BodyIdle { seconds: self.idle.as_secs() };
            let Some(frame) = timeout(self.idle, body.frame()).await.map_err(idle)? else { return Ok(None) };
            if let Ok(data) = frame.map_err(|_| Error::BodyCut)?.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Takes in the rest of a body that nobody wants, after its answer was sent and within limits. A connection that is closed
/// while its client still sends is reset, and the reset can overtake the answer: the client sees a broken pipe and never
/// learns why. Most clients stop sending as soon as they see the answer.
pub(crate) async fn linger(mut body: Body) {
    let drained = async {
        let mut left_bytes = LINGER_BYTES;
        while let Ok(Some(Ok(frame))) = timeout(LINGER_IDLE, body.frame()).await {
            let size_bytes = frame.data_ref().map_or(0, Bytes::len);
            match left_bytes.checked_sub(size_bytes) {
                Some(left) => left_bytes = left,
                None => break,
            }
        }
    };
    let _ = timeout(LINGER_TIME, drained).await;
}

const LINGER_BYTES: usize = 256 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(2);
