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
