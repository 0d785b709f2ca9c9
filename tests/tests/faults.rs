//! Faults on purpose: full disks, Ctrl-C, kill -9. Whatever happens: a clear message, a sound store, nothing left behind.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::digest::Digest;
use rustix::process::{Pid, Signal, kill_process};
use tests::{Answer, ClosedPort, Server, StallingRegistry, World, import_busybox, is_root, skip, wait_for};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

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
        let mut command = Command::new(tests::gantry_binary());
        command.arg("--root").arg(&store).args(args).current_dir(world.path()).stdin(Stdio::null());
        let output = world.clean(&mut command).output().expect("gantry starts");
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
    let packed = Command::new("tar").args(["-cf", "big.tar", "context"]).current_dir(world.path()).status();
    assert!(packed.is_ok_and(|status| status.success()));
    let (code, stderr) = run(&["import", "big.tar"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("  hint: the disk is full"), "{stderr}");
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
    let port = ClosedPort::new();
    let address = port.address;
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

/// Interrupts a command in the middle of writing: `is_begun` looks at its process and what there is. Its code and stderr.
#[track_caller]
fn interrupt_while(command: &mut Command, is_begun: impl Fn(u32) -> bool) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("gantry starts");
    let pid = Pid::from_child(&child);
    wait_for("the first bytes", || {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it was interrupted");
        // Held while it is looked at, so that it does not end in between.
        kill_process(pid, Signal::STOP).expect("it runs");
        let is_begun = is_begun(child.id());
        if is_begun {
            kill_process(pid, Signal::INT).expect("it runs");
        }
        kill_process(pid, Signal::CONT).expect("it runs");
        is_begun
    });
    let output = child.wait_with_output().expect("a child");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Whether a process writes to a file without a name in `folder`, or to a hidden one.
fn has_unfinished_file(pid: u32, folder: &Path) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    targets.any(|target| target.parent() == Some(folder))
}

#[test]
fn ctrl_c_leaves_nothing_of_an_output_file_and_says_what_stays() {
    let world = World::new();
    world.write("context/Dockerfile", "FROM scratch\nCOPY big /big\n");
    let big = std::fs::File::create(world.path().join("context/big")).expect("a new file");
    big.set_len(512 << 20).expect("a sparse file");
    world.gantry(["build", "-q", "-t", "app", "context"]).ok();
    world.write("out/old.tar", "old");
    let out = world.path().join("out").canonicalize().expect("it is there");
    let names = || {
        let entries = std::fs::read_dir(&out).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    for (args, words) in [
        (&["save", "-o", "out/old.tar", "app"][..], "interrupted: out/old.tar was not written"),
        (
            &["build", "-o", "type=docker,dest=out/old.tar", "context"],
            "interrupted: the image is built, out/old.tar was not written",
        ),
        (
            &["build", "-o", "type=tar,dest=out/old.tar", "context"],
            "interrupted: the image is built, out/old.tar was not written",
        ),
    ] {
        let (code, stderr) = interrupt_while(&mut world.command(args), |pid| has_unfinished_file(pid, &out));
        assert_eq!(code, Some(130), "{stderr}");
        assert!(stderr.ends_with(&format!("{words}\n")), "{stderr}");
        assert_eq!(names(), ["old.tar"]);
        assert_eq!(std::fs::read(out.join("old.tar")).expect("it stays"), b"old");
    }
    let local = world.path().join("local");
    let mut command = world.command(["build", "-o", "local", "context"]);
    let (code, stderr) = interrupt_while(&mut command, |_| local.join("big").exists());
    assert_eq!(code, Some(130), "{stderr}");
    let words = "interrupted: the image is built, and local holds a part of its files\n";
    assert!(stderr.ends_with(words), "{stderr}");
    world.close();
}

#[test]
fn ctrl_c_ends_load_and_import_with_a_word() {
    let world = World::new();
    for args in [&["load"][..], &["import", "-"]] {
        let mut command = world.command(args);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gantry starts");
        let status = format!("/proc/{}/status", child.id());
        // The thread that waits for signals is there as soon as they are caught.
        wait_for("the guard", || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
            u64::from_str_radix(caught, 16).is_ok_and(|mask| mask & (1 << (Signal::INT.as_raw() - 1)) != 0)
        });
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        assert_eq!(child.wait().expect("a child").code(), Some(130), "{stderr}");
        assert!(stderr.ends_with("interrupted: what was not finished is taken away by the next command\n"));
    }
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

/// Interrupts a transfer that the registry holds, as Ctrl-C does.
#[track_caller]
fn interrupt_when_stalled(command: &mut Command, registry: &StallingRegistry) {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("gantry starts");
    registry.wait_until_stalled();
    kill_process(Pid::from_child(&child), Signal::INT).expect("a child that was not waited for");
    let output = child.wait_with_output().expect("a child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted: "), "{stderr}");
}

/// A build context whose one layer is `size_bytes` that do not compress.
fn write_noise(world: &World, size_bytes: u64) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = Vec::new();
    while (noise.len() as u64) < size_bytes {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.to_le_bytes());
    }
    world.write("context/Dockerfile", "FROM scratch\nCOPY big /\n");
    world.write("context/big", noise);
}

#[test]
fn ctrl_c_in_a_push_leaves_both_stores_sound_and_the_next_push_completes() {
    let world = World::new();
    write_noise(&world, 40_000_000);
    let slow = StallingRegistry::start(|request| match request.split(' ').next() {
        Some("GET") => Answer::new("200 OK", "", b"{}"),
        Some("HEAD") => Answer::new("404 Not Found", "", b""),
        Some("POST") => Answer::new("202 Accepted", "Location: /v2/big/blobs/uploads/1\r\n", b""),
        _ => Answer::Stall(Vec::new()),
    });
    let name = format!("{}/big:1", slow.address);
    world.gantry(["build", "-q", "-t", &name, "context"]).ok();
    interrupt_when_stalled(&mut world.command(["push", &name]), &slow);
    world.assert_sound();
    let registry = World::new();
    let server = Server::start(&registry, &[]);
    let other = format!("{}/big:1", server.address);
    world.gantry(["tag", &name, &other]).ok();
    world.gantry(["push", &other]).ok();
    server.stop();
    registry.close();
    world.close();
}

#[test]
fn ctrl_c_in_a_pull_leaves_no_image_and_a_sound_store() {
    let world = World::new();
    let layer_digest = Digest::sha256(b"never sent to its end");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{layer_digest}"]}}}}"#
    );
    let descriptor = |kind: &str, digest: &Digest, size_bytes: usize| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size_bytes}}}"#
        )
    };
    let config_digest = Digest::sha256(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", &config_digest, config.len()),
        descriptor("layer.v1.tar+gzip", &layer_digest, 1_000_000),
    );
    let slow = StallingRegistry::start(move |request| match request.rsplit('/').next() {
        Some("1") => Answer::new("200 OK", &format!("Content-Type: {MANIFEST}\r\n"), manifest.as_bytes()),
        Some(blob) if blob == config_digest.to_string() => Answer::new("200 OK", "", config.as_bytes()),
        Some(blob) if blob == layer_digest.to_string() => {
            // The beginning of a gzip stream.
            Answer::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n\x1f\x8b\x08\0".to_vec())
        }
        _ => Answer::new("200 OK", "", b"{}"),
    });
    interrupt_when_stalled(&mut world.command(["pull", &format!("{}/big:1", slow.address)]), &slow);
    assert_eq!(world.gantry(["images", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn a_full_disk_under_a_registry_refuses_pushes_and_goes_on_with_pulls() {
    if !is_root() {
        skip!("mounting a small disk needs root");
    }
    let (world, registry) = (World::new(), World::new());
    if !import_busybox(&world) {
        skip!("busybox is not installed");
    }
    let Some(disk) = SmallDisk::mount(&registry, "24m") else { skip!("tmpfs cannot be mounted here") };
    std::os::unix::fs::symlink(&disk.path, registry.store()).expect("a link");
    let server = Server::start(&registry, &[]);
    let [small, big] = ["small", "big"].map(|name| format!("{}/{name}:1", server.address));
    world.gantry(["tag", "busybox", &small]).ok();
    world.gantry(["push", &small]).ok();
    write_noise(&world, 40_000_000);
    world.gantry(["build", "-q", "-t", &big, "context"]).ok();
    let refused = world.gantry(["push", &big]).fails(1);
    assert!(refused.stderr.contains("507") || refused.stderr.contains("space"), "{}", refused.stderr);
    let other = World::new();
    other.gantry(["pull", "-q", &small]).ok();
    other.gantry(["pull", "-q", &big]).fails(1);
    server.stop();
    registry.assert_sound();
    other.close();
    drop(disk);
    std::fs::remove_file(registry.store()).expect("a link");
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

#[test]
fn what_a_check_finds_damaged_can_be_removed_and_made_again() {
    let world = World::new();
    write_noise(&world, 200_000);
    let registry = World::new();
    let server = Server::start(&registry, &[]);
    let name = format!("{}/big:1", server.address);
    world.gantry(["build", "-q", "-t", &name, "context"]).ok();
    world.gantry(["push", &name]).ok();
    let layer = blobs(&world).into_iter().max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&layer).unwrap();
    bytes[1000] ^= 1;
    std::fs::remove_file(&layer).unwrap();
    std::fs::write(&layer, &bytes).unwrap();
    assert!(world.gantry(["check", "-q"]).fails(1).stdout.contains("`gantry check --remove-damaged`"));
    assert!(world.gantry(["check", "-q", "--remove-damaged"]).fails(1).stdout.contains("it was removed; "));
    assert!(!layer.exists());
    world.assert_sound();
    world.gantry(["push", &name]).ok();
    assert!(layer.exists(), "the next push needs it, and makes it");
    server.stop();
    registry.close();
    world.close();
}

#[test]
fn a_damaged_image_hides_no_other_and_can_be_removed() {
    let world = World::new();
    let build = |name: &str| {
        world.write("context/Dockerfile", format!("FROM scratch\nCOPY file /\nLABEL is={name}\n"));
        world.write("context/file", name);
        let built = world.gantry(["build", "-q", "-t", name, "context"]).ok();
        built.text().trim_start_matches("sha256:").to_owned()
    };
    let listed = |code: i32| {
        let listed = world.gantry(["images", "--format", "{{.Repository}}"]);
        if code == 0 { listed.ok() } else { listed.fails(code).says("hint: `gantry check` lists all damage") }
    };
    build("sound");
    let id = build("broken");
    world.gantry(["tag", "broken", "again"]).ok();
    let config = blobs(&world).into_iter().find(|blob| blob.to_string_lossy().ends_with(&id)).unwrap();
    let bytes = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::fs::write(&config, vec![b' '; bytes.len()]).unwrap();
    for state in ["damaged on the disk", "not in the store"] {
        let list = listed(1);
        assert_eq!(list.text(), "sound");
        let warnings: Vec<&str> = list.stderr.lines().filter(|line| line.contains("passed over")).collect();
        assert_eq!(warnings.len(), 1, "{}", list.stderr);
        assert!(warnings[0].contains(&id[..12]) && warnings[0].contains(state), "{warnings:?}");
        world.gantry(["info"]).ok();
        world.gantry(["check", "-q", "--remove-damaged"]).fails(1);
    }
    assert_eq!(world.gantry(["rmi", "again"]).ok().text(), "Untagged: again:latest");
    assert!(
        world.gantry(["rmi", "broken"]).ok().stdout.contains("Untagged: broken:latest\nDeleted: sha256:")
    );
    assert_eq!(listed(0).text(), "sound");
    world.close();
}

/// The files of all blobs of a store.
fn blobs(world: &World) -> Vec<PathBuf> {
    let mut found = vec![world.store().join("blobs")];
    for _level in ["algorithm", "first digits", "digest"] {
        let list = |folder: &PathBuf| {
            let entries = std::fs::read_dir(folder).expect("a folder of blobs");
            entries.map(|entry| entry.expect("a folder of blobs").path())
        };
        found = found.iter().flat_map(list).collect();
    }
    found
}
