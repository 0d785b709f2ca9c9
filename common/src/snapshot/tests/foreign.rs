//! Other programs unpack the same layers to the same trees.

use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, XattrFlags, lsetxattr, makedev, mknodat};
use serde_json::json;

use super::*;
use crate::layer::testing::TarBytes;
use crate::layer::{
    DiffOptions, Import, ImportOptions, LayerWriter, TreeKind, WriterOptions, XattrChoice, diff,
};

/// Whether any owner and device can be made here.
fn can_do_all() -> bool {
    let namespace = ids::in_user_namespace();
    if namespace {
        eprintln!("skipped: in a user namespace");
    }
    !namespace && can_stack()
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The digest of all that our writer would say of a tree, which is everything but parts of seconds.
fn digest_of_tree(root: &Path) -> Digest {
    let options = DiffOptions {
        tree: TreeKind::Whole,
        owners: Ids::current().owners,
        clamp: None,
        xattrs: XattrChoice::All,
        exclude: BTreeSet::new(),
    };
    let hashing = crate::digest::Hashing::new(crate::digest::Algorithm::Sha256, io::sink());
    let mut writer = LayerWriter::new(hashing, WriterOptions::default());
    let below = crate::layer::root::Root::empty();
    diff(open_folder(root).unwrap().as_fd(), &below, &options, &mut writer).unwrap();
    writer.finish().unwrap().0.finish().1
}

#[track_caller]
fn assert_same_trees(ours: &Path, theirs: &Path) {
    let listing = |root: &Path| listing(open_folder(root).unwrap().as_fd());
    assert_eq!(listing(ours), listing(theirs));
    assert_eq!(digest_of_tree(ours), digest_of_tree(theirs));
}

/// Everything that a tree can have and a tar can tell.
fn make_tricky_tree(root: &Path) {
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let long = "n".repeat(255);
    for folder in ["d", "d/empty", "d/sticky", "locked", &long] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let deep = (0..30).fold(root.join("deep"), |path, _| path.join("e".repeat(100)));
    fs::create_dir_all(&deep).unwrap();
    write("d/file", "text");
    write("d/empty-file", "");
    write("setuid", "program");
    write("unreadable", "secret");
    write("locked/inside", "x");
    write(&format!("{long}/{long}"), "long");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe")), "x").unwrap();
    fs::hard_link(root.join("d/file"), root.join("another-name")).unwrap();
    symlink("/absolute/../target", root.join("link")).unwrap();
    symlink("t".repeat(4000), root.join("long-link")).unwrap();
    std::os::unix::fs::chown(root.join("setuid"), Some(70_000), Some(3_000_000)).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(5), Some(6)).unwrap();
    mode("setuid", 0o6755);
    mode("unreadable", 0);
    mode("locked", 0);
    mode("d/sticky", 0o1777);
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
    mknodat(CWD, root.join("disk"), FileType::BlockDevice, Mode::RUSR, makedev(259, 70_000)).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 5 << 20).unwrap();
    sparse.set_len(12 << 20).unwrap();
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    lsetxattr(root.join("setuid"), "security.capability", capability, XattrFlags::empty()).unwrap();
    lsetxattr(root.join("d"), "user.note", b"\0binary\n=", XattrFlags::empty()).unwrap();
    for (path, seconds) in [("d/file", 1), ("d", 1_000_000_000), ("setuid", 5_000_000_000)] {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(root.join(path)).unwrap().set_modified(time).unwrap();
    }
}

fn import(world: &World, tar: &[u8]) -> Digest {
    let mut import = Import::new(&world.store, ImportOptions::default()).unwrap();
    import.append(tar).unwrap();
    import.finish().unwrap().diff_id
}

#[track_caller]
fn check_tar(arguments: &[&str]) {
    if !can_do_all() || !has("tar") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [original, theirs, file] = ["original", "theirs", "file"].map(|name| folder.path().join(name));
    for tree in [&original, &theirs] {
        fs::create_dir(tree).unwrap();
    }
    make_tricky_tree(&original);
    let tar = || {
        let mut tar = Command::new("tar");
        tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner"]);
        tar
    };
    run(tar().args(arguments).arg("-cf").arg(&file).arg("-C").arg(&original).arg("."));
    run(tar().arg("-xpf").arg(&file).arg("-C").arg(&theirs));

    let world = World::new();
    let diff_id = import(&world, &fs::read(&file).unwrap());
    for stacking in [Stacking::Overlay, Stacking::Whole] {
        let snapshots = world.snapshots(stacking);
        let ours = snapshots.ensure(std::slice::from_ref(&diff_id)).unwrap().lowers.remove(0);
        assert_same_trees(&ours, &original);
        assert_same_trees(&ours, &theirs);
        assert!(
            fs::metadata(ours.join("sparse")).unwrap().blocks() < 200 || !arguments.contains(&"--sparse")
        );
    }
}

#[test]
fn pax_archives_of_gnu_tar_unpack_to_the_same_tree() {
    check_tar(&["--format=posix"]);
}

#[test]
fn sparse_pax_archives_of_gnu_tar_unpack_to_the_same_tree() {
    check_tar(&["--format=posix", "--sparse"]);
    check_tar(&["--format=posix", "--sparse", "--sparse-version=0.0"]);
    check_tar(&["--format=posix", "--sparse", "--sparse-version=0.1"]);
}

#[test]
fn our_own_layer_of_a_tricky_tree_gives_the_tree_and_the_same_bytes_again() {
    if !can_do_all() || !has("tar") {
        return;
    }
    let world = World::new();
    let snapshots = world.snapshots(Stacking::Overlay);
    let commit = CommitOptions { xattrs: XattrChoice::All, ..CommitOptions::default() };
    let draft = snapshots.prepare(&[]).unwrap();
    let upper = draft.overlay().upper.unwrap().tree;
    make_tricky_tree(&upper);
    let layer = draft.commit(&commit).unwrap();
    let committed = snapshots.ensure(std::slice::from_ref(&layer.diff_id)).unwrap().lowers.remove(0);
    let kept = committed.with_file_name("kept");
    fs::rename(&committed, &kept).unwrap();
    let unpacked = snapshots.ensure(std::slice::from_ref(&layer.diff_id)).unwrap().lowers.remove(0);
    assert_same_trees(&unpacked, &kept);
    assert_eq!(digest_of_tree(&unpacked), layer.diff_id);

    let theirs = tempfile::tempdir().unwrap();
    fs::set_permissions(theirs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tar = world.store.paths().layer_tar(&layer.diff_id);
    run(Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(tar)
        .arg("-C")
        .arg(theirs.path()));
    assert_same_trees(&unpacked, theirs.path());
}

/// An OCI layout of one image with these layers.
fn write_layout(at: &Path, layers: &[Vec<u8>]) {
    fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        fs::write(at.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    };
    let tars: Vec<_> =
        layers.iter().map(|layer| put("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::sha256(layer).to_string()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": tars});
    let mut manifest = put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "image"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(at.join("index.json"), index.to_string()).unwrap();
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn umoci_stacks_layers_to_the_same_tree() {
    if !can_do_all() || !has("umoci") {
        return;
    }
    let tar = TarBytes::new;
    let layers = [
        tar()
            .dir("./")
            .dir("usr")
            .dir("usr/lib")
            .file("usr/lib/old", b"1")
            .symlink("lib", "/usr/lib")
            .dir("opaque")
            .file("opaque/a", b"1")
            .dir("opaque/s")
            .file("opaque/s/b", b"1")
            .file("hard", b"1")
            .dir("becomes-file")
            .file("becomes-file/x", b"1")
            .file("becomes-dir", b"1")
            .finish(),
        tar()
            .file("lib/through-a-link", b"2")
            .file("usr/lib/.wh.old", b"")
            .dir("opaque")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/c", b"2")
            .hardlink("hard2", "hard")
            .file("becomes-file", b"2")
            .dir("becomes-dir")
            .file("becomes-dir/y", b"2")
            .finish(),
        tar().file(".wh.hard", b"").file(".wh.becomes-dir", b"").dir("last").finish(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let [layout, bundle] = ["layout", "bundle"].map(|name| folder.path().join(name));
    write_layout(&layout, &layers);
    run(Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:image", layout.display()))
        .arg(&bundle));

    let world = World::new();
    let diff_ids: Vec<_> = layers.iter().map(|layer| import(&world, layer)).collect();
    let whole = world.snapshots(Stacking::Whole).ensure(&diff_ids).unwrap().lowers.remove(0);
    assert_same_trees(&whole, &bundle.join("rootfs"));
    let theirs = listing(open_folder(&bundle.join("rootfs")).unwrap().as_fd());
    assert_eq!(world.merged(Stacking::Overlay, &diff_ids), theirs);
}

#[test]
fn a_file_that_is_written_by_two_paths_in_turn_is_in_the_table_as_in_the_tree() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let tar =
        TarBytes::new().dir("d").file("d/a", b"1").symlink("s", "d").file("s/a", b"2").file("d/a", b"3");
    let layer = import(&world, &tar.finish());
    let snapshots = world.snapshots(Stacking::Overlay);
    snapshots.ensure(&[layer]).unwrap();
    let report = snapshots.check(1).unwrap();
    assert_eq!((report.trees, report.faults), (1, Vec::new()));
}
