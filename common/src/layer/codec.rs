//! How a layer's tar is compressed on the wire, and how it is taken apart again.

use std::io::{self, BufReader, Cursor, Read};

use crate::decompress::{BombError, Bounded, Counted, is_zstd};
use crate::oci::media_type;

pub use crate::decompress::Expansion;

/// A form in which a layer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The tar itself.
    Plain,
    /// What everybody reads.
    Gzip,
    /// Smaller and quicker; docker reads it since version 23.
    Zstd,
}

impl Codec {
    /// The codec of a blob that begins with `start`, of which 6 bytes are enough; `None` where it is a compression
    /// that layers do not have (bzip2, xz). What is not compressed is [`Codec::Plain`], be it a tar or not.
    pub fn sniff(start: &[u8]) -> Option<Codec> {
        match start {
            [0x1f, 0x8b, ..] => Some(Codec::Gzip),
            start if is_zstd(start) => Some(Codec::Zstd),
            [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => None,
            _ => Some(Codec::Plain),
        }
    }

    /// OCI's media type of a layer in this form.
    ///
    /// Spec: <https://github.com/opencontainers/image-spec/blob/main/media-types.md>
    pub fn media_type(self) -> &'static str {
        match self {
            Codec::Plain => media_type::OCI_LAYER,
            Codec::Gzip => media_type::OCI_LAYER_GZIP,
            Codec::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// Why a blob cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A compression that layers do not have.
    #[error("layer is compressed with something else than gzip or zstd")]
    Codec,
    /// So much from so little is an attack.
    #[error("layer is refused: {0}")]
    Bomb(BombError),
}

/// Decompresses a whole blob: several gzip members or zstd frames are read as one, anything behind the last is an error,
/// and so is more output than a bomb's.
///
/// # Errors
/// When it cannot be read, or is in no known codec. Reading fails with a [`BombError`] inside an [`io::Error`].
pub(super) fn decoder<'a>(
    blob: impl Read + Send + 'a,
    allowed: Expansion,
) -> io::Result<(Codec, impl Read + Send + 'a)> {
    let (mut counted, consumed) = Counted::new(blob);
    let mut start = Vec::with_capacity(6);
    (&mut counted).take(6).read_to_end(&mut start)?;
    let codec = Codec::sniff(&start).ok_or(io::Error::other(DecodeError::Codec))?;
    let input = BufReader::with_capacity(64 << 10, Cursor::new(start).chain(counted));
    let inner: Box<dyn Read + Send + 'a> = match codec {
        Codec::Plain => Box::new(input),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
    };
    Ok((codec, Bounded::new(inner, allowed, consumed)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn decode(blob: &[u8]) -> io::Result<(Codec, Vec<u8>)> {
        let (codec, mut input) = decoder(blob, Expansion::default())?;
        let mut out = Vec::new();
        input.read_to_end(&mut out)?;
        Ok((codec, out))
    }

    fn check(blob: &[u8], codec: Codec, expected: &[u8]) {
        assert_eq!(decode(blob).unwrap(), (codec, expected.to_vec()));
    }

    #[test]
    fn the_codec_is_known_by_the_first_bytes() {
        check(&gzip(b"hello"), Codec::Gzip, b"hello");
        check(&zstd(b"hello"), Codec::Zstd, b"hello");
        check(b"hello", Codec::Plain, b"hello");
        check(b"", Codec::Plain, b"");
        for start in [&b"BZh91AY&SY"[..], b"\xfd7zXZ\0\0"] {
            assert!(decode(start).unwrap_err().to_string().contains("something else"));
        }
    }

    #[test]
    fn several_members_or_frames_are_read_as_one() {
        check(&[gzip(b"one"), gzip(b""), gzip(b"two")].concat(), Codec::Gzip, b"onetwo");
        check(&[zstd(b"one"), zstd(b"two")].concat(), Codec::Zstd, b"onetwo");
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        check(&[&skipped[..], &zstd(b"one")].concat(), Codec::Zstd, b"one");
        check(&[&zstd(b"one"), &skipped[..]].concat(), Codec::Zstd, b"one");
    }

    #[test]
    fn what_stands_behind_the_end_is_an_error() {
        for blob in [gzip(b"hello"), zstd(b"hello")] {
            for tail in [&b"x"[..], b"garbage garbage", &[0; 20]] {
                assert!(decode(&[&blob, tail].concat()).is_err(), "{tail:?} behind {blob:?}");
            }
        }
    }

    #[test]
    fn a_blob_that_ends_early_is_an_error() {
        for blob in [gzip(b"hello"), zstd(b"hello")] {
            for len in 6..blob.len() {
                assert!(decode(&blob[..len]).is_err(), "cut at {len}: {blob:?}");
            }
        }
    }

    #[test]
    fn a_changed_checksum_is_an_error() {
        let mut blob = gzip(b"hello");
        let crc = blob.len() - 8;
        blob[crc] ^= 1;
        assert!(decode(&blob).is_err());
    }

    #[test]
    fn much_from_little_is_an_error() {
        let blob = zstd(&vec![0; 16 << 20]);
        let allowed = Expansion { free_bytes: 1 << 20, ratio: 200 };
        let (_, mut input) = decoder(&blob[..], allowed).unwrap();
        let error = io::copy(&mut input, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("unpack to more than"), "{error}");
    }
}
