//! The socket between a caller and its `__init` role: JSON values behind their length, descriptors beside them.
//!
//! ```text
//! caller ── Launch + standard input, output, error ─► __init
//!        ── Order::Signal(n)                       ─►
//!        ◄─ Report::Started{pid} (+ pty)           ──
//!        ◄─ Report::Failed or Report::Exited       ──
//! ```
//! Its end means that the other side is dead. `__init` then kills the container, the caller gives up.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::spec::RunSpec;

/// How many descriptors go with a value at most.
const DESCRIPTORS: usize = 3;
/// A value longer than this is not one of ours. Bytes.
const LIMIT: usize = 16 << 20;

/// What `__init` is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) spec: RunSpec,
    /// Whoever else is the parent by now means that the caller is dead.
    pub(crate) caller: u32,
}

/// What a caller asks of a running `__init`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Send this signal to the container's first process.
    Signal(i32),
}

/// What `__init`, or the container's first process before it executes the command, has to say.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The command is about to run; the pseudo terminal's other side comes along, if there is one.
    Started {
        /// Of the container's first process, as the caller sees it.
        pid: u32,
    },
    /// Nothing runs.
    Failed(Failure),
    /// The command ended.
    Exited {
        /// Its own code, or 128 and the signal that ended it.
        code: i32,
    },
}

/// Sends one value.
pub(crate) fn send(
    mut to: &UnixStream,
    value: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let iov = [IoSlice::new(&length), IoSlice::new(&body)];
    let sent = rustix::net::sendmsg(to, &iov, &mut ancillary, SendFlags::NOSIGNAL)?;
    to.write_all(&body[sent.saturating_sub(length.len())..])
}

/// Waits for one value. `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(mut from: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0; 4];
    let (received, descriptors) = receive_with_descriptors(from, &mut length)?;
    if received == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[received..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

/// Waits for a descriptor that comes with some bytes of no meaning, as OCI runtimes send a terminal.
pub(crate) fn receive_descriptor(from: &UnixStream) -> io::Result<OwnedFd> {
    let (_, mut descriptors) = receive_with_descriptors(from, &mut [0; 64])?;
    descriptors.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn receive_with_descriptors(from: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(buffer)];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(from, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let received = match received {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok((received, descriptors.flatten().collect()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn values_arrive_in_order_with_their_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&ours, &Order::Signal(15), &[writer.as_fd()]).unwrap();
        send(&ours, &Order::Signal(2), &[]).unwrap();
        drop((ours, writer));

        let (Order::Signal(signal), mut descriptors) = receive(&theirs).unwrap().unwrap();
        assert_eq!((signal, descriptors.len()), (15, 1));
        std::fs::File::from(descriptors.remove(0)).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");

        let (Order::Signal(signal), descriptors) = receive(&theirs).unwrap().unwrap();
        assert_eq!((signal, descriptors.len()), (2, 0));
        assert!(receive::<Order>(&theirs).unwrap().is_none());
    }

    #[test]
    fn a_value_larger_than_the_sockets_buffer_arrives_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let text = "x".repeat(3 << 20);
        let sender = {
            let text = text.clone();
            std::thread::spawn(move || send(&ours, &text, &[]).unwrap())
        };
        let (received, _) = receive::<String>(&theirs).unwrap().unwrap();
        sender.join().unwrap();
        assert_eq!(received, text);
    }
}
