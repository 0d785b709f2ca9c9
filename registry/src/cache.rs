//! Manifests in memory, by digest.
//!
//! Holds bytes only. Whether a repository has that manifest is asked of the store each time, so a deleted manifest is
//! gone at once, in every repository and whoever deleted it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use common::digest::Digest;

/// Two generations: what is asked for moves to the young one; when that is full, the old one is forgotten and the
/// young one becomes old. So what is in use stays, without a list to keep in order.
#[derive(Debug)]
pub(crate) struct Cache {
    generation_bytes: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Bytes>,
    young_bytes: usize,
    old: HashMap<Digest, Bytes>,
}

impl Cache {
    /// A cache that holds at most `limit_bytes` of manifests.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Cache { generation_bytes: limit_bytes / 2, generations: Mutex::default() }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = generations.young.get(digest) {
            return Some(bytes.clone());
        }
        let bytes = generations.old.remove(digest)?;
        generations.insert(digest.clone(), bytes.clone(), self.generation_bytes);
        Some(bytes)
    }

    /// Remembers `bytes`, which have this digest. What would fill a generation alone is not remembered.
    pub(crate) fn put(&self, digest: Digest, bytes: Bytes) {
        if bytes.len() <= self.generation_bytes {
            let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
            generations.insert(digest, bytes, self.generation_bytes);
        }
    }
}

impl Generations {
    fn insert(&mut self, digest: Digest, bytes: Bytes, generation_bytes: usize) {
        if self.young_bytes + bytes.len() > generation_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        let size_bytes = bytes.len();
        if self.young.insert(digest, bytes).is_none() {
            self.young_bytes += size_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_the_limit_holds() {
        let cache = Cache::new(1000);
        let manifest = |n: u32| Bytes::from(format!("{n:0100}"));
        let digest = |n: u32| Digest::sha256(&manifest(n));
        for n in 0..100 {
            cache.put(digest(n), manifest(n));
            assert_eq!(cache.get(&digest(0)), Some(manifest(0)), "{n}");
        }
        assert_eq!(cache.get(&digest(50)), None);
        let held = (0..100).filter(|&n| cache.get(&digest(n)).is_some()).count();
        assert!(held <= 10, "{held}");
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let cache = Cache::new(100);
        cache.put(Digest::sha256(&[0; 51]), Bytes::from_static(&[0; 51]));
        assert_eq!(cache.get(&Digest::sha256(&[0; 51])), None);
    }
}
