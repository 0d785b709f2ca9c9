//! Whether the whole store is sound: every byte is what its digest says, and every name leads somewhere.
//!
//! References are looked at first and bytes second: writers go the other way round, so whatever was named when it was
//! looked at has its bytes by then, and a store may be checked while it is in use. A fault that involves a name is
//! reported only if the name is still there at a second look.
//!
//! What is in none of the store's places was put there by somebody else: `shape` names it, all others pass over it.
//!
//! Nothing is repaired, but what dead processes left is swept first, as at every opening, and damaged blobs, tars and tables
//! are taken out where that is asked for: as long as a damaged blob or tar is there, nobody brings it again, and a damaged
//! table of a layer that nobody needs would stay for ever.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::Store;
use super::error::StoreError;
use crate::digest::Digest;

mod bytes;
mod records;
mod references;
mod report;
mod shape;
#[cfg(test)]
mod tests;

pub use report::{CheckReport, Fault, Holder, Note, Record};

/// How to check.
#[derive(Clone, Copy)]
pub struct CheckOptions<'a> {
    /// How many threads read and hash.
    pub threads: usize,
    /// The collector's grace period, where one runs: a blob that nothing has reached for two of them is a fault.
    pub grace: Option<Duration>,
    /// Blobs, and tars and tables of layers, that are damaged are removed, so that a pull, push, load, import or build brings
    /// them again.
    pub remove_damaged: bool,
    /// Is told of the progress, from any thread.
    pub progress: &'a (dyn Fn(CheckEvent) + Sync),
}

impl std::fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckOptions")
            .field("threads", &self.threads)
            .field("grace", &self.grace)
            .field("remove_damaged", &self.remove_damaged)
            .finish_non_exhaustive()
    }
}

impl Default for CheckOptions<'_> {
    fn default() -> Self {
        CheckOptions { threads: 2, grace: None, remove_damaged: false, progress: &|_| {} }
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckEvent {
    /// References have been looked at; reading begins.
    Reading {
        /// How many files will be read.
        files: u64,
        /// How many bytes they have.
        size_bytes: u64,
    },
    /// Some more bytes have been read and hashed.
    Read {
        /// How many.
        size_bytes: u64,
    },
}

impl Store {
    /// Checks the whole store; see the report for what was found. Only a store that cannot be looked at is an error.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder of the store cannot be listed.
    pub fn check(&self, options: &CheckOptions<'_>) -> Result<CheckReport, StoreError> {
        self.sweep()?;
        self.sweep_uploads()?;
        let mut check = Check {
            store: self,
            report: CheckReport::default(),
            reached: HashSet::new(),
            needed: HashSet::new(),
            dispensable: HashMap::new(),
        };
        check.shape()?;
        check.unfinished()?;
        check.served()?;
        check.local()?;
        check.images()?;
        check.layers(options)?;
        check.refs()?;
        check.steps()?;
        check.containers()?;
        check.bytes(options)?;
        check.report.faults.sort_by_cached_key(Fault::to_string);
        // Several images may need the same layer.
        check.report.faults.dedup_by_key(|fault| fault.to_string());
        Ok(check.report)
    }
}

struct Check<'s> {
    store: &'s Store,
    report: CheckReport,
    /// All blobs that something names.
    reached: HashSet<Digest>,
    /// Layers that images need.
    needed: HashSet<Digest>,
    /// Blobs, and the records that say of which layers they are forms: those that are of no use without the blob, as the next
    /// push or save makes it again from the layer's tar, or as no image needs the layer.
    dispensable: HashMap<Digest, Vec<PathBuf>>,
}
