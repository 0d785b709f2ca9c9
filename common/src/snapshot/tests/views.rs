//! Three ways to look at a stack of layers show the same files: unpacked one upon the other, stacked by overlayfs, and
//! merged from the layers' tables.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::layer::root::{Follow, Root};
use crate::layer::testing::TarBytes;
use crate::layer::{Import, ImportOptions};

#[derive(Debug, Clone)]
enum Piece {
    Folder(String),
    File(String),
    Symlink(String, String),
    Hardlink(String, String),
    Whiteout(String),
    Opaque(String),
}

impl Piece {
    /// Where it stands in a tar that is in order: the markers of a folder come before what is in it.
    fn rank(&self) -> (Vec<&str>, u8) {
        let (path, rank) = match self {
            Piece::Whiteout(path) => (path, 0),
            Piece::Opaque(path) => (path, 1),
            Piece::Folder(path) | Piece::File(path) | Piece::Symlink(path, _) | Piece::Hardlink(path, _) => {
                (path, 2)
            }
        };
        (path.split('/').collect(), rank)
    }

    fn add_to(&self, tar: TarBytes) -> TarBytes {
        let split = |path: &str| match path.rsplit_once('/') {
            Some((folder, name)) => (format!("{folder}/"), name.to_owned()),
            None => (String::new(), path.to_owned()),
        };
        match self {
            Piece::Folder(path) => tar.dir(path),
            Piece::File(path) => tar.file(path, path.as_bytes()),
            Piece::Symlink(path, target) => tar.symlink(path, target),
            Piece::Hardlink(path, target) => tar.hardlink(path, target),
            Piece::Whiteout(path) => {
                let (folder, name) = split(path);
                tar.file(&format!("{folder}.wh.{name}"), b"")
            }
            Piece::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
        }
    }
}

fn any_path() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..4).prop_map(|names| names.join("/"))
}

fn any_piece() -> impl Strategy<Value = Piece> {
    let target =
        prop_oneof![any_path(), any_path().prop_map(|path| format!("/{path}")), Just("..".to_owned())];
    prop_oneof![
        3 => any_path().prop_map(Piece::Folder),
        4 => any_path().prop_map(Piece::File),
        1 => (any_path(), target).prop_map(|(path, target)| Piece::Symlink(path, target)),
        1 => (any_path(), any_path()).prop_map(|(path, target)| Piece::Hardlink(path, target)),
        2 => any_path().prop_map(Piece::Whiteout),
        1 => any_path().prop_map(Piece::Opaque),
    ]
}

/// A layer as a tar in order has it: a path stands for one thing.
fn any_layer() -> impl Strategy<Value = Vec<Piece>> {
    vec(any_piece(), 1..8).prop_map(|mut pieces| {
        pieces.sort_by(|a, b| a.rank().cmp(&b.rank()));
        pieces.dedup_by(|a, b| a.rank() == b.rank());
        // What a hard link replaces cannot be what it leads to, or be around it.
        pieces.retain(
            |piece| !matches!(piece, Piece::Hardlink(path, target) if format!("{target}/").starts_with(&format!("{path}/"))),
        );
        pieces
    })
}

/// What the layers' tables show, in the words of a listing without owners and times.
fn table_listing(root: &Root) -> Vec<String> {
    let top = root.lookup(b"", Follow::No).unwrap().unwrap();
    let line = |found: crate::layer::root::Resolved<'_>| {
        let path = String::from_utf8(found.path).unwrap();
        match &found.entry.kind {
            Kind::Directory => format!("d {:o} {path}", found.entry.mode),
            Kind::File { size_bytes, .. } => format!("f {size_bytes} {path}"),
            Kind::Symlink { target } => format!("l {path} -> {}", str::from_utf8(target).unwrap()),
            kind => panic!("{kind:?}"),
        }
    };
    let mut lines: Vec<String> = root.walk(&top).skip(1).map(line).collect();
    lines.sort();
    lines
}

/// The same words for a listing of a tree.
fn short(lines: &[String]) -> Vec<String> {
    let line = |line: &String| {
        let mut words = line.splitn(5, ' ');
        let (kind, mode) = (words.next().unwrap(), words.next().unwrap());
        let rest = words.nth(2).unwrap();
        match kind {
            "d" => format!("d {mode} {rest}"),
            "f" => {
                let (path, text) = rest.split_once(" = ").unwrap();
                format!("f {} {path}", text.len())
            }
            _ => format!("l {rest}"),
        }
    };
    let mut short: Vec<String> = lines.iter().map(line).collect();
    short.sort();
    short
}

/// `None` when the layer alone is refused.
fn import(world: &World, pieces: &[Piece]) -> Option<Digest> {
    let tar = pieces.iter().fold(TarBytes::new(), |tar, piece| piece.add_to(tar)).finish();
    let mut import = Import::new(&world.store, ImportOptions::default()).unwrap();
    import.append(&tar).ok()?;
    Some(import.finish().ok()?.diff_id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_views_of_a_stack_agree(layers in vec(any_layer(), 1..4)) {
        if !can_stack() {
            return Ok(());
        }
        let world = World::new();
        let diff_ids: Vec<Digest> = layers.iter().filter_map(|pieces| import(&world, pieces)).collect();
        prop_assume!(!diff_ids.is_empty());
        let whole = world.snapshots(Stacking::Whole).ensure(&diff_ids);
        let stacked = world.snapshots(Stacking::Overlay).ensure(&diff_ids);
        let table = Root::open(&world.store, &diff_ids);
        prop_assert_eq!(whole.is_ok(), stacked.is_ok(), "whole {:?}, stacked {:?}", whole, stacked);
        prop_assert_eq!(whole.is_ok(), table.is_ok(), "whole {:?}, table {:?}", whole, table.err());
        if let Ok(table) = table {
            let whole = world.merged(Stacking::Whole, &diff_ids);
            prop_assert_eq!(&world.merged(Stacking::Overlay, &diff_ids), &whole);
            prop_assert_eq!(table_listing(&table), short(&whole));
            prop_assert_eq!(world.snapshots(Stacking::Overlay).check(1).unwrap().faults, vec![]);
        }
    }
}
