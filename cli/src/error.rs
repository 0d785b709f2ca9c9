//! Errors that are docker's texts, and the exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the command could not do what it was asked; the message says why |
//! | 64 | the template of `--format` of `inspect`, `version` or `info` does not parse |
//! | 125 | wrong flags, or `run` failed before the container's command was started |
//! | 126, 127 | the container's command cannot be executed, or was not found |
//! | 128+n | the container's command was ended by signal n |
//! | 130 | interrupted by Ctrl-C |
//!
//! `run` passes the exit code of the container's command through. These are docker's codes, since scripts rely on them.

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong flags; for `run` also every failure of its own.
pub(crate) const USAGE: u8 = 125;

/// The template of a document does not parse.
pub(crate) const WRONG_TEMPLATE: u8 = 64;

/// An error whose text is printed as it is, because docker defines it, perhaps with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Verbatim {
    /// Everything to print.
    pub(crate) text: String,
    /// The exit code, when it is not the verb's usual one.
    pub(crate) code: Option<u8>,
}

/// A text of docker's, with the verb's usual exit code.
pub(crate) fn verbatim(text: impl Into<String>) -> anyhow::Error {
    Verbatim { text: text.into(), code: None }.into()
}

/// A text of docker's with an exit code.
pub(crate) fn verbatim_with_code(text: impl Into<String>, code: u8) -> anyhow::Error {
    Verbatim { text: text.into(), code: Some(code) }.into()
}

/// What the system said, in the words that Go has for it and docker's users know: `no such file or directory`.
pub(crate) fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// An error with its causes in one line, as docker prints it.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let words = |error: &(dyn std::error::Error + 'static)| match error.downcast_ref() {
        Some(error) => system_words(error),
        None => error.to_string(),
    };
    std::iter::successors(Some(error), |error| error.source()).map(words).collect::<Vec<_>>().join(": ")
}
