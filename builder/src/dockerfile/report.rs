//! How an error shows its place:
//!
//! ```text
//! error: cannot build stage `app`
//!   Dockerfile:12
//!    11 | WORKDIR /app
//! >> 12 | COPY --form=base src /app
//!       |      ^^^^^^
//!   cause: unknown flag `--form` of `COPY`
//!   hint: did you mean `--from`?
//! ```
//!
//! The first `error: ` is left to whoever prints it. Carets are left out where all of the line is meant. Control characters of the file do not reach the terminal.

use std::fmt;

use super::source::{Source, Span};

/// An error as the user sees it, without `error: ` before and a line end behind it.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What happened.
    pub message: &'a str,
    /// Where in the Dockerfile.
    pub place: Option<(&'a Source, Span)>,
    /// Why.
    pub cause: Option<&'a str>,
    /// What to do.
    pub hint: Option<&'a str>,
}

/// Lines of a long instruction that are shown.
const MAX_LINES: usize = 8;
/// Characters of a long line that are shown.
const MAX_COLUMNS: usize = 160;

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.message))?;
        if let Some((source, span)) = self.place {
            excerpt(f, source, span)?;
        }
        for (label, text) in [("cause", self.cause), ("hint", self.hint)] {
            if let Some(text) = text {
                write!(f, "\n  {label}: {}", printable(text))?;
            }
        }
        Ok(())
    }
}

fn excerpt(f: &mut fmt::Formatter<'_>, source: &Source, span: Span) -> fmt::Result {
    let (first, last) = source.line_range(span);
    write!(f, "\n  {}:{first}", printable(&source.name))?;
    let shown = last.min(first + MAX_LINES - 1);
    if (first..=shown).all(|number| source.line(number).trim().is_empty()) {
        return Ok(());
    }
    let width = shown.to_string().len().max(2);
    if first > 1 {
        write_line(f, ' ', first - 1, width, &clip(source.line(first - 1), 0).0)?;
    }
    for number in first..=shown {
        let (columns, marks_part) = columns(source, span, number);
        let (text, skipped) = clip(source.line(number), columns.0);
        write_line(f, '>', number, width, &text)?;
        if marks_part {
            let before = columns.0 - skipped;
            let padding: String =
                text.chars().take(before).map(|ch| if ch == '\t' { ch } else { ' ' }).collect();
            let carets = (columns.1 - columns.0).clamp(1, MAX_COLUMNS.saturating_sub(before).max(1));
            write!(f, "\n   {:width$} | {padding}{}", "", "^".repeat(carets))?;
        }
    }
    if shown < last {
        write!(f, "\n   {:width$} | …", "")?;
    }
    Ok(())
}

fn write_line(
    f: &mut fmt::Formatter<'_>,
    mark: char,
    number: usize,
    width: usize,
    text: &str,
) -> fmt::Result {
    let line = format!("{mark}{mark} {number:width$} | {text}");
    write!(f, "\n{}", line.trim_end())
}

/// Characters of line `number` that `span` covers, and whether they are only a part of what the line says.
fn columns(source: &Source, span: Span, number: usize) -> ((usize, usize), bool) {
    let (start, line) = (source.line_start(number), source.line(number));
    let from = floor(line, span.start.saturating_sub(start));
    let to = floor(line, span.end.saturating_sub(start)).max(from);
    let whole = line[..from].trim().is_empty() && line[to..].trim().is_empty();
    let from_columns = line[..from].chars().count();
    ((from_columns, from_columns + line[from..to].chars().count()), !whole)
}

/// The last character boundary of `text` that is not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// The part of a long line around `column`, printable, and how many characters before it are left out.
fn clip(line: &str, column: usize) -> (String, usize) {
    let skipped = if column < MAX_COLUMNS / 2 { 0 } else { column - MAX_COLUMNS / 4 };
    let part: String = line.chars().skip(skipped).take(MAX_COLUMNS).collect();
    (printable(&part), skipped)
}

fn printable(text: &str) -> String {
    let visible = |ch: char| if ch.is_control() && !matches!(ch, '\t' | '\n') { '\u{fffd}' } else { ch };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &str, expected: &str) {
        let source = Source::new("Dockerfile", text);
        let start = text.find(wanted).unwrap();
        let place = Some((&source, Span { start, end: start + wanted.len() }));
        let report = Report { message: "no", place, cause: None, hint: Some("yes") };
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn a_part_of_a_line_gets_carets() {
        check(
            "FROM a\nCOPY\tsrc /app\n",
            "src",
            "no\n  Dockerfile:2\n    1 | FROM a\n>>  2 | COPY\tsrc /app\n      |     \t^^^\n  hint: yes",
        );
    }

    #[test]
    fn whole_lines_get_none() {
        let expected = "no\n  Dockerfile:1\n>>  1 | RUN a \\\n>>  2 |  b\n  hint: yes";
        check("RUN a \\\n b\nUSER x", "RUN a \\\n b", expected);
    }

    #[test]
    fn long_lines_and_control_characters_are_tamed() {
        let source =
            Source::new("Dockerfile", format!("\u{1b}[2J{}needle{}", "x".repeat(500), "y".repeat(500)));
        let place = Some((&source, Span { start: 504, end: 510 }));
        let report = Report { message: "no", place, cause: None, hint: None }.to_string();
        assert!(!report.contains('\u{1b}'));
        let lines: Vec<&str> = report.lines().collect();
        let at = lines[2].find("needle").unwrap();
        assert_eq!(lines[3].find("^^^^^^"), Some(at));
        assert!(lines[2].chars().count() < 180);
    }
}
