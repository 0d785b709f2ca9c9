use std::os::fd::AsFd;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::layer::beneath::testing::{listing, open_folder};
use crate::layer::import::{Import, ImportOptions};
use crate::layer::stored::tests::store;
use crate::layer::testing::TarBytes;
use crate::layer::{ApplyError, ApplyOptions, Limits, Owners, apply};

/// The view of some layers, and the store that keeps them.
struct View {
    _folder: tempfile::TempDir,
    store: Store,
    root: Root,
}

fn view(layers: impl IntoIterator<Item = TarBytes>) -> View {
    try_view(layers).unwrap()
}

fn try_view(layers: impl IntoIterator<Item = TarBytes>) -> Result<View, LayerError> {
    let (_folder, store) = store();
    let mut diff_ids = Vec::new();
    for tar in layers {
        let mut import = Import::new(&store, ImportOptions::default())?;
        import.append(&tar.finish())?;
        diff_ids.push(import.finish()?.diff_id);
    }
    let root = Root::open(&store, &diff_ids)?;
    Ok(View { _folder, store, root })
}

impl View {
    /// Every path, symlinks with their targets and files with their contents.
    fn tree(&self) -> Vec<String> {
        let top = self.root.lookup(b"/", Follow::Yes).unwrap().unwrap();
        let below = self.root.walk(&top).skip(1);
        below.map(|found| format!("{}{}", text(&found.path), self.describe(&found))).collect()
    }

    fn describe(&self, found: &Resolved<'_>) -> String {
        match &found.entry.kind {
            Kind::Directory => "/".to_owned(),
            Kind::Symlink { target } => format!(" -> {}", text(target)),
            Kind::File { .. } => {
                let mut data = String::new();
                self.root.open_file(&self.store, found).unwrap().read_to_string(&mut data).unwrap();
                format!(" {data}")
            }
            kind => format!(" {kind:?}"),
        }
    }

    fn find(&self, path: &str) -> Option<String> {
        let found = self.root.lookup(path.as_bytes(), Follow::Yes).unwrap();
        found.map(|found| text(&found.path))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn check_tree(layers: impl IntoIterator<Item = TarBytes>, expected: &[&str]) {
    assert_eq!(view(layers).tree(), expected);
}

fn tar() -> TarBytes {
    TarBytes::new()
}

#[test]
fn nothing_is_in_an_empty_root() {
    check_tree([], &[]);
    assert_eq!(view([]).find("/").as_deref(), Some(""));
}

#[test]
fn layers_lie_upon_each_other() {
    check_tree(
        [
            tar().dir("d").file("d/a", b"1").file("d/b", b"2"),
            tar().dir("d").file("d/b", b"3").file("d/c", b"4"),
        ],
        &["d/", "d/a 1", "d/b 3", "d/c 4"],
    );
}

#[test]
fn folders_that_no_layer_mentions_are_there() {
    let view = view([tar().file("a/b/c", b"x")]);
    assert_eq!(view.tree(), ["a/", "a/b/", "a/b/c x"]);
    let found = view.root.lookup(b"a/b", Follow::No).unwrap().unwrap();
    assert_eq!((found.entry.mode, found.entry.uid, found.layer), (0o755, 0, None));
}

#[test]
fn the_uppermost_mention_of_a_folder_counts() {
    let view =
        view([tar().dir("d").file("d/f", b""), tar().pax(&[("uid", b"7")]).dir("d"), tar().file("d/g", b"")]);
    let found = view.root.lookup(b"d", Follow::No).unwrap().unwrap();
    assert_eq!((found.entry.uid, found.layer), (7, Some(1)));
}

#[test]
fn whiteouts_hide_what_is_below_them_alone() {
    let base = || tar().dir("d").file("d/a", b"1").file("d/b", b"2").file("e", b"3");
    check_tree([base(), tar().file("d/.wh.a", b"")], &["d/", "d/b 2", "e 3"]);
    check_tree([base(), tar().file(".wh.d", b"")], &["e 3"]);
    check_tree([base(), tar().file(".wh.d", b"").dir("d").file("d/c", b"4")], &["d/", "d/c 4", "e 3"]);
    check_tree([base(), tar().file("e", b"4").file(".wh.e", b"")], &["d/", "d/a 1", "d/b 2", "e 4"]);
    check_tree([base(), tar().file("none/.wh.x", b"")], &["d/", "d/a 1", "d/b 2", "e 3"]);
}

#[test]
fn an_opaque_folder_keeps_what_its_own_layer_puts_there() {
    let base = || tar().dir("d").file("d/a", b"1").dir("d/s").file("d/s/x", b"2");
    check_tree([base(), tar().dir("d").file("d/.wh..wh..opq", b"").file("d/b", b"3")], &["d/", "d/b 3"]);
    check_tree([base(), tar().file("d/b", b"3").file("d/.wh..wh..opq", b"")], &["d/", "d/b 3"]);
}

#[test]
fn what_changes_its_type_loses_what_was_in_it() {
    let base = || tar().dir("d").file("d/a", b"1");
    check_tree([base(), tar().file("d", b"2")], &["d 2"]);
    check_tree([base(), tar().symlink("d", "x")], &["d -> x"]);
    check_tree([base(), tar().file("d", b"2"), tar().dir("d")], &["d/"]);
    check_tree([tar().symlink("d", "x").dir("x").file("x/a", b"1"), tar().dir("d")], &["d/", "x/", "x/a 1"]);
}

#[test]
fn entries_go_through_symlinks_of_lower_layers() {
    let base = || tar().dir("usr").dir("usr/lib").file("usr/lib/a", b"1").symlink("lib", "usr/lib");
    check_tree(
        [base(), tar().file("lib/b", b"2")],
        &["lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/a 1", "usr/lib/b 2"],
    );
    check_tree([base(), tar().file("lib/.wh.a", b"")], &["lib -> usr/lib", "usr/", "usr/lib/"]);
    check_tree(
        [base(), tar().dir("lib").file("lib/.wh.a", b"")],
        &["lib/", "usr/", "usr/lib/", "usr/lib/a 1"],
    );
    check_tree([tar().symlink("a", "/b"), tar().file("a/c", b"1")], &["a -> /b", "b/", "b/c 1"]);
}

#[test]
fn hard_links_share_what_they_point_to() {
    let view = view([
        tar().file("a", b"1").file("z", b"2"),
        tar().hardlink("d/b", "a").file("y", b"3").hardlink("x", "y"),
    ]);
    assert_eq!(view.tree(), ["a 1", "d/", "d/b 1", "x 3", "y 3", "z 2"]);
    let inode = |path: &[u8]| view.root.lookup(path, Follow::No).unwrap().unwrap().inode;
    assert_eq!(inode(b"a"), inode(b"d/b"));
    assert_ne!(inode(b"a"), inode(b"z"));
    assert_eq!(view.root.lookup(b"d/b", Follow::No).unwrap().unwrap().layer, Some(0));
}

#[test]
fn a_hard_link_survives_what_it_pointed_to() {
    check_tree([tar().file("a", b"1").hardlink("b", "a"), tar().file("a", b"2")], &["a 2", "b 1"]);
    check_tree([tar().file("a", b"1").hardlink("b", "a"), tar().file(".wh.a", b"")], &["b 1"]);
    check_tree([tar().file("a", b"1").hardlink("b", "a").hardlink("c", "b")], &["a 1", "b 1", "c 1"]);
}

#[test]
fn layers_that_cannot_be_unpacked_are_refused() {
    let fails = |layers: Vec<TarBytes>| matches!(try_view(layers), Err(LayerError::Misplaced { .. }));
    let lacks =
        |layers: Vec<TarBytes>| matches!(try_view(layers), Err(LayerError::Tar(TarError::LinkTarget { .. })));
    assert!(lacks(vec![tar().hardlink("a", "none")]));
    assert!(lacks(vec![tar().dir("d").hardlink("a", "d")]));
    assert!(lacks(vec![tar().file("f", b""), tar().file(".wh.f", b""), tar().hardlink("a", "f")]));
    assert!(fails(vec![tar().file("f", b""), tar().file("f/x", b"")]));
    assert!(fails(vec![tar().symlink("l", "l"), tar().file("l/x", b"")]));
}

#[test]
fn paths_are_resolved_as_inside_the_container() {
    let view = view([tar()
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/f", b"x")
        .symlink("lib", "/usr/lib")
        .symlink("up", "../../../../usr")
        .symlink("usr/here", "lib/../../lib/f")
        .symlink("dangling", "nowhere/at/all")
        .symlink("a", "b")
        .symlink("b", "a")]);
    for (path, expected) in [
        ("/", Some("")),
        ("lib/f", Some("usr/lib/f")),
        ("/lib/../lib/./f", Some("usr/lib/f")),
        ("../../lib/f", Some("usr/lib/f")),
        ("up/lib/f", Some("usr/lib/f")),
        ("usr/here", Some("usr/lib/f")),
        ("lib/", Some("usr/lib")),
        ("lib/..", Some("usr")),
        ("dangling", None),
        ("usr/lib/f/x", None),
        ("none/../lib", Some("usr/lib")),
    ] {
        assert_eq!(view.find(path).as_deref(), expected, "{path}");
    }
    let error = view.root.lookup(b"a/x", Follow::Yes).unwrap_err();
    assert_eq!(error.to_string(), "`a/x`: too many levels of symbolic links");
    let link = view.root.lookup(b"lib", Follow::No).unwrap().unwrap();
    assert_eq!(link.path, b"lib");
    let through = view.root.lookup(b"lib/", Follow::No).unwrap().unwrap();
    assert_eq!(through.path, b"usr/lib");
}

#[test]
fn a_destination_keeps_the_names_that_are_not_there() {
    let view =
        view([tar().dir("usr").symlink("bin", "/usr/bin").symlink("data", "new/place").file("f", b"")]);
    for (path, expected) in [
        ("/bin/tool", "usr/bin/tool"),
        ("data/x", "new/place/x"),
        ("a/b/../c/", "a/c"),
        ("../..", ""),
        ("f/x", "f/x"),
    ] {
        assert_eq!(text(&view.root.destination(path.as_bytes()).unwrap()), expected, "{path}");
    }
}

#[test]
fn a_sparse_file_reads_with_its_holes() {
    let view = view([tar()
        .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"2,3,6,1")])
        .file("f", b"abcd")
        .file("g", b"next")]);
    assert_eq!(view.tree(), ["f \0\0abc\0d\0\0\0", "g next"]);
}

#[test]
fn a_damaged_file_fails_at_its_end() {
    let view = view([tar().file("f", b"hello")]);
    let found = view.root.lookup(b"f", Follow::No).unwrap().unwrap();
    let diff_id = view.root.diff_ids().next().unwrap().clone();
    let path = view.store.paths().blob(&diff_id);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[512] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let error =
        io::copy(&mut view.root.open_file(&view.store, &found).unwrap(), &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

/// A line for everything in the view, as [`listing`] gives one for everything in a tree.
fn view_listing(view: &View) -> Vec<String> {
    let top = view.root.lookup(b"", Follow::No).unwrap().unwrap();
    let mut lines: Vec<_> = view
        .root
        .walk(&top)
        .skip(1)
        .map(|found| {
            let entry = found.entry;
            let (sort, mode) = match entry.kind {
                Kind::Directory => ('d', entry.mode),
                Kind::Symlink { .. } => ('l', 0o777),
                _ => ('f', entry.mode),
            };
            let holds = match &entry.kind {
                Kind::Directory => String::new(),
                Kind::File { .. } => format!(" ={}", view.describe(&found)),
                _ => view.describe(&found),
            };
            let (uid, gid, seconds) = (entry.uid, entry.gid, entry.mtime.seconds);
            format!("{sort} {mode:o} {uid}:{gid} {seconds} {}{holds}", text(&found.path))
        })
        .collect();
    lines.sort_by(|a, b| a.split(' ').nth(4).cmp(&b.split(' ').nth(4)));
    lines
}

#[derive(Debug, Clone)]
enum Op {
    Dir(String),
    File(String),
    Symlink(String, String),
    Hardlink(String, String),
    Whiteout(String),
    Opaque(String),
}

fn any_op() -> impl Strategy<Value = Op> {
    let path = || vec("[abc]", 1..4).prop_map(|names| names.join("/"));
    let target = prop_oneof![
        path(),
        path().prop_map(|path| format!("/{path}")),
        path().prop_map(|path| format!("../{path}"))
    ];
    prop_oneof![
        3 => path().prop_map(Op::Dir),
        3 => path().prop_map(Op::File),
        2 => (path(), target).prop_map(|(path, target)| Op::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(path, target)| Op::Hardlink(path, target)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

fn tar_of(ops: &[Op], layer: usize) -> TarBytes {
    ops.iter().enumerate().fold(tar(), |tar, (n, op)| match op {
        Op::Dir(path) => tar.dir(path),
        Op::File(path) => tar.file(path, format!("{layer}.{n}").as_bytes()),
        Op::Symlink(path, target) => tar.symlink(path, target),
        Op::Hardlink(path, target) => tar.hardlink(path, target),
        Op::Whiteout(path) => {
            let (folder, name) =
                path.rsplit_once('/').map_or((String::new(), &path[..]), |(f, n)| (format!("{f}/"), n));
            tar.file(&format!("{folder}.wh.{name}"), b"")
        }
        Op::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
    })
}

fn unpack(layers: &[Vec<Op>]) -> Result<Vec<String>, ApplyError> {
    let folder = tempfile::tempdir().unwrap();
    let root = open_folder(folder.path());
    for (n, ops) in layers.iter().enumerate() {
        let tar = tar_of(ops, n).finish();
        let options = ApplyOptions { owners: Owners::Keep, limits: Limits::default() };
        apply(&tar[..], root.as_fd(), &options)?;
    }
    Ok(listing(root.as_fd()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_view_is_what_unpacking_gives(layers in vec(vec(any_op(), 0..9), 1..4)) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return Ok(());
        }
        match try_view(layers.iter().enumerate().map(|(n, ops)| tar_of(ops, n))) {
            Ok(view) => {
                let unpacked = unpack(&layers).map_err(|error| TestCaseError::fail(format!("{error}: {error:?}")))?;
                prop_assert_eq!(view_listing(&view), unpacked);
            }
            Err(LayerError::Misplaced { .. }) => prop_assert!(unpack(&layers).is_err()),
            Err(LayerError::Tar(_)) => {}
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }
}
