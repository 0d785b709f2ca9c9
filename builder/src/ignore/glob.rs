//! One pattern, compiled: `*` and `?` within a path component, `**` across them, `[a-z]`, `\` before what is special.
//!
//! The common shapes are compared as strings; the rest runs through a small machine that visits each pair of pattern
//! position and path position once at most.

/// A compiled pattern. Paths are bytes with `/` between components, none at the ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Glob {
    /// No wildcards.
    Exact(Vec<u8>),
    /// `text**`
    Prefix(Vec<u8>),
    /// `**text`; `**/text` matches at the top too.
    Suffix(Vec<u8>),
    /// Anything else, and what each match begins and ends with.
    Tokens { tokens: Vec<Token>, prefix: Vec<u8>, suffix: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Literal(Vec<u8>),
    /// `?`: one character.
    One,
    /// `*`: any characters of a component.
    Star,
    /// `**`: any characters.
    Any,
    /// The next two tokens may be left out: `**/` is this, `Any` and a slash.
    Maybe,
    /// `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// `[` without its end, or without anything in it.
    #[error("`[` is not closed, or nothing stands between `[` and `]`")]
    Class,
    /// `-` in a class where it can mean two things.
    #[error("a `-` in `[…]` stands between two characters in order; write `\\-` for the character")]
    Range,
    /// A backslash at the end.
    #[error("nothing stands behind the last `\\`")]
    Escape,
    /// Longer than any path.
    #[error("longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
}

/// The longest pattern; matching takes memory for each pair of its bytes and the path's, and paths have no more.
const MAX_PATTERN_BYTES: usize = 4096;

impl Glob {
    /// Compiles `text`, a cleaned path with wildcards.
    pub(super) fn new(text: &str) -> Result<Self, GlobError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(GlobError::TooLong);
        }
        let mut compiler = Compiler { rest: text, tokens: Vec::new() };
        compiler.run()?;
        let tokens = compiler.tokens;
        let is_literal = |part: &str| !part.contains(['*', '?', '[', ']', '\\']);
        Ok(match text.strip_prefix("**").or(text.strip_suffix("**")) {
            _ if is_literal(text) => Glob::Exact(text.into()),
            Some(suffix) if text.starts_with("**") && is_literal(suffix) => Glob::Suffix(suffix.into()),
            Some(prefix) if is_literal(prefix) => Glob::Prefix(prefix.into()),
            _ => Glob::Tokens { prefix: literal(tokens.first()), suffix: literal(tokens.last()), tokens },
        })
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Glob::Exact(text) => text == path,
            Glob::Prefix(prefix) => path.starts_with(prefix),
            Glob::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path),
            Glob::Tokens { tokens, prefix, suffix } => {
                path.starts_with(prefix)
                    && path.ends_with(suffix)
                    && Machine::new(tokens, path).run(End::Whole)
            }
        }
    }

    /// Whether it could match something inside `folder`. May say yes wrongly, never no.
    pub(super) fn may_match_below(&self, folder: &[u8]) -> bool {
        let inside = [folder, b"/"].concat();
        match self {
            Glob::Exact(text) => text.starts_with(&inside),
            Glob::Prefix(prefix) => prefix.starts_with(&inside) || inside.starts_with(prefix),
            Glob::Suffix(_) => true,
            Glob::Tokens { tokens, .. } => Machine::new(tokens, &inside).run(End::Beginning),
        }
    }
}

fn literal(token: Option<&Token>) -> Vec<u8> {
    match token {
        Some(Token::Literal(text)) => text.clone(),
        _ => Vec::new(),
    }
}

struct Compiler<'t> {
    rest: &'t str,
    tokens: Vec<Token>,
}

impl Compiler<'_> {
    fn run(&mut self) -> Result<(), GlobError> {
        while let Some(ch) = self.next() {
            match ch {
                '*' if self.take('*') => {
                    self.take('/');
                    if self.rest.is_empty() {
                        self.tokens.push(Token::Any);
                    } else {
                        self.tokens.extend([Token::Maybe, Token::Any, Token::Literal(b"/".into())]);
                        // What follows must not run into the slash that may be left out.
                        self.tokens.push(Token::Literal(Vec::new()));
                    }
                }
                '*' => self.tokens.push(Token::Star),
                '?' => self.tokens.push(Token::One),
                '[' => {
                    let class = self.class()?;
                    self.tokens.push(class);
                }
                '\\' => {
                    let escaped = self.next().ok_or(GlobError::Escape)?;
                    self.literal(escaped);
                }
                _ => self.literal(ch),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.rest.chars().next()?;
        self.rest = &self.rest[ch.len_utf8()..];
        Some(ch)
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn literal(&mut self, ch: char) {
        let bytes = ch.encode_utf8(&mut [0; 4]).as_bytes().to_vec();
        match self.tokens.last_mut() {
            Some(Token::Literal(text)) => text.extend(bytes),
            _ => self.tokens.push(Token::Literal(bytes)),
        }
    }

    /// Behind `[`.
    fn class(&mut self) -> Result<Token, GlobError> {
        let negated = self.take('^');
        let mut ranges = Vec::new();
        while ranges.is_empty() || !self.take(']') {
            let low = self.class_character()?;
            let high = if self.take('-') { self.class_character()? } else { low };
            if high < low {
                return Err(GlobError::Range);
            }
            ranges.push((low, high));
        }
        Ok(Token::Class { negated, ranges })
    }

    fn class_character(&mut self) -> Result<char, GlobError> {
        match self.next() {
            Some('\\') => self.next().ok_or(GlobError::Escape),
            Some('-') => Err(GlobError::Range),
            None | Some(']') => Err(GlobError::Class),
            Some(ch) => Ok(ch),
        }
    }
}

/// When the machine is content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Pattern and path are both used up.
    Whole,
    /// The path is used up, and the pattern wants more.
    Beginning,
}

struct Machine<'a> {
    tokens: &'a [Token],
    path: &'a [u8],
    visited: Vec<bool>,
    waiting: Vec<(usize, usize)>,
}

impl<'a> Machine<'a> {
    fn new(tokens: &'a [Token], path: &'a [u8]) -> Self {
        let visited = vec![false; (tokens.len() + 1) * (path.len() + 1)];
        Machine { tokens, path, visited, waiting: vec![(0, 0)] }
    }

    fn run(mut self, end: End) -> bool {
        while let Some((token, at)) = self.waiting.pop() {
            let seen = &mut self.visited[token * (self.path.len() + 1) + at];
            if std::mem::replace(seen, true) {
                continue;
            }
            let rest = &self.path[at..];
            let Some(next) = self.tokens.get(token) else {
                if rest.is_empty() && end == End::Whole {
                    return true;
                }
                continue;
            };
            if rest.is_empty() && end == End::Beginning {
                return true;
            }
            if self.step(next, token, at, rest, end) {
                return true;
            }
        }
        false
    }

    /// Whether the end was found in the middle of a literal.
    fn step(&mut self, next: &Token, token: usize, at: usize, rest: &[u8], end: End) -> bool {
        match next {
            Token::Literal(text) if rest.starts_with(text) => self.waiting.push((token + 1, at + text.len())),
            Token::Literal(text) => return end == End::Beginning && text.starts_with(rest),
            Token::Maybe => self.waiting.extend([(token + 1, at), (token + 3, at)]),
            Token::Star | Token::Any => {
                self.waiting.push((token + 1, at));
                let barrier = if *next == Token::Star { b'/' } else { b'\n' };
                if rest.first().is_some_and(|byte| *byte != barrier) {
                    self.waiting.push((token, at + 1));
                }
            }
            Token::One | Token::Class { .. } => {
                if let Some((_, length)) = first_char(rest).filter(|(ch, _)| accepts(next, *ch)) {
                    self.waiting.push((token + 1, at + length));
                }
            }
        }
        false
    }
}

fn accepts(token: &Token, ch: char) -> bool {
    match token {
        Token::One => ch != '/',
        Token::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&ch)) != *negated
        }
        _ => false,
    }
}

/// The first character and its length; a byte that is not UTF-8 counts as U+FFFD.
fn first_char(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes[..bytes.len().min(4)].utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(ch) => Some((ch, ch.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}
