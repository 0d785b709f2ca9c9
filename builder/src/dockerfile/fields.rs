//! The lists `key=value,key,…` of `--mount` and `--device`: one line of CSV.
//!
//! A field in double quotes may hold commas, and `""` in it is one quote.

use super::error::{Fault, SyntaxError};
use super::source::Word;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// All of it, without quotes.
    pub whole: Word,
    /// What stands before `=`, as it was typed.
    pub key: Word,
    /// What stands behind `=`; `None` without one.
    pub value: Option<Word>,
}

/// The fields of a flag's value.
pub(super) fn split(list: &Word) -> Result<Vec<Field>, SyntaxError> {
    if list.text.is_empty() {
        return Err(SyntaxError::at(list, Fault::EmptyList));
    }
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let (word, end) = field(list, at)?;
        let (key, value) = match word.text.find('=') {
            Some(equals) => (word.part(0..equals), Some(word.part(equals + 1..word.text.len()))),
            None => (word.clone(), None),
        };
        fields.push(Field { whole: word, key, value });
        if end == list.text.len() {
            return Ok(fields);
        }
        at = end + 1;
    }
}

/// The field that begins at `at`, and where it ends.
fn field(list: &Word, at: usize) -> Result<(Word, usize), SyntaxError> {
    let rest = &list.text[at..];
    let misplaced = || SyntaxError::at(list, Fault::ListQuote);
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = at + rest.find(',').unwrap_or(rest.len());
        let word = list.part(at..end);
        return if word.text.contains('"') { Err(misplaced()) } else { Ok((word, end)) };
    };
    let mut text = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((offset, ch)) = chars.next() {
        match (ch, chars.peek()) {
            ('"', Some((_, '"'))) => {
                chars.next();
                text.push('"');
            }
            ('"', None | Some((_, ','))) => {
                let end = at + 1 + offset + 1;
                return Ok((Word { text, span: list.part(at..end).span }, end));
            }
            ('"', Some(_)) => return Err(misplaced()),
            _ => text.push(ch),
        }
    }
    Err(misplaced())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &str) -> Option<Vec<String>> {
        let list = Word { text: list.to_owned(), ..Word::default() };
        let fields = split(&list).ok()?;
        Some(fields.into_iter().map(|field| field.whole.text).collect())
    }

    #[test]
    fn quotes_protect_commas() {
        assert_eq!(texts("a=1,b").unwrap(), ["a=1", "b"]);
        assert_eq!(texts(r#"a,"b=1,""2""",c,"#).unwrap(), ["a", "b=1,\"2\"", "c", ""]);
        for list in ["", "a\"b", "\"a", "\"a\"b"] {
            assert_eq!(texts(list), None, "{list}");
        }
    }
}
