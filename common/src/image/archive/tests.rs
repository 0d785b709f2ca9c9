use super::*;
use crate::digest::Digest;
use crate::image::import::{ImportRequest, import};
use crate::layer::{Follow, Root};
use crate::oci::Config;
use crate::platform::Platform;
use crate::store::{CheckOptions, Store};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn root_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("bin/tool", "#!/bin/sh\n"), ("etc/passwd", "root:x:0:0::/:/bin/sh\n")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn imported(store: &Store) -> Digest {
    let request = ImportRequest {
        name: Some("tool:1".parse().unwrap()),
        config: Config { cmd: Some(vec!["/bin/tool".into()]), ..Config::default() },
        platform: Platform::host(),
        message: "Imported from -".into(),
        created: Some(jiff::Timestamp::UNIX_EPOCH),
    };
    import(store, &root_tar()[..], &request, &|_| {}).unwrap()
}

fn saved(store: &Store, id: &Digest, format: ArchiveFormat) -> Vec<u8> {
    let image =
        Saved { id: id.clone(), names: vec!["tool:1".parse().unwrap(), "team/tool:2".parse().unwrap()] };
    let mut archive = Vec::new();
    save(store, &[image], format, &mut archive, &|_| {}).unwrap();
    archive
}

fn assert_sound(store: &Store) {
    let report = store.check(&CheckOptions::default()).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
}

#[test]
fn an_image_survives_both_formats_with_its_id_and_names() {
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let (_a, from) = store();
        let id = imported(&from);
        let archive = saved(&from, &id, format);
        assert!(archive == saved(&from, &id, format), "equal images give equal bytes");
        let (_b, to) = store();
        let loaded = load(&to, &archive[..], &Platform::host(), &|_| {}).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].id, id);
        let names: Vec<String> = loaded[0].names.iter().map(crate::reference::Reference::familiar).collect();
        assert_eq!(names, ["tool:1", "team/tool:2"]);
        for store in [from, to] {
            assert_sound(&store);
        }
    }
}

#[test]
fn loading_again_heals_the_tables_of_a_layer() {
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let (_a, from) = store();
        let id = imported(&from);
        let diff_id = crate::image::names::config(&from, &id).unwrap().rootfs.diff_ids[0].clone();
        let archive = saved(&from, &id, format);
        let (_b, to) = store();
        load(&to, &archive[..], &Platform::host(), &|_| {}).unwrap();
        for store in [&from, &to] {
            let paths = store.paths();
            let forms = std::fs::read_dir(paths.layer_forms(&diff_id)).unwrap();
            let forms = forms.map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
            for path in forms.into_iter().chain([paths.layer_index(&diff_id)]) {
                // What looks like a newer version is damage too when the checksum is wrong.
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[8] ^= 2;
                std::fs::write(&path, bytes).unwrap();
                assert!(!store.check(&CheckOptions::default()).unwrap().is_sound());
                load(store, &archive[..], &Platform::host(), &|_| {}).unwrap();
                assert_sound(store);
                let root = Root::open(store, std::slice::from_ref(&diff_id)).unwrap();
                let tool = root.lookup(b"bin/tool", Follow::No).unwrap().unwrap();
                let text = std::io::read_to_string(root.open_file(store, &tool).unwrap()).unwrap();
                assert_eq!(text, "#!/bin/sh\n");
            }
        }
    }
}

/// Changes the bytes of one file of an archive, its length stays.
fn damaged(archive: &[u8], part: &str) -> Vec<u8> {
    let mut tar = tar::Archive::new(archive);
    let entry = tar.entries().unwrap().map(Result::unwrap).find(|entry| {
        let name = entry.path_bytes();
        String::from_utf8_lossy(&name).contains(part)
    });
    let at = entry.unwrap().raw_file_position() as usize;
    let mut changed = archive.to_vec();
    changed[at + 3] ^= 1;
    changed
}

#[test]
fn what_does_not_match_its_digest_is_not_loaded() {
    let (_a, from) = store();
    let id = imported(&from);
    let layer = crate::image::names::config(&from, &id).unwrap().rootfs.diff_ids[0].clone();
    let archive = saved(&from, &id, ArchiveFormat::Docker);
    let (_b, to) = store();
    assert!(load(&to, &damaged(&archive, layer.hex())[..], &Platform::host(), &|_| {}).is_err());
    assert!(
        load(&to, &damaged(&saved(&from, &id, ArchiveFormat::Oci), id.hex())[..], &Platform::host(), &|_| {})
            .is_err()
    );
    assert_eq!(to.image_ids().unwrap(), []);
    assert_sound(&to);
}

#[test]
fn what_is_no_archive_says_so() {
    let (_a, to) = store();
    let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
    assert!(matches!(load(&to, &empty[..], &Platform::host(), &|_| {}), Err(LoadError::Unknown)));
    let refers = {
        let mut tar = tar::Builder::new(Vec::new());
        let list = br#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#;
        let mut header = tar::Header::new_ustar();
        header.set_size(list.len() as u64);
        tar.append_data(&mut header, "manifest.json", &list[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let error = load(&to, &refers[..], &Platform::host(), &|_| {}).unwrap_err();
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
}
