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
use tokio::sync::mpsc;

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

impl Iterator for &mut Chunks {
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

/// Hands `body` to `write` on a thread of its own and answers with what that says. A body that is silent for `idle` is
/// given up.
pub(crate) async fn intake<T: Send + 'static>(
    body: Body,
    idle: Duration,
    write: impl FnOnce(&mut Chunks) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let writer = tokio::task::spawn_blocking(move || write(&mut Chunks { receiver, ended: false }));
    let sent = forward(body, idle, sender).await;
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

async fn forward(mut body: Body, idle: Duration, sender: mpsc::Sender<Message>) -> Result<(), Error> {
    loop {
        let frame = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| Error::BodyIdle { seconds: idle.as_secs() })?;
        let message = match frame {
            None => Message::End,
            Some(Err(_)) => return Err(Error::BodyCut),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Message::Data(data),
                Err(_trailers) => continue,
            },
        };
        let last = matches!(message, Message::End);
        if sender.send(message).await.is_err() || last {
            return Ok(());
        }
    }
}

/// Reads a small body whole.
///
/// # Errors
/// `too_large` beyond `limit_bytes`, which are never exceeded in memory; [`Error::BodyCut`], [`Error::BodyIdle`].
pub(crate) async fn small(
    mut body: Body,
    limit_bytes: u64,
    idle: Duration,
    too_large: impl Fn() -> Error,
) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    loop {
        let frame = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| Error::BodyIdle { seconds: idle.as_secs() })?;
        let Some(frame) = frame else { return Ok(whole.into()) };
        let Ok(data) = frame.map_err(|_| Error::BodyCut)?.into_data() else { continue };
        if (whole.len() + data.len()) as u64 > limit_bytes {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
}
