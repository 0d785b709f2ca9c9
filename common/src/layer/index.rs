//! The path table of one layer, kept beside it as `layers/<alg>/<hh>/<hex>/index`.
//!
//! Everything that a build asks of a base image (owners, modes, link targets, content digests) is answered from these
//! tables, without unpacking. One is written once, together with its layer, and never changed.
//!
//! ```text
//! "gantryLI" · version
//! canonical    0, or the version of our writer that made the tar
//! count
//! entry*       tag (1 byte) · bytes shared with the path before · rest of the path
//!              mode · uid · gid · seconds · nanoseconds · count of xattrs, (name, value)*
//!              file: size · offset · SHA-256 (32 bytes) · count of segments, (offset, size)*
//!              symlink, hardlink: target     device: major · minor
//! count        0 when the tar has the same order, else that of the entries
//! position*    of the first entry in the tar, the second …
//! CRC-32
//! ```
//! Entries stand in [`path_order`]: a folder, then all below it, then its next sibling. That is how a walk over sorted
//! names meets them, and how the writer lays them in the tar. At one path, a whiteout comes before an opaque marker
//! and both before the entry proper.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::disk::{Decoder, DiskError, Encoder, Format};
use crate::digest::{Algorithm, Digest};

pub(super) const FORMAT: Format = Format { name: "layer index", magic: b"gantryLI", version: 1 };

/// Why an index cannot be read.
pub type IndexError = DiskError;

/// One path of a layer. `C` is what is known of a file's bytes: all of it in an [`Index`], nothing in a [`Header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<C = Content> {
    /// Names joined by `/`, without a leading or trailing one, none of them `.` or `..`; empty for the root.
    /// A whiteout and an opaque marker have the path of what they hide.
    pub path: Vec<u8>,
    /// What stands there.
    pub kind: Kind<C>,
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Time,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An entry whose bytes are still to come: what the reader finds in front of a file and the writer is given.
pub type Header = Entry<()>;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what they are called")]
pub enum Kind<C = Content> {
    Directory,
    File {
        size_bytes: u64,
        content: C,
    },
    /// A link by name, resolved inside the image.
    Symlink {
        target: Vec<u8>,
    },
    /// Another name of a file, in this layer or one below; `target` is a path as in [`Entry::path`].
    Hardlink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Nothing: what lower layers have at this path is gone.
    Whiteout,
    /// Lower layers' entries in this folder are gone. Our writer never makes one.
    Opaque,
}

/// A file's bytes and where they are in the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of the bytes, holes read as zeros.
    pub digest: Digest,
    /// Where the data begins in the uncompressed tar, in bytes.
    pub offset: u64,
    /// Which parts the tar holds, when not all: they follow each other from `offset` on, the rest are zeros.
    pub segments: Option<Box<[Segment]>>,
}

/// A part of a sparse file that is not a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// A point in time since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// What remains, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// A whole second.
    pub fn from_seconds(seconds: i64) -> Self {
        Time { seconds, nanos: 0 }
    }
}

impl<C> Entry<C> {
    /// An entry owned by 0:0 with the time 0 and no xattrs.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind<C>, mode: u32) -> Self {
        Entry {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        }
    }

    /// The last name of the path; empty for the root.
    pub fn name(&self) -> &[u8] {
        split_last(&self.path).1
    }

    /// The folder that the entry is in; empty for the root and for what is directly in it.
    pub fn parent(&self) -> &[u8] {
        split_last(&self.path).0
    }

    /// The same entry, knowing `f` of its bytes.
    pub fn map_content<D>(self, f: impl FnOnce(C) -> D) -> Entry<D> {
        let Entry { path, kind, mode, uid, gid, mtime, xattrs } = self;
        Entry { path, kind: kind.map_content(f), mode, uid, gid, mtime, xattrs }
    }

    /// Whether it only hides what lower layers have.
    pub fn is_marker(&self) -> bool {
        matches!(self.kind, Kind::Whiteout | Kind::Opaque)
    }

    /// Where it stands among entries of one path.
    fn rank(&self) -> u8 {
        match self.kind {
            Kind::Whiteout => 0,
            Kind::Opaque => 1,
            _ => 2,
        }
    }
}

impl Entry {
    /// The entry as it was before its bytes were known.
    pub fn header(&self) -> Header {
        self.clone().map_content(drop)
    }
}

impl<C> Kind<C> {
    fn map_content<D>(self, f: impl FnOnce(C) -> D) -> Kind<D> {
        match self {
            Kind::File { size_bytes, content } => Kind::File { size_bytes, content: f(content) },
            Kind::Directory => Kind::Directory,
            Kind::Symlink { target } => Kind::Symlink { target },
            Kind::Hardlink { target } => Kind::Hardlink { target },
            Kind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
            Kind::Fifo => Kind::Fifo,
            Kind::Whiteout => Kind::Whiteout,
            Kind::Opaque => Kind::Opaque,
        }
    }
}

/// Splits a path into the folder and the last name.
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The order of entries in an index and in a tar of ours: a folder, all below it, its next sibling by bytes of the name.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let shared = shared_prefix(a, b);
    // `/` ends a name, so it comes before every byte of a longer one.
    let rank = |path: &[u8]| path.get(shared).map(|byte| if *byte == b'/' { 0 } else { *byte });
    rank(a).cmp(&rank(b))
}

/// Whether `path` is strictly below `folder`.
pub fn is_below(path: &[u8], folder: &[u8]) -> bool {
    if folder.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The sorted path table of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The version of our writer that made the tar: entries and bytes of the files then give the tar back.
    pub canonical: Option<u32>,
    entries: Vec<Entry>,
    /// Positions in `entries` in the order of the tar; empty when that is the same.
    tar_order: Vec<u32>,
}

impl Index {
    /// A table of `entries` in the order of the tar; of two of one path and sort the later one counts.
    pub fn new(canonical: Option<u32>, entries: Vec<Entry>) -> Self {
        if entries.is_sorted_by(|a, b| Self::order(a, b).is_lt()) {
            return Index { canonical, entries, tar_order: Vec::new() };
        }
        let mut numbered: Vec<(usize, Entry)> = entries.into_iter().enumerate().collect();
        numbered.sort_by(|(_, a), (_, b)| Self::order(a, b));
        // The last of equals counts: a file when it comes, since it may be written by another path meanwhile; what others
        // lie in or lead through from its first mention on.
        numbered.dedup_by(|(later_at, later), (kept_at, kept)| {
            let same = Self::order(later, kept).is_eq();
            if same {
                std::mem::swap(later, kept);
                if matches!(kept.kind, Kind::File { .. }) {
                    *kept_at = *later_at;
                }
            }
            same
        });
        let mut tar_order: Vec<u32> = (0..numbered.len() as u32).collect();
        tar_order.sort_by_key(|position| numbered[*position as usize].0);
        if tar_order.is_sorted() {
            tar_order.clear();
        }
        let entries = numbered.into_iter().map(|(_, entry)| entry).collect();
        Index { canonical, entries, tar_order }
    }

    pub(super) fn order(a: &Entry, b: &Entry) -> Ordering {
        path_order(&a.path, &b.path).then(a.rank().cmp(&b.rank()))
    }

    /// All entries in order, markers included.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The positions in [`Index::entries`] in the order in which the tar has them.
    pub fn tar_order(&self) -> impl Iterator<Item = usize> {
        let sorted = if self.tar_order.is_empty() { self.entries.len() } else { 0 };
        (0..sorted).chain(self.tar_order.iter().map(|position| *position as usize))
    }

    /// What the layer puts at `path`; a whiteout or an opaque marker is not something that is there.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.at(path).iter().find(|entry| !entry.is_marker())
    }

    /// Whether the layer hides what lower layers have at exactly `path`.
    pub fn has_whiteout(&self, path: &[u8]) -> bool {
        self.at(path).iter().any(|entry| entry.kind == Kind::Whiteout)
    }

    /// Whether the layer hides all that lower layers have in the folder `path`.
    pub fn is_opaque(&self, path: &[u8]) -> bool {
        self.at(path).iter().any(|entry| entry.kind == Kind::Opaque)
    }

    /// `path`, when it is there, and all below it, in order, markers included.
    pub fn subtree(&self, path: &[u8]) -> &[Entry] {
        let rest = &self.entries[self.position(path)..];
        let end = rest.partition_point(|entry| entry.path == path || is_below(&entry.path, path));
        &rest[..end]
    }

    /// What is directly in the folder `path`, in order, markers included.
    pub fn children<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a Entry> {
        self.subtree(path)
            .iter()
            .filter(move |entry| !entry.path.is_empty() && entry.path != path && entry.parent() == path)
    }

    fn at(&self, path: &[u8]) -> &[Entry] {
        let rest = &self.entries[self.position(path)..];
        let end = rest.iter().take_while(|entry| entry.path == path).count();
        &rest[..end]
    }

    /// Where the first entry of `path` is or would be.
    fn position(&self, path: &[u8]) -> usize {
        self.entries.partition_point(|entry| path_order(&entry.path, path).is_lt())
    }

    /// The table as it is kept on disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(&FORMAT);
        out.number(self.canonical.map_or(0, u64::from));
        out.number(self.entries.len() as u64);
        let mut before: &[u8] = b"";
        for entry in &self.entries {
            encode_entry(&mut out, entry, before);
            before = &entry.path;
        }
        out.number(self.tar_order.len() as u64);
        for position in &self.tar_order {
            out.number((*position).into());
        }
        out.finish()
    }

    /// Reads a table from disk.
    ///
    /// # Errors
    /// [`IndexError`] when it is another file, a newer version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut input = Decoder::new(&FORMAT, bytes)?;
        let canonical = Some(input.narrow()?).filter(|version| *version != 0);
        let count = input.number()?;
        let mut entries: Vec<Entry> = input.vec(count)?;
        for _ in 0..count {
            let before = entries.last().map_or(&b""[..], |entry: &Entry| &entry.path);
            let entry = decode_entry(&mut input, before)?;
            if entries.last().is_some_and(|last| Self::order(last, &entry).is_ge()) {
                return Err(input.damaged());
            }
            entries.push(entry);
        }
        let tar_order = decode_order(&mut input, entries.len())?;
        input.finish()?;
        Ok(Index { canonical, entries, tar_order })
    }
}

fn tag(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory => 0,
        Kind::File { .. } => 1,
        Kind::Symlink { .. } => 2,
        Kind::Hardlink { .. } => 3,
        Kind::CharDevice { .. } => 4,
        Kind::BlockDevice { .. } => 5,
        Kind::Fifo => 6,
        Kind::Whiteout => 7,
        Kind::Opaque => 8,
    }
}

fn encode_entry(out: &mut Encoder, entry: &Entry, before: &[u8]) {
    let shared = shared_prefix(before, &entry.path);
    out.byte(tag(&entry.kind));
    out.number(shared as u64);
    out.bytes(&entry.path[shared..]);
    for number in [entry.mode, entry.uid, entry.gid] {
        out.number(number.into());
    }
    out.signed(entry.mtime.seconds);
    out.number(entry.mtime.nanos.into());
    out.number(entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        out.bytes(name);
        out.bytes(value);
    }
    match &entry.kind {
        Kind::File { size_bytes, content } => encode_content(out, *size_bytes, content),
        Kind::Symlink { target } | Kind::Hardlink { target } => out.bytes(target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            out.number((*major).into());
            out.number((*minor).into());
        }
        Kind::Directory | Kind::Fifo | Kind::Whiteout | Kind::Opaque => {}
    }
}

fn encode_content(out: &mut Encoder, size_bytes: u64, content: &Content) {
    out.number(size_bytes);
    out.number(content.offset);
    out.digest(&content.digest);
    // The count is one too high, so that a file of nothing but a hole differs from one that is not sparse.
    out.number(content.segments.as_ref().map_or(0, |segments| segments.len() as u64 + 1));
    for segment in content.segments.iter().flatten() {
        out.number(segment.offset);
        out.number(segment.size_bytes);
    }
}

fn decode_entry(input: &mut Decoder<'_>, before: &[u8]) -> Result<Entry, IndexError> {
    let tag = input.byte()?;
    let shared: usize = input.narrow()?;
    let rest = input.bytes()?;
    let shared = before.get(..shared).ok_or(input.damaged())?;
    let path = [shared, rest].concat();
    let (mode, uid, gid) = (input.narrow()?, input.narrow()?, input.narrow()?);
    let mtime = Time { seconds: input.signed()?, nanos: input.narrow()? };
    let mut xattrs = BTreeMap::new();
    for _ in 0..input.number()? {
        xattrs.insert(input.bytes()?.to_vec(), input.bytes()?.to_vec());
    }
    let kind = match tag {
        0 => Kind::Directory,
        1 => decode_file(input)?,
        2 => Kind::Symlink { target: input.bytes()?.to_vec() },
        3 => Kind::Hardlink { target: input.bytes()?.to_vec() },
        4 => Kind::CharDevice { major: input.narrow()?, minor: input.narrow()? },
        5 => Kind::BlockDevice { major: input.narrow()?, minor: input.narrow()? },
        6 => Kind::Fifo,
        7 => Kind::Whiteout,
        8 => Kind::Opaque,
        _ => return Err(input.damaged()),
    };
    Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs })
}

fn decode_order(input: &mut Decoder<'_>, entries: usize) -> Result<Vec<u32>, IndexError> {
    let count = input.number()?;
    let mut order: Vec<u32> = input.vec(count)?;
    for _ in 0..count {
        order.push(input.narrow()?);
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    let is_permutation =
        sorted.len() == entries && sorted.iter().zip(0..).all(|(found, expected)| *found == expected);
    if order.is_empty() || is_permutation { Ok(order) } else { Err(input.damaged()) }
}

fn decode_file(input: &mut Decoder<'_>) -> Result<Kind, IndexError> {
    let (size_bytes, offset) = (input.number()?, input.number()?);
    let digest = input.digest(Algorithm::Sha256)?;
    let segments = match input.number()? {
        0 => None,
        count => {
            let mut segments = input.vec(count - 1)?;
            for _ in 1..count {
                segments.push(Segment { offset: input.number()?, size_bytes: input.number()? });
            }
            Some(segments.into())
        }
    };
    Ok(Kind::File { size_bytes, content: Content { digest, offset, segments } })
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, text: &str) -> Entry {
        let content = Content { digest: Digest::sha256(text.as_bytes()), offset: 512, segments: None };
        Entry::new(path, Kind::File { size_bytes: text.len() as u64, content }, 0o644)
    }

    fn dir(path: &str) -> Entry {
        Entry::new(path, Kind::Directory, 0o755)
    }

    fn paths<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<&'a str> {
        entries.into_iter().map(|entry| str::from_utf8(&entry.path).unwrap()).collect()
    }

    #[test]
    fn a_folder_stands_before_all_below_it_and_these_before_its_siblings() {
        let index = Index::new(None, vec![dir("a-b"), dir("a"), file("a/z", ""), dir("a.d"), dir("")]);
        assert_eq!(paths(index.entries()), ["", "a", "a/z", "a-b", "a.d"]);
        assert_eq!(paths(index.subtree(b"a")), ["a", "a/z"]);
        assert_eq!(paths(index.children(b"")), ["a", "a-b", "a.d"]);
        assert_eq!(paths(index.children(b"a")), ["a/z"]);
    }

    #[test]
    fn of_two_entries_with_one_path_the_later_counts() {
        let index = Index::new(None, vec![file("a", "1"), file("b", "2"), file("a", "3"), file("a", "4")]);
        assert_eq!(index.entries(), [file("a", "4"), file("b", "2")]);
        assert_eq!(index.tar_order().collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn the_order_of_the_tar_is_kept() {
        let index = Index::new(None, vec![dir("b"), dir("c"), dir("a")]);
        assert_eq!(index.tar_order().collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(Index::decode(&index.encode()), Ok(index));
        let sorted = Index::new(None, vec![dir("a"), dir("b")]);
        assert_eq!(sorted.tar_order().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn markers_share_a_path_with_what_replaces_the_hidden() {
        let whiteout = Entry::new("a", Kind::Whiteout, 0);
        let opaque = Entry::new("a", Kind::Opaque, 0);
        let index = Index::new(None, vec![dir("a"), opaque, whiteout]);
        assert!(index.has_whiteout(b"a") && index.is_opaque(b"a") && !index.is_opaque(b""));
        assert_eq!(index.get(b"a"), Some(&dir("a")));
        assert_eq!(Index::decode(&index.encode()), Ok(index));
    }

    #[test]
    fn damage_and_newer_versions_are_told_apart() {
        let bytes = Index::new(Some(1), vec![file("a", "1")]).encode();
        let with = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Index::decode(&bytes)
        };
        assert!(matches!(with(0, b'X'), Err(IndexError::Magic { .. })));
        let newer = Encoder::new(&Format { version: 9, ..FORMAT }).finish();
        assert!(matches!(Index::decode(&newer), Err(IndexError::Version { version: 9, .. })));
        assert!(matches!(with(8, 9), Err(IndexError::Damaged { .. })));
        assert!(matches!(with(20, 0xff), Err(IndexError::Damaged { .. })));
        for len in 0..bytes.len() {
            assert!(Index::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn the_format_on_disk_does_not_change_unnoticed() {
        let mut link = Entry::new("usr/bin/x", Kind::Symlink { target: b"../y".to_vec() }, 0o777);
        link.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2]);
        link.mtime = Time { seconds: -1, nanos: 5 };
        let index = Index::new(Some(1), vec![dir("usr"), dir("usr/bin"), link, file("usr/bin/z", "z")]);
        let digest = Digest::sha256(&index.encode());
        assert_eq!(digest.short(), "9f973c167866");
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let text = || vec(any::<u8>(), 0..20);
        let segments = proptest::option::of(vec((any::<u64>(), any::<u64>()), 0..4)).prop_map(|segments| {
            segments.map(|all| {
                all.into_iter().map(|(offset, size_bytes)| Segment { offset, size_bytes }).collect()
            })
        });
        let kind = prop_oneof![
            Just(Kind::Directory),
            Just(Kind::Fifo),
            Just(Kind::Whiteout),
            Just(Kind::Opaque),
            text().prop_map(|target| Kind::Symlink { target }),
            text().prop_map(|target| Kind::Hardlink { target }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
            (any::<u64>(), any::<u64>(), text(), segments).prop_map(
                |(size_bytes, offset, text, segments)| {
                    let content = Content { digest: Digest::sha256(&text), offset, segments };
                    Kind::File { size_bytes, content }
                }
            ),
        ];
        let time = (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Time { seconds, nanos });
        let path = "[a-c/-]{0,6}".prop_map(String::into_bytes);
        (path, kind, any::<(u32, u32, u32)>(), time, btree_map(text(), text(), 0..3)).prop_map(
            |(path, kind, (mode, uid, gid), mtime, xattrs)| Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(entries in vec(any_entry(), 0..20), canonical in proptest::option::of(1..9_u32)) {
            let index = Index::new(canonical, entries);
            prop_assert_eq!(Index::decode(&index.encode()), Ok(index));
        }

        #[test]
        fn the_order_of_paths_is_that_of_their_names(a in "[a-c!/]{0,8}", b in "[a-c!/]{0,8}") {
            let names = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(path_order(a.as_bytes(), b.as_bytes()), names(&a).cmp(&names(&b)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200)) {
            let mut table = Encoder::new(&FORMAT);
            table.raw(&bytes);
            let _ = Index::decode(&table.finish());
        }
    }
}
