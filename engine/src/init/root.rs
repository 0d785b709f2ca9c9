//! Paths inside a root, resolved component by component beneath its descriptor: a symlink to `/x` means the root's
//! `/x`, and `..` ends at the root. Nothing runs in the root yet, so nothing changes under our feet.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// As many as the kernel follows.
const SYMLINKS: usize = 40;

/// The root directory of a container.
pub(super) struct Root(OwnedFd);

/// What to make of a path's last component when it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Where a path leads once its symlinks are followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Relative to the root, free of symlinks and dots.
    pub(super) path: PathBuf,
    /// What had to be made, outermost first; relative to the root, too.
    pub(super) made: Vec<PathBuf>,
}

impl Root {
    /// The root at `path`, on the host.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Root(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// The root that `descriptor` is.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Root(descriptor)
    }

    /// The whole file at `path`; nothing when there is none.
    ///
    /// # Errors
    /// `FileTooLarge` beyond `limit_bytes`.
    pub(super) fn read(&self, path: &str, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let mut content = Vec::new();
        file.take(limit_bytes + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(content)
    }

    /// A descriptor of the file that `path` leads to, without opening the file itself.
    pub(super) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.0, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// A descriptor of the file at a [`Place`]'s path, without opening the file itself.
    pub(super) fn at(&self, place: &Path) -> io::Result<OwnedFd> {
        Ok(self.descriptor(place, OFlags::PATH)?)
    }

    /// Follows `path` and makes what is missing on the way, owned by root, the last component as `leaf`. Directories in
    /// which something is made keep their times.
    pub(super) fn make(&self, path: &Path, leaf: Leaf) -> io::Result<Place> {
        let mut place = Place { path: PathBuf::new(), made: Vec::new() };
        let mut pending: VecDeque<OsString> = components(path);
        let mut symlinks = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                place.path.pop();
                continue;
            }
            let parent = self.descriptor(&place.path, OFlags::PATH | OFlags::DIRECTORY)?;
            let last = pending.is_empty();
            match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if is(&found, FileType::Symlink) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&parent, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        place.path.clear();
                    }
                    for name in components(&target).into_iter().rev() {
                        pending.push_front(name);
                    }
                }
                Ok(found) if !last && !is(&found, FileType::Directory) => return Err(Errno::NOTDIR.into()),
                Ok(_) => place.path.push(&name),
                Err(Errno::NOENT) => {
                    place.path.push(&name);
                    let leaf = if last { leaf } else { Leaf::Directory };
                    self.keeping_times(place.path.parent(), || make_one(&parent, &name, leaf))?;
                    place.made.push(place.path.clone());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(place)
    }

    /// Removes what [`Root::make`] made, unless something was put there since. Goes on past errors.
    pub(super) fn remove_stubs(&self, made: &[PathBuf]) {
        for path in made.iter().rev() {
            if let Err(errno) = self.keeping_times(path.parent(), || self.remove_stub(path)) {
                tracing::debug!(path = %path.display(), %errno, "stub stays");
            }
        }
    }

    fn remove_stub(&self, path: &Path) -> rustix::io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let parent = self.descriptor(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
            FileType::RegularFile if found.st_size == 0 => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())
            }
            _ => Ok(()),
        }
    }

    /// Does something to a directory's entries that its times shall not show.
    fn keeping_times(
        &self,
        directory: Option<&Path>,
        change: impl FnOnce() -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        let directory =
            self.descriptor(directory.unwrap_or(Path::new("")), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let before = rustix::fs::fstat(&directory)?;
        change()?;
        rustix::fs::futimens(&directory, &times(&before))
    }

    /// Opens a path that has no symlinks.
    fn descriptor(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

fn make_one(parent: &OwnedFd, name: &OsStr, leaf: Leaf) -> rustix::io::Result<()> {
    match leaf {
        Leaf::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Leaf::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

fn is(stat: &Stat, file_type: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == file_type
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// A root beside a file that it must not reach.
    fn with_root(test: impl FnOnce(&Root, &Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        fs::create_dir_all(path.join("etc")).unwrap();
        fs::write(folder.path().join("secret"), "host").unwrap();
        test(&Root::open(&path).unwrap(), &path);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was made outside of the root");
    }

    fn check_make(root: &Root, path: &str, leaf: Leaf, expected: &str, made: &[&str]) {
        let place = root.make(Path::new(path), leaf).unwrap();
        assert_eq!(place.path, Path::new(expected), "{path}");
        assert_eq!(place.made, made.iter().map(PathBuf::from).collect::<Vec<_>>(), "{path}");
    }

    #[test]
    fn missing_components_are_made_and_named() {
        with_root(|root, path| {
            check_make(root, "/etc/hosts", Leaf::File, "etc/hosts", &["etc/hosts"]);
            check_make(root, "/etc/hosts", Leaf::File, "etc/hosts", &[]);
            check_make(root, "/a/./b/../c", Leaf::Directory, "a/c", &["a", "a/b", "a/c"]);
            check_make(root, "/", Leaf::Directory, "", &[]);
            assert!(path.join("etc/hosts").is_file() && path.join("a/c").is_dir());
        });
    }

    #[test]
    fn symlinks_stay_inside_the_root() {
        with_root(|root, path| {
            symlink("/run", path.join("var")).unwrap();
            symlink("../../../../../..", path.join("up")).unwrap();
            symlink("/proc/1/root", path.join("magic")).unwrap();
            check_make(root, "/var/lock", Leaf::Directory, "run/lock", &["run", "run/lock"]);
            check_make(root, "/up/secret", Leaf::File, "secret", &["secret"]);
            let made = ["proc", "proc/1", "proc/1/root", "proc/1/root/x"];
            check_make(root, "/magic/x", Leaf::File, "proc/1/root/x", &made);
            assert_eq!(root.read("/up/secret", 10).unwrap(), b"");
        });
    }

    #[test]
    fn circles_and_files_in_the_way_are_errors() {
        with_root(|root, path| {
            symlink("b", path.join("a")).unwrap();
            symlink("a", path.join("b")).unwrap();
            fs::write(path.join("file"), "x").unwrap();
            let errno = |path| root.make(Path::new(path), Leaf::File).unwrap_err().raw_os_error();
            assert_eq!(errno("/a/x"), Some(libc::ELOOP));
            assert_eq!(errno("/file/x"), Some(libc::ENOTDIR));
        });
    }

    #[test]
    fn stubs_leave_no_trace_but_what_was_filled_stays() {
        with_root(|root, path| {
            let etc = path.join("etc");
            let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
            File::open(&etc).unwrap().set_modified(old).unwrap();
            let mut made = root.make(Path::new("/etc/hosts"), Leaf::File).unwrap().made;
            made.extend(root.make(Path::new("/etc/kept"), Leaf::File).unwrap().made);
            made.extend(root.make(Path::new("/etc/d/e"), Leaf::Directory).unwrap().made);
            assert_eq!(fs::metadata(&etc).unwrap().modified().unwrap(), old);
            fs::write(etc.join("kept"), "now a file").unwrap();
            File::open(&etc).unwrap().set_modified(old).unwrap();
            root.remove_stubs(&made);
            let names: Vec<_> = fs::read_dir(&etc).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["kept"]);
            assert_eq!(fs::metadata(&etc).unwrap().modified().unwrap(), old);
        });
    }

    #[test]
    fn files_are_read_up_to_their_limit() {
        with_root(|root, path| {
            fs::write(path.join("etc/passwd"), "0123456789").unwrap();
            assert_eq!(root.read("etc/passwd", 10).unwrap(), b"0123456789");
            assert_eq!(root.read("etc/passwd", 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
            assert_eq!(root.read("etc/group", 9).unwrap(), b"");
        });
    }

    #[test]
    fn made_directories_are_open_to_all_and_owned_by_their_maker() {
        with_root(|root, path| {
            root.make(Path::new("/work/dir"), Leaf::Directory).unwrap();
            let metadata = fs::metadata(path.join("work/dir")).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o755);
            assert_eq!(metadata.uid(), rustix::process::getuid().as_raw());
        });
    }
}
