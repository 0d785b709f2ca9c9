//! docker's recorded behaviour at the command line, replayed against this program.

use std::process::Command;

use tests::{World, busybox_root, corpora, gantry_binary, has, is_root, skip};

/// Ids of the cases that hold, a line each.
const HOLDING: &str = include_str!("../run-cases.txt");

#[test]
fn recorded_commands_of_the_corpora_answer_as_docker_does() {
    if !is_root() || busybox_root().is_none() || !has("python3") {
        skip!("the recorded commands need root, busybox and python3");
    }
    let world = World::new();
    let mut command = Command::new("python3");
    command.arg("-B").arg(corpora().join("run-cases/run_cases.py")).args(["-v", "--jobs", "2"]);
    for id in HOLDING.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        command.args(["--only", id]);
    }
    let gantry = format!("{} --root {}", gantry_binary().display(), world.store().display());
    let output = command
        .env("DOCKER", gantry)
        .env("HOME", world.path().join("home"))
        .current_dir(world.path())
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    world.close();
}
