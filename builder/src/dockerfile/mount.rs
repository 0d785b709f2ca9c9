//! `RUN --mount=`: a list of `key=value` fields and the mount it describes.
//!
//! Values are expanded when the step runs, so the kind of a mount may be known only then: [`MountFlag`] is what the
//! parser keeps, [`Mount`] what the builder gets from it.
//!
//! Reference: <https://docs.docker.com/reference/dockerfile/#run---mount>

use super::source::{Span, Word};

/// `--mount=` before expansion. Its keys are known ones; so are its values if none of them holds a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// In order.
    pub fields: Vec<Field>,
    /// The flag's value.
    pub span: Span,
}

/// One `key[=value]` of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// In lower case.
    pub key: Word,
    /// Unexpanded; `None` without `=`.
    pub value: Option<Word>,
}

/// What a step wants to see at a path. Paths are as they were written; an empty `source` is the root of `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Files of the build context, a stage or an image. What is written there is thrown away.
    Bind {
        /// Stage, image or named context; `None`: the build context.
        from: Option<String>,
        /// Path inside `from`.
        source: String,
        /// Relative to the working directory.
        target: String,
        /// True by default.
        read_only: bool,
    },
    /// A folder that outlives the build.
    Cache {
        /// `id=`; `None`: the target.
        id: Option<String>,
        /// What a new cache begins as; `None`: empty.
        from: Option<String>,
        /// Path inside `from`.
        source: String,
        /// Relative to the working directory.
        target: String,
        /// False by default.
        read_only: bool,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Owner and mode of a new, empty cache.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Relative to the working directory.
        target: String,
        /// `None`: the kernel's limit.
        size_bytes: Option<u64>,
        /// False by default.
        read_only: bool,
    },
    /// A secret as a file, an environment variable or both.
    Secret {
        /// Which secret.
        id: String,
        /// Path of the file; `None`: only `env`.
        target: Option<String>,
        /// Name of the variable.
        env: Option<String>,
        /// Fail when the secret was not given.
        required: bool,
        /// Of the file; mode 0400 by default.
        access: Access,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Which agent; `default` when not given.
        id: String,
        /// Path of the socket; `None`: `/run/buildkit/ssh_agent.N`.
        target: Option<String>,
        /// Fail when no agent was given.
        required: bool,
        /// Of the socket; mode 0600 by default.
        access: Access,
    },
}

/// Owner and mode of what a mount creates; `None` where nothing was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Several writers at once.
    #[default]
    Shared,
    /// A second writer gets another folder.
    Private,
    /// A second writer waits.
    Locked,
}
