//! Variables, quotes and escapes in words.
//!
//! ```text
//! $name ${name}                     the value, or nothing
//! ${name:-word} ${name-word}        word if unset (with colon: or empty)
//! ${name:+word} ${name+word}        word if set (with colon: and not empty)
//! ${name:?word} ${name?word}        an error that says word if unset (with colon: or empty)
//! ${name#p} ${name##p}              without the shortest, longest prefix that matches p
//! ${name%p} ${name%%p}              without the shortest, longest suffix that matches p
//! ${name/p/word} ${name//p/word}    the first match, each match replaced
//! 'text' "text $name" \c            as in a shell; the escape is ` after `# escape=`
//! ```
//!
//! Reference: <https://docs.docker.com/reference/dockerfile/#environment-replacement>

use std::collections::BTreeSet;

use super::pattern::{Effort, Pattern, PatternError};

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum ExpandError {
    #[error("this single quote is not closed")]
    SingleQuote,
    #[error("this double quote is not closed")]
    DoubleQuote,
    #[error("`${{` without `}}`")]
    MissingBrace,
    #[error("`${{{name}/` without a second `/`")]
    MissingSlash { name: String },
    #[error("`${{` without the name of a variable")]
    BadSubstitution,
    #[error("unsupported modifier `{0}` in `${{…}}`")]
    UnsupportedModifier(String),
    #[error("variable `{name}`: {message}")]
    Required { name: String, message: String },
    #[error("pattern `{pattern}`: {source}")]
    Pattern { pattern: String, source: PatternError },
    #[error("`${{…}}` is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the expanded text is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// How deep `${a:-${b:-…}}` may go.
const MAX_DEPTH: usize = 100;
/// How long all values together may be that one expander puts in, replacements counted too.
const MAX_BYTES: usize = 16 << 20;

/// Expands the words of one instruction, and notes which variables they asked for. Its limits hold for all of them
/// together, since there may be very many.
pub struct Expander<'a> {
    syntax: Syntax,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Variables that were asked for and have a value.
    pub used: BTreeSet<String>,
    /// Variables that were asked for and have none.
    pub unset: BTreeSet<String>,
    /// Of all values so far.
    value_bytes: usize,
    /// What is left for matching patterns.
    effort: Effort,
}

/// Which characters are special.
#[derive(Debug, Clone, Copy)]
pub(super) struct Syntax {
    pub(super) escape: char,
    pub(super) quotes: Quotes,
    pub(super) keep_escapes: bool,
    /// `$name` stays as it is when there is no such variable.
    pub(super) keep_unset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They group, and go.
    Remove,
    /// They group, and stay.
    Keep,
    /// They are characters like others.
    Ordinary,
}

impl<'a> Expander<'a> {
    /// An expander for a file whose escape character is `escape`; `lookup` gives values of variables.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let syntax = Syntax { escape, quotes: Quotes::Remove, keep_escapes: false, keep_unset: false };
        Expander::with_syntax(syntax, lookup)
    }

    pub(super) fn with_syntax(syntax: Syntax, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Expander {
            syntax,
            lookup,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
            value_bytes: 0,
            effort: Effort::default(),
        }
    }

    /// The escape character of the file.
    pub fn escape(&self) -> char {
        self.syntax.escape
    }

    /// `text` as one word.
    pub fn text(&mut self, text: &str) -> Result<String, ExpandError> {
        let syntax = self.syntax;
        self.run(text, syntax, None)
    }

    /// `text` as a list: values are split at white space outside quotes, empty words vanish.
    pub fn list(&mut self, text: &str) -> Result<Vec<String>, ExpandError> {
        let (mut words, syntax) = (Words::default(), self.syntax);
        self.run(text, syntax, Some(&mut words))?;
        words.end();
        Ok(words.done)
    }

    /// The body of a heredoc: quotes are ordinary characters, and the escape is always `\`.
    pub fn document(&mut self, text: &str) -> Result<String, ExpandError> {
        let syntax = Syntax { escape: '\\', quotes: Quotes::Ordinary, ..self.syntax };
        self.run(text, syntax, None)
    }

    /// `text` as progress shows it: values filled in, quotes and unknown variables left alone; never fails.
    pub fn display(&mut self, text: &str) -> String {
        let syntax = Syntax { quotes: Quotes::Keep, keep_unset: true, ..self.syntax };
        self.run(text, syntax, None).unwrap_or_else(|_| text.to_owned())
    }

    fn run(&mut self, text: &str, syntax: Syntax, words: Option<&mut Words>) -> Result<String, ExpandError> {
        let keep_escapes = syntax.keep_escapes;
        Scan { rest: text, syntax, keep_escapes, depth: 0, expander: self }.until(None, words)
    }

    fn get(&mut self, name: &str) -> Result<Option<String>, ExpandError> {
        let value = (self.lookup)(name);
        let list = if value.is_some() { &mut self.used } else { &mut self.unset };
        if !list.contains(name) {
            list.insert(name.to_owned());
        }
        self.count(value.as_ref().map_or(0, String::len))?;
        Ok(value)
    }

    fn count(&mut self, value_bytes: usize) -> Result<(), ExpandError> {
        self.value_bytes = self.value_bytes.saturating_add(value_bytes);
        if self.value_bytes > MAX_BYTES { Err(ExpandError::TooLong) } else { Ok(()) }
    }
}

/// The list that a text is split into.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push_splitting(&mut self, text: &str) {
        for ch in text.chars() {
            if ch.is_whitespace() { self.end() } else { self.current.push(ch) }
        }
    }

    fn end(&mut self) {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }
}

/// One pass over a text.
struct Scan<'s, 'e, 'a> {
    rest: &'s str,
    syntax: Syntax,
    /// Whether escapes stay right now: they do in patterns.
    keep_escapes: bool,
    depth: usize,
    expander: &'e mut Expander<'a>,
}

impl<'s> Scan<'s, '_, '_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.rest = &self.rest[ch.len_utf8()..];
        Some(ch)
    }

    /// Expands up to `stop`, which is taken too, or to the end.
    fn until(&mut self, stop: Option<char>, mut words: Option<&mut Words>) -> Result<String, ExpandError> {
        let mut result = String::new();
        while let Some(ch) = self.peek() {
            let before = result.len();
            let mut splits = false;
            match ch {
                _ if Some(ch) == stop => {
                    self.next();
                    return Ok(result);
                }
                '$' => {
                    splits = true;
                    result.push_str(&self.dollar()?);
                }
                '<' => result.push_str(self.heredoc_mark()),
                '\'' if self.syntax.quotes != Quotes::Ordinary => self.single_quoted(&mut result)?,
                '"' if self.syntax.quotes != Quotes::Ordinary => self.double_quoted(&mut result)?,
                _ if ch == self.syntax.escape => {
                    self.next();
                    if self.keep_escapes {
                        result.push(ch);
                    }
                    result.extend(self.next());
                }
                _ => {
                    self.next();
                    splits = true;
                    result.push(ch);
                }
            }
            match &mut words {
                Some(words) if splits => words.push_splitting(&result[before..]),
                Some(words) => words.current.push_str(&result[before..]),
                None => {}
            }
        }
        if stop.is_some() { Err(ExpandError::MissingBrace) } else { Ok(result) }
    }

    /// `word` of `${name:-word}` up to `stop`; escapes stay in it if it is a pattern.
    fn nested(&mut self, stop: char, keep_escapes: bool) -> Result<String, ExpandError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        let outer = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let word = self.until(Some(stop), None)?;
        self.keep_escapes = outer;
        self.depth -= 1;
        Ok(word)
    }

    /// `<<` and the white space behind it, so that `<< EOF` is one word.
    fn heredoc_mark(&mut self) -> &'s str {
        let length = match self.rest.strip_prefix("<<") {
            Some(after) => self.rest.len() - after.trim_start_matches([' ', '\t', '\r']).len(),
            None => 1,
        };
        let (mark, rest) = self.rest.split_at(length);
        self.rest = rest;
        mark
    }

    fn single_quoted(&mut self, result: &mut String) -> Result<(), ExpandError> {
        self.next();
        let end = self.rest.find('\'').ok_or(ExpandError::SingleQuote)?;
        let (inside, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        self.push_quote(result, '\'');
        result.push_str(inside);
        self.push_quote(result, '\'');
        Ok(())
    }

    fn double_quoted(&mut self, result: &mut String) -> Result<(), ExpandError> {
        self.next();
        self.push_quote(result, '"');
        loop {
            match self.peek() {
                None => return Err(ExpandError::DoubleQuote),
                Some('"') => {
                    self.next();
                    self.push_quote(result, '"');
                    return Ok(());
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(ch) if ch == self.syntax.escape => {
                    self.next();
                    self.escaped_in_quotes(result);
                }
                Some(ch) => {
                    self.next();
                    result.push(ch);
                }
            }
        }
    }

    /// Behind an escape in double quotes: it counts before a quote, `$` and itself, else it is an ordinary character.
    fn escaped_in_quotes(&mut self, result: &mut String) {
        let escape = self.syntax.escape;
        match self.peek() {
            None => {}
            Some(ch) if ch == '"' || ch == '$' || ch == escape => {
                self.next();
                if self.keep_escapes {
                    result.push(escape);
                }
                result.push(ch);
            }
            Some(_) => {
                if self.keep_escapes {
                    result.push(escape);
                }
                result.push(escape);
            }
        }
    }

    fn push_quote(&self, result: &mut String, quote: char) {
        if self.syntax.quotes == Quotes::Keep {
            result.push(quote);
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            return self.braces();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        self.value_or(&name, |name| format!("${name}"))
    }

    /// The value, or nothing, or what stands in the text where unknown variables stay.
    fn value_or(&mut self, name: &str, text: impl Fn(&str) -> String) -> Result<String, ExpandError> {
        match self.expander.get(name)? {
            Some(value) => Ok(value),
            None if self.syntax.keep_unset => Ok(text(name)),
            None => Ok(String::new()),
        }
    }

    /// Behind `${`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(ExpandError::MissingBrace),
            Some('}') => self.value_or(&name, |name| format!("${{{name}}}")),
            Some('/') => self.replace(&name),
            Some(modifier @ ('#' | '%')) => self.trim(&name, modifier),
            Some(modifier @ ('+' | '-' | '?')) => self.choose(&name, modifier, false),
            Some(':') => match self.next() {
                Some(modifier @ ('+' | '-' | '?')) => self.choose(&name, modifier, true),
                Some(other) => Err(ExpandError::UnsupportedModifier(format!(":{other}"))),
                None => Err(ExpandError::MissingBrace),
            },
            Some(other) => Err(ExpandError::UnsupportedModifier(other.into())),
        }
    }

    /// `-word`, `+word`, `?word`; with `colon`, an empty value counts as none.
    fn choose(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let word = self.nested('}', false)?;
        let value = self.expander.get(name)?;
        if value.is_none() && self.syntax.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let was_set = value.is_some();
        let value = value.filter(|value| !(colon && value.is_empty()));
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let reason = if was_set { "must not be empty" } else { "must be set" };
                let message = if word.is_empty() { reason.to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `#pattern`, `##pattern`, `%pattern`, `%%pattern`.
    fn trim(&mut self, name: &str, modifier: char) -> Result<String, ExpandError> {
        let word = self.nested('}', true)?;
        let value = match self.expander.get(name)? {
            None if self.syntax.keep_unset => return Ok(format!("${{{name}{modifier}{word}}}")),
            value => value.unwrap_or_default(),
        };
        let (text, greedy) = match word.strip_prefix(modifier) {
            Some(text) => (text, true),
            None => (word.as_str(), false),
        };
        let effort = &mut self.expander.effort;
        with_pattern(text, |pattern| match modifier {
            '#' => pattern.trim_prefix(&value, greedy, effort),
            _ => pattern.trim_suffix(&value, greedy, effort),
        })
    }

    /// `/pattern/word`, `//pattern/word`.
    fn replace(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let text = self.nested('/', true).map_err(|error| match error {
            ExpandError::MissingBrace => ExpandError::MissingSlash { name: name.to_owned() },
            other => other,
        })?;
        let replacement = self.nested('}', true)?;
        let value = match self.expander.get(name)? {
            None if self.syntax.keep_unset => return Ok(format!("${{{name}/{text}/{replacement}}}")),
            value => value.unwrap_or_default(),
        };
        let effort = &mut self.expander.effort;
        let replaced = with_pattern(&text, |pattern| pattern.replace(&value, &replacement, all, effort))?;
        self.expander.count(replaced.len())?;
        Ok(replaced)
    }

    /// A name, a number or one special character; empty when nothing of that kind follows.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(ch) if ch.is_numeric() => self.take_while(&mut name, char::is_numeric),
            Some(ch @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.next();
                name.push(ch);
            }
            _ => self.take_while(&mut name, |ch| ch.is_alphanumeric() || ch == '_'),
        }
        name
    }

    fn take_while(&mut self, text: &mut String, wanted: fn(char) -> bool) {
        while let Some(ch) = self.peek().filter(|ch| wanted(*ch)) {
            self.next();
            text.push(ch);
        }
    }
}

fn with_pattern(
    text: &str,
    apply: impl FnOnce(&Pattern) -> Result<String, PatternError>,
) -> Result<String, ExpandError> {
    Pattern::new(text)
        .and_then(|pattern| apply(&pattern))
        .map_err(|source| ExpandError::Pattern { pattern: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "A" => "a",
            "EMPTY" => "",
            "PATHS" => "/x/y/z.txt",
            "SPACES" => "one  two",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(Expander::new('\\', &env).text(text).as_deref(), Ok(expected), "{text}");
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(Expander::new('\\', &env).text(text).unwrap_err().to_string(), expected, "{text}");
    }

    #[test]
    fn unset_and_empty_differ_only_without_colon() {
        check("${EMPTY-w}${EMPTY:-w}${NO-w}${NO:-w}", "www");
        check("${EMPTY+w}${EMPTY:+w}${NO+w}${A:+w}", "ww");
        check_error("${NO?}", "variable `NO`: must be set");
        check_error("${EMPTY:?}", "variable `EMPTY`: must not be empty");
        check_error("${EMPTY:?set $A}", "variable `EMPTY`: set a");
    }

    #[test]
    fn paths_are_cut_and_replaced() {
        check("${PATHS##*/} ${PATHS%.*} ${PATHS//\\//-} ${PATHS/x/$A}", "z.txt /x/y/z -x-y-z.txt /a/y/z.txt");
    }

    #[test]
    fn quotes_and_escapes_go() {
        check(r#"'$A'"$A\$A" \$A"#, "$Aa$A $A");
        check_error("'x", "this single quote is not closed");
        check_error("\"x", "this double quote is not closed");
        assert_eq!(Expander::new('`', &env).text(r"`$A\$A").as_deref(), Ok(r"$A\a"));
    }

    #[test]
    fn lists_split_values_outside_quotes() {
        let list = |text| Expander::new('\\', &env).list(text).unwrap();
        assert_eq!(list(r#"x$SPACES "$SPACES" y\ z "" end"#), ["xone", "two", "one  two", "y z", "end"]);
        assert_eq!(list("80${NO:-80}"), ["8080"]);
    }

    #[test]
    fn heredoc_bodies_keep_quotes() {
        let body = Expander::new('`', &env).document("'$A' \"x\" \\$A");
        assert_eq!(body.as_deref(), Ok("'a' \"x\" $A"));
    }

    #[test]
    fn display_leaves_the_unknown_alone() {
        assert_eq!(Expander::new('\\', &env).display("echo \"$A\" ${NO:-x} $NO"), "echo \"a\" ${NO:-x} $NO");
    }

    #[test]
    fn variables_are_noted() {
        let mut expander = Expander::new('\\', &env);
        expander.text("$A $NO ${EMPTY}").unwrap();
        assert_eq!(expander.used, ["A", "EMPTY"].map(str::to_owned).into());
        assert_eq!(expander.unset, ["NO"].map(str::to_owned).into());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        check_error("${A", "`${` without `}`");
        check_error("${A/x}", "`${A/` without a second `/`");
        check_error("${}", "`${` without the name of a variable");
        check_error("${A:=x}", "unsupported modifier `:=` in `${…}`");
        check_error("${A#\\a}", "pattern `\\a`: invalid escape `\\a`");
    }

    #[test]
    fn nesting_and_growth_have_limits() {
        let deep = "${x:-".repeat(5_000);
        check_error(&deep, "`${…}` is nested more than 100 deep");
        let big = |_: &str| Some("x".repeat(MAX_BYTES / 2));
        let mut expander = Expander::new('\\', &big);
        assert_eq!(expander.text("\"$a$b$c\""), Err(ExpandError::TooLong));
    }

    #[test]
    fn replacements_count_as_values_do() {
        let lookup = |name: &str| Some(if name == "A" { "a".repeat(1000) } else { "b".repeat(10_000) });
        let text = "${A//a/$B}".repeat(10);
        assert_eq!(Expander::new('\\', &lookup).text(&text), Err(ExpandError::TooLong));
    }

    #[test]
    fn patterns_of_one_instruction_share_their_limit() {
        let lookup = |_: &str| Some("a".repeat(2000));
        let mut expander = Expander::new('\\', &lookup);
        let mut words = std::iter::repeat_with(|| expander.text("${A//*b/}"));
        let source = PatternError::TooLong;
        let too_long = Err(ExpandError::Pattern { pattern: "*b".to_owned(), source });
        assert!(words.by_ref().take(100).any(|word| word == too_long));
    }
}
