//! Sparse files: maps of which parts of a file a tar holds, and files whose holes need not be read.
//!
//! Four spellings of a map are read: GNU's own header (type `S`) and the three versions that GNU tar has put into PAX
//! headers. None is written: our writer streams holes as zeros, which every reader understands.
//!
//! Spec: <https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::block::{BLOCK_BYTES, unsigned};
use super::index::Segment;
use super::pax::decimal;

/// The most parts a file may have; a map of more is refused rather than held in memory.
const MAX_SEGMENTS: usize = 1 << 20;

/// Which parts of a file a tar holds, and how long the file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) size_bytes: u64,
    pub(super) segments: Vec<Segment>,
}

impl Map {
    /// Checks that the parts follow each other, lie in the file and are as long together as what is stored.
    pub(super) fn check(mut self, stored_bytes: u64) -> Option<Self> {
        self.segments.retain(|segment| segment.size_bytes > 0);
        let mut end = 0;
        let mut sum = 0_u64;
        for segment in &self.segments {
            if segment.offset < end {
                return None;
            }
            end = segment.offset.checked_add(segment.size_bytes)?;
            sum += segment.size_bytes;
        }
        (end <= self.size_bytes && sum == stored_bytes).then_some(self)
    }

    /// How many bytes of the file are in no part.
    pub(super) fn hole_bytes(&self) -> u64 {
        self.size_bytes - self.segments.iter().map(|segment| segment.size_bytes).sum::<u64>()
    }
}

/// Reads the map of a GNU header, whose further blocks `next_block` delivers.
pub(super) fn from_gnu<E>(
    header: &tar::GnuHeader,
    mut next_block: impl FnMut() -> Result<[u8; BLOCK_BYTES], E>,
) -> Result<Option<Map>, E> {
    let mut segments = Vec::new();
    if !push_gnu(&mut segments, &header.sparse) {
        return Ok(None);
    }
    let mut more = header.isextended[0] != 0;
    while more {
        let mut extension = tar::GnuExtSparseHeader::new();
        *extension.as_mut_bytes() = next_block()?;
        if !push_gnu(&mut segments, extension.sparse()) || segments.len() > MAX_SEGMENTS {
            return Ok(None);
        }
        more = extension.is_extended();
    }
    Ok(unsigned(&header.realsize).map(|size_bytes| Map { size_bytes, segments }))
}

fn push_gnu(segments: &mut Vec<Segment>, headers: &[tar::GnuSparseHeader]) -> bool {
    headers.iter().take_while(|header| header.offset[0] != 0 && header.numbytes[0] != 0).all(|header| {
        let segment = unsigned(&header.offset).zip(unsigned(&header.numbytes));
        segments.extend(segment.map(|(offset, size_bytes)| Segment { offset, size_bytes }));
        segment.is_some()
    })
}

/// Makes parts of a list of offsets and lengths in turn (PAX version 0.0 and 0.1).
pub(super) fn from_numbers(numbers: &[u64]) -> Option<Vec<Segment>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    let segment = |[offset, size_bytes]: &[u64; 2]| Segment { offset: *offset, size_bytes: *size_bytes };
    (rest.is_empty() && pairs.len() <= MAX_SEGMENTS).then(|| pairs.iter().map(segment).collect())
}

/// Reads the map in front of the data (PAX version 1.0): decimal lines, padded to a block. The second value is how many
/// blocks it took.
pub(super) fn from_data<E>(
    mut next_block: impl FnMut() -> Result<[u8; BLOCK_BYTES], E>,
) -> Result<Option<(Vec<Segment>, u64)>, E> {
    let mut block = next_block()?;
    let (mut at, mut blocks) = (0, 1);
    let mut next_number = || {
        let mut digits = Vec::new();
        loop {
            if at == BLOCK_BYTES {
                block = next_block()?;
                at = 0;
                blocks += 1;
            }
            let byte = block[at];
            at += 1;
            if byte == b'\n' || digits.len() == 20 {
                return Ok(decimal(&digits).map(|number| (number, blocks)));
            }
            digits.push(byte);
        }
    };
    let Some((count, mut blocks)) = next_number()? else { return Ok(None) };
    if count > MAX_SEGMENTS as u64 {
        return Ok(None);
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        let Some((offset, _)) = next_number()? else { return Ok(None) };
        let Some((size_bytes, used)) = next_number()? else { return Ok(None) };
        segments.push(Segment { offset, size_bytes });
        blocks = used;
    }
    Ok(Some((segments, blocks)))
}

/// Reads a file from its beginning and gives zeros for its holes without reading them.
#[derive(Debug)]
pub struct HoleReader {
    file: File,
    position: u64,
    /// Where the data or the hole at `position` ends.
    until: u64,
    in_hole: bool,
}

impl HoleReader {
    /// Reads `file`, wherever its cursor is.
    pub fn new(file: File) -> Self {
        HoleReader { file, position: 0, until: 0, in_hole: false }
    }

    /// Finds out what is at `position` and how far it goes. A file system that knows no holes says: data to the end.
    fn look_ahead(&mut self) -> io::Result<()> {
        let size_bytes = self.file.metadata()?.len();
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(self.position)) {
            Ok(data) => data,
            // nothing but a hole up to the end, or the end itself
            Err(Errno::NXIO) => size_bytes,
            Err(Errno::INVAL | Errno::NOTSUP) => {
                rustix::fs::seek(&self.file, SeekFrom::Start(self.position))?;
                (self.in_hole, self.until) = (false, u64::MAX);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.in_hole = data > self.position;
        self.until = data;
        if !self.in_hole && data < size_bytes {
            self.until = rustix::fs::seek(&self.file, SeekFrom::Hole(data))?;
            rustix::fs::seek(&self.file, SeekFrom::Start(data))?;
        }
        Ok(())
    }
}

impl Read for HoleReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.until {
            self.look_ahead()?;
        }
        let len = buffer.len().min(usize::try_from(self.until - self.position).unwrap_or(usize::MAX));
        let n = if self.in_hole {
            buffer[..len].fill(0);
            len
        } else {
            self.file.read(&mut buffer[..len])?
        };
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn check_holes(size_bytes: u64, parts: &[(u64, &[u8])]) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size_bytes).unwrap();
        let mut expected = vec![0; size_bytes as usize];
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).unwrap();
            expected[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        let mut found = Vec::new();
        HoleReader::new(file).read_to_end(&mut found).unwrap();
        assert!(found == expected, "{size_bytes} {parts:?}");
    }

    #[test]
    fn holes_read_as_zeros_wherever_they_are() {
        check_holes(0, &[]);
        check_holes(1 << 20, &[]);
        check_holes(5, &[(0, b"hello")]);
        check_holes(1 << 20, &[(0, b"start")]);
        check_holes(1 << 20, &[((1 << 20) - 3, b"end")]);
        check_holes(3 << 20, &[(65536, b"one"), (1 << 20, &[7; 70_000])]);
    }

    fn blocks(text: &str) -> impl FnMut() -> Result<[u8; BLOCK_BYTES], ()> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut at = 0;
        move || {
            at += BLOCK_BYTES;
            bytes.get(at - BLOCK_BYTES..at).map(|block| block.try_into().unwrap()).ok_or(())
        }
    }

    #[test]
    fn a_map_in_front_of_the_data_may_span_blocks() {
        let text: String =
            (0..200).flat_map(|n| [n * 4096, 512]).fold("200\n".to_owned(), |text, n| format!("{text}{n}\n"));
        let (segments, used) = from_data(blocks(&text)).unwrap().unwrap();
        assert_eq!((segments.len(), used), (200, text.len().div_ceil(BLOCK_BYTES) as u64));
        assert_eq!(segments[199], Segment { offset: 199 * 4096, size_bytes: 512 });
    }

    #[test]
    fn maps_that_are_none_are_refused() {
        for text in ["", "x\n", "99999999\n", "1\n5\nx\n", "123456789012345678901234567890\n"] {
            assert!(!matches!(from_data(blocks(text)), Ok(Some(_))), "{text}");
        }
        let map = |segments: &[(u64, u64)], size_bytes| {
            let segments = segments
                .iter()
                .map(|(offset, size_bytes)| Segment { offset: *offset, size_bytes: *size_bytes });
            Map { size_bytes, segments: segments.collect() }
        };
        assert!(map(&[(0, 5), (10, 5)], 20).check(10).is_some());
        assert!(map(&[(10, 5), (0, 5)], 20).check(10).is_none(), "out of order");
        assert!(map(&[(0, 5), (4, 5)], 20).check(10).is_none(), "overlap");
        assert!(map(&[(0, 5), (16, 5)], 20).check(10).is_none(), "beyond the end");
        assert!(map(&[(0, 5)], 20).check(6).is_none(), "another length than stored");
        assert!(map(&[(u64::MAX, 5)], 20).check(5).is_none(), "overflow");
    }
}
