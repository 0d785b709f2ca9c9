//! Runs containers.
//!
//! [`run()`] takes a [`RunSpec`], which says what a process is to see, and waits for its end; [`run_step`] is the same
//! for a step of a build. [`containers`] keeps what outlives a run: names, states, changes. Nothing here knows images
//! or registries: roots come as trees that `common::snapshot` made.
//!
//! No process with threads forks. Who runs something executes this very binary again in the hidden role `__init`
//! ([`roles`]), which has one thread:
//!
//! ```text
//! caller (run.rs)  ──control socket──►  __init (init/)  ──runtime.rs──►  Payload (init/payload.rs) ──exec──► command
//! ```
//! Nothing is mounted where the host sees it, and everything dies with the caller.

mod capabilities;
mod cgroups;
mod command;
pub mod containers;
mod control;
mod error;
mod etc;
mod init;
mod loopback;
mod mountinfo;
mod relay;
pub mod roles;
mod run;
mod runtime;
mod seccomp;
mod spec;
mod step;
mod sys;
mod terminal;
#[cfg(test)]
mod testing;

pub use cgroups::can_restrict_devices;
pub use command::{Command, NoCommand, command};
pub use error::{Failure, RunError, Step};
pub use etc::mounts as etc_mounts;
pub use run::{Attachment, Consumer, ExitStatus, Stream, run};
pub use spec::{Mount, Network, Root, RunSpec, Source, WindowSize};
pub use step::run_step;
pub use terminal::window_size;
