//! `RUN --mount`: what each mount reads goes into the key, and what it needs is made ready before the command starts.
//!
//! - **bind**: the files that are meant, of the context or a stage, become a layer of their own as COPY would make it, and
//!   that layer unpacked is what the command sees. So `.dockerignore` holds, and what is written is thrown away.
//! - **cache**: `cache/mounts/<hex of the id's digest>/`, with `data`, or `upper` and `work` upon a seed (`from=`), and the
//!   file `lock`. `locked` holds its lock exclusively while the command runs, `shared` in common; `private` takes the
//!   first of `<id>`, `<id>.1`, … that nobody has. What is in it never reaches a key or a layer.
//! - **tmpfs**, **secret**, **ssh**: nothing is kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::digest::Digest;
use common::layer::{CreateOptions, WriterOptions};
use common::snapshot::{Overlay, Snapshots, Upper};
use common::store::Scratch;
use rustix::fs::FlockOperation;

use super::copy::{SourceTree, describe_match};
use super::{Execution, StepContext};
use crate::cache::Key;
use crate::copy::select::Match;
use crate::copy::target::{Content, Target};
use crate::copy::{self, Changes, Destination};
use crate::dockerfile::{Access, Mount, Sharing};
use crate::error::Cause;
use crate::sources;
use crate::step::{self, MountKind};
use crate::steps::RunStep;
use crate::tree;

/// The mounts of one step, and what they read.
pub(super) struct Mounts<'a> {
    list: Vec<Planned<'a>>,
}

struct Planned<'a> {
    /// Absolute; empty for a secret that is only a variable.
    target: String,
    mount: &'a Mount,
    /// What a bind mount shows, or a new cache begins with.
    files: Option<Files<'a>>,
}

impl Planned<'_> {
    /// What a cache is known by.
    fn cache_id(&self) -> &str {
        match self.mount {
            Mount::Cache { id: Some(id), .. } => id,
            _ => &self.target,
        }
    }
}

/// Files of the context or of a stage.
struct Files<'a> {
    tree: SourceTree<'a>,
    /// The layers of the stage; `None` for the context.
    layers: Option<Vec<Digest>>,
    source: String,
    matches: Vec<Match>,
}

/// The mounts of one step while it runs. Dropping it ends locks and removes what was written to bind mounts.
#[derive(Default)]
pub(super) struct Ready {
    pub mounts: Vec<step::Mount>,
    /// Variables that are in no key: secrets, and where the agent's socket is.
    pub secret_env: BTreeMap<String, Vec<u8>>,
    /// Folders of caches by id.
    caches: BTreeMap<String, PathBuf>,
    locks: Vec<File>,
    scratch: Vec<Scratch>,
}

impl<'a> Mounts<'a> {
    /// Finds out what the mounts of `step` read.
    pub(super) fn plan(
        execution: &'a Execution<'_>,
        at: &StepContext<'_>,
        step: &'a RunStep,
    ) -> Result<Self, Cause> {
        let mut list = Vec::new();
        for (mount, from) in &step.mounts {
            let source = match mount {
                Mount::Bind { source, .. } | Mount::Cache { source, from: Some(_), .. } => Some(source),
                _ => None,
            };
            let target =
                mount.target().map(|target| tree::absolute(&step.working_dir, target)).unwrap_or_default();
            let files = source.map(|source| Files::select(execution, at, *from, source)).transpose()?;
            list.push(Planned { target, mount, files });
        }
        Ok(Mounts { list })
    }

    /// Adds to the key of the step all but what caches and secrets hold.
    pub(super) fn describe(&self, key: &mut Key) {
        for Planned { target, mount, files } in &self.list {
            let text = match mount {
                Mount::Bind { read_only, .. } => format!("bind read_only={read_only}"),
                Mount::Cache { id, sharing, read_only, access, .. } => {
                    format!("cache {id:?} {sharing:?} read_only={read_only} {access:?}")
                }
                Mount::Tmpfs { size_bytes, read_only, .. } => {
                    format!("tmpfs {size_bytes:?} read_only={read_only}")
                }
                Mount::Secret { id, env, access, .. } => format!("secret {id} {env:?} {access:?}"),
                Mount::Ssh { id, access, .. } => format!("ssh {id} {access:?}"),
            };
            key.add(format!("mount {target}"), text);
            if let Some(files) = files {
                files.matches.iter().for_each(|found| describe_match(key, found, files.layers.is_some()));
            }
        }
    }

    /// Makes ready what the command will see.
    pub(super) fn prepare(self, execution: &Execution<'_>, snapshots: &Snapshots) -> Result<Ready, Cause> {
        let mut ready = Ready::default();
        ready.lock_caches(execution, &self.list)?;
        for planned in &self.list {
            let (kind, read_only) = match planned.mount {
                Mount::Bind { read_only, .. } => {
                    let files = planned.files.as_ref().expect("bind mounts show files");
                    (ready.bind(execution, snapshots, files)?, *read_only)
                }
                Mount::Cache { access, read_only, .. } => {
                    let folder = ready.caches[planned.cache_id()].clone();
                    let seed = planned.files.as_ref();
                    (ready.cache(execution, snapshots, &folder, *access, seed)?, *read_only)
                }
                Mount::Tmpfs { size_bytes, read_only, .. } => {
                    (MountKind::Tmpfs { size_bytes: *size_bytes }, *read_only)
                }
                Mount::Secret { id, target, env, required, access } => {
                    let Some(content) = execution.inputs.request.secrets.get(id) else {
                        if *required {
                            return Err(Cause::NoSecret(id.clone()));
                        }
                        continue;
                    };
                    if let Some(name) = env {
                        ready.secret_env.insert(name.clone(), content.clone());
                    }
                    if target.is_none() {
                        continue;
                    }
                    (secret_file(content, *access), true)
                }
                Mount::Ssh { id, required, .. } => {
                    let Some(socket) = execution.inputs.request.ssh.get(id) else {
                        if *required {
                            return Err(Cause::NoAgent(id.clone()));
                        }
                        continue;
                    };
                    let target = planned.target.clone().into_bytes();
                    ready.secret_env.insert("SSH_AUTH_SOCK".to_owned(), target);
                    (MountKind::Socket(socket.clone()), true)
                }
            };
            ready.mounts.push(step::Mount { target: planned.target.clone(), read_only, kind });
        }
        Ok(ready)
    }
}

fn secret_file(content: &[u8], access: Access) -> MountKind {
    MountKind::File {
        content: content.to_vec(),
        mode: access.mode.unwrap_or(0o400),
        uid: access.uid.unwrap_or(0),
        gid: access.gid.unwrap_or(0),
    }
}

impl<'a> Files<'a> {
    fn select(
        execution: &'a Execution<'_>,
        at: &StepContext<'_>,
        from: Option<usize>,
        source: &str,
    ) -> Result<Self, Cause> {
        let tree = execution.source_tree(at, from)?;
        let wanted = sources::bound(source);
        let matches = tree.select(&wanted)?;
        let layers = from.map(|number| at.sources[&number].diff_ids.clone());
        Ok(Files { tree, layers, matches, source: String::from_utf8_lossy(&wanted.source).into_owned() })
    }

    /// The directories that hold the files, and where in them they are.
    fn unpacked(
        &self,
        execution: &Execution<'_>,
        snapshots: &Snapshots,
    ) -> Result<(Vec<PathBuf>, String), Cause> {
        if let Some(layers) = &self.layers {
            return Ok((snapshots.ensure(layers)?.lowers, self.source.clone()));
        }
        let mut target = Target::new(execution.root(&[], "")?, execution.now());
        let root = Destination::new("/", "/");
        for found in &self.matches {
            copy::copy(&mut target, found, &root, &Changes::default())?;
        }
        let options =
            CreateOptions { writer: WriterOptions { clamp: execution.inputs.epoch }, previous: None };
        let layer = common::layer::create(execution.inputs.store, &options, |writer| {
            target.write(writer, |content| match content {
                Content::Source { path } => self.tree.open(path),
                _ => unreachable!("only files of the context were put here"),
            })
        })?;
        let top = self.matches.first().and_then(|found| found.items.first());
        let name = match top {
            Some(top) if !top.node.is_directory() => tree::components(self.source.as_bytes()).next_back(),
            _ => None,
        };
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        Ok((snapshots.ensure(&[layer.diff_id])?.lowers, name))
    }
}

impl Ready {
    fn bind(
        &mut self,
        execution: &Execution<'_>,
        snapshots: &Snapshots,
        files: &Files<'_>,
    ) -> Result<MountKind, Cause> {
        let (lowers, source) = files.unpacked(execution, snapshots)?;
        // What is written is thrown away. A read-only mount has an upper too: overlayfs wants two directories at least.
        let scratch = execution.inputs.store.scratch()?;
        let upper = Some(make_upper(scratch.path(), true)?);
        self.scratch.push(scratch);
        Ok(MountKind::Tree { root: Overlay { lowers, upper }, source })
    }

    /// Locks what the mounts share with others: each once, and in one order everywhere, so that no two steps wait for each
    /// other.
    fn lock_caches(&mut self, execution: &Execution<'_>, list: &[Planned<'_>]) -> Result<(), Cause> {
        let mut wanted = BTreeMap::new();
        for planned in list {
            if let Mount::Cache { sharing, .. } = planned.mount {
                wanted.entry(planned.cache_id().to_owned()).or_insert(*sharing);
            }
        }
        for (id, sharing) in wanted {
            let folder = self.lock_cache(execution, &id, sharing)?;
            self.caches.insert(id, folder);
        }
        Ok(())
    }

    fn cache(
        &self,
        execution: &Execution<'_>,
        snapshots: &Snapshots,
        folder: &Path,
        access: Access,
        seed: Option<&Files<'_>>,
    ) -> Result<MountKind, Cause> {
        let Some(seed) = seed else {
            let data = folder.join("data");
            make_folder(&data, access)?;
            return Ok(MountKind::Directory(data));
        };
        let (lowers, source) = seed.unpacked(execution, snapshots)?;
        Ok(MountKind::Tree { root: Overlay { lowers, upper: Some(make_upper(folder, false)?) }, source })
    }

    /// The folder of a cache, locked as its sharing asks for.
    fn lock_cache(
        &mut self,
        execution: &Execution<'_>,
        id: &str,
        sharing: Sharing,
    ) -> Result<PathBuf, Cause> {
        let caches = execution.inputs.store.paths().cache().join("mounts");
        for copy in 0.. {
            let name = if copy == 0 { id.to_owned() } else { format!("{id}.{copy}") };
            let folder = caches.join(Digest::sha256(name.as_bytes()).hex());
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            let path = folder.join("lock");
            let lock = File::options().create(true).append(true).open(&path).map_err(at(&path))?;
            let operation = match sharing {
                Sharing::Shared => FlockOperation::LockShared,
                Sharing::Locked => FlockOperation::LockExclusive,
                Sharing::Private => FlockOperation::NonBlockingLockExclusive,
            };
            match rustix::fs::flock(&lock, operation) {
                Ok(()) => {
                    self.locks.push(lock);
                    return Ok(folder);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(at(&path)(errno.into())),
            }
        }
        unreachable!("there are more numbers than locks")
    }
}

fn make_upper(folder: &Path, volatile: bool) -> Result<Upper, Cause> {
    let upper = Upper { tree: folder.join("upper"), work: folder.join("work"), volatile };
    for path in [&upper.tree, &upper.work] {
        fs::create_dir_all(path).map_err(at(path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(at(path))?;
    }
    Ok(upper)
}

/// A new cache gets owner and mode; one that is there keeps them.
fn make_folder(path: &Path, access: Access) -> Result<(), Cause> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(at(path)(error)),
    }
    let mode = access.mode.unwrap_or(0o755);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))?;
    if access.uid.is_some() || access.gid.is_some() {
        std::os::unix::fs::chown(path, Some(access.uid.unwrap_or(0)), Some(access.gid.unwrap_or(0)))
            .map_err(at(path))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Cause {
    let path = path.to_owned();
    move |source| Cause::CacheMount { path, source }
}
