//! Other machines than this one: control groups of version 2 alone, none at all, and images of many layers.

use std::process::{Command, Stdio};

use tests::{World, gantry_binary, skip};

use super::world;

/// Runs gantry with these arguments where `prepare` changed the mounts, for it alone. `None`, where that cannot be done.
fn run_after(world: &World, prepare: &str, args: &[&str]) -> Option<(i32, String, String)> {
    let script = format!("{{ {prepare}; }} >&2 || exit 99; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(gantry_binary()).arg("--root").arg(world.store()).args(args).stdin(Stdio::null());
    let output = world.clean(&mut command).output().expect("unshare is part of every Debian");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("no signal");
    (code != 99).then(|| (code, text(&output.stdout), text(&output.stderr)))
}

const PROBE: &str = "grep CapBnd /proc/self/status; mknod /disk b 254 0 2>/dev/null; mknod /null c 1 3 2>/dev/null; \
                     dd if=/disk of=/dev/null count=1 2>/dev/null || echo refused; echo x 2>/dev/null >/null && echo null";

#[test]
fn devices_are_restricted_by_control_groups_of_version_2_alone() {
    let world = world!();
    let only_v2 = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup";
    let args = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", PROBE];
    let Some((code, stdout, stderr)) = run_after(&world, only_v2, &args) else {
        skip!("control groups of version 2 cannot be mounted here");
    };
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (0, "CapBnd:\t00000000a80425fb\nrefused\nnull\n", "")
    );
    let (_, version, warnings) =
        run_after(&world, only_v2, &["info", "-f", "{{.CgroupVersion}} {{json .Warnings}}"])
            .expect("it worked before");
    assert_eq!((version.as_str(), warnings.as_str()), ("2 null\n", ""));
    world.close();
}

#[test]
fn without_control_groups_nobody_makes_devices_and_info_says_so() {
    let world = world!();
    let none = "umount -R /sys/fs/cgroup";
    let args = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", PROBE];
    let Some((code, stdout, stderr)) = run_after(&world, none, &args) else {
        skip!("the control groups cannot be taken away here");
    };
    // The second `null` is a file: the device was not made.
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (0, "CapBnd:\t00000000a00425fb\nrefused\nnull\n", "")
    );
    let (code, _, stderr) = run_after(&world, none, &["info"]).expect("it worked before");
    assert_eq!(code, 0);
    assert_eq!(stderr, "WARNING: no control group restricts devices: containers go without CAP_MKNOD\n");
    world.close();
}

#[test]
fn an_image_of_127_layers_builds_and_runs() {
    let world = world!();
    let copies: String = (1..127).map(|n| format!("COPY a /l/{n}\n")).collect();
    world.write("context/Dockerfile", format!("FROM busybox\n{copies}"));
    world.write("context/a", "a\n");
    world.gantry(["build", "-q", "-t", "many", "context"]).ok();
    let layers = world.gantry(["inspect", "-f", "{{len .RootFS.Layers}}", "many"]).ok();
    assert_eq!(layers.text(), "127");
    let ran = world.gantry(["run", "--rm", "--network", "none", "many", "sh", "-c", "ls /l | wc -l"]).ok();
    assert_eq!(ran.text(), "126");
    // A step upon them.
    world.write("context/Dockerfile", "FROM many\nRUN cat /l/1 /l/126 > /both\n");
    world.gantry(["build", "-q", "-t", "more", "context"]).ok();
    assert_eq!(
        world.gantry(["run", "--rm", "--network", "none", "more", "cat", "/both"]).ok().text(),
        "a\na"
    );
    world.close();
}
