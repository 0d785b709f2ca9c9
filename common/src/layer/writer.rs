//! Writes a layer's tar and its index in one pass. The same entries give the same bytes, on every machine.
//!
//! What those bytes are, version 1 of the writer:
//!
//! - Entries follow [`path_order`]; the folder that an entry is in comes before it. Names have no `./` in front (the root
//!   itself is `./`), folders end in `/`.
//! - Headers are ustar with numeric owners, empty user and group names, and whole-second times. A PAX header goes in
//!   front where ustar has no room: a name that is not ASCII or does not fit, an owner over 2097151, a time before 1970
//!   or after 2242, a size over 8 GiB, extended attributes as `SCHILY.xattr.*`. Its records are sorted by key, its own
//!   name is `././@PaxHeader`, its mode 0644, its owner and time 0.
//! - A whiteout is an empty file `.wh.NAME` with mode, owner and time 0. Opaque markers are never written.
//! - A hard link follows the entry it points to: of several names the first in order carries the bytes.
//! - Holes are zeros like others. Two blocks of zeros end the tar.
//! - What [`TarReader`](super::TarReader) or [`apply`](fn@super::apply) would refuse is refused here: a layer that is
//!   written can be read and unpacked.
//!
//! A change to any of this is a new [`VERSION`]: tests pin the digest of a tar with everything in it.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};

use super::block::{BLOCK_BYTES, OCTAL_7_MAX, OCTAL_11_MAX, checksum};
use super::index::{Content, Entry, Index, Kind, Time, path_order, split_last};
use super::limits::{
    CAPABILITY, Limits, MAX_EXTENSION_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_TAR_BYTES, WHITEOUT_PREFIX,
    check_numbers, check_xattr_size, is_capability,
};
use super::pax::{XATTR, push_record};
use crate::digest::{Algorithm, Digest};

/// The version of the bytes that this writer makes, kept in [`Index::canonical`].
pub const VERSION: u32 = 1;

/// How much is read and hashed at once.
const PIECE_BYTES: usize = 256 << 10;

/// What a layer's author decides for all of its entries.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriterOptions {
    /// No entry is younger than this, in seconds since 1970: `SOURCE_DATE_EPOCH`.
    pub clamp: Option<i64>,
}

/// Why an entry cannot be written. The tar is unfinished then and of no use.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The tar's bytes cannot be put where they belong.
    #[error("cannot write layer")]
    Write(#[source] io::Error),
    /// A file's bytes cannot be had.
    #[error("cannot read `{path}`")]
    Read {
        /// The entry.
        path: String,
        /// What its reader said.
        source: io::Error,
    },
    /// A file got longer or shorter after its header was written.
    #[error("`{path}` changed while it was read: expected {expected} bytes, got {actual}")]
    SizeChanged {
        /// The entry.
        path: String,
        /// The size it was announced with.
        expected: u64,
        /// How many bytes came, at most one more than expected.
        actual: u64,
    },
    /// The name means a whiteout to whoever reads the layer, so a file of that name cannot be in one.
    #[error("`{path}` cannot be put into a layer: names that begin with `.wh.` stand for deleted files")]
    ReservedName {
        /// The entry.
        path: String,
    },
    /// What the entry says cannot be said in a tar of ours.
    #[error("`{path}` cannot be written: {fault}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Writes one layer.
#[derive(Debug)]
pub struct LayerWriter<W: Write> {
    out: BufWriter<W>,
    options: WriterOptions,
    entries: Vec<Entry>,
    position: u64,
    piece: Vec<u8>,
}

impl<W: Write> LayerWriter<W> {
    /// Begins a tar on `out`.
    pub fn new(out: W, options: WriterOptions) -> Self {
        LayerWriter {
            out: BufWriter::with_capacity(PIECE_BYTES, out),
            options,
            entries: Vec::new(),
            position: 0,
            piece: Vec::new(),
        }
    }

    /// Adds an entry; a file's bytes are read from `content`, `None` is no bytes.
    ///
    /// Entries come in [`path_order`], after the folder that they are in, hard links after what they point to.
    ///
    /// # Errors
    /// [`WriteError`]: an entry out of order or that no tar of ours can hold, a file that is not as long as announced, a
    /// reader or writer that fails.
    pub fn append<C>(&mut self, entry: &Entry<C>, content: Option<&mut dyn Read>) -> Result<(), WriteError> {
        let mut written = self.settle(entry);
        self.check(&written).map_err(|fault| refused(&written, fault))?;
        check_name(&written)?;
        check_readable(&written).map_err(|fault| refused(&written, fault))?;
        let header = encode_header(&written).map_err(|fault| refused(&written, fault))?;
        self.write(&header)?;
        let offset = self.position;
        if let Kind::File { size_bytes, content: known } = &mut written.kind {
            let size_bytes = *size_bytes;
            let digest = self.write_content(&written.path, size_bytes, content)?;
            *known = Content { digest, offset, segments: None };
        }
        self.entries.push(written);
        Ok(())
    }

    /// Ends the tar and gives back what it was written to, and its index.
    ///
    /// # Errors
    /// [`WriteError::Write`] when the last bytes cannot be written.
    pub fn finish(mut self) -> Result<(W, Index), WriteError> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        let out = self.out.into_inner().map_err(|error| WriteError::Write(error.into_error()))?;
        Ok((out, Index::new(Some(VERSION), self.entries)))
    }

    /// The entry as it will be read back: what a tar of ours does not keep is left out.
    fn settle<C>(&self, entry: &Entry<C>) -> Entry {
        let Entry { path, kind, mode, uid, gid, mtime, xattrs } = entry;
        let path = path.clone();
        let kind = match kind {
            Kind::File { size_bytes, .. } => {
                let content = Content { digest: Digest::sha256(b""), offset: 0, segments: None };
                Kind::File { size_bytes: *size_bytes, content }
            }
            Kind::Directory => Kind::Directory,
            Kind::Symlink { target } => Kind::Symlink { target: target.clone() },
            Kind::Hardlink { target } => Kind::Hardlink { target: target.clone() },
            Kind::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
            Kind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
            Kind::Fifo => Kind::Fifo,
            Kind::Whiteout => return Entry::new(path, Kind::Whiteout, 0),
            Kind::Opaque => return Entry::new(path, Kind::Opaque, 0),
        };
        let seconds = self.options.clamp.map_or(mtime.seconds, |clamp| mtime.seconds.min(clamp));
        let mtime = Time::from_seconds(seconds);
        Entry { path, kind, mode: mode & 0o7777, uid: *uid, gid: *gid, mtime, xattrs: xattrs.clone() }
    }

    /// Whether the entry may come now.
    fn check(&self, entry: &Entry) -> Result<(), &'static str> {
        if self.entries.len() as u64 >= Limits::default().entries {
            return Err("a layer holds 1048576 entries at most");
        }
        if self.entries.last().is_some_and(|last| Index::order(last, entry).is_ge()) {
            return Err("it comes after an entry that stands behind it");
        }
        if !entry.parent().is_empty() && !matches!(self.written(entry.parent()), Some(Kind::Directory)) {
            return Err("the folder it is in has not been written");
        }
        match &entry.kind {
            Kind::Opaque => Err("opaque markers are not written"),
            Kind::Hardlink { target } => match self.written(target) {
                None | Some(Kind::Directory | Kind::Whiteout | Kind::Hardlink { .. }) => {
                    Err("what its hard link points to has not been written")
                }
                Some(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What has been written at `path`.
    fn written(&self, path: &[u8]) -> Option<&Kind> {
        let end = self.entries.partition_point(|entry| path_order(&entry.path, path).is_le());
        self.entries[..end].last().filter(|entry| entry.path == path).map(|entry| &entry.kind)
    }

    fn write_content(
        &mut self,
        path: &[u8],
        size_bytes: u64,
        content: Option<&mut dyn Read>,
    ) -> Result<Digest, WriteError> {
        let mut empty = io::empty();
        let content = content.unwrap_or(&mut empty);
        let mut hasher = Algorithm::Sha256.hasher();
        let mut rest = size_bytes;
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(PIECE_BYTES, 0);
        loop {
            // one byte more than announced shows that a file has grown
            let wanted = rest.saturating_add(1).min(PIECE_BYTES as u64) as usize;
            let n = match content.read(&mut piece[..wanted]) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Read { path: shown(path), source }),
            };
            if n as u64 > rest || (n == 0 && rest > 0) {
                let actual = size_bytes - rest + n as u64;
                return Err(WriteError::SizeChanged { path: shown(path), expected: size_bytes, actual });
            }
            if n == 0 {
                break;
            }
            hasher.update(&piece[..n]);
            self.write(&piece[..n])?;
            rest -= n as u64;
        }
        self.piece = piece;
        let padding = size_bytes.next_multiple_of(BLOCK_BYTES as u64) - size_bytes;
        self.write(&[0; BLOCK_BYTES][..padding as usize])?;
        Ok(hasher.finish())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.position += bytes.len() as u64;
        self.out.write_all(bytes).map_err(WriteError::Write)
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn refused(entry: &Entry, fault: &'static str) -> WriteError {
    WriteError::Entry { path: shown(&entry.path), fault }
}

fn check_name(entry: &Entry) -> Result<(), WriteError> {
    if entry.path.is_empty() {
        return match entry.kind {
            Kind::Directory => Ok(()),
            _ => Err(refused(entry, "the root can only be a folder")),
        };
    }
    if entry.name().starts_with(WHITEOUT_PREFIX) {
        return Err(WriteError::ReservedName { path: shown(&entry.path) });
    }
    let mut names = entry.path.split(|b| *b == b'/');
    if entry.path.contains(&0) || names.any(|name| matches!(name, b"" | b"." | b"..")) {
        return Err(refused(entry, "its path is not names joined by slashes"));
    }
    if entry.name().len() > MAX_NAME_BYTES {
        return Err(refused(entry, "its name has over 255 bytes"));
    }
    if entry.path.len() > MAX_PATH_BYTES {
        return Err(refused(entry, "its path has over 4095 bytes"));
    }
    Ok(())
}

/// Whether an entry can be read again, and the kernel makes what it says.
fn check_readable(entry: &Entry) -> Result<(), &'static str> {
    check_numbers(entry.uid, entry.gid, &entry.kind)?;
    match &entry.kind {
        Kind::CharDevice { major: 0, minor: 0 } => {
            return Err("a device with the numbers 0:0 means a whiteout to overlayfs");
        }
        Kind::Symlink { target } if target.len() > MAX_PATH_BYTES => {
            return Err("its target has over 4095 bytes");
        }
        Kind::File { size_bytes, .. } if *size_bytes >= MAX_TAR_BYTES => {
            return Err("size beyond all bounds");
        }
        _ => {}
    }
    entry.xattrs.iter().try_for_each(|(name, value)| check_xattr(name, value))
}

fn check_xattr(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'=')) {
        return Err("an extended attribute whose name is empty or holds `=`");
    }
    check_xattr_size(name, value)?;
    if name == CAPABILITY && !is_capability(value) {
        return Err("its file capabilities are malformed");
    }
    Ok(())
}

/// The header blocks of an entry, those of a PAX header in front included.
fn encode_header(entry: &Entry) -> Result<Vec<u8>, &'static str> {
    let mut pax = Vec::new();
    let mut block = tar::Header::new_ustar();
    let (typeflag, size_bytes) = match &entry.kind {
        Kind::Directory => (b'5', 0),
        Kind::File { size_bytes, .. } => (b'0', *size_bytes),
        Kind::Symlink { .. } => (b'2', 0),
        Kind::Hardlink { .. } => (b'1', 0),
        Kind::CharDevice { .. } => (b'3', 0),
        Kind::BlockDevice { .. } => (b'4', 0),
        Kind::Fifo => (b'6', 0),
        Kind::Whiteout | Kind::Opaque => (b'0', 0),
    };
    let ustar = block.as_ustar_mut().expect("just made as ustar");
    ustar.typeflag = [typeflag];
    set_name(ustar, &tar_name(entry), &mut pax);
    set_octal(&mut ustar.mode, entry.mode.into());
    set_number(&mut ustar.uid, entry.uid.into(), OCTAL_7_MAX, "uid", &mut pax);
    set_number(&mut ustar.gid, entry.gid.into(), OCTAL_7_MAX, "gid", &mut pax);
    set_number(&mut ustar.size, size_bytes.into(), OCTAL_11_MAX, "size", &mut pax);
    set_number(&mut ustar.mtime, entry.mtime.seconds.into(), OCTAL_11_MAX, "mtime", &mut pax);
    let (major, minor) = match entry.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    set_octal(&mut ustar.dev_major, major.into());
    set_octal(&mut ustar.dev_minor, minor.into());
    match &entry.kind {
        Kind::Symlink { target } | Kind::Hardlink { target } => {
            if target.is_empty() || target.contains(&0) {
                return Err("link to nothing");
            }
            if !fits(target, ustar.linkname.len()) {
                pax.push((b"linkpath".to_vec(), target.clone()));
            }
            set_ascii(&mut ustar.linkname, target);
        }
        _ => {}
    }
    for (name, value) in &entry.xattrs {
        pax.push(([XATTR.as_bytes(), name].concat(), value.clone()));
    }
    let mut bytes = encode_pax(pax)?;
    bytes.extend_from_slice(&with_checksum(block));
    Ok(bytes)
}

/// The name in the tar: a folder ends in a slash, a whiteout has its prefix.
fn tar_name(entry: &Entry) -> Vec<u8> {
    match entry.kind {
        Kind::Directory if entry.path.is_empty() => b"./".to_vec(),
        Kind::Directory => [&entry.path, &b"/"[..]].concat(),
        Kind::Whiteout => {
            let (folder, name) = split_last(&entry.path);
            let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
            [folder, slash, WHITEOUT_PREFIX, name].concat()
        }
        _ => entry.path.clone(),
    }
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn encode_pax(mut records: Records) -> Result<Vec<u8>, &'static str> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    records.sort();
    let mut data = Vec::new();
    for (key, value) in &records {
        push_record(&mut data, key, value);
    }
    if data.len() as u64 > MAX_EXTENSION_BYTES {
        return Err("its names and attributes have over 1 MiB");
    }
    let mut block = tar::Header::new_ustar();
    let ustar = block.as_ustar_mut().expect("just made as ustar");
    ustar.typeflag = [b'x'];
    set_ascii(&mut ustar.name, b"././@PaxHeader");
    set_octal(&mut ustar.mode, 0o644);
    for field in [&mut ustar.uid, &mut ustar.gid, &mut ustar.dev_major, &mut ustar.dev_minor] {
        set_octal(field, 0);
    }
    set_octal(&mut ustar.size, data.len() as u64);
    set_octal(&mut ustar.mtime, 0);
    let padded = data.len().next_multiple_of(BLOCK_BYTES);
    data.resize(padded, 0);
    Ok([&with_checksum(block)[..], &data].concat())
}

fn with_checksum(mut block: tar::Header) -> [u8; BLOCK_BYTES] {
    let sum = checksum(block.as_bytes());
    let field = &mut block.as_old_mut().cksum;
    set_octal(&mut field[..7], sum.into());
    field[7] = b' ';
    *block.as_bytes()
}

/// Puts a name into the two fields of ustar, or into a record when there is no room.
fn set_name(ustar: &mut tar::UstarHeader, name: &[u8], pax: &mut Records) {
    if !fits(name, ustar.name.len()) {
        if let Some((prefix, name)) = split_name(name, ustar) {
            set_ascii(&mut ustar.prefix, prefix);
            set_ascii(&mut ustar.name, name);
            return;
        }
        pax.push((b"path".to_vec(), name.to_vec()));
    }
    set_ascii(&mut ustar.name, name);
}

/// Cuts a name at the last slash that leaves both parts with room.
fn split_name<'a>(name: &'a [u8], ustar: &tar::UstarHeader) -> Option<(&'a [u8], &'a [u8])> {
    let within = &name[..name.len().min(ustar.prefix.len() + 1)];
    // a slash at the very end belongs to the name of a folder
    let within = within.strip_suffix(b"/").filter(|_| within.len() == name.len()).unwrap_or(within);
    let slash = within.iter().rposition(|b| *b == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (fits(prefix, ustar.prefix.len()) && fits(rest, ustar.name.len())).then_some((prefix, rest))
}

fn fits(name: &[u8], room: usize) -> bool {
    name.len() <= room && name.is_ascii()
}

/// As much of a name as there is room for; what is not ASCII is left out.
fn set_ascii(field: &mut [u8], name: &[u8]) {
    for (field, byte) in field.iter_mut().zip(name.iter().filter(|b| b.is_ascii())) {
        *field = *byte;
    }
}

/// A number, or zero and a record when there is no room.
fn set_number(field: &mut [u8], number: i128, max: u64, key: &str, pax: &mut Records) {
    match u64::try_from(number) {
        Ok(number) if number <= max => set_octal(field, number),
        _ => {
            set_octal(field, 0);
            pax.push((key.into(), number.to_string().into_bytes()));
        }
    }
}

/// Octal digits that fill the field but for the NUL at its end.
fn set_octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let mut digits = String::with_capacity(24);
    write!(digits, "{number:0width$o}").expect("a String takes everything");
    field[..width].copy_from_slice(digits.as_bytes());
    field[width] = 0;
}

#[cfg(test)]
mod tests;
