//! What can go wrong in a build. What is wrong with the text of a Dockerfile is a [`SyntaxError`].

use std::fmt;
use std::io;
use std::path::PathBuf;

use common::digest::Digest;
use common::image::names::{ConfigError, NameError};
use common::image::record::CreateError;
use common::layer;
use common::platform::PlatformError;
use common::reference::ReferenceError;
use common::snapshot::SnapshotError;
use common::store::StoreError;

use crate::context::ContextError;
use crate::copy::archive::ArchiveError;
use crate::copy::mode::ChmodError;
use crate::copy::owner::OwnerError;
use crate::copy::source::RootError;
use crate::copy::target::TargetError;
use crate::dockerfile::{Fault, Report, Source, Span, SyntaxError, SyntaxErrors, write_errors};
use crate::ignore::GlobError;
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
    /// The Dockerfile has errors; nothing was begun.
    #[error("{0}")]
    Dockerfile(Box<DockerfileErrors>),
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
    /// There are warnings, and `# check=error=true`.
    #[error("lint violation found for rules: {rules}")]
    Doubtful {
        /// The names of the rules.
        rules: String,
    },
    /// The build argument that stands for `# check=` has an option that is none.
    #[error("failed to parse BUILDKIT_DOCKERFILE_CHECK: `{0}` is not an option of `check`")]
    Checks(String),
    /// `SOURCE_DATE_EPOCH` is not a number.
    #[error("invalid SOURCE_DATE_EPOCH `{0}`; expected seconds since 1970")]
    Epoch(String),
    /// An instruction failed. The text holds the causes already; those of the chain are for callers to look at.
    #[error("{0}")]
    Instruction(#[source] Box<InstructionError>),
    /// The result cannot be stored.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The image cannot be stored.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The caller gave the build up.
    #[error("cancelled")]
    Cancelled,
}

/// All that is wrong with a Dockerfile, as far as it can be told before anything is done. Shown as the user sees it; the
/// first `error: ` is left to whoever prints it.
#[derive(Debug)]
pub struct DockerfileErrors {
    /// The Dockerfile.
    pub source: Source,
    /// At least one, in order of lines.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a Dockerfile.
#[derive(Debug)]
pub enum Problem {
    /// With its text.
    Syntax(SyntaxError),
    /// With what an instruction asks for.
    Instruction(Box<Failure>),
}

/// An instruction that failed: which, and why. Shown with the lines of the Dockerfile.
#[derive(Debug)]
pub struct InstructionError {
    /// The Dockerfile.
    pub source: Source,
    /// Which, and why.
    pub failure: Failure,
}

/// Which instruction failed, and why.
#[derive(Debug)]
pub struct Failure {
    /// The instruction, or the word of it that is to blame.
    pub span: Span,
    /// Name or number of the stage; empty when there is only one.
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
    #[error("`{pattern}` is no pattern: {reason}")]
    SourcePattern { pattern: String, reason: GlobError },
    #[error("the list holds no command")]
    NoCommand,
    #[error("`COPY` takes no URL; use `ADD`")]
    CopyOfUrl,
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfMany,
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfFile,
    #[error("`{path}` is not in {}", tree(from.as_deref()))]
    SourceNotFound { path: String, from: Option<String> },
    #[error(transparent)]
    LinkToNothing(Box<LinkToNothing>),
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

/// A path through links to something that is not there.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is not in {}: the link `{link}` leads to `{target}`, which is not there", tree(from.as_deref()))]
pub struct LinkToNothing {
    /// What was asked for.
    pub path: String,
    /// The last link on the way.
    pub link: String,
    /// What it says.
    pub target: String,
    /// Where the whole path ends.
    pub end: String,
    /// The stage or image; `None` is the build context.
    pub from: Option<String>,
}

impl BuildError {
    /// The error that these problems are; there is at least one.
    pub(crate) fn of_problems(source: &Source, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::span);
        let source = source.clone();
        match <[Problem; 1]>::try_from(problems) {
            // Its causes can be looked at by the caller.
            Ok([Problem::Instruction(failure)]) => {
                BuildError::Instruction(Box::new(InstructionError { source, failure: *failure }))
            }
            Ok(problem) => {
                BuildError::Dockerfile(Box::new(DockerfileErrors { source, problems: problem.into() }))
            }
            Err(problems) => BuildError::Dockerfile(Box::new(DockerfileErrors { source, problems })),
        }
    }
}

impl From<SyntaxErrors> for BuildError {
    fn from(SyntaxErrors { source, errors }: SyntaxErrors) -> Self {
        BuildError::of_problems(&source, errors.into_iter().map(Problem::Syntax).collect())
    }
}

impl Problem {
    pub(crate) fn span(&self) -> Span {
        match self {
            Problem::Syntax(error) => error.span,
            Problem::Instruction(failure) => failure.span,
        }
    }

    fn report(&self, source: &Source) -> String {
        match self {
            Problem::Syntax(error) => error.report(source),
            Problem::Instruction(failure) => failure.report(source),
        }
    }
}

impl Failure {
    fn report(&self, source: &Source) -> String {
        let message = match self.stage.as_str() {
            "" => "cannot build the image".to_owned(),
            stage => format!("cannot build stage `{stage}`"),
        };
        Report {
            message: &message,
            place: Some((source, self.span)),
            cause: Some(&chain(&self.cause)),
            hint: self.hint.as_deref(),
        }
        .to_string()
    }
}

impl std::error::Error for DockerfileErrors {}

impl fmt::Display for DockerfileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_errors(f, self.problems.iter().map(|problem| problem.report(&self.source)))
    }
}

impl std::error::Error for InstructionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure.cause)
    }
}

impl fmt::Display for InstructionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.report(&self.source))
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
