//! ADD of a local archive: its members at the destination.
//!
//! Any tar, plain or in gzip, bzip2, xz or zstd. What cannot be read as a tar with at least one member is a file like
//! others. The unpacked bytes of a compressed one are kept in a nameless file meanwhile, since a layer's order is not
//! the archive's.
//!
//! As in BuildKit: `--chmod` does not reach into archives, `--chown` does, directories that the archive does not
//! mention are 0755 0:0; a member replaces whatever is at its path, but that a directory is merged with a directory.
//! Names are taken beneath the destination, whatever `..` they hold, and links that an archive brings or finds lead no
//! further than the destination; nothing is put behind a link to nothing. What a hard link says of mode and owner holds
//! for all names of the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use common::decompress::decompress;
use common::layer::Time;
use common::layer::index::split_last;
use common::store::{Scratch, Store, StoreError};

use super::Changes;
use super::owner::Owner;
use super::target::{Content, Target, TargetError};
use crate::tree::{self, Kind, Node};

/// An archive, unpacked as far as its compression goes.
#[derive(Debug)]
pub(crate) struct Archive {
    tar: File,
    _folder: Scratch,
}

/// Why an archive cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes cannot be read, or it is damaged.
    #[error("cannot read the archive")]
    Io(#[from] io::Error),
    /// There is no room to unpack it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A member cannot be put where it belongs.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Something that an image cannot hold.
    #[error("member `{path}` is of a kind that an image cannot hold")]
    Kind {
        /// Its name.
        path: String,
    },
    /// A folder of its name is a link to something that is not there.
    #[error("member `{path}` would be behind the link `{link}`, which leads to nothing")]
    BehindLink {
        /// Its name.
        path: String,
        /// The link.
        link: String,
    },
    /// A hard link to something that is not there.
    #[error("member `{path}` is a hard link to `{target}`, which is not there")]
    DanglingLink {
        /// Its name.
        path: String,
        /// What it should be another name of.
        target: String,
    },
}

impl Archive {
    /// The archive that `open` gives, or `None` when it is none. `open` may be called twice.
    pub(crate) fn open<E: From<ArchiveError>>(
        store: &Store,
        mut open: impl FnMut() -> Result<Box<dyn Read + Send>, E>,
    ) -> Result<Option<Self>, E> {
        if !looks_like_tar(open()?) {
            return Ok(None);
        }
        Ok(Some(Archive::unpack(store, open()?)?))
    }

    fn unpack(store: &Store, reader: Box<dyn Read + Send>) -> Result<Self, ArchiveError> {
        let folder = store.scratch()?;
        let path = folder.path().join("tar");
        let mut tar = File::options().read(true).write(true).create_new(true).open(path)?;
        io::copy(&mut decompress(reader)?, &mut tar)?;
        Ok(Archive { tar, _folder: folder })
    }

    /// The bytes of the member whose data begin at `offset`.
    pub(crate) fn member(
        &self,
        offset: u64,
        size_bytes: u64,
    ) -> Result<impl Read + Send + use<>, ArchiveError> {
        Ok(Positioned { file: self.tar.try_clone()?, offset, end: offset + size_bytes })
    }

    /// Puts all members at `destination`, which is made if it is not there. `number` is this archive's, for
    /// [`Content::Archive`].
    pub(crate) fn add(
        &self,
        target: &mut Target,
        number: usize,
        destination: &[u8],
        changes: &Changes,
    ) -> Result<(), ArchiveError> {
        let root = target.resolve(destination)?;
        target.make_directories(&root, 0o755, changes.owner.unwrap_or_default())?;
        let mut tar = self.tar.try_clone()?;
        tar.seek(SeekFrom::Start(0))?;
        let mut archive = tar::Archive::new(tar);
        for member in archive.entries()? {
            self.add_member(target, number, &root, changes, member?)?;
        }
        Ok(())
    }

    fn add_member(
        &self,
        target: &mut Target,
        number: usize,
        root: &[u8],
        changes: &Changes,
        mut member: tar::Entry<'_, File>,
    ) -> Result<(), ArchiveError> {
        let name = tree::clean(&member.path_bytes());
        let kind = member.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let Some(mut node) = node(&mut member)? else {
            return Err(ArchiveError::Kind { path: shown(&name) });
        };
        if name.is_empty() {
            // The destination itself stays as it is, as docker leaves it.
            return Ok(());
        }
        if let Some(owner) = changes.owner {
            (node.uid, node.gid) = (owner.uid, owner.gid);
        }
        node.mtime = changes.mtime.unwrap_or(node.mtime);
        if kind.is_hard_link() {
            return link(target, root, &name, &member.link_name_bytes().unwrap_or_default(), node);
        }
        let (offset, size_bytes) = (member.raw_file_position(), member.size());
        let content = matches!(node.kind, Kind::File { .. }).then_some(Content::Archive {
            archive: number,
            offset,
            size_bytes,
        });
        let path = with_folder(target, root, &name)?;
        Ok(target.replace(&path, node, content)?)
    }
}

/// Makes `name` another name of the file `linked`, which gets the mode and owner of `node`.
fn link(
    target: &mut Target,
    root: &[u8],
    name: &[u8],
    linked: &[u8],
    node: Node,
) -> Result<(), ArchiveError> {
    let linked = tree::clean(linked);
    let (folder, last) = split_last(&linked);
    let existing = tree::join(&target.resolve_beneath(root, folder)?, last);
    let path = with_folder(target, root, name)?;
    let node = match target.node(&existing)? {
        // The mode of a symlink is nobody's.
        Some(old) if matches!(old.kind, Kind::Symlink { .. }) => Node { uid: node.uid, gid: node.gid, ..old },
        Some(old) => Node { kind: old.kind, xattrs: old.xattrs, ..node },
        None => node,
    };
    if existing != path && !target.link(&existing, &path, Some(node))? {
        return Err(ArchiveError::DanglingLink { path: shown(name), target: shown(&linked) });
    }
    Ok(())
}

/// Where the member `name` comes to stand: links on the way are followed, with `root` as their root, and directories
/// that are missing are made.
fn with_folder(target: &mut Target, root: &[u8], name: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let (folder, last) = split_last(name);
    check_links(target, root, folder, name)?;
    let folder = target.resolve_beneath(root, folder)?;
    target.make_directories(&folder, 0o755, Owner::default())?;
    Ok(tree::join(&folder, last))
}

/// Refuses a `folder` behind a link to nothing, as tar programs do.
fn check_links(target: &Target, root: &[u8], folder: &[u8], name: &[u8]) -> Result<(), ArchiveError> {
    let mut above = Vec::new();
    for part in tree::components(folder) {
        let at = tree::join(&target.resolve_beneath(root, &above)?, part);
        above = tree::join(&above, part);
        match target.node(&at)? {
            Some(Node { kind: Kind::Symlink { .. }, .. })
                if target.node(&target.resolve_beneath(root, &above)?)?.is_none() =>
            {
                return Err(ArchiveError::BehindLink { path: shown(name), link: shown(&above) });
            }
            Some(_) => {}
            None => break,
        }
    }
    Ok(())
}

/// What a member becomes; a hard link gets its kind from its file; `None` for what no image holds.
fn node(member: &mut tar::Entry<'_, File>) -> io::Result<Option<Node>> {
    let header = member.header();
    let device =
        || io::Result::Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)));
    let kind = match header.entry_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_file() || kind.is_contiguous() || kind.is_hard_link() => {
            Kind::File { size_bytes: member.size() }
        }
        kind if kind.is_symlink() => {
            Kind::Symlink { target: member.link_name_bytes().unwrap_or_default().into_owned() }
        }
        kind if kind.is_character_special() => {
            let (major, minor) = device()?;
            Kind::CharDevice { major, minor }
        }
        kind if kind.is_block_special() => {
            let (major, minor) = device()?;
            Kind::BlockDevice { major, minor }
        }
        kind if kind.is_fifo() => Kind::Fifo,
        _ => return Ok(None),
    };
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner's number is out of range"));
    let mut node = Node::new(kind, header.mode()? & 0o7777);
    (node.uid, node.gid) = (id(header.uid()?)?, id(header.gid()?)?);
    node.mtime = Time::from_seconds(header.mtime()?.try_into().unwrap_or(i64::MAX));
    pax(member, &mut node)?;
    Ok(Some(node))
}

/// What the extended header says beyond names and sizes, which the `tar` crate knows.
fn pax(member: &mut tar::Entry<'_, File>, node: &mut Node) -> io::Result<()> {
    let Some(extensions) = member.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let number = || extension.value().ok().and_then(|value| value.parse().ok());
        match extension.key_bytes() {
            b"uid" => node.uid = number().unwrap_or(node.uid),
            b"gid" => node.gid = number().unwrap_or(node.gid),
            b"mtime" => {
                let seconds = extension.value().ok().and_then(|value| value.split('.').next()?.parse().ok());
                node.mtime = seconds.map_or(node.mtime, Time::from_seconds);
            }
            b"SCHILY.xattr.security.capability" => {
                node.xattrs.insert(b"security.capability".to_vec(), extension.value_bytes().to_vec());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a tar with a first member comes out of `reader`.
fn looks_like_tar(reader: Box<dyn Read + Send>) -> bool {
    let mut block = [0; 512];
    let Ok(mut reader) = decompress(reader) else { return false };
    if reader.read_exact(&mut block).is_err() {
        return false;
    }
    let header = tar::Header::from_byte_slice(&block);
    let sum: u32 =
        block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    block.iter().any(|byte| *byte != 0) && header.cksum().is_ok_and(|expected| expected == sum)
}

/// Reads a range of a file whose position others move.
struct Positioned {
    file: File,
    offset: u64,
    end: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
