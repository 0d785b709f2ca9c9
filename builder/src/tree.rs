//! Trees of files that COPY reads: the build context, and the root of a stage or image.
//!
//! Paths are names joined by `/`, without a leading one; the empty path is the root. Whoever asks a tree for a path has
//! resolved it with [`resolve`], so that no link is on the way: `lib -> /usr/lib` means the tree's own `/usr/lib`, and `..`
//! above the root stays there.

use std::collections::BTreeMap;
use std::io::Read;

use common::digest::Digest;
use common::layer::Time;

use crate::context::signature::Signature;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub kind: Kind,
    /// `0o7777`
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The same for all names of one file; `None` when it has one name only.
    pub identity: Option<Identity>,
    /// In a build context: what tells this state of a file from others.
    pub signature: Option<Signature>,
}

/// What tells one file from another within a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Identity {
    Inode { device: u64, inode: u64 },
    Root(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File { size_bytes: u64 },
    Symlink { target: Vec<u8> },
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

impl Node {
    pub(crate) fn new(kind: Kind, mode: u32) -> Self {
        Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
            identity: None,
            signature: None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

/// A tree that files can be copied from.
pub(crate) trait Tree: Sync {
    type Error;

    /// What is at `path`, links not followed.
    fn node(&self, path: &[u8]) -> Result<Option<Node>, Self::Error>;

    /// What is in the directory `path`, sorted by name.
    fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, Self::Error>;

    /// SHA-256 of the file at `path`; what is known of it otherwise may become more exact on the way (`node` of a
    /// context does not know capabilities before the file was opened).
    fn digest(&self, path: &[u8], node: &mut Node) -> Result<Digest, Self::Error>;

    /// The bytes of the file at `path`.
    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, Self::Error>;
}

/// More links than this on one way are a circle.
const MAX_LINKS: u32 = 255;

/// The circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("too many symbolic links on the way to `{}`", String::from_utf8_lossy(.0))]
pub struct TooManyLinks(pub(crate) Vec<u8>);

/// `path` without links: each is followed, beneath the root, the last name only when `follow_last` says so. Names that
/// do not exist stay as they are, so the result is where such a thing would be made. `link` gives the target of the
/// link at a path that has none before its last name, and `None` for all else.
pub(crate) fn resolve<E: From<TooManyLinks>>(
    path: &[u8],
    follow_last: bool,
    mut link: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, E>,
) -> Result<Vec<u8>, E> {
    let mut todo: Vec<Vec<u8>> = components(path).map(<[u8]>::to_vec).rev().collect();
    let mut done: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            parent(&mut done);
            continue;
        }
        let before = done.len();
        push(&mut done, &name);
        if todo.is_empty() && !follow_last {
            break;
        }
        let Some(target) = link(&done)? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(TooManyLinks(path.to_vec()).into());
        }
        done.truncate(if target.starts_with(b"/") { 0 } else { before });
        todo.extend(components(&target).map(<[u8]>::to_vec).rev());
    }
    Ok(done)
}

/// The names of a path; `.` is none.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// `path` with `..` taken literally and not above the root; `a/../b` is `b`, whatever `a` is.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut done = Vec::new();
    for name in components(path) {
        if name == b".." {
            parent(&mut done);
        } else {
            push(&mut done, name);
        }
    }
    done
}

/// `path` upon `base`, cleaned; absolute.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `folder/name`, either may be empty.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    push(&mut path, name);
    path
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn parent(path: &mut Vec<u8>) {
    path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_beneath_the_root() {
        let links = |path: &[u8]| -> Result<Option<Vec<u8>>, TooManyLinks> {
            Ok(match path {
                b"lib" => Some(b"/usr/lib".to_vec()),
                b"up" => Some(b"../../../etc".to_vec()),
                b"x/rel" => Some(b"../y/./z".to_vec()),
                b"round" => Some(b"round".to_vec()),
                _ => None,
            })
        };
        for (path, follow, expected) in [
            ("lib/x", true, "usr/lib/x"),
            ("lib", false, "lib"),
            ("lib", true, "usr/lib"),
            ("up/passwd", true, "etc/passwd"),
            ("x/rel/new", true, "y/z/new"),
            ("../a/./b/../c", true, "a/c"),
            ("lib/..", true, "usr"),
        ] {
            let resolved = resolve(path.as_bytes(), follow, links).unwrap();
            assert_eq!(String::from_utf8(resolved).unwrap(), expected, "{path}");
        }
        assert!(resolve(b"round/x", true, links).is_err());
    }
}
