//! The build context: a directory that is read in place, without what `.dockerignore` leaves out.
//!
//! Everything is opened beneath a descriptor of the root, links on the way refused: callers resolve paths with
//! [`crate::tree::resolve`] first. Nothing is walked that no instruction asks for; a directory that was listed is
//! remembered. Owners are 0:0 in every build, whoever owns the files; of extended attributes only `security.capability`
//! counts, as in BuildKit. A socket is an empty file, as there.
//!
//! A file whose size or times differ before and after it was read was changed by somebody: an error that names it.

pub(crate) mod signature;
mod stat_cache;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use common::digest::{Algorithm, Digest};
use common::layer::Time;
use common::layer::index::split_last;
use common::store::Store;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use self::signature::Signature;
use self::stat_cache::{Known, StatCache};
use crate::ignore::{Folder, Patterns};
use crate::tree::{self, Identity, Kind, Node, TooManyLinks, Tree};

const CAPABILITY: &str = "security.capability";

/// Why the build context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The kernel refused.
    #[error("cannot read {} in the build context", path.display())]
    Io {
        /// Relative to the context.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody writes to it.
    #[error("{} was changed while it was read", .0.display())]
    Changed(PathBuf),
    /// Links in a circle.
    #[error(transparent)]
    Links(#[from] TooManyLinks),
}

/// What is in a directory, sorted by name.
type Listing = Arc<Vec<(Vec<u8>, Node)>>;

/// What is left out of a context, and the name of the file that says so.
#[derive(Debug, Default)]
pub(crate) struct IgnoreFile {
    pub name: String,
    pub patterns: Patterns,
}

/// The files that COPY and ADD without `--from` see.
#[derive(Debug)]
pub(crate) struct Context {
    store: Store,
    root: OwnedFd,
    /// Tells contexts of one store apart.
    identity: String,
    ignore_name: String,
    patterns: Patterns,
    stat_cache: Mutex<StatCache>,
    listings: Mutex<HashMap<Vec<u8>, Listing>>,
    /// The state of each file when its digest went into a key: its bytes have to be of the same state.
    keyed: Mutex<HashMap<Vec<u8>, Signature>>,
}

impl Context {
    /// The directory `root` without what `ignore` leaves out.
    pub(crate) fn open(store: &Store, root: &Path, ignore: IgnoreFile) -> Result<Self, ContextError> {
        let io_error = |errno: Errno| ContextError::Io { path: root.to_owned(), source: errno.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(io_error)?;
        let stat = rustix::fs::fstat(&root).map_err(io_error)?;
        Ok(Context {
            store: store.clone(),
            stat_cache: Mutex::new(StatCache::load(store, &stat)),
            identity: format!("{:x}-{:x}", stat.st_dev, stat.st_ino),
            root,
            ignore_name: ignore.name,
            patterns: ignore.patterns,
            listings: Mutex::default(),
            keyed: Mutex::default(),
        })
    }

    /// Keeps what was learnt about the files for the next build.
    pub(crate) fn save(&self) {
        lock(&self.stat_cache).save(&self.store);
    }

    /// Tells contexts of one store apart.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Why `path` is not there, when the ignore file is why.
    pub(crate) fn ignored_by(&self, path: &[u8]) -> Option<String> {
        let pattern = self.patterns.matching(path)?;
        Some(format!("`{}` line {} (`{}`) leaves it out", self.ignore_name, pattern.line, pattern.text))
    }

    fn open_at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A rename elsewhere in the tree made the kernel unsure; it says to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// What `name` in the open directory is; `None` when it is gone.
    fn stat_at(&self, folder: &OwnedFd, path: &[u8], name: &[u8]) -> Result<Option<Node>, ContextError> {
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.map_err(error_at(path))?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File { size_bytes: stat.st_size.cast_unsigned() },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(error_at(path))?;
                Kind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice => {
                let (major, minor) = device(&stat);
                Kind::CharDevice { major, minor }
            }
            FileType::BlockDevice => {
                let (major, minor) = device(&stat);
                Kind::BlockDevice { major, minor }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::File { size_bytes: 0 },
            FileType::Unknown => return Ok(None),
        };
        Ok(Some(node(kind, &stat)))
    }

    /// What the patterns know about the directory `path`.
    fn folder(&self, path: &[u8]) -> Folder {
        let mut folder = self.patterns.root();
        let mut above = Vec::new();
        for name in tree::components(path) {
            above = tree::join(&above, name);
            folder = self.patterns.enter(&folder, &above);
        }
        folder
    }

    /// A directory that is left out is there all the same when something in it is not.
    fn is_visible(&self, parent: &Folder, path: &[u8], is_directory: bool) -> Result<bool, ContextError> {
        if path.is_empty() || !self.patterns.matches_in(parent, path) {
            return Ok(true);
        }
        let may_hold = is_directory && !self.patterns.is_closed(&self.patterns.enter(parent, path), path);
        Ok(may_hold && !self.list(path)?.is_empty())
    }

    fn read_listing(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, ContextError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = self.open_at(path, flags).map_err(error_at(path))?;
        let known = self.folder(path);
        let mut listing = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder).map_err(error_at(path))? {
            let entry = entry.map_err(error_at(path))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let child = tree::join(path, name);
            let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if !self.is_visible(&known, &child, may_be_directory)? {
                continue;
            }
            if let Some(node) = self.stat_at(&folder, &child, name)? {
                listing.push((name.to_vec(), node));
            }
        }
        listing.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(listing)
    }

    fn read_digest(&self, path: &[u8], signature: Signature) -> Result<Known, ContextError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Some(mut reader) = self.open_checked(path)? else {
            return Ok(Known { digest: Digest::sha256(b""), has_capability: false });
        };
        let mut hasher = Algorithm::Sha256.hasher();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(reader.explain(source)),
            }
        }
        if reader.before != signature {
            return Err(ContextError::Changed(shown(path)));
        }
        let has_capability = capability(&reader.file).map_err(error_at(path))?.is_some();
        let known = Known { digest: hasher.finish(), has_capability };
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        lock(&self.stat_cache).insert(signature, known.clone(), now);
        Ok(known)
    }

    /// `None` for a socket, which has no bytes.
    fn open_checked(&self, path: &[u8]) -> Result<Option<CheckedFile>, ContextError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match self.open_at(path, flags) {
            Err(Errno::NXIO) => return Ok(None),
            result => File::from(result.map_err(error_at(path))?),
        };
        let before = Signature::of(&rustix::fs::fstat(&file).map_err(error_at(path))?);
        Ok(Some(CheckedFile { path: shown(path), file, before }))
    }
}

impl Tree for Context {
    type Error = ContextError;

    fn node(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        let (parent, name) = split_last(path);
        let folder = match self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            result => result.map_err(error_at(parent))?,
        };
        let name = if name.is_empty() { b"." } else { name };
        match self.stat_at(&folder, path, name)? {
            Some(node) if self.is_visible(&self.folder(parent), path, node.is_directory())? => Ok(Some(node)),
            _ => Ok(None),
        }
    }

    fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, ContextError> {
        if let Some(listing) = lock(&self.listings).get(path) {
            return Ok(listing.to_vec());
        }
        let listing = Arc::new(self.read_listing(path)?);
        lock(&self.listings).insert(path.to_vec(), listing.clone());
        Ok(listing.to_vec())
    }

    fn digest(&self, path: &[u8], node: &mut Node) -> Result<Digest, ContextError> {
        let signature = node.signature.expect("nodes of a context have one");
        lock(&self.keyed).insert(path.to_vec(), signature);
        let known = lock(&self.stat_cache).get(&signature).cloned();
        let known = match known {
            Some(known) => known,
            None => self.read_digest(path, signature)?,
        };
        if known.has_capability
            && let Some(opened) = self.open_checked(path)?
        {
            let value = capability(&opened.file).map_err(error_at(path))?;
            node.xattrs.extend(value.map(|value| (CAPABILITY.as_bytes().to_vec(), value)));
        }
        Ok(known.digest)
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, ContextError> {
        let Some(file) = self.open_checked(path)? else { return Ok(Box::new(io::empty())) };
        if lock(&self.keyed).get(path).is_some_and(|keyed| *keyed != file.before) {
            return Err(ContextError::Changed(shown(path)));
        }
        Ok(Box::new(file))
    }
}

/// A file that is an error at its end when it was changed meanwhile.
struct CheckedFile {
    path: PathBuf,
    file: File,
    before: Signature,
}

impl CheckedFile {
    /// The error that `source` came from: [`Read`] can only wrap it.
    fn explain(&self, source: io::Error) -> ContextError {
        match source.downcast::<ContextError>() {
            Ok(error) => error,
            Err(source) => ContextError::Io { path: self.path.clone(), source },
        }
    }
}

impl Read for CheckedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read == 0 && !buffer.is_empty() && Signature::of(&rustix::fs::fstat(&self.file)?) != self.before {
            return Err(io::Error::other(ContextError::Changed(self.path.clone())));
        }
        Ok(read)
    }
}

fn node(kind: Kind, stat: &Stat) -> Node {
    let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { stat.st_mode & 0o7777 };
    let identity = (matches!(kind, Kind::File { .. }) && stat.st_nlink > 1)
        .then_some(Identity::Inode { device: stat.st_dev, inode: stat.st_ino });
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let mtime = Time { seconds: stat.st_mtime, nanos };
    Node { mtime, identity, signature: Some(Signature::of(stat)), ..Node::new(kind, mode) }
}

fn device(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

fn capability(file: &File) -> Result<Option<Vec<u8>>, Errno> {
    // The longest form, v3, has 24 bytes.
    let mut value = [0; 64];
    match rustix::fs::fgetxattr(file, CAPABILITY, &mut value[..]) {
        Ok(len) => Ok(Some(value[..len].to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn error_at(path: &[u8]) -> impl FnOnce(Errno) -> ContextError {
    let path = shown(path);
    move |errno| ContextError::Io { path, source: errno.into() }
}

fn shown(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path)).to_owned()
}

/// A panic elsewhere leaves these tables whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_after_its_digest_was_taken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("context");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a"), "1").unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let context = Context::open(&store, &root, IgnoreFile::default()).unwrap();
        let mut node = context.node(b"a").unwrap().unwrap();
        assert_eq!(context.digest(b"a", &mut node).unwrap(), Digest::sha256(b"1"));
        std::fs::write(root.join("a"), "22").unwrap();
        assert!(matches!(context.open(b"a"), Err(ContextError::Changed(path)) if path == Path::new("a")));
    }

    #[test]
    fn what_is_left_out_is_not_there_and_exceptions_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("context");
        std::fs::create_dir_all(root.join("d/e")).unwrap();
        for path in ["d/x", "d/e/keep", "f"] {
            std::fs::write(root.join(path), "").unwrap();
        }
        let store = Store::open(&folder.path().join("store")).unwrap();
        let patterns = Patterns::parse(b"d\n!d/e/keep\n").unwrap();
        let ignore = IgnoreFile { name: ".dockerignore".into(), patterns };
        let context = Context::open(&store, &root, ignore).unwrap();
        let names = |path: &[u8]| -> Vec<Vec<u8>> {
            context.list(path).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(b""), [b"d", b"f"]);
        assert_eq!(names(b"d"), [b"e"]);
        assert!(context.node(b"d/x").unwrap().is_none());
        assert!(context.node(b"d/e/keep").unwrap().is_some());
        assert_eq!(context.ignored_by(b"d/x").unwrap(), "`.dockerignore` line 1 (`d`) leaves it out");
    }
}
