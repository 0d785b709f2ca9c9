//! docker's recorded behaviour at the command line, replayed against this program.

use std::path::Path;
use std::process::Command;

use tests::{World, busybox_root, corpora, gantry_binary, has, is_root, skip};

/// Ids of the cases that hold, a line each.
const HOLDING: &str = include_str!("../run-cases.txt");

#[test]
fn recorded_commands_of_the_corpora_answer_as_docker_does() {
    if !is_root() || busybox_root().is_none() || !has("python3") {
        skip!("the recorded commands need root, busybox and python3");
    }
    let Some(corpora) = corpora() else { return };
    let script = corpora.join("run-cases/run_cases.py");
    let world = World::new();
    let holding: Vec<&str> =
        HOLDING.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    if let Err(said) = replay(&world, &script, "2", &holding) {
        // A few scripts of the cases race with themselves, as where one looks into a file that its own background
        // shell may not have opened yet. Once more, one by one; what fails then has failed.
        let failed = said.lines().filter_map(|line| line.strip_prefix("FAIL ")?.split_whitespace().next());
        let failed: Vec<&str> = failed.collect();
        assert!(!failed.is_empty() && failed.iter().all(|id| holding.contains(id)), "{said}");
        eprintln!("a second time: {}", failed.join(" "));
        replay(&world, &script, "1", &failed).unwrap_or_else(|said| panic!("{said}"));
    }
    world.close();
}

/// Runs the cases `ids`, `jobs` of them at a time; the error is what the script printed.
fn replay(world: &World, script: &Path, jobs: &str, ids: &[&str]) -> Result<(), String> {
    let gantry = format!("{} --root {}", gantry_binary().display(), world.store().display());
    let mut python = Command::new("python3");
    python
        .arg("-B")
        .arg(script)
        .args(["-v", "--jobs", jobs])
        .args(ids.iter().flat_map(|id| ["--only", id]))
        .env("DOCKER", gantry)
        .current_dir(world.path());
    let output = world.clean(&mut python).output().expect("python3 starts");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
}
