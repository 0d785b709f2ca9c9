use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Store;
use super::disk::{self, Lock};
use super::error::{CommitError, StoreError};
use super::hashed_file::HashedFile;
use super::ingest::BLOB_MODE;
use super::listing::{self, Sort};
use crate::digest::{Algorithm, Digest, Hasher, Hashing};
use crate::reference::RepositoryPath;

/// Name of an upload session: 128 random bits, shown as 32 hex digits. Who knows it may go on with the session, if
/// the repository and the subject are the same too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// The 32 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an upload session's name has 32 lower-case hex digits")]
pub struct UploadIdError;

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        disk::as_random_id(text).map(|id| UploadId(id.into())).ok_or(UploadIdError)
    }
}

/// Whose session it is, and what it will become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadOptions {
    /// The repository it was begun in.
    pub repository: RepositoryPath,
    /// The user that began it, as the registry names users; empty when nobody has to say who he is.
    pub subject: String,
    /// The algorithm that the digest is expected to have. Another one costs a second pass over the bytes.
    pub algorithm: Algorithm,
    /// How long the session lives after it was last used.
    pub lifetime: Duration,
}

/// What is known of a session without holding it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadState {
    /// As the session was begun.
    pub options: UploadOptions,
    /// How many bytes it has, as of the end of the last request.
    pub offset: u64,
}

/// A session, held: nobody else can until it is dropped. Dropping it keeps its bytes for the next request.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    id: UploadId,
    options: UploadOptions,
    folder: PathBuf,
    data: HashedFile,
    lock: File,
    end: End,
}

/// What happens when a session is let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has just been saved.
    Leave,
    /// It is kept for the next request.
    Save,
    /// It is over.
    Remove,
}

/// Why a session could not be resumed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none, or it has expired.
    #[error("upload session {id} does not exist")]
    Unknown {
        /// The session.
        id: UploadId,
    },
    /// Another request holds it.
    #[error("upload session {id} is in use by another request")]
    Busy {
        /// The session.
        id: UploadId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const VERSION: u32 = 1;

/// `uploads/<session>/state.json`
#[derive(Serialize, Deserialize)]
struct UploadFile {
    version: u32,
    repository: RepositoryPath,
    subject: String,
    algorithm: Algorithm,
    lifetime_seconds: u64,
    /// Seconds since 1970.
    expires: u64,
    offset: u64,
    /// State of the digest over the bytes before `offset`, in hex.
    midstate: String,
    /// The boot under which `midstate` was written: another one may have lost bytes before `offset`.
    boot_id: String,
}

impl Store {
    /// Begins a session.
    ///
    /// # Errors
    /// [`StoreError::Io`] when its folder cannot be made.
    pub fn begin_upload(&self, options: UploadOptions) -> Result<Upload, StoreError> {
        let (folder, id, lock) = disk::new_locked_folder(&self.paths().uploads())?;
        let id = UploadId(id.into());
        let data = open_data(&folder)?;
        let data = HashedFile::new(data, options.algorithm.hasher(), 0);
        let store = self.clone();
        let mut upload = Upload { store, id, options, folder, data, lock, end: End::Leave };
        upload.save()?;
        Ok(upload)
    }

    /// Takes hold of a session.
    ///
    /// # Errors
    /// [`UploadError::Unknown`] when there is none, [`UploadError::Busy`] while another request holds it.
    pub fn resume_upload(&self, id: &UploadId) -> Result<Upload, UploadError> {
        let unknown = || UploadError::Unknown { id: id.clone() };
        let folder = self.paths().upload(id.as_str());
        let lock = disk::absent_is_none(File::open(&folder)).map_err(StoreError::io("open", &folder))?;
        let lock = lock.ok_or_else(unknown)?;
        if !Lock::try_on(&lock).map_err(StoreError::io("lock", &folder))? {
            return Err(UploadError::Busy { id: id.clone() });
        }
        let state = self.read_upload(id)?.ok_or_else(unknown)?;
        let options = options_of(&state);
        let file = open_data(&folder)?;
        let (hasher, offset) = hasher_of(&state, &file, &folder)?;
        // What was written but not acknowledged before the last owner died.
        file.set_len(offset).map_err(StoreError::io("truncate", &folder.join(DATA)))?;
        let data = HashedFile::new(file, hasher, offset);
        let (store, id) = (self.clone(), id.clone());
        Ok(Upload { store, id, options, folder, data, lock, end: End::Save })
    }

    /// Looks at a session, held or not; `None` when there is none, or it has expired.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::NewerRecord`] when its record cannot be understood.
    pub fn upload(&self, id: &UploadId) -> Result<Option<UploadState>, StoreError> {
        let state = self.read_upload(id)?;
        Ok(state.map(|state| UploadState { options: options_of(&state), offset: state.offset }))
    }

    /// Removes the sessions that have expired and that nobody holds; how many.
    ///
    /// # Errors
    /// [`StoreError::Io`] when one cannot be removed.
    pub fn sweep_uploads(&self) -> Result<usize, StoreError> {
        let mut swept = 0;
        let parse = |name: &str| name.parse::<UploadId>().ok();
        for id in listing::known(&self.paths().uploads(), Sort::Folder, parse)? {
            if self.read_upload(&id).is_ok_and(|state| state.is_some()) {
                continue;
            }
            let folder = self.paths().upload(id.as_str());
            let Ok(lock) = File::open(&folder) else { continue };
            if Lock::try_on(&lock).map_err(StoreError::io("lock", &folder))? {
                disk::remove_tree(&folder)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// The state of a session that has not expired.
    fn read_upload(&self, id: &UploadId) -> Result<Option<UploadFile>, StoreError> {
        let path = self.paths().upload(id.as_str()).join(STATE);
        let state: Option<UploadFile> = disk::read_record(&path, VERSION)?;
        Ok(state.filter(|state| state.expires > disk::unix_seconds(SystemTime::now())))
    }
}

const DATA: &str = "data";
const STATE: &str = "state.json";

fn open_data(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(DATA);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let opened = match options.open(&path) {
        // The last owner died when it was a blob already in all but its name.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).and_then(|()| options.open(&path))
        }
        opened => opened,
    };
    opened.map_err(StoreError::io("open", &path))
}

fn options_of(state: &UploadFile) -> UploadOptions {
    UploadOptions {
        repository: state.repository.clone(),
        subject: state.subject.clone(),
        algorithm: state.algorithm,
        lifetime: Duration::from_secs(state.lifetime_seconds),
    }
}

/// The digest's state and the offset to go on from. Bytes from before a power cut may be fewer, or others, than were
/// written: they are hashed again, so that a wrong one shows at the end.
fn hasher_of(state: &UploadFile, file: &File, folder: &Path) -> Result<(Hasher, u64), StoreError> {
    let path = folder.join(DATA);
    let length = file.metadata().map_err(StoreError::io("read", &path))?.len();
    if state.boot_id == boot_id()
        && length >= state.offset
        && let Some(hasher) = Hasher::resume(state.algorithm, &state.midstate)
    {
        return Ok((hasher, state.offset));
    }
    let mut prefix = Hashing::new(state.algorithm, io::Read::take(file, state.offset));
    let offset = io::copy(&mut prefix, &mut io::sink()).map_err(StoreError::io("read", &path))?;
    Ok((prefix.into_hasher(), offset))
}

/// Which boot of the kernel this is. Where it cannot be told, no two are the same.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim_end().to_owned())
        .or_else(|_| disk::random_id())
        .unwrap_or_default()
}

impl Upload {
    /// The session's name.
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// As the session was begun.
    pub fn options(&self) -> &UploadOptions {
        &self.options
    }

    /// How many bytes have come.
    pub fn offset(&self) -> u64 {
        self.data.size_bytes()
    }

    /// Takes in more bytes. They are hashed while they are written, and write-back to the disk begins.
    ///
    /// # Errors
    /// [`StoreError::Io`] when they cannot be written; [`Upload::offset`] then says what is left.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.end = End::Save;
        self.data.append(bytes).map_err(StoreError::io("write", &self.folder.join(DATA)))
    }

    /// Ends the session: its bytes become the blob `expected`, whose length is returned, or nothing. What
    /// [`super::Ingest::commit`] says of durability holds here too.
    ///
    /// # Errors
    /// [`CommitError::DigestMismatch`] when the bytes are others.
    pub fn finish(mut self, expected: &Digest) -> Result<u64, CommitError> {
        let path = self.folder.join(DATA);
        self.data.file().map_err(StoreError::io("write", &path))?;
        self.end = End::Remove;
        let size_bytes = self.data.size_bytes();
        let actual = self.digest(expected.algorithm())?;
        if actual != *expected {
            return Err(CommitError::DigestMismatch { expected: expected.clone(), actual, size_bytes });
        }
        let file = self.data.file().map_err(StoreError::io("write", &path))?;
        disk::persist(file, &path, &self.store.paths().blob(expected), BLOB_MODE)?;
        Ok(size_bytes)
    }

    fn digest(&self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        if algorithm == self.options.algorithm {
            return Ok(self.data.hasher().clone().finish());
        }
        let path = self.folder.join(DATA);
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let mut hashing = Hashing::new(algorithm, file);
        io::copy(&mut hashing, &mut io::sink()).map_err(StoreError::io("read", &path))?;
        Ok(hashing.finish().1)
    }

    /// Ends the session and forgets its bytes.
    pub fn cancel(mut self) {
        self.end = End::Remove;
    }

    /// Remembers how far the session has come.
    fn save(&mut self) -> Result<(), StoreError> {
        self.data.file().map_err(StoreError::io("write", &self.folder.join(DATA)))?;
        let state = UploadFile {
            version: VERSION,
            repository: self.options.repository.clone(),
            subject: self.options.subject.clone(),
            algorithm: self.options.algorithm,
            lifetime_seconds: self.options.lifetime.as_secs(),
            expires: disk::unix_seconds(SystemTime::now() + self.options.lifetime),
            offset: self.data.size_bytes(),
            midstate: self.data.hasher().midstate(),
            boot_id: boot_id(),
        };
        // Not synced: after a power cut the data says how much there is.
        let (path, new) = (self.folder.join(STATE), self.folder.join("state.new"));
        fs::write(&new, disk::encode(&state)).map_err(StoreError::io("write", &new))?;
        fs::rename(&new, &path).map_err(StoreError::io("create", &path))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let result = match self.end {
            End::Leave => Ok(()),
            End::Save => self.save(),
            End::Remove => disk::remove_tree(&self.folder),
        };
        if let Err(error) = result {
            tracing::warn!(upload = %self.id, %error, "cannot leave an upload session in order");
        }
        // Closing is not enough: a process that another thread is just starting has a copy of the descriptor.
        Lock::release(&self.lock);
    }
}
