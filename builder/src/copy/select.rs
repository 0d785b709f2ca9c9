//! Which files a COPY or ADD means: wildcards, `--exclude`, `--parents`.
//!
//! A source gives any number of matches; each is copied by itself, under its own name, with hard links kept within it.
//! The items of a match stand in the order of a walk. What they are is all that a cache key needs to know, so nothing
//! is copied yet.

use std::thread;

use common::digest::Digest;

use super::glob;
use crate::ignore::{Folder, Patterns};
use crate::tree::{self, Kind, Node, TooManyLinks, Tree};

/// A file or directory that a source stands for, with all in it that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Match {
    /// The path that was found, links not followed: its last name is what a copied file is called.
    pub path: Vec<u8>,
    /// The thing itself first.
    pub items: Vec<Item>,
}

/// One thing to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Where it is in its tree.
    pub path: Vec<u8>,
    /// Where it is below its match; empty for the match itself.
    pub relative: Vec<u8>,
    pub node: Node,
    /// Of a file.
    pub digest: Option<Digest>,
    /// A directory that is here only since something below it is.
    pub on_the_way: bool,
}

/// What is wanted of a tree.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// As written, cleaned; may hold wildcards.
    pub source: Vec<u8>,
    /// Below each match only these paths, when there are any (`--parents`).
    pub include: Option<Patterns>,
    /// Below each match not these paths (`--exclude`).
    pub exclude: Option<Patterns>,
    /// This path must be there, in spite of `include`.
    pub required: Option<Vec<u8>>,
}

/// Why there is nothing to copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectError<E> {
    #[error("not found")]
    NotFound {
        path: Vec<u8>,
        /// The last link on the way.
        link: Option<Link>,
    },
    #[error(transparent)]
    Tree(#[from] E),
}

/// A link that was followed.
#[derive(Debug)]
pub(crate) struct Link {
    pub path: Vec<u8>,
    pub target: Vec<u8>,
    /// Where the whole path came to in the end.
    pub end: Vec<u8>,
}

/// Finds what `wanted` means in `tree`. A pattern may match nothing; a plain path must be there.
pub(crate) fn select<T: Tree>(tree: &T, wanted: &Wanted) -> Result<Vec<Match>, SelectError<T::Error>>
where
    T::Error: From<TooManyLinks> + Send,
{
    let mut matches = Vec::new();
    for path in expand(tree, &wanted.source)? {
        matches.push(Match { items: walk(tree, &path, wanted)?, path });
    }
    if let Some(required) = &wanted.required {
        let reaches = |found: &Match| {
            let items = found.items.iter().filter(|item| !item.on_the_way);
            items.map(|item| tree::join(&found.path, &item.relative)).any(|path| path.starts_with(required))
        };
        if !matches.iter().any(reaches) {
            return Err(SelectError::NotFound { path: required.clone(), link: None });
        }
    }
    read_digests(tree, &mut matches)?;
    Ok(matches)
}

/// Whether what `wanted` names is there; what is below is not looked at, and no file is read.
pub(crate) fn locate<T: Tree>(tree: &T, wanted: &Wanted) -> Result<(), SelectError<T::Error>>
where
    T::Error: From<TooManyLinks>,
{
    for path in expand(tree, &wanted.source)? {
        top(tree, &path, true)?;
    }
    // With its parents a link is copied as it is.
    wanted.required.as_ref().map_or(Ok(()), |required| top(tree, required, false).map(drop))
}

/// What is at `path`, and where that is when links are followed.
fn top<T: Tree>(tree: &T, path: &[u8], follow_last: bool) -> Result<(Vec<u8>, Node), SelectError<T::Error>>
where
    T::Error: From<TooManyLinks>,
{
    let mut last = None;
    let end = tree::resolve(path, follow_last, |path| {
        let Some(Node { kind: Kind::Symlink { target }, .. }) = tree.node(path)? else { return Ok(None) };
        last = Some((path.to_vec(), target.clone()));
        Ok::<_, T::Error>(Some(target))
    })?;
    match tree.node(&end)? {
        Some(node) => Ok((end, node)),
        None => {
            let link = last.map(|(path, target)| Link { path, target, end });
            Err(SelectError::NotFound { path: path.to_vec(), link })
        }
    }
}

/// The paths that a pattern matches, or the path itself when it is none.
fn expand<T: Tree>(tree: &T, source: &[u8]) -> Result<Vec<Vec<u8>>, SelectError<T::Error>>
where
    T::Error: From<TooManyLinks>,
{
    let (fixed, pattern) = glob::split(source);
    if pattern.is_empty() {
        return Ok(vec![fixed]);
    }
    let (base, node) = top(tree, &fixed, true)?;
    if !node.is_directory() {
        return Err(SelectError::NotFound { path: fixed, link: None });
    }
    let mut found = Vec::new();
    let depth = tree::components(&pattern).count();
    find(tree, &base, b"", &pattern, depth, &mut found)?;
    Ok(found)
}

/// What matches is not searched further; no name matches across more slashes than the pattern has.
fn find<T: Tree>(
    tree: &T,
    base: &[u8],
    relative: &[u8],
    pattern: &[u8],
    depth: usize,
    found: &mut Vec<Vec<u8>>,
) -> Result<(), T::Error> {
    for (name, node) in tree.list(&tree::join(base, relative))? {
        let relative = tree::join(relative, &name);
        if glob::matches(pattern, &relative) {
            found.push(tree::join(base, &relative));
        } else if depth > 1 && node.is_directory() {
            find(tree, base, &relative, pattern, depth - 1, found)?;
        }
    }
    Ok(())
}

fn walk<T: Tree>(tree: &T, path: &[u8], wanted: &Wanted) -> Result<Vec<Item>, SelectError<T::Error>>
where
    T::Error: From<TooManyLinks>,
{
    let (top, node) = top(tree, path, true)?;
    let mut walk = Walk { tree, wanted, items: Vec::new(), pending: Vec::new() };
    let folders = Folders {
        include: wanted.include.as_ref().map(Patterns::root),
        exclude: wanted.exclude.as_ref().map(Patterns::root),
    };
    let is_directory = node.is_directory();
    if !is_directory && wanted.include.is_some() {
        // It has nothing below it.
        return Ok(walk.items);
    }
    walk.items.push(Item { path: top.clone(), relative: Vec::new(), node, digest: None, on_the_way: false });
    if is_directory {
        walk.children(&top, b"", &folders)?;
    }
    Ok(walk.items)
}

/// What the patterns know about a directory of the walk.
struct Folders {
    include: Option<Folder>,
    exclude: Option<Folder>,
}

struct Walk<'a, T> {
    tree: &'a T,
    wanted: &'a Wanted,
    items: Vec<Item>,
    /// Directories above that are not wanted themselves; taken as soon as something below is.
    pending: Vec<Item>,
}

impl<T: Tree> Walk<'_, T> {
    fn children(&mut self, path: &[u8], relative: &[u8], folders: &Folders) -> Result<(), T::Error> {
        for (name, node) in self.tree.list(path)? {
            self.child(tree::join(path, &name), tree::join(relative, &name), node, folders)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        path: Vec<u8>,
        relative: Vec<u8>,
        node: Node,
        folders: &Folders,
    ) -> Result<(), T::Error> {
        let matches = |patterns: &Option<Patterns>, folder: &Option<Folder>| {
            let (patterns, folder) = (patterns.as_ref()?, folder.as_ref()?);
            Some(patterns.matches_in(folder, &relative))
        };
        let included = matches(&self.wanted.include, &folders.include).unwrap_or(true);
        let excluded = matches(&self.wanted.exclude, &folders.exclude).unwrap_or(false);
        let is_directory = node.is_directory();
        let item =
            Item { path: path.clone(), relative: relative.clone(), node, digest: None, on_the_way: false };
        if !is_directory {
            if included && !excluded {
                self.items.append(&mut self.pending);
                self.items.push(item);
            }
            return Ok(());
        }
        let enter = |patterns: &Option<Patterns>, folder: &Option<Folder>| {
            Some(patterns.as_ref()?.enter(folder.as_ref()?, &relative))
        };
        let inside = Folders {
            include: enter(&self.wanted.include, &folders.include),
            exclude: enter(&self.wanted.exclude, &folders.exclude),
        };
        if let (Some(exclude), Some(folder)) = (&self.wanted.exclude, &inside.exclude)
            && exclude.is_closed(folder, &relative)
        {
            return Ok(());
        }
        if included && !excluded {
            self.items.append(&mut self.pending);
            self.items.push(item);
            return self.children(&path, &relative, &inside);
        }
        let depth = self.pending.len();
        self.pending.push(Item { on_the_way: true, ..item });
        self.children(&path, &relative, &inside)?;
        self.pending.truncate(depth);
        Ok(())
    }
}

/// Reads the files' digests, on all processors when there are many.
fn read_digests<T: Tree>(tree: &T, matches: &mut [Match]) -> Result<(), T::Error>
where
    T::Error: Send,
{
    const WORTH_A_THREAD: usize = 64;
    let mut files: Vec<&mut Item> = matches
        .iter_mut()
        .flat_map(|found| &mut found.items)
        .filter(|item| matches!(item.node.kind, Kind::File { .. }))
        .collect();
    let read = |item: &mut Item| {
        item.digest = Some(tree.digest(&item.path, &mut item.node)?);
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(threads).max(WORTH_A_THREAD);
    thread::scope(|scope| {
        let workers: Vec<_> = files
            .chunks_mut(share)
            .map(|items| scope.spawn(move || items.iter_mut().try_for_each(|item| read(item))))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("reading digests does not panic"))
    })
}
