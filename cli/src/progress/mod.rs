//! Progress on stderr: bars on a terminal, plain lines elsewhere.

mod build;
mod counter;
mod transfer;

pub(crate) use build::{BuildProgress, Style};
pub(crate) use counter::Counter;
pub(crate) use transfer::Transfers;

/// Columns of the terminal that progress goes to.
fn console_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(20))
}
