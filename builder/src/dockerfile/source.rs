//! The text of a Dockerfile and places in it.

use std::fmt;
use std::ops::Range;

/// Half-open range of bytes in the text of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte behind the last one.
    pub end: usize,
}

/// A piece of an instruction, quotes and escapes as the grammar leaves them, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Word {
    /// What the word says; line continuations in it are gone.
    pub text: String,
    /// Where it stands in the source, from its first to its last byte.
    pub span: Span,
}

/// A text with its name, able to say on which line a byte stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How messages name it: the path as the user gave it, usually `Dockerfile`.
    pub name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// A source of this name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Source { name: name.into(), text, line_starts }
    }

    /// The whole text, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of the line, from 1, that holds byte `offset`; the last line for what lies behind the text.
    pub fn line_number(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// First and last line of `span`.
    pub fn line_range(&self, span: Span) -> (usize, usize) {
        let last = span.end.max(span.start + 1) - 1;
        (self.line_number(span.start), self.line_number(last))
    }

    /// Offset of the first byte of line `number`, from 1.
    pub(crate) fn line_start(&self, number: usize) -> usize {
        self.line_starts.get(number - 1).copied().unwrap_or(self.text.len())
    }

    /// How many lines there are; an empty one behind the last line end counts.
    pub fn line_count(&self) -> usize {
        self.line_starts.len()
    }

    /// Line `number`, from 1, without its line end; empty when there is none.
    pub fn line(&self, number: usize) -> &str {
        let (start, end) = (self.line_start(number), self.line_start(number + 1));
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }
}

impl Span {
    /// A range of bytes in it, if its text stands in the source as it is; else all of it.
    fn part(self, text: &str, range: Range<usize>) -> Span {
        if self.end - self.start != text.len() {
            return self;
        }
        Span { start: self.start + range.start, end: self.start + range.end }
    }
}

impl Word {
    /// The bytes `range` of the text as a word of their own.
    pub(super) fn part(&self, range: Range<usize>) -> Word {
        Word { text: self.text[range.clone()].to_owned(), span: self.span.part(&self.text, range) }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
