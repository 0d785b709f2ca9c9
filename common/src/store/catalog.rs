use std::path::Path;

use super::Store;
use super::error::StoreError;
use super::listing::Sort;
use super::paths::{MANIFESTS, TAGS};
use crate::reference::{Repository, RepositoryPath};

impl Store {
    /// The registry's repositories after `after`, sorted by bytes, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder cannot be read.
    pub fn served_repositories(
        &self,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<RepositoryPath>, StoreError> {
        let parse = |name: &str| name.parse().ok();
        repositories(self, &self.paths().served_repositories(), after, limit, parse)
    }

    /// The repositories of names on this machine, sorted by bytes of `host/path`. Some may have no tags any more.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder cannot be read.
    pub fn local_repositories(&self) -> Result<Vec<Repository>, StoreError> {
        repositories(self, &self.paths().local_repositories(), None, None, local_name)
    }
}

/// Reads `<host>/<path>`.
pub(super) fn local_name(name: &str) -> Option<Repository> {
    let (host, path) = name.split_once('/')?;
    Repository::new(host, path.parse().ok()?).ok()
}

/// The repositories below `root` whose names `parse` knows, in the order of their bytes.
fn repositories<T>(
    store: &Store,
    root: &Path,
    after: Option<&str>,
    limit: Option<usize>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let mut catalog = Catalog {
        store,
        after: after.unwrap_or_default(),
        limit: limit.unwrap_or(usize::MAX),
        parse,
        found: Vec::new(),
    };
    let folder = catalog.read(root)?;
    catalog.walk(root, "", folder.children)?;
    Ok(catalog.found)
}

struct Catalog<'a, T, P> {
    store: &'a Store,
    after: &'a str,
    limit: usize,
    parse: P,
    found: Vec<T>,
}

/// What matters of one folder below `repos/`.
struct Folder {
    is_repository: bool,
    children: Vec<String>,
}

/// A step of the walk: a folder itself, or what is below it. `a-b` comes between `a` and `a/b`, so these are two.
struct Step {
    /// What the names that come from this step begin with: `a` or `a/`.
    key: String,
    /// The folder, as an index into the children.
    child: usize,
}

impl<T, P: Fn(&str) -> Option<T>> Catalog<'_, T, P> {
    fn read(&self, folder: &Path) -> Result<Folder, StoreError> {
        let own = |name: &str| Some(name.to_owned());
        let names = self.store.listings().known(folder, Sort::Folder, None, None, own)?;
        let is_repository = names.iter().any(|name| name == TAGS || name == MANIFESTS);
        let children = names.into_iter().filter(|name| !name.starts_with('_')).collect();
        Ok(Folder { is_repository, children })
    }

    /// Finds the repositories below the folder `path`, whose names begin with `prefix`.
    fn walk(&mut self, path: &Path, prefix: &str, children: Vec<String>) -> Result<(), StoreError> {
        let mut steps: Vec<Step> = Vec::with_capacity(children.len() * 2);
        for (child, name) in children.iter().enumerate() {
            steps.push(Step { key: format!("{prefix}{name}"), child });
            steps.push(Step { key: format!("{prefix}{name}/"), child });
        }
        steps.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        // What was seen when a folder itself was looked at, until it is its children's turn.
        let mut seen: Vec<Option<Vec<String>>> = children.iter().map(|_| None).collect();
        for Step { key, child } in steps {
            if self.found.len() >= self.limit {
                break;
            }
            let folder = path.join(&children[child]);
            if key.ends_with('/') {
                if key.as_str() <= self.after && !self.after.starts_with(&key) {
                    continue;
                }
                let below = match seen[child].take() {
                    Some(below) => below,
                    None => self.read(&folder)?.children,
                };
                self.walk(&folder, &key, below)?;
            } else if key.as_str() > self.after {
                let Folder { is_repository, children } = self.read(&folder)?;
                seen[child] = Some(children);
                if is_repository {
                    self.found.extend((self.parse)(&key));
                }
            }
        }
        Ok(())
    }
}
