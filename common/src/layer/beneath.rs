//! Directory trees seen from a descriptor of their root: nothing here follows a link out of one.
//!
//! A *canonical* path has no `.`, no `..` and no symlink in it. Canonical paths are opened by `openat2(2)` with
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, in pieces when they are longer than the kernel takes at once, so they may
//! have any length. Symlinks are resolved by hand, each from the root of the tree, as `RESOLVE_IN_ROOT` does: then the
//! canonical path is known, too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, lgetxattr, llistxattr, lremovexattr, lsetxattr,
    openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::index::{Time, split_last};
use crate::store;

/// What opens a folder to list or change it.
pub(crate) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// More links than this on the way to a folder are a loop, as for the kernel.
const LINKS_MAX: usize = 40;

/// Paths above this are opened in pieces (`PATH_MAX` less the NUL).
const PIECE_BYTES: usize = 4095;

/// Opens `path`, which must be canonical, beneath `root`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open_piece = |from: BorrowedFd<'_>, piece: &[u8], flags: OFlags| {
        let piece = if piece.is_empty() { b"." } else { piece };
        openat2(from, piece, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    let mut rest = path;
    let mut from: Option<OwnedFd> = None;
    while rest.len() > PIECE_BYTES {
        let cut = rest[..=PIECE_BYTES].iter().rposition(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let base = from.as_ref().map_or(root, |fd| fd.as_fd());
        from = Some(open_piece(base, &rest[..cut], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    open_piece(from.as_ref().map_or(root, |fd| fd.as_fd()), rest, flags)
}

/// How the walk to a folder ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The folder's canonical path.
    Folder(Vec<u8>),
    /// Up to `folder`, canonical, all is there; `missing` names, at least one, are not.
    Missing { folder: Vec<u8>, missing: Vec<Vec<u8>> },
    /// At this canonical path stands something that is no folder.
    NoFolder(Vec<u8>),
}

/// Finds the folder `path`, following symlinks as a process would for which `root` is `/`.
///
/// # Errors
/// `ELOOP` for too many links, and what the kernel says.
pub(crate) fn find_folder(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Found> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(_) => return Ok(Found::Folder(path.to_vec())),
        Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(errno),
    }
    let mut walk = Walk { root, at: Vec::new(), folder: open(root, b"", OFlags::PATH)?, links: 0 };
    let mut names: Vec<Vec<u8>> = components(path);
    while let Some(name) = names.pop() {
        match walk.step(&name)? {
            Step::Taken => {}
            Step::Link(target) => {
                if target.first() == Some(&b'/') {
                    walk.go_to(Vec::new())?;
                }
                names.extend(components(&target));
            }
            Step::Missing => {
                names.push(name);
                names.reverse();
                return Ok(Found::Missing { folder: walk.at, missing: names });
            }
            Step::NoFolder => return Ok(Found::NoFolder(join(&walk.at, &name))),
        }
    }
    Ok(Found::Folder(walk.at))
}

/// The names of `path`, last one first, empty ones and `.` left out.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(<[u8]>::to_vec).collect()
}

struct Walk<'fd> {
    root: BorrowedFd<'fd>,
    at: Vec<u8>,
    folder: OwnedFd,
    links: usize,
}

enum Step {
    Taken,
    Link(Vec<u8>),
    Missing,
    NoFolder,
}

impl Walk<'_> {
    fn step(&mut self, name: &[u8]) -> rustix::io::Result<Step> {
        if name == b".." {
            let parent = split_last(&self.at).0.to_vec();
            self.go_to(parent)?;
            return Ok(Step::Taken);
        }
        let stat = match statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Step::Missing),
            stat => stat?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.folder = open(self.folder.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY)?;
                self.at = join(&self.at, name);
                Ok(Step::Taken)
            }
            FileType::Symlink => {
                self.links += 1;
                if self.links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                Ok(Step::Link(readlinkat(&self.folder, name, Vec::new())?.into_bytes()))
            }
            _ => Ok(Step::NoFolder),
        }
    }

    fn go_to(&mut self, at: Vec<u8>) -> rustix::io::Result<()> {
        self.folder = open(self.root, &at, OFlags::PATH | OFlags::DIRECTORY)?;
        self.at = at;
        Ok(())
    }
}

/// `folder` and `name` as one path; the root's path is empty.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// What is in a folder, sorted by the bytes of the names.
pub(crate) fn names(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = store::folder_names(folder)?;
    names.sort_unstable();
    Ok(names)
}

/// When the content of what `stat` describes changed last.
pub(crate) fn mtime(stat: &Stat) -> Time {
    // Below 1,000,000,000 by the kernel's word.
    Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

/// Times for `utimensat(2)` that set the modification time and leave the other.
pub(crate) fn timestamps(mtime: Time) -> rustix::fs::Timestamps {
    rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: rustix::fs::Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    }
}

/// Extended attributes of one name in a folder, a symlink's own included.
///
/// The calls for them take paths only, so `/proc` leads through the descriptor to the name.
pub(crate) struct Xattrs(Vec<u8>);

impl Xattrs {
    /// Those of `name` in `folder`; an empty name means the folder itself.
    pub(crate) fn of(folder: BorrowedFd<'_>, name: &[u8]) -> Self {
        let name = if name.is_empty() { b"." } else { name };
        Xattrs([format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name].concat())
    }

    /// All names; empty where the file system has none to offer.
    pub(crate) fn names(&self) -> rustix::io::Result<Vec<Vec<u8>>> {
        // The kernel's own limit for a list of names, and for a value.
        let mut list = vec![0u8; 256];
        let length = loop {
            match llistxattr(&self.0[..], &mut list[..]) {
                Err(Errno::RANGE) if list.len() < XATTR_MAX => list.resize(XATTR_MAX, 0),
                Err(Errno::NOTSUP) => return Ok(Vec::new()),
                length => break length?,
            }
        };
        let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    /// The value of one.
    pub(crate) fn get(&self, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
        let mut value = vec![0u8; 256];
        loop {
            match lgetxattr(&self.0[..], name, &mut value[..]) {
                Err(Errno::RANGE) if value.len() < XATTR_MAX => value.resize(XATTR_MAX, 0),
                length => {
                    value.truncate(length?);
                    return Ok(value);
                }
            }
        }
    }

    /// Sets one.
    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        lsetxattr(&self.0[..], name, value, rustix::fs::XattrFlags::empty())
    }

    /// Removes one.
    pub(crate) fn remove(&self, name: &[u8]) -> rustix::io::Result<()> {
        lremovexattr(&self.0[..], name)
    }
}

/// The kernel's limit for a value, and for a list of names.
const XATTR_MAX: usize = 64 << 10;

/// Whether overlayfs keeps its own notes under this name.
pub(crate) fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

#[cfg(test)]
pub(crate) mod testing {
    use std::fs::File;
    use std::io::Read;
    use std::path::Path;

    use rustix::fs::{CWD, openat};

    use super::*;

    /// The folder at `path`.
    pub(crate) fn open_folder(path: &Path) -> OwnedFd {
        openat(CWD, path, FOLDER, Mode::empty()).unwrap()
    }

    /// A line for everything below `root`: type, mode, owner, time, path, and what it holds.
    pub(crate) fn listing(root: BorrowedFd<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = vec![Vec::new()];
        while let Some(path) = left.pop() {
            let folder = open(root, &path, FOLDER).unwrap();
            let found = names(folder.as_fd()).unwrap();
            for name in &found {
                let at = join(&path, name);
                let stat = statat(&folder, &name[..], AtFlags::SYMLINK_NOFOLLOW).unwrap();
                let kind = FileType::from_raw_mode(stat.st_mode);
                let (sort, holds) = match kind {
                    FileType::Directory => ('d', String::new()),
                    FileType::RegularFile => {
                        let mut text = String::new();
                        let fd = openat(&folder, &name[..], OFlags::RDONLY, Mode::empty()).unwrap();
                        File::from(fd).take(40).read_to_string(&mut text).unwrap();
                        ('f', format!(" = {text}"))
                    }
                    FileType::Symlink => {
                        let target = readlinkat(&folder, &name[..], Vec::new()).unwrap();
                        ('l', format!(" -> {}", target.to_str().unwrap()))
                    }
                    FileType::CharacterDevice => ('c', format!(" {:#x}", stat.st_rdev)),
                    FileType::BlockDevice => ('b', format!(" {:#x}", stat.st_rdev)),
                    FileType::Fifo => ('p', String::new()),
                    other => panic!("{other:?}"),
                };
                let (mode, owner) = (stat.st_mode & 0o7777, (stat.st_uid, stat.st_gid));
                lines.push(format!(
                    "{sort} {mode:o} {}:{} {} {}{holds}",
                    owner.0,
                    owner.1,
                    stat.st_mtime,
                    String::from_utf8_lossy(&at)
                ));
                if kind == FileType::Directory {
                    left.push(at);
                }
            }
        }
        lines.sort_by(|a, b| a.split(' ').nth(4).cmp(&b.split(' ').nth(4)));
        lines
    }
}
