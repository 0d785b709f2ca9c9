//! What steps came to, by what went into them.
//!
//! `cache/steps/<hh>/<hex>`: one file a record, two lines of JSON, the result and the components of its key:
//!
//! ```text
//! {"version":1,"diff_id":"sha256:…","created":"2026-11-21T09:00:00Z"}
//! [["kind","copy"],["below","sha256:…"],["source a.txt","file 644 0:0 sha256:…"],…]
//! ```
//! The key is the SHA-256 of a version and each component's name and value, each with its length in front, so that no
//! two lists of components can have one key. The components stay readable: they tell why a step was not found. What goes
//! in and what does not: see [`Key`]'s users; times, proxies and the contents of secrets and cache mounts never do.
//!
//! `cache/previous/<hex>`: the diff ID that a step of the same place (context, stage, instruction) had last time, so that
//! the new version of a layer can be compressed as one. A hint and no more.
//!
//! Records are written once, replaced as a whole and never locked. One whose layer is gone, or that cannot be read, is
//! none. Anybody who adds, drops or redefines a component raises [`VERSION`].

use std::path::PathBuf;

use common::digest::{Algorithm, Digest};
use common::layer;
use common::store::Store;
use serde::{Deserialize, Serialize};

use crate::disk;

/// Of the key and the record alike.
const VERSION: u32 = 1;

/// What goes into a step, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Key {
    components: Vec<(String, String)>,
}

/// What came out of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    version: u32,
    /// The layer.
    pub diff_id: Digest,
    /// When the step ran, RFC 3339.
    pub created: String,
}

impl Outcome {
    pub(crate) fn new(diff_id: Digest, created: String) -> Self {
        Outcome { version: VERSION, diff_id, created }
    }
}

impl Key {
    /// A key for a kind of step: `copy`, `run` …
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Key::default();
        key.add("kind", kind);
        key
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.components.push((name.into(), value.into()));
    }

    /// Adds each of `values` under the same name; how many they are is part of the key.
    pub(crate) fn add_all<'v>(&mut self, name: &str, values: impl IntoIterator<Item = &'v String>) {
        for value in values {
            self.add(name, value);
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(format!("gantry step {VERSION}\n").as_bytes());
        for (name, value) in &self.components {
            for text in [name, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        hasher.finish()
    }
}

/// The records of one store.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    store: Store,
}

impl Cache {
    pub(crate) fn new(store: &Store) -> Self {
        Cache { store: store.clone() }
    }

    /// What a step of this key came to, if that is still here.
    pub(crate) fn get(&self, key: &Key) -> Option<Outcome> {
        let bytes = std::fs::read(self.path(key)).ok()?;
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        let outcome: Outcome = serde_json::from_slice(line).ok()?;
        let here =
            outcome.version == VERSION && layer::exists(&self.store, &outcome.diff_id).unwrap_or(false);
        here.then_some(outcome)
    }

    /// Remembers what a step of this key came to. A failure costs time later and nothing else.
    pub(crate) fn put(&self, key: &Key, outcome: &Outcome) {
        let path = self.path(key);
        let mut bytes = serde_json::to_vec(outcome).expect("plain data becomes JSON");
        bytes.push(b'\n');
        serde_json::to_writer(&mut bytes, &key.components).expect("plain data becomes JSON");
        bytes.push(b'\n');
        if let Err(error) = disk::replace(&self.store, &path, &bytes) {
            tracing::warn!(path = %path.display(), %error, "cannot remember a build step");
        }
    }

    /// The layer that the step at `place` made last.
    pub(crate) fn previous(&self, place: &Key) -> Option<Digest> {
        std::fs::read_to_string(self.previous_path(place)).ok()?.trim_end().parse().ok()
    }

    /// Remembers the layer that the step at `place` made.
    pub(crate) fn set_previous(&self, place: &Key, diff_id: &Digest) {
        let path = self.previous_path(place);
        if let Err(error) = disk::replace(&self.store, &path, format!("{diff_id}\n").as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "cannot remember a layer");
        }
    }

    fn previous_path(&self, place: &Key) -> PathBuf {
        self.store.paths().cache().join("previous").join(place.digest().hex())
    }

    fn path(&self, key: &Key) -> PathBuf {
        let digest = key.digest();
        self.store.paths().cache().join("steps").join(&digest.hex()[..2]).join(digest.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_component_ends_is_part_of_the_key() {
        let key = |components: &[(&str, &str)]| {
            let mut key = Key::new("copy");
            components.iter().for_each(|(name, value)| key.add(*name, *value));
            key.digest()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", ""), ("b", "")]), key(&[("ab", "")]));
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
    }
}
