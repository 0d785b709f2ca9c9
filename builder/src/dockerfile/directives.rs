//! Parser directives: comments like `# escape=` that stand above everything else.

use super::error::{Fault, SyntaxError};
use super::instruction::Directives;
use super::lint::Checks;
use super::source::{Source, Span, Word};

/// Reads the directives; gives them, what is wrong with them, and the number of the line behind them.
///
/// The first line that is no directive, even an empty one, ends them: below it `# escape=` is a comment.
pub(super) fn read(source: &Source) -> (Directives, Vec<SyntaxError>, usize) {
    let mut directives = Directives { syntax: None, escape: '\\', checks: Checks::default() };
    let (mut seen, mut errors) = (Vec::new(), Vec::new());
    let mut number = 1;
    while let Some((name, value)) = directive(source, number) {
        number += 1;
        let key = name.text.to_ascii_lowercase();
        if seen.contains(&key) {
            errors.push(SyntaxError { span: name.span, fault: Fault::RepeatedDirective(key) });
            continue;
        }
        match key.as_str() {
            "syntax" => directives.syntax = Some(value),
            "check" => match Checks::parse(&value.text) {
                Ok(checks) => directives.checks = checks,
                Err(option) => {
                    errors.push(SyntaxError { span: value.span, fault: Fault::CheckOption(option) });
                }
            },
            _ => match value.text.as_str() {
                "\\" => directives.escape = '\\',
                "`" => directives.escape = '`',
                _ => errors.push(SyntaxError { span: value.span, fault: Fault::BadEscape(value.text) }),
            },
        }
        seen.push(key);
    }
    (directives, errors, number)
}

/// `# name = value` on line `number`, if the name is known.
fn directive(source: &Source, number: usize) -> Option<(Word, Word)> {
    let line = source.line(number);
    let start = source.line_start(number);
    let word = |text: &str, at: usize| Word {
        text: text.to_owned(),
        span: Span { start: start + at, end: start + at + text.len() },
    };
    let body = line.trim_start().strip_prefix('#')?.trim_start();
    let (name, value) = body.split_once('=')?;
    let (name, value) = (name.trim_ascii_end(), value.trim());
    let known = ["syntax", "escape", "check"].iter().any(|known| name.eq_ignore_ascii_case(known));
    if !known || value.is_empty() {
        return None;
    }
    let name_at = line.len() - body.len();
    let value_at = line.trim_end().len() - value.len();
    Some((word(name, name_at), word(value, value_at)))
}
