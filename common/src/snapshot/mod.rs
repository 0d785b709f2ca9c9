//! Unpacked layers, stacked by overlayfs.
//!
//! ```text
//! snapshots/<ids>/<alg>/<hh>/<hex>/   one folder per id mapping and chain ID
//!     tree/                           the layer unpacked upon its parents
//!     made                            the boot id under which that was done, or `durable`
//! ingest/<id>/tree, work              a tree that is being made: see `common::store`
//! ```
//! A tree is made by applying its layer to an overlay mount of its parents, whose upper folder it is; the lowest one by
//! applying to an empty folder. So the trees of a stack are what overlayfs takes as lower folders. Where nothing can be
//! mounted, `<ids>` ends in `-whole` and a tree is a full copy of its parents with the layers applied to it.
//!
//! Who makes a tree holds the `flock` of its folder; others wait and find it made. Reading takes no lock. A tree gets
//! its name by a rename and is never changed under it.
//!
//! A tree is derived data, made again from its layers when it is lost, so nothing waits for the disk while one is made.
//! Instead `made` says in which boot that was: within it the page cache makes the tree whole, whatever dies; after a
//! power cut or a reboot it is not believed and the tree is made again. A tree that is used a while later is written to
//! the disk with all others of its stack, and then believed for good (`durable`).
//!
//! Mounts are detached and live as long as a descriptor: nothing is left of them after a crash, and what was being made
//! is swept out of `ingest/`. What runs in a tree, and where it is attached, is the engine's affair.

mod check;
mod copy;
mod draft;
mod ids;
mod lock;
mod overlay;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::digest::Digest;
use crate::layer::stored::{LayerError, read_tar};
use crate::layer::{ApplyError, ApplyOptions, DiffError, Limits, apply, chain_id};
use crate::store::{Scratch, Store, StoreError, remove_tree};

pub use check::{TreeFault, TreeReport};
pub use draft::{CommitOptions, Draft};
pub use ids::Ids;
pub use overlay::{MountError, Overlay, ProbeError, Upper, mount_detached, probe};

/// Why a tree cannot be made or become a layer.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A layer cannot be read or stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {diff_id}")]
    Apply {
        /// The layer.
        diff_id: Digest,
        /// What is wrong.
        source: ApplyError,
    },
    /// The changes in a tree cannot become a layer.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The trees below cannot be stacked.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the trees of a stack lie upon each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stacking {
    /// Each holds the changes of one layer.
    Overlay,
    /// Each holds everything.
    Whole,
}

/// The unpacked layers of a store, for the id mapping of this process.
#[derive(Debug, Clone)]
pub struct Snapshots {
    store: Store,
    ids: Ids,
    stacking: OnceLock<Stacking>,
}

/// A stack of layers, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folders to be stacked, topmost first; none for no layers.
    pub lowers: Vec<PathBuf>,
}

impl Snapshots {
    /// The unpacked layers of `store`. How they are stacked is found out when it matters.
    pub fn new(store: &Store) -> Self {
        Snapshots { store: store.clone(), ids: Ids::current(), stacking: OnceLock::new() }
    }

    /// The same, stacked as told.
    pub fn with_stacking(store: &Store, stacking: Stacking) -> Self {
        Snapshots { store: store.clone(), ids: Ids::current(), stacking: stacking.into() }
    }

    /// Whether overlayfs works in this store, tried by a real mount.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn probe(&self) -> Result<(), ProbeError> {
        probe(self.store.scratch()?.path())
    }

    /// How trees lie upon each other here.
    pub fn stacking(&self) -> Stacking {
        *self.stacking.get_or_init(|| match self.probe() {
            Ok(()) => Stacking::Overlay,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "layers are copied, not stacked");
                Stacking::Whole
            }
        })
    }

    /// Unpacks what is missing of the layers `diff_ids`, lowest first, and says where they are.
    ///
    /// # Errors
    /// [`SnapshotError`]: a layer is missing or hostile, or the file system refuses.
    pub fn ensure(&self, diff_ids: &[Digest]) -> Result<Snapshot, SnapshotError> {
        let lowers = match self.stacking() {
            Stacking::Overlay => self.ensure_stacked(diff_ids)?,
            Stacking::Whole => self.ensure_whole(diff_ids)?,
        };
        self.make_durable(&lowers)?;
        Ok(Snapshot { lowers })
    }

    /// A writable tree upon the layers `diff_ids`, lowest first.
    ///
    /// # Errors
    /// As [`Snapshots::ensure`].
    pub fn prepare(&self, diff_ids: &[Digest]) -> Result<Draft, SnapshotError> {
        Draft::new(self, diff_ids)
    }

    fn ensure_stacked(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut lowers = Vec::new();
        for (at, diff_id) in diff_ids.iter().enumerate() {
            let place = self.place(&diff_ids[..=at]);
            place.make(|| {
                let scratch = self.store.scratch()?;
                let upper = new_upper(&scratch, lowers.first())?;
                let root = match lowers.is_empty() {
                    true => open_folder(&upper.tree)?,
                    false => mount_detached(&Overlay { lowers: lowers.clone(), upper: Some(upper) })?,
                };
                self.apply(diff_id, &root)?;
                Ok(scratch)
            })?;
            lowers.insert(0, place.tree());
        }
        Ok(lowers)
    }

    fn ensure_whole(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>, SnapshotError> {
        if diff_ids.is_empty() {
            return Ok(Vec::new());
        }
        let place = self.place(diff_ids);
        place.make(|| {
            let scratch = self.store.scratch()?;
            let (below, rest) = self.copy_below(diff_ids, &scratch)?;
            tracing::debug!(copied = below, applied = rest.len(), "made a whole tree");
            let root = open_folder(&scratch.path().join(TREE))?;
            rest.iter().try_for_each(|diff_id| self.apply(diff_id, &root))?;
            Ok(scratch)
        })?;
        Ok(vec![place.tree()])
    }

    /// Copies the tree of as many of the layers as there is one for; how many, and the others.
    fn copy_below<'a>(
        &self,
        diff_ids: &'a [Digest],
        scratch: &Scratch,
    ) -> Result<(usize, &'a [Digest]), SnapshotError> {
        for count in (1..=diff_ids.len()).rev() {
            let place = self.place(&diff_ids[..count]);
            if place.is_made()? {
                let upper = new_upper(scratch, Some(&place.tree()))?;
                let (from, to) = (open_folder(&place.tree())?, open_folder(&upper.tree)?);
                copy::copy_tree(from.as_fd(), to.as_fd(), self.ids.owners)
                    .map_err(StoreError::io("copy", &place.tree()))?;
                return Ok((count, &diff_ids[count..]));
            }
        }
        new_upper(scratch, None)?;
        Ok((0, diff_ids))
    }

    fn apply(&self, diff_id: &Digest, root: &OwnedFd) -> Result<(), SnapshotError> {
        let options = ApplyOptions { owners: self.ids.owners, limits: Limits::default() };
        tracing::debug!(%diff_id, "unpacking a layer");
        apply(read_tar(&self.store, diff_id)?, root.as_fd(), &options)
            .map_err(|source| SnapshotError::Apply { diff_id: diff_id.clone(), source })
    }

    fn place(&self, diff_ids: &[Digest]) -> Place {
        let ids = match self.stacking() {
            Stacking::Overlay => self.ids.name.clone(),
            Stacking::Whole => format!("{}-whole", self.ids.name),
        };
        Place { folder: self.store.paths().snapshot(&ids, &chain_id(diff_ids)) }
    }

    /// Writes trees to the disk that were made in this boot and turned out to be needed for longer.
    fn make_durable(&self, trees: &[PathBuf]) -> Result<(), SnapshotError> {
        let places: Vec<Place> = trees.iter().filter_map(|tree| Place::of(tree)).collect();
        if !places.iter().any(Place::is_worth_syncing) {
            return Ok(());
        }
        let store = open_folder(self.store.root())?;
        rustix::fs::syncfs(&store).map_err(StoreError::errno("sync", self.store.root()))?;
        let scratch = self.store.scratch()?;
        let mut young = places.iter().filter(|place| !place.is_durable());
        young.try_for_each(|place| place.mark_durable(&scratch))
    }
}

const TREE: &str = "tree";
const WORK: &str = "work";

/// What [`Place::made`] holds once the tree is on the disk.
const DURABLE: &str = "durable";

/// How long a tree must have been there before it is written to the disk for good; by then most of it is.
const WORTH_SYNCING: Duration = Duration::from_secs(60);

/// The folder of one tree.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn of(tree: &Path) -> Option<Self> {
        Some(Place { folder: tree.parent()?.to_owned() })
    }

    fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }

    fn made(&self) -> PathBuf {
        self.folder.join("made")
    }

    /// Whether the tree is there and whole.
    fn is_made(&self) -> Result<bool, StoreError> {
        let made = self.made();
        let text = match fs::read_to_string(&made) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            text => text.map_err(StoreError::io("read", &made))?,
        };
        let believed = text == DURABLE || text == boot_id()?;
        Ok(believed && self.tree().try_exists().map_err(StoreError::io("read", &self.tree()))?)
    }

    /// Has the tree made in a scratch folder by `make`, unless it is there.
    fn make(&self, make: impl FnOnce() -> Result<Scratch, SnapshotError>) -> Result<(), SnapshotError> {
        if self.is_made()? {
            return Ok(());
        }
        let _lock = self.lock()?;
        if !self.is_made()? {
            self.put(make()?)?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<OwnedFd, StoreError> {
        lock::make_and_lock(&self.folder).map_err(StoreError::io("lock", &self.folder))
    }

    /// Gives the tree in `scratch` its name. The caller has the lock, and there is no tree that is whole.
    fn put(&self, scratch: Scratch) -> Result<(), StoreError> {
        let (made, tree) = (self.made(), self.tree());
        for stale in [&made, &tree] {
            remove_tree(CWD, stale.as_os_str().as_encoded_bytes())
                .map_err(StoreError::errno("remove", stale))?;
        }
        fs::write(&made, boot_id()?).map_err(StoreError::io("write", &made))?;
        fs::rename(scratch.path().join(TREE), &tree).map_err(StoreError::io("create", &tree))
    }

    fn is_worth_syncing(&self) -> bool {
        let made = self.made();
        let age = fs::metadata(&made)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age >= WORTH_SYNCING) && !self.is_durable()
    }

    fn is_durable(&self) -> bool {
        fs::read_to_string(self.made()).is_ok_and(|text| text == DURABLE)
    }

    /// Says that the tree is on the disk. The mark itself need not be: one that a power cut empties is not believed.
    fn mark_durable(&self, scratch: &Scratch) -> Result<(), SnapshotError> {
        let (new, made) = (scratch.path().join("made"), self.made());
        let write = || {
            fs::write(&new, DURABLE)?;
            fs::rename(&new, &made)
        };
        write().map_err(StoreError::io("write", &made))?;
        Ok(())
    }
}

/// Makes `tree` and `work` in `scratch`. The root of the new tree looks like that of the one below.
fn new_upper(scratch: &Scratch, below: Option<&PathBuf>) -> Result<Upper, StoreError> {
    let [tree, work] = [TREE, WORK].map(|name| scratch.path().join(name));
    for folder in [&tree, &work] {
        fs::create_dir(folder).map_err(StoreError::io("make", folder))?;
    }
    let below = below.map(|below| open_folder(below)).transpose()?;
    copy::set_root(below.as_ref().map(AsFd::as_fd), open_folder(&tree)?.as_fd())
        .map_err(StoreError::io("change", &tree))?;
    Ok(Upper { tree, work, volatile: true })
}

fn open_folder(path: &Path) -> Result<OwnedFd, StoreError> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(StoreError::errno("open", path))
}

/// What is different after each start of the machine.
fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(StoreError::io("read", path))?;
    Ok(text.trim_end().to_owned())
}
