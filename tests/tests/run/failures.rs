//! What a run says and leaves when something fails: full disks, files in the way, kills, wrong flags.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use tests::{busybox_root, gantry_binary, skip, wait_for};

use super::world;

/// Runs a script where its mounts are its own, with the program as `$GANTRY` and the world's store as `$STORE`.
fn isolated(world: &tests::World, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).current_dir(world.path());
    command.env("GANTRY", gantry_binary()).env("STORE", world.store()).stdin(Stdio::null());
    world.clean(&mut command).output().expect("unshare is part of every Debian")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn output_that_cannot_be_written_is_said_and_a_failure() {
    let world = world!();
    let script = "mkdir full && mount -t tmpfs -o size=1m tmpfs full || exit 99
        $GANTRY --root $STORE run --rm --network none busybox sh -c 'head -c 5000000 /dev/zero 2>/dev/null' >full/out
        echo $?
        $GANTRY --root $STORE run --rm -t --network none busybox yes >/dev/full; echo $?
        $GANTRY --root $STORE run --rm --network none busybox sh -c 'echo x >&2' 2>/dev/full; echo $?
        stat -c %s full/out";
    let output = isolated(&world, script);
    if output.status.code() == Some(99) {
        skip!("nothing can be mounted here");
    }
    assert_eq!(text(&output.stdout), "1\n1\n1\n1048576\n", "{output:?}");
    assert_eq!(text(&output.stderr), "write /dev/stdout: no space left on device\n".repeat(2), "{output:?}");
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn a_list_that_cannot_be_written_is_a_failure() {
    let world = world!();
    world.write("context/Dockerfile", "FROM busybox\n");
    for verb in ["images", "check", "build -q context", "ps", "inspect busybox", "run --help"] {
        let mut command = world.command(verb.split(' '));
        let full = std::fs::File::options().write(true).open("/dev/full").expect("every Linux has it");
        let output = command.stdout(full).output().expect("gantry starts");
        assert_eq!(output.status.code(), Some(1), "{verb}: {output:?}");
        assert!(text(&output.stderr).ends_with("write /dev/stdout: no space left on device\n"), "{output:?}");
    }
    world.close();
}

#[test]
fn a_state_that_cannot_be_recorded_is_said_once_and_ends_nothing() {
    let world = world!();
    let script = "mkdir small && mount -t tmpfs -o size=48m tmpfs small || exit 99
        $GANTRY --root small/store import $TAR busybox >&2 || exit 98
        $GANTRY --root small/store run --rm --network none busybox /bin/sh -c \
            'cat /dev/zero 2>/dev/null >/fill; cat /dev/zero 2>/dev/null >>/fill; echo end; exit 7'
        echo $?; $GANTRY --root small/store ps -aq";
    let script = script.replace("$TAR", &busybox_root().expect("imported before").display().to_string());
    let output = isolated(&world, &script);
    if output.status.code() == Some(99) {
        skip!("nothing can be mounted here");
    }
    assert_eq!(text(&output.stdout), "end\n7\n", "{output:?}");
    let stderr = text(&output.stderr);
    let said: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("sha256:")).collect();
    assert_eq!(said.len(), 1, "{stderr}");
    assert!(said[0].starts_with("gantry: cannot write /"), "{stderr}");
    assert!(said[0].ends_with("/state.json: no space left on device"), "{stderr}");
    world.close();
}

#[test]
fn a_container_whose_runner_was_killed_ended_when_that_was_found() {
    let world = world!();
    let script = "echo up; exec sleep 86400";
    let mut command =
        world.command(["run", "--network", "none", "--name", "lost", "busybox", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("gantry starts");
    let mut first = [0; 3];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("the container speaks");
    child.kill().expect("it runs");
    child.wait().expect("a child");
    wait_for("the container's end", || world.gantry(["ps", "-q"]).ok().text().is_empty());
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.FinishedAt}}";
    let inspect = || world.gantry(["inspect", "-f", format, "lost"]).ok().text().to_owned();
    let found = inspect();
    assert!(found.starts_with("exited 255 2"), "{found}");
    assert_eq!(inspect(), found);
    let record = std::fs::read_dir(world.store().join("containers")).expect("a folder").flatten();
    let states: Vec<String> =
        record.filter_map(|entry| std::fs::read_to_string(entry.path().join("state.json")).ok()).collect();
    assert!(matches!(&states[..], [only] if only.contains("\"exited\"")), "{states:?}");
    world.gantry(["rm", "lost"]).ok();
    world.close();
}

#[test]
fn a_cidfile_is_made_before_the_container_and_goes_when_there_is_none() {
    let world = world!();
    let run = |file: &str, args: &[&str]| {
        world.gantry(["run", "--network", "none", "--cidfile", file].iter().chain(args))
    };
    run("no/x", &["busybox", "true"])
        .fails(125)
        .says("failed to create the container ID file: open no/x: no such file or directory");
    world.write("there", "mine");
    run("there", &["busybox", "true"])
        .fails(125)
        .says("container ID file found, make sure the other container isn't running or delete there");
    assert_eq!(std::fs::read_to_string(world.path().join("there")).expect("a file"), "mine");
    run("new", &["--pull", "never", "nothing", "true"]).fails(125);
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    run("new", &["--name", "one", "busybox", "true"]).ok();
    let id = std::fs::read_to_string(world.path().join("new")).expect("written");
    assert_eq!(world.gantry(["ps", "-aq", "--no-trunc"]).ok().text(), id);
    run("other", &["--name", "one", "busybox", "true"]).fails(125).says("Conflict.");
    assert!(!world.path().join("other").exists());
    world.close();
}

#[test]
fn wrong_labels_networks_and_filters_are_refused_in_dockers_words() {
    let world = world!();
    let refused = |args: &[&str], code: i32, text: &str| {
        world.gantry(args).fails(code).says(text);
    };
    refused(&["run", "-l", "", "busybox", "true"], 125, "invalid label '': empty name");
    refused(
        &["run", "--network", "none", "--network", "host", "busybox", "true"],
        125,
        "Container cannot be connected to network endpoints: host, none",
    );
    refused(&["ps", "-f", "status=nope"], 1, "Invalid filter 'status=nope'");
    refused(&["images", "-f", "dangling=foo"], 1, "Invalid filter 'dangling=[foo]'");
    world.gantry(["ps", "-f", "status=paused", "-f", "status=exited"]).ok();
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn ctrl_c_reaches_a_command_that_has_a_terminal_and_no_input() {
    let world = world!();
    let run = format!(
        "exec timeout --foreground -s KILL 60 {} --root {} run --rm -t --network none busybox sh -c \
         'trap \"echo got; exit 5\" INT; echo up; while :; do sleep 0.1; done'",
        gantry_binary().display(),
        world.store().display()
    );
    // Gives the program a terminal, whose keys are its own input. `exec`, since a shell that stayed would get the key too
    // and end with its own code.
    let mut script = Command::new("script");
    script.args(["-qec", &run, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = world.clean(&mut script).spawn() else { skip!("script is not installed") };
    let mut keyboard = child.stdin.take().expect("piped");
    let mut screen = child.stdout.take().expect("piped");
    let mut first = [0; 2];
    screen.read_exact(&mut first).expect("the container speaks");
    assert_eq!(&first, b"up");
    keyboard.write_all(b"\x03").expect("it reads");
    let mut rest = String::new();
    screen.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("got"), "{rest:?}");
    assert_eq!(child.wait().expect("a child").code(), Some(5));
    world.close();
}
