//! The few file operations that all of the store is made of: names in order, locks, temporary files, records.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;

/// 128 random bits as hex: a name that nobody can guess and nobody else takes.
pub(super) fn random_id() -> Result<String, StoreError> {
    let mut bytes = [0u8; 16];
    fill_random(&mut bytes)?;
    Ok(crate::digest::hex(&bytes))
}

/// A name that [`random_id`] can have made.
pub(super) fn as_random_id(name: &str) -> Option<String> {
    let well_formed = name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    well_formed.then(|| name.to_owned())
}

/// Random bytes from the kernel.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), StoreError> {
    getrandom::fill(bytes).map_err(|e| StoreError::io("read", Path::new("/dev/urandom"))(io::Error::other(e)))
}

/// `None` where the file or a folder on the way is not there.
pub(super) fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Runs `make`; when it fails since a folder is missing, makes the folder of `path` and tries again. In a loop,
/// since another process may remove an empty folder in between.
pub(super) fn with_parent<T>(path: &Path, mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let parent = path.parent().expect("paths of the store have a parent");
    for _ in 0..100 {
        match make() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_folder(parent)?,
            result => return result,
        }
    }
    make()
}

/// Makes a folder and those above it. When another process removes one in between, the kernel says first that it exists
/// and then that it does not: the caller tries again.
fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir_all(folder) {
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
        result => result,
    }
}

/// Removes a file; whether it was there.
pub(super) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    let removed = absent_is_none(fs::remove_file(path)).map_err(StoreError::io("remove", path))?;
    Ok(removed.is_some())
}

/// Removes a file or a folder with all that is in it; it may be gone already.
pub(super) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    super::remove::remove_tree(rustix::fs::CWD, path.as_os_str().as_encoded_bytes())
        .map_err(StoreError::errno("remove", path))
}

/// Seconds since 1970.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Writes the entries of a folder to the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// An exclusive lock on a folder or file, held until dropped. It vanishes with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock on the folder `folder`, which is made when it is missing.
    pub(super) fn wait(folder: &Path) -> Result<Lock, StoreError> {
        let file = loop {
            match absent_is_none(File::open(folder)).map_err(StoreError::io("open", folder))? {
                Some(file) => break file,
                None => fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?,
            }
        };
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result.map_err(StoreError::errno("lock", folder))?,
            }
        }
        Ok(Lock { file })
    }

    /// Takes the lock on what `file` has open, unless somebody holds it.
    pub(super) fn try_on(file: &File) -> io::Result<bool> {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives up what [`Lock::try_on`] took, for all copies of the descriptor at once.
    pub(super) fn release(file: &File) {
        // Closing it is what remains if this fails.
        let _ = rustix::fs::flock(file, FlockOperation::Unlock);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        Lock::release(&self.file);
    }
}

/// Makes a new empty folder `parent/<random id>` and locks it; the folder, its name and the lock.
pub(super) fn new_locked_folder(parent: &Path) -> Result<(PathBuf, String, File), StoreError> {
    loop {
        let id = random_id()?;
        let path = parent.join(&id);
        let make = || fs::DirBuilder::new().mode(0o700).create(&path);
        with_parent(&path, make).map_err(StoreError::io("make", &path))?;
        let folder = absent_is_none(File::open(&path)).map_err(StoreError::io("open", &path))?;
        if let Some(folder) = folder
            && is_mine(&folder, &path)?
        {
            return Ok((path, id, folder));
        }
        remove_tree(&path)?;
    }
}

/// Locks what was just made. A sweeper may have seen it before: then it holds the lock, or has removed it already.
fn is_mine(file: &File, path: &Path) -> Result<bool, StoreError> {
    let locked = Lock::try_on(file).map_err(StoreError::io("lock", path))?;
    let links = file.metadata().map_err(StoreError::io("read", path))?.nlink();
    Ok(locked && links > 0)
}

/// A file in `ingest/` that becomes something, or nothing: dropping it removes it. The lock on it tells sweepers
/// that its owner lives.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    pub(super) file: File,
    persisted: bool,
}

impl Temporary {
    /// A new empty file in the folder `ingest`, locked.
    pub(super) fn new(ingest: &Path) -> Result<Self, StoreError> {
        loop {
            let path = ingest.join(random_id()?);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = with_parent(&path, || options.open(&path)).map_err(StoreError::io("create", &path))?;
            if is_mine(&file, &path)? {
                return Ok(Temporary { path, file, persisted: false });
            }
            remove_file(&path)?;
        }
    }

    /// Writes the file to the disk and gives it its name, replacing what had that name.
    pub(super) fn persist(mut self, target: &Path, mode: u32) -> Result<File, StoreError> {
        persist(&self.file, &self.path, target, mode)?;
        self.persisted = true;
        self.file.try_clone().map_err(StoreError::io("open", target))
    }

    /// The file's present path, for errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.persisted
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary file");
        }
    }
}

/// Mode and contents reach the disk first, then the name changes: a name never shows what a power cut can take.
pub(super) fn persist(file: &File, path: &Path, target: &Path, mode: u32) -> Result<(), StoreError> {
    write_to_disk(file, path, mode)?;
    with_parent(target, || fs::rename(path, target)).map_err(StoreError::io("create", target))
}

fn write_to_disk(file: &File, path: &Path, mode: u32) -> Result<(), StoreError> {
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(StoreError::io("set the mode of", path))?;
    file.sync_all().map_err(StoreError::io("write", path))
}

/// Replaces the file at `target` by `bytes`, atomically; they are on the disk before the name shows them. The file is
/// returned locked.
pub(super) fn replace(ingest: &Path, target: &Path, bytes: &[u8], mode: u32) -> Result<File, StoreError> {
    let mut temporary = Temporary::new(ingest)?;
    temporary.file.write_all(bytes).map_err(StoreError::io("write", temporary.path()))?;
    temporary.persist(target, mode)
}

/// The same, unless there is a file at `target`: then that one stays.
pub(super) fn put_if_absent(ingest: &Path, target: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let mut temporary = Temporary::new(ingest)?;
    temporary.file.write_all(bytes).map_err(StoreError::io("write", temporary.path()))?;
    write_to_disk(&temporary.file, temporary.path(), mode)?;
    match fs::hard_link(temporary.path(), target) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::io("create", target)(e)),
        _ => Ok(()),
    }
}

/// Replaces the record at `target`.
pub(super) fn write_record<T: Serialize>(ingest: &Path, target: &Path, record: &T) -> Result<(), StoreError> {
    replace(ingest, target, &encode(record), 0o644)?;
    Ok(())
}

/// A record as JSON with a line end.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(record).expect("records hold nothing that JSON cannot");
    bytes.push(b'\n');
    bytes
}

/// The whole file, `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    absent_is_none(fs::read(path)).map_err(StoreError::io("read", path))
}

/// Reads a record whose latest version known here is `known`; `None` when it is not there.
pub(super) fn read_record<T: DeserializeOwned>(path: &Path, known: u32) -> Result<Option<T>, StoreError> {
    read(path)?.map(|bytes| decode(path, known, &bytes)).transpose()
}

/// Reads the bytes of a record that came from `path`.
pub(super) fn decode<T: DeserializeOwned>(path: &Path, known: u32, bytes: &[u8]) -> Result<T, StoreError> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |source| StoreError::Damaged { path: path.to_owned(), source };
    let found = serde_json::from_slice::<Version>(bytes).map_err(damaged)?.version;
    if found > known {
        return Err(StoreError::NewerRecord { path: path.to_owned(), found, known });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}
