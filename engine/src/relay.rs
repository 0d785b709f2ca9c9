//! Threads that pass things on to a running command: its standard input and the caller's signals. Both end with the run.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags};
use signal_hook::iterator::{Handle, Signals};

use crate::control::{self, Order};
use crate::terminal;

/// A pipe's capacity. Bytes.
const CHUNK: usize = 64 << 10;

/// Copies standard input to a command until its end, or until this is dropped.
pub(crate) struct Feeder {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// `to` is closed at the end of `from`.
    pub(crate) fn start(from: OwnedFd, mut to: File) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let mut from = File::from(from);
        let thread = thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                let mut polled = [PollFd::new(&stopped, PollFlags::IN), PollFd::new(&from, PollFlags::IN)];
                match rustix::event::poll(&mut polled, None) {
                    Ok(_) if !polled[0].revents().is_empty() => return,
                    Ok(_) | Err(rustix::io::Errno::INTR) if polled[1].revents().is_empty() => continue,
                    Ok(_) => {}
                    Err(_) => return,
                }
                match from.read(&mut buffer) {
                    Ok(length) if length > 0 && to.write_all(&buffer[..length]).is_ok() => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The end of either side.
                    _ => return,
                }
            }
        })?;
        Ok(Feeder { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Feeder {
    /// By now nobody reads the other side, so that a write that waits there fails.
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How many SIGINTs and SIGTERMs, taken together, a command is asked by; docker's number.
const PATIENCE: usize = 3;

/// Sends the signals that this process gets to the command.
pub(crate) struct Forwarder {
    signals: Handle,
    forced: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    terminals: Terminals,
}

/// The user's terminal and the command's, where that has the size of the first.
type Terminals = Arc<Mutex<Option<(Arc<OwnedFd>, File)>>>;

impl Forwarder {
    pub(crate) fn start(control: UnixStream) -> io::Result<Self> {
        let mut signals = Signals::new(forwarded())?;
        let handle = signals.handle();
        let terminals = Terminals::default();
        let sizes = Arc::clone(&terminals);
        let forced = Arc::new(AtomicBool::new(false));
        let force = Arc::clone(&forced);
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut asked = 0;
            for mut signal in signals.forever() {
                asked += usize::from(matches!(signal, libc::SIGINT | libc::SIGTERM));
                if asked == PATIENCE {
                    force.store(true, Ordering::Relaxed);
                    signal = libc::SIGKILL;
                }
                match &*sizes.lock().unwrap_or_else(PoisonError::into_inner) {
                    Some((from, to)) if signal == libc::SIGWINCH => copy_size(from, to),
                    // A command that has ended needs no signal.
                    _ => drop(control::send(&control, &Order::Signal(signal), &[])),
                }
            }
        })?;
        Ok(Forwarder { signals: handle, forced, thread: Some(thread), terminals })
    }

    /// Whether the command was killed since it would not end.
    pub(crate) fn has_forced(&self) -> bool {
        self.forced.load(Ordering::Relaxed)
    }

    /// From now on `to` has the size of `from`, and SIGWINCH is not passed on: the kernel sends one.
    pub(crate) fn follow_size(&self, from: Arc<OwnedFd>, to: File) {
        copy_size(&from, &to);
        self.set_terminals(Some((from, to)));
    }

    /// Lets go of both.
    pub(crate) fn forget_size(&self) {
        self.set_terminals(None);
    }

    fn set_terminals(&self, terminals: Option<(Arc<OwnedFd>, File)>) {
        *self.terminals.lock().unwrap_or_else(PoisonError::into_inner) = terminals;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.signals.close();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn copy_size(from: &OwnedFd, to: &File) {
    // Without a size there is nothing to follow.
    if let Ok(size) = terminal::window_size(from) {
        let _ = terminal::resize(to, size);
    }
}

/// Every signal that can be caught, but those that are about this process: its children, pipes and sockets, faults.
fn forwarded() -> impl Iterator<Item = i32> {
    let own = [libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG, libc::SIGBUS, libc::SIGTRAP, libc::SIGABRT];
    let standard = (1..32).filter(move |signal| !own.contains(signal));
    standard
        .filter(|signal| !signal_hook::consts::FORBIDDEN.contains(signal))
        .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}
