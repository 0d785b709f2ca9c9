//! The build cases of the corpora through the installed program, compared with what BuildKit made of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tests::{World, corpora, gantry_binary, is_root, run_client, skip};

/// Cases that come out otherwise, each with the reason: this list only ever gets shorter.
const OPEN_CASES: &str = include_str!("../open-build-cases.txt");
/// Builds at once: the store is made for that.
const THREADS: usize = 2;

#[test]
fn build_cases_of_the_corpora_give_what_buildkit_gave() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let Some(corpora) = corpora() else { return };
    let world = World::new();
    let bases = match load_bases(&world, &corpora) {
        Ok(bases) => bases,
        Err(reason) => skip!("the base images cannot be made here: {reason}"),
    };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(corpora.join("build-cases"))
        .expect("the corpora have build cases")
        .map(|entry| entry.expect("readable folder").path())
        .filter(|case| case.join("expected.json").is_file())
        .collect();
    cases.sort();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = check_build(&world, &corpora, &bases, case);
                    results.lock().expect("no thread panicked").push((name(case), result));
                }
            });
        }
    });
    let results = results.into_inner().expect("no thread panicked");
    judge(&results);
    let passed = results.iter().filter(|(_, result)| result.is_ok()).count();
    println!("build cases: {passed} passed, {} open", results.len() - passed);
    world.close();
}

/// Fails for a case that should pass, and for one that is listed as open and passes.
fn judge(results: &[(String, Result<(), String>)]) {
    let lines = OPEN_CASES.lines().filter(|line| !line.starts_with('#'));
    let open: BTreeSet<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    let is_open = |name: &String| open.contains(name.as_str());
    let failed: Vec<String> = results
        .iter()
        .filter(|(name, _)| !is_open(name))
        .filter_map(|(name, result)| Some(format!("{name}: {}", result.as_ref().err()?)))
        .collect();
    let healed: Vec<&String> = results
        .iter()
        .filter(|(name, result)| is_open(name) && result.is_ok())
        .map(|(name, _)| name)
        .collect();
    assert!(!results.is_empty(), "no case ran");
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), results.len(), failed.join("\n"));
    assert!(healed.is_empty(), "these pass now, take them off the list of open cases: {healed:?}");
}

fn name(case: &Path) -> String {
    case.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes the base images once, beside the build since they are expensive, and loads them.
fn load_bases(world: &World, corpora: &Path) -> Result<PathBuf, String> {
    let bases = gantry_binary().parent().expect("a program is in a folder").join("build-case-bases");
    let script = corpora.join("bases.sh").display().to_string();
    let made = run_client(world, &script, &[&bases.display().to_string()]);
    if made.code != 0 {
        return Err(made.stderr);
    }
    for base in ["busybox", "alpine", "debian"] {
        let archive = bases.join(format!("{base}.docker.tar")).display().to_string();
        world.gantry(["load", "-q", "-i", &archive]).ok();
    }
    Ok(bases)
}

/// Builds one case and compares; the first difference if it is not as expected.
fn check_build(world: &World, corpora: &Path, bases: &Path, case: &Path) -> Result<(), String> {
    let read = |file: &str| -> Value {
        let bytes = std::fs::read(case.join(file)).expect("a case has its files");
        serde_json::from_slice(&bytes).expect("the files of a case are JSON")
    };
    let (meta, expected) = (read("case.json"), read("expected.json"));
    let work = world.path().join("work").join(name(case));
    std::fs::create_dir_all(&work).expect("a folder");
    let (context, image) = (work.join("context"), work.join("image.tar"));
    python(&corpora.join("prepare.py"), &[case, &context])?;
    let mut args = vec!["build".to_owned(), "-t".to_owned(), format!("case-{}:latest", name(case))];
    args.extend([
        "-f".to_owned(),
        context.join(meta["dockerfile"].as_str().unwrap_or("Dockerfile")).display().to_string(),
    ]);
    args.extend(["--output".to_owned(), format!("type=oci,dest={}", image.display())]);
    args.extend(
        meta["args"].as_array().into_iter().flatten().filter_map(|arg| arg.as_str().map(str::to_owned)),
    );
    for (id, text) in meta["secrets"].as_object().into_iter().flatten() {
        let file = work.join(format!("secret-{id}"));
        std::fs::write(&file, text.as_str().unwrap_or_default()).expect("a file");
        args.extend(["--secret".to_owned(), format!("id={id},src={}", file.display())]);
    }
    args.push(context.display().to_string());
    let built = world.gantry(&args);
    let outcome = match (built.code, expected["result"] == "ok") {
        (0, true) => {
            let expected = case.join("expected.json");
            python(&corpora.join("compare.py"), &[&image, &expected, Path::new("--bases"), bases])
        }
        (0, false) => Err(format!("was built, but should fail: {}", expected["error"])),
        (_, true) => Err(built
            .stderr
            .lines()
            .filter(|line| line.contains("cause:") || line.contains("error"))
            .collect()),
        (_, false) => Ok(()),
    };
    std::fs::remove_dir_all(&work).expect("our own folder");
    outcome
}

/// Runs a program of the corpora.
fn python(script: &Path, args: &[&Path]) -> Result<(), String> {
    let output =
        Command::new("python3").arg("-B").arg(script).args(args).output().expect("python3 is installed");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
