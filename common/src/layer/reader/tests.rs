use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::layer::index::Time;
use crate::layer::testing::TarBytes;

type Found = Vec<(Header, u64, Vec<u8>)>;

fn read(bytes: &[u8]) -> Result<Found, TarError> {
    read_within(bytes, Limits::default())
}

fn read_within(bytes: &[u8], limits: Limits) -> Result<Found, TarError> {
    let mut reader = TarReader::new(bytes, limits);
    let mut found = Vec::new();
    while let Some(mut member) = reader.next()? {
        let mut data = Vec::new();
        member.read_to_end(&mut data).map_err(|source| TarError::Io { offset: 0, source })?;
        found.push((member.header, member.offset, data));
    }
    Ok(found)
}

fn check_refused(tar: TarBytes, expected: &str) {
    let error = read(&tar.finish()).expect_err(expected);
    assert!(error.to_string().contains(expected), "{error}, not {expected}");
}

fn check_path(tar: TarBytes, expected: &str) {
    let found = read(&tar.finish()).unwrap();
    assert_eq!(found[0].0.path.escape_ascii().to_string(), expected);
}

#[test]
fn every_kind_of_entry_is_read() {
    let tar = TarBytes::new()
        .dir("d/")
        .file("d/f", b"hello")
        .symlink("d/s", "../x")
        .hardlink("d/h", "d/f")
        .entry(b'6', "p", "", b"")
        .block(|block| {
            block[..3].copy_from_slice(b"dev");
            block[156] = b'3';
            block[257..265].copy_from_slice(b"ustar\x0000");
            block[329..337].copy_from_slice(b"0000005\0");
            block[337..345].copy_from_slice(b"0000001\0");
        });
    let found = read(&tar.finish()).unwrap();
    let kinds: Vec<_> = found.iter().map(|(header, ..)| header.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            Kind::Directory,
            Kind::File { size_bytes: 5, content: () },
            Kind::Symlink { target: b"../x".to_vec() },
            Kind::Hardlink { target: b"d/f".to_vec() },
            Kind::Fifo,
            Kind::CharDevice { major: 5, minor: 1 },
        ]
    );
    let (file, offset, data) = &found[1];
    assert_eq!((file.mode, file.uid, file.gid, file.mtime), (0o644, 1, 2, Time::from_seconds(3)));
    assert_eq!((*offset, &data[..]), (1024, &b"hello"[..]));
}

#[test]
fn content_that_is_not_read_is_skipped() {
    let tar = TarBytes::new().file("a", &[7; 5000]).file("b", b"x").finish();
    let mut reader = TarReader::new(&tar[..], Limits::default());
    assert_eq!(reader.next().unwrap().unwrap().header.path, b"a");
    assert_eq!(reader.next().unwrap().unwrap().header.path, b"b");
    assert!(reader.next().unwrap().is_none());
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn names_are_normalised() {
    check_path(TarBytes::new().dir("./"), "");
    check_path(TarBytes::new().dir("/"), "");
    check_path(TarBytes::new().file("/etc/passwd", b""), "etc/passwd");
    check_path(TarBytes::new().file("./a//b/./c", b""), "a/b/c");
    check_path(TarBytes::new().file("..a/b..", b""), "..a/b..");
    check_path(TarBytes::new().entry(0, "old/", "", b""), "old");
}

#[test]
fn long_names_are_read_in_both_spellings() {
    let long = format!("{}/f", "n".repeat(250));
    check_path(TarBytes::new().pax(&[("path", long.as_bytes())]).file("short", b""), &long);
    let gnu = TarBytes::new().entry(b'L', "././@LongLink", "", format!("{long}\0").as_bytes());
    check_path(gnu.file("short", b""), &long);
    let link = TarBytes::new().entry(b'K', "././@LongLink", "", format!("{long}\0").as_bytes());
    let found = read(&link.symlink("s", "short").finish()).unwrap();
    assert_eq!(found[0].0.kind, Kind::Symlink { target: long.into_bytes() });
}

#[test]
fn the_prefix_of_a_ustar_name_is_put_in_front() {
    let tar = TarBytes::new().block(|block| {
        block[..4].copy_from_slice(b"name");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[345..348].copy_from_slice(b"dir");
    });
    check_path(tar, "dir/name");
}

#[test]
fn pax_sets_owner_time_and_attributes() {
    let tar = TarBytes::new()
        .pax(&[
            ("uid", b"4000000000"),
            ("gid", b"4000000001"),
            ("mtime", b"1700000000.123456789123"),
            ("SCHILY.xattr.user.text", b"line\nand = more"),
            ("SCHILY.xattr.user.empty", b""),
            ("atime", b"1.5"),
            ("uname", b"root"),
        ])
        .file("f", b"");
    let (header, ..) = read(&tar.finish()).unwrap().remove(0);
    assert_eq!((header.uid, header.gid), (4_000_000_000, 4_000_000_001));
    assert_eq!(header.mtime, Time { seconds: 1_700_000_000, nanos: 123_456_789 });
    assert_eq!(header.xattrs[&b"user.text"[..]], b"line\nand = more");
    assert_eq!(header.xattrs[&b"user.empty"[..]], b"");
}

#[test]
fn times_before_1970_round_down() {
    for (text, seconds, nanos) in [("-1", -1, 0), ("-1.25", -2, 750_000_000), ("0.5", 0, 500_000_000)] {
        let tar = TarBytes::new().pax(&[("mtime", text.as_bytes())]).file("f", b"");
        assert_eq!(read(&tar.finish()).unwrap()[0].0.mtime, Time { seconds, nanos }, "{text}");
    }
}

#[test]
fn whiteouts_carry_the_path_of_what_they_hide() {
    let tar = TarBytes::new()
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .file(".wh.top", b"")
        .file(".wh..wh.plnk/1.2", b"data")
        .file(".wh..wh.aufs", b"")
        .file("last", b"x");
    let found = read(&tar.finish()).unwrap();
    let found: Vec<_> = found.iter().map(|(header, ..)| (header.path.as_slice(), &header.kind)).collect();
    let expected: [(&[u8], Kind<()>); 4] = [
        (b"d/gone", Kind::Whiteout),
        (b"d", Kind::Opaque),
        (b"top", Kind::Whiteout),
        (b"last", Kind::File { size_bytes: 1, content: () }),
    ];
    assert_eq!(found, expected.each_ref().map(|(path, kind)| (*path, kind)));
}

#[test]
fn names_that_lead_out_of_the_image_are_refused() {
    check_refused(TarBytes::new().file("../etc/passwd", b""), "`..`");
    check_refused(TarBytes::new().file("a/../../b", b""), "`..`");
    check_refused(TarBytes::new().file("a/..", b""), "`..`");
    check_refused(TarBytes::new().hardlink("a", "../etc/passwd"), "`..`");
    check_refused(TarBytes::new().pax(&[("path", b"../x")]).file("x", b""), "`..`");
    check_refused(TarBytes::new().entry(b'L', "", "", b"../x\0").file("x", b""), "`..`");
    check_refused(TarBytes::new().pax(&[("linkpath", b"/..")]).hardlink("x", "y"), "`..`");
    check_refused(TarBytes::new().pax(&[("path", b"a\0b")]).file("x", b""), "NUL");
    check_refused(TarBytes::new().file("d/.wh...", b""), "whiteout of no name");
    check_refused(TarBytes::new().file("d/.wh..", b""), "whiteout of no name");
    check_refused(TarBytes::new().file(".wh.", b""), "whiteout of no name");
    check_refused(TarBytes::new().file(".wh.d/f", b""), "below a whiteout");
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let name = "n".repeat(256);
    check_refused(TarBytes::new().pax(&[("path", name.as_bytes())]).file("x", b""), "over 255");
    let path = "name/".repeat(820);
    check_refused(TarBytes::new().pax(&[("path", path.as_bytes())]).file("x", b""), "over 4095");
    check_refused(TarBytes::new().pax(&[("linkpath", path.as_bytes())]).symlink("x", ""), "over 4095");
    check_refused(TarBytes::new().symlink("x", ""), "symlink to nothing");
    check_refused(TarBytes::new().file("./", b"data"), "data behind");
    check_refused(TarBytes::new().symlink("/", "x"), "root can only be a folder");
    check_refused(TarBytes::new().hardlink("a/b", "./a//b"), "hard link to itself");
}

#[test]
fn games_with_sizes_are_refused() {
    let inner = TarBytes::new().file("hidden", b"").unfinished();
    let says = |size: &'static [u8]| TarBytes::new().pax(&[("size", size)]);
    check_refused(says(b"0").file("f", &inner), "different sizes");
    check_refused(says(b"512").file("f", b""), "different sizes");
    check_refused(says(b"99999999999").entry_saying(b'0', "f", "", 5, b"hello"), "different sizes");
    check_refused(says(b"-1").file("f", b""), "malformed PAX");
    check_refused(says(b"18446744073709551616").file("f", b""), "malformed PAX");
    check_refused(says(b"18446744073709551615").file("f", b""), "beyond all bounds");
    check_refused(says(b"1152921504606846976").file("f", b""), "beyond all bounds");
    check_refused(TarBytes::new().pax(&[("size", b"5"), ("size", b"6")]).file("f", b"hello"), "twice");
    check_refused(says(b"5").pax(&[("size", b"6")]).file("f", b"hello"), "two extensions");
    check_refused(TarBytes::new().extension(b'g', &[("size", b"0")]).file("f", b"hello"), "global");
    check_refused(TarBytes::new().extension(b'g', &[("path", b"x")]).file("f", b"hello"), "global");
    for typeflag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        check_refused(TarBytes::new().entry(typeflag, "x", "y", &inner), "data behind");
    }
    let negative = TarBytes::new().block(|block| {
        block[0] = b'f';
        block[124..136].fill(0xff);
        block[156] = b'0';
    });
    check_refused(negative, "malformed size");
}

#[test]
fn a_size_that_does_not_fit_the_header_stands_in_pax_alone() {
    for own in [0, OCTAL_11_MAX] {
        let tar = TarBytes::new()
            .pax(&[("size", b"8589934592")])
            .entry_saying(b'0', "f", "", own, b"")
            .unfinished();
        let mut reader = TarReader::new(&tar[..], Limits::default());
        let member = reader.next().unwrap().unwrap();
        assert_eq!(member.header.kind, Kind::File { size_bytes: 1 << 33, content: () });
    }
}

#[test]
fn attributes_that_no_file_can_have_are_refused_by_name() {
    let tar = |name: &str, value: &[u8]| {
        TarBytes::new().pax(&[(&format!("SCHILY.xattr.{name}"), value)]).file("dir/f", b"")
    };
    let (long, big) = ("n".repeat(251), vec![b'x'; (64 << 10) + 1]);
    let capability = "extended attribute `security.capability` of `dir/f` is refused: its file capabilities";
    check_refused(tar("security.capability", b"abc"), capability);
    check_refused(tar("security.capability", &[0; 20]), capability);
    check_refused(tar("security.capability", b"\x01\0\0\x01\x01\0\0\0\0\0\0\0"), "version 1");
    check_refused(tar(&format!("user.{long}"), b""), "of `dir/f` is refused: an extended attribute of over");
    check_refused(tar("user.big", &big), "extended attribute `user.big` of `dir/f` is refused");
    for (name, value) in [
        ("user.big", &big[1..]),
        (&format!("user.{}", &long[1..]), b""),
        ("user.overlay.big", &big),
        ("security.capability", b""),
        ("security.capability", &[&[1, 0, 0, 2][..], &[0; 16]].concat()),
        ("security.capability", &[&[0, 0, 0, 3][..], &[0; 20]].concat()),
    ] {
        assert_eq!(read(&tar(name, value).finish()).unwrap().len(), 1, "{name}");
    }
}

#[test]
fn headers_that_say_two_things_or_nothing_are_refused() {
    let long = |typeflag| TarBytes::new().entry(typeflag, "", "", b"gnu\0");
    check_refused(long(b'L').pax(&[("path", b"pax")]).file("f", b""), "two long names");
    check_refused(long(b'K').pax(&[("linkpath", b"pax")]).symlink("f", "x"), "two long link names");
    check_refused(long(b'L').entry(b'L', "", "", b"x\0").file("f", b""), "two extensions");
    check_refused(long(b'L'), "extensions of no entry");
    check_refused(TarBytes::new().entry(b'V', "label", "", b""), "neither file");
    check_refused(TarBytes::new().entry(b'M', "more", "", b""), "neither file");
    check_refused(TarBytes::new().entry(b'x', "", "", b"nonsense").file("f", b""), "malformed PAX");
    check_refused(TarBytes::new().pax(&[("uid", b"4294967296")]).file("f", b""), "malformed number");
    check_refused(TarBytes::new().pax(&[("SCHILY.xattr.", b"x")]).file("f", b""), "extended attribute");
    check_refused(TarBytes::new().entry_saying(b'x', "", "", 2 << 20, b""), "over 1 MiB");
    check_refused(TarBytes::new().raw(&[1; 512]), "no tar archive");
    check_refused(TarBytes::new().file("f", b"").raw(&[1; 512]), "wrong checksum");
    assert!(matches!(TarReader::new(&b"PK"[..], Limits::default()).next(), Err(TarError::NoTar)));
}

#[test]
fn the_end_is_zeros_or_no_more_input() {
    let tar = TarBytes::new().file("f", b"x");
    let bytes = tar.unfinished();
    assert_eq!(read(&bytes).unwrap().len(), 1);
    let padded = [&bytes[..], &[0; 10_240]].concat();
    assert_eq!(read(&padded).unwrap().len(), 1);
    let odd = [&bytes[..], &[0; 700]].concat();
    assert_eq!(read(&odd).unwrap().len(), 1);
    assert!(read(b"").unwrap().is_empty());
    let record = [&bytes[..], &[0; 512], &[0; 1 << 20]].concat();
    assert_eq!(read(&record).unwrap().len(), 1);
    check_refused(TarBytes::new().raw(&[0; 512]).file("f", b""), "behind the end");
    check_refused(TarBytes::new().raw(&[0; 20_000]).raw(b"x"), "behind the end");
}

#[test]
fn zeros_without_end_are_not_read_to_their_end() {
    let tar = TarBytes::new().file("f", b"x").unfinished();
    let mut reader = TarReader::new(tar.chain(io::repeat(0)), Limits::default());
    assert!(reader.next().unwrap().is_some());
    let error = reader.next().unwrap_err();
    assert!(error.to_string().contains("over 1 MiB of zeros stand behind the end"), "{error}");
}

#[test]
fn overlayfss_own_whiteout_is_refused_by_name() {
    let tar = TarBytes::new().dir("d").entry(b'3', "/d/gone", "", b"");
    let error = read(&tar.finish()).unwrap_err();
    assert_eq!(error.to_string(), "device `d/gone` has the numbers 0:0, which mean a whiteout to overlayfs");
    assert!(error.hint().unwrap().contains("overlay"));
    assert_eq!(read(&TarBytes::new().entry(b'4', "block", "", b"").finish()).unwrap().len(), 1);
}

#[test]
fn a_tar_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = TarBytes::new().pax(&[("mtime", b"1.5")]).file("f", &[7; 600]).unfinished();
    for len in (1..bytes.len()).step_by(111) {
        assert!(read(&bytes[..len]).is_err(), "cut at {len} of {}", bytes.len());
    }
    let mut reader = TarReader::new(&bytes[..2000], Limits::default());
    assert!(reader.next().unwrap().is_some());
    assert!(matches!(reader.next(), Err(TarError::Truncated { offset: 2000 })));
    assert!(reader.next().is_err());
}

#[test]
fn a_tar_may_not_ask_for_more_than_the_limits() {
    let tar = TarBytes::new().file("a", b"").file("b", b"").finish();
    let limits = Limits { entries: 1, ..Limits::default() };
    assert!(matches!(read_within(&tar, limits), Err(TarError::Limit { what: "entries", limit: 1 })));
    let hole = TarBytes::new()
        .pax(&[("GNU.sparse.size", b"9000000000000000000"), ("GNU.sparse.map", b"0,1")])
        .file("f", b"x");
    check_refused(hole, "bytes in holes");
}

#[test]
fn a_malformed_map_of_a_sparse_file_is_refused() {
    let sparse = |map: &'static [u8], size: &'static [u8]| {
        TarBytes::new().pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]).file("f", b"hello")
    };
    for map in [&b"0,5,9"[..], b"0,4", b"0,3,2,2", b"8,5", b"x", b"0,5,0,0,18446744073709551615,1"] {
        check_refused(sparse(map, b"10"), "mal");
    }
    let folder = TarBytes::new().pax(&[("GNU.sparse.size", b"5"), ("GNU.sparse.map", b"")]).dir("d");
    check_refused(folder, "data behind");
    let version_1 = TarBytes::new()
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"5"), ("GNU.sparse.name", b"f")])
        .file("GNUSparseFile.0/f", b"1\n0\n5\nhello");
    check_refused(version_1, "mal");
}

/// Packs `folder` with GNU tar; `None` when there is none.
fn gnu_tar(folder: &std::path::Path, args: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("tar")
        .args(args)
        .args(["-cf", "-", "."])
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output();
    match output {
        Ok(output) if output.status.success() => Some(output.stdout),
        Ok(output) => panic!("tar {args:?}: {}", output.status),
        Err(_) => None,
    }
}

#[test]
fn sparse_files_of_gnu_tar_read_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(3 << 20).unwrap();
    for (n, offset) in (0..40_u64).map(|n| (n, n * 65_536)) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[n as u8 + 1; 4096], offset).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    for args in [
        &["--format=gnu", "-S"][..],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
    ] {
        let Some(tar) = gnu_tar(folder.path(), args) else {
            eprintln!("skipped: no GNU tar");
            return;
        };
        assert!(tar.len() < 1 << 20, "{args:?} packs no holes");
        let found = read(&tar).unwrap();
        let (header, _, data) = found.iter().find(|(header, ..)| header.path == b"file").unwrap();
        assert_eq!(header.kind, Kind::File { size_bytes: 3 << 20, content: () }, "{args:?}");
        assert!(*data == expected, "{args:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        mut bytes in vec(any::<u8>(), 0..4096),
        typeflag in any::<u8>(),
        records in vec(any::<u8>(), 0..100),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let _ = read(&bytes);
        bytes.truncate(600);
        let tar = TarBytes::new().entry(b'x', "", "", &records).entry(typeflag, "a", "b", &bytes).block(|block| {
            for (at, byte) in flips {
                block[at.index(512)] = byte;
            }
        });
        let _ = read(&tar.raw(&bytes).finish());
    }
}
