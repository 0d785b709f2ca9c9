use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use super::*;
use crate::digest::{Algorithm, Digest};
use crate::oci::Descriptor;
use crate::platform::Platform;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn link(subject: Option<Digest>) -> ManifestLink {
    ManifestLink {
        media_type: "x".to_owned(),
        size_bytes: 1,
        subject,
        artifact_type: None,
        absent_children: Vec::new(),
    }
}

#[test]
fn what_is_put_reads_back() {
    let (_folder, store) = store();
    let digest = store.put(b"bytes").unwrap();
    assert_eq!(digest, Digest::sha256(b"bytes"));
    assert_eq!(store.blob_size(&digest).unwrap(), Some(5));
    assert_eq!(store.read_blob(&digest, 5).unwrap(), b"bytes");
    assert!(matches!(store.read_blob(&digest, 4), Err(ReadError::TooLarge { size_bytes: 5, .. })));
    store.reach().blob(&digest).sync().unwrap();
    let other = Digest::sha256(b"other");
    assert_eq!(store.blob_size(&other).unwrap(), None);
    assert!(matches!(store.read_blob(&other, 9), Err(ReadError::Missing { .. })));
}

#[test]
fn bytes_of_another_digest_or_size_leave_nothing_behind() {
    let (_folder, store) = store();
    let mut ingest = store.ingest().unwrap();
    ingest.write_all(b"right").unwrap();
    let wrong = Digest::sha256(b"wrong");
    assert!(matches!(ingest.commit(&wrong, None), Err(CommitError::DigestMismatch { size_bytes: 5, .. })));
    let mut ingest = store.ingest().unwrap();
    ingest.write_all(b"right").unwrap();
    let committed = ingest.commit(&Digest::sha256(b"right"), Some(6));
    assert!(matches!(committed, Err(CommitError::SizeMismatch { expected: 6, actual: 5, .. })));
    assert!(names(&store.paths().ingest()).is_empty());
    assert!(!store.paths().blobs().exists());
}

#[test]
fn a_damaged_blob_is_noticed_by_every_verified_read() {
    let (_folder, store) = store();
    let digest = store.put(b"right").unwrap();
    let path = store.paths().blob(&digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"wrong").unwrap();
    assert!(matches!(store.read_blob(&digest, 9), Err(ReadError::Damaged { .. })));
    let mut bytes = Vec::new();
    let error = store.blob_reader(&digest).unwrap().read_to_end(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    // To store it again repairs it.
    store.put(b"right").unwrap();
    assert_eq!(store.read_blob(&digest, 9).unwrap(), b"right");
}

#[test]
fn a_blob_comes_back_from_the_trash() {
    let (_folder, store) = store();
    let digest = store.put(b"bytes").unwrap();
    assert!(store.remove_blob(&digest).unwrap());
    assert!(!store.remove_blob(&digest).unwrap());
    assert!(!store.paths().blob(&digest).exists());
    assert_eq!(store.blob_size(&digest).unwrap(), Some(5));
    assert!(store.paths().blob(&digest).exists());
}

#[test]
fn an_upload_goes_on_where_it_stopped() {
    let (_folder, store) = store();
    for (boot, algorithm) in [(false, Algorithm::Sha256), (true, Algorithm::Sha512)] {
        let options = UploadOptions {
            repository: "a/b".parse().unwrap(),
            subject: "me".to_owned(),
            algorithm: Algorithm::Sha256,
            lifetime: Duration::from_secs(60),
        };
        let mut upload = store.begin_upload(options.clone()).unwrap();
        upload.append(&[1; 3_000_000]).unwrap();
        let id = upload.id().clone();
        assert!(matches!(store.resume_upload(&id), Err(UploadError::Busy { .. })));
        drop(upload);
        let state = store.upload(&id).unwrap().unwrap();
        assert_eq!(state, UploadState { options, offset: 3_000_000 });
        let folder = store.paths().upload(id.as_str());
        if boot {
            let text = fs::read_to_string(folder.join("state.json")).unwrap();
            let text = text.replace("\"boot_id\":\"", "\"boot_id\":\"another");
            fs::write(folder.join("state.json"), text).unwrap();
        }
        // Written by somebody who was killed before he acknowledged it.
        fs::OpenOptions::new().append(true).open(folder.join("data")).unwrap().write_all(b"more").unwrap();
        let mut upload = store.resume_upload(&id).unwrap();
        assert_eq!(upload.offset(), 3_000_000);
        upload.append(b"end").unwrap();
        let bytes = [&[1; 3_000_000][..], b"end"].concat();
        let digest = algorithm.digest(&bytes);
        assert_eq!(upload.finish(&digest).unwrap(), 3_000_003);
        assert_eq!(store.read_blob(&digest, u64::MAX).unwrap(), bytes);
        assert!(matches!(store.resume_upload(&id), Err(UploadError::Unknown { .. })));
    }
    assert!(names(&store.paths().uploads()).is_empty());
}

#[test]
fn tags_are_compared_and_swapped() {
    let (_folder, store) = store();
    let repository = store.served(&"a/b".parse().unwrap());
    let tag = "v1".parse().unwrap();
    let one = ServedTag { manifest: Digest::sha256(b"1") };
    let two = ServedTag { manifest: Digest::sha256(b"2") };
    assert!(!repository.set_tag(&tag, &one, Expect::Anything).unwrap(), "not linked");
    repository.link_manifest(&one.manifest, &link(None)).unwrap();
    repository.link_manifest(&two.manifest, &link(None)).unwrap();
    assert!(!repository.set_tag(&tag, &one, Expect::Is(&two)).unwrap());
    assert!(repository.set_tag(&tag, &one, Expect::Absent).unwrap());
    assert!(!repository.set_tag(&tag, &two, Expect::Absent).unwrap());
    assert!(repository.set_tag(&tag, &two, Expect::Is(&one)).unwrap());
    assert_eq!(repository.tag(&tag).unwrap(), Some(two.clone()));
    assert!(!repository.delete_tag(&tag, Expect::Is(&one)).unwrap());
    store.reach().tags(&repository).sync().unwrap();
    assert!(repository.delete_tag(&tag, Expect::Is(&two)).unwrap());
    assert_eq!(repository.tag(&tag).unwrap(), None);
}

#[test]
fn a_local_tag_names_an_image_a_platform() {
    let (_folder, store) = store();
    let repository = store.local(&"debian".parse().unwrap());
    let tag = "bookworm".parse().unwrap();
    let mut record = LocalTag::default();
    for platform in ["linux/amd64", "linux/arm64"] {
        let platform: Platform = platform.parse().unwrap();
        let config = Digest::sha256(platform.to_string().as_bytes());
        record.set(TaggedImage { platform, config, source: Some(Descriptor::of("x", b"y")) });
    }
    assert!(repository.set_tag(&tag, &record, Expect::Anything).unwrap());
    assert_eq!(repository.tag(&tag).unwrap(), Some(record.clone()));
    assert_eq!(record.best(&"linux/arm64".parse().unwrap()), record.images.get(1));
    assert_eq!(store.local_repositories().unwrap(), ["debian".parse().unwrap()]);
}

#[test]
fn the_catalog_is_in_the_order_of_bytes_and_paged() {
    let (_folder, store) = store();
    let expected = ["a", "a-b", "a-b/c", "a.b", "a/b", "a/b/c", "a0", "b/c"];
    for name in expected {
        let repository = store.served(&name.parse().unwrap());
        repository.link_manifest(&Digest::sha256(b"1"), &link(None)).unwrap();
    }
    for start in 0..expected.len() {
        let after = start.checked_sub(1).map(|i| expected[i]);
        let page = store.served_repositories(after, Some(3)).unwrap();
        let page: Vec<&str> = page.iter().map(|p| p.as_str()).collect();
        assert_eq!(page, expected[start..expected.len().min(start + 3)]);
    }
}

#[test]
fn image_ids_resolve_by_unique_prefix() {
    let (_folder, store) = store();
    let ids: Vec<Digest> = (0..40u8).map(|n| Digest::sha256(&[n])).collect();
    for id in &ids {
        store.put_image(&ImageRecord::new(id.clone(), 1)).unwrap();
    }
    assert_eq!(store.find_image(ids[3].hex()).unwrap().as_ref(), Some(&ids[3]));
    assert_eq!(store.find_image(&ids[3].to_string()).unwrap().as_ref(), Some(&ids[3]));
    assert_eq!(store.find_image("xyz").unwrap(), None);
    let shared = ids[0].hex()[..1].to_owned();
    if ids.iter().filter(|id| id.hex().starts_with(&shared)).count() > 1 {
        assert!(matches!(store.find_image(&shared), Err(FindError::Ambiguous { .. })));
    }
    assert!(store.remove_image(&ids[3]).unwrap());
    assert_eq!(store.image(&ids[3]).unwrap(), None);
}

#[test]
fn an_unlinked_manifest_takes_its_tags_and_its_entry_under_its_subject_along() {
    let (_folder, store) = store();
    let repository = store.served(&"a".parse().unwrap());
    let [subject, manifest] = [b"1", b"2"].map(|b| Digest::sha256(b));
    repository.link_manifest(&subject, &link(None)).unwrap();
    repository.link_manifest(&manifest, &link(Some(subject.clone()))).unwrap();
    let referrer = Descriptor::new("x", manifest.clone(), 1);
    assert!(repository.add_referrer(&subject, &referrer).unwrap());
    for (tag, manifest) in [("one", &subject), ("two", &manifest), ("too", &manifest)] {
        let record = ServedTag { manifest: manifest.clone() };
        assert!(repository.set_tag(&tag.parse().unwrap(), &record, Expect::Anything).unwrap());
    }
    assert_eq!(repository.referrers(&subject, None, None).unwrap(), std::slice::from_ref(&referrer));
    store.reach().manifest(&repository, &manifest).referrer(&repository, &subject).sync().unwrap();
    assert!(repository.unlink_manifest(&manifest).unwrap());
    assert!(!repository.unlink_manifest(&manifest).unwrap());
    assert!(!repository.add_referrer(&subject, &referrer).unwrap(), "it was unlinked in the meantime");
    assert_eq!(repository.tags(None, None).unwrap(), ["one".parse().unwrap()]);
    assert_eq!(repository.manifests().unwrap(), std::slice::from_ref(&subject));
    assert!(repository.referrers(&subject, None, None).unwrap().is_empty());
}

#[test]
fn a_ref_says_who_holds_a_blob() {
    let (_folder, store) = store();
    let digest = Digest::sha256(b"1");
    for name in ["b/c", "a"] {
        let repository = store.served(&name.parse().unwrap());
        assert!(!repository.has_ref(&digest).unwrap());
        repository.add_ref(&digest).unwrap();
        repository.add_ref(&digest).unwrap();
        assert!(repository.has_ref(&digest).unwrap());
        store.reach().reference(&repository, &digest).sync().unwrap();
    }
    let holders = store.ref_holders(&digest).unwrap();
    assert_eq!(holders.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["a", "b/c"]);
    for holder in &holders {
        assert!(store.served(holder).remove_ref(&digest).unwrap());
    }
    assert!(!store.paths().refs_of(&digest).exists());
}

#[test]
fn a_store_that_is_only_read_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("typo/store");
    let store = Store::open_as_it_is(&root).unwrap();
    assert!(!store.exists().unwrap());
    assert!(store.images().unwrap().0.is_empty() && store.servers().unwrap().is_empty());
    assert!(store.local_repositories().unwrap().is_empty());
    assert!(!folder.path().join("typo").exists());
    Store::open(&root).unwrap();
    assert!(Store::open_as_it_is(&root).unwrap().exists().unwrap());
}

#[test]
fn a_newer_store_is_refused_with_a_hint() {
    let (folder, store) = store();
    fs::write(store.paths().format(), "2\n").unwrap();
    let error = Store::open(&folder.path().join("store")).unwrap_err();
    assert!(matches!(&error, StoreError::NewerFormat { found, known: 1, .. } if found == "2"));
    assert!(error.to_string().contains("use the newer gantry"), "{error}");
}

#[test]
fn only_what_nobody_holds_is_swept() {
    let (_folder, store) = store();
    let mut held = store.ingest().unwrap();
    held.append(b"held").unwrap();
    let scratch = store.scratch().unwrap();
    fs::write(store.paths().ingest().join("abandoned"), b"x").unwrap();
    fs::create_dir_all(store.paths().ingest().join("folder/below")).unwrap();
    let again = Store::open(store.root()).unwrap();
    assert_eq!(names(&store.paths().ingest()).len(), 2);
    assert!(scratch.path().exists());
    let (digest, _) = held.commit_any().unwrap();
    drop(scratch);
    assert!(names(&store.paths().ingest()).is_empty());
    assert_eq!(again.read_blob(&digest, 9).unwrap(), b"held");
}

#[test]
fn leases_end_by_drop_or_by_time() {
    let (_folder, store) = store();
    let digest = Digest::sha256(b"1");
    let mut lease = store.lease(Duration::from_secs(60)).unwrap();
    let mut expired = store.lease(Duration::ZERO).unwrap();
    expired.add(&Digest::sha256(b"2")).unwrap();
    lease.add(&digest).unwrap();
    assert_eq!(store.leased().unwrap().into_iter().collect::<Vec<_>>(), [digest]);
    Store::open(store.root()).unwrap();
    assert_eq!(names(&store.paths().leases()).len(), 1);
    drop(lease);
    assert!(store.leased().unwrap().is_empty());
}

#[test]
fn a_server_is_known_while_it_lives() {
    let (_folder, store) = store();
    let server = Server {
        address: "127.0.0.1:5000".to_owned(),
        instance_key: "k".to_owned(),
        pid: std::process::id(),
    };
    let serving = store.announce(&server).unwrap();
    assert_eq!(store.servers().unwrap(), std::slice::from_ref(&server));
    // What a killed one leaves: a record that nobody holds.
    let records = store.paths().serving();
    let kill = || fs::copy(records.join(&names(&records)[0]), records.join("dead")).unwrap();
    kill();
    assert_eq!(store.servers().unwrap().len(), 1);
    kill();
    assert!(store.check(&CheckOptions::default()).unwrap().is_sound());
    assert_eq!(names(&records).len(), 1);
    kill();
    let second = store.announce(&server).unwrap();
    assert_eq!(names(&records).len(), 2);
    drop((serving, second));
    assert!(store.servers().unwrap().is_empty());
}

#[test]
fn the_secret_stays_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = store();
    let secret = store.secret().unwrap();
    assert_eq!(Store::open(store.root()).unwrap().secret().unwrap(), secret);
    assert_eq!(fs::metadata(store.paths().secret()).unwrap().permissions().mode() & 0o777, 0o600);
    let blob = store.put(b"x").unwrap();
    assert_eq!(fs::metadata(store.paths().blob(&blob)).unwrap().permissions().mode() & 0o777, 0o444);
}
