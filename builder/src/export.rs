//! An image's files as one tar or in one directory: `--output type=tar` and `type=local`.
//!
//! Both are the merged view of the layers, written by the same deterministic writer as layers, without unpacking them in
//! the store. A directory gets owners only from somebody who may give files away.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::thread;

use common::digest::Digest;
use common::layer::{
    self, ApplyError, ApplyOptions, Entry, Follow, Header, Kind, LayerError, LayerWriter, Limits, Owners,
    Root, WriteError, WriterOptions,
};
use common::store::Store;

/// Why an image's files cannot be written out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The tar cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The directory cannot be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No pipe or thread could be had.
    #[error("cannot export")]
    Io(#[from] io::Error),
}

/// Writes all files of the image with these layers, lowest first, to `out` as one tar.
///
/// # Errors
/// When a layer is missing or damaged, or `out` fails.
pub fn tar(store: &Store, diff_ids: &[Digest], out: impl Write) -> Result<(), ExportError> {
    let root = Root::open(store, diff_ids)?;
    let mut writer = LayerWriter::new(out, WriterOptions::default());
    let top = root.lookup(b"", Follow::No).ok().flatten().expect("the root is always there");
    let mut first_names: HashMap<usize, Vec<u8>> = HashMap::new();
    for found in root.walk(&top).skip(1) {
        let mut header: Header = Entry { path: found.path.clone(), ..found.entry.header() };
        if let Kind::File { .. } = header.kind {
            if let Some(first) = first_names.get(&found.inode) {
                header.kind = Kind::Hardlink { target: first.clone() };
                writer.append(&header, None)?;
                continue;
            }
            first_names.insert(found.inode, found.path.clone());
            writer.append(&header, Some(&mut root.open_file(store, &found)?))?;
            continue;
        }
        writer.append(&header, None)?;
    }
    writer.finish()?;
    Ok(())
}

/// Puts all files of the image with these layers, lowest first, into a directory. What is there already stays, unless a
/// file of the image has its name.
///
/// # Errors
/// As [`tar()`], and when the directory cannot be written.
pub fn directory(store: &Store, diff_ids: &[Digest], folder: BorrowedFd<'_>) -> Result<(), ExportError> {
    let owners = if rustix::process::geteuid().is_root() { Owners::Keep } else { Owners::Ignore };
    let options = ApplyOptions { owners, limits: Limits::default() };
    let (reader, writer) = io::pipe()?;
    thread::scope(|scope| {
        let written = scope.spawn(move || tar(store, diff_ids, writer));
        let applied = layer::apply(reader, folder, &options);
        // When the directory fails, the tar breaks off at a closed pipe, which is not the news.
        let written = written.join().expect("writing a tar does not panic");
        applied.map_err(ExportError::from).and(written)
    })
}
