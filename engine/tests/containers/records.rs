//! Containers that are written down, and steps of a build.

use std::fs;

use engine::containers::{Config, Containers, Status};
use engine::{Attachment, ExitStatus, RunError, WindowSize};

use crate::tests;
use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = tests![
    a_run_is_recorded_and_its_changes_stay,
    a_container_that_cannot_start_stays_created,
    a_running_container_is_killed_by_force_only,
    a_step_sees_the_files_of_etc_and_leaves_only_its_changes,
];

fn config(args: &[&str]) -> Config {
    let words = args.iter().map(|word| (*word).to_owned()).collect();
    let process = common::oci::Config { cmd: Some(words), ..Default::default() };
    Config { image_name: "busybox".to_owned(), process, ..Config::default() }
}

/// Runs it and passes its output and PID on.
fn run(
    world: &World,
    container: &mut engine::containers::Container,
    output: &mut dyn FnMut(&str),
) -> Result<ExitStatus, RunError> {
    let attachment = Attachment {
        stdin: None,
        output: &mut |_, bytes| {
            output(std::str::from_utf8(bytes).unwrap());
            Ok(())
        },
        terminal: None,
        forward_signals: false,
        cancel: None,
        started: &mut |_| {},
    };
    container.run(vec![world.root()], WindowSize { rows: 24, columns: 80 }, attachment)
}

fn a_run_is_recorded_and_its_changes_stay(world: &World) {
    let containers = Containers::new(world.path("containers"));
    let script = "hostname; grep -c localhost /etc/hosts; cat /etc/hostname; echo x > /data/new; exit 3";
    let mut container = containers.create(config(&["sh", "-c", script]), "job").unwrap();
    let mut text = String::new();
    assert_eq!(run(world, &mut container, &mut |piece| text.push_str(piece)).unwrap().code, 3);
    let short = &container.id()[..12];
    assert_eq!(text, format!("{short}\n2\n{short}\n"));

    let found = containers.find("job").unwrap();
    assert_eq!((found.state.status, found.state.exit_code), (Status::Exited, 3));
    assert!(found.state.started_ns < found.state.finished_ns && found.state.process.is_none());
    assert_eq!(fs::read_to_string(found.changes().join("data/new")).unwrap(), "x\n");
    containers.remove(found, false).unwrap();
    assert!(containers.list().unwrap().is_empty());
}

fn a_container_that_cannot_start_stays_created(world: &World) {
    let containers = Containers::new(world.path("containers"));
    let mut container = containers.create(config(&["nosuch"]), "job").unwrap();
    run(world, &mut container, &mut |_| {}).unwrap_err();
    let state = containers.find("job").unwrap().state;
    assert_eq!((state.status, state.exit_code), (Status::Created, 127));
    assert!(state.error.contains("executable file not found in $PATH"), "{}", state.error);
}

fn a_running_container_is_killed_by_force_only(world: &World) {
    let containers = Containers::new(world.path("containers"));
    let mut container = containers.create(config(&["sh", "-c", "echo up; sleep 1000"]), "job").unwrap();
    let id = container.id().to_owned();
    let status = run(world, &mut container, &mut |_| {
        let found = containers.find("job").unwrap();
        assert_eq!(found.state.status, Status::Running);
        assert!(found.state.process.as_ref().unwrap().is_alive());
        assert_eq!(
            containers.remove(found, false).unwrap_err().to_string(),
            format!(
                "You cannot remove a running container {id}. Stop the container before attempting removal or force \
                 remove"
            )
        );
        containers.remove(containers.find("job").unwrap(), true).unwrap();
    });
    assert_eq!(status.unwrap().code, 137);
    drop(container);
    assert!(containers.list().unwrap().is_empty());
}

fn a_step_sees_the_files_of_etc_and_leaves_only_its_changes(world: &World) {
    let script = "grep -c localhost /etc/hosts; hostname; echo new > /data/file; echo err >&2; exit 9";
    let mut text = String::new();
    let spec = world.spec("step", &["sh", "-c", script]);
    let status =
        engine::run_step(&spec, &mut |_, bytes| text.push_str(std::str::from_utf8(bytes).unwrap()), None);
    assert_eq!((status.unwrap().code, text.as_str()), (9, "2\nbox\nerr\n"));
    let upper = world.upper("step");
    let names =
        |path| -> Vec<_> { fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    let mut changed = names(upper.clone());
    changed.sort();
    // What the kernel's file systems were mounted upon stays, as in BuildKit.
    assert_eq!(changed, ["data", "dev", "etc", "proc", "sys"]);
    assert!(names(upper.join("etc")).is_empty());
}
