//! Byte ranges: of a blob that is asked for, of a chunk that is sent, and of what an upload holds.

use std::ops::Range;

/// What a `Range` header asks of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// No range, or one that may be ignored: several ranges at once, another unit, no sense.
    Whole,
    /// These bytes; never empty.
    Part(Range<u64>),
    /// Outside of the blob.
    Unsatisfiable,
}

/// Reads a `Range` header for a blob of `size_bytes`.
///
/// Spec: <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>. A range that ends before it begins is answered by 416,
/// though the RFC would have it ignored: the conformance suite asks for that, and takes a 200 for no ranges at all.
pub(crate) fn asked(header: Option<&str>, size_bytes: u64) -> Asked {
    let Some((unit, spec)) = header.and_then(|header| header.trim().split_once('=')) else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes")) else {
        return Asked::Whole;
    };
    let (start, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => return Asked::Unsatisfiable,
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(size_bytes)),
        (Some(first), None) if last.trim().is_empty() => (first, size_bytes),
        (None, Some(suffix)) if first.trim().is_empty() => (size_bytes - suffix.min(size_bytes), size_bytes),
        _ => return Asked::Whole,
    };
    if start < end { Asked::Part(start..end) } else { Asked::Unsatisfiable }
}

/// Reads the `Content-Range` of a chunk, `<first>-<last>`, both inclusive.
pub(crate) fn chunk(header: &str) -> Option<Range<u64>> {
    let (first, last) = header.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    if first > last { None } else { Some(first..last.checked_add(1)?) }
}

/// The `Range` header of an upload that holds `offset` bytes. None at all has no spelling; `0-0` is what everybody
/// writes.
pub(crate) fn received(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// Digits only: `u64` would also take a `+`. What is too large for it lies behind every blob's end.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-5", Asked::Part(2..6)),
            ("Bytes=2-5", Asked::Part(2..6)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-30", Asked::Part(0..10)),
            ("bytes=9-99999999999999999999999", Asked::Part(9..10)),
            ("bytes=5-2", Asked::Unsatisfiable),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=18446744073709551615-18446744073709551615", Asked::Unsatisfiable),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=0-1", Asked::Whole),
        ] {
            assert_eq!(asked(Some(header), 10), expected, "{header}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Unsatisfiable);
    }

    #[test]
    fn chunk_ranges_are_two_inclusive_numbers() {
        assert_eq!(chunk("0-9"), Some(0..10));
        for header in ["", "-", "9-0", "0-", "-9", "bytes 0-9", "0-18446744073709551615", "+0-9"] {
            assert_eq!(chunk(header), None, "{header}");
        }
    }
}
