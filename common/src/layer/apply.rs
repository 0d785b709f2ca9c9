//! Unpacks a layer upon a tree: tar bytes to files.
//!
//! The tree is a descriptor of its root: an empty folder for the lowest layer, an overlay mount of all layers below
//! for the others, or a full copy of what is below. A removal is a plain removal there; overlayfs turns it into a
//! whiteout by itself. Nothing outside the root is reached, whatever the layer says: see `layer::beneath`.
//!
//! - A path goes through the symlinks that it meets, inside the root: `lib/x` over `lib -> /usr/lib` is the image's
//!   `/usr/lib/x`. Its last name is never followed; what stands there is replaced, a folder by a folder excepted.
//! - Whiteouts and opaque markers hide what layers below have, never what their own layer brings, in any order.
//! - A folder that the layer needs and does not describe is made with mode 0755, owner 0:0 and the time 0; one that is
//!   there keeps its time, though things change in it.
//! - Modes and times of folders are set at the end, those furthest below first. Owner comes before mode, as changing
//!   it clears setuid, and before `security.capability`, for the same reason.
//! - Devices are left out where nobody may make them, as in a user namespace.
//! - `trusted.overlay.*` and `user.overlay.*` are not taken from a layer. A device 0:0, which overlayfs would read as a
//!   whiteout, does not come through the reader.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fchmod, fchown, fstat, futimens,
    linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::beneath::{
    self, FOLDER, Found, Xattrs, find_folder, is_overlay_xattr, join, mtime, names, timestamps,
};
use super::index::{Header, Kind, Segment, Time, split_last};
use super::limits::Limits;
use super::reader::{TarError, TarReader};
use crate::store::remove_tree;

/// What becomes of the owners that a layer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Files are given to them, which takes the right to.
    Keep,
    /// Files belong to whoever unpacks.
    Ignore,
}

/// How a layer is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// What becomes of owners.
    pub owners: Owners,
    /// What a layer may ask for at most.
    pub limits: Limits,
}

/// Why a layer could not be unpacked. The tree is then half changed and of no use.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The layer's tar is damaged or hostile, or has a hard link to something that is not there.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The bytes of a file cannot be had.
    #[error("cannot read the bytes of `{}` from the layer", shown(path))]
    Content {
        /// The entry's path.
        path: Vec<u8>,
        /// The reader's own error.
        source: io::Error,
    },
    /// What should be a folder on the way to a path is something else.
    #[error("`{}` needs a folder at `{}`, where something else is", shown(path), shown(at))]
    Parent {
        /// The entry's path.
        path: Vec<u8>,
        /// Where the folder is missing.
        at: Vec<u8>,
    },
    /// The user namespace has no place for an owner.
    #[error("owner {uid}:{gid} of `{}` is not mapped in this user namespace", shown(path))]
    Owner {
        /// The entry's path.
        path: Vec<u8>,
        /// The layer's user.
        uid: u32,
        /// The layer's group.
        gid: u32,
    },
    /// The file system refused something.
    #[error("cannot unpack `{}`", shown(path))]
    Io {
        /// The entry's path.
        path: Vec<u8>,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Unpacks the layer `tar` upon the tree at `root`, which nobody else changes meanwhile.
///
/// # Errors
/// [`ApplyError`]: the layer is bad, or the file system refuses.
pub fn apply(tar: impl Read, root: BorrowedFd<'_>, options: &ApplyOptions) -> Result<(), ApplyError> {
    apply_noting(tar, root, options, &mut |_| {})
}

/// As [`apply`], and `note` sees each entry before it is unpacked, and what is ignored because it is AUFS's own
/// (`.wh..wh.*`).
///
/// # Errors
/// As [`apply`].
pub fn apply_noting(
    tar: impl Read,
    root: BorrowedFd<'_>,
    options: &ApplyOptions,
    note: &mut dyn FnMut(&Header),
) -> Result<(), ApplyError> {
    let mut reader = TarReader::new(tar, options.limits);
    let mut applier = Applier::new(root, options.owners);
    while let Some(mut member) = reader.next_noting(note)? {
        let (header, segments) = (member.header.clone(), member.segments.clone());
        note(&header);
        applier.entry(&header, segments.as_deref(), &mut member)?;
    }
    applier.finish()
}

/// A path as errors show it.
pub(super) fn shown(path: &[u8]) -> std::borrow::Cow<'_, str> {
    if path.is_empty() { "/".into() } else { String::from_utf8_lossy(path) }
}

/// A folder of the tree by its canonical path.
struct Folder {
    path: Vec<u8>,
    fd: OwnedFd,
}

/// What a folder gets when all else is done.
struct Final {
    mode: Option<u32>,
    mtime: Time,
}

struct Applier<'fd> {
    root: BorrowedFd<'fd>,
    owners: Owners,
    /// Canonical paths that this layer brings, with all folders above them.
    brought: HashSet<Vec<u8>>,
    folders: BTreeMap<Vec<u8>, Final>,
    /// The folder of the last entry, by its path in the layer: most entries follow one of the same folder.
    last: Option<(Vec<u8>, Rc<Folder>)>,
    buffer: Vec<u8>,
}

impl<'fd> Applier<'fd> {
    fn new(root: BorrowedFd<'fd>, owners: Owners) -> Self {
        Applier {
            root,
            owners,
            brought: HashSet::new(),
            folders: BTreeMap::new(),
            last: None,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        segments: Option<&[Segment]>,
        content: &mut dyn Read,
    ) -> Result<(), ApplyError> {
        let (parent, name) = split_last(&header.path);
        match &header.kind {
            Kind::Whiteout => return self.whiteout(&header.path),
            Kind::Opaque => return self.opaque(&header.path),
            Kind::Directory if name.is_empty() => return self.root_folder(header),
            _ => {}
        }
        let folder = self.folder_for(parent, &header.path)?;
        self.note_folder(&folder).map_err(io(&header.path))?;
        let place = Place { folder: &folder, name, path: join(&folder.path, name) };
        match &header.kind {
            Kind::Directory => self.directory(&place, header)?,
            Kind::Hardlink { target } => self.hardlink(&place, header, target)?,
            Kind::File { size_bytes, .. } => {
                let data = Data { size_bytes: *size_bytes, segments, content };
                self.file(&place, header, data)?;
            }
            _ => self.special(&place, header)?,
        }
        self.bring(place.path);
        Ok(())
    }

    /// The folder of an entry, made when it is missing.
    fn folder_for(&mut self, parent: &[u8], path: &[u8]) -> Result<Rc<Folder>, ApplyError> {
        if let Some((last, folder)) = &self.last
            && last == parent
        {
            return Ok(folder.clone());
        }
        let at = match find_folder(self.root, parent).map_err(io(path))? {
            Found::Folder(at) => at,
            Found::NoFolder(at) => return Err(ApplyError::Parent { path: path.to_vec(), at }),
            Found::Missing { missing, .. } if missing.iter().any(|name| name == b"..") => {
                return Err(io(path)(Errno::NOENT));
            }
            Found::Missing { folder, missing } => self.make_folders(folder, &missing, path)?,
        };
        let fd = beneath::open(self.root, &at, FOLDER).map_err(io(path))?;
        let folder = Rc::new(Folder { path: at, fd });
        self.last = Some((parent.to_vec(), folder.clone()));
        Ok(folder)
    }

    fn make_folders(&mut self, at: Vec<u8>, missing: &[Vec<u8>], path: &[u8]) -> Result<Vec<u8>, ApplyError> {
        let fd = beneath::open(self.root, &at, FOLDER).map_err(io(path))?;
        let mut folder = Folder { path: at, fd };
        for name in missing {
            self.note_folder(&folder).map_err(io(path))?;
            let at = join(&folder.path, name);
            match mkdirat(&folder.fd, &name[..], Mode::RWXU) {
                Ok(()) => {
                    self.folders.insert(at.clone(), Final { mode: Some(0o755), mtime: Time::default() });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(io(path)(errno)),
            }
            folder =
                Folder { fd: beneath::open(folder.fd.as_fd(), name, FOLDER).map_err(io(path))?, path: at };
        }
        Ok(folder.path)
    }

    /// Remembers the time of a folder in which something is about to change.
    fn note_folder(&mut self, folder: &Folder) -> rustix::io::Result<()> {
        if self.folders.contains_key(&folder.path) {
            return Ok(());
        }
        let stat = fstat(&folder.fd)?;
        let mut mode = None;
        if self.owners == Owners::Ignore && stat.st_mode & 0o700 != 0o700 {
            fchmod(&folder.fd, Mode::from_raw_mode(stat.st_mode | 0o700))?;
            mode = Some(stat.st_mode & 0o7777);
        }
        self.folders.insert(folder.path.clone(), Final { mode, mtime: mtime(&stat) });
        Ok(())
    }

    /// Notes that this layer brings `path`, and with it all folders above.
    fn bring(&mut self, mut path: Vec<u8>) {
        while !path.is_empty() {
            let parent = split_last(&path).0.to_vec();
            if !self.brought.insert(path) {
                break;
            }
            path = parent;
        }
    }

    fn root_folder(&mut self, header: &Header) -> Result<(), ApplyError> {
        let fd = beneath::open(self.root, b"", FOLDER).map_err(io(b""))?;
        self.folder_metadata(&Folder { path: Vec::new(), fd }, header)
    }

    fn directory(&mut self, place: &Place<'_>, header: &Header) -> Result<(), ApplyError> {
        let made = loop {
            match mkdirat(&place.folder.fd, place.name, Mode::RWXU) {
                Ok(()) => break true,
                Err(Errno::EXIST) if place.is_folder().map_err(io(&header.path))? => break false,
                Err(Errno::EXIST) => self.remove(place).map_err(io(&header.path))?,
                Err(errno) => return Err(io(&header.path)(errno)),
            }
        };
        let fd = match beneath::open(place.folder.fd.as_fd(), place.name, FOLDER) {
            Err(Errno::ACCESS) if !made && self.owners == Owners::Ignore => {
                chmodat(&place.folder.fd, place.name, Mode::RWXU, AtFlags::empty())
                    .map_err(io(&header.path))?;
                beneath::open(place.folder.fd.as_fd(), place.name, FOLDER)
            }
            fd => fd,
        };
        let folder = Folder { path: place.path.clone(), fd: fd.map_err(io(&header.path))? };
        if !made {
            // The entry says all that there is to say about the folder.
            let xattrs = Xattrs::of(folder.fd.as_fd(), b"");
            for name in xattrs.names().map_err(io(&header.path))? {
                if !header.xattrs.contains_key(&name) && !name.starts_with(b"security.") {
                    xattrs.remove(&name).or_else(optional).map_err(io(&header.path))?;
                }
            }
        }
        self.folder_metadata(&folder, header)
    }

    fn folder_metadata(&mut self, folder: &Folder, header: &Header) -> Result<(), ApplyError> {
        if self.owners == Owners::Keep {
            fchown(&folder.fd, Some(Uid::from_raw(header.uid)), Some(Gid::from_raw(header.gid)))
                .map_err(owner(header))?;
        }
        set_xattrs(&Xattrs::of(folder.fd.as_fd(), b""), header)?;
        // For now its owner may do everything with it; the rest follows when nothing changes in it any more.
        fchmod(&folder.fd, Mode::from_raw_mode(header.mode | 0o700)).map_err(io(&header.path))?;
        self.folders.insert(folder.path.clone(), Final { mode: Some(header.mode), mtime: header.mtime });
        Ok(())
    }

    fn file(&mut self, place: &Place<'_>, header: &Header, data: Data<'_>) -> Result<(), ApplyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat(&place.folder.fd, place.name, flags, Mode::RUSR | Mode::WUSR);
        let fd = self.create(place, create).map_err(io(&header.path))?;
        let mut file = std::fs::File::from(fd);
        data.write(&mut file, &mut self.buffer).map_err(|error| match error {
            WriteError::Read(source) => ApplyError::Content { path: header.path.clone(), source },
            WriteError::Write(source) => ApplyError::Io { path: header.path.clone(), source },
        })?;
        if self.owners == Owners::Keep {
            fchown(&file, Some(Uid::from_raw(header.uid)), Some(Gid::from_raw(header.gid)))
                .map_err(owner(header))?;
        }
        if !header.xattrs.is_empty() {
            set_xattrs(&Xattrs::of(place.folder.fd.as_fd(), place.name), header)?;
        }
        fchmod(&file, Mode::from_raw_mode(header.mode)).map_err(io(&header.path))?;
        futimens(&file, &timestamps(header.mtime)).map_err(io(&header.path))
    }

    fn hardlink(&mut self, place: &Place<'_>, header: &Header, target: &[u8]) -> Result<(), ApplyError> {
        let missing = || ApplyError::Tar(TarError::link_target(&header.path, target));
        let (parent, name) = split_last(target);
        let Found::Folder(at) = find_folder(self.root, parent).map_err(io(&header.path))? else {
            return Err(missing());
        };
        if join(&at, name) == place.path {
            // Another name of itself, through a symlink.
            let there = place.exists().map_err(io(&header.path))?;
            let is_file = there && !place.is_folder().map_err(io(&header.path))?;
            return if is_file { Ok(()) } else { Err(missing()) };
        }
        let from =
            beneath::open(self.root, &at, OFlags::PATH | OFlags::DIRECTORY).map_err(io(&header.path))?;
        let link = || linkat(&from, name, &place.folder.fd, place.name, AtFlags::empty());
        match self.create(place, link) {
            // A folder has one name only.
            Err(Errno::NOENT | Errno::PERM) => return Err(missing()),
            linked => linked.map_err(io(&header.path))?,
        }
        let stat = place.stat().map_err(io(&header.path))?;
        let owner = (header.uid, header.gid);
        let same_owner = self.owners == Owners::Ignore || owner == (stat.st_uid, stat.st_gid);
        if same_owner && (header.mode, header.mtime) == (stat.st_mode & 0o7777, mtime(&stat)) {
            return Ok(());
        }
        // One file has one owner and mode: those of the header that came last.
        self.metadata(place, header, FileType::from_raw_mode(stat.st_mode))
    }

    /// Symlinks, devices and pipes.
    fn special(&mut self, place: &Place<'_>, header: &Header) -> Result<(), ApplyError> {
        let (folder, name) = (&place.folder.fd, place.name);
        let node = |kind: FileType, device: u64| mknodat(folder, name, kind, Mode::RUSR | Mode::WUSR, device);
        let made = match &header.kind {
            Kind::Symlink { target } => self.create(place, || symlinkat(&target[..], folder, name)),
            Kind::CharDevice { major, minor } => {
                self.create(place, || node(FileType::CharacterDevice, makedev(*major, *minor)))
            }
            Kind::BlockDevice { major, minor } => {
                self.create(place, || node(FileType::BlockDevice, makedev(*major, *minor)))
            }
            _ => self.create(place, || node(FileType::Fifo, 0)),
        };
        let is_device = matches!(header.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. });
        match made {
            // In a user namespace nobody can make one, and a container gets its own.
            Err(Errno::PERM) if is_device => {
                tracing::debug!(path = %shown(&header.path), "left out a device");
                return Ok(());
            }
            made => made.map_err(io(&header.path))?,
        }
        let is_link = matches!(header.kind, Kind::Symlink { .. });
        self.metadata(place, header, if is_link { FileType::Symlink } else { FileType::Unknown })
    }

    /// Gives what is at `place` its owner, attributes, mode and time by name.
    fn metadata(&self, place: &Place<'_>, header: &Header, kind: FileType) -> Result<(), ApplyError> {
        let (folder, name) = (&place.folder.fd, place.name);
        if self.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(header.uid), Gid::from_raw(header.gid));
            chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(owner(header))?;
        }
        set_xattrs(&Xattrs::of(folder.as_fd(), name), header)?;
        if kind != FileType::Symlink {
            chmodat(folder, name, Mode::from_raw_mode(header.mode), AtFlags::empty())
                .map_err(io(&header.path))?;
        }
        utimensat(folder, name, &timestamps(header.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io(&header.path))
    }

    /// Makes something at `place`. Mostly nothing is there yet, so that is tried first.
    fn create<T>(
        &mut self,
        place: &Place<'_>,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(place)?;
                make()
            }
            made => made,
        }
    }

    fn remove(&mut self, place: &Place<'_>) -> rustix::io::Result<()> {
        self.last = None;
        remove_tree(&place.folder.fd, place.name)
    }

    /// Removes what lower layers have at `path`.
    fn whiteout(&mut self, path: &[u8]) -> Result<(), ApplyError> {
        let (parent, name) = split_last(path);
        let Some(folder) = self.existing_folder(parent, path)? else { return Ok(()) };
        self.hide(join(&folder, name)).map_err(io(path))
    }

    /// Removes what lower layers have in the folder `path`.
    fn opaque(&mut self, path: &[u8]) -> Result<(), ApplyError> {
        let Some(folder) = self.existing_folder(path, path)? else { return Ok(()) };
        self.bring(folder.clone());
        self.hide(folder).map_err(io(path))
    }

    fn existing_folder(&self, folder: &[u8], path: &[u8]) -> Result<Option<Vec<u8>>, ApplyError> {
        Ok(match find_folder(self.root, folder).map_err(io(path))? {
            Found::Folder(at) => Some(at),
            Found::Missing { .. } | Found::NoFolder(_) => None,
        })
    }

    /// Removes `path`, canonical, and all below it, but for what this layer brings.
    fn hide(&mut self, path: Vec<u8>) -> rustix::io::Result<()> {
        let mut left = vec![path];
        while let Some(path) = left.pop() {
            if !path.is_empty() && !self.brought.contains(&path) {
                let (parent, name) = split_last(&path);
                let folder = Folder { path: parent.to_vec(), fd: beneath::open(self.root, parent, FOLDER)? };
                let place = Place { folder: &folder, name, path: path.clone() };
                if place.exists()? {
                    self.note_folder(&folder)?;
                    self.remove(&place)?;
                }
                continue;
            }
            match beneath::open(self.root, &path, FOLDER) {
                Ok(folder) => left.extend(names(folder.as_fd())?.iter().map(|name| join(&path, name))),
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Gives folders their modes and times, those below first.
    fn finish(self) -> Result<(), ApplyError> {
        for (path, last) in self.folders.iter().rev() {
            let fd = match beneath::open(self.root, path, FOLDER) {
                // Replaced or hidden later on.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                fd => fd.map_err(io(path))?,
            };
            if let Some(mode) = last.mode {
                fchmod(&fd, Mode::from_raw_mode(mode)).map_err(io(path))?;
            }
            futimens(&fd, &timestamps(last.mtime)).map_err(io(path))?;
        }
        Ok(())
    }
}

/// A name in a folder of the tree.
struct Place<'a> {
    folder: &'a Folder,
    name: &'a [u8],
    path: Vec<u8>,
}

impl Place<'_> {
    fn stat(&self) -> rustix::io::Result<Stat> {
        statat(&self.folder.fd, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn exists(&self) -> rustix::io::Result<bool> {
        match self.stat() {
            Err(Errno::NOENT) => Ok(false),
            stat => stat.map(|_| true),
        }
    }

    fn is_folder(&self) -> rustix::io::Result<bool> {
        Ok(FileType::from_raw_mode(self.stat()?.st_mode) == FileType::Directory)
    }
}

/// The bytes of a file, with zeros in its holes; `segments` are the parts that are none.
struct Data<'a> {
    size_bytes: u64,
    segments: Option<&'a [Segment]>,
    content: &'a mut dyn Read,
}

enum WriteError {
    Read(io::Error),
    Write(io::Error),
}

impl Data<'_> {
    fn write(self, file: &mut std::fs::File, buffer: &mut [u8]) -> Result<(), WriteError> {
        let Some(segments) = self.segments else {
            return copy(self.content, self.size_bytes, file, buffer);
        };
        let mut position = 0;
        for segment in segments {
            let hole = &mut self.content.take(segment.offset - position);
            io::copy(hole, &mut io::sink()).map_err(WriteError::Read)?;
            position = segment.offset + segment.size_bytes;
            file.seek(SeekFrom::Start(segment.offset)).map_err(WriteError::Write)?;
            copy(self.content, segment.size_bytes, file, buffer)?;
        }
        file.set_len(self.size_bytes).map_err(WriteError::Write)
    }
}

fn copy(
    content: &mut dyn Read,
    mut size_bytes: u64,
    file: &mut std::fs::File,
    buffer: &mut [u8],
) -> Result<(), WriteError> {
    while size_bytes > 0 {
        let wanted = buffer.len().min(usize::try_from(size_bytes).unwrap_or(usize::MAX));
        let read = match content.read(&mut buffer[..wanted]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) => return Err(WriteError::Read(io::ErrorKind::UnexpectedEof.into())),
            read => read.map_err(WriteError::Read)?,
        };
        file.write_all(&buffer[..read]).map_err(WriteError::Write)?;
        size_bytes -= read as u64;
    }
    Ok(())
}

/// How much of a file is in memory at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Sets what the entry asks for. One that this file system, or this user, cannot set is left out, as docker does;
/// without `security.capability` a program would fail in ways that nobody understands, so that one must succeed.
fn set_xattrs(xattrs: &Xattrs, header: &Header) -> Result<(), ApplyError> {
    for (name, value) in &header.xattrs {
        if is_overlay_xattr(name) {
            continue;
        }
        let set = xattrs.set(name, value);
        let set = if name == b"security.capability" { set } else { set.or_else(optional) };
        set.map_err(io(&header.path))?;
    }
    Ok(())
}

/// Takes it for success that an attribute cannot be changed here.
fn optional(errno: Errno) -> rustix::io::Result<()> {
    match errno {
        Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NODATA | Errno::INVAL => Ok(()),
        errno => Err(errno),
    }
}

fn io(path: &[u8]) -> impl FnOnce(Errno) -> ApplyError {
    let path = path.to_vec();
    move |errno| ApplyError::Io { path, source: errno.into() }
}

/// `EINVAL` is the kernel's word for an id that the user namespace does not map.
fn owner(header: &Header) -> impl FnOnce(Errno) -> ApplyError {
    let (path, uid, gid) = (header.path.clone(), header.uid, header.gid);
    move |errno| match errno {
        Errno::INVAL => ApplyError::Owner { path, uid, gid },
        errno => ApplyError::Io { path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests;
