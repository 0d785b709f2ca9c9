use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use super::super::*;
use super::*;
use crate::oci::{Descriptor, ImageConfig, Manifest, media_type};
use crate::reference::{RepositoryPath, Tag};

/// A store with one image in a repository, and the same image on this machine.
struct Sample {
    _folder: tempfile::TempDir,
    store: Store,
    repository: ServedRepository,
    config: Digest,
    layer: Digest,
    diff_id: Digest,
    manifest: Digest,
}

impl Sample {
    fn new() -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let layer = store.put(b"compressed").unwrap();
        let diff_id = Digest::sha256(b"tar");
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![diff_id.clone()];
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: vec![Descriptor::new(media_type::OCI_LAYER_GZIP, layer.clone(), 10)],
            subject: None,
            annotations: Default::default(),
        };
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let repository = store.served(&"a/b".parse().unwrap());
        let (config, size_bytes) = (store.put(&config).unwrap(), manifest.len() as u64);
        let manifest = store.put(&manifest).unwrap();
        let sample = Sample { _folder: folder, store, repository, config, layer, diff_id, manifest };
        sample.push(size_bytes);
        sample.keep(size_bytes);
        sample
    }

    fn push(&self, size_bytes: u64) {
        let repository = &self.repository;
        repository.add_ref(&self.config).unwrap();
        repository.add_ref(&self.layer).unwrap();
        let link = ManifestLink {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            size_bytes,
            subject: None,
            artifact_type: None,
            absent_children: Vec::new(),
        };
        repository.link_manifest(&self.manifest, &link).unwrap();
        let record = ServedTag { manifest: self.manifest.clone() };
        assert!(repository.set_tag(&tag(), &record, Expect::Absent).unwrap());
    }

    fn keep(&self, size_bytes: u64) {
        let form = self.store.paths().layer_form(&self.diff_id, "gzip-1");
        fs::create_dir_all(form.parent().unwrap()).unwrap();
        let hex = self.layer.hex();
        let digest = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        // gzip, SHA-256, the blob, 10 bytes, and what only `layer` reads
        let table = [b"gantryLF\x01\x01\x00", &*digest.collect::<Vec<u8>>(), b"\x0a\x01..."].concat();
        fs::write(form, with_crc(&table)).unwrap();
        fs::write(self.store.paths().layer_index(&self.diff_id), with_crc(b"gantryLI\x01...")).unwrap();
        let manifest = Descriptor::new(media_type::OCI_MANIFEST, self.manifest.clone(), size_bytes);
        let mut image = ImageRecord::new(self.config.clone(), 0);
        image.manifests.insert(ImageRecord::foreign_form(&self.manifest), manifest.clone());
        self.store.put_image(&image).unwrap();
        let platform = "linux/amd64".parse().unwrap();
        let tagged = TaggedImage { platform, config: self.config.clone(), source: Some(manifest) };
        let names = self.store.local(&"b".parse().unwrap());
        assert!(names.set_tag(&tag(), &LocalTag::of(tagged), Expect::Absent).unwrap());
    }

    fn check(&self) -> CheckReport {
        self.store.check(&CheckOptions::default()).unwrap()
    }

    /// The faults that are found after `damage`, as users read them, with short digests.
    fn faults(damage: impl FnOnce(&Sample)) -> Vec<String> {
        let sample = Sample::new();
        damage(&sample);
        let shorten = |text: String| {
            [
                (&sample.config, "CONFIG"),
                (&sample.layer, "LAYER"),
                (&sample.diff_id, "DIFF"),
                (&sample.manifest, "MANIFEST"),
            ]
            .iter()
            .fold(text, |text, (digest, name)| text.replace(&digest.to_string(), name))
            .replace(&sample.store.root().display().to_string(), "ROOT")
        };
        sample.check().faults.iter().map(|fault| shorten(fault.to_string())).collect()
    }
}

fn with_crc(table: &[u8]) -> Vec<u8> {
    [table, &crc32fast::hash(table).to_le_bytes()].concat()
}

const CONTAINER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn tag() -> Tag {
    "t".parse().unwrap()
}

#[test]
fn a_sound_store_is_counted_and_has_no_faults() {
    let sample = Sample::new();
    let read = Mutex::new(0);
    let progress = |event: CheckEvent| {
        if let CheckEvent::Read { size_bytes } = event {
            *read.lock().unwrap() += size_bytes;
        }
    };
    let report = sample.store.check(&CheckOptions { progress: &progress, ..Default::default() }).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let counts =
        (report.blobs, report.images, report.repositories, report.manifests, report.tags, report.layers);
    assert_eq!(counts, (3, 1, 1, 1, 2, 1));
    assert_eq!(report.size_bytes, *read.lock().unwrap());
}

#[test]
fn every_kind_of_damage_is_named() {
    let blob = |sample: &Sample, digest: &Digest| sample.store.paths().blob(digest);
    assert_eq!(
        Sample::faults(|s| {
            fs::remove_file(blob(s, &s.layer)).unwrap();
            fs::write(blob(s, &s.layer), b"other bytes").unwrap();
        }),
        [
            format!(
                "blob LAYER is damaged: its bytes have the digest {}; remove it by `gantry check --remove-damaged`, then \
                 pull, push, load or build it again",
                Digest::sha256(b"other bytes")
            ),
            "layer DIFF says that blob LAYER has 10 bytes, but it has 11".to_owned(),
            "manifest MANIFEST of repository `a/b` says that blob LAYER has 10 bytes, but it has 11"
                .to_owned(),
        ]
    );
    assert_eq!(
        Sample::faults(|s| fs::remove_file(blob(s, &s.layer)).unwrap()),
        [
            "image CONFIG needs layer DIFF, of which neither the tar nor a compressed form is here; load, pull, import \
             or build it again",
            "layer DIFF needs blob LAYER, which is not in the store; pull, push, load or build it again",
            "manifest MANIFEST of repository `a/b` needs blob LAYER, which is not in the store; pull, push, load or build \
             it again",
        ]
    );
    assert_eq!(
        Sample::faults(|s| fs::remove_file(s.repository.paths().manifest(&s.manifest)).unwrap()),
        ["tag `a/b:t` names manifest MANIFEST, which is not in that repository"]
    );
    assert_eq!(
        Sample::faults(|s| fs::remove_file(s.store.paths().image(&s.config)).unwrap()),
        ["name `b:t` stands for image CONFIG, which is not in the store"]
    );
    assert_eq!(
        Sample::faults(|s| {
            let path = s.repository.paths().referrer(&s.manifest, &s.layer);
            let descriptor = Descriptor::new("x", s.layer.clone(), 1);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, serde_json::json!({ "version": 1, "descriptor": descriptor }).to_string())
                .unwrap();
        }),
        ["`a/b` lists LAYER as referrer of MANIFEST, but has no such manifest"]
    );
    assert_eq!(
        Sample::faults(|s| {
            let (tags, elsewhere) = (s.repository.paths().tags(), s.store.root().join("volumes"));
            fs::rename(&tags, &elsewhere).unwrap();
            std::os::unix::fs::symlink(elsewhere, tags).unwrap();
        }),
        ["ROOT/repos/served/a/b/_tags is a symlink: what is behind it may be used, but is not checked"]
    );
    assert_eq!(
        Sample::faults(|s| {
            fs::write(s.repository.paths().tags().join(".t.swp"), b"").unwrap();
            fs::write(s.repository.paths().tag(&tag()), b"{}").unwrap();
            fs::write(s.store.paths().layer_tar(&s.diff_id), b"another tar").unwrap();
        }),
        [
            "ROOT/repos/served/a/b/_tags/.t.swp does not belong into the store: nothing uses it".to_owned(),
            "record at ROOT/repos/served/a/b/_tags/t is damaged: digest has no `:` between algorithm and hex digits"
                .to_owned(),
            format!(
                "tar of layer DIFF is damaged: its bytes have the digest {}; remove it by `gantry check \
                 --remove-damaged`, then load, pull, import or build an image with this layer again",
                Digest::sha256(b"another tar")
            ),
        ]
    );
}

#[test]
fn damaged_tables_of_a_layer_are_named_with_what_to_do() {
    let index = [
        "list of files of layer DIFF is missing or damaged; load, pull, import or build an image with this layer again; `gantry \
         check --remove-damaged` removes what is damaged",
    ];
    let flip = |path: std::path::PathBuf, at: usize| {
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for at in [0, 9, 12] {
        assert_eq!(Sample::faults(|s| flip(s.store.paths().layer_index(&s.diff_id), at)), index);
    }
    assert_eq!(Sample::faults(|s| fs::write(s.store.paths().layer_index(&s.diff_id), b"").unwrap()), index);
    assert_eq!(Sample::faults(|s| fs::remove_file(s.store.paths().layer_index(&s.diff_id)).unwrap()), index);
    assert_eq!(
        Sample::faults(|s| {
            fs::write(s.store.paths().layer_tar(&s.diff_id), b"tar").unwrap();
            flip(s.store.paths().layer_form(&s.diff_id, "gzip-1"), 46);
        }),
        [
            "record `gzip-1` of layer DIFF is damaged; load, pull, import or build an image with this layer again; `gantry check \
          --remove-damaged` removes what is damaged"
        ]
    );
}

#[test]
fn a_damaged_blob_is_removed_on_request_and_can_come_again() {
    let sample = Sample::new();
    let path = sample.store.paths().blob(&sample.layer);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"cOmpressed").unwrap();
    let found = |remove_damaged| {
        let report = sample.store.check(&CheckOptions { remove_damaged, ..Default::default() }).unwrap();
        report.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(found(false).contains("--remove-damaged"));
    assert!(path.exists(), "a check changes nothing unless asked to");
    assert!(found(true).contains("it was removed; pull, push"));
    assert!(sample.store.open_blob(&sample.layer).unwrap().is_none());
    assert_eq!(sample.store.put(b"compressed").unwrap(), sample.layer);
    assert_eq!(found(true), "");
    assert!(path.exists(), "what is sound stays");
}

#[test]
fn a_damaged_blob_that_can_be_made_again_is_needed_by_nobody_once_it_is_removed() {
    let sample = Sample::new();
    fs::write(sample.store.paths().layer_tar(&sample.diff_id), b"tar").unwrap();
    sample.repository.remove_ref(&sample.layer).unwrap();
    let path = sample.store.paths().blob(&sample.layer);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"cOmpressed").unwrap();
    let options = CheckOptions { remove_damaged: true, ..Default::default() };
    let faults = sample.store.check(&options).unwrap().faults;
    assert!(matches!(&faults[..], [Fault::Blob { removed: true, .. }]), "{faults:?}");
    assert!(sample.check().is_sound());
}

#[test]
fn what_is_damaged_of_a_layer_that_no_image_needs_is_removed_on_request() {
    let damaged: [&dyn Fn(&Sample) -> PathBuf; 4] = [
        &|s| s.store.paths().layer_tar(&s.diff_id),
        &|s| s.store.paths().layer_index(&s.diff_id),
        &|s| s.store.paths().layer_form(&s.diff_id, "gzip-1"),
        &|s| s.store.paths().blob(&s.layer),
    ];
    for path in damaged {
        for has_tar in [false, true] {
            let sample = Sample::new();
            let repository = sample.store.local(&"b".parse().unwrap());
            let record = repository.tag(&tag()).unwrap().unwrap();
            assert!(repository.delete_tag(&tag(), Expect::Is(&record)).unwrap());
            fs::remove_file(sample.store.paths().image(&sample.config)).unwrap();
            fs::remove_dir_all(sample.store.root().join("repos")).unwrap();
            if has_tar {
                fs::write(sample.store.paths().layer_tar(&sample.diff_id), b"tar").unwrap();
            }
            assert!(sample.check().is_sound());
            let path = path(&sample);
            _ = fs::remove_file(&path);
            fs::write(&path, b"damaged...").unwrap();
            assert!(!sample.check().is_sound());
            assert!(path.exists(), "a check changes nothing unless asked to");
            let options = CheckOptions { remove_damaged: true, ..Default::default() };
            let faults = sample.store.check(&options).unwrap().faults;
            let [fault] = &faults[..] else { panic!("{faults:?}") };
            assert!(fault.to_string().contains("it was removed; "), "{fault}");
            assert!(!path.exists());
            let report = sample.check();
            assert!(report.is_sound(), "{}: {:?}", path.display(), report.faults);
        }
    }
}

#[test]
fn records_of_the_build_cache_and_of_containers_are_read() {
    let step = format!("cache/steps/00/{}", "0".repeat(64));
    let check = |path: &str, good: &str, bad: &[&str], expected: &str| {
        let write = |s: &Sample, text: &str| {
            let path = s.store.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Sample::faults(|s| write(s, good)), [""; 0], "{path}");
        for bad in bad {
            let faults = Sample::faults(|s| write(s, bad));
            let [fault] = &faults[..] else { panic!("{path}: {bad}: {faults:?}") };
            assert!(fault.contains(expected) && fault.contains(path), "{fault}");
        }
    };
    let head = format!(r#"{{"version":1,"diff_id":"{}","created":"now"}}"#, Digest::sha256(b""));
    let good = format!("{head}\n[[\"kind\",\"copy\"]]\n");
    let cut = &good[..good.len() - 5];
    let wrong_digest = good.replace("sha256:", "sha0:");
    check(&step, &good, &["", "garbage", &head, cut, &wrong_digest], "the step will run again");
    for name in ["config.json", "settings.json", "state.json"] {
        let path = format!("containers/{CONTAINER}/{name}");
        check(&path, r#"{"version":2,"new":[]}"#, &["", "garbage", "{}"], "the container is gone");
    }
    check(
        &format!("containers/{CONTAINER}/config.json"),
        &format!(r#"{{"version":1,"id":"{CONTAINER}"}}"#),
        &[r#"{"version":1,"id":"y"}"#],
        "another container",
    );
}

/// What somebody may put into a folder of the store by mistake, and its name.
type Stray = (&'static [u8], fn(&Path));

const STRAYS: [Stray; 6] = [
    (b"~stray", |path| fs::write(path, "stray").unwrap()),
    (b"Stray folder", |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), "").unwrap();
    }),
    (b"stra\xff", |path| fs::write(path, "").unwrap()),
    (b"a-pipe", |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap()),
    (b"a-loop", |path| std::os::unix::fs::symlink(".", path).unwrap()),
    (b"a-link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
];

/// All folders of a store, those that `skip` names left out with what is in them.
fn folders(folder: &Path, skip: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let below = entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path());
    below.filter(|path| !skip(path)).for_each(|path| folders(&path, skip, found));
}

#[test]
fn what_others_put_into_the_store_is_named_and_in_nobodys_way() {
    let sample = Sample::new();
    let Sample { store, repository, .. } = &sample;
    let referrer = Descriptor::new("x", sample.manifest.clone(), 1);
    assert!(repository.add_referrer(&Digest::sha256(b"subject"), &referrer).unwrap());
    let lease = store.lease(Duration::from_secs(60)).unwrap();
    let server = Server { address: "a:1".into(), instance_key: "k".into(), pid: 1 };
    let serving = store.announce(&server).unwrap();
    let options = UploadOptions {
        repository: "a/b".parse().unwrap(),
        subject: String::new(),
        algorithm: crate::digest::Algorithm::Sha256,
        lifetime: Duration::from_secs(60),
    };
    drop(store.begin_upload(options).unwrap());
    fs::create_dir_all(store.root().join("cache/steps/00")).unwrap();
    fs::create_dir_all(store.root().join("trash/2026-01-01")).unwrap();
    fs::create_dir_all(store.root().join("containers/names")).unwrap();
    fs::create_dir_all(store.root().join("snapshots/full/sha256/00")).unwrap();

    // All that lists anything.
    let state = || {
        let store = Store::open(store.root()).unwrap();
        let (served, local) = (store.served_repositories(None, None), store.local_repositories());
        let (images, damaged) = store.images().unwrap();
        let repository = store.served(&"a/b".parse().unwrap());
        format!(
            "{:?} {:?} {images:?} {damaged:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            served.unwrap(),
            local.unwrap(),
            repository.tags(None, Some(1)).unwrap(),
            repository.manifests().unwrap(),
            repository.referrers(&Digest::sha256(b"subject"), None, Some(1)).unwrap(),
            store.ref_holders(&sample.layer).unwrap(),
            store.leased().unwrap(),
            store.servers().unwrap(),
            store.blob_size(&Digest::sha256(b"not there")).unwrap(),
            store.sweep_uploads().unwrap(),
        )
    };
    let before = state();
    assert!(sample.check().is_sound(), "{:?}", sample.check().faults);
    let mut all = Vec::new();
    let closed =
        |path: &Path| path.ends_with("ingest") || path.ends_with("serving") || path.ends_with("names");
    folders(store.root(), &closed, &mut all);
    for folder in all {
        for (name, make) in STRAYS {
            let path = folder.join(OsStr::from_bytes(name));
            make(&path);
            assert_eq!(state(), before, "{}", path.display());
            let report = sample.check();
            let faults = report.faults.iter().map(Fault::to_string);
            let named: Vec<_> = faults.chain(report.notes.iter().map(Note::to_string)).collect();
            let expected = path.to_string_lossy();
            assert!(named.iter().any(|text| text.starts_with(&*expected)), "{expected}: {named:?}");
            // What is beside the store's own folders harms nobody.
            assert_eq!(report.is_sound(), folder == store.root(), "{named:?}");
            disk::remove_tree(&path).unwrap();
        }
    }
    drop((lease, serving));
}

#[test]
fn what_a_dead_process_left_and_nobody_can_remove_is_named() {
    let sample = Sample::new();
    let left = sample.store.paths().ingest().join("left");
    fs::create_dir_all(&left).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("tmpfs", &left, "tmpfs", flags, Some(c"size=4k")) {
        eprintln!("skipped: cannot mount a tmpfs: {error}");
        return;
    }
    let faults = sample.check().faults;
    rustix::mount::unmount(&left, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(matches!(&faults[..], [Fault::Abandoned { path }] if *path == left), "{faults:?}");
    assert!(faults[0].to_string().ends_with("was left by a process that is gone, and could not be removed"));
    assert!(sample.check().is_sound() && !left.exists(), "now it can be swept");
}

#[test]
fn what_is_no_fault_is_noted() {
    let sample = Sample::new();
    sample.store.put(b"alone").unwrap();
    let mut ingest = sample.store.ingest().unwrap();
    ingest.append(b"unfinished").unwrap();
    sample.repository.remove_ref(&sample.layer).unwrap();
    sample.repository.add_ref(&Digest::sha256(b"lost in a power cut")).unwrap();
    let report = sample.check();
    assert!(report.is_sound(), "{:?}", report.faults);
    let repository: RepositoryPath = "a/b".parse().unwrap();
    assert_eq!(
        report.notes,
        [
            Note::Unfinished { count: 1 },
            Note::Removed { repository, manifest: sample.manifest.clone(), child: sample.layer.clone() },
            Note::Interrupted { blobs: 1 },
            Note::Unreached { blobs: 1, size_bytes: 5 },
        ]
    );
    drop(ingest);
    let grace = Some(Duration::ZERO);
    let report = sample.store.check(&CheckOptions { grace, ..Default::default() }).unwrap();
    assert!(matches!(report.faults[..], [Fault::Uncollected { .. }]), "{:?}", report.faults);
}

#[test]
fn children_that_were_absent_at_the_push_are_no_fault() {
    let sample = Sample::new();
    sample.repository.remove_ref(&sample.layer).unwrap();
    let link = sample.repository.manifest(&sample.manifest).unwrap().unwrap();
    let link = ManifestLink { absent_children: vec![sample.layer.clone()], ..link };
    sample.repository.link_manifest(&sample.manifest, &link).unwrap();
    let report = sample.check();
    assert!(report.is_sound() && report.notes.is_empty(), "{report:?}");
}
