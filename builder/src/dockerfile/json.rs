//! JSON arrays of strings, the exec form of many instructions.

use std::ops::Range;

use serde::de::IgnoredAny;

/// What a text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Array {
    /// Its strings, and where each stands with its quotes.
    Strings(Vec<(String, Range<usize>)>),
    /// JSON, but not all of it strings.
    NotStrings,
    /// No JSON array: the shell form.
    No,
}

/// Reads `text`, which may begin and end with white space.
pub(super) fn array(text: &str) -> Array {
    if !text.trim_start().starts_with('[') {
        return Array::No;
    }
    match (Parser { text, at: 0 }).strings() {
        Some(strings) => Array::Strings(strings),
        None if serde_json::from_str::<Vec<IgnoredAny>>(text.trim()).is_ok() => Array::NotStrings,
        None => Array::No,
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn strings(mut self) -> Option<Vec<(String, Range<usize>)>> {
        self.skip_white_space();
        self.take('[')?;
        let mut strings = Vec::new();
        self.skip_white_space();
        while self.peek()? != ']' {
            if !strings.is_empty() {
                self.take(',')?;
                self.skip_white_space();
            }
            let start = self.at;
            let string = self.string()?;
            strings.push((string, start..self.at));
            self.skip_white_space();
        }
        self.take(']')?;
        self.text[self.at..].trim().is_empty().then_some(strings)
    }

    fn string(&mut self) -> Option<String> {
        self.take('"')?;
        let mut string = String::new();
        loop {
            match self.next()? {
                '"' => return Some(string),
                '\\' => string.push(self.escape()?),
                control if control < ' ' => return None,
                other => string.push(other),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            same @ ('"' | '\\' | '/') => same,
            'u' => return self.unicode(),
            _ => return None,
        })
    }

    /// Behind `\u`. Half of a surrogate pair becomes U+FFFD, as in Go.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if let Some(ch) = char::from_u32(high) {
            return Some(ch);
        }
        let before_low = self.at;
        if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
            self.at = before_low;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.at += ch.len_utf8();
        Some(ch)
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn skip_white_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        match array(text) {
            Array::Strings(strings) => Some(strings.into_iter().map(|(string, _)| string).collect()),
            _ => None,
        }
    }

    #[test]
    fn strings_with_escapes_are_read() {
        assert_eq!(strings(" [ ]").unwrap(), [""; 0]);
        assert_eq!(
            strings(r#"["a",	"\u263a\/\n" ,"\ud83d\ude00\ud800"]"#).unwrap(),
            ["a", "☺/\n", "😀\u{fffd}"]
        );
    }

    #[test]
    fn other_json_is_told_from_no_json() {
        assert_eq!(array(r#"["a", ["b"]]"#), Array::NotStrings);
        assert_eq!(array("[1, null]"), Array::NotStrings);
        for text in ["['a']", r#"["a"#, r#"["a",]"#, r#"["a"] b"#, "[,]", r#"["a" "b"]"#, "echo []"] {
            assert_eq!(array(text), Array::No, "{text}");
        }
    }
}
