use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::layer::index::Header;
use crate::layer::limits::Limits;
use crate::layer::reader::TarReader;
use crate::layer::{ApplyOptions, Owners, apply};

type Written = (Header, Vec<u8>);

fn write(entries: &[Written]) -> Result<(Vec<u8>, Index), WriteError> {
    write_with(entries, WriterOptions::default())
}

fn write_with(entries: &[Written], options: WriterOptions) -> Result<(Vec<u8>, Index), WriteError> {
    let mut writer = LayerWriter::new(Vec::new(), options);
    for (entry, data) in entries {
        writer.append(entry, Some(&mut &data[..]))?;
    }
    writer.finish()
}

fn read(tar: &[u8]) -> Vec<Written> {
    let mut reader = TarReader::new(tar, Limits::default());
    let mut found = Vec::new();
    while let Some(mut member) = reader.next().unwrap() {
        let mut data = Vec::new();
        member.read_to_end(&mut data).unwrap();
        found.push((member.header, data));
    }
    found
}

fn dir(path: &str) -> Written {
    (Header::new(path, Kind::Directory, 0o755), Vec::new())
}

fn file(path: &str, data: &[u8]) -> Written {
    (Header::new(path, Kind::File { size_bytes: data.len() as u64, content: () }, 0o644), data.to_vec())
}

fn other(path: &str, kind: Kind<()>) -> Written {
    (Header::new(path, kind, 0o777), Vec::new())
}

fn symlink(path: &str, target: &str) -> Written {
    other(path, Kind::Symlink { target: target.into() })
}

fn hardlink(path: &str, target: &str) -> Written {
    other(path, Kind::Hardlink { target: target.into() })
}

/// File capabilities of a version.
fn capability(version: u8) -> Vec<u8> {
    let mut value = vec![0; if version == 3 { 24 } else { 20 }];
    (value[0], value[3], value[5]) = (1, version, 4);
    value
}

/// One of everything that has a spelling of its own.
fn everything() -> Vec<Written> {
    let long = "l".repeat(101);
    let split = format!("a/{}/{}", "p".repeat(90), "n".repeat(90));
    let parent = split_last(split.as_bytes()).0;
    let mut entries = vec![
        dir(""),
        dir("a"),
        dir(str::from_utf8(parent).unwrap()),
        file(&split, b"split"),
        symlink("a/s", &long),
        file("a/\u{fc}", b"not ascii"),
        dir("b"),
        other("b/block", Kind::BlockDevice { major: 8, minor: 17 }),
        other("b/char", Kind::CharDevice { major: 5, minor: 2 }),
        other("b/fifo", Kind::Fifo),
        file("b/first", &[b'x'; 512]),
        hardlink("b/second", "b/first"),
        other("gone", Kind::Whiteout),
        file(&long, b"long"),
        file("setuid", b""),
    ];
    let named = |entries: &mut [Written], path: &str, edit: &dyn Fn(&mut Header)| {
        edit(&mut entries.iter_mut().find(|(entry, _)| entry.path == path.as_bytes()).unwrap().0);
    };
    named(&mut entries, "", &|entry| entry.mode = 0o1777);
    named(&mut entries, "b", &|entry| (entry.uid, entry.gid) = (0o777_7777, 0o1000_0000));
    named(&mut entries, "a/s", &|entry| entry.mtime = Time::from_seconds(-5));
    named(&mut entries, "b/first", &|entry| {
        entry.mtime = Time { seconds: 1_700_000_000, nanos: 999_999_999 }
    });
    named(&mut entries, "setuid", &|entry| {
        entry.mode = 0o4755;
        entry.mtime = Time::from_seconds(OCTAL_11_MAX as i64 + 1);
        entry.xattrs.insert(b"user.x".to_vec(), b"1\n2".to_vec());
        entry.xattrs.insert(b"security.capability".to_vec(), capability(2));
    });
    entries
}

#[test]
fn the_bytes_of_a_tar_do_not_change_unnoticed() {
    let (tar, index) = write(&everything()).unwrap();
    assert_eq!(Digest::sha256(&tar).short(), "487951d363ac");
    assert_eq!(Digest::sha256(&index.encode()).short(), "72b76f994ff9");
}

#[test]
fn what_is_written_reads_back_and_writes_the_same() {
    let (tar, index) = write(&everything()).unwrap();
    let found = read(&tar);
    let headers: Vec<_> = index.entries().iter().map(Entry::header).collect();
    assert_eq!(found.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>(), headers);
    assert!(write(&found).unwrap() == (tar, index));
}

#[test]
fn the_index_says_where_the_bytes_are() {
    let (tar, index) = write(&everything()).unwrap();
    assert_eq!(index.canonical, Some(VERSION));
    let Kind::File { size_bytes, content } = &index.get("a/\u{fc}".as_bytes()).unwrap().kind else {
        panic!()
    };
    assert_eq!(&tar[content.offset as usize..][..*size_bytes as usize], b"not ascii");
    assert_eq!(content.digest, Digest::sha256(b"not ascii"));
}

#[test]
fn times_are_whole_seconds_and_no_later_than_the_clamp() {
    let at = |seconds, nanos| {
        let (mut entry, data) = file("f", b"");
        entry.mtime = Time { seconds, nanos };
        let options = WriterOptions { clamp: Some(1000) };
        write_with(&[(entry, data)], options).unwrap().1.entries()[0].mtime
    };
    assert_eq!(at(5000, 0), Time::from_seconds(1000));
    assert_eq!(at(1000, 5), Time::from_seconds(1000));
    assert_eq!(at(999, 999), Time::from_seconds(999));
    assert_eq!(at(-1, 5), Time::from_seconds(-1));
}

#[test]
fn a_size_over_8_gib_stands_in_pax() {
    for (size_bytes, blocks) in [(OCTAL_11_MAX, 1), (OCTAL_11_MAX + 1, 3)] {
        let content = Content { digest: Digest::sha256(b""), offset: 0, segments: None };
        let entry = Entry::new("f", Kind::File { size_bytes, content }, 0o644);
        let header = encode_header(&entry).unwrap();
        assert_eq!(header.len(), blocks * BLOCK_BYTES);
        let mut reader = TarReader::new(&header[..], Limits::default());
        assert_eq!(reader.next().unwrap().unwrap().header, entry.header());
    }
}

#[test]
fn a_plain_tree_needs_no_pax_header() {
    let name = "n".repeat(100);
    let entries =
        [dir("d"), file(&format!("d/{name}"), b""), symlink("d/s", &"t".repeat(100)), file(&name, b"")];
    assert_eq!(write(&entries).unwrap().0.len(), (4 + 2) * BLOCK_BYTES);
}

fn check_refused(entries: &[Written], expected: &str) {
    let error = write(entries).expect_err(expected);
    assert!(error.to_string().contains(expected), "{error}, not {expected}");
}

#[test]
fn entries_out_of_order_are_refused() {
    check_refused(&[file("b", b""), file("a", b"")], "comes after");
    check_refused(&[file("a", b""), file("a", b"")], "comes after");
    check_refused(&[dir("a"), dir("a-b"), file("a/b", b"")], "comes after");
    check_refused(&[file("a", b""), other("a", Kind::Whiteout)], "comes after");
    check_refused(&[file("d/f", b"")], "the folder it is in");
    check_refused(&[file("d", b""), file("d/f", b"")], "the folder it is in");
    check_refused(&[other("d", Kind::Whiteout), other("d/f", Kind::Whiteout)], "the folder it is in");
    check_refused(&[hardlink("a", "b"), file("b", b"")], "hard link points to");
    check_refused(&[dir("a"), hardlink("b", "a")], "hard link points to");
    assert!(write(&[other("d", Kind::Whiteout), dir("d"), file("d/f", b"")]).is_ok());
    assert!(write(&[symlink("a", "x"), hardlink("b", "a")]).is_ok());
}

#[test]
fn entries_that_no_tar_of_ours_can_hold_are_refused() {
    check_refused(&[file(".wh.f", b"")], "stand for deleted files");
    check_refused(&[dir(".wh.d")], "stand for deleted files");
    check_refused(&[other(".wh.f", Kind::Whiteout)], "stand for deleted files");
    check_refused(&[other("d", Kind::Opaque)], "opaque");
    check_refused(&[file("", b"")], "root");
    check_refused(&[file("..", b"")], "slashes");
    check_refused(&[dir("d"), file("d/.", b"")], "slashes");
    check_refused(&[file("a\0b", b"")], "slashes");
    check_refused(&[symlink("s", "")], "link to nothing");
}

#[test]
fn entries_that_nobody_could_read_or_unpack_are_refused() {
    check_refused(&[other("c", Kind::CharDevice { major: 0, minor: 0 })], "whiteout to overlayfs");
    check_refused(&[other("c", Kind::CharDevice { major: 4096, minor: 0 })], "device number");
    check_refused(&[other("c", Kind::BlockDevice { major: 1, minor: 1 << 20 })], "device number");
    check_refused(&[file(&"n".repeat(256), b"")], "its name has over 255 bytes");
    check_refused(&[other(&"n".repeat(256), Kind::Whiteout)], "its name has over 255 bytes");
    check_refused(&[symlink("s", &"t".repeat(4096))], "its target has over 4095 bytes");
    let name = "n".repeat(255);
    let folders: Vec<_> = (1..=17).map(|depth| dir(&vec![&*name; depth].join("/"))).collect();
    assert!(write(&folders[..16]).is_ok());
    check_refused(&folders, "its path has over 4095 bytes");

    let with = |edit: &dyn Fn(&mut Header)| {
        let (mut entry, data) = file("f", b"");
        edit(&mut entry);
        [(entry, data)]
    };
    check_refused(&with(&|entry| entry.uid = u32::MAX), "owner 4294967295");
    check_refused(&with(&|entry| entry.gid = u32::MAX), "owner 4294967295");
    let xattr = |name: &str, value: Vec<u8>| {
        with(&|entry| drop(entry.xattrs.insert(name.as_bytes().to_vec(), value.clone())))
    };
    check_refused(&xattr("user.a=b", vec![]), "extended attribute");
    check_refused(&xattr(&format!("user.{name}"), vec![]), "extended attribute");
    check_refused(&xattr("user.a", vec![0; (64 << 10) + 1]), "extended attribute");
    check_refused(&xattr("security.capability", vec![1, 0, 0, 2, 0, 4]), "file capabilities");
    let mut nobodys = capability(3);
    nobodys[20..].fill(0xff);
    check_refused(&xattr("security.capability", nobodys), "file capabilities");
    assert!(write(&xattr("security.capability", capability(3))).is_ok());
    let many = with(&|entry| {
        entry.xattrs.extend((0..17).map(|n| (format!("user.{n}").into_bytes(), vec![0; 64 << 10])));
    });
    check_refused(&many, "over 1 MiB");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    for (data, actual) in [(&b"1234"[..], 4), (b"123456", 6), (b"", 0), (&[7; 1 << 20], 6)] {
        let (entry, _) = file("f", b"12345");
        let error =
            LayerWriter::new(Vec::new(), WriterOptions::default()).append(&entry, Some(&mut &data[..]));
        let Err(WriteError::SizeChanged { expected: 5, actual: found, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(found, actual);
    }
}

fn unpack_with(program: &mut Command, tar: &[u8]) -> bool {
    let Ok(mut child) = program.stdin(Stdio::piped()).spawn() else { return false };
    child.stdin.take().unwrap().write_all(tar).unwrap();
    assert!(child.wait().unwrap().success());
    true
}

#[test]
fn gnu_tar_unpacks_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<_> = everything()
        .into_iter()
        .filter(|(entry, _)| !matches!(entry.kind, Kind::BlockDevice { .. } | Kind::CharDevice { .. }))
        .collect();
    let (tar, index) = write(&entries).unwrap();
    let mut program = Command::new("tar");
    program.args(["-x", "-p", "--no-same-owner", "-f", "-"]).current_dir(folder.path());
    if !unpack_with(&mut program, &tar) {
        eprintln!("skipped: no GNU tar");
        return;
    }
    for entry in index.entries() {
        check_unpacked(folder.path(), entry);
    }
}

fn check_unpacked(folder: &Path, entry: &Entry) {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let path = folder.join(std::ffi::OsStr::from_bytes(&tar_name(entry)));
    let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match &entry.kind {
        Kind::Directory => assert!(metadata.is_dir()),
        Kind::File { content, .. } => {
            assert_eq!(Digest::sha256(&std::fs::read(&path).unwrap()), content.digest)
        }
        Kind::Symlink { target } => {
            assert_eq!(std::fs::read_link(&path).unwrap().as_os_str().as_bytes(), target)
        }
        Kind::Hardlink { .. } => assert_eq!(metadata.nlink(), 2),
        Kind::Fifo => assert!(metadata.file_type().is_fifo()),
        _ => {}
    }
    if !matches!(entry.kind, Kind::Hardlink { .. } | Kind::Symlink { .. }) {
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.mtime()),
            (entry.mode, entry.mtime.seconds),
            "{}",
            path.display()
        );
    }
}

#[test]
fn gnu_tar_lists_what_is_written() {
    let (tar, _) = write(&everything()).unwrap();
    let mut child = match Command::new("tar")
        .args(["-t", "-v", "--numeric-owner", "--full-time", "--quoting-style=escape", "-f", "-"])
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(_) => {
            eprintln!("skipped: no GNU tar");
            return;
        }
    };
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let listed = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "drwxrwxrwt 0/0",
        "drwxr-xr-x 2097151/2097152",
        "brwxrwxrwx 0/0",
        "8,17",
        "5,2",
        "prwxrwxrwx",
        "b/second link to b/first",
        "1969-12-31 23:59:55 a/s ->",
        "2023-11-14 22:13:20 b/first",
        "2242-03-16 12:56:32 setuid",
        "-rwsr-xr-x",
        "---------- 0/0",
        " .wh.gone",
    ] {
        assert!(listed.contains(expected), "{expected} is not in\n{listed}");
    }
}

fn any_tree() -> impl Strategy<Value = Vec<Written>> {
    let name = prop_oneof![5 => "[a-d]{1,2}", 1 => "[a-d\u{e4}]{90,110}"];
    let path = vec(name, 1..4).prop_map(|names| names.join("/"));
    let kind = prop_oneof![
        3 => vec(any::<u8>(), 0..2000).prop_map(Some),
        1 => Just(None),
    ];
    let xattrs = btree_map("user\\.[a-z]{1,5}".prop_map(String::into_bytes), vec(any::<u8>(), 0..30), 0..2);
    let metadata = (0..0o10000_u32, any::<u32>(), any::<u32>(), any::<i64>(), xattrs);
    vec((path, kind, metadata), 0..30).prop_map(|wanted| {
        let mut tree = BTreeMap::new();
        for (path, data, (mode, uid, gid, seconds, xattrs)) in wanted {
            for (at, _) in path.match_indices('/') {
                tree.insert(path[..at].to_owned(), dir(&path[..at]));
            }
            let (mut entry, data) = match data {
                Some(data) => file(&path, &data),
                None => symlink(&path, "t\u{e4}rget"),
            };
            (entry.mode, entry.uid, entry.gid, entry.mtime) = (mode, uid, gid, Time::from_seconds(seconds));
            entry.xattrs = xattrs;
            tree.entry(path).or_insert((entry, data));
        }
        let folders: Vec<_> = tree.keys().cloned().collect();
        for path in folders {
            if tree.keys().any(|other| other.starts_with(&format!("{path}/"))) {
                tree.insert(path.clone(), dir(&path));
            }
        }
        let mut entries: Vec<_> = tree.into_values().collect();
        entries.sort_by(|(a, _), (b, _)| path_order(&a.path, &b.path));
        entries
    })
}

/// Entries of which many cannot be read or unpacked, each below folders that can.
fn any_wild_entries() -> impl Strategy<Value = Vec<Written>> {
    let name = prop_oneof![
        9 => "[a-c]".boxed(),
        1 => prop::sample::select(vec![".", "..", ".wh.a", ".wh..wh.b", "a\0", ""]).prop_map(str::to_owned).boxed(),
        1 => (254..257_usize).prop_map(|len| "n".repeat(len)).boxed(),
    ];
    let path = prop_oneof![
        9 => vec(name, 1..4).prop_map(|names| names.join("/")),
        1 => (14..18_usize).prop_map(|depth| vec!["n".repeat(255); depth].join("/")),
    ];
    let numbers = || {
        let major = prop::sample::select(vec![0, 1, 4095, 4096, 1 << 16, u32::MAX]);
        (major, prop::sample::select(vec![0, 1, 0xf_ffff, 1 << 20, u32::MAX]))
    };
    let kind = prop_oneof![
        Just(Kind::File { size_bytes: 0, content: () }),
        Just(Kind::Directory),
        Just(Kind::Fifo),
        Just(Kind::Whiteout),
        Just(Kind::Opaque),
        prop::sample::select(vec![0_usize, 1, 4095, 4096])
            .prop_map(|len| Kind::Symlink { target: vec![b't'; len] }),
        "[a-c](/[a-c])?".prop_map(|target| Kind::Hardlink { target: target.into_bytes() }),
        numbers().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        numbers().prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
    ];
    let id = || prop::sample::select(vec![0, 1, 0o777_7777, 0o1000_0000, u32::MAX - 1, u32::MAX]);
    let value = prop_oneof![
        vec(any::<u8>(), 0..30),
        Just(capability(2)),
        Just(capability(3)),
        Just(vec![0; (64 << 10) + 1])
    ];
    let xattr =
        prop::sample::select(vec!["security.capability", "trusted.overlay.opaque", "user.a", "a=b", ""]);
    let xattrs = btree_map(xattr.prop_map(|name| name.as_bytes().to_vec()), value, 0..2);
    let entry = (path, kind, 0..0o10000_u32, id(), id(), any::<i64>(), xattrs);
    vec(entry, 1..20).prop_map(|wanted| {
        let mut tree = BTreeMap::new();
        for (path, kind, mode, uid, gid, seconds, xattrs) in wanted {
            for (at, _) in path.match_indices('/') {
                tree.insert(path[..at].to_owned(), dir(&path[..at]));
            }
            let mtime = Time::from_seconds(seconds);
            let entry = Header { path: path.clone().into_bytes(), kind, mode, uid, gid, mtime, xattrs };
            tree.entry(path).or_insert((entry, Vec::new()));
        }
        let mut entries: Vec<_> = tree.into_values().collect();
        entries.sort_by(|(a, _), (b, _)| path_order(&a.path, &b.path));
        entries
    })
}

proptest! {
    #[test]
    fn whatever_the_writer_takes_can_be_read_and_unpacked(entries in any_wild_entries()) {
        let mut writer = LayerWriter::new(Vec::new(), WriterOptions::default());
        let mut taken = Vec::new();
        for (entry, _) in entries {
            if writer.append(&entry, None).is_ok() {
                taken.push(entry.path);
            }
        }
        let (tar, _) = writer.finish().unwrap();
        let found = read(&tar).into_iter().map(|(entry, _)| entry.path);
        prop_assert_eq!(found.collect::<Vec<_>>(), taken);

        let ids = crate::snapshot::Ids::current();
        if ids.owners == Owners::Keep && ids.name == "full" {
            let folder = tempfile::tempdir().unwrap();
            let root = std::fs::File::open(folder.path()).unwrap();
            let options = ApplyOptions { owners: Owners::Keep, limits: Limits::default() };
            apply(&tar[..], root.as_fd(), &options).unwrap();
            crate::store::remove_tree(rustix::fs::CWD, folder.path().as_os_str().as_bytes()).unwrap();
        }
    }

    #[test]
    fn any_tree_reads_back_and_writes_the_same(entries in any_tree()) {
        let (tar, index) = write(&entries).unwrap();
        let found = read(&tar);
        prop_assert_eq!(&found, &entries);
        prop_assert!(write(&found).unwrap() == (tar, index));
    }
}
