//! Faults on purpose: full disks, Ctrl-C, kill -9. Whatever happens: a clear message, a sound store, nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::{Server, World, import_busybox, is_root, skip, wait_for};

/// A small file system in memory, unmounted with its value.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(world: &World, size: &str) -> Option<Self> {
        let path = world.path().join("small");
        std::fs::create_dir(&path).expect("a new folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk { path })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_is_said_and_the_store_stays_sound_and_usable() {
    if !is_root() {
        skip!("mounting a small disk needs root");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    world.gantry(["save", "-o", "busybox.tar", "busybox"]).ok();
    let Some(disk) = SmallDisk::mount(&world, "24m") else { skip!("tmpfs cannot be mounted here") };
    let store = disk.path.join("store");
    let run = |args: &[&str]| {
        let output = Command::new(tests::gantry_binary())
            .arg("--root")
            .arg(&store)
            .args(args)
            .current_dir(world.path())
            .stdin(Stdio::null())
            .output()
            .expect("gantry starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };
    assert_eq!(run(&["load", "-i", "busybox.tar"]).0, Some(0));
    world.write(
        "context/Dockerfile",
        "FROM busybox\nCOPY big /big\nRUN head -c 30000000 /dev/zero | tr '\\0' x > /bigger\n",
    );
    world.write("context/big", "small\n");
    let (code, stderr) = run(&["build", "-t", "app", "context"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("No space left on device") || stderr.contains("disk is full"), "{stderr}");
    world.write("context/big", vec![7; 30_000_000]);
    let (code, stderr) = run(&["build", "-t", "app", "context"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("  hint: the disk is full"), "{stderr}");
    assert_eq!(stderr.matches("  cause: ").count(), 1, "{stderr}");
    let (code, stderr) = run(&["check"]);
    assert_eq!(code, Some(0), "{stderr}");
    // There is room again: the same store goes on.
    world.write("context/Dockerfile", "FROM busybox\nRUN echo fits > /small\n");
    world.write("context/big", "small\n");
    let (code, stderr) = run(&["build", "-t", "app", "context"]);
    assert_eq!(code, Some(0), "{stderr}");
    drop(disk);
    world.close();
}

#[test]
fn a_base_image_of_an_unreachable_registry_comes_with_a_hint() {
    let world = World::new();
    // Nobody listens on a port that was just given back.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = address.expect("loopback");
    world.write("context/Dockerfile", format!("FROM {address}/base\n"));
    let failed = world.command(["build", "context"]).output().expect("gantry starts");
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("  hint: look whether `{address}` is the right host")), "{stderr}");
    world.close();
}

/// Starts a command, waits until its output holds `text`, interrupts it as Ctrl-C does, and returns its code and stderr.
#[track_caller]
fn interrupt_when(command: &mut Command, text: &str) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gantry starts");
    let mut seen = wait_for_text(&mut child, text);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let mut rest = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut rest).expect("text");
    seen.push_str(&rest);
    (child.wait().expect("a child").code(), seen)
}

#[track_caller]
fn wait_for_text(child: &mut Child, text: &str) -> String {
    let mut seen = String::new();
    let stderr = child.stderr.as_mut().expect("piped");
    let mut reader = BufReader::with_capacity(1, stderr);
    while !seen.contains(text) {
        let mut line = String::new();
        let n = reader.read_line(&mut line).expect("text");
        assert!(n > 0, "it ended before it said `{text}`:\n{seen}");
        seen.push_str(&line);
    }
    seen
}

fn processes_with(word: &str) -> usize {
    let lines = std::fs::read_dir("/proc").expect("proc").flatten();
    lines
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.split(|b| *b == 0).any(|part| part == word.as_bytes()))
        .count()
}

#[test]
fn ctrl_c_ends_a_build_and_its_command() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let marker = format!("{}", 100_000 + std::process::id());
    world.write("context/Dockerfile", format!("FROM busybox\nRUN echo started; sleep {marker}\n"));
    let mut command = world.command(["build", "--progress", "plain", "-t", "app", "context"]);
    let (code, stderr) = interrupt_when(&mut command, "started\n");
    assert_eq!(code, Some(130), "{stderr}");
    wait_for("the command's end", || processes_with(&marker) == 0);
    assert_eq!(world.gantry(["images", "-q", "app"]).ok().text(), "");
    world.close();
}

#[test]
fn a_killed_build_leaves_no_process_and_the_next_one_completes() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let marker = format!("{}", 300_000 + std::process::id());
    world.write("context/Dockerfile", format!("FROM busybox\nRUN echo started; sleep {marker}\n"));
    let mut command = world.command(["build", "--progress", "plain", "-t", "app", "context"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("gantry starts");
    wait_for_text(&mut child, "started\n");
    child.kill().expect("it runs");
    child.wait().expect("a child");
    wait_for("the command's end", || processes_with(&marker) == 0);
    world.assert_sound();
    world.write("context/Dockerfile", "FROM busybox\nRUN echo done\n");
    world.gantry(["build", "-q", "-t", "app", "context"]).ok();
    world.close();
}

#[test]
fn ctrl_c_in_a_container_ends_it() {
    if !is_root() {
        skip!("running containers needs root so far");
    }
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let marker = format!("{}", 200_000 + std::process::id());
    let script = format!("trap 'exit 130' INT; echo started >&2; sleep {marker} & wait");
    let mut command = world.command(["run", "--rm", "--network", "none", "busybox", "sh", "-c", &script]);
    let (code, stderr) = interrupt_when(&mut command, "started\n");
    assert_eq!(code, Some(130), "{stderr}");
    wait_for("the container's end", || processes_with(&marker) == 0);
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn ctrl_c_in_a_push_leaves_both_stores_sound_and_the_next_push_completes() {
    let world = World::new();
    world.write("context/Dockerfile", "FROM scratch\nCOPY big /\n");
    let noise: Vec<u8> =
        (0..40_000_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    world.write("context/big", noise);
    let registry = World::new();
    let server = Server::start(&registry, &[]);
    let name = format!("{}/big:1", server.address);
    world.gantry(["build", "-q", "-t", &name, "context"]).ok();
    let mut child = world
        .command(["push", &name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gantry starts");
    let mut first = [0; 1];
    // Any first sign of life of the push.
    let _ = child.stdout.as_mut().expect("piped").read(&mut first);
    kill_process(Pid::from_child(&child), Signal::INT).expect("a child that was not waited for");
    let code = child.wait().expect("a child").code();
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    world.assert_sound();
    registry.assert_sound();
    world.gantry(["push", &name]).ok();
    server.stop();
    registry.close();
    world.close();
}

#[test]
fn a_registry_killed_in_the_middle_loses_nothing_that_it_acknowledged() {
    let world = World::new();
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let registry = World::new();
    let server = Server::start(&registry, &[]);
    let name = format!("{}/kept:1", server.address);
    world.gantry(["tag", "busybox", &name]).ok();
    world.gantry(["push", &name]).ok();
    server.kill();
    registry.assert_sound();
    let server = Server::start(&registry, &[]);
    let again = format!("{}/kept:1", server.address);
    let other = World::new();
    other.gantry(["pull", "-q", &again]).ok();
    server.stop();
    other.close();
    registry.close();
    world.close();
}
