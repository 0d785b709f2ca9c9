//! What can be wrong with a Dockerfile: every message and hint stands here.

use std::fmt;

use super::expand::ExpandError;
use super::limits::{MAX_FILE_BYTES, MAX_HEREDOCS, MAX_LINE_BYTES, MAX_PORTS};
use super::report::Report;
use super::source::{Source, Span, Word};

/// All that is wrong with one file, in order of lines. Shown as the user sees it, with excerpts of the file; the first
/// `error: ` is left to whoever prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxErrors {
    /// The file.
    pub source: Source,
    /// At least one.
    pub errors: Vec<SyntaxError>,
}

/// Errors of one file that are shown.
const MAX_SHOWN: usize = 50;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct SyntaxError {
    /// The word in question, or the whole instruction.
    pub span: Span,
    /// What.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Fault {
    // The file
    #[error("the file is larger than {} MiB", MAX_FILE_BYTES >> 20)]
    FileTooLarge,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("this line is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    #[error("there are no instructions in this file")]
    NoInstructions,
    #[error("there is no `FROM` in this file")]
    NoStage,
    #[error("`{0}` stands before the first `FROM`")]
    BeforeFirstStage(String),
    #[error("directive `{0}` is given twice")]
    RepeatedDirective(String),
    #[error("`{0}` cannot be the escape character")]
    BadEscape(String),
    #[error("`{0}` is not an option of `check`")]
    CheckOption(String),

    // Instructions in general
    #[error("unknown instruction `{name}`")]
    UnknownInstruction { name: String, nearest: Option<&'static str> },
    #[error("a line continuation without anything to continue")]
    LoneContinuation,
    #[error("`{0}` needs at least one argument")]
    NoArguments(&'static str),
    #[error("`{0}` needs an argument")]
    NoArgument(&'static str),
    #[error("a JSON array can only hold strings here")]
    NotStrings,
    #[error("`{0}` needs a JSON array of strings")]
    NotJson(&'static str),

    // Flags
    #[error("unknown flag `--{flag}` of `{instruction}`")]
    UnknownFlag {
        instruction: &'static str,
        flag: String,
        known: &'static [&'static str],
        nearest: Option<&'static str>,
    },
    #[error("flag `--{0}` is given twice")]
    RepeatedFlag(String),
    #[error("flag `--{0}` needs a value")]
    FlagWithoutValue(String),
    #[error("`{value}` is not a value of `--{flag}`; expected {expected}")]
    FlagValue { flag: &'static str, value: String, expected: &'static str },

    // Heredocs
    #[error("the heredoc `{name}` does not end")]
    UnterminatedHeredoc { name: String, look_alike: Option<LookAlike> },
    #[error("more than {MAX_HEREDOCS} heredocs in one instruction")]
    TooManyHeredocs,
    #[error("a heredoc cannot be the destination of `{0}`")]
    HeredocDestination(&'static str),

    // Single instructions
    #[error("`FROM` takes an image, or an image, `AS` and a name")]
    FromArguments,
    #[error("`{0}` cannot be the name of a stage")]
    StageName(String),
    #[error("`{instruction}` needs a source and a destination")]
    NoDestination { instruction: &'static str },
    #[error("`--from` cannot hold variables, quotes or escapes")]
    FromExpansion,
    #[error("`{0}` needs a name and a value")]
    NoValue(&'static str),
    #[error("`{0}` is not `name=value`")]
    NoEquals(String),
    #[error("a name of `{0}` is empty")]
    EmptyName(&'static str),
    #[error("`ONBUILD` cannot trigger `{0}`")]
    Trigger(String),
    #[error("this is not one instruction")]
    NotOneInstruction,
    #[error("unknown kind `{0}` of `HEALTHCHECK`")]
    HealthcheckKind(String),
    #[error("`HEALTHCHECK CMD` needs a command")]
    HealthcheckCommand,
    #[error("`HEALTHCHECK NONE` takes no arguments")]
    HealthcheckNone,
    #[error("a volume cannot have an empty name")]
    EmptyVolume,
    #[error("unknown signal `{0}`")]
    Signal(String),
    #[error("`{port}` is not a port: {reason}")]
    Port { port: String, reason: &'static str },
    #[error("more than {MAX_PORTS} ports in one instruction")]
    TooManyPorts,

    // Fields of --mount and --device
    #[error("a quote in the list is misplaced")]
    ListQuote,
    #[error("the list is empty")]
    EmptyList,
    #[error("unknown key `{key}` of `--{flag}`")]
    UnknownKey { flag: &'static str, key: String, nearest: Option<&'static str> },
    #[error("`{0}` needs a value")]
    KeyWithoutValue(String),
    #[error("`{value}` is not a value of `{key}`; expected {expected}")]
    KeyValue { key: String, value: String, expected: &'static str, nearest: Option<&'static str> },
    #[error("a {kind} mount has no `{key}`")]
    KeyOfOtherMount { kind: &'static str, key: String },
    #[error("`from` of a mount cannot hold variables")]
    MountFromVariable,
    #[error("a secret mount needs an `id` or a `target`")]
    SecretWithoutId,
    #[error("a secret mount has either `id` or `source`")]
    SecretIdTwice,
    #[error("the name of the device is given twice")]
    DeviceNameTwice,

    #[error("{0}")]
    Expand(#[from] ExpandError),
}

/// A line that looks as if it were meant to end a heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookAlike {
    /// Its number.
    pub line: usize,
    /// It begins with tabs only, so that `<<-` would take it.
    pub tabs_only: bool,
}

impl Fault {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Fault::CheckOption(_) => {
                "write `skip=all`, `skip=Rule,Rule` or `error=true`, with `;` between them".into()
            }
            Fault::NotUtf8 => "save the file as UTF-8".into(),
            Fault::LineTooLong => "break it with line continuations, or put the text into a heredoc".into(),
            Fault::NoInstructions | Fault::NoStage => "begin with `FROM image` or `FROM scratch`".into(),
            Fault::BeforeFirstStage(_) => "only `ARG` and comments may come before `FROM`".into(),
            Fault::BadEscape(_) => "it is `\\` or `` ` ``".into(),
            Fault::UnknownInstruction { nearest: Some(nearest), .. }
            | Fault::KeyValue { nearest: Some(nearest), .. }
            | Fault::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Fault::UnknownInstruction { .. } => {
                "if it belongs to the line above, end that line with `\\`".into()
            }
            Fault::UnknownFlag { nearest: Some(nearest), .. } => format!("did you mean `--{nearest}`?"),
            Fault::UnknownFlag { instruction, known, .. } => match known {
                [] => format!("`{instruction}` has no flags"),
                known => format!("`{instruction}` has `--{}`", known.join("`, `--")),
            },
            Fault::NotJson(name) => format!("write `{name} [\"/bin/sh\", \"-c\"]`"),
            Fault::NotStrings => "put each element in double quotes".into(),
            Fault::UnterminatedHeredoc { name, look_alike } => match look_alike {
                None => format!("end it with a line that holds only `{name}`"),
                Some(LookAlike { line, tabs_only: true }) => {
                    format!("line {line} has tabs before `{name}`; `<<-{name}` would allow them")
                }
                Some(LookAlike { line, .. }) => format!("line {line} has white space around `{name}`"),
            },
            Fault::StageName(_) => {
                "a name begins with a letter and has letters, digits, `-`, `_` and `.` after it".into()
            }
            Fault::FromArguments => "write `FROM image` or `FROM image AS name`".into(),
            Fault::FromExpansion | Fault::MountFromVariable => {
                "give the image a name with `FROM image AS name`, where `image` may hold variables of `ARG`"
                    .into()
            }
            Fault::NoDestination { instruction } => format!("write `{instruction} source… destination`"),
            Fault::NoEquals(_) => "put values with spaces in double quotes".into(),
            Fault::NoValue(name) => format!("write `{name} name=value`"),
            Fault::Trigger(name) if name == "ONBUILD" => "one `ONBUILD` is enough".into(),
            Fault::HealthcheckKind(_) => "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`".into(),
            Fault::Port { .. } => "write `80`, `80/udp` or `8000-8010`".into(),
            Fault::Signal(_) => "write a name like `SIGTERM` or a number".into(),
            Fault::Expand(ExpandError::BadSubstitution) => {
                "write `\\${` for these characters themselves".into()
            }
            _ => return None,
        })
    }
}

impl Fault {
    /// Whether what stands behind it was not read, when it came up while lines were cut up.
    pub(super) fn ends_reading(&self) -> bool {
        matches!(
            self,
            Fault::LineTooLong
                | Fault::UnterminatedHeredoc { .. }
                | Fault::TooManyHeredocs
                | Fault::Expand(_)
        )
    }
}

impl SyntaxError {
    pub(super) fn at(word: &Word, fault: Fault) -> Self {
        SyntaxError { span: word.span, fault }
    }

    /// The error with its place in `source`, as the user sees it.
    pub fn report(&self, source: &Source) -> String {
        Report {
            message: &self.fault.to_string(),
            place: Some((source, self.span)),
            cause: None,
            hint: self.fault.hint().as_deref(),
        }
        .to_string()
    }
}

impl std::error::Error for SyntaxErrors {}

impl fmt::Display for SyntaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_errors(f, self.errors.iter().map(|error| error.report(&self.source)))
    }
}

/// Writes the errors of one file below each other.
pub(crate) fn write_errors(
    f: &mut fmt::Formatter<'_>,
    mut reports: impl ExactSizeIterator<Item = String>,
) -> fmt::Result {
    for (number, report) in reports.by_ref().take(MAX_SHOWN).enumerate() {
        let separator = if number == 0 { "" } else { "\n\nerror: " };
        write!(f, "{separator}{report}")?;
    }
    match reports.len() {
        0 => Ok(()),
        more => write!(f, "\n\nerror: {more} more in this file"),
    }
}
