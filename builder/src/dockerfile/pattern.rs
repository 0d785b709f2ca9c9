//! Shell patterns of `${name#pattern}` and its relatives: `*`, `?` and literal characters.

/// A compiled pattern. Neither `*` nor `?` matches a line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Star,
    One,
    Literal(char),
}

/// Why a text is no pattern, or cannot be matched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A backslash before something that needs none.
    #[error("invalid escape `\\{}`", .0.map(String::from).unwrap_or_default())]
    Escape(Option<char>),
    /// Matching would take too long.
    #[error("pattern and value are too long")]
    TooLong,
}

/// How long a result may become.
const MAX_BYTES: usize = 16 << 20;

/// Steps that matchers may still take, all together.
#[derive(Debug)]
pub(super) struct Effort(u64);

impl Default for Effort {
    fn default() -> Self {
        Effort(10_000_000)
    }
}

impl Effort {
    fn spend(&mut self, steps: usize) -> Result<(), PatternError> {
        self.0 = self.0.checked_sub(steps as u64).ok_or(PatternError::TooLong)?;
        Ok(())
    }
}

impl Pattern {
    /// Reads a pattern. A backslash takes the meaning from `*`, `?` and itself; before `}` and `/` it is dropped.
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let mut chars = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    other => return Err(PatternError::Escape(other)),
                },
                literal => Token::Literal(literal),
            });
        }
        Ok(Pattern(tokens))
    }

    /// `value` without the prefix that matches; the longest if `greedy`, else the shortest.
    pub(super) fn trim_prefix(
        &self,
        value: &str,
        greedy: bool,
        effort: &mut Effort,
    ) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().collect();
        let end = Search { tokens: &self.0, effort }.prefix(&chars, greedy)?.unwrap_or(0);
        Ok(chars[end..].iter().collect())
    }

    /// `value` without the suffix that matches; the longest if `greedy`, else the shortest.
    pub(super) fn trim_suffix(
        &self,
        value: &str,
        greedy: bool,
        effort: &mut Effort,
    ) -> Result<String, PatternError> {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let chars: Vec<char> = value.chars().rev().collect();
        let end = Search { tokens: &tokens, effort }.prefix(&chars, greedy)?.unwrap_or(0);
        Ok(chars[end..].iter().rev().collect())
    }

    /// `value` with the first match, or with `all` matches, replaced. Matches are as long as possible.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        effort: &mut Effort,
    ) -> Result<String, PatternError> {
        let chars: Vec<char> = value.chars().collect();
        let mut search = Search { tokens: &self.0, effort };
        let mut result = String::new();
        let (mut from, mut copied) = (0, 0);
        while let Some((start, end)) = search.find(&chars, from)? {
            result.extend(&chars[copied..start]);
            // An empty match right behind the last match is none.
            if end > copied || start == 0 {
                result.push_str(replacement);
            }
            if result.len() > MAX_BYTES {
                return Err(PatternError::TooLong);
            }
            copied = end;
            from = end.max(from + 1);
            if !all || from > chars.len() {
                break;
            }
        }
        result.extend(&chars[copied..]);
        Ok(result)
    }
}

/// Runs the pattern as a nondeterministic automaton: state `n` has matched `n` tokens.
struct Search<'p> {
    tokens: &'p [Token],
    effort: &'p mut Effort,
}

impl Search<'_> {
    /// Leftmost match at or behind `from`, the longest of that start.
    fn find(&mut self, text: &[char], from: usize) -> Result<Option<(usize, usize)>, PatternError> {
        for start in from..=text.len() {
            if let Some(length) = self.prefix(&text[start..], true)? {
                return Ok(Some((start, start + length)));
            }
        }
        Ok(None)
    }

    /// Length of the longest or shortest prefix of `text` that matches.
    fn prefix(&mut self, text: &[char], longest: bool) -> Result<Option<usize>, PatternError> {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.skip_stars(&mut states);
        let mut found = None;
        for length in 0..=text.len() {
            if states[self.tokens.len()] {
                found = Some(length);
                if !longest {
                    break;
                }
            }
            let Some(ch) = text.get(length) else { break };
            states = self.step(&states, *ch)?;
            if !states.contains(&true) {
                break;
            }
        }
        Ok(found)
    }

    fn step(&mut self, states: &[bool], ch: char) -> Result<Vec<bool>, PatternError> {
        self.effort.spend(states.len())?;
        let mut next = vec![false; states.len()];
        for (state, token) in self.tokens.iter().enumerate().filter(|(state, _)| states[*state]) {
            match token {
                Token::Star if ch != '\n' => next[state] = true,
                Token::One if ch != '\n' => next[state + 1] = true,
                Token::Literal(literal) if *literal == ch => next[state + 1] = true,
                _ => {}
            }
        }
        self.skip_stars(&mut next);
        Ok(next)
    }

    /// A star may match nothing.
    fn skip_stars(&self, states: &mut [bool]) {
        for (state, token) in self.tokens.iter().enumerate() {
            if *token == Token::Star && states[state] {
                states[state + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn prefixes_are_short_or_long() {
        assert_eq!(pattern("*/").trim_prefix("a/b/c", false, &mut Effort::default()).unwrap(), "b/c");
        assert_eq!(pattern("*/").trim_prefix("a/b/c", true, &mut Effort::default()).unwrap(), "c");
        assert_eq!(pattern("x").trim_prefix("a/b/c", true, &mut Effort::default()).unwrap(), "a/b/c");
    }

    #[test]
    fn suffixes_are_short_or_long() {
        assert_eq!(pattern("/*").trim_suffix("a/b/c", false, &mut Effort::default()).unwrap(), "a/b");
        assert_eq!(pattern("/*").trim_suffix("a/b/c", true, &mut Effort::default()).unwrap(), "a");
        assert_eq!(pattern("?\\?").trim_suffix("ab?", true, &mut Effort::default()).unwrap(), "a");
    }

    #[test]
    fn an_empty_pattern_matches_between_all_characters() {
        assert_eq!(pattern("").replace("xy", "-", true, &mut Effort::default()).unwrap(), "-x-y-");
        assert_eq!(pattern("").replace("xy", "-", false, &mut Effort::default()).unwrap(), "-xy");
        assert_eq!(pattern("x*").replace("yxxy", "-", true, &mut Effort::default()).unwrap(), "y-");
    }

    #[test]
    fn an_escape_needs_a_reason() {
        assert_eq!(Pattern::new("a\\b"), Err(PatternError::Escape(Some('b'))));
        assert_eq!(Pattern::new("a\\"), Err(PatternError::Escape(None)));
    }

    #[test]
    fn matching_is_bounded() {
        let value = "a".repeat(60_000);
        assert_eq!(
            pattern("*b").replace(&value, "", true, &mut Effort::default()),
            Err(PatternError::TooLong)
        );
    }
}
