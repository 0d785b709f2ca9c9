//! What can be wrong with a Dockerfile, and how it is shown.

use super::source::Span;

/// Something legal and doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub span: Span,
    /// What.
    pub rule: Rule,
}

/// A rule of the linter, by BuildKit's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// An empty line inside a continued instruction.
    NoEmptyContinuation,
    /// Two stages of one name; the later one counts.
    DuplicateStageName(String),
    /// A stage called `scratch` or `context`.
    ReservedStageName(String),
}
