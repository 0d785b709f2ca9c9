//! COPY and ADD as layer arithmetic: from the files that are meant to the entries of a layer.
//!
//! [`select`] says what is meant, [`target`] what is there already; here stands what goes where. The rules are those of
//! BuildKit's copy, which the corpora pin:
//!
//! - Directories on the way to the destination are made with 0755 (or the octal `--chmod`) and 0:0 (or `--chown`).
//! - Of a source directory the contents are copied. The destination itself keeps owner and mode if it is there and gets
//!   those of a made directory if not; directories below it get those of the source.
//! - A file goes into the destination if that is a directory, under the last name of its source, else onto it. Links at
//!   the destination are followed, links in the source are copied, but for the source's own name, which is followed.
//! - A directory and a file never replace each other.

pub(crate) mod archive;
pub(crate) mod glob;
pub(crate) mod mode;
pub(crate) mod owner;
pub(crate) mod select;
pub(crate) mod source;
pub(crate) mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use common::layer::Time;
use common::layer::index::split_last;

use self::mode::Chmod;
use self::owner::Owner;
use self::select::{Item, Match};
use self::target::{Content, Target, TargetError};
use crate::tree::{self, Identity, Kind, Node};

/// What to change on everything that is copied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// `--chown`
    pub owner: Option<Owner>,
    /// `--chmod`
    pub chmod: Option<Chmod>,
    /// Exactly this time instead of the source's.
    pub mtime: Option<Time>,
}

impl Changes {
    fn apply(&self, node: &Node) -> Node {
        let mut node = node.clone();
        if let Some(owner) = self.owner {
            (node.uid, node.gid) = (owner.uid, owner.gid);
        }
        if let (Some(chmod), false) = (&self.chmod, matches!(node.kind, Kind::Symlink { .. })) {
            node.mode = chmod.apply(node.mode, node.is_directory());
        }
        node.mtime = self.mtime.unwrap_or(node.mtime);
        node
    }

    fn of_parents(&self) -> (u32, Owner) {
        (Chmod::of_parents(self.chmod.as_ref()), self.owner.unwrap_or_default())
    }
}

/// Where things go, as it was written: absolute, with a trailing `/` or `/.` if it had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub path: Vec<u8>,
    is_folder: bool,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}{}", String::from_utf8_lossy(&self.path), if self.is_folder { "/" } else { "" })
    }
}

impl Destination {
    /// `written` upon the working directory.
    pub(crate) fn new(working_dir: &str, written: &str) -> Self {
        let is_folder = matches!(written, "" | ".") || written.ends_with('/') || written.ends_with("/.");
        let path = tree::clean(tree::absolute(working_dir, written).as_bytes());
        Destination { is_folder: is_folder || path.is_empty(), path }
    }
}

/// Copies one match.
pub(crate) fn copy(
    target: &mut Target,
    found: &Match,
    destination: &Destination,
    changes: &Changes,
) -> Result<(), TargetError> {
    let Some(top) = found.items.first() else { return Ok(()) };
    let place = place(target, &top.node, split_last(&found.path).1, destination, changes)?;
    let mut links = BTreeMap::new();
    for item in &found.items {
        copy_item(target, item, &tree::join(&place, &item.relative), changes, &mut links)?;
    }
    Ok(())
}

/// Puts a heredoc at the destination.
pub(crate) fn write(
    target: &mut Target,
    name: &str,
    bytes: Arc<[u8]>,
    mtime: Time,
    destination: &Destination,
    changes: &Changes,
) -> Result<(), TargetError> {
    let node = Node { mtime, ..Node::new(Kind::File { size_bytes: bytes.len() as u64 }, 0o644) };
    let place = place(target, &node, name.as_bytes(), destination, changes)?;
    target.put(&place, changes.apply(&node), Some(Content::Bytes(bytes)))
}

/// Where a thing called `name` comes to stand; directories on the way are there afterwards.
fn place(
    target: &mut Target,
    node: &Node,
    name: &[u8],
    destination: &Destination,
    changes: &Changes,
) -> Result<Vec<u8>, TargetError> {
    let (mode, owner) = changes.of_parents();
    let folder = if destination.is_folder { &destination.path } else { split_last(&destination.path).0 };
    let folder = target.resolve(folder)?;
    target.make_directories(&folder, mode, owner)?;
    let mut place = target.resolve(&destination.path)?;
    let there = target.node(&place)?;
    if there.as_ref().is_some_and(Node::is_directory) && !node.is_directory() {
        place = tree::join(&place, name);
    }
    let made = if node.is_directory() && there.is_none() { &place[..] } else { split_last(&place).0 };
    target.make_directories(made, mode, owner)?;
    Ok(place)
}

fn copy_item(
    target: &mut Target,
    item: &Item,
    place: &[u8],
    changes: &Changes,
    links: &mut BTreeMap<Identity, Vec<u8>>,
) -> Result<(), TargetError> {
    let node = changes.apply(&item.node);
    if node.is_directory() {
        return copy_directory(target, item, place, node);
    }
    if let Some(identity) = &node.identity {
        if let Some(first) = links.get(identity) {
            target.link(first, place, Some(node))?;
            return Ok(());
        }
        links.insert(identity.clone(), place.to_vec());
    }
    let content = matches!(node.kind, Kind::File { .. }).then(|| Content::Source { path: item.path.clone() });
    target.put(place, node, content)
}

fn copy_directory(target: &mut Target, item: &Item, place: &[u8], node: Node) -> Result<(), TargetError> {
    match target.node(place)? {
        // The destination itself, or a directory on the way to something that `--parents` asks for.
        Some(old) if old.is_directory() && item.relative.is_empty() => Ok(()),
        Some(old) if old.is_directory() && item.on_the_way => {
            target.put(place, Node { mode: item.node.mode, ..old }, None)
        }
        Some(old) if !old.is_directory() => Err(TargetError::ReplacesFile(place.to_vec())),
        _ => target.put(place, node, None),
    }
}
