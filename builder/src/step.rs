//! Running one step: what the builder asks of whoever can run a command in a root.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use common::snapshot::Overlay;

use crate::event::Stream;

/// Runs commands of `RUN`. The engine does, and a recorder in tests.
pub trait StepRunner: Sync {
    /// Whether steps can be run here at all; asked before anything is unpacked for one.
    ///
    /// # Errors
    /// [`StepError::Unsupported`] says what is missing.
    fn check(&self) -> Result<(), StepError> {
        Ok(())
    }

    /// Runs `step` to its end, passing on what it writes. Nothing of it outlives the call: no process, no mount.
    ///
    /// # Errors
    /// When the command could not be started at all; one that ran and failed is an [`ExitStatus`].
    fn run(&self, step: &Step<'_>, output: &mut dyn FnMut(Stream, &[u8])) -> Result<ExitStatus, StepError>;
}

/// A command and all that it sees.
#[derive(Debug)]
pub struct Step<'a> {
    /// The root; what the command changes goes into its upper directory.
    pub root: &'a Overlay,
    /// Program and arguments; the program is looked up in `PATH` of `env`.
    pub args: &'a [String],
    /// The whole environment, `NAME=value`. `HOME` is not in it unless the image or the Dockerfile says so.
    pub env: &'a [String],
    /// Absolute, inside the root.
    pub working_dir: &'a str,
    /// `user[:group]`, names as the root's files have them; empty means root.
    pub user: &'a str,
    /// What it may reach.
    pub network: Network,
    /// In this order, later ones over earlier ones.
    pub mounts: &'a [Mount],
    /// Secrets as environment variables; they come on top of `env` and into no record.
    pub secret_env: &'a BTreeMap<String, Vec<u8>>,
    /// Set when the build is being given up: the runner kills the command then.
    pub cancelled: &'a AtomicBool,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Loopback only.
    None,
}

/// Something to be seen at `target` besides the root. A target that does not exist is made for the run and must not be
/// found in the layer afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside the root.
    pub target: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// What is seen there.
    pub kind: MountKind,
}

/// What is seen at a mount's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A path inside another root, resolved beneath it.
    Tree {
        /// The directories of that root, and where to put what is written: thrown away or kept by the builder.
        root: Overlay,
        /// Path inside it, without a leading slash; empty for all of it.
        source: String,
    },
    /// A directory of the store.
    Directory(PathBuf),
    /// Memory.
    Tmpfs {
        /// `None`: the kernel's default.
        size_bytes: Option<u64>,
    },
    /// A file that exists in memory only.
    File {
        /// What is in it.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A socket of the host.
    Socket(PathBuf),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, 0 for success.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// As a shell says it: the code, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code.into(),
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The build was given up.
    #[error("cancelled")]
    Cancelled,
    /// `USER` names nobody.
    #[error("unable to find user `{0}`: no matching entries in the root's passwd file")]
    UnknownUser(String),
    /// The program is not there or cannot be executed.
    #[error("cannot execute `{program}`")]
    Execute {
        /// First of the arguments.
        program: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// This machine or user cannot run steps; the message says what is missing.
    #[error("{0}")]
    Unsupported(String),
    /// Anything that went wrong on the way, by the runner's own error.
    #[error("cannot run the step")]
    Runner(#[source] Box<dyn std::error::Error + Send + Sync>),
}
