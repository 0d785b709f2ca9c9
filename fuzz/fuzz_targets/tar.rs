//! Tars of layers. Checksums are made right before a tar is read, see [`fuzzing::mend`].
//!
//! - Reading ends, with an error at worst; paths lead nowhere out of the image.
//! - An accepted tar, put in order and written, reads back to the same entries and bytes.
//! - That tar written again is the same bytes, and its index survives its disk format.
//! - The index says where in the tar the bytes of a file are, and what their digest is.
#![no_main]

use std::io::Read;

use common::digest::Digest;
use common::layer::index::path_order;
use common::layer::writer::VERSION;
use common::layer::{
    Header, Index, Kind, LayerWriter, Limits, TarError, TarReader, Time, WriteError, WriterOptions,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { entries: 1000, hole_bytes: 1 << 20 };

fuzz_target!(init: fuzzing::plant("tar", seeds()), |data: &[u8]| {
    let mut tar = data.to_vec();
    fuzzing::mend(&mut tar);
    let Ok(found) = read(&tar) else { return };
    found.iter().for_each(|(header, _)| check_header(header));
    let entries = in_order(found);
    let Some((written, index)) = write(&entries) else { return };
    let settled: Vec<Written> = entries.into_iter().map(|(header, data)| (settle(header), data)).collect();
    let again = read(&written).expect("what we write can be read");
    assert_eq!(again, settled);
    assert!(write(&again).is_some_and(|(bytes, same)| bytes == written && same == index), "other bytes");
    assert_eq!(Index::decode(&index.encode()).as_ref(), Ok(&index));
    assert_eq!(index.canonical, Some(VERSION));
    check_contents(&written, &index, &settled);
});

/// An entry and the bytes of its file.
type Written = (Header, Vec<u8>);

fn read(tar: &[u8]) -> Result<Vec<Written>, TarError> {
    let mut reader = TarReader::new(tar, LIMITS);
    let mut found = Vec::new();
    while let Some(mut member) = reader.next()? {
        let mut data = Vec::new();
        // A file that is cut off is said at the next header.
        if member.read_to_end(&mut data).is_ok() {
            found.push((member.header, data));
        }
    }
    Ok(found)
}

fn check_header(header: &Header) {
    let is_path = |path: &[u8]| {
        path.is_empty() || path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
    };
    assert!(
        is_path(&header.path) && header.mode <= 0o7777 && header.mtime.nanos < 1_000_000_000,
        "{header:?}"
    );
    if let Kind::Hardlink { target } = &header.kind {
        assert!(is_path(target), "{header:?}");
    }
}

/// Entries as the writer wants them: sorted, each once, below folders that are there, without opaque markers.
fn in_order(mut entries: Vec<Written>) -> Vec<Written> {
    let rank = |header: &Header| u8::from(header.kind != Kind::Whiteout);
    entries.retain(|(header, _)| header.kind != Kind::Opaque);
    let folders: Vec<Written> = entries.iter().flat_map(|(header, _)| parents(&header.path)).collect();
    // Of two of one path the first counts here, so what the tar has itself goes before the folders that are made up.
    entries.extend(folders);
    entries.sort_by(|(a, _), (b, _)| path_order(&a.path, &b.path).then(rank(a).cmp(&rank(b))));
    entries.dedup_by(|(later, _), (first, _)| later.path == first.path && rank(later) == rank(first));
    entries
}

fn parents(path: &[u8]) -> Vec<Written> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.map(|end| (Header::new(&path[..end], Kind::Directory, 0o755), Vec::new())).collect()
}

/// `None` when a tar of ours cannot say this.
fn write(entries: &[Written]) -> Option<(Vec<u8>, Index)> {
    let mut writer = LayerWriter::new(Vec::new(), WriterOptions::default());
    for (header, data) in entries {
        match writer.append(header, Some(&mut &data[..])) {
            Ok(()) => {}
            Err(WriteError::Entry { .. }) => return None,
            Err(error) => panic!("{header:?}: {error}"),
        }
    }
    Some(writer.finish().expect("memory can be written"))
}

/// What a tar of ours keeps of an entry.
fn settle(mut header: Header) -> Header {
    header.mtime = Time::from_seconds(header.mtime.seconds);
    header
}

fn check_contents(tar: &[u8], index: &Index, entries: &[Written]) {
    assert_eq!(index.entries().len(), entries.len());
    for (entry, (header, data)) in index.entries().iter().zip(entries) {
        assert_eq!(entry.header(), *header);
        if let Kind::File { size_bytes, content } = &entry.kind {
            let start = content.offset as usize;
            assert_eq!(&tar[start..start + *size_bytes as usize], data);
            assert_eq!(content.digest, Digest::sha256(data));
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut entries = vec![
        other("", Kind::Directory),
        other("a", Kind::Directory),
        other("a/block", Kind::BlockDevice { major: 8, minor: 17 }),
        other("a/char", Kind::CharDevice { major: 5, minor: 2 }),
        other("a/fifo", Kind::Fifo),
        file("a/file", b"hello"),
        other("a/hard", Kind::Hardlink { target: "a/file".into() }),
        other("a/soft", Kind::Symlink { target: "../../etc/passwd".into() }),
        file("a/\u{fc}", &[7; 600]),
        other("gone", Kind::Whiteout),
        file(&"l".repeat(120), b"long"),
    ];
    let (last, _) = entries.last_mut().expect("entries were just put in");
    let mut capability = vec![1, 0, 0, 2, 0, 4, b'\n', b'='];
    capability.resize(20, 0);
    last.xattrs.insert(b"security.capability".to_vec(), capability);
    (last.uid, last.mtime) = (1 << 30, Time::from_seconds(-5));
    let one = |entry: &Written| write(std::slice::from_ref(entry));
    let mut seeds: Vec<Vec<u8>> = entries.iter().filter_map(one).map(|(tar, _)| tar).collect();
    seeds.extend(write(&entries).map(|(tar, _)| tar));
    seeds.extend([gnu_long_names(), gnu_sparse(), pax_sparse(b"1\n4096\n4\n"), opaque()]);
    seeds.push(pax(b"30 mtime=1700000000.123456789\n", b"x", b"1"));
    seeds.push(pax(
        b"22 GNU.sparse.major=0\n22 GNU.sparse.size=99\n26 GNU.sparse.map=3,1,9,1\n",
        b"x",
        b"12",
    ));
    seeds
}

fn other(path: &str, kind: Kind<()>) -> Written {
    (Header::new(path, kind, 0o755), Vec::new())
}

fn file(path: &str, data: &[u8]) -> Written {
    (Header::new(path, Kind::File { size_bytes: data.len() as u64, content: () }, 0o644), data.to_vec())
}

/// A header of GNU's or ustar's and data behind it.
fn member(mut header: tar::Header, kind: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gnu_long_names() -> Vec<u8> {
    let gnu = tar::Header::new_gnu;
    let name = b"n".repeat(200);
    [
        member(gnu(), b'L', b"././@LongLink", &name),
        member(gnu(), b'K', b"././@LongLink", &b"../t".repeat(60)),
        member(gnu(), b'2', b"n", b""),
    ]
    .concat()
}

fn gnu_sparse() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().expect("just made as GNU's");
    gnu.sparse[0].offset.copy_from_slice(b"00000001000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000004\0");
    gnu.realsize.copy_from_slice(b"00000004000\0");
    member(header, b'S', b"sparse", b"data")
}

fn pax(records: &[u8], name: &[u8], data: &[u8]) -> Vec<u8> {
    let ustar = tar::Header::new_ustar;
    [member(ustar(), b'x', b"././@PaxHeader", records), member(ustar(), b'0', name, data)].concat()
}

fn pax_sparse(map: &[u8]) -> Vec<u8> {
    let records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n24 GNU.sparse.name=name\n28 GNU.sparse.realsize=8192\n";
    let mut data = map.to_vec();
    data.resize(512, 0);
    pax(records, b"GNUSparseFile.0/name", &[&data[..], b"data"].concat())
}

fn opaque() -> Vec<u8> {
    let ustar = tar::Header::new_ustar;
    [
        member(ustar(), b'0', b"a/.wh..wh..opq", b""),
        member(ustar(), b'0', b"a/.wh.b", b""),
        member(ustar(), b'0', b"./a//./b/", b""),
        member(ustar(), b'0', b"/.wh..wh.plnk/1.2", b"x"),
    ]
    .concat()
}
