//! Digests: the addresses of stored bytes.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use sha2::digest::common::hazmat::SerializableState;

/// A registered digest algorithm. Others are refused: bytes that cannot be verified are not stored.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#registered-algorithms>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256, 64 hex digits; what everybody uses.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// How many hex digits a digest of this algorithm has.
    pub fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }

    /// A hasher that has seen no byte yet.
    pub fn hasher(self) -> Hasher {
        Hasher(match self {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(sha2::Sha512::new())),
        })
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(DigestError::Algorithm { algorithm: text.chars().take(64).collect() }),
        }
    }
}

/// Address of a blob, shown as `algorithm:hex`, e.g. `sha256:9f86d0…`. Always well formed;
/// says nothing about whether such a blob exists.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// A digest from its two halves.
    ///
    /// # Errors
    /// [`DigestError::Hex`] unless `hex` has exactly the lower-case digits that the algorithm asks for.
    pub fn new(algorithm: Algorithm, hex: &str) -> Result<Self, DigestError> {
        let well_formed =
            hex.len() == algorithm.hex_len() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(DigestError::Hex { algorithm, digits: hex.len() });
        }
        Ok(Digest { algorithm, hex: hex.into() })
    }

    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// The algorithm in front of the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits behind the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hex digits, as tables show them.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::NoColon)?;
        Digest::new(algorithm.parse()?, hex)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `:` between algorithm and hex.
    #[error("digest has no `:` between algorithm and hex digits")]
    NoColon,
    /// The algorithm is not one that can be verified here.
    #[error("digest algorithm `{algorithm}` is neither `sha256` nor `sha512`")]
    Algorithm {
        /// What stood in front of the colon, cut at 64 characters.
        algorithm: String,
    },
    /// The part behind the colon is not lower-case hex of the right length.
    #[error("{algorithm} digest needs {} lower-case hex digits, got {digits} characters", algorithm.hex_len())]
    Hex {
        /// The algorithm in front of the colon.
        algorithm: Algorithm,
        /// How many bytes stood behind it.
        digits: usize,
    },
}

/// Computes a digest while bytes go by. As a [`Write`] it never fails.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The state in between, as hex, to go on from in another process of the same build of this program.
    pub fn midstate(&self) -> String {
        match &self.0 {
            State::Sha256(state) => hex(&state.serialize()),
            State::Sha512(state) => hex(&state.serialize()),
        }
    }

    /// Goes on from a [`Hasher::midstate`]; `None` when it is not one.
    pub fn resume(algorithm: Algorithm, midstate: &str) -> Option<Self> {
        let bytes = unhex(midstate)?;
        Some(Hasher(match algorithm {
            Algorithm::Sha256 => {
                State::Sha256(sha2::Sha256::deserialize(bytes.as_slice().try_into().ok()?).ok()?)
            }
            Algorithm::Sha512 => {
                State::Sha512(Box::new(sha2::Sha512::deserialize(bytes.as_slice().try_into().ok()?).ok()?))
            }
        }))
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => {
                Digest { algorithm: Algorithm::Sha256, hex: hex(&state.finalize()).into() }
            }
            State::Sha512(state) => {
                Digest { algorithm: Algorithm::Sha512, hex: hex(&state.finalize()).into() }
            }
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader or writer that hashes and counts what goes through it.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hasher: Hasher,
    size_bytes: u64,
}

impl<T> Hashing<T> {
    /// Hashes what goes through `inner` from now on.
    pub fn new(algorithm: Algorithm, inner: T) -> Self {
        Hashing { inner, hasher: algorithm.hasher(), size_bytes: 0 }
    }

    /// The inner value, the digest of what went through and its length.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size_bytes)
    }

    /// The hasher alone, to go on with.
    pub fn into_hasher(self) -> Hasher {
        self.hasher
    }

    /// How many bytes went through so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.take_in(&buffer[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.take_in(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| DIGITS[usize::from(n)] as char).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|n| n as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_well_known_one() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(Digest::sha256(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn what_is_printed_parses_again() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = algorithm.digest(b"x");
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
    }

    #[test]
    fn malformed_digests_are_refused() {
        let upper = EMPTY.replace('e', "E");
        let long = format!("{EMPTY}0");
        for text in ["", "sha256", "sha256:", "sha256:../../x", "md5:00", &EMPTY[1..], &upper, &long] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_goes_on_from_its_midstate() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = algorithm.hasher();
            hasher.update(&[7; 1000]);
            let mut hasher = Hasher::resume(algorithm, &hasher.midstate()).unwrap();
            hasher.update(&[7; 1000]);
            assert_eq!(hasher.finish(), algorithm.digest(&[7; 2000]));
            assert!(Hasher::resume(algorithm, "00").is_none());
        }
    }

    #[test]
    fn a_hashing_reader_counts_and_digests() {
        let mut reader = Hashing::new(Algorithm::Sha256, &b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (_, digest, size_bytes) = reader.finish();
        assert_eq!((digest, size_bytes), (Digest::sha256(b"abc"), 3));
    }
}
