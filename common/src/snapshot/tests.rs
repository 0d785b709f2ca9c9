use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::*;
use crate::layer::beneath::testing::listing;
use crate::layer::stored::{CreateOptions, StoredLayer, create, index, read_tar};
use crate::layer::{Entry, Header, Kind};

mod foreign;
mod processes;
mod views;

/// A store in a folder of its own.
struct World {
    _folder: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        World { _folder: folder, store }
    }

    /// Makes a layer of files and folders (`d/`), owned by 0:0 with the time 1; `path` or `path=text`.
    fn layer(&self, lines: &[&str]) -> Digest {
        let options = CreateOptions::default();
        let layer = create(&self.store, &options, |writer| -> Result<(), LayerError> {
            for line in lines {
                let (path, text) = line.split_once('=').unwrap_or((line, ""));
                let mut header = match path.strip_suffix('/') {
                    Some(path) => Header::new(path, Kind::Directory, 0o755),
                    None => {
                        let size_bytes = text.len() as u64;
                        Header::new(path, Kind::File { size_bytes, content: () }, 0o644)
                    }
                };
                header.mtime.seconds = 1;
                writer.append(&header, Some(&mut text.as_bytes()))?;
            }
            Ok(())
        });
        layer.unwrap().diff_id
    }

    fn snapshots(&self, stacking: Stacking) -> Snapshots {
        Snapshots::with_stacking(&self.store, stacking)
    }

    /// What a container with these layers would see.
    fn merged(&self, stacking: Stacking, diff_ids: &[Digest]) -> Vec<String> {
        let lowers = self.snapshots(stacking).ensure(diff_ids).unwrap().lowers;
        match &lowers[..] {
            [tree] => listing(open_folder(tree).unwrap().as_fd()),
            _ => listing(mount_detached(&Overlay { lowers, upper: None }).unwrap().as_fd()),
        }
    }

    fn forget_trees(&self) {
        let trees = self.store.root().join("snapshots");
        remove_tree(CWD, trees.as_os_str().as_encoded_bytes()).unwrap();
    }
}

/// Whether trees can be mounted and owners be kept here.
fn can_stack() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root");
        return false;
    }
    match World::new().snapshots(Stacking::Overlay).probe() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("skipped: {error}");
            false
        }
    }
}

/// The folder of the process's mount of `overlay`, by which tests reach it with plain paths.
fn mounted(overlay: &Overlay) -> (OwnedFd, PathBuf) {
    use std::os::fd::AsRawFd;
    let root = mount_detached(overlay).unwrap();
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), root.as_raw_fd()));
    (root, path)
}

fn shown(entries: &[Entry]) -> Vec<String> {
    let line = |entry: &Entry| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        match &entry.kind {
            Kind::Directory => format!("{path}/"),
            Kind::Whiteout => format!("-{path}"),
            Kind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::Hardlink { target } => format!("{path} = {}", String::from_utf8_lossy(target)),
            _ => path,
        }
    };
    entries.iter().map(line).collect()
}

/// Commits what `change` does to a tree made of `base`, both ways of stacking, and checks the entries of the layer;
/// then that the tree says the same as the layer: unpacked anew, and asked again.
#[track_caller]
fn check_commit(base: &[&[&str]], options: &CommitOptions, change: impl Fn(&Path), expected: &[&str]) {
    if !can_stack() {
        return;
    }
    let mut layers = Vec::new();
    for stacking in [Stacking::Overlay, Stacking::Whole] {
        let world = World::new();
        let mut diff_ids: Vec<Digest> = base.iter().map(|lines| world.layer(lines)).collect();
        let snapshots = world.snapshots(stacking);
        let draft = snapshots.prepare(&diff_ids).unwrap();
        let (root, path) = mounted(&draft.overlay());
        change(&path);
        drop(root);
        let layer = draft.commit(options).unwrap();
        let found = index(&world.store, &layer.diff_id).unwrap();
        assert_eq!(shown(found.entries()), expected, "{stacking:?}");

        let below = diff_ids.clone();
        diff_ids.push(layer.diff_id.clone());
        let committed = world.merged(stacking, &diff_ids);
        assert_eq!(snapshots.check(2).unwrap().faults, []);
        check_asked_again(&world, stacking, &below, &layer, options);
        world.forget_trees();
        assert_eq!(world.merged(stacking, &diff_ids), committed, "{stacking:?}: unpacked anew");
        layers.push((layer, committed));
    }
    assert_eq!(layers[0], layers[1], "stacked and whole differ");
}

/// The tree of a layer gives the layer again.
fn check_asked_again(
    world: &World,
    stacking: Stacking,
    below: &[Digest],
    layer: &StoredLayer,
    options: &CommitOptions,
) {
    let snapshots = world.snapshots(stacking);
    let stack: Vec<Digest> = below.iter().chain([&layer.diff_id]).cloned().collect();
    let tree = snapshots.place(&stack).tree();
    let draft = snapshots.prepare(below).unwrap();
    let work = draft.overlay().upper.unwrap().tree;
    fs::remove_dir_all(&work).unwrap();
    assert!(Command::new("cp").arg("-a").args([&tree, &work]).status().unwrap().success());
    assert_eq!(draft.commit(options).unwrap(), *layer, "{stacking:?}: asked again");
}

/// Nothing is younger than the second 2, so that layers do not depend on the clock.
fn plain() -> CommitOptions {
    CommitOptions { clamp: Some(2), ..CommitOptions::default() }
}

#[test]
fn a_new_file_brings_its_folders() {
    check_commit(
        &[&["etc/", "etc/a=1", "usr/"]],
        &plain(),
        |root| {
            fs::write(root.join("etc/b"), "2").unwrap();
            fs::create_dir_all(root.join("usr/share/x")).unwrap();
        },
        &["etc/", "etc/b", "usr/", "usr/share/", "usr/share/x/"],
    );
}

#[test]
fn nothing_changed_is_a_layer_without_entries() {
    check_commit(
        &[&["d/", "d/a=1"]],
        &plain(),
        |root| {
            let file = root.join("d/a");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(root.join("d/temporary"), "").unwrap();
            fs::remove_file(root.join("d/temporary")).unwrap();
        },
        &[],
    );
}

#[test]
fn the_same_content_at_another_time_is_a_change_and_a_mode_is_one() {
    check_commit(
        &[&["a=1", "b=1", "c=1", "d/"]],
        &plain(),
        |root| {
            fs::write(root.join("a"), "1").unwrap();
            fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o4755)).unwrap();
            if Ids::current().owners == crate::layer::Owners::Keep {
                std::os::unix::fs::chown(root.join("d"), Some(5), Some(6)).unwrap();
            } else {
                fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
            }
        },
        &["a", "b", "d/"],
    );
}

#[test]
fn what_is_gone_is_a_whiteout() {
    check_commit(
        &[&["d/", "d/a=1", "d/s/", "d/s/x=1"], &["d/", "d/b=1"]],
        &plain(),
        |root| {
            fs::remove_file(root.join("d/b")).unwrap();
            fs::remove_dir_all(root.join("d/s")).unwrap();
            fs::write(root.join("gone-at-once"), "").unwrap();
            fs::remove_file(root.join("gone-at-once")).unwrap();
        },
        &["d/", "-d/b", "-d/s"],
    );
}

#[test]
fn a_folder_made_again_has_whiteouts_of_what_it_had() {
    check_commit(
        &[&["d/", "d/a=1", "d/s/", "d/s/x=1", "d/s/y=1", "d/t/", "d/t/x=1"]],
        &plain(),
        |root| {
            fs::remove_dir_all(root.join("d")).unwrap();
            fs::create_dir_all(root.join("d/s")).unwrap();
            fs::write(root.join("d/s/y"), "2").unwrap();
        },
        &["d/", "-d/a", "d/s/", "-d/s/x", "d/s/y", "-d/t"],
    );
}

#[test]
fn what_comes_back_the_same_in_a_folder_made_again_is_no_change() {
    check_commit(
        &[&["d/", "d/a=1", "d/b=1", "d/s/", "d/s/x=1"]],
        &plain(),
        |root| {
            let copy = root.join("copy");
            let run = |args: &[&str]| assert!(Command::new("cp").args(args).status().unwrap().success());
            let d = root.join("d");
            run(&["-a", d.to_str().unwrap(), copy.to_str().unwrap()]);
            fs::remove_dir_all(&d).unwrap();
            fs::remove_file(copy.join("b")).unwrap();
            run(&["-a", copy.to_str().unwrap(), d.to_str().unwrap()]);
            fs::remove_dir_all(&copy).unwrap();
        },
        &["d/", "-d/b"],
    );
}

#[test]
fn types_change() {
    check_commit(
        &[&["dir/", "dir/x=1", "file=1", "other=1"]],
        &plain(),
        |root| {
            fs::remove_dir_all(root.join("dir")).unwrap();
            fs::write(root.join("dir"), "now a file").unwrap();
            fs::remove_file(root.join("file")).unwrap();
            fs::create_dir(root.join("file")).unwrap();
            fs::write(root.join("file/in"), "").unwrap();
            fs::remove_file(root.join("other")).unwrap();
            symlink("dir", root.join("other")).unwrap();
        },
        &["dir", "file/", "file/in", "other -> dir"],
    );
}

#[test]
fn all_names_of_a_changed_file_are_in_the_layer() {
    check_commit(
        &[&["a=1", "d/", "d/z=9"]],
        &plain(),
        |root| {
            fs::hard_link(root.join("a"), root.join("d/b")).unwrap();
            fs::write(root.join("d/x"), "new").unwrap();
            fs::hard_link(root.join("d/x"), root.join("y")).unwrap();
        },
        &["a", "d/", "d/b = a", "d/x", "y = d/x"],
    );
}

#[test]
fn sockets_are_left_out_and_pipes_are_not() {
    check_commit(
        &[&["run/"]],
        &plain(),
        |root| {
            UnixListener::bind(root.join("run/socket")).unwrap();
            rustix::fs::mknodat(CWD, root.join("run/pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
                .unwrap();
        },
        &["run/", "run/pipe"],
    );
}

#[test]
fn places_for_mounts_are_no_change() {
    let exclude = ["dev", "etc/resolv.conf", "cache", "cache/deep"].map(|path| path.as_bytes().to_vec());
    check_commit(
        &[&["etc/", "etc/a=1"]],
        &CommitOptions { exclude: BTreeSet::from(exclude), ..plain() },
        |root| {
            for folder in ["dev", "cache", "cache/deep"] {
                fs::create_dir(root.join(folder)).unwrap();
            }
            fs::write(root.join("etc/resolv.conf"), "").unwrap();
            fs::write(root.join("cache/real"), "").unwrap();
        },
        &["cache/", "cache/real"],
    );
}

#[test]
fn times_are_whole_seconds_and_clamped_in_layer_and_tree() {
    let options = CommitOptions { clamp: Some(1_000_000_000), ..plain() };
    let change = |root: &Path| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/new"), "").unwrap();
        fs::write(root.join("d/old"), "").unwrap();
        let old = fs::File::options().write(true).open(root.join("d/old")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(5500)).unwrap();
    };
    check_commit(&[&["a=1"]], &options, change, &["d/", "d/new", "d/old"]);
    if !can_stack() {
        return;
    }
    let world = World::new();
    let base = world.layer(&["a=1"]);
    let draft = world.snapshots(Stacking::Overlay).prepare(std::slice::from_ref(&base)).unwrap();
    let (root, path) = mounted(&draft.overlay());
    change(&path);
    drop(root);
    let layer = draft.commit(&options).unwrap();
    let tree = &world.snapshots(Stacking::Overlay).ensure(&[base, layer.diff_id]).unwrap().lowers[0];
    let time = |name: &str| {
        let stat = fs::symlink_metadata(tree.join(name)).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    };
    assert_eq!([time("d"), time("d/new"), time("d/old")], [(1_000_000_000, 0), (1_000_000_000, 0), (5, 0)]);
}

#[test]
fn capabilities_are_kept_and_other_attributes_by_option() {
    let change = |root: &Path| {
        fs::write(root.join("f"), "x").unwrap();
        let set = |name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(root.join("f"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
        };
        set("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        set("user.note", b"n");
        set("user.overlay.opaque", b"y");
    };
    if !can_stack() {
        return;
    }
    for (xattrs, expected) in [
        (crate::layer::XattrChoice::Capabilities, &["security.capability"][..]),
        (crate::layer::XattrChoice::All, &["security.capability", "user.note"]),
    ] {
        let world = World::new();
        let draft = world.snapshots(Stacking::Overlay).prepare(&[]).unwrap();
        let (root, path) = mounted(&draft.overlay());
        change(&path);
        drop(root);
        let layer = draft.commit(&CommitOptions { xattrs, ..plain() }).unwrap();
        let found = index(&world.store, &layer.diff_id).unwrap();
        let names: Vec<_> =
            found.entries()[0].xattrs.keys().map(|name| str::from_utf8(name).unwrap()).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn paths_longer_than_any_other_program_takes_are_refused_and_removed() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let draft = world.snapshots(Stacking::Overlay).prepare(&[]).unwrap();
    let mut folder = open_folder(&draft.overlay().upper.unwrap().tree).unwrap();
    let name = "n".repeat(255);
    for _ in 0..40 {
        rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = openat(&folder, &name, OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let error = draft.commit(&plain()).unwrap_err();
    assert_eq!(error.to_string(), format!("a path in `{}` has more than 4095 bytes", "n".repeat(200)));
    assert_eq!(fs::read_dir(world.store.paths().ingest()).unwrap().count(), 0);
}

#[test]
fn a_redirect_in_the_upper_folder_is_an_error() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let draft = world.snapshots(Stacking::Overlay).prepare(&[]).unwrap();
    let upper = draft.overlay().upper.unwrap().tree;
    fs::create_dir(upper.join("d")).unwrap();
    let xattr = format!("{}redirect", ids::overlay_notes());
    rustix::fs::setxattr(upper.join("d"), &xattr, b"/etc", rustix::fs::XattrFlags::empty()).unwrap();
    let error = draft.commit(&plain()).unwrap_err();
    assert_eq!(error.to_string(), format!("`d` has no content of its own (`{xattr}`)"));
}

#[test]
fn notes_of_overlayfs_that_a_step_makes_up_mean_nothing() {
    if !can_stack() || ids::in_user_namespace() {
        return;
    }
    let note = |root: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join("d"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    check_commit(
        &[&["d/", "d/a=1"]],
        &plain(),
        |root| {
            fs::write(root.join("d/new"), "").unwrap();
            note(root, "user.overlay.opaque", b"y");
            note(root, "user.overlay.redirect", b"/etc");
        },
        &["d/", "d/new"],
    );
}

#[test]
fn holes_stay_holes_and_the_layer_has_zeros() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let draft = world.snapshots(Stacking::Overlay).prepare(&[]).unwrap();
    let (root, path) = mounted(&draft.overlay());
    fs::File::create(path.join("hole")).unwrap().set_len(16 << 20).unwrap();
    drop(root);
    let layer = draft.commit(&plain()).unwrap();
    assert!(layer.size_bytes > 16 << 20);
    let tree = &world.snapshots(Stacking::Overlay).ensure(&[layer.diff_id]).unwrap().lowers[0];
    assert!(fs::metadata(tree.join("hole")).unwrap().blocks() < 100);
}

#[test]
fn a_layer_that_is_not_what_its_name_says_makes_no_tree() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let diff_id = world.layer(&["a=1", "b=2"]);
    let tar = world.store.paths().layer_tar(&diff_id);
    let mut bytes = fs::read(&tar).unwrap();
    bytes[512] = b'X';
    fs::write(&tar, bytes).unwrap();
    let error = world.snapshots(Stacking::Overlay).ensure(std::slice::from_ref(&diff_id)).unwrap_err();
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = source {
        text += &format!("{error}\n");
        source = error.source();
    }
    assert!(text.contains("layer does not match its diff ID"), "{text}");
    let place = world.snapshots(Stacking::Overlay).place(&[diff_id]);
    assert!(!place.tree().exists());
    assert_eq!(fs::read_dir(world.store.paths().ingest()).unwrap().count(), 0);
}

#[test]
fn a_tree_of_another_boot_is_not_believed_and_a_durable_one_is() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let diff_ids = [world.layer(&["a=1"])];
    let snapshots = world.snapshots(Stacking::Overlay);
    let tree = snapshots.ensure(&diff_ids).unwrap().lowers.remove(0);
    let place = Place::of(&tree).unwrap();
    fs::write(tree.join("half"), "").unwrap();
    fs::write(place.made(), "another boot").unwrap();
    snapshots.ensure(&diff_ids).unwrap();
    assert!(!tree.join("half").exists() && tree.join("a").exists());
    assert_eq!(fs::read_to_string(place.made()).unwrap(), boot_id().unwrap());

    let long_ago = std::time::SystemTime::now() - 2 * WORTH_SYNCING;
    fs::File::options().write(true).open(place.made()).unwrap().set_modified(long_ago).unwrap();
    snapshots.ensure(&diff_ids).unwrap();
    assert_eq!(fs::read_to_string(place.made()).unwrap(), DURABLE);
    assert!(place.is_made().unwrap());

    // A tree above gets the mark in its turn, and this one is left alone.
    let inode = fs::metadata(place.made()).unwrap().ino();
    let stack = [diff_ids[0].clone(), world.layer(&["b=2"])];
    let above = Place::of(&snapshots.ensure(&stack).unwrap().lowers[0]).unwrap();
    fs::File::options().write(true).open(above.made()).unwrap().set_modified(long_ago).unwrap();
    snapshots.ensure(&stack).unwrap();
    assert_eq!(fs::read_to_string(above.made()).unwrap(), DURABLE);
    assert_eq!(fs::metadata(place.made()).unwrap().ino(), inode);
}

#[test]
fn what_is_changed_in_a_tree_is_found() {
    if !can_stack() {
        return;
    }
    for stacking in [Stacking::Overlay, Stacking::Whole] {
        let world = World::new();
        let layers = [world.layer(&["d/", "d/a=1", "d/b=1"]), world.layer(&["d/", "d/a=22", "e=1"])];
        let snapshots = world.snapshots(stacking);
        let tree = snapshots.ensure(&layers).unwrap().lowers.remove(0);
        let mut config = crate::oci::ImageConfig::default();
        config.rootfs.diff_ids = layers.to_vec();
        let id = world.store.put(&serde_json::to_vec(&config).unwrap()).unwrap();
        world.store.put_image(&crate::store::ImageRecord::new(id, 0)).unwrap();
        let report = snapshots.check(2).unwrap();
        let trees = if stacking == Stacking::Overlay { 2 } else { 1 };
        assert_eq!((report.trees, report.unknown, report.faults), (trees, 0, vec![]));
        let found = |path: &str, change: &dyn Fn(&Path)| {
            let path = tree.join(path);
            let kept = tree.with_file_name("kept");
            assert!(Command::new("cp").arg("-a").args([&tree, &kept]).status().unwrap().success());
            change(&path);
            let faults = snapshots.check(2).unwrap().faults;
            remove_tree(CWD, tree.as_os_str().as_encoded_bytes()).unwrap();
            fs::rename(&kept, &tree).unwrap();
            faults
                .iter()
                .map(|fault| format!("{} {}", String::from_utf8_lossy(&fault.path), fault.fault))
                .collect::<Vec<_>>()
        };
        let write = |text: &'static str| move |path: &Path| fs::write(path, text).unwrap();
        assert_eq!(found("d/a", &write("23")), ["d/a has other bytes"]);
        assert_eq!(found("d/a", &write("1")), ["d/a has another size"]);
        assert_eq!(found("new", &write("1")), ["new is in none of its layers"]);
        assert_eq!(found("e", &|path| fs::remove_file(path).unwrap()), ["e is missing"]);
        let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(found("d/a", &mode), ["d/a has another mode"]);
        assert_eq!(
            found("d", &|path| std::os::unix::fs::chown(path, Some(7), None).unwrap()),
            ["d has another owner"]
        );
        let link = |path: &Path| {
            fs::remove_file(path).unwrap();
            symlink("d/a", path).unwrap();
        };
        assert_eq!(found("e", &link), ["e is of another kind"]);
        assert_eq!(snapshots.check(1).unwrap().faults, []);

        fs::remove_dir_all(world.store.paths().layer(&layers[1])).unwrap();
        let report = snapshots.check(2).unwrap();
        assert_eq!((report.trees, report.unknown), (trees - 1, 1));
    }
}

#[test]
fn layers_without_files_and_stacks_without_layers_work() {
    if !can_stack() {
        return;
    }
    for stacking in [Stacking::Overlay, Stacking::Whole] {
        let world = World::new();
        let snapshots = world.snapshots(stacking);
        assert_eq!(snapshots.ensure(&[]).unwrap().lowers, Vec::<PathBuf>::new());
        let empty = snapshots.prepare(&[]).unwrap().commit(&plain()).unwrap();
        let twice = [empty.diff_id.clone(), empty.diff_id.clone()];
        assert_eq!(world.merged(stacking, &twice), Vec::<String>::new());
        let root = fs::metadata(&snapshots.ensure(&twice).unwrap().lowers[0]).unwrap();
        assert_eq!((root.mode() & 0o7777, root.mtime()), (0o755, 0));
    }
}

#[test]
fn what_a_tar_of_ours_becomes_gives_the_same_tar() {
    if !can_stack() {
        return;
    }
    let world = World::new();
    let lines = ["a=1", "d/", "d/b=2", "d/e/", "z=3"];
    let diff_id = world.layer(&lines);
    let snapshots = world.snapshots(Stacking::Overlay);
    let tree = snapshots.ensure(std::slice::from_ref(&diff_id)).unwrap().lowers.remove(0);
    let draft = snapshots.prepare(&[]).unwrap();
    let upper = draft.overlay().upper.unwrap().tree;
    fs::remove_dir(&upper).unwrap();
    assert!(Command::new("cp").arg("-a").args([&tree, &upper]).status().unwrap().success());
    assert_eq!(draft.commit(&plain()).unwrap().diff_id, diff_id);
    let mut tar = Vec::new();
    io::Read::read_to_end(&mut read_tar(&world.store, &diff_id).unwrap(), &mut tar).unwrap();
    assert_eq!(Digest::sha256(&tar), diff_id);
}
