//! Makes a layer of what changed in a tree: files to entries.
//!
//! The tree is what a step left behind: the upper folder of an overlay, which holds changes only, or a whole copy. What
//! was there before is asked of the index of the layers below, so nothing needs to be mounted.
//!
//! What counts as a change, as BuildKit has it:
//! - A file, link, device or pipe that differs from the one below in type, owner, mode, attributes, size, time or
//!   content; a folder that differs in owner, mode or attributes. A folder that is only younger is no change.
//! - Folders on the way to a change are in the layer, too.
//! - All names of a file are changed when one of them is, so that the layer needs no file of another for its links.
//! - What is gone is a whiteout. A folder that hides all below it (opaque) gives whiteouts of what the index has there.
//! - Sockets are nobody's data.
//!
//! Afterwards tree and tar agree: what is not in the layer is no longer in the upper folder (within an opaque folder it
//! must stay, there it hides itself), times are whole seconds and clamped, and attributes that the layer does not have
//! are gone. So the tree can serve as that of the new layer, and gives the same bytes when asked again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, OFlags, major, minor, readlinkat, statat, unlinkat, utimensat};
use rustix::io::Errno;

use super::apply::{Owners, shown};
use super::beneath::{self, FOLDER, Xattrs, is_overlay_xattr, join, mtime, names, timestamps};
use super::index::{Entry, Header, Kind, Time, split_last};
use super::limits::{CAPABILITY, MAX_PATH_BYTES};
use super::root::{Follow, Resolved, Root};
use super::{HoleReader, LayerWriter, WriteError};
use crate::digest::{Algorithm, Digest};

/// Which extended attributes a layer takes from a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrChoice {
    /// File capabilities, as BuildKit does.
    #[default]
    Capabilities,
    /// Those and all others that are not the machine's own (`security.*`).
    All,
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// The upper folder of an overlay: changes only.
    Upper {
        /// How the names of attributes begin in which overlayfs keeps its notes: `trusted.overlay.` or, in a user
        /// namespace, `user.overlay.`. Others mean nothing, whoever set them.
        notes: &'static str,
    },
    /// Everything.
    Whole,
}

impl TreeKind {
    /// What overlayfs notes under the attribute `name`, if it is one of its own.
    fn note(self, name: &[u8]) -> Option<&[u8]> {
        match self {
            TreeKind::Upper { notes } => name.strip_prefix(notes.as_bytes()),
            TreeKind::Whole => None,
        }
    }
}

/// How a tree becomes a layer.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// What the tree holds.
    pub tree: TreeKind,
    /// Where owners in the tree mean nothing, they are taken from below, and are 0:0 for what is new.
    pub owners: Owners,
    /// No time in the layer is later than this, in seconds since 1970.
    pub clamp: Option<i64>,
    /// Which attributes are kept.
    pub xattrs: XattrChoice,
    /// Paths that somebody else put there, as places for mounts: not in the layer, unless as a folder of a change.
    pub exclude: BTreeSet<Vec<u8>>,
}

/// Why a tree cannot become a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The layer cannot be written, or the tree changed meanwhile.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Overlayfs says that the content is elsewhere, which no mount of ours lets it do.
    #[error("`{}` has no content of its own (`{xattr}`)", shown(path))]
    Redirect {
        /// Where.
        path: Vec<u8>,
        /// What says so.
        xattr: String,
    },
    /// Nobody could unpack the layer.
    #[error("a path in `{}` has more than {MAX_PATH_BYTES} bytes", shown(folder))]
    PathTooLong {
        /// The first folders on the way.
        folder: Vec<u8>,
    },
    /// The file system refused something.
    #[error("cannot make a layer of `{}`", shown(path))]
    Io {
        /// Where.
        path: Vec<u8>,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Writes what differs between the tree at `root` and what is `below`, and makes the tree agree with it. Nobody else
/// changes the tree meanwhile.
///
/// # Errors
/// [`DiffError`]; the tree may then have lost some of its unchanged files, and is of no use.
pub fn diff<W: Write>(
    root: BorrowedFd<'_>,
    below: &Root,
    options: &DiffOptions,
    writer: &mut LayerWriter<W>,
) -> Result<(), DiffError> {
    let mut found = Scan::new(root, below, options).run()?;
    join_links(&mut found);
    include_folders_of_changes(&mut found);
    for item in found.iter_mut().filter(|item| item.fate == Fate::Change) {
        item.header.mtime = settled(item.header.mtime, options.clamp);
        write(root, &item.header, writer)?;
    }
    settle_tree(root, &found, options)
}

/// What becomes of something found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes into the layer.
    Change,
    /// It is as below.
    Same,
    /// It is nobody's and leaves the tree.
    Drop,
}

/// Something in the tree, or missing from it.
struct Item {
    header: Header,
    fate: Fate,
    /// Where in the list the folder stands that it is in; the root is in itself.
    folder: usize,
    /// The time of what is below.
    mtime_below: Option<Time>,
    /// Device and inode of a file with several names.
    link: Option<(u64, u64)>,
    /// Whether it can leave the tree and what is below shows through.
    removable: bool,
    /// Whether it is in the tree at all: the whiteouts of an opaque folder are not.
    in_tree: bool,
}

/// A folder of the tree.
struct Folder {
    path: Vec<u8>,
    item: usize,
    /// Whether there is a folder below, too.
    covers: bool,
    /// Whether nothing of that shows through.
    opaque: bool,
}

/// A name in a folder that is still to be looked at.
struct Task {
    folder: Rc<Folder>,
    name: Vec<u8>,
    in_tree: bool,
}

/// What the tree says about one name.
struct Seen {
    header: Header,
    opaque: bool,
    link: Option<(u64, u64)>,
}

/// Finds everything in a tree, in the order of a layer's entries.
struct Scan<'a> {
    root: BorrowedFd<'a>,
    below: &'a Root,
    options: &'a DiffOptions,
    found: Vec<Item>,
    /// What is left to do, last one first.
    tasks: Vec<Task>,
    /// The folder that was looked into last; not all on the way, as there may be more than a process can open.
    open: Option<(usize, OwnedFd)>,
}

impl<'a> Scan<'a> {
    fn new(root: BorrowedFd<'a>, below: &'a Root, options: &'a DiffOptions) -> Self {
        Scan { root, below, options, found: Vec::new(), tasks: Vec::new(), open: None }
    }

    fn run(mut self) -> Result<Vec<Item>, DiffError> {
        self.look_at_root()?;
        while let Some(task) = self.tasks.pop() {
            if task.in_tree {
                self.look_at(&task)?;
            } else {
                let whiteout = Header::new(join(&task.folder.path, &task.name), Kind::Whiteout, 0);
                let item = Item::new(whiteout, Fate::Change, &task.folder);
                self.found.push(Item { in_tree: false, ..item });
            }
        }
        Ok(self.found)
    }

    fn look_at_root(&mut self) -> Result<(), DiffError> {
        let fd = beneath::open(self.root, b"", FOLDER).map_err(io(b""))?;
        let Some(mut seen) = self.see(fd.as_fd(), Vec::new(), b".")? else { return Ok(()) };
        let below = self.below(b"").expect("the root is always there").entry;
        self.disown(&mut seen.header, Some(below));
        let fate = if self.is_like(&seen.header, below) { Fate::Same } else { Fate::Change };
        self.found.push(Item {
            header: seen.header,
            fate,
            folder: 0,
            mtime_below: Some(below.mtime),
            link: None,
            removable: false,
            in_tree: true,
        });
        let opaque = seen.opaque || self.options.tree == TreeKind::Whole;
        self.enter(Folder { path: Vec::new(), item: 0, covers: true, opaque }, fd)
    }

    fn look_at(&mut self, task: &Task) -> Result<(), DiffError> {
        let folder = &task.folder;
        let path = join(&folder.path, &task.name);
        if path.len() > MAX_PATH_BYTES {
            return Err(DiffError::PathTooLong { folder: path[..FOLDER_SHOWN_BYTES].to_vec() });
        }
        self.open_folder(folder)?;
        let (_, fd) = self.open.as_ref().expect("it was just opened");
        let Some(mut seen) = self.see(fd.as_fd(), path.clone(), &task.name)? else {
            self.found.push(Item::new(Header::new(path, Kind::Fifo, 0), Fate::Drop, folder));
            return Ok(());
        };
        let below = if folder.covers { self.below(&path) } else { None }.map(|below| below.entry);
        self.disown(&mut seen.header, below);
        let fate = self.fate(fd.as_fd(), &task.name, &seen, below)?;
        let is_folder = seen.header.kind == Kind::Directory;
        let mut item = Item::new(seen.header, fate, folder);
        item.link = seen.link;
        item.removable = self.options.tree != TreeKind::Whole && !folder.opaque;
        item.mtime_below = below.map(|below| below.mtime);
        self.found.push(item);
        if is_folder {
            let fd = beneath::open(self.root, &path, FOLDER).map_err(io(&path))?;
            let covers = below.is_some_and(|below| below.kind == Kind::Directory);
            let item = self.found.len() - 1;
            self.enter(Folder { path, item, covers, opaque: folder.opaque || seen.opaque }, fd)?;
        }
        Ok(())
    }

    /// Notes what is in a folder, and what is gone from it, to be looked at next.
    fn enter(&mut self, folder: Folder, fd: OwnedFd) -> Result<(), DiffError> {
        let mut all: BTreeMap<Vec<u8>, bool> =
            names(fd.as_fd()).map_err(io(&folder.path))?.into_iter().map(|name| (name, true)).collect();
        if folder.covers && folder.opaque {
            for name in self.names_below(&folder.path) {
                all.entry(name).or_insert(false);
            }
        }
        self.open = Some((folder.item, fd));
        let folder = Rc::new(folder);
        let tasks = all.into_iter().rev();
        self.tasks.extend(tasks.map(|(name, in_tree)| Task { folder: folder.clone(), name, in_tree }));
        Ok(())
    }

    fn open_folder(&mut self, folder: &Folder) -> Result<(), DiffError> {
        if !matches!(&self.open, Some((item, _)) if *item == folder.item) {
            let fd = beneath::open(self.root, &folder.path, FOLDER).map_err(io(&folder.path))?;
            self.open = Some((folder.item, fd));
        }
        Ok(())
    }

    /// What the tree says about `name`; `None` for a socket.
    fn see(&self, folder: BorrowedFd<'_>, path: Vec<u8>, name: &[u8]) -> Result<Option<Seen>, DiffError> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io(&path))?;
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File { size_bytes: stat.st_size.unsigned_abs(), content: () },
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(io(&path))?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice if device == (0, 0) => Kind::Whiteout,
            FileType::CharacterDevice => Kind::CharDevice { major: device.0, minor: device.1 },
            FileType::BlockDevice => Kind::BlockDevice { major: device.0, minor: device.1 },
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(None),
        };
        let mut header = Header::new(path, kind, stat.st_mode & 0o7777);
        (header.uid, header.gid, header.mtime) = (stat.st_uid, stat.st_gid, mtime(&stat));
        if header.kind == Kind::Whiteout {
            return Ok(Some(Seen { header, opaque: false, link: None }));
        }
        let opaque = self.read_xattrs(&Xattrs::of(folder, name), &mut header)?;
        let regular = matches!(header.kind, Kind::File { .. });
        let link = (regular && stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        Ok(Some(Seen { header, opaque, link }))
    }

    /// Reads the attributes that a layer keeps; whether overlayfs says that the folder is opaque.
    fn read_xattrs(&self, xattrs: &Xattrs, header: &mut Header) -> Result<bool, DiffError> {
        let mut opaque = false;
        for name in xattrs.names().map_err(io(&header.path))? {
            match self.options.tree.note(&name) {
                Some(b"redirect" | b"metacopy") => {
                    let xattr = String::from_utf8_lossy(&name).into_owned();
                    return Err(DiffError::Redirect { path: header.path.clone(), xattr });
                }
                Some(b"opaque") => opaque = xattrs.get(&name).map_err(io(&header.path))? == b"y",
                _ => {}
            }
            if self.keeps(&name) {
                let value = xattrs.get(&name).map_err(io(&header.path))?;
                header.xattrs.insert(name, value);
            }
        }
        if let Some(value) = header.xattrs.get_mut(CAPABILITY) {
            forget_namespace(value);
        }
        Ok(opaque)
    }

    fn keeps(&self, name: &[u8]) -> bool {
        name == CAPABILITY || (self.options.xattrs == XattrChoice::All && is_portable(name))
    }

    /// Where the tree knows no owners, those below are the right ones.
    fn disown(&self, header: &mut Header, below: Option<&Entry>) {
        if self.options.owners == Owners::Ignore {
            (header.uid, header.gid) = below.map_or((0, 0), |below| (below.uid, below.gid));
        }
    }

    /// What the layers below have at `path`, on the way to which all is folders there.
    fn below(&self, path: &[u8]) -> Option<Resolved<'a>> {
        self.below.lookup(path, Follow::No).expect("there is no symlink on the way")
    }

    fn names_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let Some(folder) = self.below(path) else { return Vec::new() };
        self.below.list(&folder).map(|found| split_last(&found.path).1.to_vec()).collect()
    }

    fn fate(
        &self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        seen: &Seen,
        below: Option<&Entry>,
    ) -> Result<Fate, DiffError> {
        let excluded = self.options.exclude.contains(&seen.header.path);
        let Some(below) = below.filter(|_| !excluded || self.options.tree == TreeKind::Whole) else {
            if excluded {
                return Ok(Fate::Drop);
            }
            // A whiteout of nothing says nothing.
            return Ok(if seen.header.kind == Kind::Whiteout { Fate::Drop } else { Fate::Change });
        };
        if excluded {
            return Ok(Fate::Same);
        }
        if !self.is_like(&seen.header, below) {
            return Ok(Fate::Change);
        }
        let same = match (&seen.header.kind, &below.kind) {
            (Kind::Directory, _) => true,
            _ if seen.header.mtime != below.mtime => false,
            (Kind::File { .. }, Kind::File { content, .. }) => {
                let file = open_file(folder, name).map_err(io(&seen.header.path))?;
                digest(file).map_err(unreadable(&seen.header.path))? == content.digest
            }
            _ => true,
        };
        Ok(if same { Fate::Same } else { Fate::Change })
    }

    /// Whether type, size, owner, mode and attributes are those below.
    fn is_like(&self, header: &Header, below: &Entry) -> bool {
        let below = below.header();
        let kept = below.xattrs.iter().filter(|(name, _)| self.keeps(name));
        // The mode of a symlink is the file system's affair.
        let mode =
            |header: &Header| if matches!(header.kind, Kind::Symlink { .. }) { 0 } else { header.mode };
        header.kind == below.kind
            && mode(header) == mode(&below)
            && (header.uid, header.gid) == (below.uid, below.gid)
            && header.xattrs.iter().eq(kept)
    }
}

impl Item {
    /// Something in the tree that stays there.
    fn new(header: Header, fate: Fate, folder: &Folder) -> Self {
        Item {
            header,
            fate,
            folder: folder.item,
            mtime_below: None,
            link: None,
            removable: false,
            in_tree: true,
        }
    }
}

/// Of the names of one file, the first brings the bytes and the others lead to it.
fn join_links(found: &mut [Item]) {
    let mut groups: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
    for (at, item) in found.iter().enumerate().filter(|(_, item)| item.fate != Fate::Drop) {
        if let Some(link) = item.link {
            groups.entry(link).or_default().push(at);
        }
    }
    for group in groups.into_values() {
        if group.iter().all(|at| found[*at].fate == Fate::Same) {
            continue;
        }
        let target = found[group[0]].header.path.clone();
        found[group[0]].fate = Fate::Change;
        for at in &group[1..] {
            found[*at].fate = Fate::Change;
            found[*at].header.kind = Kind::Hardlink { target: target.clone() };
        }
    }
}

/// A folder stands after the one that it is in, so one pass from the end reaches all of them.
fn include_folders_of_changes(found: &mut [Item]) {
    for at in (1..found.len()).rev() {
        let folder = found[at].folder;
        // The root is in each image already.
        if found[at].fate == Fate::Change && folder != 0 {
            found[folder].fate = Fate::Change;
        }
    }
}

fn write<W: Write>(
    root: BorrowedFd<'_>,
    header: &Header,
    writer: &mut LayerWriter<W>,
) -> Result<(), DiffError> {
    let Kind::File { .. } = header.kind else { return Ok(writer.append(header, None)?) };
    let (folder, name) = split_last(&header.path);
    let open = || {
        let folder = beneath::open(root, folder, OFlags::PATH | OFlags::DIRECTORY)?;
        open_file(folder.as_fd(), name)
    };
    let mut content = HoleReader::new(open().map_err(io(&header.path))?);
    Ok(writer.append(header, Some(&mut content))?)
}

/// Makes the tree say what the layer says, folders after what is in them.
fn settle_tree(root: BorrowedFd<'_>, found: &[Item], options: &DiffOptions) -> Result<(), DiffError> {
    for item in found.iter().rev().filter(|item| item.in_tree) {
        let path = &item.header.path;
        let (folder, name) = split_last(path);
        let folder = beneath::open(root, folder, OFlags::PATH | OFlags::DIRECTORY).map_err(io(path))?;
        let name = if name.is_empty() { b"." } else { name };
        match item.fate {
            Fate::Drop => remove(folder.as_fd(), name).map_err(io(path))?,
            Fate::Same if item.removable => remove(folder.as_fd(), name).map_err(io(path))?,
            Fate::Same if item.header.kind != Kind::Directory => {}
            // Overlayfs hides what is below by it; in a whole tree it is a device, and there for all to see.
            _ if item.header.kind == Kind::Whiteout && options.tree == TreeKind::Whole => {
                remove(folder.as_fd(), name).map_err(io(path))?;
            }
            _ if item.header.kind == Kind::Whiteout => {}
            _ => settle(folder.as_fd(), name, item, options).map_err(io(path))?,
        }
    }
    Ok(())
}

fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        // What is not removed from a folder keeps it.
        Err(Errno::ISDIR) => match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            removed => removed,
        },
        removed => removed,
    }
}

fn settle(folder: BorrowedFd<'_>, name: &[u8], item: &Item, options: &DiffOptions) -> rustix::io::Result<()> {
    if item.fate == Fate::Change {
        let xattrs = Xattrs::of(folder, name);
        for xattr in xattrs.names()? {
            let serves_the_mount = options.tree.note(&xattr) == Some(b"opaque");
            let the_machines = xattr.starts_with(b"security.");
            if !item.header.xattrs.contains_key(&xattr) && !serves_the_mount && !the_machines {
                xattrs.remove(&xattr)?;
            }
        }
    }
    // A folder in which a file came and went is younger than the one below, which the layer does not say.
    let mtime = item.mtime_below.filter(|_| item.fate == Fate::Same).unwrap_or(item.header.mtime);
    utimensat(folder, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// The time of an entry in a layer of ours.
fn settled(mtime: Time, clamp: Option<i64>) -> Time {
    Time::from_seconds(clamp.map_or(mtime.seconds, |clamp| mtime.seconds.min(clamp)))
}

fn open_file(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<File> {
    Ok(File::from(beneath::open(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW)?))
}

fn digest(file: File) -> io::Result<Digest> {
    let mut hasher = Algorithm::Sha256.hasher();
    io::copy(&mut HoleReader::new(file), &mut hasher)?;
    Ok(hasher.finish())
}

/// How much of a path is shown that is too long to be shown.
const FOLDER_SHOWN_BYTES: usize = 200;

/// Whether an attribute belongs to the file and not to the machine that it is on.
fn is_portable(name: &[u8]) -> bool {
    !is_overlay_xattr(name) && !name.starts_with(b"security.")
}

/// Capabilities that were given inside a user namespace name its root (version 3, 24 bytes); in a layer they are
/// those of the image's own root (version 2, 20 bytes).
fn forget_namespace(capability: &mut Vec<u8>) {
    if let [flags, 0, 0, 3, ..] = capability[..]
        && capability.len() == 24
    {
        capability[..4].copy_from_slice(&[flags, 0, 0, 2]);
        capability.truncate(20);
    }
}

fn io(path: &[u8]) -> impl FnOnce(Errno) -> DiffError {
    let path = path.to_vec();
    move |errno| DiffError::Io { path, source: errno.into() }
}

fn unreadable(path: &[u8]) -> impl FnOnce(io::Error) -> DiffError {
    let path = path.to_vec();
    move |source| DiffError::Io { path, source }
}
