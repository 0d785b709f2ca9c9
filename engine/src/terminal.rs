//! The user's terminal while a command has one of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::spec::WindowSize;

/// The size of the terminal that `descriptor` is.
///
/// # Errors
/// When it is none.
pub fn window_size(descriptor: impl AsFd) -> io::Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(descriptor)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Gives a terminal a size. Those who run in it get SIGWINCH.
pub(crate) fn resize(descriptor: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(descriptor, size)?)
}

/// A terminal that passes every key on as it is. Dropping this gives it back as it was.
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    pub(crate) fn enter(terminal: &OwnedFd) -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(RawMode { terminal: terminal.try_clone()?, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Whoever closed it in the meantime has no use for its mode.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}
