//! Digests of files that were read before, by what `stat` says of them.
//!
//! One file a build context, `cache/contexts/<device>-<inode of its root>`:
//!
//! ```text
//! "gantrySC" · version (u32) · count (u32)
//! entry*      device · inode · size · mtime · ctime (nanoseconds) · flags · SHA-256
//! SHA-256 of all before
//! ```
//! All numbers are little-endian, 8 bytes each but where said. A file is the same when all five numbers are. The
//! racy-clean rule of git's index: a file that was changed within a clock tick of being read is not remembered, since
//! a later change could leave the same numbers. The file is replaced as a whole; of two builds at once the last one
//! wins, which loses knowledge and nothing else. A damaged one is as good as none.

use std::collections::HashMap;
use std::path::PathBuf;

use common::digest::{Algorithm, Digest};
use common::store::Store;
use rustix::fs::Stat;

use super::signature::Signature;
use crate::disk;

const MAGIC: &[u8; 8] = b"gantrySC";
const VERSION: u32 = 1;
const ENTRY_BYTES: usize = 6 * 8 + 32;
const HAS_CAPABILITY: u64 = 1;

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub digest: Digest,
    /// Whether the file has `security.capability`.
    pub has_capability: bool,
}

/// The last known state of each file, by device and inode.
type Entries = HashMap<(u64, u64), (Signature, Known)>;

/// The digests of one context.
#[derive(Debug)]
pub(super) struct StatCache {
    path: PathBuf,
    entries: Entries,
    changed: bool,
}

impl StatCache {
    /// What is known of the context whose root is `root`.
    pub(super) fn load(store: &Store, root: &Stat) -> Self {
        let signature = Signature::of(root);
        let name = format!("{:x}-{:x}", signature.device, signature.inode);
        let path = store.paths().cache().join("contexts").join(name);
        let entries = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        StatCache { path, entries, changed: false }
    }

    pub(super) fn get(&self, signature: &Signature) -> Option<&Known> {
        let (state, known) = self.entries.get(&signature.file())?;
        (state == signature).then_some(known)
    }

    /// Remembers a file that was read when it was `now` (nanoseconds since 1970).
    pub(super) fn insert(&mut self, signature: Signature, known: Known, now: i128) {
        if !signature.is_racy(now) {
            self.entries.insert(signature.file(), (signature, known));
            self.changed = true;
        }
    }

    /// Keeps what is known for the next build. A failure costs time later and nothing else.
    pub(super) fn save(&mut self, store: &Store) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        if let Err(error) = disk::replace(store, &self.path, &encode(&self.entries)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot keep the digests of the build context");
        }
    }
}

fn encode(entries: &Entries) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48 + entries.len() * ENTRY_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (signature, known) in entries.values().take(u32::MAX as usize) {
        for number in [signature.device, signature.inode, signature.size_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [signature.mtime, signature.ctime] {
            bytes.extend_from_slice(&time.to_le_bytes());
        }
        bytes.extend_from_slice(&(if known.has_capability { HAS_CAPABILITY } else { 0 }).to_le_bytes());
        bytes.extend(binary(&known.digest));
    }
    let sum = Digest::sha256(&bytes);
    bytes.extend(binary(&sum));
    bytes
}

fn decode(bytes: &[u8]) -> Option<Entries> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if binary(&Digest::sha256(body)).ne(sum.iter().copied()) {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    let (_count, entries) = rest.split_at_checked(4)?;
    entries
        .chunks(ENTRY_BYTES)
        .map(decode_entry)
        .map(|entry| entry.map(|entry| (entry.0.file(), entry)))
        .collect()
}

fn decode_entry(bytes: &[u8]) -> Option<(Signature, Known)> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?));
    let signature = Signature {
        device: number(0)?,
        inode: number(1)?,
        size_bytes: number(2)?,
        mtime: number(3)?.cast_signed(),
        ctime: number(4)?.cast_signed(),
    };
    let digest = Digest::new(Algorithm::Sha256, &common::digest::hex(bytes.get(48..ENTRY_BYTES)?)).ok()?;
    Some((signature, Known { digest, has_capability: number(5)? & HAS_CAPABILITY != 0 }))
}

/// The 32 bytes that a SHA-256 digest spells.
fn binary(digest: &Digest) -> impl Iterator<Item = u8> {
    let nibble = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
    digest.hex().as_bytes().chunks_exact(2).map(move |pair| nibble(pair[0]) << 4 | nibble(pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(mtime: i64) -> Signature {
        Signature { device: 1, inode: 2, size_bytes: 3, mtime, ctime: mtime }
    }

    #[test]
    fn what_was_written_is_read() {
        let known = Known { digest: Digest::sha256(b"x"), has_capability: true };
        let entries = HashMap::from([((1, 2), (signature(-5), known))]);
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes), Some(entries));
        let mut damaged = bytes.clone();
        damaged[20] ^= 1;
        assert_eq!(decode(&damaged), None);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_file_that_was_just_written_is_not_trusted() {
        let second = 1_000_000_000_i64;
        assert!(signature(5 * second + 1).is_racy(i128::from(5 * second + 10)));
        assert!(!signature(5 * second + 1).is_racy(i128::from(6 * second)));
        assert!(signature(5 * second).is_racy(i128::from(6 * second)), "a clock of whole seconds");
    }
}
