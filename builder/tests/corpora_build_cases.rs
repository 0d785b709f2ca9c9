//! The build cases of the corpora that need no RUN, built through the library and compared with what BuildKit made of
//! them. Those with RUN are run through the binary, end to end.
//!
//! Needs python3 for the corpora's own programs, and a static busybox for the base images. Cases upon Debian are left
//! to the end-to-end test, too.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test of its own")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use builder::{
    BuildError, BuildRequest, Built, DockerfileSource, Environment, Step, StepError, StepRunner, Stream,
};
use common::digest::Digest;
use common::image::names;
use common::layer::{self, Import, ImportOptions};
use common::oci::{Descriptor, ImageConfig, Index, Manifest, media_type};
use common::platform::Platform;
use common::reference::{Reference, Tag};
use common::store::{ImageRecord, Store, TaggedImage};
use serde_json::Value;

#[path = "../src/corpora.rs"]
mod corpora;

/// Takes note that a RUN was asked for, and does not run it.
#[derive(Default)]
struct NoRun(AtomicBool);

impl StepRunner for NoRun {
    fn run(&self, _: &Step<'_>, _: &mut dyn FnMut(Stream, &[u8])) -> Result<builder::ExitStatus, StepError> {
        self.0.store(true, Ordering::Relaxed);
        Err(StepError::Unsupported("no RUN in this test".to_owned()))
    }
}

#[test]
fn cases_of_the_corpora_without_run_are_built_as_by_buildkit() {
    let Some(corpora) = corpora::folder() else { return };
    let Some(busybox) =
        ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists())
    else {
        eprintln!("skipped: there is no busybox to make base images of");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let bases = folder.path().join("bases");
    make_bases(&corpora, busybox, &bases);
    let store = Store::open(&folder.path().join("store")).unwrap();
    for base in BASES {
        load_base(&store, &bases.join(format!("{base}.oci")), base);
    }
    let only = std::env::var("GANTRY_CASE").ok();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(corpora.join("build-cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let (mut passed, mut left, mut failures) = (0, 0, Vec::new());
    for case in cases {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        match check_build(&store, &corpora, &bases, &case, &work) {
            Ok(true) => passed += 1,
            Ok(false) => left += 1,
            Err(difference) => failures.push(format!("{name}: {difference}")),
        }
        fs::remove_dir_all(&work).unwrap();
    }
    eprintln!("{passed} passed, {left} need RUN or Debian, {} failed", failures.len());
    assert!(passed > 0 || only.is_some(), "no case was built");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The base images that are made of one program.
const BASES: [&str; 2] = ["busybox", "alpine"];

/// Makes the base images, and the lists of their files that cases are compared with.
fn make_bases(corpora: &Path, busybox: &Path, bases: &Path) {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = format!(r#"{{"Env":["PATH={path}"],"Cmd":["sh"]}}"#);
    for base in BASES {
        let args = [
            Path::new(base),
            bases,
            Path::new("--busybox"),
            busybox,
            Path::new("--config"),
            Path::new(&config),
        ];
        python(&corpora.join("mkimage.py"), &args).unwrap();
        let layout = bases.join(format!("{base}.oci"));
        let tree = python(&corpora.join("compare.py"), &[Path::new("--tree"), &layout]).unwrap();
        fs::write(bases.join(format!("{base}.tree.json")), tree).unwrap();
    }
}

/// Whether the case was built, or came to a RUN or a base that is not here; the first difference if it is not as
/// expected.
fn check_build(
    store: &Store,
    corpora: &Path,
    bases: &Path,
    case: &Path,
    work: &Path,
) -> Result<bool, String> {
    let meta: Value = serde_json::from_slice(&fs::read(case.join("case.json")).unwrap()).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
    if meta["bases"].as_array().unwrap().iter().any(|base| !BASES.contains(&base.as_str().unwrap())) {
        return Ok(false);
    }
    let context = work.join("context");
    python(&corpora.join("prepare.py"), &[case, &context]).unwrap();
    let request = request(&meta, &context);
    let runner = NoRun::default();
    let result = build(store, &request, &runner);
    if runner.0.load(Ordering::Relaxed) {
        return Ok(false);
    }
    match (result, expected["result"] == "ok") {
        (Err(_), false) => Ok(true),
        (Ok(_), false) => Err(format!("was built, but should fail: {}", expected["error"])),
        (Err(error), true) => Err(error.to_string()),
        (Ok(built), true) => {
            let layout = work.join("layout");
            export(store, &built, &layout);
            let expected = case.join("expected.json");
            python(&corpora.join("compare.py"), &[&layout, &expected, Path::new("--bases"), bases])?;
            Ok(true)
        }
    }
}

fn request(meta: &Value, context: &Path) -> BuildRequest {
    let mut request = BuildRequest {
        context: Some(context.to_owned()),
        dockerfile: DockerfileSource::File(context.join(meta["dockerfile"].as_str().unwrap())),
        ..BuildRequest::default()
    };
    let mut args = meta["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    while let Some(flag) = args.next() {
        let value = args.next().unwrap();
        let (name, rest) = value.split_once('=').unwrap_or((value, ""));
        match flag {
            "--build-arg" => _ = request.build_args.insert(name.to_owned(), rest.to_owned()),
            "--label" => _ = request.labels.insert(name.to_owned(), rest.to_owned()),
            "--target" => request.target = Some(value.to_owned()),
            "--platform" => request.platform = Some(value.parse().unwrap()),
            other => panic!("flag {other} of a case is not known here"),
        }
    }
    let secrets = meta["secrets"].as_object().into_iter().flatten();
    request.secrets = secrets.map(|(id, text)| (id.clone(), text.as_str().unwrap().into())).collect();
    request
}

fn build(store: &Store, request: &BuildRequest, runner: &dyn StepRunner) -> Result<Built, BuildError> {
    let pull = |reference: &Reference, _: &Platform| Err(format!("{reference} is not here").into());
    let environment =
        Environment { runner, pull: &pull, events: &|_| {}, cancelled: &AtomicBool::new(false) };
    builder::build(store, request, &environment)
}

/// What a program of the corpora printed.
fn python(script: &Path, args: &[&Path]) -> Result<Vec<u8>, String> {
    let output = Command::new("python3").arg("-B").arg(script).args(args).output().unwrap();
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn load_base(store: &Store, layout: &Path, name: &str) {
    let blob = |digest: &Digest| fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    let index: Index = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest: Manifest = serde_json::from_slice(&blob(&index.manifests[0].digest)).unwrap();
    let config = ImageConfig::parse(&blob(&manifest.config.digest)).unwrap();
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let options = ImportOptions {
            blob: Some((layer.digest.clone(), layer.size)),
            diff_id: Some(diff_id.clone()),
            ..ImportOptions::default()
        };
        let mut import = Import::new(store, options).unwrap();
        import.append(&blob(&layer.digest)).unwrap();
        import.finish().unwrap();
    }
    let id = store.put(&blob(&manifest.config.digest)).unwrap();
    store.put_image(&ImageRecord::new(id.clone(), 0)).unwrap();
    let reference: Reference = name.parse().unwrap();
    let image = TaggedImage { platform: Platform::host(), config: id, source: None };
    names::set_tag(store, reference.repository(), &Tag::latest(), image).unwrap();
}

/// Writes the image as an OCI layout with plain layers.
fn export(store: &Store, built: &Built, layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let descriptor = Descriptor::of(media_type, bytes);
        fs::write(blobs.join(descriptor.digest.hex()), bytes).unwrap();
        descriptor
    };
    let layers = built.config.rootfs.diff_ids.iter().map(|diff_id| {
        let mut tar = layer::read_tar(store, diff_id).unwrap();
        let path = blobs.join(diff_id.hex());
        let size = std::io::copy(&mut tar, &mut fs::File::create(path).unwrap()).unwrap();
        Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), size)
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        layers: layers.collect(),
        config: put(media_type::OCI_CONFIG, &built.config.to_bytes()),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let manifest = put(media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
