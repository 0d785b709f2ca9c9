//! Logical lines → statements: keyword, flags and operands, split as each instruction wants it.
//!
//! This layer knows how a line is cut up and nothing about what the pieces mean: unknown instructions and flags pass.

use std::ops::Range;

use super::error::{Fault, LookAlike, SyntaxError};
use super::expand::{Expander, Quotes, Syntax};
use super::instruction::{Heredoc, Pair};
use super::json::{self, Array};
use super::limits::MAX_HEREDOCS;
use super::lines::{Lines, LogicalLine};
use super::source::{Source, Span, Word};

/// One instruction, cut up.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) keyword: Word,
    /// `--name=value`, quotes and escapes resolved.
    pub(super) flags: Vec<Word>,
    pub(super) operands: Operands,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) text: String,
    pub(super) span: Span,
    pub(super) comments: Vec<Word>,
    /// The end of the line, without heredocs, when empty lines stand in it.
    pub(super) empty_line_before: Option<Span>,
}

/// What stands behind keyword and flags.
#[derive(Debug)]
pub(super) enum Operands {
    /// Words, or all of the text as one word.
    Words(Vec<Word>),
    /// Elements of a JSON array, behind `CMD` in a `HEALTHCHECK`.
    Json(Vec<Word>),
    /// `name=value`.
    Pairs(Vec<Pair>),
    /// The instruction behind `ONBUILD`.
    Nested(Box<Statement>),
}

/// How the operands of an instruction are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Words between white space.
    Words,
    /// Words in which quotes and escapes protect white space.
    QuotedWords,
    /// One text.
    Text,
    /// A JSON array, else one text.
    JsonOrText,
    /// A JSON array, else words.
    JsonOrWords,
    /// `name=value …`, or `name value` the old way.
    Pairs(&'static str),
    /// A kind, then a JSON array or a text.
    Health,
    /// Another instruction.
    Nested,
    /// Not known, so left out.
    Unknown,
}

fn form(keyword: &str) -> Form {
    match keyword.to_ascii_uppercase().as_str() {
        "ADD" | "COPY" | "VOLUME" => Form::JsonOrWords,
        "ARG" => Form::QuotedWords,
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => Form::JsonOrText,
        "ENV" => Form::Pairs("ENV"),
        "LABEL" => Form::Pairs("LABEL"),
        "EXPOSE" | "FROM" => Form::Words,
        "HEALTHCHECK" => Form::Health,
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => Form::Text,
        "ONBUILD" => Form::Nested,
        _ => Form::Unknown,
    }
}

/// Reads the statements of a file, and goes on behind those that are wrong.
pub(super) fn read(
    source: &Source,
    mut lines: Lines<'_>,
    escape: char,
) -> (Vec<Statement>, Vec<SyntaxError>) {
    let (mut statements, mut errors) = (Vec::new(), Vec::new());
    loop {
        let line = match lines.logical_line() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                errors.push(error);
                break;
            }
        };
        match statement(line, escape) {
            Ok(mut statement) => {
                let bodies = read_heredocs(&mut statement, &mut lines);
                statement.span.end = lines.end().max(statement.span.start);
                statements.push(statement);
                if let Err(error) = bodies {
                    errors.push(error);
                    break;
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if statements.is_empty() && errors.is_empty() {
        let end = source.text().len();
        errors.push(SyntaxError { span: Span { start: end, end }, fault: Fault::NoInstructions });
    }
    (statements, errors)
}

/// One logical line without bodies of heredocs.
fn statement(mut line: LogicalLine, escape: char) -> Result<Statement, SyntaxError> {
    let comments = std::mem::take(&mut line.comments);
    let mut statement = Cutter { line: &line, escape }.statement(0..line.text.len())?;
    statement.comments = comments;
    let end = statement.span.end;
    statement.empty_line_before = line.has_empty_lines.then_some(Span { start: end.saturating_sub(1), end });
    Ok(statement)
}

/// Cuts one logical line. Ranges are bytes of its text.
struct Cutter<'l> {
    line: &'l LogicalLine,
    escape: char,
}

impl<'l> Cutter<'l> {
    fn str(&self, range: &Range<usize>) -> &'l str {
        &self.line.text[range.clone()]
    }

    fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.str(&range).to_owned(), span: self.line.span(range) }
    }

    /// `range` without white space at its ends.
    fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = self.str(&range);
        let start = range.start + text.len() - text.trim_start().len();
        start..start + text.trim().len()
    }

    fn statement(&self, range: Range<usize>) -> Result<Statement, SyntaxError> {
        let whole = self.trim(range);
        let (keyword, rest) = self.split_once(whole.clone());
        let (flags, rest) = self.flags(rest.unwrap_or(whole.end..whole.end));
        let keyword = self.word(keyword);
        let operands = self.operands(&keyword.text, self.trim(rest))?;
        Ok(Statement {
            keyword,
            flags,
            operands,
            heredocs: Vec::new(),
            text: self.str(&whole).to_owned(),
            span: self.line.span(whole),
            comments: Vec::new(),
            empty_line_before: None,
        })
    }

    /// What stands before and behind the first blanks.
    fn split_once(&self, range: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
        let text = self.str(&range);
        let Some(blank) = text.find(is_blank) else { return (range, None) };
        let behind = text[blank..].trim_start_matches(is_blank);
        (range.start..range.start + blank, Some(range.end - behind.len()..range.end))
    }

    /// Leading words that begin with `--`; a lone `--` ends them. Gives what is left too.
    fn flags(&self, range: Range<usize>) -> (Vec<Word>, Range<usize>) {
        let mut flags = Vec::new();
        let mut rest = self.skip_space(range);
        while self.str(&rest).starts_with("--") {
            let (text, end) = self.flag(rest.clone());
            let flag = rest.start..end;
            rest = end..rest.end;
            if text == "--" {
                break;
            }
            flags.push(Word { text, span: self.line.span(flag) });
            rest = self.skip_space(rest);
        }
        (flags, rest)
    }

    fn skip_space(&self, range: Range<usize>) -> Range<usize> {
        let text = self.str(&range);
        range.end - text.trim_start().len()..range.end
    }

    /// One flag: its text without quotes and escapes, and where it ends.
    fn flag(&self, range: Range<usize>) -> (String, usize) {
        let (mut text, mut quote) = (String::new(), None);
        let mut chars = self.str(&range).char_indices();
        while let Some((at, ch)) = chars.next() {
            match quote {
                None if ch.is_whitespace() => return (text, range.start + at),
                None if matches!(ch, '\'' | '"') => quote = Some(ch),
                Some(open) if ch == open => quote = None,
                _ if ch == self.escape => text.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => text.push(ch),
            }
        }
        (text, range.end)
    }

    fn operands(&self, keyword: &str, range: Range<usize>) -> Result<Operands, SyntaxError> {
        match form(keyword) {
            Form::Words => Ok(Operands::Words(self.words(range))),
            Form::QuotedWords => Ok(Operands::Words(self.quoted_words(range))),
            Form::Text => Ok(Operands::Words(self.text(range))),
            Form::JsonOrText => self.json_or(range, Self::text),
            Form::JsonOrWords => self.json_or(range, Self::words),
            Form::Pairs(name) => self.pairs(name, range).map(Operands::Pairs),
            Form::Health => self.health(range),
            Form::Nested if range.is_empty() => Ok(Operands::Words(Vec::new())),
            Form::Nested => self.nested(range),
            Form::Unknown => Ok(Operands::Words(Vec::new())),
        }
    }

    fn text(&self, range: Range<usize>) -> Vec<Word> {
        if range.is_empty() { Vec::new() } else { vec![self.word(range)] }
    }

    fn words(&self, range: Range<usize>) -> Vec<Word> {
        let mut words = Vec::new();
        let mut rest = Some(range).filter(|range| !range.is_empty());
        while let Some(range) = rest {
            let (word, behind) = self.split_once(range);
            words.push(self.word(word));
            rest = behind;
        }
        words
    }

    /// Words with their quotes and escapes.
    fn quoted_words(&self, range: Range<usize>) -> Vec<Word> {
        let mut words = Vec::new();
        let mut rest = self.skip_space(range);
        while !rest.is_empty() {
            let (text, end) = self.quoted_word(rest.clone());
            if !text.is_empty() {
                words.push(Word { text, span: self.line.span(rest.start..end) });
            }
            rest = self.skip_space(end..rest.end);
        }
        words
    }

    /// One word: its text, in which only an escape at the very end is left out, and where it ends.
    fn quoted_word(&self, range: Range<usize>) -> (String, usize) {
        let (mut text, mut quote) = (String::new(), None);
        let mut chars = self.str(&range).char_indices();
        while let Some((at, ch)) = chars.next() {
            if quote.is_none() && ch.is_whitespace() {
                return (text, range.start + at);
            }
            if ch == self.escape && quote != Some('\'') {
                if let Some((_, escaped)) = chars.next() {
                    text.extend([ch, escaped]);
                }
                continue;
            }
            match quote {
                None if matches!(ch, '\'' | '"') => quote = Some(ch),
                Some(open) if ch == open => quote = None,
                _ => {}
            }
            text.push(ch);
        }
        (text, range.end)
    }

    fn json_or(
        &self,
        range: Range<usize>,
        otherwise: fn(&Self, Range<usize>) -> Vec<Word>,
    ) -> Result<Operands, SyntaxError> {
        match json::array(self.str(&range)) {
            Array::No => Ok(Operands::Words(otherwise(self, range))),
            Array::NotStrings => Err(SyntaxError { span: self.line.span(range), fault: Fault::NotStrings }),
            Array::Strings(strings) => {
                let place = |at: Range<usize>| self.line.span(range.start + at.start..range.start + at.end);
                let word = |(text, at)| Word { text, span: place(at) };
                Ok(Operands::Json(strings.into_iter().map(word).collect()))
            }
        }
    }

    fn pairs(&self, name: &'static str, range: Range<usize>) -> Result<Vec<Pair>, SyntaxError> {
        let words = self.quoted_words(range.clone());
        let Some(first) = words.first() else { return Ok(Vec::new()) };
        if !first.text.contains('=') {
            let (key, value) = self.split_once(range);
            let key = self.word(key);
            return match value {
                Some(value) => Ok(vec![Pair { key, value: self.word(value), legacy: true }]),
                None => Err(SyntaxError::at(&key, Fault::NoValue(name))),
            };
        }
        let pair = |word: &Word| match word.text.find('=') {
            Some(at) => {
                Ok(Pair { key: word.part(0..at), value: word.part(at + 1..word.text.len()), legacy: false })
            }
            None => Err(SyntaxError::at(word, Fault::NoEquals(word.text.clone()))),
        };
        words.iter().map(pair).collect()
    }

    /// The kind comes first in the list; [`Operands::Json`] says that what follows was an array.
    fn health(&self, range: Range<usize>) -> Result<Operands, SyntaxError> {
        if range.is_empty() {
            return Ok(Operands::Words(Vec::new()));
        }
        let text = self.str(&range);
        let end = range.start + text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = self.word(range.start..end);
        let mut operands = self.json_or(self.skip_space(end..range.end), Self::text)?;
        if let Operands::Words(words) | Operands::Json(words) = &mut operands {
            words.insert(0, kind);
        }
        Ok(operands)
    }

    fn nested(&self, range: Range<usize>) -> Result<Operands, SyntaxError> {
        let (keyword, _) = self.split_once(range.clone());
        if self.str(&keyword).eq_ignore_ascii_case("ONBUILD") {
            return Err(SyntaxError::at(&self.word(keyword), Fault::Trigger("ONBUILD".to_owned())));
        }
        let mut nested = self.statement(range.clone())?;
        // It goes into the image's config with the white space at its end.
        nested.text = self.line.text[range.start..].to_owned();
        Ok(Operands::Nested(Box::new(nested)))
    }
}

/// What separates words. Other white space of Unicode does not.
fn is_blank(ch: char) -> bool {
    matches!(ch, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Reads the bodies of the heredocs that a statement announces.
fn read_heredocs(statement: &mut Statement, lines: &mut Lines<'_>) -> Result<(), SyntaxError> {
    let taken = match &statement.operands {
        // Whether a trigger is known is only asked when it is used, so there is no guessing.
        Operands::Nested(nested) => takes_heredocs(nested).filter(|known| *known),
        _ => takes_heredocs(statement),
    };
    if !taken.is_some_and(|_| statement.text.contains("<<")) {
        return Ok(());
    }
    for mut heredoc in heredocs_of(&statement.text, statement.span)? {
        if statement.heredocs.len() == MAX_HEREDOCS {
            return Err(SyntaxError { span: statement.span, fault: Fault::TooManyHeredocs });
        }
        match lines.heredoc_body(&heredoc.name, heredoc.strip_tabs)? {
            Some(body) => heredoc.content = body,
            // The instruction is not known and will be refused: its `<<` need not be a heredoc.
            None if taken == Some(false) => return Ok(()),
            None => {
                let fault = Fault::UnterminatedHeredoc {
                    look_alike: look_alike(lines, &heredoc.name),
                    name: heredoc.name,
                };
                return Err(SyntaxError { span: statement.span, fault });
            }
        }
        statement.heredocs.push(heredoc);
    }
    Ok(())
}

/// Whether bodies may follow; `Some(false)`: the instruction is unknown, so it is a guess.
fn takes_heredocs(statement: &Statement) -> Option<bool> {
    let known = ["ADD", "COPY", "RUN"].iter().any(|name| statement.keyword.text.eq_ignore_ascii_case(name));
    match (&statement.operands, known) {
        (Operands::Words(_), true) => Some(true),
        _ if form(&statement.keyword.text) == Form::Unknown => Some(false),
        _ => None,
    }
}

fn look_alike(lines: &Lines<'_>, name: &str) -> Option<LookAlike> {
    let (line, text) = lines.remaining().find(|(_, text)| text.trim() == name.trim())?;
    Some(LookAlike { line, tabs_only: text.trim_start_matches('\t') == name })
}

/// The heredocs that the words of an instruction announce, bodies still empty.
fn heredocs_of(text: &str, span: Span) -> Result<Vec<Heredoc>, SyntaxError> {
    let syntax = Syntax { escape: '\\', quotes: Quotes::Keep, keep_escapes: true, keep_unset: true };
    let no_variables = |_: &str| None;
    let words = Expander::with_syntax(syntax, &no_variables).list(text).unwrap_or_default();
    let heredocs = words.iter().map(|word| heredoc(word, span));
    heredocs
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()
        .map_err(|fault| SyntaxError { span, fault })
}

/// What `word` announces if it is `[digits]<<[-]name`; fails if a quote in the name is not closed.
pub(super) fn heredoc(word: &str, span: Span) -> Result<Option<Heredoc>, Fault> {
    let Some((digits, rest)) = word.split_once("<<") else { return Ok(None) };
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_ascii_start();
    if rest.is_empty() || rest.contains('<') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let Some(name) = single_word(rest, Quotes::Remove)? else { return Ok(None) };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = single_word(rest, Quotes::Keep)?.is_some_and(|raw| quotes(&raw) == quotes(&name));
    let descriptor = digits.parse().unwrap_or_default();
    Ok(Some(Heredoc { name, content: String::new(), expand, strip_tabs, descriptor, span }))
}

fn single_word(text: &str, quotes: Quotes) -> Result<Option<String>, Fault> {
    let syntax = Syntax { escape: '\\', quotes, keep_escapes: false, keep_unset: true };
    let no_variables = |_: &str| None;
    let words = Expander::with_syntax(syntax, &no_variables).list(text)?;
    Ok(<[String; 1]>::try_from(words).ok().map(|[word]| word))
}
