//! Values as Go's standard library reads and writes them: flags of Dockerfiles and texts of the history follow it.

use std::fmt::Write as _;
use std::time::Duration;

/// A duration like `1h15m30.918s`. Fails on anything else, on negative ones and on more than 292 years.
///
/// Grammar: <https://pkg.go.dev/time#ParseDuration>
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    loop {
        let (number, behind) = split_at_first(rest, |ch| !(ch.is_ascii_digit() || ch == '.'));
        let (unit, behind) = split_at_first(behind, |ch| ch.is_ascii_digit() || ch == '.');
        rest = behind;
        nanos += nanoseconds(number, unit)?;
        if nanos > i64::MAX as u128 {
            return None;
        }
        if rest.is_empty() {
            return Some(Duration::from_nanos(nanos as u64));
        }
    }
}

fn nanoseconds(number: &str, unit: &str) -> Option<u128> {
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 =
        if whole.is_empty() { 0 } else { whole.parse().ok().filter(|n| *n <= u64::MAX as u128)? };
    // Digits beyond the 18th are below a nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(whole * scale + parts * scale / 10u128.pow(fraction.len() as u32))
}

fn split_at_first(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// `1m30s`, `0s`, `1.5s`, `250ms`.
pub(super) fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn decimal(nanos: u128, scale: u128, unit: &str) -> String {
    let digits = scale.ilog10() as usize;
    let fraction = format!("{:0digits$}", nanos % scale);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}{unit}", nanos / scale)
}

/// A string in double quotes, as `%q` prints it.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for ch in text.chars() {
        match ch {
            '"' | '\\' => quoted.extend(['\\', ch]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            ' '..='~' => quoted.push(ch),
            '\0'..='\u{7f}' => drop(write!(quoted, "\\x{:02x}", ch as u32)),
            _ if is_print(ch) => quoted.push(ch),
            '\u{80}'..='\u{ffff}' => drop(write!(quoted, "\\u{:04x}", ch as u32)),
            _ => drop(write!(quoted, "\\U{:08x}", ch as u32)),
        }
    }
    quoted.push('"');
    quoted
}

/// Letters, marks, numbers, punctuation and symbols. Rust's own table for `{:?}` follows the same rule, except that it
/// also escapes what extends the letter before.
fn is_print(ch: char) -> bool {
    ch.escape_debug().count() == 1 || "x".chars().chain([ch]).collect::<String>().escape_debug().count() == 2
}

/// `["a" "b"]`, as `%q` prints a list.
pub(super) fn quote_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `1`, `t`, `true` … as Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A size like `64m`, `1.5 GiB` or `4096`, in bytes; units are powers of 1024.
///
/// Grammar: <https://pkg.go.dev/github.com/docker/go-units#RAMInBytes>
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let last = text.rfind(|ch: char| ch.is_ascii_digit() || matches!(ch, '.' | ' '))?;
    let (number, unit) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let well_formed = number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'+'));
    let number: f64 = number.parse().ok().filter(|_| well_formed)?;
    let unit = unit.to_ascii_lowercase();
    let unit =
        unit.strip_suffix("ib").filter(|unit| !unit.is_empty()).or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes < i64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, written) in [
            ("0", "0s"),
            ("1h15m30.918s", "1h15m30.918s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("2h", "2h0m0s"),
            (".5ms", "500µs"),
            ("+3us", "3µs"),
        ] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), written, "{text}");
        }
        for text in ["", "5", "-5s", "s", ".s", "1..2s", "1x", "1 s", "300000000h", "1s2"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quote("a\"\\\n\0\u{7f}é☃\u{200b}"), "\"a\\\"\\\\\\n\\x00\\x7fé☃\\u200b\"");
        assert_eq!(quote_list(&["a".into(), "b c".into()]), r#"["a" "b c"]"#);
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in
            [("4096", 4096), ("64m", 64 << 20), ("1.5 GiB", 3 << 29), ("2kb", 2048), ("7b", 7)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1m", "1x", "1kbb", "1ib", "inf", "1e3 m m"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
