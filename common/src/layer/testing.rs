//! Tars made by hand for tests, the wrong ones above all.

use super::block::{BLOCK_BYTES, checksum};
use super::pax::push_record;

/// A tar under construction. Nothing is checked: what a test asks for is what it gets.
#[derive(Clone, Default)]
pub(crate) struct TarBytes(Vec<u8>);

impl TarBytes {
    pub(crate) fn new() -> Self {
        TarBytes::default()
    }

    /// A header with mode 0644, owner 1:2 and time 3, and data behind it.
    pub(crate) fn entry(self, typeflag: u8, path: &str, link: &str, data: &[u8]) -> Self {
        self.entry_saying(typeflag, path, link, data.len() as u64, data)
    }

    /// The same with another size in the header than the data has.
    pub(crate) fn entry_saying(
        self,
        typeflag: u8,
        path: &str,
        link: &str,
        size_bytes: u64,
        data: &[u8],
    ) -> Self {
        let size = format!("{size_bytes:011o}");
        self.block(|block| {
            block[..path.len()].copy_from_slice(path.as_bytes());
            block[100..108].copy_from_slice(b"0000644\0");
            block[108..116].copy_from_slice(b"0000001\0");
            block[116..124].copy_from_slice(b"0000002\0");
            block[124..135].copy_from_slice(size.as_bytes());
            block[136..147].copy_from_slice(b"00000000003");
            block[156] = typeflag;
            block[157..157 + link.len()].copy_from_slice(link.as_bytes());
            block[257..265].copy_from_slice(b"ustar\x0000");
        })
        .raw(data)
        .pad()
    }

    /// A header whose fields `edit` sets; the checksum is right afterwards.
    pub(crate) fn block(mut self, edit: impl FnOnce(&mut [u8; BLOCK_BYTES])) -> Self {
        let mut block = [0; BLOCK_BYTES];
        edit(&mut block);
        let sum = format!("{:06o}\0 ", checksum(&block));
        block[148..156].copy_from_slice(sum.as_bytes());
        self.0.extend_from_slice(&block);
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", data)
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    /// A PAX header for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extension(b'x', records)
    }

    /// A PAX header of type `x` or `g`.
    pub(crate) fn extension(self, typeflag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            push_record(&mut data, key.as_bytes(), value);
        }
        self.entry(typeflag, "PaxHeader", "", &data)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn pad(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(BLOCK_BYTES), 0);
        self
    }

    /// The bytes with two blocks of zeros at the end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK_BYTES, 0);
        self.0
    }

    /// The bytes as they are.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.0
    }
}
