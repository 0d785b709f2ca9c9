//! What a stack of layers looks like from above: looked up in the layers' tables, without mounting or unpacking.
//!
//! Layers are laid upon each other as they would be unpacked, entry by entry in the order of their tars: a folder upon a
//! folder keeps what is in it, anything else replaces what was there; an entry below a symlink goes where the link points;
//! a folder that no layer mentions is there with mode 0755, owner and time 0; a hard link shares the file it points to, in
//! a lower layer too; a whiteout hides what lower layers have and never what its own layer brings. A test compares the
//! view of random layers with what [`super::apply()`] makes of them.
//!
//! Paths are resolved as inside a container whose root this is: absolute targets of symlinks start at its root, and
//! `..` at the root stays there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::index::{Content, Entry, Index, Kind, Segment};
use super::reader::TarError;
use super::stored::{LayerError, index, open_tar};
use crate::digest::{Digest, Hasher};
use crate::store::Store;

/// How many symlinks one path may lead through, as in Linux.
const MAX_LINKS: usize = 40;

/// What to do when the last name of a path is a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Go where it points.
    Yes,
    /// Look at the link itself.
    No,
}

/// A path leads through more than 40 symlinks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: too many levels of symbolic links")]
pub struct LoopError {
    /// The path that was looked up.
    pub path: String,
}

/// A layer cannot be unpacked upon those below it, or is not there.
#[derive(Debug, thiserror::Error)]
#[error("layer {diff_id} does not fit where it stands in the image")]
pub struct StackError {
    /// The layer.
    pub diff_id: Digest,
    /// What is wrong with it.
    pub source: LayerError,
}

/// Whether a stack of layers can be unpacked, lowest first, judged by their tables.
///
/// # Errors
/// [`StackError`] names the first layer that cannot.
pub fn check_stack(store: &Store, diff_ids: &[Digest]) -> Result<(), StackError> {
    let mut root = Root::empty();
    for diff_id in diff_ids {
        let pushed = index(store, diff_id).and_then(|index| root.push(diff_id.clone(), index));
        pushed.map_err(|source| StackError { diff_id: diff_id.clone(), source })?;
    }
    Ok(())
}

/// The merged view of a stack of layers.
#[derive(Debug, Clone)]
pub struct Root {
    layers: Vec<Layer>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Layer {
    diff_id: Digest,
    index: Arc<Index>,
}

/// A file, folder, link or device, whatever names it has.
#[derive(Debug, Clone)]
struct Node {
    entry: Source,
    /// The layer that it, or the bytes of it, came with.
    layer: Option<usize>,
    /// What is in a folder, by name.
    children: BTreeMap<Box<[u8]>, Link>,
}

/// A name of a node.
#[derive(Debug, Clone, Copy)]
struct Link {
    node: usize,
    /// The last layer that brought this name or something below it.
    layer: usize,
}

#[derive(Debug, Clone)]
enum Source {
    /// Where it stands in the table of its layer.
    Table(usize),
    /// In no table as it is.
    Made(Box<Entry>),
}

/// The node of the root folder, which is always there.
const TOP: usize = 0;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'r> {
    /// Where it really is: no part of this path is a symlink, but for the last one with [`Follow::No`].
    pub path: Vec<u8>,
    /// What it is. A hard link shows as the file it points to; `entry.path` is the name that brought it, not this one.
    pub entry: &'r Entry,
    /// Which layer of the stack brought it, counted from the lowest; `None` for a folder that none mentions.
    pub layer: Option<usize>,
    /// The same for all names of one file.
    pub inode: usize,
}

impl Root {
    /// A root with nothing in it: `FROM scratch`.
    pub fn empty() -> Self {
        Root { layers: Vec::new(), nodes: vec![Node::implied()] }
    }

    /// The view of a stack of layers, lowest first.
    ///
    /// # Errors
    /// [`LayerError`] when a layer is missing or cannot be unpacked upon those below it.
    pub fn open(store: &Store, diff_ids: &[Digest]) -> Result<Self, LayerError> {
        let mut root = Root::empty();
        for diff_id in diff_ids {
            root.push(diff_id.clone(), index(store, diff_id)?)?;
        }
        Ok(root)
    }

    /// Lays one more layer on top.
    ///
    /// # Errors
    /// [`LayerError::Misplaced`] and [`TarError::LinkTarget`] when it cannot be unpacked here: the view is of no use then.
    pub fn push(&mut self, diff_id: Digest, index: Arc<Index>) -> Result<(), LayerError> {
        let layer = self.layers.len();
        self.layers.push(Layer { diff_id, index: Arc::clone(&index) });
        let mut last = None;
        for at in index.tar_order() {
            self.lay(layer, at, &index.entries()[at], &mut last)?;
        }
        Ok(())
    }

    /// The diff IDs of the layers, lowest first.
    pub fn diff_ids(&self) -> impl Iterator<Item = &Digest> {
        self.layers.iter().map(|layer| &layer.diff_id)
    }

    /// What is at `path`, which may be absolute and hold `.` and `..`.
    ///
    /// # Errors
    /// [`LoopError`] when it leads through too many symlinks.
    pub fn lookup(&self, path: &[u8], follow: Follow) -> Result<Option<Resolved<'_>>, LoopError> {
        let trail = self.follow(path, follow)?;
        Ok(trail.is_complete().then(|| self.resolved(trail.path(), trail.node())))
    }

    /// Where something made at `path` would be: symlinks on the way and at the end are followed as far as they lead, the
    /// names that are not there are kept.
    ///
    /// # Errors
    /// [`LoopError`] when it leads through too many symlinks.
    pub fn destination(&self, path: &[u8]) -> Result<Vec<u8>, LoopError> {
        Ok(self.follow(path, Follow::Yes)?.path())
    }

    /// What is in a folder, by name; nothing when `folder` is none.
    pub fn list<'r>(&'r self, folder: &Resolved<'r>) -> impl Iterator<Item = Resolved<'r>> {
        let path = folder.path.clone();
        let children = self.nodes[folder.inode].children.iter();
        children.map(move |(name, link)| self.resolved(join(&path, name), link.node))
    }

    /// `start` and all that is below it, a folder before what is in it and names in order, symlinks not followed.
    pub fn walk<'r>(&'r self, start: &Resolved<'r>) -> impl Iterator<Item = Resolved<'r>> {
        let mut pending = vec![start.clone()];
        std::iter::from_fn(move || {
            let next = pending.pop()?;
            let below = pending.len();
            pending.extend(self.list(&next));
            pending[below..].reverse();
            Some(next)
        })
    }

    /// Reads a file; it fails at its end when the bytes are not those of the file's digest.
    ///
    /// # Errors
    /// [`LayerError::Missing`] when the layer's tar cannot be had, [`LayerError::Misplaced`] when `file` is no file.
    pub fn open_file(&self, store: &Store, file: &Resolved<'_>) -> Result<FileReader, LayerError> {
        let (Kind::File { size_bytes, content }, Some(layer)) = (&file.entry.kind, file.layer) else {
            return Err(misplaced(&file.path, "not a file"));
        };
        let tar = open_tar(store, &self.layers[layer].diff_id)?;
        Ok(FileReader::new(tar, *size_bytes, content.clone()))
    }

    fn resolved(&self, path: Vec<u8>, inode: usize) -> Resolved<'_> {
        Resolved { path, entry: self.entry(inode), layer: self.nodes[inode].layer, inode }
    }

    fn entry(&self, node: usize) -> &Entry {
        match &self.nodes[node] {
            Node { entry: Source::Made(entry), .. } => entry,
            Node { entry: Source::Table(at), layer, .. } => {
                let layer = layer.expect("what is in a table came with its layer");
                &self.layers[layer].index.entries()[*at]
            }
        }
    }

    fn is_folder(&self, node: usize) -> bool {
        self.entry(node).kind == Kind::Directory
    }

    /// Resolves `path` name by name.
    fn follow(&self, path: &[u8], follow: Follow) -> Result<Trail, LoopError> {
        let mut trail = Trail::default();
        let mut pending: Vec<Vec<u8>> = names_reversed(path).collect();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    trail.leave();
                    continue;
                }
                _ => {}
            }
            let found =
                trail.is_complete().then(|| self.nodes[trail.node()].children.get(&name[..])).flatten();
            let Some(&Link { node, .. }) = found else {
                trail.missing.push(name);
                continue;
            };
            match &self.entry(node).kind {
                Kind::Symlink { target } if follow == Follow::Yes || !pending.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LoopError { path: String::from_utf8_lossy(path).into_owned() });
                    }
                    if target.starts_with(b"/") {
                        trail = Trail::default();
                    }
                    pending.extend(names_reversed(target));
                }
                _ => trail.found.push((name, node)),
            }
        }
        Ok(trail)
    }

    /// Lays one entry; `last` is the folder that the entry before was in.
    fn lay<'i>(
        &mut self,
        layer: usize,
        at: usize,
        entry: &'i Entry,
        last: &mut Option<(&'i [u8], usize)>,
    ) -> Result<(), LayerError> {
        match &entry.kind {
            Kind::Whiteout => return self.hide(layer, entry.parent(), entry.name()),
            Kind::Opaque => return self.hide_all(layer, &entry.path),
            Kind::Directory if entry.path.is_empty() => {
                self.describe(TOP, layer, at);
                return Ok(());
            }
            _ => {}
        }
        let folder = match *last {
            Some((path, node)) if path == entry.parent() => node,
            _ => self.make_folder(layer, entry.parent())?,
        };
        *last = Some((entry.parent(), folder));
        let there = self.nodes[folder].children.get(entry.name()).map(|link| link.node);
        let node = match (&entry.kind, there) {
            (Kind::Hardlink { target }, _) => self.share(entry, target, there)?,
            (Kind::Directory, Some(node)) if self.is_folder(node) => {
                self.describe(node, layer, at);
                node
            }
            _ => {
                let children = BTreeMap::new();
                self.add(Node { entry: Source::Table(at), layer: Some(layer), children })
            }
        };
        if there.is_some_and(|there| there != node) {
            // It may have been a link on the way to the folder.
            *last = None;
        }
        self.link(folder, entry.name(), Link { node, layer });
        Ok(())
    }

    /// Gives a folder the owner and mode of another entry; what is in it stays.
    fn describe(&mut self, node: usize, layer: usize, at: usize) {
        self.nodes[node].entry = Source::Table(at);
        self.nodes[node].layer = Some(layer);
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn link(&mut self, folder: usize, name: &[u8], link: Link) {
        self.nodes[folder].children.insert(name.into(), link);
    }

    /// The node that a hard link points to, which takes on the link's owner and mode.
    fn share(&mut self, entry: &Entry, target: &[u8], there: Option<usize>) -> Result<usize, LayerError> {
        let node = self.lookup(target, Follow::No)?.map(|target| target.inode);
        let node = node.filter(|node| !self.is_folder(*node));
        let node = node.ok_or_else(|| TarError::link_target(&entry.path, target))?;
        if there == Some(node) {
            return Ok(node);
        }
        // One file has one owner and mode: those of the header that came last.
        let before = self.entry(node);
        let (path, kind) = (before.path.clone(), before.kind.clone());
        let after = Entry { path, kind, ..entry.clone() };
        if after != *before {
            self.nodes[node].entry = Source::Made(Box::new(after));
        }
        Ok(node)
    }

    /// Removes what lower layers have at a name.
    fn hide(&mut self, layer: usize, folder: &[u8], name: &[u8]) -> Result<(), LayerError> {
        let Some(folder) = self.folder(folder)? else { return Ok(()) };
        match self.nodes[folder.node()].children.get(name) {
            Some(link) if link.layer == layer => self.sweep(layer, link.node),
            _ => drop(self.nodes[folder.node()].children.remove(name)),
        }
        Ok(())
    }

    /// Removes what lower layers have in a folder.
    fn hide_all(&mut self, layer: usize, folder: &[u8]) -> Result<(), LayerError> {
        let Some(folder) = self.folder(folder)? else { return Ok(()) };
        self.bring(layer, &folder);
        self.sweep(layer, folder.node());
        Ok(())
    }

    /// Removes what `layer` has not brought from a folder and from all below it.
    fn sweep(&mut self, layer: usize, node: usize) {
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            let children = &mut self.nodes[node].children;
            children.retain(|_, link| link.layer == layer);
            pending.extend(children.values().map(|link| link.node));
        }
    }

    /// The way to the folder at `path`, if it is there and one.
    fn folder(&self, path: &[u8]) -> Result<Option<Trail>, LayerError> {
        let trail = self.follow(path, Follow::Yes)?;
        Ok(Some(trail).filter(|trail| trail.is_complete() && self.is_folder(trail.node())))
    }

    /// The folder at `path`, which `layer` brings; where nothing is, folders are made.
    fn make_folder(&mut self, layer: usize, path: &[u8]) -> Result<usize, LayerError> {
        let trail = self.follow(path, Follow::Yes)?;
        let mut node = trail.node();
        if !self.is_folder(node) {
            return Err(misplaced(path, "not a folder in a lower layer"));
        }
        self.bring(layer, &trail);
        for name in &trail.missing {
            let made = self.add(Node::implied());
            self.link(node, name, Link { node: made, layer });
            node = made;
        }
        Ok(node)
    }

    /// Notes that `layer` has something below all that was found on the way.
    fn bring(&mut self, layer: usize, trail: &Trail) {
        let mut folder = TOP;
        for (name, node) in &trail.found {
            if let Some(link) = self.nodes[folder].children.get_mut(&name[..]) {
                link.layer = layer;
            }
            folder = *node;
        }
    }
}

impl Node {
    /// A folder that no layer mentions.
    fn implied() -> Self {
        let entry = Entry::new(Vec::new(), Kind::Directory, 0o755);
        Node { entry: Source::Made(Box::new(entry)), layer: None, children: BTreeMap::new() }
    }
}

/// The way from the root to something: names that were found, and behind them names that were not.
#[derive(Debug, Default)]
struct Trail {
    found: Vec<(Vec<u8>, usize)>,
    missing: Vec<Vec<u8>>,
}

impl Trail {
    fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The last node that was found.
    fn node(&self) -> usize {
        self.found.last().map_or(TOP, |(_, node)| *node)
    }

    fn leave(&mut self) {
        if self.missing.pop().is_none() {
            self.found.pop();
        }
    }

    fn path(&self) -> Vec<u8> {
        let names = self.found.iter().map(|(name, _)| name).chain(&self.missing);
        names.map(|name| &name[..]).collect::<Vec<_>>().join(&b'/')
    }
}

fn names_reversed(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.rsplit(|b| *b == b'/').map(<[u8]>::to_vec)
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn misplaced(path: &[u8], fault: &'static str) -> LayerError {
    LayerError::Misplaced { path: String::from_utf8_lossy(path).into_owned(), fault }
}

impl From<LoopError> for LayerError {
    fn from(error: LoopError) -> Self {
        LayerError::Misplaced { path: error.path, fault: "too many levels of symbolic links" }
    }
}

/// Reads a file out of a layer's tar and compares it with its digest on the way.
#[derive(Debug)]
pub struct FileReader {
    tar: File,
    /// What the tar holds of the file, back to back from `offset` on.
    segments: Box<[Segment]>,
    /// Where in the tar the next stored byte is.
    offset: u64,
    position: u64,
    size_bytes: u64,
    expected: Digest,
    /// `None` once the end was reached and found right.
    hasher: Option<Hasher>,
}

impl FileReader {
    fn new(tar: File, size_bytes: u64, content: Content) -> Self {
        let Content { digest, offset, segments } = content;
        let whole = || Box::new([Segment { offset: 0, size_bytes }]);
        let segments = segments.unwrap_or_else(|| whole() as Box<[Segment]>);
        let hasher = Some(digest.algorithm().hasher());
        FileReader { tar, segments, offset, position: 0, size_bytes, expected: digest, hasher }
    }

    /// How many bytes of one sort follow, and whether the tar holds them.
    fn ahead(&self) -> (u64, bool) {
        let next =
            self.segments.partition_point(|segment| segment.offset + segment.size_bytes <= self.position);
        match self.segments.get(next) {
            Some(segment) if segment.offset <= self.position => {
                (segment.offset + segment.size_bytes - self.position, true)
            }
            Some(segment) => (segment.offset - self.position, false),
            None => (self.size_bytes - self.position, false),
        }
    }

    fn check(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let actual = hasher.finish();
        if actual == self.expected {
            return Ok(());
        }
        let expected = self.expected.clone();
        Err(io::Error::new(io::ErrorKind::InvalidData, LayerError::FileDamaged { expected, actual }))
    }
}

impl Read for FileReader {
    /// # Errors
    /// Besides those of the tar, a [`LayerError::FileDamaged`] inside an [`io::Error`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (len, is_stored) = self.ahead();
        let len = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        if buffer.is_empty() {
            return Ok(0);
        }
        if len == 0 {
            return self.check().map(|()| 0);
        }
        let n = if is_stored {
            let n = self.tar.read_at(&mut buffer[..len], self.offset)?;
            self.offset += n as u64;
            n
        } else {
            buffer[..len].fill(0);
            len
        };
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
