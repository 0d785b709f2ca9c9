//! Whether trees are still what was unpacked.
//!
//! A tree is compared with what its layers look like from above: names, kinds, sizes, targets, contents, and modes and owners
//! where files have those that the layers name. The stack that a tree is of is found from its chain ID, among those of images
//! and by laying the layers of the store upon other trees; where some are gone, there is nothing to compare it with. Trees of other id mappings,
//! whose files this process may not read, and those that are not believed anyway are left out.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, OFlags, Stat, major, minor, readlinkat, statat};

use super::{Place, Snapshots, Stacking, TREE, open_folder};
use crate::digest::{Digest, Hashing};
use crate::layer::beneath::{self, FOLDER, join, names};
use crate::layer::root::{Follow, Root};
use crate::layer::{Entry, HoleReader, Kind, Owners, chain_id};
use crate::oci::{CONFIG_LIMIT_BYTES, ImageConfig};
use crate::store::StoreError;

/// As many faults of one tree are told: they all end when it is unpacked again.
const FAULTS_TOLD: usize = 20;

/// What a check of the trees has found.
#[derive(Debug, Default)]
pub struct TreeReport {
    /// Trees that were compared.
    pub trees: u64,
    /// Trees of which some layers are not in the store any more.
    pub unknown: u64,
    /// What is wrong, sorted.
    pub faults: Vec<TreeFault>,
}

/// Something in a tree that is not as its layers say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error(
    "unpacked layer at {}: `{}` {fault}; remove that folder when no container uses it, and it is unpacked again",
    folder.display(),
    String::from_utf8_lossy(path)
)]
pub struct TreeFault {
    /// The tree's folder.
    pub folder: PathBuf,
    /// Where in the tree.
    pub path: Vec<u8>,
    /// What is wrong.
    pub fault: &'static str,
}

/// A tree and the layers it was made of, lowest first.
struct Task {
    place: Place,
    stacking: Stacking,
    diff_ids: Vec<Digest>,
}

impl Snapshots {
    /// Compares all trees of this id mapping with their layers, on `threads` threads.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder of the store cannot be listed.
    pub fn check(&self, threads: usize) -> Result<TreeReport, StoreError> {
        let mut trees = Vec::new();
        for (stacking, suffix) in [(Stacking::Overlay, ""), (Stacking::Whole, "-whole")] {
            let ids = format!("{}{suffix}", self.ids.name);
            for chain in digests(&self.store.paths().snapshots(&ids))? {
                let place = Place { folder: self.store.paths().snapshot(&ids, &chain) };
                if place.is_made()? {
                    trees.push((place, stacking, chain));
                }
            }
        }
        let stacks = self.stacks(trees.iter().map(|(.., chain)| chain.clone()).collect())?;
        let mut report = TreeReport::default();
        let mut tasks = Vec::new();
        for (place, stacking, chain) in trees {
            match stacks.get(&chain) {
                Some(diff_ids) => tasks.push(Task { place, stacking, diff_ids: diff_ids.clone() }),
                None => report.unknown += 1,
            }
        }
        report.trees = tasks.len() as u64;
        report.faults = self.compare_all(&tasks, threads);
        report.faults.sort();
        Ok(report)
    }

    /// The stacks that have these chain IDs, as far as their layers are here: those of images, and what lies upon a tree.
    fn stacks(&self, mut wanted: HashSet<Digest>) -> Result<HashMap<Digest, Vec<Digest>>, StoreError> {
        let layers = digests(&self.store.paths().layers())?;
        let mut stacks = HashMap::new();
        let mut tops: Vec<Vec<Digest>> = vec![Vec::new()];
        for diff_ids in self.stacks_of_images()? {
            for count in 1..=diff_ids.len() {
                let chain = chain_id(&diff_ids[..count]);
                if wanted.remove(&chain) {
                    tops.push(diff_ids[..count].to_vec());
                    stacks.insert(chain, diff_ids[..count].to_vec());
                }
            }
        }
        while let Some(below) = tops.pop().filter(|_| !wanted.is_empty()) {
            let chain_below = chain_id(&below);
            for layer in &layers {
                let chain = match below.is_empty() {
                    true => layer.clone(),
                    false => chain_id(&[chain_below.clone(), layer.clone()]),
                };
                if wanted.remove(&chain) {
                    let stack = [&below[..], std::slice::from_ref(layer)].concat();
                    tops.push(stack.clone());
                    stacks.insert(chain, stack);
                }
            }
        }
        let here: HashSet<&Digest> = layers.iter().collect();
        stacks.retain(|_, stack| stack.iter().all(|layer| here.contains(layer)));
        Ok(stacks)
    }

    /// What cannot be read here, the check of the store names.
    fn stacks_of_images(&self) -> Result<Vec<Vec<Digest>>, StoreError> {
        let mut stacks = Vec::new();
        for id in self.store.image_ids()? {
            let config = self.store.read_blob(&id, CONFIG_LIMIT_BYTES).ok();
            let config = config.and_then(|bytes| ImageConfig::parse(&bytes).ok());
            stacks.extend(config.map(|config| config.rootfs.diff_ids));
        }
        Ok(stacks)
    }

    fn compare_all(&self, tasks: &[Task], threads: usize) -> Vec<TreeFault> {
        let next = AtomicUsize::new(0);
        let faults = Mutex::new(Vec::new());
        let work = || {
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                // What is wrong with the tables of layers, the check of the store says.
                if let Ok(view) = Root::open(&self.store, &task.diff_ids) {
                    let found = self.compare(task, &view);
                    faults.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        faults.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare(&self, task: &Task, view: &Root) -> Vec<TreeFault> {
        let folder = &task.place.folder;
        let fault = |path: &[u8], fault| TreeFault { folder: folder.clone(), path: path.to_vec(), fault };
        let Ok(root) = open_folder(&task.place.tree()) else {
            return vec![fault(TREE.as_bytes(), "cannot be opened")];
        };
        let mut walk =
            Walk { root, view, stacking: task.stacking, owners: self.ids.owners, seen: HashSet::new() };
        let mut faults = Vec::new();
        let mut left = vec![Vec::new()];
        while let Some(path) = left.pop() {
            if faults.len() >= FAULTS_TOLD {
                return faults;
            }
            match walk.look_into(&path, &mut left) {
                Ok(found) => faults.extend(found.into_iter().map(|(path, what)| fault(&path, what))),
                Err(_) => faults.push(fault(&path, "cannot be read")),
            }
        }
        faults.extend(self.missing(task, &walk).map(|path| fault(&path, "is missing")));
        faults.truncate(FAULTS_TOLD);
        faults
    }

    /// What the layers bring to the tree and is not there.
    fn missing(&self, task: &Task, walk: &Walk<'_>) -> impl Iterator<Item = Vec<u8>> {
        let top = task.diff_ids.len() - 1;
        let whole = task.stacking == Stacking::Whole;
        // Elsewhere nobody may make one.
        let has_devices = self.ids.name == "full";
        let start = walk.view.lookup(b"", Follow::No).ok().flatten();
        let all = start.into_iter().flat_map(|start| walk.view.walk(&start).collect::<Vec<_>>());
        all.filter(move |found| whole || found.layer == Some(top))
            .filter(move |found| has_devices || !is_device(found.entry))
            .map(|found| found.path)
            .filter(|path| !path.is_empty() && !walk.seen.contains(path))
    }
}

fn is_device(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. })
}

/// A tree on its way through.
struct Walk<'v> {
    root: OwnedFd,
    view: &'v Root,
    stacking: Stacking,
    owners: Owners,
    /// All that is there.
    seen: HashSet<Vec<u8>>,
}

/// Where, and what is wrong there.
type Found = (Vec<u8>, &'static str);

impl Walk<'_> {
    /// Compares what is in the folder `path`; folders in it that should be some go to `left`.
    fn look_into(&mut self, path: &[u8], left: &mut Vec<Vec<u8>>) -> io::Result<Vec<Found>> {
        let folder = beneath::open(self.root.as_fd(), path, FOLDER)?;
        let mut found = Vec::new();
        for name in names(folder.as_fd())? {
            let at = join(path, &name);
            let stat = statat(&folder, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
            let fault = self.fault(folder.as_fd(), &name, &at, &stat)?;
            found.extend(fault.map(|fault| (at.clone(), fault)));
            let expected = self.view.lookup(&at, Follow::No).ok().flatten();
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_folder && expected.is_some_and(|found| found.entry.kind == Kind::Directory) {
                left.push(at.clone());
            }
            self.seen.insert(at);
        }
        Ok(found)
    }

    fn fault(
        &self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> io::Result<Option<&'static str>> {
        let expected = self.view.lookup(path, Follow::No).ok().flatten();
        let Some(expected) = expected.map(|found| found.entry) else {
            let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
            let whiteout = device && stat.st_rdev == 0 && self.stacking == Stacking::Overlay;
            return Ok((!whiteout).then_some("is in none of its layers"));
        };
        let is_link = matches!(expected.kind, Kind::Symlink { .. });
        if let Some(fault) = fault_of_kind(folder, name, stat, &expected.kind)? {
            return Ok(Some(fault));
        }
        if self.owners == Owners::Keep {
            if (stat.st_uid, stat.st_gid) != (expected.uid, expected.gid) {
                return Ok(Some("has another owner"));
            }
            // The mode of a symlink is the file system's affair.
            if !is_link && stat.st_mode & 0o7777 != expected.mode {
                return Ok(Some("has another mode"));
            }
        }
        Ok(None)
    }
}

fn fault_of_kind(
    folder: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    expected: &Kind,
) -> io::Result<Option<&'static str>> {
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let same = match (FileType::from_raw_mode(stat.st_mode), expected) {
        (FileType::RegularFile, Kind::File { size_bytes, content }) => {
            if stat.st_size.unsigned_abs() != *size_bytes {
                return Ok(Some("has another size"));
            }
            let file = beneath::open(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW)?;
            let mut hashing = Hashing::new(content.digest.algorithm(), HoleReader::new(File::from(file)));
            io::copy(&mut hashing, &mut io::sink())?;
            return Ok((hashing.finish().1 != content.digest).then_some("has other bytes"));
        }
        (FileType::Symlink, Kind::Symlink { target }) => {
            let same = readlinkat(folder, name, Vec::new())?.as_bytes() == target;
            return Ok((!same).then_some("leads elsewhere"));
        }
        (FileType::CharacterDevice, Kind::CharDevice { major, minor })
        | (FileType::BlockDevice, Kind::BlockDevice { major, minor }) => device == (*major, *minor),
        (FileType::Directory, Kind::Directory) | (FileType::Fifo, Kind::Fifo) => true,
        _ => false,
    };
    Ok((!same).then_some("is of another kind"))
}

/// The digests that `folder/<alg>/<hh>/<hex>` name, sorted. Other names are the business of the check of the store.
fn digests(folder: &Path) -> Result<Vec<Digest>, StoreError> {
    let mut digests = Vec::new();
    for algorithm in listed(folder)? {
        let folder = folder.join(&algorithm);
        for first in listed(&folder)? {
            let names = listed(&folder.join(first))?;
            digests
                .extend(names.iter().filter_map(|hex| format!("{algorithm}:{hex}").parse::<Digest>().ok()));
        }
    }
    digests.sort_unstable();
    Ok(digests)
}

/// The folders in a folder; none where there is none.
fn listed(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = StoreError::io("list", folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries,
    };
    let names = entries.and_then(|entries| {
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    });
    names.map_err(failed)
}
