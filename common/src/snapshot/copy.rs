//! Copies of whole trees, for where nothing can be stacked. Content is shared with the original where the file system
//! can do that, holes stay holes, and the names of one file stay the names of one file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, ioctl_ficlone, linkat, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::layer::Owners;
use crate::layer::beneath::{self, FOLDER, Xattrs, is_overlay_xattr, join, mtime, names, timestamps};
use crate::layer::index::{Time, split_last};

/// Copies everything in the folder `from` into the empty folder `to`.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, owners: Owners) -> io::Result<()> {
    let mut copy = Copy { from, to, owners, links: HashMap::new(), folders: Vec::new() };
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        left.extend(copy.folder(&path)?);
    }
    // Things changed in the folders meanwhile, and a mode may forbid that.
    for (path, stat) in copy.folders.iter().rev() {
        let (folder, name) = split_last(path);
        let folder = beneath::open(to, folder, OFlags::PATH | OFlags::DIRECTORY)?;
        chmodat(&folder, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
        utimensat(&folder, name, &timestamps(mtime(stat)), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    set_root(Some(from), to)
}

/// Makes the root `to` of a new tree look like that of the one below; like that of an image when there is none.
pub(super) fn set_root(below: Option<BorrowedFd<'_>>, to: BorrowedFd<'_>) -> io::Result<()> {
    let Some(below) = below else {
        chmodat(to, ".", Mode::from_raw_mode(0o755), AtFlags::empty())?;
        return Ok(utimensat(to, ".", &timestamps(Time::default()), AtFlags::empty())?);
    };
    let stat = statat(below, ".", AtFlags::empty())?;
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    chownat(to, ".", owner.0, owner.1, AtFlags::empty())?;
    copy_xattrs(&Xattrs::of(below, b""), &Xattrs::of(to, b""))?;
    chmodat(to, ".", Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    Ok(utimensat(to, ".", &timestamps(mtime(&stat)), AtFlags::empty())?)
}

struct Copy<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    owners: Owners,
    /// Where the first name of a file with several is, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Folders and what they will look like, in the order in which they were made.
    folders: Vec<(Vec<u8>, Stat)>,
}

impl Copy<'_> {
    /// Copies what is in the folder `path`; the folders in it.
    fn folder(&mut self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let from = beneath::open(self.from, path, FOLDER)?;
        let to = beneath::open(self.to, path, FOLDER)?;
        let mut folders = Vec::new();
        for name in names(from.as_fd())? {
            let stat = statat(&from, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
            let path = join(path, &name);
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind != FileType::Directory && stat.st_nlink > 1 && self.link(&stat, &path, &to, &name)? {
                continue;
            }
            make(&from, &to, &name, &stat)?;
            self.metadata(&from, &to, &name, &stat)?;
            if kind == FileType::Directory {
                self.folders.push((path.clone(), stat));
                folders.push(path);
            }
        }
        Ok(folders)
    }

    /// Makes another name of a file that was copied already; whether it was.
    fn link(&mut self, stat: &Stat, path: &[u8], to: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) else {
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
            return Ok(false);
        };
        let (folder, first) = split_last(first);
        let folder = beneath::open(self.to, folder, OFlags::PATH | OFlags::DIRECTORY)?;
        linkat(&folder, first, to, name, AtFlags::empty())?;
        Ok(true)
    }

    fn metadata(&self, from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<()> {
        if self.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        copy_xattrs(&Xattrs::of(from.as_fd(), name), &Xattrs::of(to.as_fd(), name))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(()),
            FileType::Symlink => {}
            _ => chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?,
        }
        Ok(utimensat(to, name, &timestamps(mtime(stat)), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn make(from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(mkdirat(to, name, Mode::RWXU)?),
        FileType::RegularFile => {
            let read =
                openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let write = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
            copy_content(&File::from(read), &File::from(write), stat.st_size.unsigned_abs())
        }
        FileType::Symlink => Ok(symlinkat(readlinkat(from, name, Vec::new())?, to, name)?),
        FileType::Socket => Ok(()),
        kind => Ok(mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?),
    }
}

fn copy_content(mut from: &File, mut to: &File, size_bytes: u64) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut position = 0;
    while position < size_bytes {
        let data = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(position)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => position,
            data => data?,
        };
        let end = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(data)).unwrap_or(size_bytes);
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        // Copies inside the kernel where that is possible.
        io::copy(&mut io::Read::take(from, end - data), &mut to)?;
        position = end;
    }
    to.set_len(size_bytes)
}

fn copy_xattrs(from: &Xattrs, to: &Xattrs) -> io::Result<()> {
    for name in from.names()?.iter().filter(|name| !is_overlay_xattr(name)) {
        match to.set(name, &from.get(name)?) {
            Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) if name != b"security.capability" => {}
            set => set?,
        }
    }
    Ok(())
}
