//! What comes through a pipe: a Dockerfile, or a whole build context as in `tar c . | gantry build -`.
//!
//! A tar is a context, and so is all that is compressed; everything else is a Dockerfile. A context is unpacked into a
//! folder of the store that nobody else sees and that goes away with the value, by the rules of layers: nothing outside
//! is reached, and files whose names mean whiteouts, which no image can hold, are left out and named.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use common::decompress::{decompress, is_compressed};
use common::layer::index::split_last;
use common::layer::{ApplyError, ApplyOptions, Header, Kind, Limits, Owners, apply_noting};
use common::store::{Scratch, Store, StoreError};

use crate::tree;

/// What came.
#[derive(Debug)]
pub enum Piped {
    /// The text of a Dockerfile.
    Dockerfile(Vec<u8>),
    /// Everything that a build reads.
    Context(PipedContext),
}

/// An unpacked build context.
#[derive(Debug)]
pub struct PipedContext {
    folder: Scratch,
    left_out: Vec<String>,
}

/// Why what came is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PipedError {
    /// It ended in an error.
    #[error("cannot read what to build from stdin")]
    Read(#[from] io::Error),
    /// There is no place to unpack it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive is damaged or hostile.
    #[error("cannot unpack the build context from stdin")]
    Unpack(#[from] ApplyError),
    /// A file that says what to build is missing, or is a link out of the context.
    #[error("cannot read `{}` in the build context from stdin", name.display())]
    File {
        /// Its name in the context.
        name: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Length of a tar's header in bytes.
const HEADER_BYTES: usize = 512;

impl Piped {
    /// Reads all of `input`.
    ///
    /// # Errors
    /// [`PipedError`].
    pub fn read(store: &Store, mut input: impl Read + Send) -> Result<Self, PipedError> {
        let mut start = Vec::with_capacity(HEADER_BYTES);
        input.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut start)?;
        let is_archive = is_compressed(&start) || is_tar(&start);
        let mut whole = io::Cursor::new(start).chain(input);
        if !is_archive {
            let mut text = Vec::new();
            whole.read_to_end(&mut text)?;
            return Ok(Piped::Dockerfile(text));
        }
        let folder = store.scratch()?;
        let root = File::open(folder.path())?;
        // In a context owners do not count.
        let options = ApplyOptions { owners: Owners::Ignore, limits: Limits::default() };
        let mut left_out = Vec::new();
        apply_noting(decompress(whole)?, root.as_fd(), &options, &mut |header| {
            left_out.extend(left_out_name(header));
        })?;
        Ok(Piped::Context(PipedContext { folder, left_out }))
    }
}

impl PipedContext {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The files that an image could not hold, by their names.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Where the Dockerfile `name` is. It and the ignore files that go with it are in the context.
    ///
    /// # Errors
    /// [`PipedError::File`], when it is not there, or one of them is a link that leads out of the context.
    pub fn dockerfile(&self, name: &Path) -> Result<PathBuf, PipedError> {
        let mut own_ignore = OsString::from(name);
        own_ignore.push(".dockerignore");
        self.check_inside(name)?;
        for ignore in [Path::new(&own_ignore), Path::new(".dockerignore")] {
            if self.path().join(ignore).symlink_metadata().is_ok() {
                self.check_inside(ignore)?;
            }
        }
        Ok(self.path().join(name))
    }

    fn check_inside(&self, name: &Path) -> Result<(), PipedError> {
        let at = |source| PipedError::File { name: name.to_owned(), source };
        let root = self.path().canonicalize().map_err(at)?;
        let file = fs::canonicalize(root.join(name)).map_err(at)?;
        if file.starts_with(&root) {
            return Ok(());
        }
        Err(at(io::Error::new(io::ErrorKind::PermissionDenied, "it is outside of the build context")))
    }
}

/// What the file is called that was read as a whiteout, or ignored for its name; `None` for one that was unpacked.
fn left_out_name(header: &Header) -> Option<String> {
    let marker = |folder, name: &[u8]| tree::join(folder, &[b".wh.", name].concat());
    let path = match header.kind {
        Kind::Opaque => marker(&header.path, b".wh..opq"),
        Kind::Whiteout => {
            let (folder, name) = split_last(&header.path);
            marker(folder, name)
        }
        _ if header.path.split(|b| *b == b'/').any(|part| part.starts_with(b".wh.")) => header.path.clone(),
        _ => return None,
    };
    Some(String::from_utf8_lossy(&path).into_owned())
}

/// Whether these bytes begin a tar: a header whose checksum is right, or the zeros of an empty one.
///
/// Format: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06>
fn is_tar(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; HEADER_BYTES]>::try_from(start) else { return false };
    // The field of the checksum itself counts as blanks.
    let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    let said = tar::Header::from_byte_slice(block).cksum();
    said.is_ok_and(|said| said == expected) || block.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn with_store(test: impl FnOnce(&Store)) {
        let folder = tempfile::tempdir().unwrap();
        test(&Store::open(&folder.path().join("store")).unwrap());
    }

    /// A tar of these files.
    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            // As it is: the library would refuse some.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(4711);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn text_is_a_dockerfile() {
        with_store(|store| {
            for text in ["", "FROM scratch\n", &"# long\n".repeat(1000)] {
                let piped = Piped::read(store, text.as_bytes()).unwrap();
                assert!(matches!(piped, Piped::Dockerfile(found) if found == text.as_bytes()));
            }
        });
    }

    #[test]
    fn a_tar_is_a_context_that_goes_away_with_its_value() {
        with_store(|store| {
            let tar = archive(&[("./Dockerfile", "FROM scratch\n"), ("d/a", "1")]);
            let Ok(Piped::Context(context)) = Piped::read(store, &tar[..]) else { panic!("no context") };
            let dockerfile = context.dockerfile("Dockerfile".as_ref()).unwrap();
            assert_eq!(fs::read(dockerfile).unwrap(), b"FROM scratch\n");
            assert_eq!(fs::read(context.path().join("d/a")).unwrap(), b"1");
            let path = context.path().to_owned();
            drop(context);
            assert!(!path.exists());
            let empty = Piped::read(store, &[0; 1024][..]).unwrap();
            assert!(matches!(empty, Piped::Context(_)));
        });
    }

    #[test]
    fn files_that_no_image_can_hold_are_left_out_and_named() {
        with_store(|store| {
            let names = [".wh.a", "d/.wh.b", "d/.wh..wh..opq", "d/.wh..wh.e", ".wh..wh.plnk/f"];
            let unpacked = [("a", "1"), ("d/c", "2")];
            let tar = archive(&[&names.map(|name| (name, ""))[..], &unpacked].concat());
            let Ok(Piped::Context(context)) = Piped::read(store, &tar[..]) else { panic!("no context") };
            assert_eq!(context.left_out(), names);
            assert!(context.path().join("a").exists() && context.path().join("d/c").exists());
            assert_eq!(fs::read_dir(context.path().join("d")).unwrap().count(), 1);
        });
    }

    #[test]
    fn files_outside_of_the_context_are_not_read() {
        with_store(|store| {
            let Ok(Piped::Context(context)) = Piped::read(store, &archive(&[("a", "1")])[..]) else {
                panic!("no context")
            };
            let check = |name: &str, text: &str| {
                let error = context.dockerfile(name.as_ref()).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("cannot read `{text}` in the build context from stdin")
                );
            };
            check("Dockerfile", "Dockerfile");
            check("/etc/passwd", "/etc/passwd");
            symlink("/etc/passwd", context.path().join("Dockerfile")).unwrap();
            check("Dockerfile", "Dockerfile");
            symlink("/etc/passwd", context.path().join(".dockerignore")).unwrap();
            check("a", ".dockerignore");
        });
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        with_store(|store| {
            let mut tar = archive(&[("a", "1"), ("../b", "2")]);
            assert!(matches!(Piped::read(store, &tar[..]), Err(PipedError::Unpack(_))));
            tar.truncate(700);
            assert!(matches!(Piped::read(store, &tar[..]), Err(PipedError::Unpack(_))));
            assert!(matches!(Piped::read(store, &[0x1f, 0x8b, 8, 0][..]), Err(PipedError::Unpack(_))));
        });
    }
}
