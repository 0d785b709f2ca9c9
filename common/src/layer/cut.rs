//! Cuts a tar into blocks that are compressed one by one.
//!
//! Where to cut is a pure function of the bytes near by, so that a change to one file moves the borders around it and
//! leaves the other blocks as they were:
//!
//! ```text
//! │ header data │ header data │ header data ········ 1 MiB ┊ ········ 1 MiB ┊ ··· │ header data │
//! ┊                           ┊                            ┊                ┊     └ joins what follows
//! ┊  ≥ 256 KiB, and the hash  ┊  a large file: every 1 MiB from its own start
//!    of the next header says so
//! ```
//! A header's chance grows with the length of its entry, so blocks have about 768 KiB whatever the files' sizes. No block
//! is to grow beyond 2 MiB: an entry that would make it do so begins the next one. Bytes that are no tar are cut every
//! 1 MiB.

use std::io::{self, Read};

use super::block::{BLOCK_BYTES, Block, padded};
use super::pax;

/// No block but the last is shorter.
pub(super) const MIN_BLOCK_BYTES: usize = 256 << 10;
/// A block that would become longer ends before.
pub(super) const MAX_BLOCK_BYTES: usize = 2 << 20;
/// How far apart borders are inside a large file.
const STRIDE_BYTES: u64 = 1 << 20;
/// How many bytes of entries there are between two headers that say so, on average.
const CHANCE_BYTES: u64 = 512 << 10;

/// Instead of a length: all that is still to come.
const REST: u64 = u64::MAX;

/// Gives the blocks of a tar one after the other; together they are all its bytes.
pub(super) struct Cutter<R> {
    input: R,
    /// What the next block has so far.
    block: Vec<u8>,
    /// How many bytes of the current entry are still to come.
    data_bytes: u64,
    /// How far it is to the next border inside the current entry.
    stride_bytes: u64,
}

impl<R: Read> Cutter<R> {
    pub(super) fn new(input: R) -> Self {
        Cutter { input, block: Vec::new(), data_bytes: 0, stride_bytes: STRIDE_BYTES }
    }

    /// The next block; `None` at the end of the input.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            while self.data_bytes > 0 {
                let wanted = self.data_bytes.min(self.stride_bytes);
                let n = self.read_into_block(wanted)?;
                self.data_bytes -= n;
                self.stride_bytes -= n;
                if n < wanted {
                    return Ok(self.last());
                }
                if self.stride_bytes == 0 {
                    self.stride_bytes = STRIDE_BYTES;
                    if self.data_bytes > 0 {
                        return Ok(Some(std::mem::take(&mut self.block)));
                    }
                }
            }
            let start = self.block.len();
            self.read_head()?;
            if self.block.len() == start {
                return Ok(self.last());
            }
            if self.is_border(start) {
                let next = self.block.split_off(start);
                return Ok(Some(std::mem::replace(&mut self.block, next)));
            }
        }
    }

    fn last(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.block)).filter(|block| !block.is_empty())
    }

    /// Whether a block ends before the entry whose head begins at `start`.
    fn is_border(&self, start: usize) -> bool {
        let head = &self.block[start..];
        let first_piece = head.len() + self.data_bytes.min(STRIDE_BYTES) as usize;
        if start + first_piece > MAX_BLOCK_BYTES {
            return true;
        }
        let entry_bytes = (head.len() as u64).saturating_add(self.data_bytes).min(CHANCE_BYTES);
        let chosen = u64::from(crc32fast::hash(head)) < (entry_bytes << 32) / CHANCE_BYTES;
        chosen && self.data_bytes != REST && start >= MIN_BLOCK_BYTES
    }

    /// Reads the header of an entry and all that belongs to it into the block, and sets how much data follows.
    fn read_head(&mut self) -> io::Result<()> {
        self.stride_bytes = STRIDE_BYTES;
        let mut pax_size = None;
        loop {
            let at = self.block.len();
            let n = self.read_into_block(BLOCK_BYTES as u64)?;
            let header = <&[u8; BLOCK_BYTES]>::try_from(&self.block[at..]).ok().and_then(Block::parse);
            let size_bytes = header.as_ref().and_then(Block::size_bytes).and_then(padded);
            let (Some(header), Some(size_bytes)) = (header, size_bytes) else {
                // The end of the tar, or no tar at all: the rest is bytes.
                self.data_bytes = if n < BLOCK_BYTES as u64 { 0 } else { u64::MAX };
                self.stride_bytes =
                    STRIDE_BYTES.min((MAX_BLOCK_BYTES - at.min(MAX_BLOCK_BYTES)).max(1) as u64);
                return Ok(());
            };
            let is_extension = matches!(header.typeflag(), b'x' | b'g' | b'L' | b'K');
            let is_pax = header.typeflag() == b'x';
            if !is_extension || size_bytes > STRIDE_BYTES {
                self.data_bytes = pax_size.and_then(padded).unwrap_or(size_bytes);
                return Ok(());
            }
            let at = self.block.len();
            self.read_into_block(size_bytes)?;
            if is_pax {
                pax_size = size_record(&self.block[at..]);
            }
        }
    }

    fn read_into_block(&mut self, wanted: u64) -> io::Result<u64> {
        Ok((&mut self.input).take(wanted).read_to_end(&mut self.block)? as u64)
    }
}

/// The size in a PAX header, behind which there is padding.
fn size_record(data: &[u8]) -> Option<u64> {
    let records = pax::records(data).map_while(|record| record);
    records.filter(|(key, _)| *key == b"size").last().and_then(|(_, value)| pax::decimal(value))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;
    use crate::layer::testing::TarBytes;

    fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(bytes);
        std::iter::from_fn(|| cutter.next().unwrap()).collect()
    }

    /// Bytes that look random and are the same everywhere; others for another seed.
    fn noise(seed: u64, len: usize) -> &'static [u8] {
        static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let hash = |n: u32| Digest::sha256(&n.to_le_bytes()).hex().as_bytes().to_vec();
            (0..100_000).flat_map(hash).collect()
        });
        let start = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize;
        &NOISE[start..start + len]
    }

    fn many_files(count: u64, changed: Option<u64>) -> Vec<u8> {
        let files = (0..count).fold(TarBytes::new(), |tar, n| {
            let seed = if changed == Some(n) { n + 1_000_000 } else { n };
            tar.file(&format!("file-{n}"), noise(seed, 1000 + (n * 7919 % 20_000) as usize))
        });
        files.finish()
    }

    #[test]
    fn blocks_are_all_the_bytes_and_neither_short_nor_long() {
        let tar = many_files(2000, None);
        let blocks = cut(&tar);
        assert!(blocks.concat() == tar);
        let (_, all_but_last) = blocks.split_last().unwrap();
        assert!(all_but_last.iter().all(|block| (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block.len())));
        let mean = tar.len() / blocks.len();
        assert!((500 << 10..1100 << 10).contains(&mean), "{mean}");
    }

    #[test]
    fn a_changed_file_changes_its_own_blocks_alone() {
        let before = cut(&many_files(2000, None));
        for changed in [0, 1000, 1999] {
            let after = cut(&many_files(2000, Some(changed)));
            let fresh = after.iter().filter(|block| !before.contains(block)).count();
            assert!((1..=2).contains(&fresh), "{fresh} of {} blocks for file {changed}", after.len());
        }
    }

    #[test]
    fn a_large_file_is_cut_from_its_own_start() {
        let large = noise(1, 5_500_000);
        let tar = |small: usize| {
            TarBytes::new().file("a", noise(2, small)).file("large", large).file("z", b"end").finish()
        };
        let (one, two) = (cut(&tar(1000)), cut(&tar(100_000)));
        assert_eq!(one.len(), two.len());
        assert_eq!(one.iter().map(Vec::len).filter(|len| *len == 1 << 20).count(), 4);
        assert!(one[1..] == two[1..], "a file in front moves no border inside");
    }

    #[test]
    fn an_entry_that_does_not_fit_begins_the_next_block() {
        let file = noise(1, 300_000);
        let tar = (0..100).fold(TarBytes::new(), |tar, n| tar.file(&format!("{n}"), file)).finish();
        assert!(cut(&tar).iter().all(|block| block.len() <= MAX_BLOCK_BYTES));
    }

    #[test]
    fn a_size_that_stands_in_pax_alone_is_heeded() {
        let data = noise(1, 3 << 20);
        let tar = |own: u64| {
            TarBytes::new()
                .pax(&[("size", (3 << 20).to_string().as_bytes())])
                .entry_saying(b'0', "f", "", own, data)
                .file("g", b"")
                .finish()
        };
        assert_eq!(
            cut(&tar(0)).iter().map(Vec::len).collect::<Vec<_>>(),
            cut(&tar(3 << 20)).iter().map(Vec::len).collect::<Vec<_>>()
        );
    }

    #[test]
    fn bytes_that_are_no_tar_are_cut_too() {
        assert!(cut(b"").is_empty());
        let bytes = noise(1, 5_000_000);
        let blocks = cut(bytes);
        assert!(blocks.concat() == bytes);
        assert!(blocks.iter().all(|block| block.len() <= MAX_BLOCK_BYTES));
        let tail = [&many_files(300, None), bytes].concat();
        let blocks = cut(&tail);
        assert!(blocks.concat() == tail);
        assert!(blocks.iter().all(|block| block.len() <= MAX_BLOCK_BYTES));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_byte_is_lost(sizes in vec((0..3_000_000_usize, any::<bool>()), 0..6), end in 0..2000_usize) {
            let tar = sizes.iter().enumerate().fold(TarBytes::new(), |tar, (n, (size, long))| {
                let tar = if *long { tar.pax(&[("path", noise(3, 300))]) } else { tar };
                tar.file(&format!("{n}"), noise(n as u64, *size))
            });
            let mut bytes = tar.finish();
            bytes.truncate(bytes.len() - end.min(bytes.len()));
            prop_assert!(cut(&bytes).concat() == bytes);
        }
    }
}
