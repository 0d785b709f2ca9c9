//! Runs something and waits for its end: the caller's side of `__init`.
//!
//! The calling process may have threads. Everything that is started or opened here is gone when the call returns.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::control::{self, Launch, Order, Report};
use crate::error::RunError;
use crate::relay::{Feeder, Forwarder};
use crate::roles;
use crate::spec::RunSpec;
use crate::terminal::RawMode;

/// How long a wish to cancel may go unnoticed.
const CANCEL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// A pipe's capacity. Bytes.
const CHUNK: usize = 64 << 10;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its own code, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// It was killed because the caller got a third SIGINT or SIGTERM: whoever sent these did not want to wait.
    pub forced: bool,
}

impl ExitStatus {
    /// The code is 0.
    pub fn success(self) -> bool {
        self.code == 0
    }
}

/// Where a piece of output was written to. With a terminal everything is [`Stream::Stdout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes output as it comes. An error means that nobody takes that stream any longer: the command is told by a closed
/// pipe, or a terminal that hung up. Whether the error is worth a word is the consumer's business.
pub type Consumer<'a> = dyn FnMut(Stream, &[u8]) -> io::Result<()> + 'a;

/// What connects a run with its caller.
pub struct Attachment<'a> {
    /// Copied to the command's standard input up to its end; `/dev/null` when there is none.
    pub stdin: Option<OwnedFd>,
    /// Gets the output.
    pub output: &'a mut dyn FnMut(Stream, &[u8]) -> io::Result<()>,
    /// The user's terminal, whose size the command's follows. It is raw as long as the command runs if there is `stdin`;
    /// without, its keys go on making signals. Only where [`RunSpec::terminal`] is set.
    pub terminal: Option<OwnedFd>,
    /// Signals to this process go to the command instead, for good: their default actions do not come back. The third
    /// SIGINT or SIGTERM kills a command that has not ended by then.
    pub forward_signals: bool,
    /// Once this is set, the command is killed.
    pub cancel: Option<&'a AtomicBool>,
    /// Called with the host's PID of the command just before it starts.
    pub started: &'a mut dyn FnMut(u32),
}

/// Runs `spec` and waits for its end.
///
/// # Errors
/// [`RunError`], when the command did not run or was lost. A command that fails is no error.
pub fn run(spec: &RunSpec, attachment: Attachment<'_>) -> Result<ExitStatus, RunError> {
    let Attachment { stdin, output, terminal, forward_signals, cancel, started } = attachment;
    let typed = terminal.as_ref().filter(|_| stdin.is_some());
    let raw = typed.map(RawMode::enter).transpose();
    let _raw = raw.map_err(init_error("prepare the terminal"))?;
    let mut session =
        Session::start(spec, stdin).map_err(init_error("start the process that holds the container"))?;
    session.user_terminal = terminal.map(Arc::new);
    if forward_signals {
        let control = session.control.try_clone().map_err(init_error("share the control socket"))?;
        session.forwarder = Some(Forwarder::start(control).map_err(init_error("catch signals"))?);
    }
    session.follow(output, cancel, started)
}

fn init_error(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Init { what, source }
}

/// A running `__init` and our ends of what it was given. Dropping this ends all.
struct Session {
    child: Child,
    control: UnixStream,
    outputs: Vec<Output>,
    /// Waits for the command's terminal.
    stdin: Option<OwnedFd>,
    user_terminal: Option<Arc<OwnedFd>>,
    /// The only output is the command's terminal.
    has_terminal: bool,
    feeder: Option<Feeder>,
    forwarder: Option<Forwarder>,
}

/// A stream that somebody may still write to.
struct Output {
    stream: Stream,
    /// A pipe, or the other side of a pseudo terminal.
    source: File,
}

impl Session {
    fn start(spec: &RunSpec, mut stdin: Option<OwnedFd>) -> io::Result<Self> {
        let (mut outputs, mut feeder) = (Vec::new(), None);
        let mut streams = [null()?, null()?, null()?];
        if spec.terminal.is_none() {
            if let Some(stdin) = stdin.take() {
                let (reader, writer) = io::pipe()?;
                streams[0] = reader.into();
                feeder = Some(Feeder::start(stdin, File::from(OwnedFd::from(writer)))?);
            }
            for (index, stream) in [(1, Stream::Stdout), (2, Stream::Stderr)] {
                let (reader, writer) = io::pipe()?;
                streams[index] = writer.into();
                outputs.push(Output { stream, source: File::from(OwnedFd::from(reader)) });
            }
        }
        let (control, theirs) = UnixStream::pair()?;
        let child = roles::start_init(theirs.into())?;
        let session = Session {
            child,
            control,
            outputs,
            stdin,
            user_terminal: None,
            has_terminal: false,
            feeder,
            forwarder: None,
        };
        let launch = Launch { spec: spec.clone(), caller: std::process::id() };
        control::send(&session.control, &launch, &streams.each_ref().map(AsFd::as_fd))?;
        Ok(session)
    }

    /// Passes output on until the command's end is reported.
    fn follow(
        mut self,
        consume: &mut Consumer<'_>,
        mut cancel: Option<&AtomicBool>,
        started: &mut dyn FnMut(u32),
    ) -> Result<ExitStatus, RunError> {
        let mut running = false;
        let status = loop {
            if self.poll(cancel.is_some()).map_err(init_error("wait for the container"))? {
                match control::receive(&self.control).map_err(init_error("talk to the container"))? {
                    Some((Report::Started { pid }, terminal)) => {
                        self.take_terminal(terminal).map_err(init_error("take over the terminal"))?;
                        started(pid);
                        running = true;
                    }
                    Some((Report::Failed(failure), _)) => return Err(failure.into()),
                    Some((Report::Exited { code }, _)) => {
                        let forced = self.forwarder.as_ref().is_some_and(Forwarder::has_forced);
                        break ExitStatus { code, forced };
                    }
                    None => return Err(RunError::Lost),
                }
            }
            // The start is told before the first output.
            if running {
                self.pass_on(consume);
            }
            if cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
                cancel = None;
                // One that is gone needs no signal.
                let _ = control::send(&self.control, &Order::Signal(libc::SIGKILL), &[]);
            }
        };
        // All its processes are dead by now: what they wrote waits in the pipes.
        while self.pass_on(consume) {}
        Ok(status)
    }

    /// Waits for output or a report; true for a report.
    fn poll(&self, cancellable: bool) -> io::Result<bool> {
        let mut polled: Vec<_> =
            self.outputs.iter().map(|output| PollFd::new(&output.source, PollFlags::IN)).collect();
        polled.push(PollFd::new(&self.control, PollFlags::IN));
        let timeout = cancellable.then_some(&CANCEL_INTERVAL);
        match rustix::event::poll(&mut polled, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(polled.last().is_some_and(|control| !control.revents().is_empty()))
    }

    /// Takes a piece of each stream that has one, without waiting. A stream at its end, or that nobody wants any longer,
    /// is closed. False when there was nothing.
    fn pass_on(&mut self, consume: &mut Consumer<'_>) -> bool {
        let mut buffer = vec![0; CHUNK];
        let before = self.outputs.len();
        let mut progress = false;
        self.outputs.retain_mut(|output| {
            if !is_readable(output.source.as_fd()) {
                return true;
            }
            progress = true;
            match output.source.read(&mut buffer) {
                Ok(length) => length > 0 && consume(output.stream, &buffer[..length]).is_ok(),
                // A terminal that nobody has open any longer says EIO.
                Err(error) => error.kind() == io::ErrorKind::Interrupted,
            }
        });
        if self.has_terminal && self.outputs.len() < before {
            self.hang_up();
        }
        progress
    }

    /// Lets go of the command's terminal: who writes to it now fails instead of waiting for a reader for ever.
    fn hang_up(&mut self) {
        self.feeder = None;
        if let Some(forwarder) = &self.forwarder {
            forwarder.forget_size();
        }
    }

    fn take_terminal(&mut self, mut descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let Some(terminal) = descriptors.pop() else { return Ok(()) };
        let terminal = File::from(terminal);
        if let Some(stdin) = self.stdin.take() {
            self.feeder = Some(Feeder::start(stdin, terminal.try_clone()?)?);
        }
        if let (Some(forwarder), Some(user_terminal)) = (&self.forwarder, &self.user_terminal) {
            forwarder.follow_size(Arc::clone(user_terminal), terminal.try_clone()?);
        }
        self.outputs.push(Output { stream: Stream::Stdout, source: terminal });
        self.has_terminal = true;
        Ok(())
    }
}

impl Drop for Session {
    /// Lets `__init` end, by itself after its last report, and kill the container otherwise.
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

fn null() -> io::Result<OwnedFd> {
    File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from)
}

fn is_readable(source: BorrowedFd<'_>) -> bool {
    let now = Timespec::default();
    rustix::event::poll(&mut [PollFd::new(&source, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}
