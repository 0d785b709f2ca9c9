//! Faults on purpose: killed writers, a full disk, several processes at one thing.
//!
//! The writer is this test binary again, told by an environment variable what to do. It prints a line for everything
//! that it may believe in; the parent kills it at a random moment and holds it to its word.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tests::names;
use super::*;
use crate::digest::{Algorithm, Digest};
use crate::oci::{Descriptor, Manifest, media_type};

const ROLE: &str = "GANTRY_TEST_STORE_WRITER";

/// Starts this test binary in a role, in a process of its own.
fn spawn(role: &str, root: &Path, argument: u64) -> Child {
    let program = std::env::current_exe().unwrap();
    spawn_with(Command::new(program), role, root, argument)
}

fn spawn_with(mut command: Command, role: &str, root: &Path, argument: u64) -> Child {
    command
        .args([
            "--exact",
            "store::faults::a_writer_in_a_process_of_its_own",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, format!("{role},{argument},{}", root.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test by itself: what a spawned process does.
#[test]
fn a_writer_in_a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [role, argument, root] = role.splitn(3, ',').collect::<Vec<_>>()[..] else { panic!("{role}") };
    let store = Store::open(Path::new(root)).unwrap();
    let argument: u64 = argument.parse().unwrap();
    match role {
        "push" => (argument..argument + 10_000).for_each(|n| push(&store, n)),
        "push once" => push(&store, argument),
        "count" => count(&store, argument),
        "put" => put_same(&store, argument),
        other => panic!("no role `{other}`"),
    }
}

/// Says that something is done: one write, so that a reader sees it whole or not at all.
fn acknowledge(line: &str) {
    use std::io::Write;
    std::io::stdout().write_all(format!("ok {line}\n").as_bytes()).unwrap();
}

/// Pushes image number `n` by an upload in two requests, tags it, keeps a record of it and deletes an older one.
fn push(store: &Store, n: u64) {
    let repository = store.served(&format!("r{}/a", n % 3).parse().unwrap());
    let (layer, layer_bytes) = upload(store, n);
    repository.add_ref(&layer).unwrap();
    let config =
        store.put(format!(r#"{{"n":{n},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#).as_bytes()).unwrap();
    repository.add_ref(&config).unwrap();
    let config_bytes = store.blob_size(&config).unwrap().unwrap();
    let subject = (n > 3).then(|| Digest::sha256(b"a subject that never came"));
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media_type::OCI_CONFIG, config.clone(), config_bytes),
        layers: vec![Descriptor::new(media_type::OCI_LAYER, layer.clone(), layer_bytes)],
        subject: subject.clone().map(|digest| Descriptor::new(media_type::OCI_MANIFEST, digest, 1)),
        annotations: Default::default(),
    })
    .unwrap();
    let digest = store.put(&manifest).unwrap();
    let link = ManifestLink {
        media_type: media_type::OCI_MANIFEST.to_owned(),
        size_bytes: manifest.len() as u64,
        subject: subject.clone(),
        artifact_type: None,
        absent_children: Vec::new(),
    };
    repository.link_manifest(&digest, &link).unwrap();
    let mut reach = store.reach().blob(&config).blob(&layer).manifest(&repository, &digest);
    if let Some(subject) = &subject {
        let referrer = Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), link.size_bytes);
        assert!(repository.add_referrer(subject, &referrer).unwrap());
        reach = reach.referrer(&repository, subject);
    }
    let tag = format!("t{n}").parse().unwrap();
    assert!(repository.set_tag(&tag, &ServedTag { manifest: digest.clone() }, Expect::Anything).unwrap());
    store.put_image(&ImageRecord::new(config.clone(), 0)).unwrap();
    let reach = reach.reference(&repository, &config).reference(&repository, &layer);
    reach.tags(&repository).image(&config).sync().unwrap();
    acknowledge(&format!("push {n} {digest} {layer} {config}"));
    if n % 3 == 2 {
        repository.unlink_manifest(&digest).unwrap();
        acknowledge(&format!("delete {n}"));
    }
}

/// Some hundred KiB in two requests; the session is left in between.
fn upload(store: &Store, n: u64) -> (Digest, u64) {
    let options = UploadOptions {
        repository: "a".parse().unwrap(),
        subject: String::new(),
        algorithm: Algorithm::Sha256,
        lifetime: Duration::from_secs(3600),
    };
    let bytes = n.to_le_bytes().repeat(40_000);
    let (first, second) = bytes.split_at(200_000);
    let mut upload = store.begin_upload(options).unwrap();
    upload.append(first).unwrap();
    let id = upload.id().clone();
    drop(upload);
    acknowledge(&format!("upload {id}"));
    let mut upload = store.resume_upload(&id).unwrap();
    upload.append(second).unwrap();
    let digest = Digest::sha256(&bytes);
    let size_bytes = upload.finish(&digest).unwrap();
    (digest, size_bytes)
}

/// What a killed writer said, checked.
fn hold_to_its_word(store: &Store, said: &[String]) {
    for (i, line) in said.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let last = i + 1 == said.len();
        match words[..] {
            ["ok", "push", n, manifest, layer, config] => {
                let repository =
                    store.served(&format!("r{}/a", n.parse::<u64>().unwrap() % 3).parse().unwrap());
                let [manifest, layer, config] =
                    [manifest, layer, config].map(|d| d.parse::<Digest>().unwrap());
                for blob in [&manifest, &layer, &config] {
                    store.read_blob(blob, u64::MAX).unwrap();
                }
                assert!(repository.has_ref(&layer).unwrap() && repository.has_ref(&config).unwrap());
                assert!(store.image(&config).unwrap().is_some());
                let tag = repository.tag(&format!("t{n}").parse().unwrap()).unwrap();
                let link = repository.manifest(&manifest).unwrap();
                let deleted = said.get(i + 1) == Some(&format!("ok delete {n}"));
                // It may have died while it deleted.
                let deleting = last && n.parse::<u64>().unwrap() % 3 == 2;
                if deleted {
                    assert!(tag.is_none() && link.is_none());
                } else if !deleting {
                    assert_eq!(tag, Some(ServedTag { manifest: manifest.clone() }));
                    let subject = link.unwrap().subject;
                    let referrers = |s: &Digest| repository.referrers(s, None, None).unwrap();
                    let listed = |s: &Digest| referrers(s).iter().any(|r| r.digest == manifest);
                    assert!(subject.is_none_or(|s| listed(&s)));
                }
            }
            ["ok", "upload", id] if last => {
                // The push that this belongs to never ended. Unless it died between the rename and the removal of
                // the session, its bytes are still there.
                let upload = store.resume_upload(&id.parse().unwrap());
                if let Ok(upload) = upload {
                    assert!([0, 200_000, 320_000].contains(&upload.offset()), "{}", upload.offset());
                    upload.cancel();
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_store_whose_writer_is_killed_two_hundred_times_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let mut pushed = 0;
    for round in 0..200u64 {
        let mut child = spawn("push", &root, pushed);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = Vec::new();
        // Die at some instant after some line: what comes between two lines takes different times.
        let lines = 1 + round % 4;
        for line in output.by_ref().lines().map(Result::unwrap).filter(|line| line.starts_with("ok ")) {
            said.push(line);
            if said.len() as u64 > lines {
                break;
            }
        }
        spin(Duration::from_micros(random() % 4000));
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(output.lines().map_while(Result::ok).filter(|line| line.starts_with("ok ")));
        let store = Store::open(&root).unwrap();
        hold_to_its_word(&store, &said);
        pushed += said.iter().filter(|line| line.starts_with("ok push")).count() as u64;
        if round % 20 == 19 {
            let report = store.check(&CheckOptions::default()).unwrap();
            assert!(report.is_sound(), "round {round}: {:#?}", report.faults);
            assert!(!report.notes.iter().any(|note| matches!(note, Note::Unfinished { .. })));
        }
    }
    assert!(pushed > 100, "only {pushed} pushes were acknowledged");
    let store = Store::open(&root).unwrap();
    assert_eq!(names(&store.paths().ingest()), [""; 0]);
}

#[test]
fn a_store_may_be_checked_while_it_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    succeed(spawn("push once", &root, 0));
    let mut writers = [0, 10_000].map(|first| {
        let mut writer = spawn("push", &root, first);
        let mut output = writer.stdout.take().unwrap();
        // Somebody has to listen, or the writer stops when the pipe is full.
        let listener = std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        (writer, listener)
    });
    let store = Store::open(&root).unwrap();
    let before = store.check(&CheckOptions::default()).unwrap().manifests;
    for round in 0.. {
        let report = store.check(&CheckOptions::default()).unwrap();
        assert!(report.is_sound(), "round {round}: {:#?}", report.faults);
        if round >= 20 && report.manifests > before + 20 {
            break;
        }
        assert!(round < 10_000, "the writers do not write");
    }
    for (writer, listener) in &mut writers {
        writer.kill().unwrap();
        writer.wait().unwrap();
        while !listener.is_finished() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_push_whose_nth_system_call_fails_leaves_a_sound_store() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: strace, which makes system calls fail, is not installed");
        return;
    }
    for calls in ["fsync", "rename,renameat,renameat2", "pwrite64", "mkdir,mkdirat", "flock"] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        succeed(spawn("push once", &root, 1));
        let (mut failures, mut last) = (0, 0);
        for n in 1..=24 {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            strace.args(["-e", &format!("inject={calls}:error=EIO:when={n}")]);
            strace.arg(std::env::current_exe().unwrap()).stderr(Stdio::null());
            let output = spawn_with(strace, "push once", &root, 4).wait_with_output().unwrap();
            let store = Store::open(&root).unwrap();
            let report = store.check(&CheckOptions::default()).unwrap();
            assert!(report.is_sound(), "{calls} number {n}: {:#?}", report.faults);
            let said = String::from_utf8(output.stdout).unwrap();
            let said: Vec<_> =
                said.lines().filter(|line| line.starts_with("ok ")).map(str::to_owned).collect();
            hold_to_its_word(&store, &said);
            if !output.status.success() {
                assert!(!said.iter().any(|line| line.starts_with("ok push")), "{calls} number {n}: {said:?}");
                (failures, last) = (failures + 1, n);
            }
        }
        assert!(failures > 0, "{calls} never failed");
        // Other calls may fail where the work is optional, such as a look at what others left.
        assert!(calls != "fsync" || failures == last, "a push succeeded although an fsync failed");
    }
}

/// Waits without giving up the CPU: the moment of the kill is what matters.
fn spin(time: Duration) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    disk::fill_random(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// Adds one to a tag, `n` times: lost updates would show.
fn count(store: &Store, n: u64) {
    let repository = store.local(&"counter".parse().unwrap());
    let tag = "n".parse().unwrap();
    for _ in 0..n {
        loop {
            let old = repository.tag(&tag).unwrap();
            let mut new = old.clone().unwrap_or_default();
            let platform = crate::platform::Platform::new("linux", &format!("cpu{}", new.images.len()), None);
            new.set(TaggedImage { platform, config: Digest::sha256(b""), source: None });
            let expect = old.as_ref().map_or(Expect::Absent, Expect::Is);
            if repository.set_tag(&tag, &new, expect).unwrap() {
                break;
            }
        }
    }
}

#[test]
fn two_processes_that_count_in_one_tag_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let children = [(); 2].map(|()| spawn("count", &root, 50));
    children.into_iter().for_each(succeed);
    let repository = Store::open(&root).unwrap().local(&"counter".parse().unwrap());
    assert_eq!(repository.tag(&"n".parse().unwrap()).unwrap().unwrap().images.len(), 100);
}

fn put_same(store: &Store, n: u64) {
    for i in 0..n {
        let bytes = i.to_le_bytes().repeat(1000);
        let digest = store.put(&bytes).unwrap();
        assert_eq!(store.read_blob(&digest, u64::MAX).unwrap(), bytes);
    }
}

#[test]
fn two_processes_may_commit_the_same_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let children = [(); 2].map(|()| spawn("put", &root, 100));
    children.into_iter().for_each(succeed);
    let report = Store::open(&root).unwrap().check(&CheckOptions::default()).unwrap();
    assert!(report.is_sound(), "{:#?}", report.faults);
    assert_eq!(report.blobs, 100);
}

fn succeed(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A tmpfs of one MiB in a folder, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Result<SmallDisk, rustix::io::Errno> {
        let folder = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, Some(c"size=1m"))?;
        Ok(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_leaves_a_sound_store_that_works_again_once_there_is_room() {
    let disk = match SmallDisk::new() {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("skipped: cannot mount a tmpfs: {error}");
            return;
        }
    };
    let store = Store::open(&disk.0.path().join("store")).unwrap();
    push_small(&store, "before").unwrap();
    let filler = disk.0.path().join("filler");
    let mut failures = 0;
    // Each time a few more KiB are free, so that each step of a push is the one that fails, sooner or later.
    for free_pages in 0..40 {
        let mut file = fs::File::create(&filler).unwrap();
        let full = std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(free_pages * 4096)).unwrap();
        if let Err(error) = push_small(&store, &format!("full{free_pages}")) {
            assert!(error.is_no_space(), "{error:?}");
            failures += 1;
        }
        let report = store.check(&CheckOptions::default()).unwrap();
        assert!(report.is_sound(), "{free_pages} pages free: {:#?}", report.faults);
        assert!(
            !report.notes.iter().any(|note| matches!(note, Note::Unfinished { .. })),
            "{:?}",
            report.notes
        );
        fs::remove_file(&filler).unwrap();
    }
    assert!(failures > 3, "the disk was full only {failures} times");
    push_small(&store, "after").unwrap();
    assert!(store.check(&CheckOptions::default()).unwrap().is_sound());
}

fn push_small(store: &Store, name: &str) -> Result<(), StoreError> {
    let repository = store.served(&name.parse().unwrap());
    let store_error = |error| match error {
        CommitError::Store(error) => error,
        other => panic!("{other}"),
    };
    let options = UploadOptions {
        repository: repository.path().clone(),
        subject: String::new(),
        algorithm: Algorithm::Sha256,
        lifetime: Duration::from_secs(60),
    };
    let bytes = name.repeat(2000);
    let mut upload = store.begin_upload(options)?;
    if let Err(error) = upload.append(bytes.as_bytes()) {
        upload.cancel();
        return Err(error);
    }
    let digest = Digest::sha256(bytes.as_bytes());
    upload.finish(&digest).map_err(store_error)?;
    repository.add_ref(&digest)?;
    let manifest = store.put(name.as_bytes()).map_err(store_error)?;
    let link = ManifestLink {
        media_type: "application/json".to_owned(),
        size_bytes: name.len() as u64,
        subject: None,
        artifact_type: None,
        absent_children: Vec::new(),
    };
    repository.link_manifest(&manifest, &link)?;
    let record = ServedTag { manifest: manifest.clone() };
    repository.set_tag(&"t".parse().unwrap(), &record, Expect::Anything)?;
    let reach = store.reach().blob(&digest).reference(&repository, &digest);
    reach.manifest(&repository, &manifest).tags(&repository).sync()
}
