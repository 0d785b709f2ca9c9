//! Names in a folder, in order, page by page.
//!
//! No file system gives names in order, so each page needs all names of the folder. For a folder of ten thousand tags
//! the kernel takes milliseconds for that, so large listings are kept, and used again while the folder's times say that
//! it is unchanged. A change within the resolution of these times would go unseen; a folder that has just been changed
//! is therefore not kept.
//!
//! Only what can be the store's own is listed: of the sort and with a name that the caller expects. What somebody else has
//! put there is passed over, symlinks too; the check names it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, RawDir};

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

/// What a name is to stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Folder,
}

impl Sort {
    /// Whether this is of that sort, or of none that the file system tells.
    pub(super) fn is(self, kind: FileType) -> bool {
        let own = match self {
            Sort::File => FileType::RegularFile,
            Sort::Folder => FileType::Directory,
        };
        kind == own || kind == FileType::Unknown
    }
}

/// What `parse` knows of the names in `folder`, sorted by their bytes; nothing when there is no folder.
pub(super) fn known<T>(
    folder: &Path,
    sort: Sort,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let listing = open(folder)?.map(|fd| Listing::read(folder, &fd)).transpose()?;
    Ok(listing.unwrap_or_default().page(sort, None, None, parse))
}

/// All names in `folder`, sorted by bytes.
pub(super) fn names(folder: &Path, sort: Sort) -> Result<Vec<String>, StoreError> {
    known(folder, sort, |name| Some(name.to_owned()))
}

fn open(folder: &Path) -> Result<Option<File>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(StoreError::errno("list", folder)(errno)),
    }
}

/// All names of a folder, in no order, one behind the other: one allocation for thousands of them.
#[derive(Debug, Default)]
struct Listing {
    bytes: Vec<u8>,
    names: Vec<(Range<u32>, FileType)>,
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
                listing.names.push((start..listing.bytes.len() as u32, entry.file_type()));
            }
        }
        Ok(listing)
    }

    fn name(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// What `parse` knows of the names after `after`, at most `limit`. Sorts and parses only what is asked for.
    fn page<T>(
        &self,
        sort: Sort,
        after: Option<&str>,
        limit: Option<usize>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let after = after.unwrap_or_default().as_bytes();
        let of_sort = self.names.iter().filter(|(_, kind)| sort.is(*kind));
        let mut left: Vec<&[u8]> = of_sort.map(|(name, _)| self.name(name)).filter(|n| *n > after).collect();
        let limit = limit.unwrap_or(left.len());
        let mut page = Vec::new();
        while page.len() < limit && !left.is_empty() {
            let wanted = left.len().min(limit - page.len());
            if wanted < left.len() {
                left.select_nth_unstable(wanted);
            }
            let rest = left.split_off(wanted);
            left.sort_unstable();
            page.extend(left.iter().filter_map(|name| parse(str::from_utf8(name).ok()?)));
            left = rest;
        }
        page
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
    /// What `parse` knows of the names in a folder that may be large: those after `after`, sorted by bytes, at most `limit`.
    pub(super) fn known<T>(
        &self,
        folder: &Path,
        sort: Sort,
        after: Option<&str>,
        limit: Option<usize>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let Some(fd) = open(folder)? else { return Ok(Vec::new()) };
        let metadata = fd.metadata().map_err(StoreError::io("list", folder))?;
        let state = State {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(listing) = self.kept(folder, &state) {
            return Ok(listing.page(sort, after, limit, parse));
        }
        let settled = metadata.modified().is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > RESOLUTION)
        });
        let listing = Arc::new(Listing::read(folder, &fd)?);
        if settled && (KEEP_FROM_BYTES..KEEP_UP_TO_BYTES).contains(&listing.bytes.len()) {
            self.keep(Kept { folder: folder.to_owned(), state, listing: Arc::clone(&listing) });
        }
        Ok(listing.page(sort, after, limit, parse))
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
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn own(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

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
        let all = || listings.known(folder.path(), Sort::File, None, None, own).unwrap();
        make(folder.path(), 0..1000);
        settle(folder.path());
        assert_eq!(all().len(), 1000);
        assert_eq!(listings.0.lock().unwrap().len(), 1);
        assert_eq!(all(), names(folder.path(), Sort::File).unwrap());
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
        assert!(names(&folder, Sort::File).unwrap().is_empty());
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
            listings.known(&folder, Sort::File, None, Some(1), own).unwrap();
        }
        assert_eq!(listings.0.lock().unwrap().len(), KEPT);
        let none = folder.path().join("none");
        assert!(listings.known(&none, Sort::File, None, None, own).unwrap().is_empty());
    }

    #[test]
    fn a_page_is_full_whatever_else_is_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d", "e", ".1", ".2", "a.", "c.", "c.."] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        for name in ["aa", "ba"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", folder.path().join("bb")).unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"b\xff")), "").unwrap();
        let listings = Listings::default();
        let page = |sort, after, limit| {
            let parse = |name: &str| (!name.contains('.')).then(|| name.to_owned());
            listings.known(folder.path(), sort, after, limit, parse).unwrap().join(" ")
        };
        assert_eq!(page(Sort::File, None, None), "a b c d e");
        assert_eq!(page(Sort::File, None, Some(3)), "a b c");
        assert_eq!(page(Sort::File, Some("b"), Some(2)), "c d");
        assert_eq!(page(Sort::File, Some("d"), Some(2)), "e");
        assert_eq!(page(Sort::File, None, Some(0)), "");
        assert_eq!(page(Sort::Folder, None, Some(5)), "aa ba");
        assert_eq!(names(&folder.path().join("a"), Sort::File).unwrap(), [""; 0], "a file holds no names");
    }
}
