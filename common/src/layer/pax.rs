//! PAX extended headers: records `length key=value\n`, where the length counts itself.
//!
//! Values are bytes and may hold newlines (capabilities do), so records are found by their lengths alone.
//!
//! Spec: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_03>

use std::collections::BTreeMap;

use super::block::Block;
use super::index::{Header, Kind, Time};

/// Extended attributes: the rest of the key is the attribute's full name.
pub(super) const XATTR: &str = "SCHILY.xattr.";

/// Iterates over the records of `bytes`; an item is `None` where the bytes are no record, and the last one then.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.filter(|bytes| !bytes.is_empty())?;
        let split = split_record(bytes);
        rest = split.map(|(_, rest)| rest);
        Some(split.map(|(record, _)| record))
    })
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let len: usize = decimal(&bytes[..space])?.try_into().ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let text = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|b| *b == b'=')?;
    Some(((&text[..equals], &text[equals + 1..]), rest))
}

/// An unsigned decimal number of nothing but digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// What a PAX header says, as far as it matters here.
#[derive(Default)]
pub(super) struct Pax<'a> {
    pub(super) path: Option<&'a [u8]>,
    pub(super) link: Option<&'a [u8]>,
    pub(super) size_bytes: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: PaxSparse<'a>,
}

#[derive(Default)]
pub(super) struct PaxSparse<'a> {
    pub(super) major: Option<u64>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) size_bytes: Option<u64>,
    /// Offsets and lengths in turn, versions 0.0 and 0.1.
    pub(super) numbers: Vec<u64>,
}

impl PaxSparse<'_> {
    pub(super) fn is_some(&self) -> bool {
        self.major.is_some() || self.size_bytes.is_some() || !self.numbers.is_empty() || self.path.is_some()
    }

    pub(super) fn is_version_1(&self) -> bool {
        self.major == Some(1)
    }
}

impl<'a> Pax<'a> {
    /// # Errors
    /// What is wrong, when something is.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        const MALFORMED: &str = "malformed PAX record";
        let mut pax = Pax::default();
        for record in records(bytes) {
            let (key, value) = record.ok_or(MALFORMED)?;
            if value.is_empty() && !key.starts_with(XATTR.as_bytes()) {
                // an empty value takes back what a global header said, and those are not heeded
                continue;
            }
            let number = || decimal(value).ok_or(MALFORMED);
            match key {
                b"path" => once(&mut pax.path, name(value)?)?,
                b"linkpath" => once(&mut pax.link, name(value)?)?,
                b"size" => once(&mut pax.size_bytes, number()?)?,
                b"uid" => once(&mut pax.uid, number()?)?,
                b"gid" => once(&mut pax.gid, number()?)?,
                b"mtime" => once(&mut pax.mtime, time(value).ok_or(MALFORMED)?)?,
                b"GNU.sparse.name" => once(&mut pax.sparse.path, name(value)?)?,
                b"GNU.sparse.major" => once(&mut pax.sparse.major, number()?)?,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => once(&mut pax.sparse.size_bytes, number()?)?,
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => pax.sparse.numbers.push(number()?),
                b"GNU.sparse.map" => {
                    for part in value.split(|b| *b == b',') {
                        pax.sparse.numbers.push(decimal(part).ok_or(MALFORMED)?);
                    }
                }
                _ => pax.take_xattr(key, value)?,
            }
        }
        Ok(pax)
    }

    fn take_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let Some(name) = key.strip_prefix(XATTR.as_bytes()) else { return Ok(()) };
        if name.is_empty() || name.contains(&0) {
            return Err("malformed name of an extended attribute");
        }
        match self.xattrs.insert(name.to_vec(), value.to_vec()) {
            None => Ok(()),
            Some(_) => Err(TWICE),
        }
    }

    /// Mode, owner, time and attributes, without path and kind.
    pub(super) fn metadata(self, block: &Block<'_>) -> Option<Header> {
        let mut header = Header::new(Vec::new(), Kind::Directory, block.mode()?);
        header.uid = self.uid.or(block.uid())?.try_into().ok()?;
        header.gid = self.gid.or(block.gid())?.try_into().ok()?;
        header.mtime = self.mtime.or(block.mtime().map(Time::from_seconds))?;
        header.xattrs = self.xattrs;
        Some(header)
    }
}

const TWICE: &str = "PAX header says one thing twice";

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(TWICE),
    }
}

fn name(value: &[u8]) -> Result<&[u8], &'static str> {
    if value.contains(&0) { Err("NUL in a name") } else { Ok(value) }
}

/// `seconds[.fraction]`, rounded down to nanoseconds.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (seconds, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = i128::from(decimal(seconds)?);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos =
        (0..9).fold(0, |nanos, at| nanos * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    let (seconds, nanos) = match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    };
    Some(Time { seconds: seconds.try_into().ok()?, nanos })
}

/// Appends a record.
pub(super) fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // space, `=` and newline, and then the digits of the length, which may add one more
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + digits(len) != len {
        len = rest + digits(len);
    }
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_length_counts_its_own_digits() {
        for value_len in [0, 1, 80, 90, 91, 92, 93, 94, 95, 985, 990, 995] {
            let mut out = Vec::new();
            push_record(&mut out, b"path", &vec![b'x'; value_len]);
            let len = out.len().to_string();
            assert!(out.starts_with(format!("{len} path=").as_bytes()), "{value_len}");
        }
    }

    #[test]
    fn bytes_that_are_no_record_end_the_iteration() {
        for bytes in [&b"x"[..], b"5 a=", b"99 a=b\n", b"6 a=bc\n", b"4 a\n\n", b"0 a=b\n", b"-6 a=b\n"] {
            assert_eq!(records(bytes).collect::<Vec<_>>(), [None], "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_found_again(pairs in vec((vec(b'a'..=b'z', 0..9), vec(any::<u8>(), 0..200)), 0..9)) {
            let mut out = Vec::new();
            for (key, value) in &pairs {
                push_record(&mut out, key, value);
            }
            let found: Vec<_> = records(&out).map(|record| {
                let (key, value) = record.expect("our own record");
                (key.to_vec(), value.to_vec())
            }).collect();
            prop_assert_eq!(found, pairs);
        }
    }
}
