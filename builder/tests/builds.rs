//! Builds through the library: what a user would notice.

#![expect(clippy::unwrap_used, reason = "a test of its own")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use builder::{
    BuildError, BuildRequest, Built, DockerfileSource, Environment, Event, ExitStatus, Step, StepError,
    StepRunner, Stream,
};
use common::layer::{Follow, Kind, Root};
use common::platform::Platform;
use common::reference::Reference;
use common::store::{CheckOptions, Store};
use tempfile::TempDir;

/// A store, a context, and what happened in the last build.
struct World {
    folder: TempDir,
    store: Store,
    cached: Mutex<Vec<String>>,
    vertices: Mutex<Vec<String>>,
    warnings: Mutex<Vec<String>>,
}

/// Does to the upper directory what the command says: `write PATH TEXT`, or fails.
struct Writer;

impl StepRunner for Writer {
    fn run(&self, step: &Step<'_>, output: &mut dyn FnMut(Stream, &[u8])) -> Result<ExitStatus, StepError> {
        let command = step.args.last().unwrap();
        output(Stream::Stdout, command.as_bytes());
        match command.split_whitespace().collect::<Vec<_>>()[..] {
            ["write", path, text] => {
                let upper = step.root.upper.as_ref().unwrap();
                fs::write(upper.tree.join(path), text).unwrap();
                Ok(ExitStatus::Code(0))
            }
            _ => Ok(ExitStatus::Code(3)),
        }
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("context")).unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        World {
            folder,
            store,
            cached: Mutex::default(),
            vertices: Mutex::default(),
            warnings: Mutex::default(),
        }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.folder.path().join("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            context: Some(self.folder.path().join("context")),
            dockerfile: DockerfileSource::Text(dockerfile.into()),
            ..BuildRequest::default()
        }
    }

    fn run(&self, request: &BuildRequest) -> Result<Built, BuildError> {
        self.cached.lock().unwrap().clear();
        self.vertices.lock().unwrap().clear();
        self.warnings.lock().unwrap().clear();
        let pull = |reference: &Reference, _: &Platform| Err(format!("no {reference} in this test").into());
        let events = |event: Event<'_>| match event {
            Event::Started { name, .. } => self.vertices.lock().unwrap().push(name.to_owned()),
            Event::Doubtful { warning, line } => {
                self.warnings.lock().unwrap().push(format!("{warning} (line {line})"));
            }
            Event::Warning(text) => self.warnings.lock().unwrap().push(text.to_owned()),
            Event::Cached { vertex } => {
                let name = self.vertices.lock().unwrap()[vertex.0 as usize - 1].clone();
                self.cached.lock().unwrap().push(name);
            }
            _ => {}
        };
        let environment =
            Environment { runner: &Writer, pull: &pull, events: &events, cancelled: &AtomicBool::new(false) };
        let result = builder::build(&self.store, request, &environment);
        let report = self.store.check(&CheckOptions::default()).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        result
    }

    fn build(&self, dockerfile: &str) -> Built {
        self.run(&self.request(dockerfile)).unwrap()
    }

    fn error(&self, dockerfile: &str) -> String {
        self.run(&self.request(dockerfile)).unwrap_err().to_string()
    }

    /// Steps of the last build that were found in the cache.
    fn cached(&self) -> usize {
        self.cached.lock().unwrap().len()
    }

    fn root(&self, built: &Built) -> Root {
        Root::open(&self.store, &built.config.rootfs.diff_ids).unwrap()
    }

    /// `path` as `mode uid:gid`, and the length of a file.
    fn describe(&self, built: &Built, path: &str) -> Option<String> {
        let root = self.root(built);
        let found = root.lookup(path.as_bytes(), Follow::No).unwrap()?;
        let entry = found.entry;
        let kind = match &entry.kind {
            Kind::File { size_bytes, .. } => format!("file {size_bytes}"),
            Kind::Directory => "directory".to_owned(),
            other => format!("{other:?}"),
        };
        Some(format!("{kind} {:o} {}:{}", entry.mode, entry.uid, entry.gid))
    }
}

#[test]
fn an_unchanged_build_is_all_from_the_cache_and_gives_the_same_image() {
    let world = World::new();
    world.file("a", "1");
    let dockerfile =
        "FROM scratch AS one\nCOPY a /a\nFROM scratch\nWORKDIR /w\nCOPY --from=one /a /b\nENV X=1";
    let first = world.build(dockerfile);
    assert_eq!(world.cached(), 0);
    let second = world.build(dockerfile);
    assert_eq!(world.cached(), 3);
    assert_eq!(first.id, second.id);
}

#[test]
fn an_image_whose_config_nobody_would_read_is_not_made() {
    let world = World::new();
    let mut dockerfile = "FROM scratch\nWORKDIR /w\nENV V0=x\n".to_owned();
    for n in 1..2300 {
        dockerfile += &format!("ENV V{n}=${{V{}}}xx\n", n - 1);
    }
    let error = world.error(&dockerfile);
    assert!(error.contains("at most 8388608 are allowed"), "{error}");
    assert_eq!(world.store.image_ids().unwrap(), []);
}

#[test]
fn touching_a_file_changes_nothing_and_another_mode_does() {
    let world = World::new();
    world.file("a", "1");
    let path = world.folder.path().join("context/a");
    let first = world.build("FROM scratch\nCOPY a /");
    fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(world.build("FROM scratch\nCOPY a /").id, first.id);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(world.build("FROM scratch\nCOPY a /").id, first.id);
    world.file("a", "2");
    world.build("FROM scratch\nCOPY a /");
    assert_eq!(world.cached(), 0);
}

#[test]
fn a_stage_that_came_to_the_same_files_hits_downstream() {
    let world = World::new();
    world.file("a", "1");
    let dockerfile = |comment: &str| {
        format!("FROM scratch AS one\nCOPY a /{comment}\nFROM scratch\nCOPY --from=one /out /out")
    };
    world.build(&dockerfile("out"));
    world.build(&dockerfile("x/../out"));
    assert_eq!(world.cached(), 2, "{:?}", world.vertices.lock().unwrap());
}

#[test]
fn with_an_epoch_two_contexts_with_other_times_give_one_digest() {
    let build = |mtime: u64| {
        let world = World::new();
        world.file("d/a", "1");
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(mtime);
        fs::File::open(world.folder.path().join("context/d/a")).unwrap().set_modified(time).unwrap();
        let request = BuildRequest {
            source_date_epoch: Some(1_700_000_000),
            no_cache: true,
            ..world.request("FROM scratch\nCOPY . /x/\nWORKDIR /y\nADD d <<E /z/\nhi\nE")
        };
        world.run(&request).unwrap().id
    };
    assert_eq!(build(1), build(2_000_000_000));
}

#[test]
fn a_missing_source_names_the_line_and_what_left_it_out() {
    let world = World::new();
    world.file("src/a", "1");
    world.file(".dockerignore", "*.md\ns*\n");
    assert_eq!(
        world.error("FROM scratch AS app\nWORKDIR /app\nCOPY src /app\n"),
        "cannot build the image\n  Dockerfile:3\n    2 | WORKDIR /app\n>>  3 | COPY src /app\n  \
         cause: `src` is not in the build context\n  hint: `.dockerignore` line 2 (`s*`) leaves it out"
    );
}

#[test]
fn an_unknown_owner_is_an_error_of_its_line() {
    let world = World::new();
    world.file("a", "1");
    let error = world.error("FROM scratch\nCOPY --chown=ghost a /");
    assert!(error.contains("Dockerfile:2") && error.contains("unknown user `ghost`"), "{error}");
}

#[test]
fn flags_that_are_for_downloads_are_refused_for_files_with_their_line() {
    let world = World::new();
    world.file("a", "1");
    world.file("b", "2");
    let sum = format!("sha256:{}", "0".repeat(64));
    let check = |line: &str, cause: &str| {
        let error = world.error(&format!("FROM scratch\n{line}\n"));
        assert!(error.contains(">>  2 | ADD --checksum=") && error.ends_with(cause), "{error}");
    };
    check(&format!("ADD --checksum={sum} a /"), "cause: checksum requires HTTP(S) or Git sources");
    check(
        &format!("ADD --checksum={sum} a b /d/"),
        "cause: checksum can't be specified for multiple sources",
    );
    // As in BuildKit, where an empty one is none.
    world.build("FROM scratch\nARG SUM\nADD --checksum=$SUM a /\n");
    assert!(world.warnings.lock().unwrap().is_empty());
    world.build("FROM scratch\nADD --keep-git-dir=true a /\n");
    assert_eq!(
        *world.warnings.lock().unwrap(),
        ["Dockerfile:2: `--keep-git-dir` has no effect: no source is a git repository"]
    );
}

#[test]
fn a_device_that_is_not_there_is_said_and_a_required_one_is_refused() {
    let world = World::new();
    let error = world.error("FROM scratch\nRUN --device=vendor/x=y,required write f hello\n");
    assert!(error.contains(">>  2 |") && error.ends_with("`RUN --device` is not supported yet"), "{error}");
    if let Err(reason) = common::snapshot::Snapshots::new(&world.store).probe() {
        eprintln!("skipped: {reason}");
        return;
    }
    world.build("FROM scratch\nRUN --device=vendor/x=y write f hello\n");
    assert_eq!(
        *world.warnings.lock().unwrap(),
        ["Dockerfile:2: the step goes without device `vendor/x=y`: `RUN --device` is not supported yet"]
    );
}

#[test]
fn a_run_of_nothing_is_refused_before_anything_runs() {
    let world = World::new();
    let error = world.error("FROM scratch\nCOPY nothing /\nRUN []\n");
    assert!(
        error.contains(">>  3 | RUN []") && error.contains("cause: the list holds no command"),
        "{error}"
    );
}

#[test]
fn a_source_that_is_no_pattern_is_refused_with_its_line() {
    let world = World::new();
    world.file("a", "1");
    let error = world.error("FROM scratch\nCOPY ['a', '/x/']\nADD a[ /y/\nARG P=[]\nCOPY $P /z/\n");
    assert!(error.contains(">>  2 |") && error.contains(">>  3 |"), "{error}");
    assert!(error.contains("cause: `a[` is no pattern: `[` is not closed"), "{error}");
    let error = world.error("FROM scratch\nARG P=[]\nCOPY $P /z/\n");
    assert!(error.contains(">>  3 |") && error.contains("cause: `[]` is no pattern"), "{error}");
}

#[test]
fn a_socket_of_the_context_is_an_empty_file() {
    let world = World::new();
    world.file("d/a", "1");
    let path = world.folder.path().join("context/d/s");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let built = world.build("FROM scratch\nCOPY d /d\nCOPY d/s /t\n");
    for path in ["d/s", "t"] {
        assert_eq!(world.describe(&built, path).as_deref(), Some("file 0 640 0:0"));
    }
}

#[test]
fn with_parents_a_file_before_the_pivot_is_nothing() {
    let world = World::new();
    for path in ["t/a.txt", "t/b.md", "t/s/c.txt", "t/s/d.md"] {
        world.file(path, "1");
    }
    let built = world.build("FROM scratch\nCOPY --parents t/*/./*.txt /x/\n");
    assert!(world.describe(&built, "x/c.txt").is_some());
    for path in ["x/a.txt", "x/b.md", "x/d.md"] {
        assert_eq!(world.describe(&built, path), None, "{path}");
    }
}

#[test]
fn a_file_with_the_name_of_a_whiteout_is_refused_and_removes_nothing() {
    let world = World::new();
    world.file("a", "1");
    world.file(".wh.a", "");
    let error = world.error("FROM scratch\nCOPY a /\nCOPY . /");
    assert!(error.contains("Dockerfile:3") && error.contains(".wh.a"), "{error}");
}

#[test]
fn very_many_variables_do_not_cost_their_square() {
    let lines: String = (0..30_000).map(|n| format!("ARG A{n}=a\nENV E{n}=$A{n}\n")).collect();
    let built = World::new().build(&format!("FROM scratch\n{lines}ENV E7=b"));
    assert_eq!(built.config.config.env.len(), 30_001);
    assert_eq!(built.config.config.env[8], "E7=b", "a name keeps its place");
}

#[test]
fn a_url_is_nothing_to_copy() {
    let world = World::new();
    for copy in ["COPY http://x/y /", "ARG U=https://x/y\nCOPY $U /", "COPY --parents https://x/y /"] {
        let error = world.error(&format!("FROM scratch\n{copy}"));
        assert!(error.contains("`COPY` takes no URL; use `ADD`"), "{error}");
    }
}

#[test]
fn a_mount_without_a_target_is_upon_the_working_directory_and_never_upon_the_root() {
    let world = World::new();
    world.file("f", "1");
    for mount in
        ["type=tmpfs", "type=cache", "type=bind", "type=tmpfs,target=/", "type=secret,id=s,target=.."]
    {
        let error = world.error(&format!("FROM scratch\nRUN --mount={mount} write a b"));
        assert!(error.contains("invalid mount target `/`"), "{error}");
        assert!(error.contains("Dockerfile:2") && error.contains("^^^"), "{error}");
    }
    for mount in ["type=tmpfs", "type=cache", "type=bind"] {
        let built =
            world.run(&world.request(&format!("FROM scratch\nWORKDIR /w\nRUN --mount={mount} write a b")));
        if let Err(error) = built {
            assert!(!error.to_string().contains("invalid mount target"), "{error}");
        }
    }
}

/// A tar with one member, whose header `edit` changes, with an extended header in front if there are records.
fn tar_of(records: &[(&str, &[u8])], edit: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    if !records.is_empty() {
        tar.append_pax_extensions(records.iter().copied()).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_path("member").unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    edit(&mut header);
    header.set_cksum();
    tar.append(&header, std::io::empty()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn members_that_no_layer_can_hold_are_refused_with_their_line() {
    let name = "n".repeat(256);
    let deep = vec!["n".repeat(250); 10].join("/");
    let check = |tar: Vec<u8>, destination: &str, expected: &str| {
        let world = World::new();
        fs::write(world.folder.path().join("context/a.tar"), tar).unwrap();
        let error = world.error(&format!("FROM scratch\nADD a.tar {destination}"));
        assert!(error.contains("Dockerfile:2") && error.contains(expected), "{error}");
    };
    let device = |header: &mut tar::Header, major| {
        header.set_entry_type(tar::EntryType::Char);
        header.set_device_major(major).unwrap();
        header.set_device_minor(0).unwrap();
    };
    check(tar_of(&[], |header| device(header, 0)), "/", "numbers 0:0 means a whiteout to overlayfs");
    // The kernel would cut this number off to 0.
    check(tar_of(&[], |header| device(header, 4096)), "/", "device number");
    check(tar_of(&[("path", name.as_bytes())], |_| {}), "/", "its name has over 255 bytes");
    check(tar_of(&[("path", deep.as_bytes())], |_| {}), &format!("/{deep}/"), "its path has over 4095 bytes");
    check(
        tar_of(&[("SCHILY.xattr.security.capability", b"cap")], |_| {}),
        "/",
        "file capabilities are malformed",
    );
    check(tar_of(&[], |header| header.set_uid(u32::MAX.into())), "/", "owner 4294967295");
}

#[test]
fn links_of_an_archive_mean_what_they_mean_to_tar() {
    let mut tar = tar::Builder::new(Vec::new());
    let add = |tar: &mut tar::Builder<Vec<u8>>, name: &str, kind, link: &str, mode, uid| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_size(0);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, name, std::io::empty()).unwrap();
    };
    add(&mut tar, "a", tar::EntryType::Regular, "", 0o600, 5);
    add(&mut tar, "b", tar::EntryType::Link, "a", 0o644, 7);
    add(&mut tar, "d/", tar::EntryType::Directory, "", 0o755, 0);
    add(&mut tar, "l", tar::EntryType::Symlink, "d", 0o777, 0);
    add(&mut tar, "l/new/x", tar::EntryType::Regular, "", 0o644, 0);
    let fine = tar.get_ref().clone();
    let world = World::new();
    let write = |tar: &[u8]| fs::write(world.folder.path().join("context/a.tar"), tar).unwrap();
    write(&[&fine[..], &[0; 1024]].concat());
    let built = world.build("FROM scratch\nADD a.tar /x/\n");
    for path in ["x/a", "x/b"] {
        assert_eq!(world.describe(&built, path).as_deref(), Some("file 0 644 7:7"));
    }
    assert!(world.describe(&built, "x/d/new/x").is_some());
    add(&mut tar, "out", tar::EntryType::Symlink, "../../nowhere", 0o777, 0);
    add(&mut tar, "out/x", tar::EntryType::Regular, "", 0o644, 0);
    write(&tar.into_inner().unwrap());
    let error = world.error("FROM scratch\nADD a.tar /x/\n");
    let cause = "cause: member `out/x` would be behind the link `out`, which leads to nothing";
    assert!(error.contains(">>  2 |") && error.ends_with(cause), "{error}");
}

#[test]
fn a_chain_of_very_many_stages_is_followed_without_a_deep_stack() {
    let stages: String = (1..60_000).map(|next| format!("FROM scratch\nCOPY --from={next} a /\n")).collect();
    let error = World::new().error(&format!("{stages}FROM nothing-here"));
    assert!(error.contains("cannot"), "{error}");
}

#[test]
fn owners_names_and_links_of_the_root_below_count() {
    let world = World::new();
    world.file("etc/passwd", "lp:x:4:7::/:\n");
    world.file("a", "1");
    std::os::unix::fs::symlink("/real/deep", world.folder.path().join("context/link")).unwrap();
    let built = world.build("FROM scratch\nCOPY . /\nCOPY --chown=lp --chmod=u=rwx,go= a /link/b/");
    assert_eq!(world.describe(&built, "real/deep/b").unwrap(), "directory 755 4:7");
    assert_eq!(world.describe(&built, "real/deep/b/a").unwrap(), "file 1 700 4:7");
}

#[test]
fn a_run_that_fails_ends_the_build_with_its_code() {
    let world = World::new();
    if let Err(reason) = common::snapshot::Snapshots::new(&world.store).probe() {
        eprintln!("skipped: {reason}");
        return;
    }
    let built = world.build("FROM scratch\nRUN write f hello\nRUN [\"\", \"write g hello\"]");
    assert_eq!(world.describe(&built, "f").unwrap(), "file 5 644 0:0");
    world.build("FROM scratch\nRUN write f hello");
    assert_eq!(world.cached(), 1);
    let error = world.error("FROM scratch\nRUN false");
    assert!(
        error.contains("process `/bin/sh -c false` did not complete successfully: exit code: 3"),
        "{error}"
    );
}

#[test]
fn an_exported_tar_holds_the_merged_files() {
    let world = World::new();
    world.file("a", "1");
    fs::hard_link(world.folder.path().join("context/a"), world.folder.path().join("context/b")).unwrap();
    let built = world.build("FROM scratch\nCOPY . /\nCOPY --chmod=600 a /d/");
    let mut tar = Vec::new();
    builder::export::tar(&world.store, &built.config.rootfs.diff_ids, &mut tar).unwrap();
    let out = world.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let folder = fs::File::open(&out).unwrap();
    use std::os::fd::AsFd;
    builder::export::directory(&world.store, &built.config.rootfs.diff_ids, folder.as_fd()).unwrap();
    let names: Vec<String> = ["a", "b", "d/a"]
        .into_iter()
        .filter(|name| Path::new(&out).join(name).exists())
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["a", "b", "d/a"]);
    assert!(tar.len() > 4 * 512);
}

/// A machine where nothing can be run.
struct Refuser;

impl StepRunner for Refuser {
    fn check(&self) -> Result<(), StepError> {
        Err(StepError::Unsupported("not on this machine".to_owned()))
    }

    fn run(&self, _: &Step<'_>, _: &mut dyn FnMut(Stream, &[u8])) -> Result<ExitStatus, StepError> {
        panic!("a step is run although the runner refused")
    }
}

#[test]
fn a_runner_that_refuses_is_the_cause_by_itself() {
    let world = World::new();
    let environment = Environment {
        runner: &Refuser,
        pull: &|_, _| Err("no pull in this test".into()),
        events: &|_| {},
        cancelled: &AtomicBool::new(false),
    };
    let request = world.request("FROM scratch\nRUN write a b\n");
    let error = builder::build(&world.store, &request, &environment).unwrap_err().to_string();
    assert!(error.ends_with("\n  cause: not on this machine"), "{error}");
}

#[test]
fn what_a_pull_failed_with_is_found_among_the_sources() {
    let world = World::new();
    let environment = Environment {
        runner: &Writer,
        pull: &|_, _| Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into()),
        events: &|_| {},
        cancelled: &AtomicBool::new(false),
    };
    let failed = builder::build(&world.store, &world.request("FROM base\n"), &environment);
    let error = failed.unwrap_err();
    let first: &dyn std::error::Error = &error;
    let mut chain = std::iter::successors(Some(first), |error| error.source());
    assert!(chain.any(|cause| cause.is::<std::io::Error>()), "{error:?}");
}

/// The lines that an error points to, in order, and what it says about the `n`-th.
fn lines(error: &str) -> Vec<&str> {
    error.lines().filter_map(|line| line.strip_prefix("  Dockerfile:")).collect()
}

#[test]
fn errors_of_all_kinds_are_said_at_once_in_order_of_lines() {
    let world = World::new();
    let error = world.error(
        "FROM scratch\nEXPOSE abc\nRUNN x\nCOPY --from=5 a b\nHEALTHCHECK --interval=x CMD a\n\
         RUN --mount=type=foo true\n",
    );
    assert_eq!(lines(&error), ["2", "3", "4", "5", "6"], "{error}");
    let error = world.error(
        "FROM scratch\nEXPOSE abc\nEXPOSE def\nCOPY --from=5 a b\nRUN --mount=type=foo a\n\
         RUN --security=insecure a\nCOPY --chmod=zzz a b\nADD https://x.org/y /\n",
    );
    assert_eq!(lines(&error), ["2", "3", "4", "5", "6", "7", "8"], "{error}");
    assert!(error.contains("invalid stage index 5") && error.contains("`ADD` of a URL"), "{error}");
}

#[test]
fn what_variables_bring_about_is_said_at_once_too() {
    let world = World::new();
    let error = world.error(
        "FROM scratch\nENV MODE=zzz PORT=abc\nEXPOSE $PORT\nCOPY --chmod=$MODE a b\nSTOPSIGNAL $PORT\n",
    );
    assert_eq!(lines(&error), ["3", "4", "5"], "{error}");
    // What is not known without a word that is wrong itself is not guessed at.
    let error = world.error("FROM scratch\nENV PORT=${X:?none}\nSTOPSIGNAL $PORT\n");
    assert_eq!(lines(&error), ["2"], "{error}");
}

#[test]
fn an_argument_that_fails_hides_no_other_error() {
    let world = World::new();
    let check = |dockerfile: &str, expected: &[&str]| {
        let error = world.error(dockerfile);
        assert_eq!(lines(&error), expected, "{error}");
    };
    // What comes of a value that nobody knows is not said.
    let failing = "FROM scratch\nARG A=${X:?one}\nENV B=${A:?no}\nUSER ${B:?no}\nLABEL a=${Z:?three}\n\
                   ENV A=1\nVOLUME ${A:+$N}\n";
    check(failing, &["2", "5", "7"]);
    check("ARG A=${X:?one}\nARG B=${A:?no}\nFROM ${A}\nARG B\nLABEL a=${B:?no}\nLABEL b=${Z:?two}\n", &["1"]);
    let inherited = "FROM scratch AS a\nENV A=${X:?one}\nFROM a\nLABEL a=${A:?no}\nLABEL b=${Y:?two}\n";
    check(inherited, &["2", "5"]);
    // Nobody knows which variable is set.
    check("FROM scratch\nARG N=${X:?one}\nENV $N=1\nLABEL a=${FOO:?no}\n", &["2"]);
    // With errors of other kinds; the image may have set `Y`, and the faulty line `Z`.
    let mixed = "FROM image\nARG A=1\nLABEL a=${A:+${A:?no}} b=${Y:?no}\nENV B=\nLABEL c=${B:?one}\nSTOPSIGNAL none\n\
                 ENV Z\nLABEL d=${Z:?no}\n";
    check(mixed, &["5", "6", "7"]);
}

#[test]
fn warnings_are_said_though_the_build_fails() {
    let world = World::new();
    world.error("FROM scratch\nMAINTAINER me\nLABEL a=${X:?no}\nCOPY nothing /\n");
    let warnings = world.warnings.lock().unwrap();
    assert!(warnings.len() == 1 && warnings[0].starts_with("MaintainerDeprecated"), "{warnings:?}");
}

#[test]
fn a_bind_mount_of_nothing_is_refused_before_anything_runs() {
    let world = World::new();
    world.file(".dockerignore", "left/out\n");
    world.file("left/out", "1");
    world.file("a", "1");
    let error = world.error(
        "FROM scratch\nCOPY a /\nRUN --mount=source=left/out,target=/m --mount=target=/n x\nRUN --mount=source=no,target=/m x\n",
    );
    assert_eq!(lines(&error), ["3", "4"], "{error}");
    assert!(error.contains("hint: `.dockerignore` line 1 (`left/out`) leaves it out"), "{error}");
    assert!(world.vertices.lock().unwrap().iter().all(|name| name.starts_with("[internal]")));
}

#[test]
fn a_broken_stage_that_nobody_needs_is_no_error_and_does_not_shift_the_others() {
    let world = World::new();
    world.file("a", "1");
    world.build("FROM scratch AS broken\nEXPOSE abc\nFROM scratch\nCOPY a /\n");
    let error = world
        .error("FROM scratch AS b/c\nEXPOSE abc\nFROM scratch\nCOPY a /\nFROM scratch\nCOPY --from=1 /a /\n");
    assert_eq!(lines(&error), ["1"], "{error}");
}

#[test]
fn all_missing_sources_are_said_before_the_first_step() {
    let world = World::new();
    world.file("a", "1");
    let error = world.error("FROM scratch\nCOPY a /\nCOPY nope1 a /x/\nCOPY nope2 nope3 /x/\n");
    assert_eq!(lines(&error), ["3", "4", "4"], "{error}");
    for name in ["nope1", "nope2", "nope3"] {
        assert!(error.contains(&format!("cause: `{name}` is not in the build context")), "{error}");
    }
    let steps = world.vertices.lock().unwrap().iter().filter(|name| name.contains("COPY")).count();
    assert_eq!(steps, 0);
}

#[test]
fn names_of_images_are_marked() {
    let world = World::new();
    let error = world.error("FROM BUSYBOX\nCOPY --from=BUSY: / /\n");
    assert_eq!(lines(&error), ["1", "2"], "{error}");
    assert!(error.contains("\n>>  1 | FROM BUSYBOX\n      |      ^^^^^^^\n"), "{error}");
    assert!(error.contains("\n      |             ^^^^^\n"), "{error}");
}

#[test]
fn a_stage_that_needs_itself_is_named_where_it_says_so() {
    let world = World::new();
    assert_eq!(
        world.error("FROM scratch AS a\nCOPY --from=a / /\n"),
        "cannot build the image\n  Dockerfile:2\n    1 | FROM scratch AS a\n>>  2 | COPY --from=a / /\n      \
         |             ^\n  cause: circular dependency detected on stage `a`"
    );
    let error = world.error("FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nCOPY --from=a / /\n");
    assert_eq!(lines(&error), ["4"], "{error}");
    assert!(error.starts_with("cannot build stage `b`") && error.ends_with("on stage `a`"), "{error}");
}

#[test]
fn errors_call_the_stage_by_one_name() {
    let world = World::new();
    for dockerfile in [
        "FROM BUSYBOX",
        "FROM scratch\nCOPY --from=NOPE / /",
        "FROM scratch\nCOPY --from=nope / /",
        "FROM scratch\nCOPY --from=7 / /",
        "FROM scratch\nCOPY nope /",
        "FROM scratch AS a\nSTOPSIGNAL ${X:?x}",
        "FROM --platform=a/b/c/d scratch",
    ] {
        let error = world.error(dockerfile);
        assert!(error.starts_with("cannot build the image\n"), "{dockerfile}: {error}");
    }
    for from in ["NOPE", "nope", "7"] {
        let error = world.error(&format!("FROM scratch AS a\nFROM scratch\nCOPY --from={from} / /"));
        assert!(error.starts_with("cannot build stage `stage-1`\n"), "{error}");
    }
}

#[test]
fn a_link_to_nothing_is_called_one() {
    let world = World::new();
    world.file("a", "1");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, world.folder.path().join("context").join(name)).unwrap();
    };
    link("/etc/passwd", "abs");
    link("../..", "up");
    link("/a", "good");
    let error = world.error("FROM scratch\nCOPY abs /\nCOPY up/etc /\n");
    for text in [
        "cause: `abs` is not in the build context: the link `abs` leads to `/etc/passwd`, which is not there",
        "cause: `up/etc` is not in the build context: the link `up` leads to `../..`",
        "hint: links do not lead out of the build context; a leading `/` in them is its top",
    ] {
        assert!(error.contains(text), "{text}\n{error}");
    }
    world.build("FROM scratch\nCOPY good /\n");
}

#[test]
fn what_is_doubtful_is_said_in_the_words_of_buildkit() {
    let world = World::new();
    let dockerfile = "ARG BASE=scratch\nFROM $BASE AS one\nMAINTAINER x\nENV a b\nWORKDIR rel\nCMD a\nCMD [\"b\"]\n\
                      ENTRYPOINT c\nFROM scratch$BASEE AS unused\nCMD a\n";
    let request = |dockerfile: &str| BuildRequest {
        target: Some("one".to_owned()),
        build_args: [("B".to_owned(), "1".to_owned())].into(),
        ..world.request(dockerfile)
    };
    world.run(&request(dockerfile)).unwrap();
    assert_eq!(
        *world.warnings.lock().unwrap(),
        [
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)",
            "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 4)",
            "WorkdirRelativePath: Relative workdir \"rel\" can have unexpected results if the base image changes (line 5)",
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS \
             signals (line 6)",
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because \
             only the last one will be used (line 6)",
            "JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to \
             OS signals (line 8)",
            "UndefinedArgInFrom: FROM argument 'BASEE' is not declared (did you mean BASE?) (line 9)",
            "[Warning] One or more build-args [B] were not consumed",
        ]
    );
    let failing = format!("# check=error=true;skip=JSONArgsRecommended,WorkdirRelativePath\n{dockerfile}");
    assert_eq!(
        world.run(&request(&failing)).unwrap_err().to_string(),
        "lint violation found for rules: LegacyKeyValueFormat, MaintainerDeprecated, \
         MultipleInstructionsDisallowed, UndefinedArgInFrom"
    );
    // A build argument says it in place of the file, and is for the builder: nobody has to ask for it.
    let checked = |check: &str, dockerfile: &str| {
        world.run(&BuildRequest {
            build_args: [("BUILDKIT_DOCKERFILE_CHECK".to_owned(), check.to_owned())].into(),
            ..request(dockerfile)
        })
    };
    checked("skip=all", &failing).unwrap();
    assert_eq!(*world.warnings.lock().unwrap(), [""; 0]);
    assert_eq!(
        checked("error=true;skip=JSONArgsRecommended,WorkdirRelativePath,UndefinedArgInFrom", dockerfile)
            .unwrap_err()
            .to_string(),
        "lint violation found for rules: LegacyKeyValueFormat, MaintainerDeprecated, MultipleInstructionsDisallowed"
    );
    assert_eq!(
        checked("nonsense", dockerfile).unwrap_err().to_string(),
        "failed to parse BUILDKIT_DOCKERFILE_CHECK: `nonsense` is not an option of `check`"
    );
    // A build argument that nobody asked for breaks no rule.
    world.run(&request(&format!("# check=error=true;skip=all\n{dockerfile}"))).unwrap();
    assert_eq!(world.warnings.lock().unwrap().len(), 1);
}

#[test]
fn variables_that_nobody_defined_are_named() {
    let world = World::new();
    world.build(
        "FROM scratch AS one\nARG FIRST SECOND=$FIRST$OTHER\nENV NAME=x\nLABEL a=$NAMES b=${NAMES:-y} c=$FIRST\n\
         EXPOSE 80$PORT\nONBUILD USER $NOBODY\nCMD [\"$HOME\"]\nFROM one\nLABEL d=$NAME e=\\$NAMES f='$NAMES'\n\
         # check=skip=UndefinedVar\nVOLUME /$WHERE\n",
    );
    assert_eq!(
        *world.warnings.lock().unwrap(),
        [
            "UndefinedVar: Usage of undefined variable '$OTHER' (line 2)",
            "UndefinedVar: Usage of undefined variable '$NAMES' (did you mean $NAME?) (line 4)",
        ]
    );
}

#[test]
fn a_shell_of_ones_own_is_taken_for_intended() {
    let world = World::new();
    world.build("# check=error=true\nFROM scratch\nSHELL [\"/x\"]\nCMD a\n");
    world.build("# check=error=true\nFROM scratch AS a\nWORKDIR /w\nFROM a\nWORKDIR rel\n");
}
