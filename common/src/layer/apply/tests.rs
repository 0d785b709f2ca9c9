use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::*;
use crate::layer::beneath::testing::{listing, open_folder};
use crate::layer::testing::TarBytes;
use crate::layer::{Follow, Import, ImportOptions, Root};
use crate::snapshot::{Overlay, Upper, mount_detached};

const KEEP: ApplyOptions =
    ApplyOptions { owners: Owners::Keep, limits: Limits { entries: 1000, hole_bytes: 1 << 40 } };

/// Whether files can be given to any owner here.
fn is_root() -> bool {
    let root = crate::snapshot::Ids::current().owners == Owners::Keep;
    if !root {
        eprintln!("skipped: files cannot be given to others here");
    }
    root
}
fn is_in_a_namespace() -> bool {
    let namespace = crate::snapshot::Ids::current().name != "full";
    if namespace {
        eprintln!("skipped: in a user namespace");
    }
    namespace
}

/// Unpacks layers as a plain folder on top of each other.
fn apply_flat(at: &Path, layers: &[Vec<u8>]) -> Result<(), ApplyError> {
    fs::create_dir(at).unwrap();
    let root = open_folder(at);
    layers.iter().try_for_each(|layer| apply(&layer[..], root.as_fd(), &KEEP))
}

/// Unpacks each layer upon an overlay of those below; the listing of all of them, `None` without overlayfs.
fn apply_stacked(at: &Path, layers: &[Vec<u8>]) -> Option<Vec<String>> {
    fs::create_dir(at).unwrap();
    let mut lowers: Vec<PathBuf> = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let [tree, work] = ["tree", "work"].map(|name| at.join(format!("{name}{n}")));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&work).unwrap();
        let root = if n == 0 {
            open_folder(&tree)
        } else {
            let upper = Upper { tree: tree.clone(), work, volatile: true };
            mount_detached(&Overlay { lowers: lowers.clone(), upper: Some(upper) }).ok()?
        };
        apply(&layer[..], root.as_fd(), &KEEP).unwrap();
        lowers.insert(0, tree);
    }
    fs::create_dir(at.join("empty")).unwrap();
    lowers.push(at.join("empty"));
    let merged = mount_detached(&Overlay { lowers, upper: None }).ok()?;
    Some(listing(merged.as_fd()))
}

#[track_caller]
fn check_apply(layers: &[Vec<u8>], expected: &[&str]) {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let flat = folder.path().join("flat");
    apply_flat(&flat, layers).unwrap();
    assert_eq!(listing(open_folder(&flat).as_fd()), expected, "in a plain folder");
    match apply_stacked(&folder.path().join("stacked"), layers) {
        Some(lines) => assert_eq!(lines, expected, "on overlays"),
        None => eprintln!("skipped: no overlayfs"),
    }
}

/// Applying must fail with this text, and nothing outside of the tree may have changed.
#[track_caller]
fn check_refused(layers: &[Vec<u8>], expected: &str) {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "untouched").unwrap();
    let error = apply_flat(&folder.path().join("tree"), layers).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_outside_is_untouched(folder.path());
}

#[track_caller]
fn assert_outside_is_untouched(folder: &Path) {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "secret" || name == "tree"), "{names:?}");
    assert_eq!(fs::read_to_string(folder.join("secret")).unwrap(), "untouched");
    assert_eq!(fs::metadata(folder.join("secret")).unwrap().nlink(), 1);
}

fn tar() -> TarBytes {
    TarBytes::new()
}

#[test]
fn what_a_layer_says_is_what_the_tree_has() {
    let layer = tar().dir("d").file("d/f", b"text").symlink("d/l", "/etc/passwd").hardlink("d/h", "d/f");
    check_apply(
        &[layer.finish()],
        &[
            "d 644 1:2 3 d",
            "f 644 1:2 3 d/f = text",
            "f 644 1:2 3 d/h = text",
            "l 777 1:2 3 d/l -> /etc/passwd",
        ],
    );
}

#[test]
fn missing_parents_are_made_and_existing_ones_keep_their_time() {
    check_apply(
        &[tar().dir("a").file("a/x", b"1").finish(), tar().file("a/y", b"2").file("b/c/z", b"3").finish()],
        &[
            "d 644 1:2 3 a",
            "f 644 1:2 3 a/x = 1",
            "f 644 1:2 3 a/y = 2",
            "d 755 0:0 0 b",
            "d 755 0:0 0 b/c",
            "f 644 1:2 3 b/c/z = 3",
        ],
    );
}

#[test]
fn whiteouts_hide_lower_layers_only_whatever_the_order() {
    let lower = || tar().dir("d").file("d/a", b"1").file("d/b", b"1").file("e", b"1").finish();
    let expected = ["d 644 1:2 3 d", "f 644 1:2 3 d/a = 2", "f 644 1:2 3 e = 1"];
    let first = tar().file("d/.wh.a", b"").file("d/.wh.b", b"").file("d/a", b"2").finish();
    check_apply(&[lower(), first], &expected);
    let last = tar().file("d/a", b"2").file("d/.wh.a", b"").file("d/.wh.b", b"").finish();
    check_apply(&[lower(), last], &expected);
}

#[test]
fn a_whiteout_of_a_folder_that_the_layer_brings_again_leaves_only_the_new() {
    let lower = || tar().dir("d").dir("d/s").file("d/s/old", b"1").file("d/old", b"1").finish();
    let expected = ["d 644 1:2 3 d", "d 644 1:2 3 d/s", "f 644 1:2 3 d/s/new = 2"];
    let first = tar().file(".wh.d", b"").dir("d").dir("d/s").file("d/s/new", b"2").finish();
    check_apply(&[lower(), first], &expected);
    let last = tar().dir("d").dir("d/s").file("d/s/new", b"2").file(".wh.d", b"").finish();
    check_apply(&[lower(), last], &expected);
}

#[test]
fn an_opaque_folder_shows_its_own_layer_only_whatever_the_order() {
    let lower = || tar().dir("d").dir("d/s").file("d/s/old", b"1").file("d/old", b"1").finish();
    let expected = ["d 644 1:2 3 d", "d 755 0:0 0 d/s", "f 644 1:2 3 d/s/new = 2"];
    let first = tar().file("d/.wh..wh..opq", b"").file("d/s/new", b"2").finish();
    check_apply(&[lower(), first], &expected);
    let last = tar().dir("d").file("d/s/new", b"2").file("d/.wh..wh..opq", b"").finish();
    let expected = ["d 644 1:2 3 d", "d 644 1:2 3 d/s", "f 644 1:2 3 d/s/new = 2"];
    check_apply(&[lower(), last], &expected);
}

#[test]
fn whiteouts_of_nothing_are_nothing() {
    let layer =
        tar().file(".wh.a", b"").file("no/such/.wh.folder", b"").file("x/.wh..wh..opq", b"").file("f", b"");
    check_apply(&[layer.finish()], &["f 644 1:2 3 f = "]);
}

#[test]
fn a_type_change_replaces_what_was_there() {
    let lower = tar()
        .dir("dir-to-file")
        .file("dir-to-file/x", b"1")
        .file("file-to-dir", b"1")
        .symlink("link-to-dir", "file-to-dir")
        .symlink("link-to-file", "/etc/passwd")
        .file("file-to-link", b"1");
    let upper = tar()
        .file("dir-to-file", b"2")
        .dir("file-to-dir")
        .dir("link-to-dir")
        .file("link-to-dir/in", b"2")
        .file("link-to-file", b"2")
        .symlink("file-to-link", "x");
    check_apply(
        &[lower.finish(), upper.finish()],
        &[
            "f 644 1:2 3 dir-to-file = 2",
            "d 644 1:2 3 file-to-dir",
            "l 777 1:2 3 file-to-link -> x",
            "d 644 1:2 3 link-to-dir",
            "f 644 1:2 3 link-to-dir/in = 2",
            "f 644 1:2 3 link-to-file = 2",
        ],
    );
}

#[test]
fn a_layer_goes_through_a_symlink_of_a_lower_one_inside_the_root() {
    let lower = tar()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "/usr/lib")
        .symlink("up", "../../../../usr")
        .symlink("usr/here", "lib/../lib/.");
    let upper = tar()
        .file("lib/x", b"1")
        .file("up/lib/y", b"2")
        .file("usr/here/z", b"3")
        .file("lib/.wh.gone", b"")
        .hardlink("h", "lib/x");
    check_apply(
        &[lower.finish(), upper.finish()],
        &[
            "f 644 1:2 3 h = 1",
            "l 777 1:2 3 lib -> /usr/lib",
            "l 777 1:2 3 up -> ../../../../usr",
            "d 644 1:2 3 usr",
            "l 777 1:2 3 usr/here -> lib/../lib/.",
            "d 644 1:2 3 usr/lib",
            "f 644 1:2 3 usr/lib/x = 1",
            "f 644 1:2 3 usr/lib/y = 2",
            "f 644 1:2 3 usr/lib/z = 3",
        ],
    );
}

#[test]
fn a_dangling_symlink_on_the_way_is_followed_inside_the_root() {
    let layer = tar().symlink("var", "/data/var").file("var/x", b"1").finish();
    check_apply(
        &[layer],
        &[
            "d 755 0:0 0 data",
            "d 755 0:0 0 data/var",
            "f 644 1:2 3 data/var/x = 1",
            "l 777 1:2 3 var -> /data/var",
        ],
    );
}

#[test]
fn a_hardlink_reaches_a_file_of_a_lower_layer() {
    let layers = [tar().file("a", b"1").finish(), tar().hardlink("b", "a").hardlink("a", "b").finish()];
    check_apply(&layers, &["f 644 1:2 3 a = 1", "f 644 1:2 3 b = 1"]);
}

#[test]
fn devices_pipes_and_special_modes_are_made() {
    let numbers = |block: &mut [u8; 512]| {
        block[..4].copy_from_slice(b"null");
        block[100..108].copy_from_slice(b"0000666\0");
        block[156] = b'3';
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[329..337].copy_from_slice(b"0000001\0");
        block[337..345].copy_from_slice(b"0000003\0");
        block[124..135].copy_from_slice(b"00000000000");
        block[136..147].copy_from_slice(b"00000000003");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
    };
    let setuid = |block: &mut [u8; 512]| {
        block[..2].copy_from_slice(b"su");
        block[100..108].copy_from_slice(b"0006755\0");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[124..135].copy_from_slice(b"00000000000");
        block[136..147].copy_from_slice(b"00000000003");
        block[108..116].copy_from_slice(b"0000005\0");
        block[116..124].copy_from_slice(b"0000006\0");
    };
    if is_in_a_namespace() {
        return;
    }
    let layer = tar().block(numbers).entry(b'6', "pipe", "", b"").block(setuid).finish();
    check_apply(&[layer], &["c 666 0:0 3 null 0x103", "p 644 1:2 3 pipe", "f 6755 5:6 3 su = "]);
}

#[test]
fn times_owners_and_attributes_come_from_pax() {
    if !is_root() || is_in_a_namespace() {
        return;
    }
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = tar()
        .pax(&[
            ("mtime", b"-1.75"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .file("f", b"x")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("d");
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    apply_flat(&tree, &[layer.finish()]).unwrap();
    let stat = fs::metadata(tree.join("f")).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec(), stat.uid()), (-2, 250_000_000, 3_000_000));
    let root = open_folder(&tree);
    let xattrs = Xattrs::of(root.as_fd(), b"f");
    assert_eq!(xattrs.get(b"security.capability").unwrap(), capability);
    assert_eq!(xattrs.names().unwrap(), [&b"security.capability"[..], b"user.note"]);
    assert_eq!(Xattrs::of(root.as_fd(), b"d").names().unwrap().len(), 0);
}

#[test]
fn a_sparse_file_takes_no_room_for_its_holes() {
    let layer = tar()
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"1073741824"),
            ("GNU.sparse.map", b"536870912,4"),
        ])
        .file("f", b"data");
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let options = ApplyOptions { owners: Owners::Ignore, ..KEEP };
    apply(&layer.finish()[..], open_folder(&tree).as_fd(), &options).unwrap();
    let stat = fs::metadata(tree.join("f")).unwrap();
    assert_eq!(stat.len(), 1 << 30);
    assert!(stat.blocks() * 512 <= 1 << 20, "{} blocks", stat.blocks());
    let mut data = [0u8; 4];
    std::os::unix::fs::FileExt::read_exact_at(&File::open(tree.join("f")).unwrap(), &mut data, 1 << 29)
        .unwrap();
    assert_eq!(&data, b"data");
}

#[test]
fn without_rights_owners_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let layer = tar().dir("d").file("d/f", b"1").finish();
    let options = ApplyOptions { owners: Owners::Ignore, ..KEEP };
    // The folder's mode 0644 forbids its owner to enter; a second layer must get in all the same.
    for _ in 0..2 {
        apply(&layer[..], open_folder(&tree).as_fd(), &options).unwrap();
    }
    let stat = fs::metadata(tree.join("d")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o644, rustix::process::geteuid().as_raw()));
}

#[test]
fn a_path_with_dots_is_refused_by_name() {
    check_refused(
        &[tar().file("../secret", b"x").finish()],
        "tar entry `../secret` is refused: `..` could lead out of the image",
    );
    check_refused(
        &[tar().dir("a").file("a/../../secret", b"x").finish()],
        "tar entry `a/../../secret` is refused: `..` could lead out of the image",
    );
}

#[test]
fn absolute_paths_and_links_stay_inside() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "untouched").unwrap();
    let outside = folder.path().to_str().unwrap();
    let secret = format!("{outside}/secret");
    let layer = tar()
        .symlink("out", outside)
        .file("out/secret", b"x")
        .symlink("over", &secret)
        .file("over", b"x")
        .symlink("dots", "../../../../../..")
        .file(&format!("dots{secret}"), b"x")
        .file(&secret, b"x")
        .symlink("fd", "/proc/self/root")
        .file(&format!("fd{secret}"), b"x");
    apply_flat(&folder.path().join("tree"), &[layer.finish()]).unwrap();
    assert_outside_is_untouched(folder.path());
    let inside = folder.path().join("tree").join(&secret[1..]);
    assert_eq!(fs::read_to_string(inside).unwrap(), "x");
}

/// The entries of one layer put `x` into `etc/passwd` of the root, in the tree and in the view of the tables alike.
fn check_lands_inside(layer: TarBytes) {
    if !is_root() {
        return;
    }
    let bytes = layer.finish();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("etc/passwd"), "untouched").unwrap();
    let tree = folder.path().join("tree");
    apply_flat(&tree, std::slice::from_ref(&bytes)).unwrap();
    assert_eq!(fs::read_to_string(tree.join("etc/passwd")).unwrap(), "x");
    assert_eq!(fs::read_to_string(folder.path().join("etc/passwd")).unwrap(), "untouched");

    let (_store_folder, store) = crate::layer::stored::tests::store();
    let options = ImportOptions { lowest: true, ..ImportOptions::default() };
    let mut import = Import::new(&store, options).unwrap();
    import.append(&bytes).unwrap();
    let root = Root::open(&store, &[import.finish().unwrap().diff_id]).unwrap();
    let found = root.lookup(b"etc/passwd", Follow::No).unwrap().unwrap();
    assert_eq!(io::read_to_string(root.open_file(&store, &found).unwrap()).unwrap(), "x");
}

#[test]
fn an_absolute_name_lands_inside_the_root() {
    check_lands_inside(tar().file("/etc/passwd", b"x"));
    check_lands_inside(tar().pax(&[("path", b"//etc/./passwd")]).file("short", b"x"));
}

#[test]
fn an_entry_below_a_symlink_that_leads_out_lands_inside_the_root() {
    check_lands_inside(tar().symlink("x", "../../etc").file("x/passwd", b"x"));
    check_lands_inside(tar().symlink("x", "/etc").file("x/passwd", b"x"));
    check_lands_inside(tar().symlink("a", "../..").symlink("x", "a/../etc").file("x/passwd", b"x"));
}

#[test]
fn a_hardlink_does_not_lead_out() {
    let missing =
        |link: &str, target: &str| format!("hardlink `{link}` leads to `{target}`, which does not exist");
    check_refused(&[tar().hardlink("h", "/secret").finish()], &missing("h", "secret"));
    check_refused(
        &[tar().symlink("up", "..").hardlink("h", "up/secret").finish()],
        &missing("h", "up/secret"),
    );
    check_refused(&[tar().dir("d").hardlink("h", "d").finish()], &missing("h", "d"));
    check_refused(
        &[tar().hardlink("h", "../secret").finish()],
        "tar entry `../secret` is refused: `..` could lead out of the image",
    );
}

#[test]
fn a_hardlink_to_a_symlink_and_writing_over_it_stays_inside() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "untouched").unwrap();
    let secret = folder.path().join("secret");
    let layer =
        tar().symlink("l", secret.to_str().unwrap()).hardlink("h", "l").file("h", b"x").dir("l").finish();
    apply_flat(&folder.path().join("tree"), &[layer]).unwrap();
    assert_outside_is_untouched(folder.path());
    assert!(folder.path().join("tree/l").is_dir());
}

#[test]
fn a_file_as_a_folder_is_refused() {
    check_refused(
        &[tar().file("a", b"1").file("a/b", b"2").finish()],
        "`a/b` needs a folder at `a`, where something else is",
    );
}

#[test]
fn a_whiteout_device_is_refused() {
    check_refused(
        &[tar().entry(b'3', "d", "", b"").finish()],
        "device `d` has the numbers 0:0, which mean a whiteout to overlayfs",
    );
}

#[test]
fn loops_of_links_end() {
    check_refused(
        &[tar().symlink("a", "b").symlink("b", "a").file("a/x", b"").finish()],
        "cannot unpack `a/x`",
    );
}

#[test]
fn more_entries_than_allowed_are_refused() {
    let many = (0..=1000).fold(tar(), |tar, n| tar.file(&format!("f{n}"), b""));
    check_refused(&[many.finish()], "tar has more than 1000 entries");
}

#[test]
fn a_bomb_of_holes_is_refused() {
    let bomb = tar()
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"9000000000000000000"),
            ("GNU.sparse.map", b"0,4"),
        ])
        .file("f", b"data");
    check_refused(&[bomb.finish()], "tar has more than 1099511627776 bytes in holes of sparse files");
}

#[test]
fn symlinks_make_paths_longer_than_the_kernel_takes() {
    if !is_root() {
        return;
    }
    // Each link stands for the one before and a folder with a long name: 30 links, 6,000 bytes.
    let name = "n".repeat(200);
    let mut layer = tar().dir("n");
    let mut canonical = "n".to_owned();
    for n in 0..30 {
        let target = if n == 0 { "n".to_owned() } else { format!("l{}/{name}", n - 1) };
        let path = format!("l{n}/{name}");
        layer = layer.pax(&[("linkpath", target.as_bytes())]).symlink(&format!("l{n}"), "x");
        layer = layer.pax(&[("path", path.as_bytes())]).dir("x");
        canonical += &format!("/{name}");
    }
    let path = format!("l29/{name}/f");
    let layer = layer.pax(&[("path", path.as_bytes())]).file("x", b"deep").finish();
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    apply_flat(&tree, &[layer]).unwrap();
    let root = open_folder(&tree);
    let file = beneath::open(root.as_fd(), format!("{canonical}/f").as_bytes(), OFlags::RDONLY).unwrap();
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "deep");
    remove_tree(CWD, tree.as_os_str().as_encoded_bytes()).unwrap();
}
