//! Reads a tar as a list of entries, whoever wrote it.
//!
//! The input is hostile until proven otherwise: what two programs could read in two ways is refused, so that a scanner,
//! a registry and this program see the same files.
//!
//! - Accepted: ustar, GNU (long names, base-256 numbers, sparse files) and PAX (names, owners, sub-second times, sizes,
//!   `SCHILY.xattr.*`, all three sparse versions), with or without zero blocks at the end.
//! - A name is taken apart at `/`; empty parts and `.` are dropped, so an absolute name is taken as relative to the
//!   root, as docker does. A part `..` is refused, in the target of a hard link too. Targets of symlinks are kept as
//!   they are: they are resolved inside the image, whatever they say. So an entry whose parent is a symlink that leads
//!   out (`x -> ../../etc`, then `x/passwd`) is the image's own `etc/passwd`, as docker has it; see [`mod@super::apply`].
//! - Refused: a PAX size that contradicts the header's; data behind an entry that has none (links, folders, devices); a
//!   PAX header that says one thing twice; a GNU and a PAX name for one file; names and sizes in a global header;
//!   whiteouts of nothing, `.` or `..`; what is neither file, folder, link, device nor FIFO; the device 0:0, which
//!   overlayfs would take for a whiteout, and numbers of devices that the kernel cuts off, perhaps to that one; the owner
//!   4294967295, which means nobody to the kernel; anything but zeros after the end, and more than 1 MiB of these. Docker and
//!   BuildKit read on to the end of the input, whatever is there, so that a few bytes of gzip keep them busy for as long as
//!   they say; a diff ID is of all bytes, so what is too long cannot be cut off but must be refused.
//! - Refused, too: extended attributes that the kernel takes from nobody, being too long or capabilities that are none.
//! - Ignored, as docker does: other global PAX records, user and group names, access times, AUFS's own
//!   `.wh..wh.*` files.

use std::borrow::Cow;
use std::io::{self, Read};

use super::beneath::is_overlay_xattr;
use super::block::{BLOCK_BYTES, Block, OCTAL_11_MAX, padded, text};
use super::index::{Header, Kind, Segment, split_last};
use super::limits::{
    CAPABILITY, Limits, MAX_EXTENSION_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_TAR_BYTES, WHITEOUT_PREFIX,
    check_numbers, check_xattr_size, is_capability,
};
use super::pax::{self, Pax};
use super::sparse::{self, Map};

/// The file that makes its folder opaque.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// In front of what AUFS keeps for itself.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// The longest run of zeros behind the two blocks that end a tar, in bytes. Writers fill up their last record: 10 KiB for
/// GNU tar unless told (`-b 20`), never more than this in practice.
const MAX_TAIL_BYTES: u64 = 1 << 20;
/// Why a tar cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes themselves cannot be had.
    #[error("cannot read tar after {offset} bytes")]
    Io {
        /// How many bytes of the tar had been read.
        offset: u64,
        /// The reader's own error.
        source: io::Error,
    },
    /// The input is something else.
    #[error("it is no tar archive: it does not begin with a tar header")]
    NoTar,
    /// The input ends within an entry.
    #[error("tar ends after {offset} bytes, within an entry")]
    Truncated {
        /// The length of the input in bytes.
        offset: u64,
    },
    /// A header cannot be understood, or can be in two ways.
    #[error("tar header at byte {offset} is refused: {fault}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A path or the target of a link leads out of the image or cannot be one.
    #[error("tar entry `{path}` is refused: {fault}")]
    Path {
        /// The name as it stands in the tar, control characters escaped.
        path: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A device that overlayfs would take for a whiteout, which would hide files of lower layers.
    #[error("device `{path}` has the numbers 0:0, which mean a whiteout to overlayfs")]
    WhiteoutDevice {
        /// The entry's path.
        path: String,
    },
    /// An extended attribute that no file can be given.
    #[error("extended attribute `{name}` of `{path}` is refused: {fault}")]
    Xattr {
        /// The entry's path.
        path: String,
        /// The attribute's name, cut off where it is too long.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A hard link to something that neither this layer, before the link, nor one below has.
    #[error("hardlink `{path}` leads to `{target}`, which does not exist")]
    LinkTarget {
        /// The entry's path.
        path: String,
        /// What it should be another name of.
        target: String,
    },
    /// The tar asks for more than [`Limits`] allow.
    #[error("tar has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

impl TarError {
    /// What whoever made the tar can do about it, when something can be done.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            TarError::WhiteoutDevice { .. } => Some(
                "such devices are in the upper folder of an overlay mount: pack what is mounted, or leave them out \
                 (`tar --exclude`)",
            ),
            TarError::LinkTarget { .. } => Some(
                "a tar that was cut into parts, or packed from a part of a tree, lacks what its links mean: pack the \
                 whole tree at once, or files instead of links (`tar --hard-dereference`)",
            ),
            _ => None,
        }
    }

    /// A hard link to nothing.
    pub(super) fn link_target(path: &[u8], target: &[u8]) -> Self {
        TarError::LinkTarget { path: shown(path), target: shown(target) }
    }
}

/// Reads the entries of a tar one after the other.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    limits: Limits,
    /// How many bytes of `input` have been read.
    position: u64,
    /// Where the next header begins: behind the data of the current entry and its padding.
    next_header: u64,
    entries: u64,
    hole_bytes: u64,
    finished: bool,
}

/// One entry and its bytes, holes of sparse files as zeros. What is not read is skipped.
#[derive(Debug)]
pub struct Member<'a, R> {
    /// What the entry says.
    pub header: Header,
    /// Where its data begins in the tar, in bytes.
    pub offset: u64,
    /// Which parts of a sparse file the tar holds; holes are what lies between.
    pub segments: Option<Box<[Segment]>>,
    reader: &'a mut TarReader<R>,
    cursor: Cursor,
}

/// How far the bytes of a file have been read.
#[derive(Debug)]
struct Cursor {
    /// In the file.
    position: u64,
    size_bytes: u64,
    /// Index of the segment at or behind `position`.
    segment: usize,
}

impl<R: Read> TarReader<R> {
    /// Reads `input` from where it stands; wrap a file in no buffer, data is read in large pieces.
    pub fn new(input: R, limits: Limits) -> Self {
        TarReader { input, limits, position: 0, next_header: 0, entries: 0, hole_bytes: 0, finished: false }
    }

    /// The next entry; `None` once the input has been read to its very end.
    ///
    /// # Errors
    /// [`TarError`] as the module's text says. Nothing more can be read then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry borrows the reader, an iterator's item cannot"
    )]
    pub fn next(&mut self) -> Result<Option<Member<'_, R>>, TarError> {
        self.next_noting(&mut |_| {})
    }

    /// As [`TarReader::next`], and `ignored` sees what is AUFS's own.
    pub(super) fn next_noting(
        &mut self,
        ignored: &mut dyn FnMut(&Header),
    ) -> Result<Option<Member<'_, R>>, TarError> {
        loop {
            self.skip_to_next_header()?;
            let Some(raw) = self.read_raw()? else { return Ok(None) };
            self.count_entry()?;
            let at = raw.at;
            let Some((header, segments)) = self.interpret(raw, ignored)? else { continue };
            tracing::trace!(at, path = %header.path.escape_ascii(), "tar entry");
            let size_bytes = match header.kind {
                Kind::File { size_bytes, .. } => size_bytes,
                _ => 0,
            };
            let cursor = Cursor { position: 0, size_bytes, segment: 0 };
            return Ok(Some(Member { header, offset: self.position, segments, reader: self, cursor }));
        }
    }

    fn count_entry(&mut self) -> Result<(), TarError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TarError::Limit { what: "entries", limit: self.limits.entries });
        }
        Ok(())
    }

    fn skip_to_next_header(&mut self) -> Result<(), TarError> {
        // after an error there may be less than nothing
        let rest = self.next_header.saturating_sub(self.position);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink());
        self.position += skipped.map_err(|source| self.io(source))?;
        if self.position < self.next_header { Err(self.truncated()) } else { Ok(()) }
    }

    /// Collects a header and the extensions in front of it; `None` at the end.
    fn read_raw(&mut self) -> Result<Option<Raw>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            let at = self.position;
            let Some(bytes) = self.read_header_block()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(self.refused(at, "extensions of no entry at the end"));
            };
            let block = Block::parse(&bytes).ok_or(match at {
                0 => TarError::NoTar,
                at => self.refused(at, "wrong checksum"),
            })?;
            let slot = match block.typeflag() {
                b'x' => &mut extensions.pax,
                b'L' => &mut extensions.path,
                b'K' => &mut extensions.link,
                b'g' => {
                    let records = self.read_extension(&block, at)?;
                    check_global(&records).map_err(|fault| self.refused(at, fault))?;
                    continue;
                }
                _ => return Ok(Some(Raw { at, bytes, extensions })),
            };
            if slot.is_some() {
                return Err(self.refused(at, "two extensions of one sort for one entry"));
            }
            *slot = Some(self.read_extension(&block, at)?);
        }
    }

    fn read_extension(&mut self, block: &Block<'_>, at: u64) -> Result<Vec<u8>, TarError> {
        let size_bytes = block.size_bytes().ok_or(self.refused(at, "malformed size"))?;
        if size_bytes > MAX_EXTENSION_BYTES {
            return Err(self.refused(at, "extension of over 1 MiB"));
        }
        let mut data = vec![0; size_bytes.next_multiple_of(BLOCK_BYTES as u64) as usize];
        self.fill(&mut data)?;
        data.truncate(size_bytes as usize);
        self.next_header = self.position;
        Ok(data)
    }

    /// The next header block; `None` at the end, be it zeros or just no more input.
    fn read_header_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        if self.finished {
            return Ok(None);
        }
        let mut block = [0; BLOCK_BYTES];
        let len = self.fill_some(&mut block)?;
        match len {
            0 => self.finished = true,
            BLOCK_BYTES if block == [0; BLOCK_BYTES] => self.read_zeros_to_the_end()?,
            BLOCK_BYTES => {
                self.next_header = self.position;
                return Ok(Some(block));
            }
            _ if self.position < BLOCK_BYTES as u64 => return Err(TarError::NoTar),
            _ => return Err(self.truncated()),
        }
        Ok(None)
    }

    fn read_zeros_to_the_end(&mut self) -> Result<(), TarError> {
        let end = self.position + BLOCK_BYTES as u64;
        let mut buffer = [0; 16 * BLOCK_BYTES];
        loop {
            let at = self.position;
            let len = self.fill_some(&mut buffer)?;
            if buffer[..len].iter().any(|byte| *byte != 0) {
                return Err(self.refused(at, "something stands behind the end of the tar"));
            }
            if self.position.saturating_sub(end) > MAX_TAIL_BYTES {
                return Err(self.refused(end, "over 1 MiB of zeros stand behind the end of the tar"));
            }
            if len < buffer.len() {
                self.next_header = self.position;
                self.finished = true;
                return Ok(());
            }
        }
    }

    fn read_block(&mut self) -> Result<[u8; BLOCK_BYTES], TarError> {
        let mut block = [0; BLOCK_BYTES];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        if self.fill_some(buffer)? < buffer.len() { Err(self.truncated()) } else { Ok(()) }
    }

    /// Reads until `buffer` is full or the input ends.
    fn fill_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut len = 0;
        while len < buffer.len() {
            match self.input.read(&mut buffer[len..]) {
                Ok(0) => break,
                Ok(n) => {
                    len += n;
                    self.position += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io(error)),
            }
        }
        Ok(len)
    }

    fn io(&self, source: io::Error) -> TarError {
        TarError::Io { offset: self.position, source }
    }

    fn truncated(&self) -> TarError {
        TarError::Truncated { offset: self.position }
    }

    fn refused(&self, offset: u64, fault: &'static str) -> TarError {
        TarError::Header { offset, fault }
    }

    /// Makes an entry of a header, reading a sparse file's map; `None` when it is none of the image's.
    fn interpret(
        &mut self,
        raw: Raw,
        ignored: &mut dyn FnMut(&Header),
    ) -> Result<Option<Interpreted>, TarError> {
        let at = raw.at;
        let block = Block::parse(&raw.bytes).ok_or(self.refused(at, "wrong checksum"))?;
        let pax = Pax::parse(raw.extensions.pax.as_deref().unwrap_or_default())
            .map_err(|fault| self.refused(at, fault))?;
        let path = raw.extensions.path(&block, &pax).map_err(|fault| self.refused(at, fault))?;
        let link = raw.extensions.link(&block, &pax).map_err(|fault| self.refused(at, fault))?;
        let stored_bytes = stored_size(&block, &pax).map_err(|fault| self.refused(at, fault))?;
        let end = padded(stored_bytes).and_then(|padded| self.position.checked_add(padded));
        let end = end.filter(|end| *end <= MAX_TAR_BYTES);
        self.next_header = end.ok_or(self.refused(at, "size beyond all bounds"))?;

        let map = self.sparse_map(at, &block, &pax, stored_bytes)?;
        let size_bytes = map.as_ref().map_or(stored_bytes, |map| map.size_bytes);
        let kind = match (block.typeflag(), block.device()) {
            (b'0' | 0, _) if path.ends_with(b"/") => Kind::Directory,
            (b'0' | 0 | b'7' | b'S', _) => Kind::File { size_bytes, content: () },
            (b'1', _) => Kind::Hardlink { target: normalise(&link)? },
            (b'2', _) => Kind::Symlink { target: symlink_target(&link)?.to_vec() },
            (b'3', Some((major, minor))) => Kind::CharDevice { major, minor },
            (b'4', Some((major, minor))) => Kind::BlockDevice { major, minor },
            (b'3' | b'4', None) => return Err(self.refused(at, "malformed device")),
            (b'5', _) => Kind::Directory,
            (b'6', _) => Kind::Fifo,
            _ => return Err(self.refused(at, "neither file, folder, link, device nor FIFO")),
        };
        if (stored_bytes > 0 || map.is_some()) && !matches!(kind, Kind::File { .. }) {
            return Err(self.refused(at, "data behind an entry that has none"));
        }
        let metadata = pax.metadata(&block).ok_or(self.refused(at, "malformed number"))?;
        check_numbers(metadata.uid, metadata.gid, &kind).map_err(|fault| self.refused(at, fault))?;
        let header = Header { path: normalise(&path)?, kind, ..metadata };
        match &header.kind {
            Kind::Hardlink { target } if *target == header.path => {
                return Err(path_refused(&path, "a hard link to itself"));
            }
            Kind::Directory => {}
            _ if header.path.is_empty() => return Err(path_refused(&path, "the root can only be a folder")),
            _ => {}
        }
        let Some(header) = as_marker(header, ignored)? else { return Ok(None) };
        if let Kind::CharDevice { major: 0, minor: 0 } = header.kind {
            return Err(TarError::WhiteoutDevice { path: shown(&header.path) });
        }
        check_xattrs(&header)?;
        let map = map.filter(|_| matches!(header.kind, Kind::File { .. }));
        Ok(Some((header, map.map(|map| map.segments.into_boxed_slice()))))
    }

    fn sparse_map(
        &mut self,
        at: u64,
        block: &Block<'_>,
        pax: &Pax<'_>,
        stored_bytes: u64,
    ) -> Result<Option<Map>, TarError> {
        const FAULT: &str = "malformed map of a sparse file";
        let is_gnu = block.typeflag() == b'S';
        if !is_gnu && !pax.sparse.is_some() {
            return Ok(None);
        }
        let mut map_bytes = 0;
        let map = if is_gnu {
            if pax.sparse.is_some() {
                return Err(self.refused(at, "two maps for one sparse file"));
            }
            let header = block.gnu().ok_or(self.refused(at, FAULT))?;
            let before = self.position;
            let map = sparse::from_gnu(header, || self.read_block())?;
            self.next_header += self.position - before;
            map
        } else if pax.sparse.is_version_1() {
            let found = sparse::from_data(|| self.read_block())?;
            found.zip(pax.sparse.size_bytes).map(|((segments, blocks), size_bytes)| {
                map_bytes = blocks * BLOCK_BYTES as u64;
                Map { size_bytes, segments }
            })
        } else {
            let segments = sparse::from_numbers(&pax.sparse.numbers);
            segments.zip(pax.sparse.size_bytes).map(|(segments, size_bytes)| Map { size_bytes, segments })
        };
        let data_bytes = stored_bytes.checked_sub(map_bytes);
        let map = map.zip(data_bytes).and_then(|(map, data_bytes)| map.check(data_bytes));
        let map = map.ok_or(self.refused(at, FAULT))?;
        self.hole_bytes = self.hole_bytes.saturating_add(map.hole_bytes());
        if self.hole_bytes > self.limits.hole_bytes {
            return Err(TarError::Limit {
                what: "bytes in holes of sparse files",
                limit: self.limits.hole_bytes,
            });
        }
        Ok(Some(map))
    }
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (len, in_hole) = self.cursor.ahead(self.segments.as_deref());
        let len = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        let n = if in_hole {
            buffer[..len].fill(0);
            len
        } else {
            let n = self.reader.input.read(&mut buffer[..len])?;
            self.reader.position += n as u64;
            n
        };
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.reader.truncated()));
        }
        self.cursor.position += n as u64;
        Ok(n)
    }
}

impl Cursor {
    /// How many bytes of one sort follow, and whether they are a hole.
    fn ahead(&mut self, segments: Option<&[Segment]>) -> (u64, bool) {
        let Some(segments) = segments else { return (self.size_bytes - self.position, false) };
        while let Some(segment) = segments.get(self.segment) {
            if self.position < segment.offset {
                return (segment.offset - self.position, true);
            }
            let end = segment.offset + segment.size_bytes;
            if self.position < end {
                return (end - self.position, false);
            }
            self.segment += 1;
        }
        (self.size_bytes - self.position, true)
    }
}

/// What a header means, and which parts of a sparse file the tar holds.
type Interpreted = (Header, Option<Box<[Segment]>>);

/// A header as it stands in the tar, and the extensions in front of it.
struct Raw {
    at: u64,
    bytes: [u8; BLOCK_BYTES],
    extensions: Extensions,
}

#[derive(Default)]
struct Extensions {
    pax: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.path.is_none() && self.link.is_none()
    }

    fn path<'a>(&'a self, block: &Block<'a>, pax: &Pax<'a>) -> Result<Cow<'a, [u8]>, &'static str> {
        match (self.path.as_deref(), pax.sparse.path.or(pax.path)) {
            (Some(_), Some(_)) => Err("two long names for one entry"),
            (Some(path), None) => Ok(Cow::Borrowed(text(path))),
            (None, Some(path)) => Ok(Cow::Borrowed(path)),
            (None, None) => Ok(block.path()),
        }
    }

    fn link<'a>(&'a self, block: &Block<'a>, pax: &Pax<'a>) -> Result<Cow<'a, [u8]>, &'static str> {
        match (self.link.as_deref(), pax.link) {
            (Some(_), Some(_)) => Err("two long link names for one entry"),
            (Some(link), None) => Ok(Cow::Borrowed(text(link))),
            (None, Some(link)) => Ok(Cow::Borrowed(link)),
            (None, None) => Ok(Cow::Borrowed(block.link_name())),
        }
    }
}

/// A global header may comment; a name or size in it would be heeded by some programs and not by others.
fn check_global(records: &[u8]) -> Result<(), &'static str> {
    for record in pax::records(records) {
        let (key, _) = record.ok_or("malformed PAX record")?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err("name or size in a global PAX header");
        }
    }
    Ok(())
}

/// How much data follows a header; PAX and header must agree.
fn stored_size(block: &Block<'_>, pax: &Pax<'_>) -> Result<u64, &'static str> {
    let own = block.size_bytes().ok_or("malformed size")?;
    match pax.size_bytes {
        None => Ok(own),
        Some(size) if size == own => Ok(size),
        // what writers put where the number does not fit
        Some(size) if size > OCTAL_11_MAX && (own == 0 || own == OCTAL_11_MAX) => Ok(size),
        Some(_) => Err("PAX and header say different sizes"),
    }
}

/// Refuses what unpacking would fail on, and no more: what is not restored may be anything.
fn check_xattrs(header: &Header) -> Result<(), TarError> {
    for (name, value) in header.xattrs.iter().filter(|(name, _)| !is_overlay_xattr(name)) {
        let fault = match check_xattr_size(name, value) {
            Err(fault) => fault,
            // None at all is not worth a refusal.
            Ok(()) if name == CAPABILITY && !value.is_empty() && !is_capability(value) => {
                "its file capabilities are malformed, or of version 1, which Linux does not set any more"
            }
            Ok(()) => continue,
        };
        let name = shown(&name[..name.len().min(MAX_NAME_BYTES)]);
        return Err(TarError::Xattr { path: shown(&header.path), name, fault });
    }
    Ok(())
}

pub(super) fn path_refused(path: &[u8], fault: &'static str) -> TarError {
    TarError::Path { path: shown(path), fault }
}

/// A path of a tar as errors show it, control characters escaped.
fn shown(path: &[u8]) -> String {
    let path = &path[..path.len().min(MAX_PATH_BYTES)];
    match str::from_utf8(path) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

/// Names joined by single slashes, relative to the root.
fn normalise(path: &[u8]) -> Result<Vec<u8>, TarError> {
    let mut out = Vec::with_capacity(path.len());
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(path_refused(path, "`..` could lead out of the image")),
            _ if name.strip_prefix(WHITEOUT_PREFIX).unwrap_or(name).len() > MAX_NAME_BYTES => {
                return Err(path_refused(path, "name of over 255 bytes"));
            }
            _ => {}
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(name);
    }
    // what a whiteout hides may have a name and a path as long as any
    let marker = if split_last(&out).1.starts_with(WHITEOUT_PREFIX) { WHITEOUT_PREFIX.len() } else { 0 };
    if out.len() - marker > MAX_PATH_BYTES {
        return Err(path_refused(path, "path of over 4095 bytes"));
    }
    Ok(out)
}

fn symlink_target(link: &[u8]) -> Result<&[u8], TarError> {
    match link.len() {
        0 => Err(path_refused(link, "symlink to nothing")),
        len if len > MAX_PATH_BYTES => Err(path_refused(link, "symlink target of over 4095 bytes")),
        _ => Ok(link),
    }
}

/// Turns a `.wh.` name into what it means; `None` for what AUFS keeps for itself, which `ignored` sees.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>
fn as_marker(header: Header, ignored: &mut dyn FnMut(&Header)) -> Result<Option<Header>, TarError> {
    let (folder, name) = split_last(&header.path);
    if folder.split(|b| *b == b'/').any(|part| part.starts_with(AUFS_PREFIX)) {
        ignored(&header);
        return Ok(None);
    }
    if folder.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT_PREFIX)) {
        return Err(path_refused(&header.path, "below a whiteout"));
    }
    if name == OPAQUE_NAME {
        return Ok(Some(Header::new(folder, Kind::Opaque, 0)));
    }
    if name.starts_with(AUFS_PREFIX) {
        ignored(&header);
        return Ok(None);
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) else { return Ok(Some(header)) };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(path_refused(&header.path, "whiteout of no name"));
    }
    let path = if folder.is_empty() { hidden.to_vec() } else { [folder, b"/", hidden].concat() };
    Ok(Some(Header::new(path, Kind::Whiteout, 0)))
}

#[cfg(test)]
mod tests;
