//! What a `RUN` with heredocs runs.

use super::instruction::{CommandLine, Instruction, Kind, Run};
use super::parse::files::strip_tabs;
use super::source::Span;
use super::statement::heredoc;

/// The command of a `RUN`, heredocs put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What to run; the shell form goes behind the shell in force.
    pub command: CommandLine,
    /// A file that must be there meanwhile, read-only and with mode 0755.
    pub file: Option<ScriptFile>,
}

/// A script with a `#!` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFile {
    /// Path in the container: `/dev/pipes/NAME`.
    pub path: String,
    /// Content.
    pub content: String,
}

impl Run {
    /// Puts the heredocs in. A lone `RUN <<EOF` is a script: a file when it begins with `#!`, else a text for the
    /// shell. All others are left to the shell with their bodies.
    pub fn script(&self) -> Script {
        let (CommandLine::Shell(text), Some(first)) = (&self.command, self.heredocs.first()) else {
            return Script { command: self.command.clone(), file: None };
        };
        if !is_heredoc(text) {
            let bodies = self.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            let command = CommandLine::Shell(text.clone() + &bodies.collect::<String>());
            return Script { command, file: None };
        }
        let content = if first.strip_tabs { strip_tabs(&first.content) } else { first.content.clone() };
        if !content.starts_with("#!") {
            return Script { command: CommandLine::Shell(content), file: None };
        }
        let path = format!("/dev/pipes/{}", first.name);
        Script { command: CommandLine::Shell(path.clone()), file: Some(ScriptFile { path, content }) }
    }
}

/// Whether a heredoc is all of the command.
fn is_heredoc(command: &str) -> bool {
    matches!(heredoc(command, Span::default()), Ok(Some(_)))
}

impl Instruction {
    /// What progress shows: the text, for a script with its first line behind it.
    pub fn title(&self) -> String {
        let Kind::Run(Run { command: CommandLine::Shell(command), heredocs, .. }) = &self.kind else {
            return self.text.clone();
        };
        match heredocs.first().filter(|_| is_heredoc(command)) {
            None => self.text.clone(),
            Some(script) => {
                let mut lines = script.content.trim().lines();
                let (first, more) = (lines.next().unwrap_or_default(), lines.next().map_or("", |_| "..."));
                format!("{} ({first}{more})", self.text)
            }
        }
    }
}
