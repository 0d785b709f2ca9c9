//! Runs containers.
mod capabilities;
mod cgroups;
mod control;
mod error;
mod init;
mod loopback;
mod relay;
pub mod roles;
mod run;
mod runtime;
mod seccomp;
mod spec;
mod sys;
mod terminal;

pub use error::{Failure, RunError, Step};
pub use run::{Attachment, Consumer, ExitStatus, Stream, run};
pub use spec::{Mount, Network, Root, RunSpec, Source, WindowSize};
pub use terminal::window_size;
