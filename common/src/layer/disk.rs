//! The frame that the tables of a layer share on disk.
//!
//! ```text
//! magic (8 bytes) · version (1 byte) · body · CRC-32 of all before it (4 bytes, little endian)
//! ```
//! Numbers in a body are LEB128, byte strings carry their length in front.

use std::collections::TryReserveError;

use crate::digest::{Algorithm, Digest, hex};

/// Why a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// Another kind of file, or none of ours.
    #[error("not a {expected}")]
    Magic {
        /// What was looked for.
        expected: &'static str,
    },
    /// Written by a newer gantry.
    #[error("{table} has version {version}, this program reads up to {newest}")]
    Version {
        /// Which table.
        table: &'static str,
        /// The version found.
        version: u8,
        /// The newest version known here.
        newest: u8,
    },
    /// The checksum or the structure is wrong.
    #[error("{table} is damaged")]
    Damaged {
        /// Which table.
        table: &'static str,
    },
}

/// What tells one table from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) magic: &'static [u8; 8],
    pub(super) version: u8,
}

impl Format {
    /// Whether `bytes` are as they were written. [`DiskError::Version`] when a newer gantry wrote them.
    pub(super) fn is_intact(&self, bytes: &[u8]) -> Result<bool, DiskError> {
        match Decoder::new(self, bytes) {
            Ok(_) => Ok(true),
            Err(DiskError::Magic { .. } | DiskError::Damaged { .. }) => Ok(false),
            Err(error @ DiskError::Version { .. }) => Err(error),
        }
    }

    fn damaged(&self) -> DiskError {
        DiskError::Damaged { table: self.name }
    }
}

/// Builds one table in memory.
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(format: &Format) -> Self {
        let mut bytes = format.magic.to_vec();
        bytes.push(format.version);
        Encoder(bytes)
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A number that may be negative: zigzag.
    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    /// The bytes of a digest without its algorithm, which the reader must know.
    pub(super) fn digest(&mut self, digest: &Digest) {
        let nibble = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        self.0.extend(
            digest.hex().as_bytes().chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])),
        );
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Reads one table; every method fails with [`DiskError::Damaged`] when the bytes end early.
pub(super) struct Decoder<'a> {
    format: &'a Format,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(format: &'a Format, bytes: &'a [u8]) -> Result<Self, DiskError> {
        if !bytes.starts_with(format.magic) {
            return Err(DiskError::Magic { expected: format.name });
        }
        // The checksum comes first: a flipped bit in the version does not make a table one of a newer gantry.
        let (framed, crc) = bytes.split_last_chunk::<4>().ok_or(format.damaged())?;
        if crc32fast::hash(framed) != u32::from_le_bytes(*crc) {
            return Err(format.damaged());
        }
        let framed = framed.strip_prefix(format.magic).ok_or(format.damaged())?;
        let (&version, rest) = framed.split_first().ok_or(format.damaged())?;
        if version > format.version {
            return Err(DiskError::Version { table: format.name, version, newest: format.version });
        }
        Ok(Decoder { format, rest })
    }

    pub(super) fn damaged(&self) -> DiskError {
        self.format.damaged()
    }

    pub(super) fn byte(&mut self) -> Result<u8, DiskError> {
        let (&byte, rest) = self.rest.split_first().ok_or(self.damaged())?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, DiskError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.damaged())
    }

    /// A number that must fit a smaller type.
    pub(super) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, DiskError> {
        self.number()?.try_into().map_err(|_| self.damaged())
    }

    pub(super) fn signed(&mut self) -> Result<i64, DiskError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(super) fn raw(&mut self, len: usize) -> Result<&'a [u8], DiskError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(self.damaged())?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DiskError> {
        let len = self.narrow()?;
        self.raw(len)
    }

    pub(super) fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, DiskError> {
        let bytes = self.raw(algorithm.hex_len() / 2)?;
        Digest::new(algorithm, &hex(bytes)).map_err(|_| self.damaged())
    }

    /// An empty vector for `count` items that follow, each at least one byte long.
    pub(super) fn vec<T>(&mut self, count: u64) -> Result<Vec<T>, DiskError> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.rest.len());
        let mut items = Vec::new();
        items.try_reserve_exact(count.ok_or(self.damaged())?).map_err(|_: TryReserveError| self.damaged())?;
        Ok(items)
    }

    pub(super) fn finish(self) -> Result<(), DiskError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }
}
