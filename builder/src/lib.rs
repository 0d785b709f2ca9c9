//! From a Dockerfile to an image.
//!
//! ```text
//! text ─► dockerfile::parse ─► plan (stages, base images, triggers, words expanded) ─► execute ─► image in the store
//!                                                                                     │
//!          context, layers of other stages ─► copy (what goes where) ─► layer         │ one thread a stage,
//!          overlay of the layers below ─► StepRunner (RUN) ─► what changed ─► layer ◄─┘ cache in front of each step
//! ```
//! [`build()`] is the way in. COPY, ADD and WORKDIR are arithmetic on the tables of the layers below: nothing is mounted
//! or unpacked for them, and they need no rights. Only RUN needs somebody who can run a command, the [`StepRunner`].
//!
//! Nothing here prints, reads the environment or speaks to a registry: progress goes to a callback, and the caller
//! brings base images into the store.

mod build;
mod cache;
mod changes;
mod clock;
mod context;
mod copy;
mod disk;
pub mod dockerfile;
mod error;
mod event;
mod execute;
pub mod export;
pub mod ignore;
mod image;
mod piped;
mod plan;
mod progress;
mod request;
mod sources;
mod step;
mod steps;
mod tree;
mod variables;

pub use build::build;
pub use changes::{ChangeError, apply_changes};
pub use context::ContextError;
pub use copy::archive::ArchiveError;
pub use copy::mode::ChmodError;
pub use copy::owner::OwnerError;
pub use copy::target::TargetError;
pub use error::{BuildError, Cause, DockerfileErrors, Failure, InstructionError, LinkToNothing, Problem};
pub use event::{Event, Stream, VertexId};
pub use piped::{Piped, PipedContext, PipedError};
pub use request::{BuildRequest, Built, DockerfileSource, Environment, OutsideError};
pub use step::{ExitStatus, Mount, MountKind, Network, Step, StepError, StepRunner};
pub use tree::TooManyLinks;

#[cfg(test)]
mod corpora;
