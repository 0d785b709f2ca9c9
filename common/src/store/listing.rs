//! Names in a folder, in order, page by page.
//!
//! No file system gives names in order, so each page needs all names of the folder. For a folder of ten thousand tags
//! the kernel takes milliseconds for that, so large listings are kept, and used again while the folder's times say that
//! it is unchanged. A change within the resolution of these times would go unseen; a folder that has just been changed
//! is therefore not kept.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, RawDir};

use super::error::StoreError;

/// So much of a folder is read at once: some hundred names.
const BUFFER_BYTES: usize = 32 * 1024;
/// Listings of fewer bytes are read again each time.
const KEEP_FROM_BYTES: usize = 16 * 1024;
/// How many listings are kept.
const KEPT: usize = 8;
/// Listings of more bytes are not kept.
const KEEP_UP_TO_BYTES: usize = 8 * 1024 * 1024;
/// Times of files are at least as fine as this.
const RESOLUTION: Duration = Duration::from_millis(50);

/// The names in `folder` after `after`, sorted by bytes, at most `limit`; none when there is no folder.
pub(super) fn names(
    folder: &Path,
    after: Option<&str>,
    limit: Option<usize>,
) -> Result<Vec<String>, StoreError> {
    Ok(open(folder)?.map(|fd| Listing::read(folder, &fd)).transpose()?.unwrap_or_default().page(after, limit))
}

fn open(folder: &Path) -> Result<Option<File>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(StoreError::errno("list", folder)(errno)),
    }
}

/// All names of a folder, in no order, one behind the other: one allocation for thousands of them.
#[derive(Debug, Default)]
struct Listing {
    bytes: Vec<u8>,
    names: Vec<Range<u32>>,
}

impl Listing {
    fn read(folder: &Path, fd: &File) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                // The folder was removed after it was opened.
                Err(rustix::io::Errno::NOENT) => return Ok(Listing::default()),
                entry => entry.map_err(StoreError::errno("list", folder))?,
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let start = listing.bytes.len() as u32;
                listing.bytes.extend_from_slice(name);
                listing.names.push(start..listing.bytes.len() as u32);
            }
        }
        Ok(listing)
    }

    fn name(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Sorts and copies only what is asked for. Names that are not UTF-8 come with replacement characters: nothing in
    /// the store has such a name.
    fn page(&self, after: Option<&str>, limit: Option<usize>) -> Vec<String> {
        let after = after.unwrap_or_default().as_bytes();
        let mut page: Vec<&[u8]> =
            self.names.iter().map(|name| self.name(name)).filter(|n| *n > after).collect();
        if let Some(limit) = limit.filter(|limit| *limit < page.len()) {
            page.select_nth_unstable(limit);
            page.truncate(limit);
        }
        page.sort_unstable();
        page.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }
}

/// The listings that are kept, the latest last.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    state: State,
    listing: Arc<Listing>,
}

/// What changes with the contents of a folder.
#[derive(Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Listings {
    /// Like [`names`], of a folder that may be large.
    pub(super) fn names(
        &self,
        folder: &Path,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<String>, StoreError> {
        let Some(fd) = open(folder)? else { return Ok(Vec::new()) };
        let metadata = fd.metadata().map_err(StoreError::io("list", folder))?;
        let state = State {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(listing) = self.kept(folder, &state) {
            return Ok(listing.page(after, limit));
        }
        let settled = metadata.modified().is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > RESOLUTION)
        });
        let listing = Arc::new(Listing::read(folder, &fd)?);
        if settled && (KEEP_FROM_BYTES..KEEP_UP_TO_BYTES).contains(&listing.bytes.len()) {
            self.keep(Kept { folder: folder.to_owned(), state, listing: Arc::clone(&listing) });
        }
        Ok(listing.page(after, limit))
    }

    fn kept(&self, folder: &Path, state: &State) -> Option<Arc<Listing>> {
        // A list of what was read is whole whoever panicked.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter().position(|kept| kept.folder == folder)?;
        let kept = all.remove(place);
        let listing = (kept.state == *state).then(|| Arc::clone(&kept.listing))?;
        all.push(kept);
        Some(listing)
    }

    fn keep(&self, kept: Kept) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.folder != kept.folder);
        if all.len() >= KEPT {
            all.remove(0);
        }
        all.push(kept);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn make(folder: &Path, names: Range<usize>) {
        for n in names {
            fs::write(folder.join(format!("a-name-of-some-length-{n:05}")), "").unwrap();
        }
    }

    /// As if the last change were long ago.
    fn settle(folder: &Path) {
        File::open(folder).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn a_kept_listing_is_used_until_the_folder_changes() {
        let folder = tempfile::tempdir().unwrap();
        let listings = Listings::default();
        let all = || listings.names(folder.path(), None, None).unwrap();
        make(folder.path(), 0..1000);
        settle(folder.path());
        assert_eq!(all().len(), 1000);
        assert_eq!(listings.0.lock().unwrap().len(), 1);
        assert_eq!(all(), names(folder.path(), None, None).unwrap());
        make(folder.path(), 1000..1001);
        assert_eq!(all().len(), 1001);
        assert!(listings.0.lock().unwrap().is_empty(), "changed just now");
        fs::remove_file(folder.path().join("a-name-of-some-length-00000")).unwrap();
        settle(folder.path());
        assert_eq!(all().len(), 1000);
        assert_eq!(listings.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_folder_that_is_removed_meanwhile_has_no_names() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let opened = open(&folder).unwrap().unwrap();
        fs::remove_dir(&folder).unwrap();
        assert!(Listing::read(&folder, &opened).unwrap().names.is_empty());
        assert!(names(&folder, None, None).unwrap().is_empty());
    }

    #[test]
    fn small_folders_are_not_kept_and_large_ones_only_so_many() {
        let folder = tempfile::tempdir().unwrap();
        let listings = Listings::default();
        for n in 0..KEPT + 2 {
            let folder = folder.path().join(n.to_string());
            fs::create_dir(&folder).unwrap();
            make(&folder, 0..if n == 0 { 10 } else { 700 });
            settle(&folder);
            listings.names(&folder, None, Some(1)).unwrap();
        }
        assert_eq!(listings.0.lock().unwrap().len(), KEPT);
        assert!(listings.names(&folder.path().join("none"), None, None).unwrap().is_empty());
    }
}
