use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::layer::codec::{Expansion, decoder};
use crate::layer::import::{Import, ImportOptions};
use crate::layer::stored::tests::{create_files, store};
use crate::layer::stored::{CreateOptions, StoredLayer};

/// Text that compresses, different for each seed.
fn text(seed: usize, len: usize) -> Vec<u8> {
    let words = ["layer", "tar", "block", "digest", "store", "gzip", "header", "entry"];
    let mut state = seed as u32 ^ 0x9e37_79b9;
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(words[(state >> 24) as usize % words.len()].as_bytes());
        text.extend_from_slice((state >> 20 & 0xff).to_string().as_bytes());
    }
    text.truncate(len);
    text
}

fn create_layer(store: &Store, previous: Option<&StoredLayer>, changed: Option<usize>) -> StoredLayer {
    let options =
        CreateOptions { previous: previous.map(|layer| layer.diff_id.clone()), ..CreateOptions::default() };
    let files: Vec<_> = (0..300)
        .map(|n| {
            let seed = if changed == Some(n) { 1_000_000 + n } else { n };
            (format!("file-{n:04}"), text(seed, 3_000 + n * 127))
        })
        .chain([("large".to_owned(), text(7, 2_500_000))])
        .collect();
    let files: Vec<_> = files.iter().map(|(path, data)| (&path[..], &data[..])).collect();
    create_files(store, &options, &files)
}

fn tar_bytes(store: &Store, diff_id: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    read_tar(store, diff_id).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn blob_bytes(store: &Store, form: &Form) -> Vec<u8> {
    store.read_blob(&form.blob, 1 << 30).unwrap()
}

fn default_encode(store: &Store, layer: &StoredLayer, codec: Codec) -> Form {
    encode(store, &layer.diff_id, codec, &EncodeOptions::default()).unwrap()
}

#[test]
fn the_bytes_of_a_blob_do_not_change_unnoticed() {
    let (_folder, store) = store();
    let layer = create_layer(&store, None, None);
    assert_eq!(layer.diff_id.short(), "0846cfb8f380");
    assert_eq!(default_encode(&store, &layer, Codec::Gzip).blob.short(), "6477915fbfb3");
    assert_eq!(default_encode(&store, &layer, Codec::Zstd).blob.short(), "cbfc1634d917");
    assert_eq!(default_encode(&store, &layer, Codec::Plain).blob, layer.diff_id);
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let blobs: Vec<_> = [1, 2, 8]
            .map(|threads| {
                let (_folder, store) = store();
                let layer = create_layer(&store, None, None);
                let options = EncodeOptions { threads: NonZeroUsize::new(threads) };
                encode(&store, &layer.diff_id, codec, &options).unwrap()
            })
            .into();
        assert!(blobs.windows(2).all(|pair| pair[0] == pair[1]), "{codec:?}");
    }
}

#[test]
fn what_is_compressed_decompresses_to_the_tar() {
    let (_folder, store) = store();
    let layer = create_layer(&store, None, None);
    let tar = tar_bytes(&store, &layer.diff_id);
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Plain] {
        let form = default_encode(&store, &layer, codec);
        let blob = blob_bytes(&store, &form);
        assert_eq!(form.size_bytes, blob.len() as u64);
        let (found, mut decoder) = decoder(&blob[..], Expansion::default()).unwrap();
        assert_eq!(found, codec);
        let mut decoded = Vec::new();
        decoder.read_to_end(&mut decoded).unwrap();
        assert!(decoded == tar, "{codec:?}");
        assert!(codec == Codec::Plain || blob.len() * 2 < tar.len(), "{codec:?} has {} bytes", blob.len());
    }
}

#[test]
fn what_does_not_compress_is_stored() {
    let noise: Vec<u8> = (0..40_000_u32).flat_map(|n| digest_bytes(&n.to_le_bytes())).collect();
    assert!(is_incompressible(&noise).unwrap());
    assert!(!is_incompressible(&text(1, 1 << 20)).unwrap());
    assert!(!is_incompressible(&[&noise[..400_000], &text(1, 800_000)].concat()).unwrap());
    assert!(!is_incompressible(&noise[..1000]).unwrap());

    let (_folder, store) = store();
    let layer = create_files(&store, &CreateOptions::default(), &[("noise", &noise), ("text", b"text")]);
    let form = default_encode(&store, &layer, Codec::Gzip);
    assert!(form.size_bytes < layer.size_bytes + layer.size_bytes / 100);
    let blob = blob_bytes(&store, &form);
    let mut decoded = Vec::new();
    decoder(&blob[..], Expansion::default()).unwrap().1.read_to_end(&mut decoded).unwrap();
    assert_eq!(Digest::sha256(&decoded), layer.diff_id);
}

/// 32 bytes that look random.
fn digest_bytes(seed: &[u8]) -> Vec<u8> {
    let hex = Digest::sha256(seed).hex().as_bytes().to_vec();
    hex.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn gzip_and_zstd_read_what_is_compressed() {
    let (_folder, store) = store();
    let layer = create_layer(&store, None, None);
    let tar = tar_bytes(&store, &layer.diff_id);
    for (program, codec) in [("gzip", Codec::Gzip), ("zstd", Codec::Zstd)] {
        let blob = blob_bytes(&store, &default_encode(&store, &layer, codec));
        let spawned = Command::new(program).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = spawned else {
            eprintln!("skipped: no {program}");
            continue;
        };
        let mut stdin = child.stdin.take().unwrap();
        let writer = thread::spawn(move || stdin.write_all(&blob));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success() && output.stdout == tar, "{program}");
    }
}

#[test]
fn a_blob_is_made_once() {
    let (_folder, store) = store();
    let layer = create_layer(&store, None, None);
    let form = default_encode(&store, &layer, Codec::Gzip);
    std::fs::remove_file(store.paths().layer_tar(&layer.diff_id)).unwrap();
    assert_eq!(default_encode(&store, &layer, Codec::Gzip), form);
    assert!(
        Digest::sha256(&tar_bytes(&store, &layer.diff_id)) == layer.diff_id,
        "the tar comes from the blob now"
    );
}

#[test]
fn a_new_version_takes_the_blocks_of_the_last() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (_folder, store) = store();
        let first = create_layer(&store, None, None);
        let form = default_encode(&store, &first, codec);
        let second = create_layer(&store, Some(&first), Some(150));
        let known = Known::find(&store, &second.diff_id, form_name(codec)).unwrap();
        let fresh = default_encode(&store, &second, codec)
            .blocks
            .iter()
            .filter(|b| !known.blocks.contains_key(&b.key))
            .count();
        assert!((1..=3).contains(&fresh), "{fresh} of {} blocks", form.blocks.len());

        let (_other_folder, other) = super::super::stored::tests::store();
        let alone = create_layer(&other, None, Some(150));
        assert_eq!(
            default_encode(&other, &alone, codec).blob,
            default_encode(&store, &second, codec).blob,
            "the bytes do not depend on what was there before"
        );
    }
}

#[test]
fn an_uncompressed_version_between_two_is_passed_over() {
    let (_folder, store) = store();
    let first = create_layer(&store, None, None);
    default_encode(&store, &first, Codec::Gzip);
    let second = create_layer(&store, Some(&first), Some(1));
    let third = create_layer(&store, Some(&second), Some(2));
    assert!(Known::find(&store, &third.diff_id, form_name(Codec::Gzip)).unwrap().blob.is_some());
}

#[test]
fn damaged_blocks_are_not_used_again() {
    let (_folder, store) = store();
    let first = create_layer(&store, None, None);
    let form = default_encode(&store, &first, Codec::Gzip);
    let path = store.paths().blob(&form.blob);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.iter_mut().skip(100).step_by(1000).for_each(|byte| *byte ^= 1);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();

    let second = create_layer(&store, Some(&first), Some(150));
    let form = default_encode(&store, &second, Codec::Gzip);
    let blob = blob_bytes(&store, &form);
    let mut decoded = Vec::new();
    decoder(&blob[..], Expansion::default()).unwrap().1.read_to_end(&mut decoded).unwrap();
    assert_eq!(Digest::sha256(&decoded), second.diff_id);
}

#[test]
fn a_damaged_tar_is_not_compressed() {
    let (_folder, store) = store();
    let layer = create_layer(&store, None, None);
    let path = store.paths().layer_tar(&layer.diff_id);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = encode(&store, &layer.diff_id, Codec::Gzip, &EncodeOptions::default()).unwrap_err();
    assert!(matches!(error, LayerError::DiffIdMismatch { .. }), "{error}");
    assert!(!store.paths().blobs().exists());
}

#[test]
fn a_pulled_layer_can_take_another_form() {
    let (_folder, store) = store();
    let (_other_folder, other) = super::super::stored::tests::store();
    let layer = create_layer(&other, None, None);
    let blob = blob_bytes(&other, &default_encode(&other, &layer, Codec::Gzip));
    let mut import = Import::new(&store, ImportOptions::default()).unwrap();
    import.append(&blob).unwrap();
    assert_eq!(import.finish().unwrap().diff_id, layer.diff_id);
    assert_eq!(default_encode(&store, &layer, Codec::Zstd), default_encode(&other, &layer, Codec::Zstd));
}

#[test]
fn names_of_forms_carry_the_versions_of_the_encoders() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let version = |name: &str| {
        let after = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1).unwrap();
        after.split('"').next().unwrap().to_owned()
    };
    assert_eq!(form_name(Codec::Gzip), format!("gzip-1-zlib-rs-{}", version("zlib-rs")));
    let zstd = version("zstd-sys");
    assert_eq!(form_name(Codec::Zstd), format!("zstd-1-{}", zstd.split("zstd.").nth(1).unwrap()));
}
