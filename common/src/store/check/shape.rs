//! What may lie where in the store: the tree that the module text of `store` draws, as rules.

use std::fs;
use std::io;
use std::path::Path;

use super::references::is_below;
use super::{Check, Fault, Note};
use crate::digest::{Algorithm, Digest};
use crate::reference::{RepositoryPath, Tag};
use crate::store::catalog::local_name;
use crate::store::disk::as_random_id;
use crate::store::error::StoreError;
use crate::store::paths::{MANIFESTS, REFERRERS, TAGS, from_flat, from_reference, is_form_name};

/// What a name stands for.
#[derive(Clone, Copy)]
enum Shape {
    File,
    Folder(&'static [Rule]),
    /// Repositories, and folders on the way to them.
    Repositories,
    /// What is in it is the business of whoever made it.
    Closed,
    /// A file or a folder, which a sweep removes when its owner is gone.
    Scratch,
}

/// What may be in a folder.
type Rule = (Name, Shape);

#[derive(Clone, Copy)]
enum Name {
    Is(&'static str),
    /// The names on the way from the store's root; the last one is in question.
    Like(fn(&[&str]) -> bool),
}

use Name::{Is, Like};
use Shape::{Closed, File, Folder, Repositories, Scratch};

/// `<alg>/<hex>`
macro_rules! by_digest {
    ($shape:expr) => {
        Folder(&[(Like(is_algorithm), Folder(&[(Like(is_hex), $shape)]))])
    };
}

/// `<alg>/<hh>/<hex>`
macro_rules! fanned_out {
    ($shape:expr) => {
        Folder(&[(Like(is_algorithm), Folder(&[(Like(is_first), Folder(&[(Like(is_fanned_out), $shape)]))]))])
    };
}

static STORE: &[Rule] = &[
    (Is("format"), File),
    (Is("secret"), File),
    (Is("blobs"), fanned_out!(File)),
    (Is("layers"), fanned_out!(Folder(LAYER))),
    (Is("snapshots"), Folder(&[(Like(is_ids), fanned_out!(Folder(TREE)))])),
    (Is("images"), by_digest!(File)),
    (Is("repos"), Folder(&[(Is("local"), Repositories), (Is("served"), Repositories)])),
    (Is("refs"), fanned_out!(Folder(&[(Like(|names| from_reference(last(names)).is_some()), File)]))),
    (Is("uploads"), Folder(&[(Like(is_random_id), Folder(UPLOAD))])),
    (Is("ingest"), Folder(&[(Like(|_| true), Scratch)])),
    (Is("leases"), Folder(&[(Like(is_random_id), File)])),
    (Is("serving"), Folder(&[(Like(|_| true), Scratch)])),
    (Is("trash"), Folder(&[(Like(is_day), Folder(&[(Like(is_flat), File)]))])),
    (Is("cache"), Folder(CACHE)),
    (Is("containers"), Folder(CONTAINERS)),
    (Is("volumes"), Closed),
    (Is("networks"), Closed),
    (Is("events"), Closed),
    // of the file system, where the store has one for itself
    (Is("lost+found"), Closed),
];

static LAYER: &[Rule] = &[
    (Is("index"), File),
    (Is("tar"), File),
    (Is("previous"), File),
    (Is("as"), Folder(&[(Like(|names| is_form_name(last(names))), File)])),
];

static TREE: &[Rule] = &[(Is("tree"), Closed), (Is("made"), File)];

static UPLOAD: &[Rule] = &[(Is("data"), File), (Is("state.json"), File), (Is("state.new"), File)];

static CACHE: &[Rule] = &[
    (
        Is("steps"),
        Folder(&[(
            Like(is_first),
            Folder(&[(Like(|names| is_hex_of(Algorithm::Sha256, last(names))), File)]),
        )]),
    ),
    (Is("previous"), Closed),
    (Is("contexts"), Closed),
    (Is("mounts"), Closed),
];

static CONTAINERS: &[Rule] = &[
    (Is("lock"), File),
    (Is("names"), Closed),
    (Is("leaving"), Closed),
    (Like(|names| is_hex_of(Algorithm::Sha256, last(names))), Closed),
];

static REPOSITORIES: &[Rule] = &[
    (Is(TAGS), Folder(&[(Like(|names| last(names).parse::<Tag>().is_ok()), File)])),
    (Is(MANIFESTS), by_digest!(File)),
    (Is(REFERRERS), by_digest!(Folder(&[(Like(is_flat), File)]))),
    (Like(is_repository), Repositories),
];

fn last<'a>(names: &[&'a str]) -> &'a str {
    names.last().copied().unwrap_or_default()
}

fn is_algorithm(names: &[&str]) -> bool {
    last(names).parse::<Algorithm>().is_ok()
}

fn is_first(names: &[&str]) -> bool {
    matches!(last(names).as_bytes(), [b'0'..=b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f'])
}

fn is_hex(names: &[&str]) -> bool {
    let [.., algorithm, hex] = names else { return false };
    algorithm.parse().is_ok_and(|algorithm| is_hex_of(algorithm, hex))
}

fn is_fanned_out(names: &[&str]) -> bool {
    let [.., algorithm, first, hex] = names else { return false };
    is_hex(&[algorithm, hex]) && is_below(hex, first)
}

fn is_hex_of(algorithm: Algorithm, hex: &str) -> bool {
    Digest::new(algorithm, hex).is_ok()
}

fn is_flat(names: &[&str]) -> bool {
    from_flat(last(names)).is_some()
}

fn is_day(names: &[&str]) -> bool {
    last(names).parse::<jiff::civil::Date>().is_ok()
}

/// An id mapping, as `snapshot` calls them.
fn is_ids(names: &[&str]) -> bool {
    let ids = last(names).trim_end_matches("-whole");
    ids == "full" || ids.starts_with("map-") || ids.starts_with("user-")
}

fn is_random_id(names: &[&str]) -> bool {
    as_random_id(last(names)).is_some()
}

/// A repository, or a folder on the way to one.
fn is_repository(names: &[&str]) -> bool {
    match names {
        [_, "served", path @ ..] => path.join("/").parse::<RepositoryPath>().is_ok(),
        [_, "local", host] => local_name(&format!("{host}/x")).is_some(),
        [_, "local", name @ ..] => local_name(&name.join("/")).is_some(),
        _ => false,
    }
}

impl Check<'_> {
    /// What lies in the store and is not of it.
    pub(super) fn shape(&mut self) -> Result<(), StoreError> {
        let root = self.store.root().to_owned();
        self.look_into(&root, &[], STORE)
    }

    fn look_into(&mut self, folder: &Path, above: &[&str], rules: &[Rule]) -> Result<(), StoreError> {
        let entries = match fs::read_dir(folder) {
            // Gone since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(StoreError::io("list", folder))?,
        };
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", folder))?.path();
            let name = path.file_name().unwrap_or_default();
            let names = name.to_str().map(|name| [above, &[name]].concat());
            let rule = names.as_ref().and_then(|names| rules.iter().find(|(rule, _)| rule.allows(names)));
            match (rule, &names) {
                (Some((_, shape)), Some(names)) => self.look_at(&path, names, *shape)?,
                _ if above.is_empty() => self.report.notes.push(Note::Foreign { path }),
                _ => self.foreign(&path, "does not belong into the store: nothing uses it"),
            }
        }
        Ok(())
    }

    fn look_at(&mut self, path: &Path, names: &[&str], shape: Shape) -> Result<(), StoreError> {
        // The store's own folders may be kept elsewhere.
        let metadata = if names.len() == 1 { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let kind = match metadata {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata.map_err(StoreError::io("read", path))?.file_type(),
        };
        match shape {
            File | Folder(_) | Repositories | Closed if kind.is_symlink() => {
                self.foreign(path, "is a symlink: what is behind it may be used, but is not checked");
            }
            File if !kind.is_file() => self.foreign(path, "is no file: nothing uses it"),
            Folder(_) | Repositories | Closed if !kind.is_dir() => {
                self.foreign(path, "is no folder: nothing uses it");
            }
            Scratch if !kind.is_file() && !kind.is_dir() => {
                self.foreign(path, "is neither file nor folder: nothing uses it");
            }
            Folder(rules) => self.look_into(path, names, rules)?,
            Repositories => self.look_into(path, names, REPOSITORIES)?,
            File | Closed | Scratch => {}
        }
        Ok(())
    }

    fn foreign(&mut self, path: &Path, what: &'static str) {
        self.report.faults.push(Fault::Foreign { path: path.to_owned(), what });
    }
}

impl Name {
    fn allows(self, names: &[&str]) -> bool {
        match self {
            Is(name) => last(names) == name,
            Like(allows) => allows(names),
        }
    }
}
