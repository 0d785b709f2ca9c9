//! The blobs that a layer travels as, kept as `layers/<alg>/<hh>/<hex>/as/<name>`.
//!
//! ```text
//! <codec>-<version>           a blob of our own making; the version covers format and encoder and is never mixed
//! foreign-<blob digest>       a blob that was pulled or loaded
//!
//! "gantryLF" · version
//! codec        0 plain, 1 gzip, 2 zstd
//! digest       algorithm (0 SHA-256, 1 SHA-512) · bytes
//! size
//! count of blocks, each:
//!     key · raw length · CRC-32 of the raw bytes · compressed length · digest of the compressed bytes
//! CRC-32
//! ```
//! A form is written once its blob is complete and verified. A blob that has gone since makes its form void.

use super::codec::Codec;
use super::disk::{Decoder, DiskError, Encoder, Format};
use crate::digest::{Algorithm, Digest};
use crate::oci::Descriptor;
use crate::store::FOREIGN;

pub(super) const FORMAT: Format = Format { name: "table of a layer's form", magic: b"gantryLF", version: 1 };

/// One blob that a layer travels as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// How it is compressed.
    pub codec: Codec,
    /// The blob.
    pub blob: Digest,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Where our own encoder cut it, in order and without gaps; none in a foreign blob.
    pub(super) blocks: Vec<Block>,
}

/// A piece of a blob that can be used again where the same bytes follow the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Digest of what the compressor saw: the dictionary and the bytes.
    pub(super) key: Digest,
    pub(super) raw_bytes: u64,
    /// CRC-32 of the raw bytes.
    pub(super) crc: u32,
    pub(super) compressed_bytes: u64,
    /// Digest of the compressed bytes.
    pub(super) digest: Digest,
}

impl Form {
    /// A blob that came from elsewhere.
    pub(super) fn foreign(codec: Codec, blob: Digest, size_bytes: u64) -> Self {
        Form { codec, blob, size_bytes, blocks: Vec::new() }
    }

    /// The name of the record of a foreign blob.
    pub(super) fn foreign_name(blob: &Digest) -> String {
        format!("{FOREIGN}{blob}")
    }

    /// The blob as an OCI manifest lists it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.codec.media_type(), self.blob.clone(), self.size_bytes)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(&FORMAT);
        out.byte(match self.codec {
            Codec::Plain => 0,
            Codec::Gzip => 1,
            Codec::Zstd => 2,
        });
        out.byte(match self.blob.algorithm() {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => 1,
        });
        out.digest(&self.blob);
        out.number(self.size_bytes);
        out.number(self.blocks.len() as u64);
        for block in &self.blocks {
            out.digest(&block.key);
            out.number(block.raw_bytes);
            out.number(block.crc.into());
            out.number(block.compressed_bytes);
            out.digest(&block.digest);
        }
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DiskError> {
        let mut input = Decoder::new(&FORMAT, bytes)?;
        let codec = match input.byte()? {
            0 => Codec::Plain,
            1 => Codec::Gzip,
            2 => Codec::Zstd,
            _ => return Err(input.damaged()),
        };
        let algorithm = match input.byte()? {
            0 => Algorithm::Sha256,
            1 => Algorithm::Sha512,
            _ => return Err(input.damaged()),
        };
        let blob = input.digest(algorithm)?;
        let size_bytes = input.number()?;
        let count = input.number()?;
        let mut blocks = input.vec(count)?;
        for _ in 0..count {
            blocks.push(Block {
                key: input.digest(Algorithm::Sha256)?,
                raw_bytes: input.number()?,
                crc: input.narrow()?,
                compressed_bytes: input.number()?,
                digest: input.digest(Algorithm::Sha256)?,
            });
        }
        input.finish()?;
        Ok(Form { codec, blob, size_bytes, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_reads_back_as_it_was_written() {
        let block = |n: u64| Block {
            key: Digest::sha256(&n.to_le_bytes()),
            raw_bytes: n << 20,
            crc: !(n as u32),
            compressed_bytes: n << 18,
            digest: Digest::sha256(b"compressed"),
        };
        let form = Form {
            codec: Codec::Gzip,
            blob: Algorithm::Sha512.digest(b"blob"),
            size_bytes: 1 << 40,
            blocks: (0..5).map(block).collect(),
        };
        assert_eq!(Form::decode(&form.encode()), Ok(form));
        let foreign = Form::foreign(Codec::Zstd, Digest::sha256(b"x"), 1);
        assert_eq!(Form::decode(&foreign.encode()), Ok(foreign));
    }
}
