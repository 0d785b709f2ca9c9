use super::*;
use crate::digest::Digest;
use crate::image::import::{ImportRequest, import};
use crate::layer::testing::TarBytes;
use crate::layer::{Follow, Root};
use crate::oci::{Config, Descriptor, media_type};
use crate::platform::Platform;
use crate::store::{CheckOptions, CommitError, Store};

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

fn request() -> ImportRequest {
    ImportRequest {
        name: Some("tool:1".parse().unwrap()),
        config: Config { cmd: Some(vec!["/bin/tool".into()]), ..Config::default() },
        platform: Platform::host(),
        message: "Imported from -".into(),
        created: Some(jiff::Timestamp::UNIX_EPOCH),
    }
}

fn imported(store: &Store) -> Digest {
    import(store, &root_tar()[..], &request(), &|_| {}).unwrap()
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
        let loaded = load(&to, &archive[..], None, &|_| {}).unwrap();
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
        load(&to, &archive[..], None, &|_| {}).unwrap();
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
                load(store, &archive[..], None, &|_| {}).unwrap();
                assert_sound(store);
                let root = Root::open(store, std::slice::from_ref(&diff_id)).unwrap();
                let tool = root.lookup(b"bin/tool", Follow::No).unwrap().unwrap();
                let text = std::io::read_to_string(root.open_file(store, &tool).unwrap()).unwrap();
                assert_eq!(text, "#!/bin/sh\n");
            }
        }
    }
}

#[test]
fn loading_or_importing_again_heals_the_tar_of_a_layer() {
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let (_a, store) = store();
        let id = imported(&store);
        let diff_id = crate::image::names::config(&store, &id).unwrap().rootfs.diff_ids[0].clone();
        let archive = saved(&store, &id, format);
        let tar = store.paths().layer_tar(&diff_id);
        let heals: [&dyn Fn(); 2] =
            [&|| drop(load(&store, &archive[..], None, &|_| {}).unwrap()), &|| drop(imported(&store))];
        for heal in heals {
            for damage in [&b"another tar"[..], b""] {
                std::fs::write(&tar, damage).unwrap();
                let report = store.check(&CheckOptions::default()).unwrap();
                assert!(
                    report.faults[0].to_string().contains("remove it by `gantry check --remove-damaged`"),
                    "{report:?}"
                );
                heal();
                assert_sound(&store);
                let mut bytes = Vec::new();
                let mut whole = crate::layer::read_tar(&store, &diff_id).unwrap();
                std::io::copy(&mut whole, &mut bytes).unwrap();
                assert_eq!(Digest::sha256(&bytes), diff_id);
            }
        }
    }
}

/// docker's archive of an image with these layers.
fn archive_of(layers: &[Vec<u8>]) -> Vec<u8> {
    archive_named(layers, &["a:1"])
}

fn archive_named(layers: &[Vec<u8>], repo_tags: &[&str]) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::sha256(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let list = serde_json::json!([{ "Config": "config.json", "RepoTags": repo_tags, "Layers": names }]);
    let documents = [("config.json", config.to_string()), ("manifest.json", list.to_string())];
    let documents = documents.iter().map(|(name, text)| (*name, text.as_bytes()));
    let layers = names.iter().zip(layers).map(|(name, layer)| (name.as_str(), &layer[..]));
    documents.chain(layers).fold(TarBytes::new(), |tar, (name, bytes)| tar.file(name, bytes)).finish()
}

fn check_refused(layers: &[TarBytes], expected: &str) {
    let layers: Vec<Vec<u8>> = layers.iter().map(|layer| layer.clone().finish()).collect();
    let (_folder, store) = store();
    let error = load(&store, &archive_of(&layers)[..], None, &|_| {}).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{error}: {cause}").contains(expected), "{error}: {cause}");
    assert!(error.hint().is_some());
    assert_eq!(store.image_ids().unwrap(), []);
    assert_sound(&store);
}

#[test]
fn hostile_layers_are_refused_before_anything_is_unpacked() {
    let tar = TarBytes::new;
    let dangling = "hardlink `link` leads to `none`, which does not exist";
    check_refused(&[tar().hardlink("link", "none")], dangling);
    check_refused(&[tar().file("a", b""), tar().hardlink("link", "none")], dangling);
    check_refused(&[tar().entry(b'3', "gone", "", b"")], "device `gone` has the numbers 0:0");
    let (_folder, store) = store();
    let archive = archive_of(&[tar().file("a", b"").finish(), tar().hardlink("link", "a").finish()]);
    load(&store, &archive[..], None, &|_| {}).unwrap();
    assert_sound(&store);
}

#[test]
fn a_hostile_root_is_not_imported_and_leaves_nothing() {
    let tar = TarBytes::new;
    let bomb = zstd::encode_all(&tar().file("f", b"").raw(&[0; 4 << 20]).finish()[..], 1).unwrap();
    for (root, expected, has_hint) in [
        (tar().hardlink("link", "none").finish(), "hardlink `link` leads to `none`", true),
        (tar().entry(b'3', "gone", "", b"").finish(), "device `gone` has the numbers 0:0", true),
        (bomb, "over 1 MiB of zeros stand behind the end", false),
    ] {
        let (_folder, store) = store();
        let error = import(&store, &root[..], &request(), &|_| {}).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.hint().is_some(), has_hint);
        assert!(!store.paths().blobs().exists() && !store.paths().layers().exists());
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
    assert!(load(&to, &damaged(&archive, layer.hex())[..], None, &|_| {}).is_err());
    assert!(
        load(&to, &damaged(&saved(&from, &id, ArchiveFormat::Oci), id.hex())[..], None, &|_| {}).is_err()
    );
    assert_eq!(to.image_ids().unwrap(), []);
    assert_sound(&to);
}

#[test]
fn a_manifest_of_another_size_than_the_index_says_is_not_loaded() {
    let tar = zstd::encode_all(&root_tar()[..], 1).unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(&root_tar())] },
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::of(media_type::OCI_CONFIG, &config),
        "layers": [Descriptor::of("application/vnd.oci.image.layer.v1.tar+zstd", &tar)],
    });
    let manifest = manifest.to_string().into_bytes();
    let archive = |wrong_by: u64| {
        let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
        descriptor.size += wrong_by;
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
        let blobs = [&config, &manifest, &tar].map(|bytes| (Digest::sha256(bytes), bytes));
        let tar = TarBytes::new().file("index.json", index.as_bytes());
        let file = |tar: TarBytes, (digest, bytes): (Digest, &Vec<u8>)| {
            tar.file(&format!("blobs/sha256/{}", digest.hex()), bytes)
        };
        blobs.into_iter().fold(tar, file).finish()
    };
    let (_folder, store) = store();
    let error = load(&store, &archive(1)[..], None, &|_| {}).unwrap_err();
    assert!(matches!(error, LoadError::Commit(CommitError::SizeMismatch { .. })), "{error}");
    assert!(!store.paths().blobs().exists(), "nothing of it stays");
    assert_eq!(load(&store, &archive(0)[..], None, &|_| {}).unwrap().len(), 1);
    assert_sound(&store);
}

#[test]
fn an_image_whose_config_nobody_would_read_is_not_imported() {
    let (_folder, store) = store();
    let mut request = request();
    request.config.env.push("x".repeat(8 << 20));
    let error = import(&store, &root_tar()[..], &request, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("at most 8388608 are allowed"), "{error}");
    assert_eq!(store.image_ids().unwrap(), []);
    request.config.env[0].truncate(8 << 19);
    import(&store, &root_tar()[..], &request, &|_| {}).unwrap();
    assert_sound(&store);
}

#[test]
fn only_the_images_for_the_platform_that_is_asked_for_are_loaded() {
    let (_a, from) = store();
    let images = ["linux/amd64", "linux/arm64"].map(|platform| {
        let platform: Platform = platform.parse().unwrap();
        let name = Some(format!("tool:{}", platform.architecture).parse().unwrap());
        import(&from, &root_tar()[..], &ImportRequest { name, platform, ..request() }, &|_| {}).unwrap()
    });
    let names = |id: &Digest| from.image(id).unwrap().unwrap().names;
    let images: Vec<Saved> = images.into_iter().map(|id| Saved { names: names(&id), id }).collect();
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let mut archive = Vec::new();
        save(&from, &images, format, &mut archive, &|_| {}).unwrap();
        let (_b, to) = store();
        let load = |platform: Option<&str>| {
            let platform = platform.map(|text| text.parse::<Platform>().unwrap());
            load(&to, &archive[..], platform.as_ref(), &|_| {})
        };
        let error = load(Some("linux/s390x")).unwrap_err();
        assert_eq!(error.to_string(), "archive has no image for linux/s390x");
        assert_eq!(to.image_ids().unwrap(), []);
        let loaded = load(Some("linux/arm64/v8")).unwrap();
        assert_eq!(loaded.iter().map(|image| &image.id).collect::<Vec<_>>(), [&images[1].id]);
        assert_eq!(to.image_ids().unwrap(), [images[1].id.clone()]);
        assert_eq!(load(None).unwrap().len(), 2);
        assert_sound(&to);
    }
}

#[test]
fn what_is_no_archive_says_so() {
    let (_a, to) = store();
    let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
    assert!(matches!(load(&to, &empty[..], None, &|_| {}), Err(LoadError::Unknown)));
    let refers = {
        let mut tar = tar::Builder::new(Vec::new());
        let list = br#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#;
        let mut header = tar::Header::new_ustar();
        header.set_size(list.len() as u64);
        tar.append_data(&mut header, "manifest.json", &list[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let error = load(&to, &refers[..], None, &|_| {}).unwrap_err();
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
}

#[test]
fn an_archive_that_was_cut_says_so() {
    let (_a, to) = store();
    let archive = archive_of(&[TarBytes::new().file("f", &[7; 5000]).finish()]);
    let cut = &archive[..archive.len() - 5000];
    let LoadError::Read(why) = load(&to, cut, None, &|_| {}).unwrap_err() else { panic!("it is cut") };
    assert_eq!(why.to_string(), format!("tar ends after {} bytes, within an entry", cut.len()));
    assert_eq!(to.image_ids().unwrap(), []);
}

#[test]
fn names_that_are_none_are_told_and_the_image_is_loaded() {
    let (_a, to) = store();
    let archive = archive_named(&[], &["UPPER:1", "good:1", "a b"]);
    let loaded = load(&to, &archive[..], None, &|_| {}).unwrap();
    assert_eq!(loaded[0].names, ["good:1".parse().unwrap()]);
    assert_eq!(loaded[0].refused_names, ["UPPER:1", "a b"]);
}
