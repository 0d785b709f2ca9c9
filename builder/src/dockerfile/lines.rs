//! Physical lines → logical lines.
//!
//! A logical line is one instruction: lines that end in the escape character are joined, comments and empty lines
//! among them are dropped. Each byte of it knows where it came from. Bodies of heredocs are read by whoever has
//! understood the logical line before them.

use std::ops::Range;

use super::error::{Fault, SyntaxError};
use super::limits::MAX_LINE_BYTES;
use super::source::{Source, Span, Word};

/// One instruction, continuations joined.
#[derive(Debug, Default)]
pub(super) struct LogicalLine {
    pub(super) text: String,
    /// Where in `text` each physical line begins, and where that is in the source.
    pieces: Vec<(usize, usize)>,
    /// Comments above it.
    pub(super) comments: Vec<Word>,
    /// Whether empty lines stand in it.
    pub(super) has_empty_lines: bool,
}

impl LogicalLine {
    fn push(&mut self, text: &str, offset: usize) {
        self.pieces.push((self.text.len(), offset));
        self.text.push_str(text);
    }

    /// Place in the source of a range of `text`.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let start = self.offset(range.start);
        let end = if range.is_empty() { start } else { self.offset(range.end - 1) + 1 };
        Span { start, end }
    }

    fn offset(&self, at: usize) -> usize {
        let next = self.pieces.partition_point(|(begin, _)| *begin <= at);
        let (begin, offset) = self.pieces[next.saturating_sub(1)];
        offset + (at - begin)
    }
}

/// Reads logical lines and heredoc bodies.
pub(super) struct Lines<'s> {
    source: &'s Source,
    escape: char,
    next: usize,
}

/// A physical line without its end.
#[derive(Clone, Copy)]
struct Line<'s> {
    text: &'s str,
    start: usize,
}

impl<'s> Lines<'s> {
    /// Reads from line `first` (from 1).
    pub(super) fn new(source: &'s Source, first: usize, escape: char) -> Self {
        Lines { source, escape, next: first }
    }

    /// The next instruction, `None` at the end of the file.
    pub(super) fn logical_line(&mut self) -> Result<Option<LogicalLine>, SyntaxError> {
        let mut logical = LogicalLine::default();
        while let Some(line) = self.physical_line()? {
            if let Some(comment) = comment(line) {
                if comment.text.is_empty() {
                    logical.comments.clear()
                } else {
                    logical.comments.push(comment)
                }
                continue;
            }
            let text = line.text.trim_start();
            if text.is_empty() {
                continue;
            }
            let start = line.start + line.text.len() - text.len();
            let (text, mut continues) = self.split_continuation(text);
            logical.push(text, start);
            while continues && let Some(line) = self.physical_line()? {
                continues = self.push_continuation(&mut logical, line);
            }
            return Ok(Some(logical));
        }
        Ok(None)
    }

    /// Whether another line follows.
    fn push_continuation(&self, logical: &mut LogicalLine, line: Line<'_>) -> bool {
        if comment(line).is_some() {
            return true;
        }
        if line.text.trim_start().is_empty() {
            logical.has_empty_lines = true;
            return true;
        }
        let (text, continues) = self.split_continuation(line.text);
        logical.push(text, line.start);
        continues
    }

    /// Takes the escape off the end. Before it stands anything but another escape.
    fn split_continuation<'t>(&self, text: &'t str) -> (&'t str, bool) {
        match text.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, true),
            _ => (text, false),
        }
    }

    /// Lines up to the one that is `name`, with their ends; `None` and nothing read when there is none.
    pub(super) fn heredoc_body(
        &mut self,
        name: &str,
        strip_tabs: bool,
    ) -> Result<Option<String>, SyntaxError> {
        let (first, mut body) = (self.next, String::new());
        while let Some(line) = self.physical_line()? {
            let end = if strip_tabs { line.text.trim_start_matches('\t') } else { line.text };
            if end == name {
                return Ok(Some(body));
            }
            body.push_str(&self.source.text()[line.start..self.source.line_start(self.next)]);
        }
        self.next = first;
        Ok(None)
    }

    /// Where the last line that was read ends, its line end left out.
    pub(super) fn end(&self) -> usize {
        let last = self.next.saturating_sub(1).max(1);
        self.source.line_start(last) + self.source.line(last).len()
    }

    /// Line number (from 1) and text of lines not read yet.
    pub(super) fn remaining(&self) -> impl Iterator<Item = (usize, &'s str)> {
        (self.next..=self.source.line_count()).map(|number| (number, self.source.line(number)))
    }

    fn physical_line(&mut self) -> Result<Option<Line<'s>>, SyntaxError> {
        let start = self.source.line_start(self.next);
        if start >= self.source.text().len() {
            return Ok(None);
        }
        let end = self.source.line_start(self.next + 1);
        if self.source.text()[start..end].trim_end_matches('\n').len() > MAX_LINE_BYTES {
            return Err(SyntaxError { span: Span { start, end }, fault: Fault::LineTooLong });
        }
        let text = self.source.line(self.next);
        self.next += 1;
        Ok(Some(Line { text, start }))
    }
}

/// What a comment line says, without `#` and outer white space.
fn comment(line: Line<'_>) -> Option<Word> {
    let body = line.text.trim_start().strip_prefix('#')?;
    let text = body.trim();
    let start = line.start + line.text.len() - body.trim_start().len();
    Some(Word { text: text.to_owned(), span: Span { start, end: start + text.len() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let source = Source::new("Dockerfile", text);
        let mut lines = Lines::new(&source, 1, '\\');
        std::iter::from_fn(|| lines.logical_line().unwrap()).map(|line| line.text).collect()
    }

    #[test]
    fn continuations_are_joined_without_comments_and_empty_lines() {
        assert_eq!(lines("RUN a \\\n  # why\n\n  b \\  \nc\nRUN d"), ["RUN a   b c", "RUN d"]);
        assert_eq!(lines("RUN a \\\\\r\nRUN b\\\r\nc\r\n"), ["RUN a \\\\", "RUN bc"]);
        assert_eq!(lines("RUN a \\"), ["RUN a "]);
    }

    #[test]
    fn spans_lead_through_continuations() {
        let source = Source::new("Dockerfile", "# x\n  RUN one \\\n   two\n");
        let line = Lines::new(&source, 1, '\\').logical_line().unwrap().unwrap();
        let at = line.text.find("two").unwrap();
        let span = line.span(at..at + 3);
        assert_eq!(&source.text()[span.start..span.end], "two");
        assert_eq!(line.comments[0].text, "x");
    }

    #[test]
    fn a_heredoc_without_end_reads_nothing() {
        let source = Source::new("Dockerfile", "a\n\tEND\n");
        let mut lines = Lines::new(&source, 1, '\\');
        assert_eq!(lines.heredoc_body("END", false).unwrap(), None);
        assert_eq!(lines.heredoc_body("END", true).unwrap().as_deref(), Some("a\n"));
    }

    #[test]
    fn long_lines_are_refused() {
        let source = Source::new("Dockerfile", "x".repeat(MAX_LINE_BYTES + 1));
        assert_eq!(Lines::new(&source, 1, '\\').logical_line().unwrap_err().fault, Fault::LineTooLong);
    }
}
