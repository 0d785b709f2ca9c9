//! Progress on stderr: bars on a terminal, plain lines elsewhere.

mod build;
mod counter;
mod transfer;

pub(crate) use build::{BuildProgress, Style};
pub(crate) use counter::Counter;
pub(crate) use transfer::Transfers;
