//! What goes to stdout: data and tables; and how sizes and times are written.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::{self, verbatim, verbatim_with_code};
use crate::template::{EvalError, ParseError, Template};

/// Writes data to stdout. A reader that has gone away (`| head`) ends the program without a word, any other failure
/// with one: what is cut off must not pass for the whole.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            note(not_written("stdout", &error));
            std::process::exit(i32::from(error::FAILED));
        }
    }
}

/// docker's words for a standard stream that takes nothing.
pub(crate) fn not_written(stream: &str, error: &io::Error) -> String {
    format!("write /dev/{stream}: {}", error::system_words(error))
}

/// Writes a line of data to stdout.
pub(crate) fn line(text: impl std::fmt::Display) {
    print(&format!("{text}\n"));
}

/// Writes a line for people to stderr; nobody there to read it is no failure.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether stderr, where progress goes, is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Sends log lines of `level` and above to stderr; `$GANTRY_LOG` overrides.
pub(crate) fn log_to_stderr(level: &str) {
    use tracing_subscriber::filter::EnvFilter;
    let filter = EnvFilter::try_from_env("GANTRY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(stderr_is_terminal())
        .try_init();
}

/// A field of a list's lines: what templates and JSON call it, its header in a table, and its value.
pub(crate) struct Column<R> {
    name: &'static str,
    header: &'static str,
    value: fn(&R) -> Value,
}

/// A column. Values are texts, but that of `.Label "name"`, which is a map.
pub(crate) const fn column<R>(name: &'static str, header: &'static str, value: fn(&R) -> Value) -> Column<R> {
    Column { name, header, value }
}

/// Prints rows as docker does: the default table, which has the columns `shown`, `--format 'table …'`, `--format json`, or a
/// template a row.
pub(crate) fn list<R>(rows: &[R], columns: &[Column<R>], shown: &[&str], format: Option<&str>) -> Result<()> {
    match format.map(unescape).as_deref() {
        None | Some("" | "table") => {
            let shown = shown.iter().filter_map(|name| columns.iter().find(|column| column.name == *name));
            let head = shown.clone().map(|column| column.header.to_owned()).collect();
            let body = rows.iter().map(|row| shown.clone().map(|column| text((column.value)(row))).collect());
            print(&aligned(&std::iter::once(head).chain(body).collect::<Vec<_>>()));
        }
        Some(format) if is_json(format) => rows.iter().for_each(|row| line(as_json(columns, row))),
        Some(format) => {
            let (table, body) = match format.strip_prefix("table") {
                Some(rest) => (true, rest.trim_start()),
                None => (false, format),
            };
            let template = Template::parse(body).map_err(|error| verbatim(error.to_string()))?;
            check_fields(&template, columns)?;
            let mut lines = Vec::new();
            if table {
                let headers = fields(columns, |column| Value::from(column.header));
                lines.push(template.headers(&headers).map_err(|error| verbatim(error.to_string()))?);
            }
            for row in rows {
                let values = fields(columns, |column| (column.value)(row));
                lines.push(template.render(&values).map_err(|error| verbatim(error.to_string()))?);
            }
            if table {
                let cells: Vec<Vec<String>> =
                    lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
                print(&aligned(&cells));
            } else {
                lines.iter().for_each(line);
            }
        }
    }
    Ok(())
}

/// `json`, or the template that is spelled so.
fn is_json(format: &str) -> bool {
    format == "json" || format.split_whitespace().collect::<String>() == "{{json.}}"
}

fn fields<R>(columns: &[Column<R>], value: impl Fn(&Column<R>) -> Value) -> Value {
    columns.iter().map(|column| (column.name.to_owned(), value(column))).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// All lines have the same fields, so a template that asks for another one is wrong, also when there is no line.
fn check_fields<R>(template: &Template, columns: &[Column<R>]) -> Result<()> {
    let known = |field: &&String| columns.iter().any(|column| column.name == **field);
    match template.fields().iter().find(|field| !known(field)) {
        Some(field) => Err(verbatim(format!(
            "template parsing error: template: :1:2: executing \"\" at <.{field}>: can't evaluate field {field} in a line of this list"
        ))),
        None => Ok(()),
    }
}

/// A row as docker writes it in JSON: texts only, sorted by name; maps are there for templates.
fn as_json<R>(columns: &[Column<R>], row: &R) -> Value {
    let mut texts: Vec<_> = columns.iter().map(|column| (column.name, (column.value)(row))).collect();
    texts.retain(|(_, value)| !value.is_object());
    texts.sort_by_key(|(name, _)| *name);
    texts.into_iter().collect()
}

/// How one document is shown: a template, or `json`.
pub(crate) struct DocumentFormat(Option<Template>);

impl DocumentFormat {
    /// Reads the value of `--format`.
    pub(crate) fn parse(format: &str) -> Result<Self, ParseError> {
        match unescape(format).as_str() {
            "json" => Ok(DocumentFormat(None)),
            format => Template::parse(format).map(|template| DocumentFormat(Some(template))),
        }
    }

    /// The document in this format.
    pub(crate) fn show(&self, value: &Value) -> Result<String, EvalError> {
        self.0.as_ref().map_or_else(|| Ok(value.to_string()), |template| template.render(value))
    }
}

/// Prints one document by `--format`.
pub(crate) fn document(value: &Value, format: &str) -> Result<()> {
    let wrong = |error: ParseError| verbatim_with_code(error.to_string(), error::WRONG_TEMPLATE);
    let format = DocumentFormat::parse(format).map_err(wrong)?;
    line(format.show(value).map_err(|error| verbatim(error.to_string()))?);
    Ok(())
}

/// docker lets a format write tabs and line breaks as `\t` and `\n`.
fn unescape(format: &str) -> String {
    format.trim().replace("\\t", "\t").replace("\\n", "\n")
}

/// Columns as wide as their widest cell, at least ten, three blanks between them, as Go's tabwriter does for docker.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut cells = row.iter().zip(&widths).peekable();
        while let Some((cell, width)) = cells.next() {
            text.push_str(cell);
            // docker pads the last column of a header line, too; nobody can see it, so we do not.
            if cells.peek().is_some() {
                text.push_str(&" ".repeat((width + 3).max(10) - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// Bytes as docker writes them: decimal units, four digits: `1.23kB`, `126MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, 3), UNITS[unit])
}

/// `%.Ng` of Go for values below 1000: N digits, no trailing zeros.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long ago, in docker's words: `About a minute ago`, `3 days ago`.
pub(crate) fn ago(created: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.as_second() - created.as_second()))
}

/// A time span in docker's words.
pub(crate) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// At most `width` characters, the last of them `…` when some are left out.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// A time as docker's `CreatedAt` columns show it, e.g. `2026-01-02 03:04:05 +0000 UTC`.
pub(crate) fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_docker_writes_them() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (125_700_000, "126MB"),
            (1_500_000_000, "1.5GB"),
            (10_000, "10kB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn time_spans_are_dockers_words() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (20 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            aligned(&[row(&["TAG", "B"]), row(&["bookworm-slim", "x"])]),
            "TAG             B\nbookworm-slim   x\n"
        );
        assert_eq!(aligned(&[row(&["TAG", "B"])]), "TAG       B\n");
    }
}
