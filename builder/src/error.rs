//! What can go wrong in a build. What is wrong with the text of a Dockerfile is [`SyntaxErrors`].

use std::fmt;
use std::io;
use std::path::PathBuf;

use common::digest::Digest;
use common::image::names::{ConfigError, NameError};
use common::layer;
use common::platform::PlatformError;
use common::reference::ReferenceError;
use common::snapshot::SnapshotError;
use common::store::{CommitError, StoreError};

use crate::context::ContextError;
use crate::copy::archive::ArchiveError;
use crate::copy::mode::ChmodError;
use crate::copy::owner::OwnerError;
use crate::copy::source::RootError;
use crate::copy::target::TargetError;
use crate::dockerfile::{Fault, Report, Source, Span, SyntaxErrors};
use crate::request::OutsideError;
use crate::step::StepError;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile or the ignore file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The Dockerfile has errors.
    #[error("{0}")]
    Syntax(Box<SyntaxErrors>),
    /// The ignore file has errors.
    #[error("cannot understand {}", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: crate::ignore::PatternError,
    },
    /// The context is not a directory that can be read.
    #[error("cannot read the build context")]
    Context(#[from] ContextError),
    /// `--target` names no stage.
    #[error("target stage `{target}` could not be found; there are {}", list(.known))]
    NoSuchTarget {
        /// What was asked for.
        target: String,
        /// The stages that have names.
        known: Vec<String>,
    },
    /// `SOURCE_DATE_EPOCH` is not a number.
    #[error("invalid SOURCE_DATE_EPOCH `{0}`; expected seconds since 1970")]
    Epoch(String),
    /// An instruction failed. The text holds the causes already; those of the chain are for callers to look at.
    #[error("{0}")]
    Instruction(#[source] Box<InstructionError>),
    /// The result cannot be stored.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The config cannot be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The caller gave the build up.
    #[error("cancelled")]
    Cancelled,
}

/// An instruction that failed: which, and why. Shown with the lines of the Dockerfile.
#[derive(Debug)]
pub struct InstructionError {
    /// The Dockerfile.
    pub source: Source,
    /// The instruction.
    pub span: Span,
    /// Name or number of the stage.
    pub stage: String,
    /// Why.
    pub cause: Cause,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Why an instruction failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Cause {
    #[error("{0}")]
    Word(Fault),
    #[error("cannot understand the trigger `{expression}` of the base image: {}", source.errors[0])]
    Trigger { expression: String, source: Box<SyntaxErrors> },
    #[error("base name `{0}` is empty after expansion")]
    BlankBase(String),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("cannot get image `{image}`: {source}")]
    Pull { image: String, source: OutsideError },
    #[error("the store has no config of image {0} that can be read")]
    Config(Digest, #[source] Box<ConfigError>),
    #[error("invalid stage index {0}")]
    StageIndex(usize),
    #[error("circular dependency detected on stage `{0}`")]
    Circular(String),
    #[error("cannot copy from stage `{from}`, it needs to be defined before current stage `{stage}`")]
    LaterStage { from: String, stage: String },
    #[error(transparent)]
    Chmod(#[from] ChmodError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfMany,
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfFile,
    #[error("`{path}` is not in {}", tree(from.as_deref()))]
    SourceNotFound { path: String, from: Option<String> },
    #[error(transparent)]
    Ignore(#[from] crate::ignore::PatternError),
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Read(#[from] RootError),
    #[error(transparent)]
    Layer(#[from] layer::LayerError),
    #[error(transparent)]
    Write(#[from] layer::WriteError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("cannot use the cache mount at {}", path.display())]
    CacheMount { path: PathBuf, source: io::Error },
    #[error("secret `{0}` was not given")]
    NoSecret(String),
    #[error("no ssh agent `{0}` was given")]
    NoAgent(String),
    #[error("invalid mount target `{0}`")]
    MountTarget(String),
    #[error("process `{command}` did not complete successfully: exit code: {code}")]
    Exit { command: String, code: i32 },
    #[error("process `{command}` did not complete successfully")]
    Step { command: String, source: StepError },
    #[error(transparent)]
    CannotRun(StepError),
    #[error("cancelled")]
    Cancelled,
}

impl std::error::Error for InstructionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl fmt::Display for InstructionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self.stage.as_str() {
            "" => "cannot build the image".to_owned(),
            stage => format!("cannot build stage `{stage}`"),
        };
        let report = Report {
            message: &message,
            place: Some((&self.source, self.span)),
            cause: Some(&chain(&self.cause)),
            hint: self.hint.as_deref(),
        };
        report.fmt(f)
    }
}

/// An error and what it came from, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        source = error.source();
    }
    text
}

fn tree(from: Option<&str>) -> String {
    from.map_or_else(|| "the build context".to_owned(), |from| format!("`{from}`"))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no named stages".to_owned() } else { format!("`{}`", names.join("`, `")) }
}
