//! Takes compression away, whatever it is: archives that users hand over come in all of them.
//!
//! Layers on the wire are stricter, see `layer`: they have gzip or zstd only. The limit against bombs is the same.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GZIP: &[u8] = &[0x1f, 0x8b];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = b"\xfd7zXZ\0";

/// Whether bytes that begin so would be changed by [`decompress`].
pub fn is_compressed(start: &[u8]) -> bool {
    [GZIP, BZIP2, XZ].iter().any(|magic| start.starts_with(magic)) || is_zstd(start)
}

/// Whether zstd begins so: with a frame, or with one that is to be skipped (`pzstd` writes these).
pub(crate) fn is_zstd(start: &[u8]) -> bool {
    matches!(start, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// How much may come out of compressed bytes.
///
/// Files of nothing but zeros are legitimate (a database that reserves its room, the image of a disk), and gzip makes a
/// thousandth of them, zstd and xz a ten-thousandth. So a ratio alone would refuse honest layers, or be none at all.
/// Bytes up to `free_bytes` are allowed whatever they came from; that bounds what a small bomb costs to a few seconds of
/// hashing. Beyond it `ratio` counts: what fills a large layer is programs and text, which seldom exceed 20.
#[derive(Debug, Clone, Copy)]
pub struct Expansion {
    /// Decompressed bytes that are allowed whatever they came from.
    pub free_bytes: u64,
    /// How many more are allowed for each compressed byte.
    pub ratio: u64,
}

impl Expansion {
    /// Whatever comes: for blobs that were judged when they came in, or are our own.
    pub const UNLIMITED: Expansion = Expansion { free_bytes: u64::MAX, ratio: 0 };
}

impl Default for Expansion {
    fn default() -> Self {
        Expansion { free_bytes: 8 << 30, ratio: 200 }
    }
}

/// So much from so little is an attack. Comes inside an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{compressed_bytes} compressed bytes unpack to more than {limit_bytes}")]
pub struct BombError {
    /// How much was read.
    pub compressed_bytes: u64,
    /// What may come from that.
    pub limit_bytes: u64,
}

/// The bytes inside `input`: gzip, bzip2, xz and zstd are known by their first bytes, all else is passed on as it is.
/// Several members, streams or frames are read as one.
///
/// # Errors
/// When `input` cannot be read; damage is an error of the reader that is returned, and so is a [`BombError`].
pub fn decompress<'a>(input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    decompress_within(input, Expansion::default())
}

fn decompress_within<'a>(
    input: impl Read + Send + 'a,
    allowed: Expansion,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (mut input, consumed) = Counted::new(input);
    let mut start = Vec::with_capacity(6);
    (&mut input).take(6).read_to_end(&mut start)?;
    let whole = BufReader::with_capacity(64 << 10, Cursor::new(start.clone()).chain(input));
    let inner: Box<dyn Read + Send + 'a> = match start {
        start if start.starts_with(GZIP) => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        start if start.starts_with(BZIP2) => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        start if start.starts_with(XZ) => Box::new(lzma_rust2::XzReader::new(whole, true)),
        start if is_zstd(&start) => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => return Ok(Box::new(whole)),
    };
    Ok(Box::new(Bounded::new(inner, allowed, consumed)))
}

/// Counts what is read through it.
pub(crate) struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(crate) fn new(inner: R) -> (Self, Arc<AtomicU64>) {
        let bytes = Arc::new(AtomicU64::new(0));
        (Counted { inner, bytes: Arc::clone(&bytes) }, bytes)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Fails with a [`BombError`] once more came out than may come from what was `consumed`.
pub(crate) struct Bounded<R> {
    inner: R,
    allowed: Expansion,
    consumed: Arc<AtomicU64>,
    produced: u64,
}

impl<R> Bounded<R> {
    pub(crate) fn new(inner: R, allowed: Expansion, consumed: Arc<AtomicU64>) -> Self {
        Bounded { inner, allowed, consumed, produced: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.produced += n as u64;
        let compressed_bytes = self.consumed.load(Ordering::Relaxed);
        let Expansion { free_bytes, ratio } = self.allowed;
        let limit_bytes = free_bytes.saturating_add(ratio.saturating_mul(compressed_bytes));
        if self.produced > limit_bytes {
            return Err(io::Error::other(BombError { compressed_bytes, limit_bytes }));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_the_usual_programs_compress_is_read() {
        let text = "some text\n".repeat(100_000);
        for program in ["gzip", "bzip2", "xz", "zstd", "cat"] {
            let Ok(mut child) =
                Command::new(program).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
            else {
                eprintln!("skipped: {program} is not installed");
                continue;
            };
            let mut stdin = child.stdin.take().unwrap();
            let bytes = text.clone().into_bytes();
            let writer = std::thread::spawn(move || stdin.write_all(&bytes));
            let compressed = child.wait_with_output().unwrap().stdout;
            writer.join().unwrap().unwrap();
            let mut found = String::new();
            decompress(&compressed[..]).unwrap().read_to_string(&mut found).unwrap();
            assert!(found == text, "{program}");
        }
    }

    #[test]
    fn much_from_little_is_an_error_and_plain_bytes_never_are() {
        let zeros = vec![0; 16 << 20];
        let allowed = Expansion { free_bytes: 1 << 20, ratio: 200 };
        let read = |input: &[u8]| io::copy(&mut decompress_within(input, allowed).unwrap(), &mut io::sink());
        let error = read(&zstd::encode_all(&zeros[..], 1).unwrap()).unwrap_err();
        assert!(error.downcast::<BombError>().is_ok());
        assert_eq!(read(&zeros).unwrap(), 16 << 20);
    }

    #[test]
    fn zstd_may_begin_with_a_frame_that_is_skipped() {
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        let input = [&skipped[..], &zstd::encode_all(&b"text"[..], 1).unwrap()].concat();
        assert!(is_compressed(&input));
        let mut found = Vec::new();
        decompress(&input[..]).unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, b"text");
    }

    #[test]
    fn short_and_empty_inputs_pass_through() {
        for input in [&b""[..], b"a", &[0x1f], b"BZ"] {
            let mut found = Vec::new();
            decompress(input).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, input);
        }
    }
}
