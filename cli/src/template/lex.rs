//! Text → literal pieces and the tokens of actions.

use super::ParseError;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action { column: usize, source: String, tokens: Vec<Token> },
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.Name`; `glued` when no space stands before it, so that it belongs to what precedes.
    /// It stands at `column` of the template.
    Field {
        name: String,
        glued: bool,
        column: usize,
    },
    /// `$name` or `$`
    Variable(String),
    Identifier(String),
    String(String),
    Integer(i64),
    Float(f64),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// Cuts `text` at `{{` and `}}`; `{{- ` and ` -}}` take the blanks beside them away.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, ParseError> {
    let mut pieces = Vec::new();
    let mut position = 0;
    let mut trim_left = false;
    while let Some(begin) = text[position..].find("{{").map(|at| at + position) {
        let inside = begin + 2;
        let trim_right = text[inside..].starts_with("- ") || text[inside..].starts_with("-\n");
        push_text(&mut pieces, &text[position..begin], trim_left, trim_right);
        let end = action_end(text, inside)?;
        let body = &text[inside..end];
        let body = if trim_right { &body[1..] } else { body };
        let offset = inside + usize::from(trim_right);
        trim_left = body.ends_with(" -") || body.ends_with("\n-");
        let body = if trim_left { &body[..body.len() - 1] } else { body };
        let trimmed = body.trim();
        if !(trimmed.starts_with("/*") && trimmed.ends_with("*/")) {
            pieces.push(Piece::Action {
                column: offset + body.len() - body.trim_start().len(),
                source: trimmed.to_owned(),
                tokens: tokens(body, offset)?,
            });
        }
        position = end + 2;
    }
    push_text(&mut pieces, &text[position..], trim_left, false);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_left: bool, trim_right: bool) {
    let text = if trim_left { text.trim_start() } else { text };
    let text = if trim_right { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Where the `}}` of the action at `begin` is; quotes may hold one.
fn action_end(text: &str, begin: usize) -> Result<usize, ParseError> {
    let bytes = text.as_bytes();
    let mut at = begin;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes[at..].starts_with(b"}}") => return Ok(at),
            quote @ (b'"' | b'`' | b'\'') => at = quoted_end(bytes, at, quote)?,
            b'/' if bytes[at..].starts_with(b"/*") => {
                at = text[at..]
                    .find("*/")
                    .map(|n| at + n + 2)
                    .ok_or_else(|| ParseError("unclosed comment".into()))?;
            }
            _ => at += 1,
        }
    }
    Err(ParseError("unclosed action".into()))
}

/// The position behind the closing quote.
fn quoted_end(bytes: &[u8], begin: usize, quote: u8) -> Result<usize, ParseError> {
    let mut at = begin + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote != b'`' => at += 2,
            b if b == quote => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(ParseError(
        if quote == b'\'' { "unterminated character constant" } else { "unterminated quoted string" }.into(),
    ))
}

/// The words of an action whose inside begins at `offset` of the template.
fn tokens(body: &str, offset: usize) -> Result<Vec<Token>, ParseError> {
    let bytes = body.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        let glued = begin > 0
            && !bytes[begin - 1].is_ascii_whitespace()
            && !matches!(bytes[begin - 1], b'(' | b'|' | b',' | b'=');
        match bytes[at] {
            b if b.is_ascii_whitespace() => at += 1,
            b'.' => {
                at = word_end(body, at + 1);
                tokens.push(match &body[begin + 1..at] {
                    "" => Token::Dot,
                    name => Token::Field { name: name.to_owned(), glued, column: offset + begin },
                });
            }
            b'$' => {
                at = word_end(body, at + 1);
                tokens.push(Token::Variable(body[begin + 1..at].to_owned()));
            }
            b'"' | b'`' | b'\'' => {
                at = quoted_end(bytes, at, bytes[begin])?;
                tokens.push(quoted(&body[begin..at])?);
            }
            b'(' => single(&mut tokens, Token::Open, &mut at),
            b')' => single(&mut tokens, Token::Close, &mut at),
            b'|' => single(&mut tokens, Token::Pipe, &mut at),
            b',' => single(&mut tokens, Token::Comma, &mut at),
            b'=' => single(&mut tokens, Token::Assign, &mut at),
            b':' if bytes.get(at + 1) == Some(&b'=') => {
                tokens.push(Token::Declare);
                at += 2;
            }
            b'0'..=b'9' | b'-' | b'+' => {
                at = begin + 1;
                while bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'.') {
                    at += 1;
                }
                tokens.push(number(&body[begin..at])?);
            }
            _ => {
                at = word_end(body, begin);
                if at == begin {
                    let found = body[begin..].chars().next().unwrap_or_default();
                    return Err(ParseError(format!("unexpected {found:?} in command")));
                }
                tokens.push(Token::Identifier(body[begin..at].to_owned()));
            }
        }
    }
    Ok(tokens)
}

fn single(tokens: &mut Vec<Token>, token: Token, at: &mut usize) {
    tokens.push(token);
    *at += 1;
}

fn word_end(body: &str, begin: usize) -> usize {
    body[begin..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(body.len(), |n| begin + n)
}

fn number(text: &str) -> Result<Token, ParseError> {
    let error = || ParseError(format!("bad number syntax: {text:?}"));
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).map(|n| Token::Integer(sign * n)).map_err(|_| error());
    }
    if let Ok(integer) = text.parse() {
        return Ok(Token::Integer(integer));
    }
    text.parse().map(Token::Float).map_err(|_| error())
}

/// A Go string, raw string or character constant, quotes included.
fn quoted(text: &str) -> Result<Token, ParseError> {
    let inner = &text[1..text.len() - 1];
    if text.starts_with('`') {
        return Ok(Token::String(inner.to_owned()));
    }
    let plain = unescape(inner)?;
    if text.starts_with('"') {
        return Ok(Token::String(plain));
    }
    let mut chars = plain.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(Token::Integer(i64::from(u32::from(c)))),
        _ => Err(ParseError(format!("malformed character constant: {text}"))),
    }
}

fn unescape(text: &str) -> Result<String, ParseError> {
    let error = || ParseError(format!("invalid syntax in \"{text}\""));
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        let code = |chars: &mut std::str::Chars<'_>, n: usize| {
            let digits: String = chars.take(n).collect();
            u32::from_str_radix(&digits, 16)
                .ok()
                .filter(|_| digits.len() == n)
                .and_then(char::from_u32)
                .ok_or_else(error)
        };
        plain.push(match chars.next().ok_or_else(error)? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            'x' => code(&mut chars, 2)?,
            'u' => code(&mut chars, 4)?,
            'U' => code(&mut chars, 8)?,
            same @ ('\\' | '"' | '\'') => same,
            _ => return Err(error()),
        });
    }
    Ok(plain)
}
