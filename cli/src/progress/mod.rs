//! Progress on stderr: bars on a terminal, plain lines elsewhere.

mod counter;
mod transfer;

pub(crate) use counter::Counter;
pub(crate) use transfer::Transfers;
