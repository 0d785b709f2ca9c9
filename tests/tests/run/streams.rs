//! What connects a container with the one who runs it: pipes, standard input, variables, folders.

use std::io::Read;
use std::process::{Command, Stdio};

use tests::gantry_binary;

use super::world;

/// `sh -c SCRIPT`, in which `$GANTRY` runs the program on the world's store.
fn shell(world: &tests::World, script: &str) -> Command {
    let mut command = Command::new("sh");
    let gantry = format!("{} --root {}", gantry_binary().display(), world.store().display());
    command.args(["-c", script]).env("GANTRY", gantry).current_dir(world.path()).stdin(Stdio::null());
    world.clean(&mut command);
    command
}

#[test]
fn a_pipe_that_is_closed_early_ends_the_container() {
    let world = world!();
    let script = "timeout 60 $GANTRY run --rm --network none busybox yes | head -1";
    let output = shell(&world, script).output().expect("sh starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "y\n", "{output:?}");
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn closed_standard_streams_are_empty_ones() {
    let world = world!();
    let run = "$GANTRY run --rm -i --network none busybox";
    let script = format!("{run} wc -c <&-; {run} sh -c 'echo out; exit 6' >&-; echo $?; {run} echo err 2>&-");
    let output = shell(&world, &script).output().expect("sh starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n6\nerr\n", "{output:?}");
    world.close();
}

#[test]
fn the_end_of_standard_input_reaches_the_command() {
    let world = world!();
    let script = "printf 'a\\nb\\n' | $GANTRY run --rm -i --network none busybox sh -c 'cat; echo end'";
    let output = shell(&world, script).output().expect("sh starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\nb\nend\n", "{output:?}");
    // Nobody reads what stays open: the command's end is the end.
    let script = "timeout 50 $GANTRY run --rm -i --network none busybox echo done; echo $?";
    let mut ended =
        shell(&world, script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh starts");
    let open = ended.stdin.take();
    let mut text = String::new();
    ended.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    assert_eq!(text, "done\n0\n");
    ended.wait().expect("a child");
    drop(open);
    world.close();
}

#[test]
fn variables_without_a_value_come_from_the_caller() {
    let world = world!();
    let script = "FROM_HOST='a b' $GANTRY run --rm --network none -e FROM_HOST -e NOT_THERE busybox sh -c \
                  'echo \"$FROM_HOST\"; env | grep -c NOT_THERE'";
    let output = shell(&world, script).env_remove("NOT_THERE").output().expect("sh starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a b\n0\n", "{output:?}");
    world.close();
}

#[test]
fn users_are_names_numbers_or_both() {
    let world = world!();
    let run = |user: &str| {
        let script = "echo $(id -u):$(id -g)";
        world.gantry(["run", "--rm", "--network", "none", "-u", user, "busybox", "sh", "-c", script])
    };
    for (user, expected) in [
        ("app", "1000:1000"),
        ("1000", "1000:1000"),
        ("app:extra", "1000:60"),
        ("0:60", "0:60"),
        ("4711", "4711:0"),
    ] {
        assert_eq!(run(user).ok().text(), expected, "{user}");
    }
    run("app:nobody9").fails(125).says("unable to find group nobody9: no matching entries in group file");
    world.close();
}

#[test]
fn missing_folders_of_the_host_are_made_and_names_are_no_paths() {
    let world = world!();
    let run = |bind: &str| {
        let script = "echo x > /m/new";
        world.gantry(["run", "--rm", "--network", "none", "-v", bind, "busybox", "sh", "-c", script])
    };
    let missing = world.path().join("not/there");
    run(&format!("{}:/m", missing.display())).ok();
    run("./beside:/m").ok();
    for folder in [missing, world.path().join("beside")] {
        assert_eq!(std::fs::read_to_string(folder.join("new")).expect("written"), "x\n");
    }
    run("a/b:/m").fails(125).says(
        "create a/b: \"a/b\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
    );
    assert!(!world.path().join("a").exists());
    world.close();
}

#[test]
fn an_empty_entry_point_takes_the_images_away() {
    let world = world!();
    world.write("context/Dockerfile", "FROM busybox\nENTRYPOINT [\"echo\", \"ep\"]\nCMD [\"cmd\"]\n");
    world.gantry(["build", "-q", "-t", "ep", "context"]).ok();
    let run = |args: &[&str]| world.gantry(["run", "--rm", "--network", "none"].iter().chain(args));
    assert_eq!(run(&["ep"]).ok().text(), "ep cmd");
    assert_eq!(run(&["ep", "a", "b"]).ok().text(), "ep a b");
    assert_eq!(run(&["--entrypoint", "", "ep", "echo", "only"]).ok().text(), "only");
    run(&["--entrypoint", "", "ep"]).fails(125).says("No command specified");
    world.close();
}

#[test]
fn empty_and_odd_values_of_flags_mean_what_they_mean_to_docker() {
    let world = world!();
    world.write("context/Dockerfile", "FROM busybox\nWORKDIR /data\nENV PATH=/bin A=image NOT_HERE=image\n");
    world.gantry(["build", "-q", "-t", "app", "context"]).ok();
    let run = |args: &[&str]| world.gantry(["run", "--rm", "--network", "none"].iter().chain(args));
    assert_eq!(run(&["-w", "", "--platform", "", "app", "pwd"]).ok().text(), "/data");
    // docker's variables are in front, with the values that were asked for.
    let env = run(&["-h", "box", "-e", "B=flag", "-e", "NOT_HERE", "app", "env"]).ok();
    assert_eq!(env.text(), "PATH=/bin\nHOSTNAME=box\nB=flag\nA=image\nHOME=/root");
    world.gantry(["run", "--network", "none", "--name", "/one", "busybox", "true"]).ok();
    assert_eq!(world.gantry(["ps", "-a", "--format", "{{.Names}}"]).ok().text(), "one");
    run(&["--name", "//one", "busybox", "true"]).fails(125).says("Invalid container name (/one)");
    world.close();
}

#[test]
fn who_takes_no_output_gets_the_id() {
    let world = world!();
    let args = ["run", "-i", "-a", "stdin", "--network", "none", "busybox", "sh", "-c", "cat; exit 3"];
    let id = world.gantry_with_stdin(args, b"text").ok().text().to_owned();
    assert_eq!(world.gantry(["ps", "-aq", "--no-trunc"]).ok().text(), id);
    assert_eq!(world.gantry(["inspect", "-f", "{{.State.ExitCode}}", &id]).ok().text(), "3");
    world.close();
}

#[test]
fn files_of_variables_and_labels_are_read_or_said_to_be_wrong() {
    let world = world!();
    world.write("labels", "a=1\n# comment\nb\n");
    world.write("damaged", b"A=1\nB=\xff\n");
    let run = |args: &[&str]| world.gantry(["run", "--network", "none", "--name", "one"].iter().chain(args));
    run(&["--label-file", "labels", "-l", "a=2", "busybox", "true"]).ok();
    let labels = world.gantry(["inspect", "-f", "{{json .Config.Labels}}", "one"]).ok();
    assert_eq!(labels.text(), r#"{"a":"2"}"#);
    let file = |name: &str| run(&["--env-file", name, "busybox", "true"]).fails(125);
    file("home").says("read home: is a directory\n");
    file("nofile").says("open nofile: no such file or directory\n");
    file("damaged").says("invalid env file (damaged): invalid utf8 bytes at line 2\n");
    world.close();
}
