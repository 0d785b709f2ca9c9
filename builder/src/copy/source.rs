//! The root of a stage or image, as a tree to copy from and to copy onto.

use std::io::Read;

use common::digest::Digest;
use common::layer::index::split_last;
use common::layer::{self, Follow, LayerError, LoopError, Resolved, Root};
use common::store::Store;

use crate::tree::{Identity, Kind, Node, TooManyLinks, Tree};

/// Why a root cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Links in a circle, of the layers.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// Links in a circle, of what was asked for.
    #[error(transparent)]
    Links(#[from] TooManyLinks),
}

/// A root and how messages call it.
#[derive(Debug)]
pub(crate) struct RootTree {
    store: Store,
    root: Root,
    pub name: String,
}

impl RootTree {
    /// The view of these layers, lowest first; none is an empty root.
    pub(crate) fn open(store: &Store, diff_ids: &[Digest], name: &str) -> Result<Self, LayerError> {
        Ok(RootTree { store: store.clone(), root: Root::open(store, diff_ids)?, name: name.to_owned() })
    }
}

impl Tree for RootTree {
    type Error = RootError;

    fn node(&self, path: &[u8]) -> Result<Option<Node>, RootError> {
        Ok(self.root.lookup(path, Follow::No)?.map(|found| to_node(&found)))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, RootError> {
        let Some(folder) = self.root.lookup(path, Follow::No)? else { return Ok(Vec::new()) };
        let children = self.root.list(&folder);
        Ok(children.map(|child| (split_last(&child.path).1.to_vec(), to_node(&child))).collect())
    }

    fn digest(&self, path: &[u8], _node: &mut Node) -> Result<Digest, RootError> {
        let found = self.root.lookup(path, Follow::No)?;
        match found.map(|found| &found.entry.kind) {
            Some(layer::Kind::File { content, .. }) => Ok(content.digest.clone()),
            _ => unreachable!("digests are asked for of files that were found"),
        }
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, RootError> {
        let found = self.root.lookup(path, Follow::No)?.expect("only what was found is opened");
        Ok(Box::new(self.root.open_file(&self.store, &found)?))
    }
}

fn to_node(found: &Resolved<'_>) -> Node {
    let entry = found.entry;
    let kind = match &entry.kind {
        layer::Kind::File { size_bytes, .. } => Kind::File { size_bytes: *size_bytes },
        layer::Kind::Symlink { target } => Kind::Symlink { target: target.clone() },
        layer::Kind::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
        layer::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        layer::Kind::Fifo => Kind::Fifo,
        layer::Kind::Directory => Kind::Directory,
        layer::Kind::Hardlink { .. } | layer::Kind::Whiteout | layer::Kind::Opaque => {
            unreachable!("a root has files behind hard links, and no markers")
        }
    };
    let identity = matches!(kind, Kind::File { .. }).then_some(Identity::Root(found.inode));
    Node {
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
        identity,
        ..Node::new(kind, entry.mode)
    }
}
