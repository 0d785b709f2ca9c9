//! COPY and ADD: select, look into the cache, else make the layer.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read;

use common::layer::{StoredLayer, Time};

use super::{Execution, StepContext};
use crate::cache::{Key, Outcome};
use crate::context::Context;
use crate::copy::archive::Archive;
use crate::copy::owner::Unknown;
use crate::copy::select::{Item, Match, Wanted, select};
use crate::copy::source::RootTree;
use crate::copy::target::{Content, Target};
use crate::copy::{self, Changes};
use crate::error::Cause;
use crate::event::VertexId;
use crate::sources;
use crate::steps::CopyStep;
use crate::tree::{Kind, Tree};

/// Where a COPY takes files from.
pub(super) enum SourceTree<'a> {
    Context(&'a Context),
    Root(RootTree),
}

impl SourceTree<'_> {
    pub(super) fn select(&self, wanted: &Wanted) -> Result<Vec<Match>, Cause> {
        match self {
            SourceTree::Context(context) => {
                select(*context, wanted).map_err(|error| sources::cause(error, wanted, None))
            }
            SourceTree::Root(root) => {
                select(root, wanted).map_err(|error| sources::cause(error, wanted, Some(root)))
            }
        }
    }

    pub(super) fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, Cause> {
        match self {
            SourceTree::Context(context) => Ok(context.open(path)?),
            SourceTree::Root(root) => Ok(root.open(path)?),
        }
    }
}

impl Execution<'_> {
    pub(super) fn copy(
        &self,
        at: &StepContext<'_>,
        step: &CopyStep,
        vertex: VertexId,
    ) -> Result<Outcome, Cause> {
        let tree = self.source_tree(at, step.from)?;
        let matches = step.sources.iter().map(|source| tree.select(&sources::wanted(source, &step.exclude)?));
        let matches: Vec<Vec<Match>> = matches.collect::<Result<_, Cause>>()?;
        let owner =
            step.chown.as_ref().map(|text| self.owner(at.below, text, Unknown::Refuse)).transpose()?;
        let mtime = if step.from.is_none() { self.inputs.epoch.map(Time::from_seconds) } else { None };
        let changes = Changes { owner, chmod: step.chmod.clone(), mtime };

        let mut key = self.key("copy", (!step.link).then_some(at.below));
        describe(&mut key, step, &changes);
        for (source, matches) in step.sources.iter().zip(&matches) {
            key.add("source", String::from_utf8_lossy(&source.path));
            matches.iter().for_each(|found| describe_match(&mut key, found, step.from.is_some()));
        }
        self.cached(vertex, &key, || self.write_copy(at, step, &tree, &matches, &changes))
    }

    pub(super) fn source_tree(
        &self,
        at: &StepContext<'_>,
        from: Option<usize>,
    ) -> Result<SourceTree<'_>, Cause> {
        let Some(number) = from else { return Ok(SourceTree::Context(self.inputs.context)) };
        let name = &self.inputs.plan.stages[number].label;
        Ok(SourceTree::Root(self.root(&at.sources[&number].diff_ids, name)?))
    }

    fn write_copy(
        &self,
        at: &StepContext<'_>,
        step: &CopyStep,
        tree: &SourceTree<'_>,
        matches: &[Vec<Match>],
        changes: &Changes,
    ) -> Result<StoredLayer, Cause> {
        let below = if step.link { &[] } else { at.below };
        let mut target = Target::new(self.root(below, "")?, self.now());
        let mut archives = Vec::new();
        for found in matches.iter().flatten() {
            match self.archive(step, tree, found)? {
                Some(archive) => {
                    archive.add(&mut target, archives.len(), &step.destination.path, changes)?;
                    archives.push(archive);
                }
                None => copy::copy(&mut target, found, &step.destination, changes)?,
            }
        }
        for (name, content) in &step.documents {
            copy::write(&mut target, name, content.clone(), self.now(), &step.destination, changes)?;
        }
        self.write_layer(at, &target, |content| match content {
            Content::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Content::Source { path } => tree.open(path),
            Content::Archive { archive, offset, size_bytes } => {
                Ok(Box::new(archives[*archive].member(*offset, *size_bytes)?))
            }
            Content::Below { path } => Ok(target.open_below(path)?),
        })
    }

    fn archive(
        &self,
        step: &CopyStep,
        tree: &SourceTree<'_>,
        found: &Match,
    ) -> Result<Option<Archive>, Cause> {
        match found.items.as_slice() {
            [Item { node, path, .. }] if step.unpack && matches!(node.kind, Kind::File { .. }) => {
                Archive::open(self.inputs.store, || tree.open(path))
            }
            _ => Ok(None),
        }
    }
}

/// What the instruction says.
fn describe(key: &mut Key, step: &CopyStep, changes: &Changes) {
    key.add("destination", step.destination.to_string());
    key.add("chown", changes.owner.map_or_else(String::new, |owner| format!("{}:{}", owner.uid, owner.gid)));
    key.add("chmod", changes.chmod.as_ref().map_or_else(String::new, |chmod| format!("{chmod:?}")));
    key.add("unpack", step.unpack.to_string());
    key.add_all("exclude", &step.exclude);
    for (name, content) in &step.documents {
        key.add(format!("document {name}"), common::digest::Digest::sha256(content).to_string());
    }
}

/// What is copied: names, kinds, modes, contents; owners and extended attributes when a stage has them. Times are not
/// part of it.
pub(super) fn describe_match(key: &mut Key, found: &Match, with_owner: bool) {
    key.add("match", String::from_utf8_lossy(&found.path));
    let mut names = HashMap::new();
    for (number, item) in found.items.iter().enumerate() {
        let node = &item.node;
        let mut text = match (&node.kind, &item.digest) {
            (Kind::File { .. }, Some(digest)) => format!("file {digest}"),
            (Kind::Symlink { target }, _) => format!("symlink {}", String::from_utf8_lossy(target)),
            (kind, _) => format!("{kind:?}"),
        };
        _ = write!(text, " {:o}", node.mode);
        if with_owner {
            _ = write!(text, " {}:{}", node.uid, node.gid);
        }
        for (name, value) in &node.xattrs {
            _ = write!(text, " {}={}", String::from_utf8_lossy(name), common::digest::hex(value));
        }
        if let Some(identity) = &node.identity {
            _ = write!(text, " link {}", names.entry(identity).or_insert(number));
        }
        if item.on_the_way {
            text += " on the way";
        }
        key.add(format!("  {}", String::from_utf8_lossy(&item.relative)), text);
    }
}
