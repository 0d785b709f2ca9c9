use super::*;
use crate::layer::stored::tests::store;
use crate::layer::stored::{exists, foreign_form, index, open_tar, read_tar};
use crate::layer::testing::TarBytes;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn import(store: &Store, blob: &[u8], options: ImportOptions) -> Result<Imported, LayerError> {
    let mut import = Import::new(store, options)?;
    for piece in blob.chunks(1000) {
        import.append(piece)?;
    }
    import.finish()
}

fn announced(blob: &[u8], tar: &[u8]) -> ImportOptions {
    ImportOptions {
        blob: Some((Digest::sha256(blob), blob.len() as u64)),
        diff_id: Some(Digest::sha256(tar)),
        ..ImportOptions::default()
    }
}

fn is_empty(store: &Store) -> bool {
    let ingest = std::fs::read_dir(store.paths().ingest()).unwrap().count();
    ingest == 0 && !store.paths().blobs().exists() && !store.paths().layers().exists()
}

#[test]
fn a_layer_comes_in_whatever_its_codec() {
    let data = vec![b'x'; 3_000_000];
    let tar = TarBytes::new().dir("d").file("d/f", &data).file("d/.wh.gone", b"").finish();
    let gzipped = [gzip(&tar[..1000]), gzip(&tar[1000..])].concat();
    for (codec, blob) in [
        (Codec::Plain, tar.clone()),
        (Codec::Gzip, gzipped),
        (Codec::Zstd, zstd::encode_all(&tar[..], 3).unwrap()),
    ] {
        let (_folder, store) = store();
        let imported = import(&store, &blob, announced(&blob, &tar)).unwrap();
        let form = Form::foreign(codec, Digest::sha256(&blob), blob.len() as u64);
        let diff_id = Digest::sha256(&tar);
        assert_eq!(imported, Imported { diff_id: diff_id.clone(), form: form.clone() });
        assert_eq!(foreign_form(&store, &diff_id).unwrap(), Some(form));

        let index = index(&store, &diff_id).unwrap();
        assert!(index.has_whiteout(b"d/gone") && index.canonical.is_none());
        let Kind::File { size_bytes: 3_000_000, content } = &index.get(b"d/f").unwrap().kind else {
            panic!()
        };
        assert_eq!((&content.digest, content.offset), (&Digest::sha256(&data), 1024));

        let mut read = Vec::new();
        read_tar(&store, &diff_id).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == tar);
        read.clear();
        open_tar(&store, &diff_id).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == tar);
        assert_eq!(
            store.paths().layer_tar(&diff_id).exists(),
            codec != Codec::Plain,
            "a plain blob is the tar"
        );
    }
}

#[test]
fn nothing_needs_to_be_known_beforehand() {
    let (_folder, store) = store();
    let tar = TarBytes::new().file("f", b"x").finish();
    let imported = import(&store, &gzip(&tar), ImportOptions::default()).unwrap();
    assert_eq!(imported.diff_id, Digest::sha256(&tar));
    assert!(exists(&store, &imported.diff_id).unwrap());
}

#[test]
fn a_layer_whose_blob_is_gone_is_missing() {
    let (_folder, store) = store();
    let tar = TarBytes::new().file("f", b"x").finish();
    let imported = import(&store, &gzip(&tar), ImportOptions::default()).unwrap();
    std::fs::remove_file(store.paths().blob(&imported.form.blob)).unwrap();
    assert!(!exists(&store, &imported.diff_id).unwrap());
    assert!(matches!(read_tar(&store, &imported.diff_id), Err(LayerError::Missing { .. })));
}

fn check_refused(blob: &[u8], options: ImportOptions, expected: &str) {
    let (_folder, store) = store();
    let error = import(&store, blob, options).expect_err(expected);
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    assert!(text.contains(expected), "{text}, not {expected}");
    assert!(is_empty(&store), "{expected} leaves something behind");
}

#[test]
fn bytes_other_than_announced_are_refused() {
    let tar = TarBytes::new().file("f", b"x").finish();
    let blob = gzip(&tar);
    let right = announced(&blob, &tar);
    let other = Digest::sha256(b"other");
    let wrong_diff_id = ImportOptions { diff_id: Some(other.clone()), ..right.clone() };
    check_refused(&blob, wrong_diff_id, "does not match its diff ID");
    let wrong_digest = ImportOptions { blob: Some((other, blob.len() as u64)), ..right.clone() };
    check_refused(&blob, wrong_digest, "does not match its digest");
    // The digest is to blame first, however strange the bytes are.
    let strange = vec![b'x'; 4 << 20];
    let announced = ImportOptions { blob: Some((Digest::sha256(b""), 4 << 20)), ..right.clone() };
    check_refused(&strange, announced, "does not match its digest");
    let honest = ImportOptions { blob: Some((Digest::sha256(&strange), 4 << 20)), ..right.clone() };
    check_refused(&strange, honest, "no tar archive");
    check_refused(&blob[..blob.len() - 1], right.clone(), "does not match its size");
    check_refused(&[&blob[..], b"x"].concat(), right, "does not match its size");
}

#[test]
fn blobs_that_are_no_layer_are_refused() {
    let tar = TarBytes::new().file("f", b"x").finish();
    let any = ImportOptions::default;
    check_refused(b"BZh91AY&SY", any(), "something else than gzip or zstd");
    check_refused(&[b'x'; 2000], any(), "no tar archive");
    check_refused(&gzip(&tar[..700]), any(), "tar ends after 700 bytes");
    check_refused(&[&gzip(&tar)[..], b"garbage"].concat(), any(), "cannot decompress");
    check_refused(&gzip(&tar)[..40], any(), "cannot decompress");
    check_refused(&[&tar[..], b"garbage"].concat(), any(), "behind the end");
    check_refused(&TarBytes::new().file("../f", b"").finish(), any(), "`..`");
    let many = ImportOptions { limits: Limits { entries: 0, ..Limits::default() }, ..any() };
    check_refused(&tar, many, "more than 0 entries");
}

#[test]
fn the_lowest_layer_has_what_its_hard_links_mean() {
    let lowest = || ImportOptions { lowest: true, ..ImportOptions::default() };
    let tar = TarBytes::new;
    let missing = "hardlink `d/h` leads to `lower`, which does not exist";
    check_refused(&tar().dir("d").hardlink("d/h", "/lower").finish(), lowest(), missing);
    check_refused(&gzip(&tar().hardlink("h", "d").dir("d").finish()), lowest(), "changes later");
    check_refused(&tar().dir("d").hardlink("h", "d").finish(), lowest(), "which does not exist");
    check_refused(&tar().symlink("a", "a").file("a/x", b"").finish(), lowest(), "symbolic links");
    let (_folder, store) = store();
    let whole = tar().file("usr/f", b"").symlink("lib", "/usr").hardlink("h", "lib/f").hardlink("i", "h");
    import(&store, &whole.finish(), lowest()).unwrap();
    import(&store, &tar().hardlink("h", "lower").finish(), ImportOptions::default()).unwrap();
}

#[test]
fn overlayfss_whiteout_does_not_come_in() {
    let tar = TarBytes::new().file("f", b"").entry(b'3', "dev", "", b"").finish();
    check_refused(&gzip(&tar), ImportOptions::default(), "device `dev` has the numbers 0:0");
}

#[test]
fn zeros_are_welcome_in_a_file_and_not_behind_the_end() {
    let zeros = vec![0; 16 << 20];
    let (_folder, store) = store();
    let file = zstd::encode_all(&TarBytes::new().file("f", &zeros).finish()[..], 1).unwrap();
    assert!(file.len() < zeros.len() / 5_000, "{} bytes", file.len());
    import(&store, &file, ImportOptions::default()).unwrap();
    let tail = TarBytes::new().file("f", b"x").raw(&zeros).finish();
    check_refused(&gzip(&tail), ImportOptions::default(), "over 1 MiB of zeros stand behind the end");
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let header = TarBytes::new().entry_saying(b'0', "f", "", (1 << 33) - 1, b"").unfinished();
    let zeros = zstd::encode_all(io::repeat(0).take(64 << 20), 1).unwrap();
    let blob = [zstd::encode_all(&header[..], 1).unwrap(), zeros.repeat(200)].concat();
    let expansion = Expansion { free_bytes: 16 << 20, ratio: 200 };
    check_refused(&blob, ImportOptions { expansion, ..ImportOptions::default() }, "unpack to more than");
}

#[test]
fn a_broken_blob_is_noticed_while_it_comes() {
    let (_folder, store) = store();
    let mut import = Import::new(&store, ImportOptions::default()).unwrap();
    let piece = [b'x'; 256 << 10];
    let failed = (0..100).find_map(|_| import.append(&piece).err());
    assert!(matches!(failed, Some(LayerError::Tar(_))), "{failed:?}");
    assert!(import.append(&piece).is_err() && import.finish().is_err());
    assert!(is_empty(&store));
}

fn check_order(tar: TarBytes, expected: &str) {
    check_refused(&tar.finish(), ImportOptions::default(), expected);
}

#[test]
fn what_depends_on_the_order_of_entries_is_refused() {
    let tar = TarBytes::new;
    check_order(tar().dir("a").file("a", b""), "two different things");
    check_order(tar().symlink("a", "/etc").dir("a"), "two different things");
    check_order(tar().file("c", b"").hardlink("a", "c").file("a", b""), "two different things");
    check_order(tar().symlink("a", "b").symlink("a", "c"), "two different things");
    check_order(tar().file("a", b"").file("a/b", b""), "below something that is no folder");
    check_order(tar().file("a/b", b"").file("a", b""), "below something that is no folder");
    check_order(tar().file("a/b", b"").symlink("a", "c"), "below something that is no folder");
    check_order(tar().symlink("a", "b").file("a/.wh..wh..opq", b""), "no folder");
    check_order(tar().hardlink("a", "b").file("b", b""), "changes later");
    check_order(tar().file("b", b"1").hardlink("a", "b").file("b", b"2"), "changes later");
    let through = tar().file("b", b"1").symlink("s", ".").hardlink("a", "s/b");
    check_order(through.file("b", b"2"), "changes later");
}

#[test]
fn what_any_order_gives_is_accepted() {
    let (_folder, store) = store();
    let tar = TarBytes::new()
        .file("z", b"1")
        .file("z", b"22")
        .file("b/c", b"")
        .dir("b")
        .symlink("a", "b")
        .file("a/through", b"")
        .hardlink("h", "lower");
    let imported = import(&store, &tar.finish(), ImportOptions::default()).unwrap();
    let index = index(&store, &imported.diff_id).unwrap();
    assert!(matches!(index.get(b"z").unwrap().kind, Kind::File { size_bytes: 2, .. }));
    assert_eq!(index.entries().len(), 6);
}
