//! Mounts of a container, all in the private mount namespace of its `__init`: the host's mount table never shows them,
//! and they are gone when the last process in that namespace is, however it ends.
//!
//! ```text
//! /sys/fs/cgroup       a tmpfs in place of the host's control groups: the runtime wants to move the container into groups
//!                      that it finds there, and fails where they are read-only; see `cgroups` for how it is really done
//!     root/            the container's root
//!     bundle/          config.json for the runtime
//!     state/           the runtime's own files
//!     terminal         socket for the pseudo terminal
//!     files/N          for `Source::File`, and trees of which a part is mounted
//!     late/N           mounts that the runtime has to place, since they lie in /dev or /sys
//! ```
//! Everything of the host that the container gets is opened as a detached mount before the first of these steps, so
//! that none of them can change what a path means.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::snapshot;
use rustix::fs::{CWD, FileType};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::bundle::LateMount;
use super::root::{Leaf, Root};
use crate::error::{Failure, Step, chain};
use crate::mountinfo;
use crate::spec::{self, Mount, Source};
use crate::sys;

/// The folder that the tree above stands in.
const WORKSPACE: &str = "/sys/fs/cgroup";

/// The text of docker, which people search for.
const NOT_A_DIRECTORY: &str = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check \
                               if the specified host path exists and is the expected type";

/// Keeps all that is mounted from now on from the host, and the other way round.
pub(super) fn make_private() -> io::Result<()> {
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Something to be mounted, opened already.
pub(super) struct Prepared<'a> {
    /// Detached; of a [`Source::File`] the workspace makes it.
    mount: Option<OwnedFd>,
    request: &'a Mount,
}

/// Opens the sources of `mounts`, those with fewer components in their destination first, so that one may lie in
/// another.
pub(super) fn prepare(mounts: &[Mount]) -> Result<Vec<Prepared<'_>>, Failure> {
    let mut requests: Vec<&Mount> = mounts.iter().collect();
    requests.sort_by_key(|mount| mount.destination.components().count());
    requests
        .into_iter()
        .map(|request| {
            let mount = match &request.source {
                Source::Bind(path) => {
                    let what = format!("bind source path {}", path.display());
                    Some(clone_tree(path).map_err(Failure::os(Step::Mounts, what))?)
                }
                Source::Tmpfs(options) => {
                    Some(tmpfs(options).map_err(Failure::os(Step::Mounts, "mount tmpfs"))?)
                }
                Source::Tree { overlay, .. } => {
                    let tree = snapshot::mount_detached(overlay);
                    Some(tree.map_err(|error| Failure::because(Step::Mounts, chain(&error)))?)
                }
                Source::File { .. } => None,
            };
            Ok(Prepared { mount, request })
        })
        .collect()
}

/// A detached mount of what is at `path`, with all that is mounted below it.
fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// A new file system in memory. `noexec`, `nosuid` and `nodev` unless the options say the opposite.
fn tmpfs(options: &[String]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "tmpfs")?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    for option in options {
        match (option.as_str(), option.split_once('=')) {
            ("exec", _) => attributes.remove(MountAttrFlags::MOUNT_ATTR_NOEXEC),
            ("suid", _) => attributes.remove(MountAttrFlags::MOUNT_ATTR_NOSUID),
            ("dev", _) => attributes.remove(MountAttrFlags::MOUNT_ATTR_NODEV),
            ("rw" | "noexec" | "nosuid" | "nodev", _) => {}
            (_, Some((key, value))) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            (flag, None) => rustix::mount::fsconfig_set_flag(&context, flag)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The detached root file system.
pub(super) fn open_root(root: &spec::Root) -> Result<OwnedFd, Failure> {
    match root {
        spec::Root::Directory(path) => clone_tree(path).map_err(Failure::os(Step::Root, "open the root")),
        spec::Root::Overlay(overlay) => {
            snapshot::mount_detached(overlay).map_err(|error| Failure::because(Step::Root, chain(&error)))
        }
    }
}

/// A detached mount of what `descriptor` is, without what is mounted in it.
fn clone_descriptor(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(descriptor, "", flags)?)
}

/// The folder of the module's tree.
pub(super) struct Workspace {
    /// Where the container's root is mounted.
    pub(super) root: PathBuf,
    /// Holds `config.json`.
    pub(super) bundle: PathBuf,
    /// For the runtime's own files.
    pub(super) state: PathBuf,
    /// Where the runtime sends the pseudo terminal.
    pub(super) terminal: PathBuf,
    files: PathBuf,
    late: PathBuf,
}

impl Workspace {
    /// Takes the place of the host's control groups and mounts `root`.
    pub(super) fn make(root: &OwnedFd) -> io::Result<Self> {
        match rustix::mount::unmount(WORKSPACE, UnmountFlags::DETACH) {
            // Nothing is mounted there.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", WORKSPACE, "tmpfs", flags, Some(c"mode=0700"))?;
        let folder = |name: &str| {
            let path = Path::new(WORKSPACE).join(name);
            fs::create_dir(&path).map(|()| path)
        };
        let workspace = Workspace {
            root: folder("root")?,
            bundle: folder("bundle")?,
            state: folder("state")?,
            files: folder("files")?,
            late: folder("late")?,
            terminal: Path::new(WORKSPACE).join("terminal"),
        };
        attach_at(root, CWD, &workspace.root)?;
        Ok(workspace)
    }

    /// The root without anything that is mounted in it later.
    pub(super) fn bare_root(&self) -> io::Result<Root> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(Root::new(rustix::mount::open_tree(CWD, &self.root, flags)?))
    }

    /// Lets go of the root and of all that is mounted in it.
    pub(super) fn detach_root(&self) {
        if let Err(errno) = rustix::mount::unmount(&self.root, UnmountFlags::DETACH) {
            tracing::debug!(%errno, "root stays mounted");
        }
    }

    /// Makes the mount points of the kernel's file systems. They have to be directories of the root itself: the runtime
    /// makes links in `/dev` by its name.
    pub(super) fn make_mount_points(&self, root: &Root) -> Result<(), Failure> {
        for name in ["proc", "dev", "sys"] {
            let what = format!("make mount point /{name}");
            let place =
                root.make(Path::new(name), Leaf::Directory).map_err(Failure::os(Step::Mounts, what))?;
            if place.path != Path::new(name) {
                let reason = format!("/{name} is a symlink: a file system is only mounted on a directory");
                return Err(Failure::because(Step::Mounts, reason));
            }
        }
        Ok(())
    }

    /// Mounts everything that does not have to wait for the kernel's file systems. Gives those that have to.
    pub(super) fn attach(
        &self,
        root: &Root,
        prepared: Vec<Prepared<'_>>,
        stubs: &mut Vec<PathBuf>,
    ) -> Result<Vec<LateMount>, Failure> {
        let mut late = Vec::new();
        for (number, Prepared { mount, request }) in prepared.into_iter().enumerate() {
            let what = format!("mount {} at {}", describe(&request.source), request.destination.display());
            let attached = self
                .open_mount(number, mount, request)
                .and_then(|mount| self.attach_one(root, number, &mount, request, stubs));
            late.extend(attached.map_err(Failure::os(Step::Mounts, what))?);
        }
        Ok(late)
    }

    /// Takes the host's control groups of v1 out of what was mounted, as of `/` or `/sys`: the runtime would move the
    /// container into the groups that it finds there, out of ours.
    pub(super) fn hide_control_groups(&self) -> io::Result<()> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let groups = mountinfo::parse(&table).filter(|mounted| mounted.kind == "cgroup");
        for group in groups.filter(|mounted| mounted.path.starts_with(WORKSPACE)) {
            match rustix::mount::unmount(&group.path, UnmountFlags::DETACH) {
                // Gone with the one that it was in.
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn open_mount(&self, number: usize, mount: Option<OwnedFd>, request: &Mount) -> io::Result<OwnedFd> {
        let mount = match (mount, &request.source) {
            (Some(tree), Source::Tree { path, .. }) if !path.as_os_str().is_empty() => {
                // Older kernels clone nothing that is not attached.
                let folder = self.files.join(number.to_string());
                fs::create_dir(&folder)?;
                attach_at(&tree, CWD, &folder)?;
                clone_descriptor(&Root::open(&folder)?.find(path)?)?
            }
            (Some(mount), _) => mount,
            (None, Source::File { content, mode, uid, gid }) => {
                let path = self.files.join(number.to_string());
                fs::write(&path, content)?;
                std::os::unix::fs::chown(&path, Some(*uid), Some(*gid))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                clone_tree(&path)?
            }
            (None, _) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if request.read_only {
            sys::set_read_only(&mount)?;
        }
        Ok(mount)
    }

    fn attach_one(
        &self,
        root: &Root,
        number: usize,
        mount: &OwnedFd,
        request: &Mount,
        stubs: &mut Vec<PathBuf>,
    ) -> io::Result<Option<LateMount>> {
        let leaf = leaf_of(mount)?;
        let place = root.make(&request.destination, leaf)?;
        let first = place.path.components().next().map(|component| component.as_os_str().to_owned());
        let first = first.as_deref().and_then(|first| first.to_str());
        match first {
            // What will be hidden by the kernel's file systems needs no mount point in the root.
            Some("proc" | "dev" | "sys") => root.remove_stubs(&place.made),
            _ => stubs.extend(place.made),
        }
        match first {
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "destination can't be '/'")),
            Some("proc") => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is inside /proc")),
            Some("dev") if place.path == Path::new("dev") => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the container has a /dev of its own"))
            }
            Some(first @ ("dev" | "sys")) => {
                if first == "sys" {
                    check_in_sysfs(&place.path, leaf)?;
                }
                let source = self.late.join(number.to_string());
                match leaf {
                    Leaf::Directory => fs::create_dir(&source)?,
                    Leaf::File => fs::write(&source, "")?,
                }
                attach_at(mount, CWD, &source)?;
                Ok(Some(LateMount { source, destination: Path::new("/").join(place.path) }))
            }
            Some(_) => {
                let target = root.at(&place.path)?;
                check_leaf(&target, leaf)?;
                attach_to(mount, &target)?;
                Ok(None)
            }
        }
    }
}

/// Nothing can be made in the container's `/sys`, which is the same as the host's: a mount point has to be there.
fn check_in_sysfs(place: &Path, leaf: Leaf) -> io::Result<()> {
    match Root::open(Path::new("/"))?.find(place) {
        Ok(target) => check_leaf(&target, leaf),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(rustix::io::Errno::ROFS.into()),
        Err(error) => Err(error),
    }
}

fn check_leaf(target: &OwnedFd, leaf: Leaf) -> io::Result<()> {
    if leaf_of(target)? == leaf {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotADirectory, NOT_A_DIRECTORY))
}

fn leaf_of(descriptor: &OwnedFd) -> io::Result<Leaf> {
    Ok(match FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode) {
        FileType::Directory => Leaf::Directory,
        _ => Leaf::File,
    })
}

fn attach_to(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

fn attach_at(mount: &OwnedFd, folder: rustix::fd::BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount, "", folder, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn describe(source: &Source) -> String {
    match source {
        Source::Bind(path) => path.display().to_string(),
        Source::Tree { path, .. } => format!("/{} of another root", path.display()),
        Source::File { .. } => "a file".to_owned(),
        Source::Tmpfs(_) => "tmpfs".to_owned(),
    }
}
