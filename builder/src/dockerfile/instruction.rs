//! What a Dockerfile says, in types: stages, instructions and their flags.
//!
//! A [`Word`] holds text before expansion; [`Expander::kind`](super::Expander::kind) gives the same instruction with its
//! words expanded. What a flag may not say, or which instruction may stand where, is settled here: whoever holds one
//! of these values need not check it again. Names of stages that do not exist, cycles and paths are left to the builder.

use std::time::Duration;

use super::lint::{Checks, Warning};
use super::mount::MountFlag;
use super::source::{Source, Span, Word};

/// A Dockerfile without errors.
///
/// Reference: <https://docs.docker.com/reference/dockerfile/>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Where all spans point to.
    pub source: Source,
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`, in order.
    pub global_args: Vec<Arg>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What is legal and doubtful in the text, in order of lines, without what is skipped.
    pub warnings: Vec<Warning>,
}

/// Comments at the top that steer the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// Frontend image, ignored: this is the only frontend here.
    pub syntax: Option<Word>,
    /// `` ` `` or `\`.
    pub escape: char,
    /// Settings of the lint rules, e.g. `check=skip=JSONArgsRecommended;error=true`.
    pub checks: Checks,
}

/// `FROM` and the instructions below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `FROM` as it was typed.
    pub keyword: Word,
    /// `--platform=`, unexpanded.
    pub platform: Option<Word>,
    /// Image, earlier stage, named context or `scratch`; unexpanded.
    pub base: Word,
    /// `AS name`.
    pub alias: Option<Alias>,
    /// The whole `FROM` instruction.
    pub span: Span,
    /// The `FROM` instruction as one line.
    pub text: String,
    /// Comments directly above, without `#`.
    pub comments: Vec<Word>,
    /// In order; none of them is a `FROM`.
    pub instructions: Vec<Instruction>,
}

/// `AS name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// `AS` as it was typed.
    pub keyword: Word,
    /// The name as it was typed.
    pub typed: Word,
    /// The name in lower case: `[a-z][a-z0-9-_.]*`.
    pub name: String,
}

impl Stage {
    /// Name in lower case.
    pub fn name(&self) -> Option<&str> {
        self.alias.as_ref().map(|alias| alias.name.as_str())
    }
}

/// One instruction other than `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// `RUN`, `run` …, as it was typed.
    pub keyword: Word,
    /// All of it with its heredocs, without the last line end.
    pub span: Span,
    /// As one line: continuations joined, outer white space and heredoc bodies left out. What progress shows.
    pub text: String,
    /// Comments directly above, without `#`.
    pub comments: Vec<Word>,
    /// What it does.
    pub kind: Kind,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the instruction of its name")]
pub enum Kind {
    Add(Add),
    Arg(Vec<Arg>),
    Cmd(CommandLine),
    Copy(Copy),
    Entrypoint(CommandLine),
    Env(Vec<Pair>),
    Expose(Vec<Word>),
    Healthcheck(Healthcheck),
    Label(Vec<Pair>),
    Maintainer(Word),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `ARG name[=value]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Not empty.
    pub name: Word,
    /// The default; `None` without `=`.
    pub value: Option<Word>,
    /// From a comment `# name what it is for` directly above.
    pub description: Option<String>,
}

/// One `key=value` of `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Not empty before expansion.
    pub key: Word,
    /// Quotes and escapes are still there before expansion.
    pub value: Word,
    /// Written the old way, `ENV key value`.
    pub legacy: bool,
}

/// The operand of `RUN`, `CMD`, `ENTRYPOINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A JSON array: these arguments, as they are.
    Exec(Vec<String>),
    /// One text for the shell in force.
    Shell(String),
}

/// What `ADD` and `COPY` have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Paths, patterns and (for `ADD`) URLs; unexpanded. With `documents`, never empty.
    pub sources: Vec<Word>,
    /// Files whose content stands in the Dockerfile; they come after `sources`.
    pub documents: Vec<Document>,
    /// Where they go; unexpanded.
    pub destination: Word,
    /// `--chown=user[:group]`, unexpanded.
    pub chown: Option<Word>,
    /// `--chmod=`, octal or symbolic, unexpanded.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// Each `--exclude=pattern`; never expanded.
    pub exclude: Vec<Word>,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Sources, destination, owner, mode.
    pub transfer: Transfer,
    /// `--from=`: stage (name or number), image or named context; never expanded.
    pub from: Option<Word>,
    /// `--parents`.
    pub parents: bool,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// Sources, destination, owner, mode.
    pub transfer: Transfer,
    /// `--checksum=`, unexpanded.
    pub checksum: Option<Word>,
    /// `--keep-git-dir[=bool]`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack[=bool]`; by default local archives are unpacked and downloads are not.
    pub unpack: Option<bool>,
}

/// A heredoc as a source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// File name: the word behind `<<`.
    pub name: String,
    /// Content; leading tabs of each line are already gone for `<<-`.
    pub content: String,
    /// Whether variables in `content` are expanded: the word was not quoted.
    pub expand: bool,
    /// The word.
    pub span: Span,
}

/// A heredoc of `RUN`, for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word behind `<<` without quotes, which also ends the body.
    pub name: String,
    /// The body as it was written, tabs included.
    pub content: String,
    /// Whether the word was unquoted.
    pub expand: bool,
    /// `<<-`: leading tabs do not count.
    pub strip_tabs: bool,
    /// The number before `<<`, 0 when there is none.
    pub descriptor: u32,
    /// The line that announces it.
    pub span: Span,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command as it was written; [`Run::script`] puts the heredocs in.
    pub command: CommandLine,
    /// In order; empty for the exec form.
    pub heredocs: Vec<Heredoc>,
    /// Each `--mount=`.
    pub mounts: Vec<MountFlag>,
    /// `--network=`.
    pub network: Network,
    /// `--security=`.
    pub security: Security,
    /// Each `--device=`.
    pub devices: Vec<Device>,
}

/// `--network=` of `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// What the build was told; usually its own namespace with a way out.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `--security=` of `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Security {
    /// Default capabilities and seccomp.
    #[default]
    Sandbox,
    /// All capabilities; needs the user's consent.
    Insecure,
}

/// `--device=` of `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// CDI name, class or device node.
    pub name: String,
    /// Fail without it.
    pub required: bool,
    /// The flag's value.
    pub span: Span,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: the base's check is switched off.
    None,
    /// `CMD`.
    Check {
        /// Exec form `CMD`, shell form `CMD-SHELL`.
        command: CommandLine,
        /// `--interval`; zero when not given.
        interval: Duration,
        /// `--timeout`; zero when not given.
        timeout: Duration,
        /// `--start-period`; zero when not given.
        start_period: Duration,
        /// `--start-interval`; zero when not given.
        start_interval: Duration,
        /// `--retries`; zero when not given.
        retries: u32,
    },
}

/// `ONBUILD`: an instruction for whoever builds upon the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction with its heredocs, as it goes into the image's config.
    pub expression: String,
    /// Its name as typed.
    pub trigger: Word,
}
