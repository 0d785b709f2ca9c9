//! The layer that a COPY, ADD or WORKDIR becomes: changes upon a root that nobody has unpacked.
//!
//! A [`Target`] answers what stands at a path as if the changes had been made already, and in the end writes them as a
//! layer: the new things, and the directories above them as the root has them. Paths are resolved first, so a layer
//! never goes through a link.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use common::layer::index::path_order;
use common::layer::{self, Header, LayerWriter, Time};

use super::owner::Owner;
use super::source::{RootError, RootTree};
use crate::tree::{self, Kind, Node, TooManyLinks, Tree};

/// Where the bytes of a new file come from.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// The file at this path of the tree that is copied from.
    Source { path: Vec<u8> },
    /// A range of the unpacked archive of this number.
    Archive { archive: usize, offset: u64, size_bytes: u64 },
    /// The root below has it at this path.
    Below { path: Vec<u8> },
}

/// Why a change cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The tables of the root below cannot be read.
    #[error("cannot read the layers below")]
    Root(#[from] RootError),
    /// Something other than a directory is in the way.
    #[error("cannot make directory `/{}`: something else is at that path", String::from_utf8_lossy(.0))]
    NotDirectory(Vec<u8>),
    /// A directory is to be copied onto something else.
    #[error("cannot copy a directory onto `/{}`, which is none", String::from_utf8_lossy(.0))]
    ReplacesFile(Vec<u8>),
    /// Something else is to be copied onto a directory.
    #[error("cannot replace directory `/{}` by something else", String::from_utf8_lossy(.0))]
    ReplacesDirectory(Vec<u8>),
    /// A file of the root below cannot be read.
    #[error("cannot read `/{}` of the layers below", String::from_utf8_lossy(path))]
    Read {
        /// The file.
        path: Vec<u8>,
        /// What the store said.
        source: io::Error,
    },
    /// Links in a circle.
    #[error(transparent)]
    Links(#[from] TooManyLinks),
}

type Result<T, E = TargetError> = std::result::Result<T, E>;

/// A root with changes upon it.
#[derive(Debug)]
pub(crate) struct Target {
    root: RootTree,
    paths: BTreeMap<Vec<u8>, New>,
    files: Vec<File>,
    /// For directories that have to be made.
    now: Time,
}

/// A path that was changed.
#[derive(Debug, Clone, Copy)]
struct New {
    /// Index in `files`; several paths may share one.
    file: usize,
    /// What the root below has under this path is gone.
    hides: bool,
}

#[derive(Debug)]
struct File {
    node: Node,
    content: Option<Content>,
}

impl Target {
    /// Changes upon `root`. `now` is the time of directories that have to be made.
    pub(crate) fn new(root: RootTree, now: Time) -> Self {
        Target { root, paths: BTreeMap::new(), files: Vec::new(), now }
    }

    /// What is at `path`, which has been resolved.
    pub(crate) fn node(&self, path: &[u8]) -> Result<Option<Node>> {
        if let Some(new) = self.paths.get(path) {
            return Ok(Some(self.files[new.file].node.clone()));
        }
        if self.is_hidden(path) { Ok(None) } else { Ok(self.root.node(path)?) }
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        let mut folder = path;
        while !folder.is_empty() {
            folder = layer::index::split_last(folder).0;
            let new = self.paths.get(folder);
            if new.is_some_and(|new| new.hides || !self.files[new.file].node.is_directory()) {
                return true;
            }
        }
        false
    }

    /// Where `path` leads to in this root.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.resolve_beneath(b"", path)
    }

    /// Where `path` leads to when `top` is taken for the root.
    pub(crate) fn resolve_beneath(&self, top: &[u8], path: &[u8]) -> Result<Vec<u8>> {
        let resolved: Vec<u8> = tree::resolve(path, true, |path| {
            Ok::<_, TargetError>(match self.node(&tree::join(top, path))? {
                Some(Node { kind: Kind::Symlink { target }, .. }) => Some(target),
                _ => None,
            })
        })?;
        Ok(tree::join(top, &resolved))
    }

    /// Makes the directory at `path`, which has been resolved, and those above it, unless they are there. Those that
    /// had to be made get `mode` and `owner`.
    pub(crate) fn make_directories(&mut self, path: &[u8], mode: u32, owner: Owner) -> Result<()> {
        match self.node(path)? {
            Some(node) if node.is_directory() => return Ok(()),
            Some(_) => return Err(TargetError::NotDirectory(path.to_vec())),
            None => {}
        }
        self.make_directories(layer::index::split_last(path).0, mode, owner)?;
        let node =
            Node { uid: owner.uid, gid: owner.gid, mtime: self.now, ..Node::new(Kind::Directory, mode) };
        self.put(path, node, None)
    }

    /// Puts `node` at `path`; whatever is there must fit: a directory where one is made anew or changed, else no
    /// directory.
    pub(crate) fn put(&mut self, path: &[u8], node: Node, content: Option<Content>) -> Result<()> {
        let old = self.node(path)?;
        match &old {
            Some(old) if old.is_directory() && !node.is_directory() => {
                return Err(TargetError::ReplacesDirectory(path.to_vec()));
            }
            Some(old) if !old.is_directory() && node.is_directory() => {
                return Err(TargetError::ReplacesFile(path.to_vec()));
            }
            _ => {}
        }
        let hides = self.paths.get(path).is_some_and(|new| new.hides);
        self.insert(path, node, content, hides);
        Ok(())
    }

    /// Puts `node` at `path` instead of whatever is there.
    pub(crate) fn replace(&mut self, path: &[u8], node: Node, content: Option<Content>) -> Result<()> {
        let old = self.node(path)?;
        let merges = old.as_ref().is_some_and(|old| old.is_directory() && node.is_directory());
        let hides = match self.paths.get(path) {
            Some(new) if merges => new.hides,
            _ => !merges && (old.is_some() || self.paths.get(path).is_some_and(|new| new.hides)),
        };
        if !merges {
            self.paths.retain(|new, _| !layer::index::is_below(new, path));
        }
        self.insert(path, node, content, hides);
        Ok(())
    }

    fn insert(&mut self, path: &[u8], node: Node, content: Option<Content>, hides: bool) {
        let file = self.files.len();
        self.files.push(File { node, content });
        self.paths.insert(path.to_vec(), New { file, hides });
    }

    /// Gives the file at `existing` another name; `node` is what all its names have from now on. False when there is
    /// no file at `existing`.
    pub(crate) fn link(&mut self, existing: &[u8], path: &[u8], node: Option<Node>) -> Result<bool> {
        if !self.paths.contains_key(existing) && !self.promote(existing)? {
            return Ok(false);
        }
        if self.node(path)?.is_some_and(|old| old.is_directory()) {
            return Err(TargetError::ReplacesDirectory(path.to_vec()));
        }
        let file = self.paths[existing].file;
        if let Some(node) = node {
            self.files[file].node = node;
        }
        self.paths.insert(path.to_vec(), New { file, hides: false });
        Ok(true)
    }

    /// Takes a file of the root below into this layer, so that it can get another name.
    fn promote(&mut self, path: &[u8]) -> Result<bool> {
        match self.node(path)? {
            Some(node) if !node.is_directory() => {
                let content =
                    matches!(node.kind, Kind::File { .. }).then(|| Content::Below { path: path.to_vec() });
                self.insert(path, node, content, false);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// At most `limit_bytes` of a file of the root below, links followed; nothing when there is none.
    pub(crate) fn read(&self, path: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        let path = self.resolve(path.as_bytes())?;
        let mut bytes = Vec::new();
        if let Some(Node { kind: Kind::File { .. }, .. }) = self.root.node(&path)? {
            let read = self.open_below(&path)?.take(limit_bytes).read_to_end(&mut bytes);
            read.map_err(|source| TargetError::Read { path, source })?;
        }
        Ok(bytes)
    }

    /// The bytes of the file that the root below has at `path`.
    pub(crate) fn open_below(&self, path: &[u8]) -> Result<Box<dyn Read + Send>> {
        Ok(self.root.open(path)?)
    }

    /// Writes the layer: all changes in the order of paths, `open` giving the bytes of new files.
    pub(crate) fn write<W: io::Write, E>(
        &self,
        writer: &mut LayerWriter<W>,
        mut open: impl FnMut(&Content) -> Result<Box<dyn Read + Send>, E>,
    ) -> Result<(), E>
    where
        E: From<TargetError> + From<layer::WriteError>,
    {
        let mut first_names: BTreeMap<usize, &[u8]> = BTreeMap::new();
        for path in &self.order()? {
            let Some(new) = self.paths.get(path) else {
                let header = match self.node(path)? {
                    Some(node) => header(path, &node),
                    None => Header::new(path.as_slice(), layer::Kind::Whiteout, 0),
                };
                writer.append(&header, None)?;
                continue;
            };
            let file = &self.files[new.file];
            let mut header = header(path, &file.node);
            if let Some(first) = first_names.get(&new.file) {
                header.kind = layer::Kind::Hardlink { target: first.to_vec() };
                writer.append(&header, None)?;
                continue;
            }
            first_names.insert(new.file, path);
            match &file.content {
                Some(content) => writer.append(&header, Some(&mut *open(content)?))?,
                None => writer.append(&header, None)?,
            }
        }
        Ok(())
    }

    /// All paths that the layer has: the changed ones, the directories above them, and what has to vanish from
    /// directories that took the place of others.
    fn order(&self) -> Result<Vec<Vec<u8>>> {
        let mut all = BTreeSet::new();
        for (path, new) in &self.paths {
            let mut above = path.as_slice();
            while !above.is_empty() && all.insert(above.to_vec()) {
                above = layer::index::split_last(above).0;
            }
            if new.hides && self.files[new.file].node.is_directory() {
                all.extend(self.root.list(path)?.into_iter().map(|(name, _)| tree::join(path, &name)));
            }
        }
        let mut order: Vec<Vec<u8>> = all.into_iter().collect();
        order.sort_by(|a, b| path_order(a, b));
        Ok(order)
    }
}

fn header(path: &[u8], node: &Node) -> Header {
    let kind = match &node.kind {
        Kind::Directory => layer::Kind::Directory,
        Kind::File { size_bytes } => layer::Kind::File { size_bytes: *size_bytes, content: () },
        Kind::Symlink { target } => layer::Kind::Symlink { target: target.clone() },
        Kind::CharDevice { major, minor } => layer::Kind::CharDevice { major: *major, minor: *minor },
        Kind::BlockDevice { major, minor } => layer::Kind::BlockDevice { major: *major, minor: *minor },
        Kind::Fifo => layer::Kind::Fifo,
    };
    Header {
        path: path.to_vec(),
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: node.xattrs.clone(),
    }
}
