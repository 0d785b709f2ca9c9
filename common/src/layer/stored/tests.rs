use std::os::unix::fs::FileExt;

use super::*;
use crate::layer::index::{Header, Kind};

/// A store in a folder that goes when it is dropped.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

/// Makes a layer of files at the top, given in order.
pub(crate) fn create_files(store: &Store, options: &CreateOptions, files: &[(&str, &[u8])]) -> StoredLayer {
    create(store, options, |writer| {
        for (path, data) in files {
            let kind = Kind::File { size_bytes: data.len() as u64, content: () };
            writer.append(&Header::new(*path, kind, 0o644), Some(&mut &data[..]))?;
        }
        Ok::<_, LayerError>(())
    })
    .unwrap()
}

fn leftovers(store: &Store) -> usize {
    fs::read_dir(store.paths().ingest()).unwrap().count()
}

#[test]
fn a_layer_that_was_made_can_be_read() {
    let (_folder, store) = store();
    let layer = create_files(&store, &CreateOptions::default(), &[("a", b"hello"), ("b", b"")]);
    let mut tar = Vec::new();
    read_tar(&store, &layer.diff_id).unwrap().read_to_end(&mut tar).unwrap();
    assert_eq!((Digest::sha256(&tar), tar.len() as u64), (layer.diff_id.clone(), layer.size_bytes));

    let index = index(&store, &layer.diff_id).unwrap();
    let Kind::File { content, .. } = &index.get(b"a").unwrap().kind else { panic!() };
    let mut data = [0; 5];
    open_tar(&store, &layer.diff_id).unwrap().read_exact_at(&mut data, content.offset).unwrap();
    assert_eq!(&data, b"hello");
    assert!(exists(&store, &layer.diff_id).unwrap());
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn making_a_layer_again_is_success() {
    let (_folder, store) = store();
    let one = create_files(&store, &CreateOptions::default(), &[("a", b"hello")]);
    let two = create_files(&store, &CreateOptions::default(), &[("a", b"hello")]);
    assert_eq!(one, two);
}

#[test]
fn a_layer_that_failed_leaves_nothing() {
    let (_folder, store) = store();
    let result = create(&store, &CreateOptions::default(), |writer| {
        writer.append(&Header::new("d/f", Kind::Fifo, 0), None).map_err(LayerError::from)
    });
    assert!(matches!(result, Err(LayerError::Write(_))));
    assert_eq!(leftovers(&store), 0);
    assert!(!store.paths().layers().exists());
}

#[test]
fn a_layer_that_is_not_there_is_missing() {
    let (_folder, store) = store();
    let diff_id = Digest::sha256(b"nothing");
    assert!(matches!(index(&store, &diff_id), Err(LayerError::Missing { .. })));
    assert!(matches!(open_tar(&store, &diff_id), Err(LayerError::Missing { .. })));
    assert!(!exists(&store, &diff_id).unwrap());
}

#[test]
fn a_damaged_tar_fails_at_its_end() {
    let (_folder, store) = store();
    let layer = create_files(&store, &CreateOptions::default(), &[("a", b"hello")]);
    let path = store.paths().layer_tar(&layer.diff_id);
    let mut bytes = fs::read(&path).unwrap();
    bytes[512] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = io::copy(&mut read_tar(&store, &layer.diff_id).unwrap(), &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("does not match its diff ID"), "{error}");
}

#[test]
fn a_damaged_index_is_named() {
    let (_folder, store) = store();
    let layer = create_files(&store, &CreateOptions::default(), &[("a", b"hello")]);
    let path = store.paths().layer_index(&layer.diff_id);
    fs::write(&path, "gantryLI\u{1}").unwrap();
    assert!(
        matches!(index(&store, &layer.diff_id), Err(LayerError::Table { path: named, .. }) if named == path)
    );
}
