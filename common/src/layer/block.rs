//! One 512-byte header block of a tar: its fields as numbers and bytes. The layout is the `tar` crate's.
//!
//! Spec: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06>,
//! <https://www.gnu.org/software/tar/manual/html_node/Standard.html>

use std::borrow::Cow;

/// Length of a block: headers take one, data is padded to whole ones.
pub(super) const BLOCK_BYTES: usize = 512;

/// The largest number that the size and time fields hold in octal.
pub(super) const OCTAL_11_MAX: u64 = 0o777_7777_7777;

/// The largest number that the owner and device fields hold in octal.
pub(super) const OCTAL_7_MAX: u64 = 0o777_7777;

/// A header block whose checksum is right.
pub(super) struct Block<'a>(&'a tar::Header);

impl<'a> Block<'a> {
    /// Looks at `bytes` as a header; `None` when its checksum is wrong.
    pub(super) fn parse(bytes: &'a [u8; BLOCK_BYTES]) -> Option<Self> {
        let block = Block(tar::Header::from_byte_slice(bytes));
        let expected = number(&block.0.as_old().cksum)?;
        (expected == i128::from(checksum(bytes)) || expected == i128::from(signed_checksum(bytes)))
            .then_some(block)
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0.as_old().linkflag[0]
    }

    /// The length of the data that follows, as this block says it.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        unsigned(&self.0.as_old().size)
    }

    pub(super) fn mode(&self) -> Option<u32> {
        number(&self.0.as_old().mode).map(|mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Option<u64> {
        unsigned(&self.0.as_old().uid)
    }

    pub(super) fn gid(&self) -> Option<u64> {
        unsigned(&self.0.as_old().gid)
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.0.as_old().mtime)?.try_into().ok()
    }

    /// Major and minor number; zeros where the format has none.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let (major, minor) = match (self.0.as_ustar(), self.0.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            _ => return Some((0, 0)),
        };
        Some((number(major)?.try_into().ok()?, number(minor)?.try_into().ok()?))
    }

    pub(super) fn path(&self) -> Cow<'a, [u8]> {
        let name = text(&self.0.as_old().name);
        match self.0.as_ustar().map(|ustar| text(&ustar.prefix)) {
            Some(prefix) if !prefix.is_empty() => Cow::Owned([prefix, b"/", name].concat()),
            _ => Cow::Borrowed(name),
        }
    }

    pub(super) fn link_name(&self) -> &'a [u8] {
        text(&self.0.as_old().linkname)
    }

    /// The fields of GNU's sparse files, type `S`.
    pub(super) fn gnu(&self) -> Option<&'a tar::GnuHeader> {
        self.0.as_gnu()
    }
}

/// The length of `size_bytes` of data and the padding behind it.
pub(super) fn padded(size_bytes: u64) -> Option<u64> {
    size_bytes.checked_next_multiple_of(BLOCK_BYTES as u64)
}

/// The bytes of a field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A numeric field: octal between spaces and NULs, or GNU's base 256 with the top bit set.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // two's complement below the marker bit
        let start = if first & 0x40 != 0 { -1_i128 } else { 0 };
        let start = start << 6 | i128::from(first & 0x3f);
        return Some(rest.iter().fold(start, |number, byte| number << 8 | i128::from(*byte)));
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0, |number: i128, digit| match digit {
        b'0'..=b'7' => Some(number << 3 | i128::from(digit - b'0')),
        _ => None,
    })
}

/// A numeric field that cannot be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    number(field)?.try_into().ok()
}

const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;

/// The sum of all bytes, those of the checksum field taken as spaces.
pub(super) fn checksum(bytes: &[u8; BLOCK_BYTES]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    sum(bytes) - sum(&bytes[CHECKSUM_FIELD]) + 8 * u32::from(b' ')
}

/// The same with signed bytes, as some old programs compute it.
fn signed_checksum(bytes: &[u8; BLOCK_BYTES]) -> i32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| i32::from(*b as i8)).sum::<i32>();
    sum(bytes) - sum(&bytes[CHECKSUM_FIELD]) + 8 * i32::from(b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let cases: [(&[u8], Option<i128>); 9] = [
            (b"0000644\0", Some(0o644)),
            (b"   755 \0", Some(0o755)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777", Some(0o777_7777_7777)),
            (b"0000648\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{field:?}");
        }
        assert_eq!(unsigned(b"\xff\xff"), None);
    }

    #[test]
    fn a_block_of_any_bytes_with_the_wrong_checksum_is_none() {
        assert!(Block::parse(&[0x41; BLOCK_BYTES]).is_none());
        assert!(Block::parse(&[0; BLOCK_BYTES]).is_none());
    }
}
