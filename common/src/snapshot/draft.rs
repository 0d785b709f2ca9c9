//! A tree that something may change, and the layer that becomes of the changes.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::{Overlay, SnapshotError, Snapshots, Stacking, TREE, Upper, WORK, ids, new_upper, open_folder};
use crate::digest::Digest;
use crate::layer::root::Root;
use crate::layer::stored::{CreateOptions, StoredLayer, create};
use crate::layer::{DiffOptions, TreeKind, WriterOptions, XattrChoice, diff};
use crate::store::{Scratch, StoreError};

/// A writable tree without a name; dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    snapshots: Snapshots,
    diff_ids: Vec<Digest>,
    lowers: Vec<PathBuf>,
    scratch: Scratch,
}

/// How changes become a layer.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// No time in the layer is later than this, in seconds since 1970.
    pub clamp: Option<i64>,
    /// Paths, without a leading `/`, that were put there as places for mounts; see [`DiffOptions::exclude`].
    pub exclude: BTreeSet<Vec<u8>>,
    /// Which extended attributes are kept.
    pub xattrs: XattrChoice,
    /// The layer that the same step gave last time, see [`CreateOptions::previous`].
    pub previous: Option<Digest>,
}

impl Draft {
    pub(super) fn new(snapshots: &Snapshots, diff_ids: &[Digest]) -> Result<Self, SnapshotError> {
        let scratch = snapshots.store.scratch()?;
        let lowers = match snapshots.stacking() {
            Stacking::Overlay => {
                let mut lowers = snapshots.ensure(diff_ids)?.lowers;
                new_upper(&scratch, lowers.first())?;
                if lowers.is_empty() {
                    // Overlayfs wants something below.
                    let empty = scratch.path().join("empty");
                    fs::create_dir(&empty).map_err(StoreError::io("make", &empty))?;
                    lowers.push(empty);
                }
                lowers
            }
            Stacking::Whole => {
                snapshots.ensure(diff_ids)?;
                snapshots.copy_below(diff_ids, &scratch)?;
                Vec::new()
            }
        };
        Ok(Draft { snapshots: snapshots.clone(), diff_ids: diff_ids.to_vec(), lowers, scratch })
    }

    /// What to mount, by [`super::mount_detached`] in the mount namespace of whatever runs in it.
    pub fn overlay(&self) -> Overlay {
        let [tree, work] = [TREE, WORK].map(|name| self.scratch.path().join(name));
        Overlay { lowers: self.lowers.clone(), upper: Some(Upper { tree, work, volatile: true }) }
    }

    /// Makes a layer of what changed; one without entries when nothing did. The tree becomes that of the layers below
    /// and the new one. Nothing may use the tree any more.
    ///
    /// # Errors
    /// [`SnapshotError`]: the tree cannot be read, or the layer not be stored.
    pub fn commit(self, options: &CommitOptions) -> Result<StoredLayer, SnapshotError> {
        let store = &self.snapshots.store;
        let below = Root::open(store, &self.diff_ids)?;
        let tree = open_folder(&self.scratch.path().join(TREE))?;
        let diff_options = DiffOptions {
            tree: match self.snapshots.stacking() {
                Stacking::Overlay => TreeKind::Upper { notes: ids::overlay_notes() },
                Stacking::Whole => TreeKind::Whole,
            },
            owners: self.snapshots.ids.owners,
            clamp: options.clamp,
            xattrs: options.xattrs,
            exclude: options.exclude.clone(),
        };
        let writer = WriterOptions { clamp: options.clamp };
        let create_options = CreateOptions { writer, previous: options.previous.clone() };
        let layer = create(store, &create_options, |writer| -> Result<(), SnapshotError> {
            Ok(diff(tree.as_fd(), &below, &diff_options, writer)?)
        })?;
        let mut diff_ids = self.diff_ids;
        diff_ids.push(layer.diff_id.clone());
        let place = self.snapshots.place(&diff_ids);
        place.make(|| Ok(self.scratch))?;
        Ok(layer)
    }
}
